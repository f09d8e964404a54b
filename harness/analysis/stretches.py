"""From violating windows to stretches of time."""

from __future__ import annotations

from harness.analysis.violations import Violations
from harness.model.clock import step_start


def violating_steps(found: Violations) -> bytearray:
    """One flag a step of [found.start, found.end): violating time.

    A step is violating time when, at one length, both a window that begins there and one that ends there violate.
    Either alone would stretch a 0.3 s outage by a window's length to 3.4 s.
    """
    steps = bytearray(found.end - found.start)
    for length, flags in found.flags.items():
        at = flags.find(1)
        while at >= 0:
            # The window ending at step `at` begins at at - length + 1.
            if at - length + 1 >= 0 and flags[at - length + 1]:
                steps[at] = 1
            at = flags.find(1, at + 1)
    return steps


def violating_stretches(found: Violations, start: int, end: int, *, lone: bool = False) -> list[tuple[float, float]]:
    """Merged stretches (start_s, end_s) of violating time in [start, end), in seconds since t0.

    lone: where windows violate, but no step is violating time (too little was seen for that), the shortest of them
    stands for itself, so that no violation goes unlisted.
    """
    steps = violating_steps(found)
    if lone:
        for low, high in _lone_windows(found, steps):
            steps[low:high] = b"\x01" * (high - low)
    found_stretches = []
    at = steps.find(1, max(0, start - found.start))
    stop = max(0, end - found.start)
    while 0 <= at < stop:
        over = steps.find(0, at)
        over = min(stop, len(steps) if over < 0 else over)
        found_stretches.append((step_start(found.start + at), step_start(found.start + over)))
        at = steps.find(1, over)
    return found_stretches


def _lone_windows(found: Violations, steps: bytearray) -> list[tuple[int, int]]:
    """Violating windows that touch no violating time, shortest first and not overlapping one another."""
    lone: list[tuple[int, int]] = []
    for length, flags in sorted(found.flags.items()):
        at = flags.find(1)
        while at >= 0:
            clear = 1 not in steps[at : at + length] and all(at + length <= a or b <= at for a, b in lone)
            if clear:
                lone.append((at, at + length))
            at = flags.find(1, at + 1)
    return lone
