"""Total time-outs of many requests by one timer, which runs only when the oldest of them is due.

A timer per request costs more than the request; one that looks every few milliseconds costs more than the requests when
there are few of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from time import monotonic
from typing import Any

import gevent

COARSE_S = 0.02
"""A time-out may come this much late: all that are due by then are one wake-up."""


class RequestTimeout(gevent.Timeout):  # type: ignore[misc]
    """Thrown into the greenlet whose request is open longer than its total time-out, in seconds."""


class Alarm:
    """Calls `ring` in the event loop, once, soon after the earliest instant that was asked for."""

    __slots__ = ("_ring", "_timer", "at")

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._timer: Any = None
        self.at = math.inf

    def set(self, instant: float) -> None:
        """instant: of time.monotonic(). A later one than what is set changes nothing."""
        if instant >= self.at:
            return
        self.at = instant
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
        # ref=False: a time-out that nobody waits for any more keeps no process alive.
        self._timer = gevent.get_hub().loop.timer(max(0.0, instant - monotonic()) + COARSE_S, ref=False)
        self._timer.start(self._rings)

    def _rings(self) -> None:
        self.at = math.inf
        self._ring()


class Deadlines:
    """Greenlets, and when each is to be interrupted."""

    def __init__(self) -> None:
        self._by_timeout: dict[float, dict[Any, float]] = {}
        self._alarm = Alarm(self._expire)

    def add(self, greenlet: Any, timeout_s: float) -> None:
        """RequestTimeout is thrown into it after so many seconds, unless it is taken away before."""
        due = monotonic() + timeout_s
        waiting = self._by_timeout.get(timeout_s)
        if waiting is None:
            waiting = self._by_timeout[timeout_s] = {}
        waiting[greenlet] = due
        if due < self._alarm.at:
            self._alarm.set(due)

    def take_away(self, greenlet: Any, timeout_s: float) -> None:
        self._by_timeout[timeout_s].pop(greenlet, None)

    def _expire(self) -> None:
        """In the event loop, so that each of these greenlets is certainly inside its request."""
        now = monotonic()
        for timeout_s, waiting in list(self._by_timeout.items()):
            while waiting:
                # All have the same time-out, so the oldest comes first.
                greenlet, due = next(iter(waiting.items()))
                if due > now:
                    self._alarm.set(due)
                    break
                del waiting[greenlet]
                greenlet.throw(RequestTimeout(timeout_s))
            else:
                # Time-outs that differ from request to request must not pile up.
                self._by_timeout.pop(timeout_s, None)
