"""Open model: the users of each class, and whose turn it is."""

from __future__ import annotations

from collections import deque
from typing import Any

from harness.load.record.arrival import Arrival, UserState
from harness.model.records.load import LoadPlan


class Pool:
    """The users of one class. pending: arrivals without a user, oldest first. starting: users on their way.

    users: how many of the scenario's are this generator's; alive: how many of them there are; begun: how many the
    ramp need not start any more. parked: those of them without an arrival, in turn; extras: the others without one,
    the one used last at the end. troubled: the last user that could not start was kept from it by the target.
    """

    __slots__ = (
        "alive",
        "begun",
        "cls",
        "extras",
        "failure",
        "failures",
        "name",
        "no_start_before",
        "parked",
        "pending",
        "starting",
        "troubled",
        "users",
    )

    def __init__(self, cls: Any, users: int) -> None:
        self.cls = cls
        self.name: str = cls.__name__
        self.users = users
        self.alive = self.begun = self.starting = self.failures = 0
        self.parked: deque[UserState] = deque()
        self.extras: list[UserState] = []
        self.pending: deque[Arrival] = deque()
        self.failure = ""
        self.troubled = False
        self.no_start_before = 0.0

    def free(self) -> UserState | None:
        """A user for an arrival: of the scenario's the one whose turn it is."""
        while self.parked:
            state = self.parked.popleft()
            if not state.gone:
                return state
        while self.extras:
            # The one that parked last, so that those which are not needed stay unused.
            state = self.extras.pop()
            if not state.gone:
                return state
        return None


def users_of(plan: LoadPlan, index: int) -> list[str]:
    """The class of each user that generator `index` starts in the ramp, in the order of their start.

    Classes take turns by their weights, as in Locust; generators by class, so that each has users of all. No more than
    may be at work at once: others would never be needed.
    """
    weights = {one.name: one.weight for one in plan.classes if one.weight > 0}
    credit = dict.fromkeys(weights, 0.0)
    total = sum(weights.values())
    found: list[str] = []
    turns = {name: number for number, name in enumerate(weights)}
    for _ in range(min(plan.users, plan.max_in_flight) if weights else 0):
        for name, weight in weights.items():
            credit[name] += weight
        chosen = max(credit, key=lambda name: credit[name])
        credit[chosen] -= total
        if turns[chosen] % plan.workers == index:
            found.append(chosen)
        turns[chosen] += 1
    return found
