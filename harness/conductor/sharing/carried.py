"""One experiment of a session that was carried out."""

from __future__ import annotations

from pathlib import Path

import msgspec

from harness.conductor.recording.history import History
from harness.model.records.events import AfterLoad, Event, LoadLost, PhaseStarted, Stopped, StopWhy, UndoNotVerified
from harness.model.records.plan import Plan
from harness.plan.decide import STOPPING


class Carried(msgspec.Struct, kw_only=True):
    """One experiment that was carried out. first, end: its steps of the load. since: byte of the session's windows
    from which its rows are. reset: what was done to the target afterwards. stuck: why the target is still as the
    experiment left it, where it did not come back; "" where it did, or was started anew."""

    plan: Plan
    folder: Path
    history: History
    first: int
    end: int
    since: int
    reset: str = ""
    stuck: str = ""
    unjudged: str = ""
    """Why there is no result of it, where there is none."""

    @property
    def recovered(self) -> bool:
        """It came to the hold after recovery, as far as could be seen while it went on."""
        return any(isinstance(event, PhaseStarted) and event.phase == "after" for event in self.events)

    @property
    def events(self) -> list[Event]:
        return self.history.events

    @property
    def stopped(self) -> StopWhy | None:
        return next((event.why for event in self.events if isinstance(event, Stopped)), None)

    @property
    def ends_session(self) -> str:
        """Why no other experiment can follow; "" where one can."""
        stopped = next((event for event in self.events if isinstance(event, Stopped)), None)
        if stopped is not None and stopped.why in STOPPING:
            return stopped.text
        lost = next((event for event in self.events if isinstance(event, LoadLost)), None)
        if lost is not None:
            return f"part of the load was lost: {lost.reason}"
        left = next((event for event in self.events if isinstance(event, UndoNotVerified)), None)
        return f"an undo could not be verified: {left.left}" if left is not None else self.stuck

    @property
    def well_without_load(self) -> bool:
        """As the target was seen when the load had been taken off."""
        looked = next((event for event in reversed(self.events) if isinstance(event, AfterLoad)), None)
        return looked is not None and looked.as_in_baseline
