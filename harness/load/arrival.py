"""One arrival, and what is known of the user that serves it."""

from __future__ import annotations

from typing import Any


class Arrival:
    """intended: CLOCK_MONOTONIC seconds; late: seconds until it was taken off the schedule.

    requests: how many its task has started; ended: in any way.
    """

    __slots__ = ("class_name", "ended", "intended", "late", "requests", "step")

    def __init__(self, class_name: str, intended: float, step: int) -> None:
        self.class_name = class_name
        self.intended = intended
        self.step = step
        self.late = 0.0
        self.requests = 0
        self.ended = False


class UserState:
    """What the load knows of one Locust user.

    arrival: the one whose task is running. unreported: requests that returned but whose event has not come.
    assigned, waiter: open model, the hand-over; waiter is the greenlet that is parked. skips: task sets entered since
    the last task.
    """

    __slots__ = ("arrival", "assigned", "class_name", "gone", "skips", "starting", "unreported", "user", "waiter")

    def __init__(self, user: Any, class_name: str) -> None:
        self.user = user
        self.class_name = class_name
        self.arrival: Arrival | None = None
        self.assigned: Arrival | None = None
        self.waiter: Any = None
        self.unreported: list[Any] = []
        self.starting = False
        self.gone = False
        self.skips = 0
