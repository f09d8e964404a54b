"""One arrival, and what is known of the user that serves it."""

from __future__ import annotations

from typing import Any


class Arrival:
    """intended: CLOCK_MONOTONIC seconds; late: seconds until it was taken off the schedule.

    excused: seconds of its wait for a user that are not the target's doing: users sat in think time of their own.
    requests: how many its task has started; ended: in any way.
    """

    __slots__ = ("class_name", "ended", "excused", "intended", "late", "requests", "step")

    def __init__(self, class_name: str, intended: float, step: int) -> None:
        self.class_name = class_name
        self.intended = intended
        self.step = step
        self.late = self.excused = 0.0
        self.requests = 0
        self.ended = False


class UserState:
    """What the load knows of one Locust user.

    arrival: the one whose task is running. unreported: requests that returned but whose event has not come.
    assigned, waiter: open model, the hand-over; waiter is the greenlet that is parked, since `idle_since`. skips: task
    sets entered since the last task. extra: started because no other was free, and dismissed when it is not needed any
    more. troubled: a request outside of its tasks failed, in on_start for example.
    """

    __slots__ = (
        "arrival",
        "assigned",
        "class_name",
        "dismissed",
        "extra",
        "gone",
        "idle_since",
        "skips",
        "starting",
        "troubled",
        "unreported",
        "user",
        "waiter",
    )

    def __init__(self, user: Any, class_name: str) -> None:
        self.user = user
        self.class_name = class_name
        self.arrival: Arrival | None = None
        self.assigned: Arrival | None = None
        self.waiter: Any = None
        self.unreported: list[Any] = []
        self.starting = self.gone = self.extra = self.dismissed = self.troubled = False
        self.idle_since = 0.0
        self.skips = 0
