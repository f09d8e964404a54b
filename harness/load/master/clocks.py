"""The clock of another machine, mapped onto ours by round trips.

A round trip says: ours when sent, theirs when it arrived and when it was answered, ours when the answer came. The
offset (theirs - ours) lies between `answered - back` and `arrived - sent` whatever the two ways took, and its
estimate is the middle (Mills, RFC 5905, section 8). The shortest of many round trips has the least doubt.
"""

from __future__ import annotations

from collections import deque

SPAN_S = 10.0
"""The best round trip of so long counts: young enough to show drift, long enough to hold a quick one."""
ENOUGH = 20
"""Round trips before an offset is used."""


class ClockMap:
    """Instants in seconds: `sent` and `back` on our clock, `arrived` and `answered` on theirs."""

    def __init__(self) -> None:
        self._trips: deque[tuple[float, float, float]] = deque()
        self.taken = 0

    def add(self, sent: float, arrived: float, answered: float, back: float) -> None:
        """One round trip. One that cannot be (answered before it was sent) is left out."""
        low, high = answered - back, arrived - sent
        if back < sent or answered < arrived or high < low:
            return
        self.taken += 1
        self._trips.append((back, (low + high) / 2, (high - low) / 2))
        while self._trips[0][0] < back - SPAN_S:
            self._trips.popleft()

    @property
    def offset(self) -> float | None:
        """Theirs minus ours, by the shortest round trip of the last SPAN_S; None before ENOUGH of them."""
        return None if self.taken < ENOUGH else self._best()[1]

    def doubt(self, used: float) -> float:
        """How far an instant mapped with the offset `used` may be off now: half of the shortest round trip, and what
        the clocks have drifted apart since."""
        if not self._trips:
            return float("inf")
        _, offset, half = self._best()
        return half + abs(offset - used)

    def _best(self) -> tuple[float, float, float]:
        return min(self._trips, key=lambda trip: trip[2])
