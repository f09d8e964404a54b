"""Dependencies, faults, changes, undo records and evidence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

Scalar = str | int | float | bool | None

Trait = Literal["disables_proxy", "loses_data", "moves_roles", "limits_connections", "changes_server", "starts_server"]
"""What others must know of a kind of fault, beside the fields of its Change:

    disables_proxy      its proxy is disabled meanwhile, which a look from outside takes for left over
    loses_data          what the server held is gone, and nobody can undo that
    moves_roles         another member of a cluster leads afterwards, and nobody can undo that
    limits_connections  the application gets fewer connections than before
    changes_server      the server's own settings or sessions are changed, for whoever uses it from whatever machine
    starts_server       its undo starts a server, which takes a while
"""


HARMFUL: frozenset[Trait] = frozenset({"loses_data", "moves_roles"})
"""What nobody can take back: on a stack that is not ours only where its owner allows it."""


class Address(msgspec.Struct, frozen=True):
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class ProxyRuntime(msgspec.Struct, frozen=True, kw_only=True):
    """What runs the user's own Toxiproxy, where they declared it: it may be restarted when its API has locked up.

    engine, container: its container (full ID). Or pid_file, and the harness.toml with its start command as it was read.
    """

    engine: str | None = None
    container: str | None = None
    pid_file: str | None = None
    start_config: str | None = None
    start_sha256: str | None = None


class DependencyProxy(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Its proxy in Toxiproxy. url: of Toxiproxy's API. name: of the proxy in it.

    pid: Toxiproxy's process, where it runs on this machine: lets path proofs see whose connections are its. port: on
    which the proxy itself listens, where that may be published as another one. seen_as: addresses from which the
    dependency sees its connections come, where it runs in a container or on another host. runtime: what runs it, where
    that is declared.
    """

    url: str | None = None
    name: str | None = None
    pid: int | None = None
    port: int | None = None
    seen_as: tuple[str, ...] = ()
    runtime: ProxyRuntime | None = None


class DependencyProcess(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Its server, as a process of this machine. pid: root of its process tree. pid_file: where it writes its pid, read
    again when the pid is needed. members: processes of other servers of its cluster, which connect to it and are not
    the application.

    How it is started again: server is its name with the keeper of its stack, whose state folder is keeper; or
    start_config is the harness.toml with its start command, start_sha256 that file's SHA-256 when it was read.
    """

    pid: int | None = None
    pid_file: str | None = None
    members: tuple[int, ...] = ()
    server: str | None = None
    keeper: str | None = None
    start_config: str | None = None
    start_sha256: str | None = None


class DependencyContainer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Its server, as a container. engine: base URL of the Docker engine that runs it (`unix:///var/run/docker.sock`).

    id: full. name: for people. project, service: its Docker Compose labels, by which one that somebody made anew in its
    place is found. network_mode: as it was created with (`host`, `container:ID`), where it is known. port: the
    one inside it ("6379/tcp") at which `direct` ends, where the engine chose the published one. network: on which
    `direct` is the container's own address, which the engine chose. Either may be another address once the container
    was started or connected again (harness/adapters/docker/address.py).
    """

    engine: str | None = None
    id: str | None = None
    name: str | None = None
    project: str | None = None
    service: str | None = None
    network_mode: str | None = None
    port: str | None = None
    network: str | None = None


class DependencyFront(msgspec.Struct, frozen=True, kw_only=True):
    """An Envoy in front of an HTTP upstream. url: of its admin interface, None before it is up. name: of the front in
    its configuration."""

    url: str | None = None
    name: str


class Credentials(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Logins, and the *names* of the variables that hold their passwords; never a password.

    login: PostgreSQL: conninfo options of the application's login (user, dbname), without host and port; its password
    is in password_env. role: the PostgreSQL role the application uses. admin: conninfo of a login that may alter the
    role. probe_login: conninfo options of a login that the application does not use, so that probes never take one of
    its slots; None = probe as `login`. pooler_admin: conninfo options of a login at PgBouncer's console, which is at
    `direct`. user: Redis: the ACL user whose password is in password_env; None = the default one; RabbitMQ: as whom the
    application logs in; None = guest; Kafka: who logs in, by the mechanism `sasl`.
    """

    login: str | None = None
    role: str | None = None
    password_env: str | None = None
    admin: str | None = None
    admin_password_env: str | None = None
    probe_login: str | None = None
    probe_password_env: str | None = None
    pooler_admin: str | None = None
    pooler_password_env: str | None = None
    user: str | None = None
    sasl: str | None = None


class Tls(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a server that speaks TLS is known. ca: file of the authorities that are believed; None = the system's.

    name: what its certificate must be for; None = any name that `ca` has signed for. cert, key: files with our own
    certificate, where the server asks for one.
    """

    ca: str | None = None
    name: str | None = None
    cert: str | None = None
    key: str | None = None


class Broker(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """RabbitMQ: the application's virtual host, and what else can be asked.

    management: URL of the management API. management_user: None = as the application. ctl_config, ctl_sha256: the
    harness.toml with its command for `rabbitmqctl`, as it was read; the command itself is in no record.
    """

    vhost: str = "/"
    management: str | None = None
    management_user: str | None = None
    management_password_env: str | None = None
    ctl_config: str | None = None
    ctl_sha256: str | None = None


class Dependency(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something the target needs, as declared by a stack.

    Before the stack is up only the declaration is known (the addresses are None); the stack returns
    the same dependencies with addresses once it is up, and the plan is bound to those.

    name: what faults call it (`redis` in `redis-down`). kind: which protocol speaks to it, see harness/dependencies/.
    path: the address the application uses (the proxy's listener). direct: the server itself. proxied: there is a proxy
    between the two. runtime: what runs its server. startable: it can be started again after a kill.
    target: it is the service under test itself (`api` in `api-kill`). url: HTTP: what answers when it is well.
    external: the user's own, not started by us: nothing of it is ever made again. allow: kinds of faults that nobody
    can undo and that it may have though it is the user's own. tls: its server speaks TLS; None = it does not, or a
    login says it. probe_send: tcp: what a probe sends so that it is answered, "" = the server speaks first; None =
    nothing is known. ignore_clients: names, addresses or networks of clients of it that are not the application's and
    may go past its proxy. path_assumed: nobody asks for proof that the application uses the proxy.
    pooled: PostgreSQL behind PgBouncer, which hides the sessions of its clients. front: HTTP: an Envoy that its
    requests pass.

    One that was written in another form does not decode: half of it would lead an undo elsewhere.
    """

    name: str
    kind: str
    proxied: bool = False
    runtime: Literal["process", "container", None] = None
    path: Address | None = None
    direct: Address | None = None
    proxy: DependencyProxy = DependencyProxy()
    process: DependencyProcess = DependencyProcess()
    container: DependencyContainer = DependencyContainer()
    credentials: Credentials = Credentials()
    broker: Broker = Broker()
    target: bool = False
    url: str | None = None
    startable: bool = False
    external: bool = False
    allow: tuple[str, ...] = ()
    tls: Tls | None = None
    probe_send: str | None = None
    ignore_clients: tuple[str, ...] = ()
    path_assumed: bool = False
    pooled: bool = False
    front: DependencyFront | None = None

    def but(self, **changes: Any) -> Dependency:
        """The same with other values. Of a part (`proxy`, `process`, `container`, `credentials`, `broker`) a mapping
        changes what it names and leaves the rest."""
        parts = {
            name: msgspec.structs.replace(getattr(self, name), **value)
            for name, value in changes.items()
            if isinstance(value, Mapping)
        }
        return msgspec.structs.replace(self, **{**changes, **parts})


class FaultSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One `--fault`: `kafka-latency:latency=500ms,jitter=50ms@10s+20s`.

    params: as the user wrote them, name -> text; the fault's Params type decodes them.
    at_s: seconds after the start of the fault phase. for_s: None = the whole phase (or one-shot).
    """

    name: str
    dependency: str
    kind: str
    params: dict[str, str] = {}
    at_s: float = 0.0
    for_s: float | None = None
    text: str = ""


class ParamInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One parameter, for the catalogue and for decoding: unit is duration, size, rate, count, choice, number,
    share or name.

    Values arrive as text and are decoded to base units (seconds, bytes, bytes per second, plain numbers; a share
    from 0 to 1).
    low and high bound the decoded value; choices lists the words of a choice. A name is taken as it is.
    """

    name: str
    unit: Literal["duration", "size", "rate", "count", "choice", "number", "share", "name"]
    default: str
    help: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What one fault will change, symbolically: what `harness plan` prints. Planning it touches nothing.

    kind: entry point that carries it out. does / undoes / proves: one sentence each, for people.
    property: what is set, for example `proxy redis: enabled`; two overlapping changes with the same
    property are refused. Empty for changes that may overlap (toxics with unique names).
    resources: identities to lock. one_shot: it has no duration. params: decoded, plain values in base units.
    """

    kind: str
    dependency: Dependency
    params: dict[str, Scalar]
    does: str
    undoes: str
    proves: str
    property: str = ""
    resources: tuple[str, ...] = ()
    traits: tuple[Trait, ...] = ()
    delays_s: float | None = None
    """How much later each answer comes while it is on, where that is what it does."""
    one_shot: bool = False
    blind_probe: bool = False
    """True when the verification probe cannot see the fault, so recovery's zero is the undo's reply."""
    hides_path: bool = False
    """True when nothing gets through the path while it is on (down, hang, pause): then no other fault on the same
    dependency could be proven or verified, so planning refuses the two together."""


class UndoRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Enough to undo a change in another process, later. Plain data, no secrets, no commands.

    id: unique in the run. kind: entry point whose `undo` and `verify_undone` understand it.
    where: identity of what is changed. original: the state found. ours: the state we set.
    secrets: logical name -> *name* of the environment variable. deadline_s: seconds after injection at
    which the keeper undoes on its own. healthy: how probes of the path did before the fault, in seconds
    (`healthy_fastest_s`, `healthy_median_s`; below `good_below_s` a probe counts as normal).
    """

    id: str
    kind: str
    dependency: Dependency
    params: dict[str, Scalar]
    where: dict[str, Scalar]
    original: dict[str, Scalar]
    ours: dict[str, Scalar]
    secrets: dict[str, str] = {}
    deadline_s: float | None = None
    healthy: dict[str, Scalar] = {}


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """One observation that speaks for or against a claim.

    source: control = read back from the control plane (a); probe = seen on the data path (b);
    path = the application uses that path (c); undo = state after the undo.
    at: seconds on CLOCK_MONOTONIC when made; in the history, seconds since t0.
    """

    source: Literal["control", "probe", "path", "undo"]
    expected: str
    observed: str
    held: bool
    at: float


class Applied(msgspec.Struct, frozen=True):
    """A statement's bounds on CLOCK_MONOTONIC, in seconds: just before it was sent, just after its reply.

    evidence: what was seen meanwhile and leaves no trace to look at later (a restart's outage). Of an undo: what the
    fault has done up to its end; where that does not hold, the fault is not proven.
    """

    sent: float
    replied: float
    evidence: tuple[Evidence, ...] = ()


class UndoOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """How one undo ended. moot: that very thing is provably gone. left / mend are for people. foreign: what is there is
    neither as it was nor as the fault had left it, as the fault itself has seen."""

    record_id: str
    state: Literal["verified", "moot", "unverified"]
    evidence: tuple[Evidence, ...] = ()
    left: str | None = None
    mend: str | None = None
    applied: Applied | None = None
    foreign: bool = False


class HealReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was healed of one run. folder: its state folder. outcomes: one for each change that was still on.

    stopped: what ended, hard: which of it needed SIGKILL. removed: folders. unlocked: URLs of Toxiproxies. left: what
    is left and how to mend it, in sentences; empty = nothing.
    """

    folder: str = ""
    outcomes: tuple[UndoOutcome, ...] = ()
    stopped: tuple[str, ...] = ()
    hard: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    unlocked: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
