"""After the load: is the target well when nobody asks much of it? The last word on it, before anything is taken down.

The requests are made by a process of its own (harness.load.after_load.last_look), which has the locustfile and nothing
of the load that went before.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from harness.analysis.record.windows import WindowStore
from harness.conductor.asked import ask
from harness.conductor.recording.history import History
from harness.conductor.session import Session
from harness.conductor.signals import Signals
from harness.load.ipc.look_protocol import Looked, LookStart
from harness.model.clock import monotonic
from harness.model.records.events import AfterLoad, Event, LoadEnded, LoadLost, Note, PhaseStarted, Stopped
from harness.model.records.metrics import ALLOWED_OVER
from harness.model.records.plan import Plan

LOOK_FOR_S = 60.0
"""After the end of load, for a target that did not recover."""
RECOVERED_LOOK_FOR_S = 10.0
"""For one that did: it is asked once, and again only where that was not as in baseline, which may be chance."""
LEAST_S = 5.0
"""However long the drain took."""
SLACK_S = 20.0
"""For the last look, beyond the instant up to which one may begin."""
TIMES_P95 = 3.0
"""Without load a request is slow that takes longer than every latency target and so many times baseline's p95."""
GOODBYE_S = 3.0


class Before:
    """How the target did in baseline, noted when the fault phase begins: later the store forgets it."""

    def __init__(self, plan: Plan, store: WindowStore) -> None:
        self._plan = plan
        self._store = store
        self.limit_ms: float | None = None
        self.failing = 0.0

    def note(self, event: Event) -> None:
        """A listener of the history, in the thread that feeds the store."""
        if not isinstance(event, PhaseStarted) or event.phase != "fault" or self._store.baseline is None:
            return
        totals = self._store.totals(*self._store.baseline)
        p95_ms = totals.all_names().quantile_ms(0.95)
        self.failing = totals.error_rate or 0.0
        limits = [
            target.value
            for target in self._plan.targets
            if target.metric in ALLOWED_OVER and target.unit == "ms" and not target.of_baseline
        ]
        if p95_ms is not None:
            self.limit_ms = max([*limits, TIMES_P95 * p95_ms])


def ask_again(
    plan: Plan, session: Session, history: History, before: Before, signals: Signals, say: Callable[[str], None]
) -> None:
    """Record how the target answers without load. Never raises for what goes wrong on the way: then nothing is known,
    and a note says why. Ends at once on a signal; what was seen until then is recorded."""
    loaded = next((event.end_s for event in history.events if isinstance(event, LoadEnded)), None)
    if loaded is None or signals.count or _ended_early(history):
        return
    recovered = any(isinstance(event, PhaseStarted) and event.phase == "after" for event in history.events)
    look_for_s = RECOVERED_LOOK_FOR_S if recovered else LOOK_FOR_S
    until = max(history.t0 + loaded + look_for_s, monotonic() + LEAST_S)
    start = LookStart(plan=plan.load, until=until, limit_ms=before.limit_ms, failing=before.failing)
    looks: list[Looked] = []

    def heard(looked: Looked) -> float | None:
        looks.append(looked)
        if len(looks) == 1 and not looked.last:
            left = max(0.0, until - monotonic())
            why = f" ({looked.example})" if looked.example else ""
            say(f"without load the target is not as in baseline either{why}; asking it for {left:.0f} s more")
        return None if looked.last else until + SLACK_S

    # The locustfile's test_stop may put away what its test_start has made.
    why = ask("last-look", start, msgspec.json.Decoder(Looked), heard, session, signals, goodbye_s=GOODBYE_S)
    if why:
        history.add(Note, text=f"the target was not asked to the end after the load: {why}")
    if not looks or looks[-1].asked == 0:
        return
    last = looks[-1]
    history.add(
        AfterLoad,
        as_in_baseline=last.as_in_baseline,
        seconds=round(max(0.0, last.at - history.t0 - loaded), 1),
        looks=len(looks),
        asked=last.asked,
        good=last.good,
        answered=last.answered,
        limit_ms=None if before.limit_ms is None else round(before.limit_ms, 3),
        example=last.example,
    )


def _ended_early(history: History) -> bool:
    """Stopped, or without its load process."""
    return any(
        isinstance(event, Stopped) or (isinstance(event, LoadLost) and event.worker is None) for event in history.events
    )
