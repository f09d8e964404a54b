"""Memcached by its text protocol: `version`; `stats conns`, with the second of each connection's last command; `stats`.

Bytes are moved by `stats` (to us) and by questions about a key that nobody has (to it): no key is left, and neither
moves its hits and misses. What it holds is in memory only, so whoever ends it empties it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

from harness.adapters.wire import memcached
from harness.adapters.wire.exchange import Exchange, ProbeError
from harness.config.file import DependencyTable
from harness.dependencies.kind import (
    COUNTERS_LIMIT_S,
    LIMIT_S,
    Attempt,
    CounterReader,
    DependencyKind,
    Direction,
    Emptied,
    Held,
    Note,
    PathClient,
    Received,
    Store,
)
from harness.dependencies.server_identity import Server, same_server
from harness.model.clock import monotonic
from harness.model.errors import Forbidden, OutcomeUnknown, Refused, Rejected, Unreachable, UsageError
from harness.model.records.faults import Address, Applied, Dependency

_COUNTERS = {
    "connections": "total_connections",
    "hits": "get_hits",
    "misses": "get_misses",
    "sets": "cmd_set",
    "clients": "curr_connections",
    "evictions": "evictions",
}
_COMMANDS = ("cmd_get", "cmd_set", "cmd_touch")
_ASKING = "conn_parse_cmd"
"""The state of a connection whose command is being carried out: ours, while it asks who is connected."""


class MemcachedTable(DependencyTable, frozen=True, kw_only=True):
    needs_direct = True
    clients_named = "by address"


class Memcached(DependencyKind):
    name = "memcached"
    table = MemcachedTable
    default_port = 11211
    images = "memcached"
    moves_bytes = True
    in_memory = True
    can_be_emptied = True
    how_to_ask = "use memcached 1.4.26 or later, which knows `stats conns`"

    def probe(self, attempt: Attempt) -> str:
        with attempt.exchange as exchange:
            memcached.version(exchange)
            exchange.goodbye(memcached.QUIT)
        return "version answered"

    def move(self, attempt: Attempt, direction: Direction, size: int, received: Received) -> str:
        with attempt.exchange as exchange:
            received.bytes = 0
            try:
                if direction != "down":
                    memcached.upwards(exchange, size)
                if direction != "up":
                    memcached.downwards(exchange, size)
            finally:
                received.bytes = exchange.received
            exchange.goodbye(memcached.QUIT)
        return f"commands and answers of {size} bytes"

    def tells_clients(self, dependency: Dependency) -> bool:
        return dependency.direct is not None

    def clients(self, dependency: Dependency, peers: Collection[Address], target: Collection[int]) -> list[PathClient]:
        assert dependency.direct is not None
        with _asking(dependency.direct) as exchange:
            try:
                rows = memcached.connections(exchange)
            except ProbeError as error:
                if error.kind != "protocol":
                    raise
                raise Forbidden(f"memcached at {dependency.direct}: {error.detail}") from error
            # Behind a port forwarder our own end has another address there; whose state is as ours may be anybody then,
            # and is seen at the next look.
            seen = any(end == exchange.own for _, end in rows)
            ours = {row for row, (state, _) in rows.items() if (row[1] == exchange.own if seen else state == _ASKING)}
        now = monotonic()
        # The second of the last command, told in whole seconds, wanders by one while nothing happens.
        return [
            PathClient(id=f"{number} {end}", address=end, label="", on_proxy=None, work=now - idle, slack=1.5)
            for (number, end), (_, idle) in rows.items()
            if (number, end) not in ours
        ]

    def why_not_asked(self, dependency: Dependency) -> str:
        return f"{dependency.name} does not answer `stats conns`"

    def countable(self, dependency: Dependency) -> bool:
        return dependency.direct is not None

    def counters(self, dependency: Dependency) -> CounterReader:
        assert dependency.direct is not None
        return _Counters(dependency.direct)

    def identity(self, dependency: Dependency) -> str | None:
        address = dependency.direct or dependency.path
        return _server(address).identity if address is not None else None

    def store(self, dependency: Dependency) -> Store:
        return _Store()

    def check(
        self, dependency: Dependency, where: str, listener_port: int | None, note: Note
    ) -> tuple[Dependency, str | None]:
        server = same_server(dependency, where, _server, note)
        assert dependency.direct is not None
        try:
            self.clients(dependency, (), ())
            if dependency.path is not None and dependency.path != dependency.direct:
                _refuse_another(dependency.path, dependency.direct, dependency, where)
        except Forbidden:
            note(
                f"{dependency.name}: it does not answer `stats conns` (memcached 1.4.26 and later do), so the path is"
                " proven by established connections only"
            )
        with _asking(dependency.direct) as exchange:
            if "flush" in dependency.allow and (why := _why_not_emptied(memcached.stats(exchange, "settings"))):
                note(f"{dependency.name}: flush is off: {why}")
        return dependency, server.version


class _Counters:
    """connections, commands, hits, misses, sets, evictions (totals since it was started), clients (now, ours included).
    Each reading has a connection of its own: one that stays open would be taken for a client past the proxy."""

    def __init__(self, address: Address) -> None:
        self._address = address

    def read(self) -> Mapping[str, object]:
        with _asking(self._address, COUNTERS_LIMIT_S) as exchange:
            told = memcached.stats(exchange)
        found: dict[str, object] = {name: told[field] for name, field in _COUNTERS.items() if field in told}
        return {**found, "commands": sum(_number(told, field) for field in _COMMANDS)}

    def close(self) -> None:
        pass


class _Store:
    command = "flush_all"

    def ready(self, address: Address) -> None:
        with _asking(address) as exchange:
            why = _why_not_emptied(memcached.stats(exchange, "settings"))
        if why is not None:
            raise Refused(f"the memcached at {address} cannot be emptied: {why}", hint="start it without that option")

    def held(self, address: Address) -> Held:
        with _asking(address) as exchange:
            told = memcached.stats(exchange)
        return Held(
            identity=_identity(told) or "", keys=_number(told, "curr_items"), flushes=_number(told, "cmd_flush")
        )

    def mark(self, address: Address, key: str, *, lasts_s: int) -> None:
        with _asking(address) as exchange:
            memcached.store(exchange, key, lasts_s)

    def marked(self, address: Address, key: str) -> bool:
        with _asking(address) as exchange:
            return memcached.there(exchange, key)

    def unmark(self, address: Address, key: str) -> Applied:
        with _asking(address) as exchange:
            sent = monotonic()
            memcached.delete(exchange, key)
            return Applied(sent, monotonic())

    def empty(self, address: Address) -> Emptied:
        with _asking(address) as exchange:
            memcached.version(exchange)
            sent = monotonic()
            try:
                memcached.flush_all(exchange)
            except ProbeError as error:
                if error.kind in ("protocol", "auth", "limit"):
                    raise
                raise OutcomeUnknown(f"flush_all at {address} was not answered: {error.detail}") from error
            applied = Applied(sent, monotonic())
        # It goes on counting what it holds: each key is thrown away when somebody next asks for it.
        return Emptied(applied=applied, said="flush_all was answered with OK", empty=True)


@contextmanager
def _asking(address: Address, limit_s: float = LIMIT_S) -> Iterator[Exchange]:
    """Raises Unreachable; Rejected where it answers, and not as memcached does."""
    try:
        with Exchange(address, deadline=monotonic() + limit_s) as exchange:
            yield exchange
            exchange.goodbye(memcached.QUIT)
    except ProbeError as error:
        answered = error.kind in ("protocol", "auth", "limit")
        raise (Rejected if answered else Unreachable)(f"memcached at {address}: {error.detail}") from error


def _server(address: Address) -> Server:
    with _asking(address) as exchange:
        return Server(identity=_identity(memcached.stats(exchange)), version=memcached.version(exchange))


def _identity(told: Mapping[str, str]) -> str | None:
    """Its process and the second of its start, which both of its clocks agree on at any time."""
    if not {"pid", "time", "uptime"} <= told.keys():
        return None
    return f"pid {told['pid']} started {_number(told, 'time') - _number(told, 'uptime')}"


def _refuse_another(path: Address, direct: Address, dependency: Dependency, where: str) -> None:
    """In containers every memcached is process 1, and Compose starts several in a second. So a connection through the
    proxy must be seen at the server itself: what it says of the one that asks is said there as well."""
    with _asking(path) as through:
        asking = [row for row, (state, _) in memcached.connections(through).items() if state == _ASKING]
        with _asking(direct) as straight:
            there = memcached.connections(straight)
    if asking and not any(row in there for row in asking):
        raise UsageError(
            f"{where}: {path}, where the application connects, and direct {direct} are two different servers",
            hint=f"compare the upstream of proxy {dependency.proxy.name} with {where}.direct",
        )


def _why_not_emptied(settings: Mapping[str, str]) -> str | None:
    if settings.get("flush_enabled") == "no":
        return "it was started with -F, which forbids flush_all"
    if settings.get("cas_enabled") == "no":
        return "it was started with -C, and without it flush_all leaves what was stored in the last second"
    return None


def _number(told: Mapping[str, str], name: str) -> int:
    text = told.get(name, "")
    return int(text) if text.isdigit() and len(text) < 20 else 0


MEMCACHED = Memcached()
