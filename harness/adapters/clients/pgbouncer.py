"""PgBouncer's own console: who is connected to it, which pool is full, what it has done. Read only.

A login of `stats_users` or `admin_users` on the database `pgbouncer`, which counts against no pool and no limit. It
speaks the simple protocol only, so this is the probes' login and not a driver's session. Errors: ProbeError.
"""

from __future__ import annotations

import calendar
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress

import msgspec

from harness.adapters.clients.postgres_admin import APPLICATION, conninfo
from harness.adapters.clients.postgres_probe import Login
from harness.adapters.wire.exchange import ProbeError
from harness.model.records.faults import Address

DATABASE = "pgbouncer"
_MOST_HOLDERS = 3


class Client(msgspec.Struct, frozen=True, kw_only=True):
    """asked_at: when its last request came, whole seconds. holds: it has a server connection now."""

    user: str
    database: str
    application: str
    address: Address
    since: str
    asked_at: float | None
    holds: bool


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """Of one database and user. used: server connections that serve clients. size: how many it may have, `of` what.
    waiting: clients that want one."""

    used: int
    size: int
    waiting: int
    of: str

    @property
    def full(self) -> bool:
        return self.waiting > 0 and 0 < self.size <= self.used


class Console:
    """One login; use as a context manager. deadline: by which it and all questions must be done."""

    def __init__(
        self, options: str, address: Address, *, password: str | None, deadline: float, name: str = "console"
    ) -> None:
        text = conninfo(options, dbname=DATABASE)
        self._login = Login(text, address, password=password, deadline=deadline, application=f"{APPLICATION}-{name}")

    def __enter__(self) -> Console:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._login.close()

    def ask(self, what: str) -> list[Mapping[str, str]]:
        """The rows of SHOW ..., by the columns' names; what is NULL is ""."""
        return self._login.rows(b"SHOW " + what.encode())

    def clients(self) -> tuple[Client, ...]:
        """Everybody but the console's users and the harness itself, whose logins tell by their application_name (since
        1.18). Raises ProbeError("protocol") for an older one."""
        found = []
        for row in self.ask("CLIENTS"):
            if "application_name" not in row:
                raise ProbeError("protocol", "PgBouncer before 1.18 does not tell its clients apart", connected=True)
            if row.get("database") == DATABASE or row["application_name"].startswith(APPLICATION):
                continue
            port = row.get("port", "")
            found.append(
                Client(
                    user=row.get("user", ""),
                    database=row.get("database", ""),
                    application=row["application_name"],
                    address=Address(row.get("addr", ""), int(port) if port.isdigit() else -1),
                    since=row.get("connect_time", ""),
                    asked_at=_seconds(row.get("request_time", "")),
                    holds=bool(row.get("link")),
                )
            )
        return tuple(found)

    def named(self, application: str) -> int:
        """How many logins have this application_name, the console's own among them."""
        return sum(row.get("application_name") == application for row in self.ask("CLIENTS"))

    def pool(self, database: str, user: str) -> Pool | None:
        """Which a login with that database and user gets its server connections from; None: none is there yet.

        size is the first limit that is reached: of the pool, or of the whole database.
        """
        row = next((one for one in self.ask("DATABASES") if one.get("name") == database), {})
        user = row.get("force_user") or user
        pool = next((p for p in self.ask("POOLS") if (p.get("database"), p.get("user")) == (database, user)), None)
        if pool is None:
            return None
        used, waiting = _number(pool, "sv_active"), _number(pool, "cl_waiting")
        most, have = _number(row, "max_connections"), _number(row, "current_connections")
        if 0 < most <= have and used < _number(row, "pool_size"):
            return Pool(used=have, size=most, waiting=waiting, of=f"database {database}")
        size = _number(row, "pool_size") + _number(row, "reserve_pool")
        # The reserve is opened late, and only where somebody has waited for long.
        size = size if used > _number(row, "pool_size") else _number(row, "pool_size")
        return Pool(used=used, size=size, waiting=waiting, of=f"{database} of user {user}")

    def holders(self) -> str:
        """Who has server connections and who is connected, most first: for people."""
        clients = self.clients()
        held = Counter(_shown(one) for one in clients if one.holds)
        return (
            f"{len(clients)} clients are connected ({_most(Counter(map(_shown, clients)))}),"
            f" {held.total()} of them hold a server connection ({_most(held)})"
        )

    def counters(self) -> dict[str, object]:
        """transactions, busy_s, waited_s (totals of all databases since it started); clients, waiting (now)."""
        stats = [row for row in self.ask("STATS") if row.get("database") != DATABASE]
        pools = [row for row in self.ask("POOLS") if row.get("database") != DATABASE]
        return {
            "transactions": sum(_number(row, "total_xact_count") for row in stats),
            "busy_s": sum(_number(row, "total_query_time") for row in stats) / 1e6,
            "waited_s": sum(_number(row, "total_wait_time") for row in stats) / 1e6,
            "clients": sum(_number(row, "cl_active") + _number(row, "cl_waiting") for row in pools),
            "waiting": sum(_number(row, "cl_waiting") for row in pools),
        }


def _number(row: Mapping[str, str], name: str) -> int:
    with suppress(ValueError):
        return int(row.get(name) or 0)
    return 0


def _seconds(text: str) -> float | None:
    """`2026-11-30 17:01:57 UTC`; its zone moves all of them alike, so it does not matter."""
    try:
        return float(calendar.timegm(time.strptime(text[:19], "%Y-%m-%d %H:%M:%S")))
    except ValueError:
        return None


def _shown(client: Client) -> str:
    named = f" as {client.application}" if client.application else ""
    return f"user {client.user}{named} from {client.address.host}"


def _most(counts: Counter[str]) -> str:
    most = ", ".join(f"{count} by {who}" for who, count in counts.most_common(_MOST_HOLDERS))
    more = len(counts) - _MOST_HOLDERS
    return (most + (f" and {more} more" if more > 0 else "")) or "none"
