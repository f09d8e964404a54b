"""What the harness must know of a kind of dependency: the protocol behind `harness.dependencies`.

An object of a subclass is registered under the kind's name. Every method has an answer for a server of which nothing
more is known than its address, so a kind overrides what it knows better. `tcp.py` is the shortest one.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import ClassVar, Literal, Protocol

import msgspec

from harness.adapters.clients.administration import AdminSession
from harness.adapters.wire.exchange import Exchange, ProbeError
from harness.config.file import DependencyTable
from harness.dependencies.result import ProbeResult, observed, secret
from harness.model.errors import Refused, UsageError
from harness.model.records.faults import Address, Applied, Dependency

Direction = Literal["down", "up", "both"]
Note = Callable[[str], None]

LIMIT_S = 3.0
"""How long a server may take to answer what is asked when it is looked at before a run."""
COUNTERS_LIMIT_S = 0.8
"""How long one reading of counters may take."""


class PathClient(msgspec.Struct, frozen=True, kw_only=True):
    """One connection of the application, as the dependency sees it.

    on_proxy: None when it cannot be told. work: a count or a time that rises with use, None = not known; it counts
    as risen when it rose by more than slack. holder: the process that has it open, where that can be told.
    """

    id: str
    address: Address
    label: str
    on_proxy: bool | None
    work: float | None
    slack: float = 0.0
    holder: str | None = None

    def __str__(self) -> str:
        holder = f", {self.holder}" if self.holder else ""
        return f"{self.label or 'unnamed'} from {self.address}{holder}"


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One connection to be made. password: of the login that probes use. deadline: of all of it, CLOCK_MONOTONIC
    seconds."""

    dependency: Dependency
    address: Address
    password: str | None
    deadline: float

    @property
    def exchange(self) -> Exchange:
        """A fresh connection, with TLS where the server speaks it, as a context manager."""
        return Exchange(self.address, deadline=self.deadline, tls=self.dependency.tls)


class CounterReader(Protocol):
    """read() may raise HarnessError or ProbeError: then it is closed, and another one is made for the next reading."""

    def read(self) -> Mapping[str, object]: ...

    def close(self) -> None: ...


class ServerLock(Protocol):
    """An advisory lock on a server, from its making to release(), which never raises."""

    def release(self) -> None: ...


class Received:
    """bytes: that came back before an exchange ended; None where the client library hides that."""

    bytes: int | None = None


def attempts(dependency: Dependency, address: Address | None) -> Callable[[float], Attempt]:
    """From a deadline to an attempt, with the login of probes: one that the application does not use is preferred.

    Raises UsageError where there is no address, or the variable of the password is not set.
    """
    if address is None:
        raise UsageError(f"{dependency.name} has no address to probe")
    own = dependency.credentials.probe_login is not None
    password = secret(dependency.credentials.probe_password_env if own else dependency.credentials.password_env)
    return lambda deadline: Attempt(dependency=dependency, address=address, password=password, deadline=deadline)


def attempted(exchange: Callable[[Attempt], str], make: Callable[[float], Attempt], timeout_s: float) -> ProbeResult:
    """One attempt as a result: never raises for what the network does."""
    return observed(lambda deadline: exchange(make(deadline)), timeout_s)


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """identity: of this life of the server. keys: in all of it. flushes: how often it was emptied so far."""

    identity: str
    keys: int
    flushes: int


class Emptied(msgspec.Struct, frozen=True, kw_only=True):
    """said: what the server itself tells of it, for people. empty: that it holds nothing any more."""

    applied: Applied
    said: str
    empty: bool


class Store(Protocol):
    """A server's data where one command deletes all of it: what `flush` asks of a kind, whatever its protocol is.

    A mark is a key of ours that expires by itself. Every method raises AdapterError, and UsageError for a missing
    variable.
    """

    command: str
    """What deletes everything: "FLUSHALL"."""

    def ready(self, address: Address) -> None:
        """Writes nothing. Raises Refused where this server cannot be emptied, or not by this login."""

    def held(self, address: Address) -> Held: ...

    def mark(self, address: Address, key: str, *, lasts_s: int) -> None: ...

    def marked(self, address: Address, key: str) -> bool: ...

    def unmark(self, address: Address, key: str) -> Applied:
        """Whether it is there or not."""
        ...

    def empty(self, address: Address) -> Emptied:
        """Raises OutcomeUnknown where no answer came."""
        ...


class DependencyKind:
    """name: as harness.toml writes it. table: what [dependencies.NAME] of this kind may say.

    default_port: where its servers listen unless told otherwise. images: a pattern of images' and services' names in
    compose files. stop_signal: makes its server end in an orderly way and hang up on its clients.
    one_server_a_folder: its processes tell by their folder which server they belong to. blocks_publishers: it takes
    nothing from whoever publishes while it is short of memory (AMQP's connection.blocked). in_memory: nothing that it
    holds outlives its process.
    """

    name: ClassVar[str]
    table: ClassVar[type[DependencyTable]] = DependencyTable
    default_port: ClassVar[int | None] = None
    images: ClassVar[str | None] = None
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    one_server_a_folder: ClassVar[bool] = False
    blocks_publishers: ClassVar[bool] = False
    in_memory: ClassVar[bool] = False

    # -- probing

    def probe(self, attempt: Attempt) -> str:
        """One exchange on one fresh connection; what it showed, for people. Raises ProbeError."""
        raise NotImplementedError

    def handshake(self, attempt: Attempt) -> str:
        """The same, where a client library hides how a connection ended: as little as shows that."""
        return self.probe(attempt)

    def may_be_full(self, dependency: Dependency) -> bool:
        """Whether it lets clients wait where it has no room, and can be asked for that: see `full`."""
        return False

    def full(self, attempt: Attempt) -> str:
        """Asked where a probe had no answer in time. Raises ProbeError("limit") in words for people where the server is
        reached at this address and only has no room."""
        return "it has room"

    def who_fills(self, dependency: Dependency) -> str | None:
        """Who has the room of one that is full: a clause. None: faults know another way to ask. Never raises."""
        return None

    def silent(self, dependency: Dependency) -> bool:
        """Nothing is known that it would answer to: a probe sees that a connection is accepted, and no more."""
        return False

    def unfinished(self, dependency: Dependency) -> bool:
        """A probe of it ends in the middle of its protocol. Servers count such connections, so they are to be few."""
        return False

    unanswered_counts: ClassVar[bool] = False
    """A probe that gets no answer leaves an unfinished login behind, which its server counts: those are to be few."""

    def close(self, attempt: Attempt) -> str:
        """A connection that we close, and that the other side then closes as well. Raises ProbeError."""
        with attempt.exchange as exchange:
            if not exchange.finish():
                raise ProbeError("reset", "a connection that we closed was reset", connected=True)
        return "closed"

    def move(self, attempt: Attempt, direction: Direction, size: int, received: Received) -> str:
        """One exchange of `size` bytes at least, which leaves nothing behind. Raises ProbeError. See `moves_bytes`."""
        raise ProbeError("protocol", f"a {self.name} dependency cannot be asked to move data", connected=False)

    moves_bytes: ClassVar[bool] = False

    # -- who uses it

    clients_by_peers: ClassVar[bool] = False
    """Who is connected is read from the kernel, for the server counts nothing for each client: every established
    connection counts as used where `total` has risen."""
    asks_for_target: ClassVar[bool] = False
    """`clients` needs to know which processes are the target's."""
    work_unit: ClassVar[str | None] = None
    """What PathClient.work counts: "commands"; None where it is no count."""
    total_unit: ClassVar[str] = ""
    """What `total` counts: "records written"."""

    def tells_clients(self, dependency: Dependency) -> bool:
        """Whether this server can be asked who is connected."""
        return False

    def clients(self, dependency: Dependency, peers: Collection[Address], target: Collection[int]) -> list[PathClient]:
        """Who is connected now. peers: with `clients_by_peers`, the other ends of the server's connections.
        target: processes of the target, where they are known.

        Raises AdapterError; Forbidden where the login may not ask, so that it is looked at from outside.
        """
        return []

    def total(self, dependency: Dependency) -> float | None:
        """A count of the whole server that rises with use. Raises AdapterError."""
        return None

    def why_not_asked(self, dependency: Dependency) -> str:
        """Why it cannot be asked who is connected: a clause."""
        return f"a {self.name} dependency cannot be asked who uses it"

    how_to_ask: ClassVar[str | None] = None
    """What would let it be asked: an imperative clause."""

    # -- what it says about itself

    def countable(self, dependency: Dependency) -> bool:
        """Whether it has counters that can be read."""
        return False

    def counters(self, dependency: Dependency) -> CounterReader:
        """A reader of its own counters, past the proxy. Raises HarnessError when it cannot be connected to.

        Names that are judged: commands, transactions or requests, connections, hits, misses (totals); clients, lag
        (now).
        """
        raise NotImplementedError

    def identity(self, dependency: Dependency) -> str | None:
        """Differs between any two servers and is the same at every address of one. Raises HarnessError."""
        return None

    def check(
        self, dependency: Dependency, where: str, listener_port: int | None, note: Note
    ) -> tuple[Dependency, str | None]:
        """The dependency as faults and proofs will use it, and its server's version, when it answers directly and
        through its proxy, and both lead to one server.

        where: key path for messages. listener_port: of its proxy. note: is told what is no hindrance and weakens a
        proof. Raises UsageError for what does not answer or leads elsewhere, Refused for what must not be.
        """
        self.answers(dependency, where)
        return dependency, None

    def check_together(self, found: Sequence[Dependency]) -> Iterator[tuple[Dependency, UsageError | None]]:
        """All dependencies of this kind that `check` found well: as they are when one knows of the others, and what is
        wrong with one for want of another, without a key path in front. Never raises."""
        return ((one, None) for one in found)

    def answers(self, dependency: Dependency, where: str) -> None:
        """A probe is answered at each of its addresses. Raises UsageError."""
        addresses = [("directly", dependency.direct)]
        if dependency.path != dependency.direct:
            addresses.append((f"through its proxy {dependency.proxy.name}", dependency.path))
        for how, address in addresses:
            if address is None:
                continue
            at = msgspec.structs.replace(dependency, path=address, url=None)
            result = attempted(self.probe, attempts(at, address), LIMIT_S)
            if not result.ok and result.connected and dependency.probe_send is not None:
                raise UsageError(
                    f"{where}.probe_send: {dependency.name} takes it {how} at {address} and does not answer:"
                    f" {result.detail}",
                    hint='declare a request that is answered, or "" where the server speaks first; latency and hang'
                    " need an answer, down, reset and slow-close do not",
                )
            if not result.ok:
                raise UsageError(
                    f"{where}: {dependency.name} does not answer {how} at {address}: {result.detail}",
                    hint="start it, or correct the address",
                )

    # -- a database that is administered: accounts, sessions, tables

    server: ClassVar[str] = ""
    """What people call such a server: "PostgreSQL"."""
    has_accounts: ClassVar[bool] = False
    """`admin` can limit an account's connections and hold a table; what follows has answers."""
    least_limit: ClassVar[int] = 0
    limit_ends: ClassVar[str] = ""
    """Which sessions end with a limit: "the role's newest sessions above that"."""

    def admin(self, dependency: Dependency, timeout_s: float = 5.0, *, of_application: bool = False) -> AdminSession:
        """A session of the admin login. of_application: in the application's database. Raises AdapterError, UsageError.

        Raises Refused for a kind without one.
        """
        raise Refused(f"{dependency.name} has no admin login: a {self.name} dependency is not administered")

    def server_lock(self, admin: str, *, password: str | None, who: str, text: str) -> ServerLock:
        """Lock the server against other runs. admin: connection options. who: "run" or "keeper". text: who holds it.

        Raises Refused naming the holder, AdapterError.
        """
        raise NotImplementedError

    def limit_statement(self, account: str, limit: int) -> str:
        """What sets an account's limit, for people to paste. account: Role.oid or Role.name as text."""
        raise NotImplementedError

    def login(self, attempt: Attempt) -> AbstractContextManager[object]:
        """A login that is held until it is left. Raises ProbeError."""
        raise NotImplementedError

    def transaction(self, attempt: Attempt) -> AbstractContextManager[object]:
        """A login with a transaction that has begun, held until it is left and rolled back then: what a pooler, which
        takes every login, has no room for. Raises ProbeError."""
        raise NotImplementedError

    def over_limit(self, refused: ProbeError, role: str) -> bool:
        """Whether a login was refused because of the account's own limit, not for want of room on the server."""
        raise NotImplementedError

    def table_waits(self, attempt: Attempt, table: str) -> str:
        """A statement on a table, by its quoted name, has to wait: what was seen. Raises ProbeError if it does not."""
        raise NotImplementedError

    # -- its data

    can_be_emptied: ClassVar[bool] = False
    """One command deletes all that it holds: `store` says how."""

    def store(self, dependency: Dependency) -> Store | None:
        """Who carries that out. Opens no connection."""
        return None

    # -- `harness init`

    def table_lines(self, environment: Mapping[str, str], variable: str, port: int | None) -> list[str]:
        """Further lines of its table in a harness.toml that is made from a compose file. environment: of its service.
        variable: the beginning of a name for a variable. port: where its server listens, where no proxy says it."""
        return []

    def override_notes(self, service: str, port: int, environment: Mapping[str, str]) -> list[str]:
        """What a person must look at before a proxy is put in front of that service: lines of a comment."""
        return []
