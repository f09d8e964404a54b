"""A dependency's own counters, read again and again on one connection that goes past the proxy.

What the harness itself causes is in them: a command or a transaction a reading, and its probes. Whoever judges them
keeps its limits well above that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from harness.adapters.wire.exchange import ProbeError
from harness.dependencies.kind import CounterReader
from harness.dependencies.registry import kind_of
from harness.model.errors import HarnessError
from harness.model.records.faults import Dependency


class Counters:
    """read() opens a connection where there is none; one that failed is replaced by the next reading."""

    def __init__(self, dependency: Dependency) -> None:
        self._dependency = dependency
        self._open: CounterReader | None = None

    def read(self) -> dict[str, float]:
        """By name, see DependencyKind.counters; what is no finite number is left out. Raises AdapterError, UsageError,
        ProbeError, when they cannot be read now."""
        try:
            if self._open is None:
                self._open = kind_of(self._dependency).counters(self._dependency)
            return _finite(self._open.read())
        except (HarnessError, ProbeError):
            self.close()
            raise

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None


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
