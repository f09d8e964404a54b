"""One simulated run: a service is drawn phase by phase, as the conductor would go through them, and then judged.

`after` begins just behind the true recovery, or, where that is asked for, where the live rules see one: that costs half
as much again, and shows what a real run of a service that never recovers would look like. What the live rules are asked
in any case: which latency limits to count exactly from the injection on, and how long a phase is to be.
"""

from __future__ import annotations

import math
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import simulated  # noqa: E402
from msgspec.structs import replace  # noqa: E402
from simulated import Lengths, Service  # noqa: E402

from harness.analysis import live  # noqa: E402
from harness.analysis.record.clean import CleanBaseline, clean_rows, earlier, what_of  # noqa: E402
from harness.analysis.record.windows import WindowStore  # noqa: E402
from harness.analysis.verdict.judge import judge  # noqa: E402
from harness.model.records.result import Result  # noqa: E402
from harness.model.records.targets import Target  # noqa: E402
from harness.model.records.windows import DeltaRow  # noqa: E402
from harness.model.target_grammar import defaults, merge, parse_targets  # noqa: E402

EXTENDED = 3.0
"""A phase that goes on is so many times as long."""

SESSION_S = 20.0
"""Of a suite's baselines and faults."""

UNDECIDED_S = 1.0
"""The live rules do not look at what lies less far back."""

SENT_AFTER_S = 0.003
"""A fault is sent so long after its phase began."""


@dataclass(frozen=True)
class Instants:
    """Seconds since t0. healthy_s: the last instant at which the service is over the target (zero_s: it never is).
    after_s: when `after` begins, tail_s when it ends, as planned so far."""

    baseline_s: float
    baseline_end_s: float
    injected_s: float
    zero_s: float
    healthy_s: float
    after_s: float
    tail_s: float


Shape = Callable[[Instants, random.Random, float], Service]
"""(instants, draw, requests a second) -> service. Before the end of baseline it must not depend on later instants,
and the same draw must give the same service: it is asked again where a phase goes on."""


@dataclass(frozen=True)
class Case:
    """A kind of service and what is asked of it. delay_s: of healthy_s after zero (negative: before), uniform in it.

    targets: put over the defaults; only: instead of them. recovers: False = over the target until load ends.
    hurt: whether there is an impact to recover from (else the true recovery is 0 s). on_grid: zero and healthy_s lie
    on the 0.1 s grid. hold_s etc. as planned; None = the default for the rate. session: it is one of a session, with
    20 s of baseline and of fault that do not go on, and so many clean baselines before it; None = a run by itself.
    """

    shape: Shape
    targets: tuple[str, ...] = ()
    only: bool = False
    delay_s: tuple[float, float] = (0.0, 0.0)
    recovers: bool = True
    hurt: bool = False
    on_grid: bool = False
    shortest: bool = False
    gap_s: float = 1.0
    session: int | None = None

    def lengths(self, rate: float) -> Lengths:
        if self.session is not None:
            return Lengths(baseline_s=SESSION_S, fault_s=SESSION_S, hold_s=_on_grid(max(15.0, 1000 / rate)))
        if not self.shortest:
            return Lengths(hold_s=_on_grid(max(15.0, 1000 / rate)), gap_s=self.gap_s)
        least = 430 / rate
        return Lengths(
            baseline_s=_on_grid(max(15.0, least)),
            fault_s=_on_grid(max(10.0, least)),
            hold_s=_on_grid(max(15.0, least)),
            gap_s=self.gap_s,
        )


@dataclass(frozen=True)
class Seen:
    """What a run's result says, beside the truth. Times of recovery are after zero, impact_s since the injection."""

    verdict: str
    first: str
    said: str
    outcome: str
    seconds: float | None
    lower_s: float | None
    upper_s: float | None
    graded: bool
    impact_s: float | None
    truth_s: float
    extended: int
    drawing_s: float
    judging_s: float

    @property
    def recovered(self) -> bool:
        return self.outcome in ("recovered", "no_impact")

    @property
    def holds_truth(self) -> bool:
        if self.lower_s is None or self.upper_s is None:
            return False
        return self.lower_s - 1e-6 <= self.truth_s <= self.upper_s + 1e-6


@cache
def targets_of(texts: tuple[str, ...], only: bool) -> tuple[Target, ...]:
    """Raises UsageError where the grammar does not know one."""
    explicit = tuple(target for text in texts for target in parse_targets(text))
    return explicit if only else merge(defaults(True), explicit)


class _Conductor:
    """Draws a case's run. `store` and `history` are what the rules see of it at any moment."""

    def __init__(self, case: Case, rate: float, seed: str, by_live_rules: bool) -> None:
        draw = random.Random(seed)
        self.case, self.rate = case, rate
        self.lengths = case.lengths(rate)
        self.plan = simulated.plan(targets_of(case.targets, case.only), rate, draw.getrandbits(31), self.lengths)
        self.store = WindowStore(self.plan)
        self.history = simulated.opening()
        self.recording = simulated.Recording(self.plan, draw, round(simulated.WARMUP_S * 10))
        self.extended = 0
        self._offset_s, self._delay_s = draw.random(), draw.uniform(*case.delay_s)
        if case.on_grid:
            self._offset_s, self._delay_s = _on_grid(self._offset_s), _on_grid(self._delay_s)
        self._by_live_rules = by_live_rules
        self._after_s: float | None = None
        self._service_seed = draw.random()
        if case.session is not None:
            self.plan = replace(self.plan, phases=replace(self.plan.phases, extend=()))
            self.store = WindowStore(self.plan)
        self._planned = {
            "baseline": self.lengths.baseline_s,
            "fault": self.lengths.fault_s,
            "after": self.lengths.hold_s,
        }
        self.store.earlier = earlier(clean_rows(self._clean(draw) for _ in range(case.session or 0)), self.plan)

    def _clean(self, draw: random.Random) -> CleanBaseline:
        """One of the baselines before this run: the same kind of service at another time."""
        plan = replace(self.plan, load=replace(self.plan.load, seed=draw.getrandbits(31)))
        recording = simulated.Recording(plan, draw, round(simulated.WARMUP_S * 10))
        first, steps = recording.at, round(SESSION_S * 10)
        service = self.case.shape(self._instants(), random.Random(draw.random()), self.rate)
        rows = [row for row in recording.advance(service, first + steps) if isinstance(row, DeltaRow)]
        own = tuple(replace(row, step=row.step - first, ended=None) for row in rows)
        return CleanBaseline(rows=own, steps=steps, limits_ms=plan.load.limits_ms, of=what_of(plan))

    def run(self) -> Instants:
        """Baseline, gap, fault, recovery, after, tail."""
        self._phase("baseline", simulated.WARMUP_S)
        at = self._instants()
        self.history.append(simulated.phase("gap", at.baseline_end_s))
        fault_s = round(at.baseline_end_s + self.lengths.gap_s, 1)
        self._to(fault_s)
        self.recording.count_also(live.relative_limits(self.store, self.plan, self.history))
        self.history += [simulated.phase("fault", fault_s), *simulated.injection(at.injected_s)]
        self._phase("fault", fault_s)
        at = self._instants()
        recovery_s = _on_grid(at.zero_s)
        self.history += [*simulated.undo(at.zero_s), simulated.phase("recovery", recovery_s)]
        if self._by_live_rules:
            at = self._look_for_recovery(at)
        if self._after_s is not None or (self.case.recovers and not self._by_live_rules):
            self._to(at.after_s)
            self.history.append(simulated.phase("after", at.after_s))
            self._phase("after", at.after_s)
            at = self._instants()
            self.history.append(simulated.phase("tail", at.tail_s))
            end_s = max(round(at.tail_s + self.lengths.tail_s, 1), self.recording.at / 10)
        else:
            more = self.lengths.recovery_limit_s + self.lengths.hold_s + self.lengths.tail_s
            end_s = round(recovery_s + more, 1)
        self._to(end_s)
        self.store.add(self.recording.end())
        self.history += simulated.ending(end_s)
        return at

    def _look_for_recovery(self, at: Instants) -> Instants:
        """Ask the live rules once a second, up to the limit; the hold that they find is `after`."""
        last_s = at.zero_s + self.lengths.recovery_limit_s + self.lengths.hold_s + UNDECIDED_S
        now_s = math.ceil(at.zero_s + self.lengths.hold_s + UNDECIDED_S)
        while now_s <= last_s:
            self._to(now_s)
            step = live.recovered_live(self.store, self.plan, at.zero_s, now_s)
            if step is not None:
                self._after_s = max(step / 10, _on_grid(at.zero_s) + 0.1)
                return self._instants()
            now_s += 1
        return at

    def _phase(self, name: str, start_s: float) -> None:
        """To the end of a phase, which goes on once where the rules ask for it."""
        planned = self._planned[name]
        self._to(round(start_s + planned, 1))
        if name not in self.plan.phases.extend:
            return
        wanted, _ = live.length_wanted(self.store, self.plan, self.history, name, start_s, planned)
        if wanted > planned:
            self.extended += 1
            self._planned[name] = _on_grid(min(wanted, EXTENDED * planned))
            self._to(round(start_s + self._planned[name], 1))

    def _instants(self) -> Instants:
        end_s = round(simulated.WARMUP_S + self._planned["baseline"], 1)
        fault_s = round(end_s + self.lengths.gap_s, 1)
        zero_s = round(fault_s + self._planned["fault"], 1) + self._offset_s
        healthy_s = zero_s + self._delay_s
        after_s = round(_on_grid(max(zero_s, healthy_s)) + 0.1, 1) if self._after_s is None else self._after_s
        tail_s = round(after_s + self._planned["after"], 1)
        return Instants(simulated.WARMUP_S, end_s, fault_s + SENT_AFTER_S, zero_s, healthy_s, after_s, tail_s)

    def _to(self, end_s: float) -> None:
        service = self.case.shape(self._instants(), random.Random(self._service_seed), self.rate)
        for row in self.recording.advance(service, round(end_s * 10)):
            self.store.add(row)


def simulate(case: Case, rate: float, seed: str, *, by_live_rules: bool = False) -> Seen:
    """by_live_rules: `after` begins where the live rules see the service recovered, instead of where it truly has."""
    began = time.perf_counter()
    conductor = _Conductor(case, rate, seed, by_live_rules)
    at = conductor.run()
    drawn = time.perf_counter()
    result = judge(conductor.plan, conductor.history, conductor.store, ())
    judged = time.perf_counter()
    truth_s = max(0.0, at.healthy_s - at.zero_s) if case.hurt else 0.0
    return _seen(result, at, truth_s, conductor.extended, drawn - began, judged - drawn)


def _seen(result: Result, at: Instants, truth_s: float, extended: int, drawing_s: float, judging_s: float) -> Seen:
    found, impact = result.recovery, result.impact
    assert found is not None
    graded = getattr(found, "graded", False) or any(getattr(target, "graded", False) for target in found.targets)
    began = impact.start_s if impact is not None else None
    return Seen(
        verdict=result.verdict,
        first=result.reasons[0] if result.reasons else "",
        said=" ".join(result.reasons),
        outcome=found.outcome,
        seconds=found.seconds,
        lower_s=found.lower_s,
        upper_s=found.upper_s,
        graded=bool(graded),
        impact_s=None if began is None else began - at.injected_s,
        truth_s=truth_s,
        extended=extended,
        drawing_s=drawing_s,
        judging_s=judging_s,
    )


def _on_grid(seconds: float) -> float:
    return round(math.ceil(seconds * 10 - 1e-6) / 10, 1)
