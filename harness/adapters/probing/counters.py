"""A dependency's own counters, read again and again on one connection that goes past the proxy.

    redis      connections, commands, hits, misses (totals since its start), clients (now)
    postgres   connections, transactions, busy_s (totals since its statistics were reset), clients (now)
    kafka      written (total of end offsets), lag (of every consumer group, now)

What the harness itself causes is in them: a command and, for PostgreSQL, a transaction a reading, and its probes.
Whoever judges them keeps its limits well above that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from harness.adapters.probing.probe import secret
from harness.model.clock import monotonic
from harness.model.errors import HarnessError
from harness.model.records.faults import Dependency

READ_LIMIT_S = 0.8


class Counters:
    """read() opens a connection where there is none; one that failed is replaced by the next reading."""

    def __init__(self, dependency: Dependency) -> None:
        self._dependency = dependency
        self._open: _Redis | _Postgres | None = None

    def read(self) -> dict[str, float]:
        """Names as above; what is no finite number is left out. Raises AdapterError, UsageError, ProbeError, when it
        cannot be read now."""
        return _finite(self._read())

    def _read(self) -> Mapping[str, object]:
        if self._dependency.kind == "kafka":
            return _kafka(self._dependency)
        try:
            if self._open is None:
                self._open = (
                    _Redis(self._dependency) if self._dependency.kind == "redis" else _Postgres(self._dependency)
                )
            return self._open.read()
        except HarnessError:
            self.close()
            raise

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None


def countable(dependency: Dependency) -> bool:
    """Whether this dependency has counters that can be read."""
    match dependency.kind:
        case "redis" | "kafka":
            return dependency.direct is not None
        case "postgres":
            return dependency.admin is not None
        case _:
            return False


def _finite(told: Mapping[str, object]) -> dict[str, float]:
    """JSON has neither nan nor infinity: one such figure would make the record unreadable, and every other with it."""
    found = {}
    for name, value in told.items():
        try:
            number = float(value) if isinstance(value, int | float | str) else math.nan
        except (ValueError, OverflowError):
            continue  # a text, or more digits than a float has
        if math.isfinite(number):
            found[name] = number
    return found


class _Redis:
    def __init__(self, dependency: Dependency) -> None:
        from harness.adapters.clients.redis import Watch

        assert dependency.direct is not None
        self._watch = Watch(dependency.direct, password=secret(dependency.password_env), timeout_s=READ_LIMIT_S)

    def read(self) -> Mapping[str, object]:
        return self._watch.counters()

    def close(self) -> None:
        self._watch.close()


class _Postgres:
    def __init__(self, dependency: Dependency) -> None:
        from harness.adapters.clients.postgres import Admin

        assert dependency.admin is not None
        self._admin = Admin(dependency.admin, password=secret(dependency.admin_password_env), timeout_s=2.0)

    def read(self) -> Mapping[str, object]:
        return self._admin.counters()

    def close(self) -> None:
        self._admin.close()


def _kafka(dependency: Dependency) -> dict[str, float]:
    from harness.adapters.wire.kafka import lag

    assert dependency.direct is not None
    found = lag(dependency.direct, deadline=monotonic() + READ_LIMIT_S)
    return {"written": float(found.written), "lag": float(found.lag)}
