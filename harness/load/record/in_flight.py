"""One request, and whose it is."""

from __future__ import annotations

from typing import Any

from harness.load.record.arrival import UserState


class Call:
    """One request. arrival None: outside of any task; first: the first of its task, so measured from the arrival.
    active: sent and not returned, so it can be timed out.

    parent: its traceparent, "" for none. response: what the client returned where the caller decides the outcome later
    (catch_response).
    """

    __slots__ = (
        "active",
        "arrival",
        "done",
        "first",
        "greenlet",
        "name",
        "parent",
        "response",
        "start",
        "state",
        "timed_out",
        "took_ms",
    )

    def __init__(self, name: str, state: UserState | None, greenlet: Any, start: float) -> None:
        arrival = state.arrival if state is not None else None
        self.name = name
        self.state = state
        self.greenlet = greenlet
        self.start = start
        self.arrival = arrival
        self.first = False
        if arrival is not None:
            self.first = arrival.requests == 0
            arrival.requests += 1
        self.active = True
        self.done = self.timed_out = False
        self.response: Any = None
        self.took_ms = 0.0
        self.parent = ""


def owner_of(greenlet: Any) -> UserState | None:
    """The user that a greenlet belongs to: its own, or whose task (or whose helper's helper) spawned it."""
    own: UserState | None = getattr(greenlet, "harness_state", None)
    if own is not None:
        return own
    seen = greenlet
    for _ in range(10):
        state: UserState | None = getattr(seen, "harness_state", None)
        if state is not None:
            greenlet.harness_state = state
            return state
        parent = getattr(seen, "spawning_greenlet", None)
        seen = parent() if parent is not None else None
        if seen is None:
            return None
    return None
