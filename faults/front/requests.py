"""Requests of ours through the front: which status, how late, how slowly the answer came."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from harness.adapters.clients.envoy_configuration import FILL_HEADER, FILL_PAGE, FILL_TIMES
from harness.adapters.wire.exchange import ProbeError
from harness.dependencies.http import page_of, requested
from harness.dependencies.kind import Attempt, attempts
from harness.dependencies.result import ProbeResult, observed
from harness.model.records.faults import Dependency

_CLOSE = "Connection: close\r\n"
MISSES = 1e-4
"""How rarely so many requests in a row may all be spared by a fault that hits a share of them."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """status: None where there was no answer."""

    result: ProbeResult
    status: int | None


def page(dependency: Dependency, timeout_s: float) -> Asked:
    """The page that tells whether it is well, and whatever status it has now."""
    status: list[int] = []

    def exchange(attempt: Attempt) -> str:
        with attempt.exchange as open_:
            status.append(requested(open_, attempt.address, page_of(dependency)[0], _CLOSE))
        return f"GET {page_of(dependency)[0]} answered {status[0]}"

    return Asked(result=_once(dependency, exchange, timeout_s), status=status[0] if status else None)


def fill(dependency: Dependency, size: int, timeout_s: float) -> ProbeResult:
    """An answer of so many bytes, which the front itself makes: it drips as every answer does."""

    def exchange(attempt: Attempt) -> str:
        text = "x" * (size // FILL_TIMES)
        with attempt.exchange as open_:
            status = requested(open_, attempt.address, FILL_PAGE, f"{FILL_HEADER}: {text}\r\n{_CLOSE}")
            length = 0
            while line := open_.line(65536):
                name, _, value = line.partition(b":")
                if name.strip().lower() == b"content-length" and value.strip().isdigit():
                    length = int(value)
            if status != 200 or length != len(text) * FILL_TIMES:
                raise ProbeError(
                    "protocol", f"the front's own page was answered with {status} and {length} bytes", connected=True
                )
            open_.exactly(length)
        return f"{length} bytes came"

    return _once(dependency, exchange, timeout_s)


def tries(share: float) -> int:
    """How many requests it takes to be hit almost certainly."""
    return 1 if share >= 1 else math.ceil(math.log(MISSES) / math.log(1 - share))


def first_hit(share: float, ask: Callable[[], Asked], hit: Callable[[Asked], bool]) -> tuple[Asked, int]:
    """The first answer that shows it, else the last one; and how many were asked for."""
    number, last = 1, ask()
    while not hit(last) and number < tries(share):
        number, last = number + 1, ask()
    return last, number


def _once(dependency: Dependency, exchange: Callable[[Attempt], str], timeout_s: float) -> ProbeResult:
    make = attempts(dependency, dependency.path or dependency.direct)
    return observed(lambda deadline: exchange(make(deadline)), timeout_s)
