"""One at a time on a system: tests that run side by side wait for each other, and for a run that is at it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from harness.model.clock import monotonic
from harness.model.errors import Refused, UsageError
from harness.model.records.plan import Plan
from harness.safety.locks.local import Locks, acquire, refuse_beside_living
from harness.safety.locks.names import declared_names, target_names

AGAIN_S = 0.3
_OPEN: set[str] = set()
"""Targets at which this process has the turn."""


@contextmanager
def turn(plan: Plan, *, wait_s: float, say: Callable[[str], None]) -> Iterator[None]:
    """Waits at most wait_s, and says for whom. Raises Refused after that.

    A lock of its own, beside those of the run: whoever looked at the system first would take another one's fault for
    a system that is broken.
    """
    mine = target_names(plan.load.host)
    if _OPEN & set(mine):
        raise UsageError(
            f"{plan.load.host}: this process has a fault or a run there already, and would wait for itself",
            hint="name all faults in one, and end it before the next",
        )
    until = monotonic() + wait_s
    said = False
    while True:
        try:
            gate = _gate(plan, mine)
            break
        except Refused as error:
            if monotonic() >= until:
                raise Refused(f"{error}; waited {wait_s:g} s for it", hint=error.hint) from error
            if not said:
                said = True
                say(f"waiting, for at most {wait_s:g} s: {error}")
        time.sleep(AGAIN_S)
    _OPEN.update(mine)
    try:
        yield
    finally:
        _OPEN.difference_update(mine)
        gate.release()


def _gate(plan: Plan, names: list[str]) -> Locks:
    """Raises Refused while another has the turn, or a run (or the keeper that mends what one left) the system."""
    changed = [fault.change.dependency for fault in plan.faults]
    gate = acquire([f"turn at {name}" for name in names], owner=f"of process {os.getpid()}")
    try:
        refuse_beside_living(declared_names(plan.load.host, changed))
    except BaseException:
        gate.release()
        raise
    return gate
