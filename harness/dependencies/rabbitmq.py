"""RabbitMQ by AMQP 0-9-1: a login that opens the virtual host and closes it in order; who is connected, and counters,
by the management API. Bytes are moved as a message to nobody, which comes back whole.

Its servers are told apart by the cluster's name and, where the management API may be asked, by a connection of ours
that must be among theirs: two brokers that nobody configured can have one name.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from functools import partial
from secrets import token_hex
from urllib.parse import urlsplit

from harness.adapters.clients.rabbitmq_management import NAME, Connection, Management
from harness.adapters.nodes import rabbitmq_ctl
from harness.adapters.processes import sockets
from harness.adapters.wire.amqp import Login, Session
from harness.adapters.wire.exchange import ProbeError
from harness.config import rules
from harness.config.tls_table import TlsTable
from harness.dependencies.kind import (
    COUNTERS_LIMIT_S,
    LIMIT_S,
    Attempt,
    CounterReader,
    DependencyKind,
    Direction,
    Note,
    PathClient,
    Received,
)
from harness.dependencies.result import secret
from harness.dependencies.server_identity import Server, same_server
from harness.model.clock import monotonic
from harness.model.errors import AdapterError, Forbidden, Rejected, Unreachable, UsageError
from harness.model.records.faults import Address, Dependency

_PROBE = f"{NAME}-probe"
_GUEST = "guest"
_HEARTBEAT_BYTES = 8
_TOLD_WITHIN_S = 10.0
"""How long the management API may take to tell of a new connection."""


class RabbitmqTable(TlsTable, frozen=True, kw_only=True):
    """user, vhost: as the application logs in. ctl: argv of rabbitmqctl for the node, run in the file's folder."""

    needs_direct = True
    clients_named = "by name or address"

    user: str = _GUEST
    password_env: str | None = None
    vhost: str = "/"
    management: str | None = None
    management_user: str | None = None
    management_password_env: str | None = None
    ctl: tuple[str, ...] | None = None

    def check(self, where: str) -> None:
        super().check(where)
        for key in ("password_env", "management_password_env"):
            rules.check_variable(getattr(self, key), f"{where}.{key}")
        if self.management is not None:
            url = rules.base_url(self.management, f"{where}.management: ", example='"http://127.0.0.1:15672"')
            if url.count("/") > 2:
                raise UsageError(f"{where}.management: a URL without a path is wanted", hint="write http://HOST:PORT")
        elif self.management_user is not None or self.management_password_env is not None:
            raise UsageError(f"{where}.management is missing: the URL that this login is for")
        if self.ctl is not None and (not self.ctl or not self.ctl[0].strip()):
            raise UsageError(f"{where}.ctl: a program and its arguments are wanted", hint='ctl = ["rabbitmqctl"]')

    def declared(self, dependency: Dependency, where: str) -> Dependency:
        return dependency.but(
            credentials={"user": self.user, "password_env": self.password_env},
            tls=self.tls_declared,
            broker={
                "vhost": self.vhost,
                "management": self.management.rstrip("/ ") if self.management is not None else None,
                "management_user": self.management_user,
                "management_password_env": self.management_password_env,
            },
        )

    def of_file(self, dependency: Dependency, config: str, sha256: str) -> Dependency:
        if self.ctl is None:
            return dependency
        return dependency.but(broker={"ctl_config": config, "ctl_sha256": sha256})


class Rabbitmq(DependencyKind):
    name = "rabbitmq"
    table = RabbitmqTable
    default_port = 5672
    images = "rabbitmq"
    moves_bytes = True
    blocks_publishers = True
    asks_for_target = True
    how_to_ask = (
        "enable its management API (rabbitmq-plugins enable rabbitmq_management), declare it as `management`, with a"
        " user who has the tag `monitoring`"
    )

    def probe(self, attempt: Attempt) -> str:
        with _session(attempt):
            return "the virtual host is opened"

    def move(self, attempt: Attempt, direction: Direction, size: int, received: Received) -> str:
        received.bytes = 0
        with _session(attempt) as session:
            try:
                session.returned(size)
            finally:
                received.bytes = session.received
        return f"a message of {size} bytes to nobody came back"

    def tells_clients(self, dependency: Dependency) -> bool:
        return dependency.broker.management is not None

    def clients(self, dependency: Dependency, peers: Collection[Address], target: Collection[int]) -> list[PathClient]:
        """The connections of the application's user to its virtual host. Those of other users are other services', as
        far as anybody can tell; but the target's own processes may log in twice."""
        with _management(dependency, LIMIT_S) as management:
            rows = [one for one in management.connections() if not one.label.startswith(NAME)]
        its_own = sockets.ends_of(target) if target else frozenset()
        user, vhost = user_of(dependency), dependency.broker.vhost
        return [
            PathClient(
                id=f"{one.node} {one.name} {one.connected_at}",
                address=_peer(one),
                label=one.label or one.user,
                on_proxy=None,
                work=_work(one),
                slack=4 * _HEARTBEAT_BYTES,
            )
            for one in rows
            if (one.user == user and one.vhost == vhost) or _peer(one) in its_own
        ]

    def why_not_asked(self, dependency: Dependency) -> str:
        return f"no `management` API is declared for {dependency.name}, or its user may not see who is connected"

    def countable(self, dependency: Dependency) -> bool:
        return dependency.broker.management is not None

    def counters(self, dependency: Dependency) -> CounterReader:
        return _Overview(_management(dependency, COUNTERS_LIMIT_S))

    def identity(self, dependency: Dependency) -> str | None:
        address = dependency.direct or dependency.path
        return _server(dependency, address).identity if address is not None else None

    def check(
        self, dependency: Dependency, where: str, listener_port: int | None, note: Note
    ) -> tuple[Dependency, str | None]:
        server = same_server(dependency, where, partial(_server, dependency), note)
        if dependency.broker.management is None:
            note(
                f"{dependency.name}: no `management` is declared, so the path is proven by established connections"
                f" only; to prove it by the bytes of each client: {self.how_to_ask}"
            )
        else:
            dependency = _looked_through(dependency, where, note)
        self._note_what_is_off(dependency, note)
        return dependency, server.version

    def _note_what_is_off(self, dependency: Dependency, note: Note) -> None:
        if not rabbitmq_ctl.declared(dependency):
            note(
                f"{dependency.name}: neither its container nor `ctl` is declared, so {dependency.name}-block is off;"
                ' for a node of this machine: ctl = ["rabbitmqctl"]'
            )
        try:
            # Without a body: nobody is blocked by it, should an alarm be in effect.
            with _open(dependency, dependency.direct or dependency.path, f"{NAME}-check") as session:
                session.returned(0)
        except ProbeError as error:
            if error.kind != "auth":
                return  # what does not answer has been told
            user, vhost = user_of(dependency), dependency.broker.vhost
            note(
                f"{dependency.name}: its user {user} may not publish to the default exchange, so block, bandwidth,"
                f" slicer and limit-data are off; to allow it let WRITE match amq.default:"
                f" rabbitmqctl set_permissions -p {vhost} {user} CONFIGURE WRITE READ"
            )

    def table_lines(self, environment: Mapping[str, str], variable: str, port: int | None) -> list[str]:
        user = environment.get("RABBITMQ_DEFAULT_USER") or _GUEST
        vhost = environment.get("RABBITMQ_DEFAULT_VHOST") or "/"
        return [
            f"user = {json.dumps(user)}     # as the application logs in",
            f'password_env = "{variable}_PASSWORD"     # the variable with its password',
            f"vhost = {json.dumps(vhost)}",
            '# management = "http://HOST:15672"     # for proof by the bytes of each client; user with tag monitoring',
        ]


class _Overview:
    def __init__(self, management: Management) -> None:
        self._management = management

    def read(self) -> Mapping[str, object]:
        return self._management.overview().counters()

    def close(self) -> None:
        self._management.close()


def open_session(dependency: Dependency, address: Address | None, name: str, deadline: float) -> Session:
    """A connection as the application makes one. Raises ProbeError, and UsageError where its password is not set."""
    if address is None:
        raise UsageError(f"{dependency.name} has no address: is the stack up?")
    return Session(address, _login(dependency), name=name, deadline=deadline, tls=dependency.tls)


def _open(dependency: Dependency, address: Address | None, name: str) -> Session:
    return open_session(dependency, address, name, monotonic() + LIMIT_S)


def _session(attempt: Attempt) -> Session:
    login = _login(attempt.dependency, attempt.password)
    return Session(attempt.address, login, name=_PROBE, deadline=attempt.deadline, tls=attempt.dependency.tls)


def user_of(dependency: Dependency) -> str:
    """As whom the application logs in."""
    return dependency.credentials.user or _GUEST


def _login(dependency: Dependency, password: str | None = None) -> Login:
    user = user_of(dependency)
    if password is None:
        password = _password(user, dependency.credentials.password_env)
    return Login(user=user, password=password, vhost=dependency.broker.vhost)


def _password(user: str, variable: str | None) -> str:
    """guest's is guest unless another one is declared, as with every client."""
    found = secret(variable)
    return (_GUEST if user == _GUEST else "") if found is None else found


def _management(dependency: Dependency, timeout_s: float) -> Management:
    broker = dependency.broker
    assert broker.management is not None
    variable = broker.management_password_env or (
        dependency.credentials.password_env if broker.management_user is None else None
    )
    user = broker.management_user or user_of(dependency)
    tls = dependency.tls if urlsplit(broker.management).scheme == "https" else None
    return Management(broker.management, user, _password(user, variable), timeout_s=timeout_s, tls=tls)


def _server(dependency: Dependency, address: Address) -> Server:
    """Raises Unreachable, Rejected (a login that it does not take, or no AMQP)."""
    try:
        with _open(dependency, address, f"{NAME}-check") as session:
            told = session.server
    except ProbeError as error:
        raise (Rejected if error.kind in ("auth", "protocol") else Unreachable)(error.detail) from error
    name, version = told.get("cluster_name"), told.get("version")
    return Server(identity=str(name) if name else None, version=str(version) if version else None)


def _looked_through(dependency: Dependency, where: str, note: Note) -> Dependency:
    """With its management API, where that may be asked and is this broker's. Raises UsageError for one that does not
    answer, or is another broker's."""
    try:
        with _management(dependency, LIMIT_S) as management:
            management.check_rights()
            addresses = dict.fromkeys(a for a in (dependency.direct, dependency.path) if a is not None)
            for address in addresses:
                _one_of_its_own(dependency, address, management, where)
    except Forbidden as error:
        note(
            f"{dependency.name}: {error}, so the path is proven by established connections only, and its counters are"
            f" not read; to allow it: {error.hint}"
        )
        return dependency.but(broker={"management": None})
    except AdapterError as error:
        raise UsageError(
            f"{where}.management: {error}", hint="correct the URL or the login, or leave it out"
        ) from error
    return dependency


def _one_of_its_own(dependency: Dependency, address: Address, management: Management, where: str) -> None:
    """A connection that is made there is one that the management API tells of."""
    name = f"{NAME}-check-{token_hex(8)}"
    told = True
    limit = monotonic() + 2 * _TOLD_WITHIN_S
    with suppress(ProbeError), open_session(dependency, address, name, limit):
        until = monotonic() + _TOLD_WITHIN_S
        while not (told := any(one.label == name for one in management.connections())) and monotonic() < until:
            time.sleep(0.1)
    if not told:
        raise UsageError(
            f"{where}.management: {dependency.broker.management} tells nothing of our connection to {address} within"
            f" {_TOLD_WITHIN_S:g} s: it is another broker's, or far behind",
            hint="correct the URL, or the address",
        )


def _peer(connection: Connection) -> Address:
    return Address(connection.peer_host.removeprefix("::ffff:"), connection.peer_port)


def _work(connection: Connection) -> float | None:
    """Bytes both ways, less the heartbeats of an idle connection: one each way in half a time-out."""
    if connection.recv_oct is None or connection.send_oct is None:
        return None
    idle = 0.0
    if connection.timeout and connection.connected_at is not None:
        idle = 2 * _HEARTBEAT_BYTES * (time.time() - connection.connected_at / 1000) / (connection.timeout / 2)
    return connection.recv_oct + connection.send_oct - idle


RABBITMQ = Rabbitmq()
