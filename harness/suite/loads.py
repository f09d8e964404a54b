"""The loads of a suite's session: the one that its experiments share, and for some of them one of their own, around
which the shared one is stopped and started anew."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from harness.analysis.record.window_reader import WINDOWS
from harness.conductor.running_load import START_LEAD_S, RunningLoad
from harness.conductor.session import Session
from harness.conductor.sharing.series import Series
from harness.conductor.signals import Signals
from harness.model.clock import monotonic
from harness.model.records.plan import Plan

POLL_S = 0.05

Say = Callable[[str], None]


class Loads:
    """base: a plan of the shared load. bound: a plan as it is on the stack that is up. series: what carries experiments
    out on a running load, after the one before."""

    def __init__(
        self,
        session: Session,
        base: Plan,
        bound: Callable[[Plan], Plan],
        series: Callable[[RunningLoad, Series | None], Series],
        signals: Signals,
        say: Say,
    ) -> None:
        self._session = session
        self._base = base
        self._bound = bound
        self._make = series
        self._signals = signals
        self._say = say
        self._series: Series | None = None
        self._running = False
        self._shared = False
        self._started = 0

    def series_for(self, own: Plan | None) -> Series | None:
        """With its load running and ramped up. own: of an experiment that shares no load. None where the load ended
        meanwhile, or a signal came. Raises LoadError where it cannot be started."""
        if self._running and self._shared and own is None:
            return self._series
        self.close()
        self._started += 1
        folder = self._session.run_dir if self._started == 1 else self._session.run_dir / f"load-{self._started:02d}"
        folder.mkdir(exist_ok=True)
        return self._start(self._bound(own or self._base), folder, shared=own is None)

    def wait_until_judged(self) -> None:
        """Everything that was carried out so far."""
        if self._series is not None:
            self._series.wait_until_judged()

    def close(self) -> None:
        """Stop the load, where one runs, and finish the records of what was carried out on it."""
        if self._series is not None and self._running:
            self._series.close()
        self._running = False

    def _start(self, plan: Plan, folder: Path, *, shared: bool) -> Series | None:
        load = RunningLoad.start(plan.load, self._session, folder / WINDOWS, self._signals, self._say)
        if load is None:
            return None
        self._series = series = self._make(load, self._series)
        self._running, self._shared = True, shared
        load.begin(monotonic() + START_LEAD_S)
        if self._started == 1:
            self._session.start_sampler(load.t0, plan.alerts)
        else:
            self._session.sample_into(load.t0, folder)
        return series if self._ramped(load, plan) else None

    def _ramped(self, load: RunningLoad, plan: Plan) -> bool:
        """The load ramps once; the first experiment waits for a whole hold, which is the rest of the warm-up. False
        when it ended, or a signal came."""
        ramp_s = max(plan.load.ramp_s, plan.phases.warmup_s - plan.phases.hold_s)
        self._say(f"the load ramps up for {ramp_s:.0f} s")
        assert self._session.keeper is not None
        while monotonic() < load.t0 + ramp_s:
            self._session.keeper.renew()
            if self._signals.count or not load.process.running:
                return False
            time.sleep(POLL_S)
        return True
