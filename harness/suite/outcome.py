"""What a suite has come to so far: kept while it goes on, and its result at the end."""

from __future__ import annotations

import re
import shlex
import threading
from collections.abc import Sequence

from harness.analysis.comparison.harm import whole_harm
from harness.analysis.run_directory import Run
from harness.analysis.suite.cells import cells
from harness.analysis.suite.score import outcome_of, score
from harness.conductor.sharing.carried import Carried
from harness.model.errors import HarnessError
from harness.model.exit_codes import ExitCode
from harness.model.one_call import one_call
from harness.model.records.events import UndoNotVerified
from harness.model.records.many_runs.gate import GateResult
from harness.model.records.many_runs.suite import Attempt, Excluded, ExperimentOutcome, ExperimentResult, SuiteResult
from harness.model.records.plan import Provenance
from harness.model.records.result import Result, Verdict
from harness.model.records.stack import StackUp
from harness.model.units import format_duration
from harness.plan.suite.items import definition, load_of
from harness.suite.prepare import PlannedItem, PlannedSuite

OUTCOMES: dict[Verdict, ExperimentOutcome] = {"pass": "held", "fail": "broken", "inconclusive": "unknown"}
NEVER = "the suite ended before it"
NOT_YET = "not carried out so far"
WORST_FIRST = (
    ExitCode.UNDO_UNVERIFIED,
    ExitCode.INTERRUPTED,
    ExitCode.HARNESS_FAILED,
    ExitCode.FAIL,
    ExitCode.INCONCLUSIVE,
    ExitCode.PASS,
)


class Book:
    """Experiments are carried out in one thread and judged in another."""

    def __init__(self, planned: PlannedSuite, command: str, earlier: SuiteResult | None = None) -> None:
        self.command = command
        self.unverified: list[str] = []
        self.gate: GateResult | None = None
        self._planned = planned
        self._provenance: Provenance | None = None
        self._lock = threading.Lock()
        self._items: dict[str, PlannedItem] = {}
        self._reset: dict[str, str] = {}
        self._last: dict[str, Carried] = {}
        self._attempts: dict[str, list[Attempt]] = {one.item.name: [] for one in planned.items}
        self._seconds_before = 0.0
        self._why: dict[str, str] = {}
        self._ended = ""
        self._started: str | None = None
        self._url = planned.base.plan.load.host
        if earlier is not None:
            self._started, self._seconds_before = earlier.started, earlier.seconds
            for one in earlier.experiments:
                self._attempts[one.name] += one.attempts

    def begun(self, up: StackUp, provenance: Provenance, started: str) -> None:
        self._provenance, self._url = provenance, up.target.url
        self._started = self._started or started

    def carried(self, one: PlannedItem, carried: Carried) -> None:
        """Before it is judged. Its undos are known."""
        with self._lock:
            self._items[carried.folder.name] = one
            self._reset[carried.folder.name] = carried.reset
            self._last[one.item.name] = carried
        self.unverified += [
            f"{carried.folder.name}/{event.fault}: {event.left}; {event.mend}"
            for event in carried.events
            if isinstance(event, UndoNotVerified)
        ]

    def judged(self, carried: Carried, run: Run, result: Result) -> None:
        """run: its record, as it was judged."""
        name = carried.folder.name
        recovery, impact = result.recovery, result.impact
        primary = [target for target in result.targets if target.primary]

        def texts(outcome: str) -> tuple[str, ...]:
            return tuple(target.target for target in primary if target.outcome == outcome)

        attempt = Attempt(
            directory=name,
            outcome=OUTCOMES[result.verdict],
            verdict=result.verdict,
            exit_code=result.exit_code,
            reason=result.reasons[0] if result.reasons else "",
            started=result.started,
            seconds=round((carried.end - carried.first) / 10, 1),
            recovery=recovery.outcome if recovery is not None else None,
            recovery_s=recovery.seconds if recovery is not None else None,
            violating_s=impact.violating_s if impact is not None else None,
            broken_targets=texts("broken"),
            undecided_targets=texts("undecided"),
            harm=whole_harm(run.plan, run.history, run.store),
            lost_writes=result.acknowledged.lost if result.acknowledged is not None else 0,
            cells=cells(run, result),
            target_version=run.plan.provenance.target_version if run.plan.provenance is not None else None,
            reset=self._reset.get(name, ""),
            alerts=result.detection.alerts if result.detection is not None else (),
        )
        with self._lock:
            self._attempts[self._items[name].item.name].append(attempt)
            # With all that was recorded of it, which would add up.
            self._last.pop(self._items[name].item.name, None)

    def not_run(self, one: PlannedItem, why: str) -> None:
        self._why[one.item.name] = why

    def ended(self, why: str) -> None:
        """Nothing is carried out any more."""
        self._ended = why

    def result(
        self,
        *,
        seconds: float,
        problem: HarnessError | None,
        interrupted: bool,
        left: Sequence[str],
        going: bool = False,
    ) -> SuiteResult:
        """going: it goes on. Should it be killed, this is all that is left of it."""
        planned, plan, provenance = self._planned, self._planned.base.plan, self._provenance
        never = NOT_YET if going else NEVER
        with self._lock:
            experiments = tuple(self._experiment(one, never) for one in planned.items)
        code = exit_code(experiments, problem, interrupted=interrupted, left=bool(left or self.unverified))
        if self.gate is not None and code not in (
            ExitCode.UNDO_UNVERIFIED,
            ExitCode.INTERRUPTED,
            ExitCode.HARNESS_FAILED,
        ):
            code = ExitCode(self.gate.exit_code)
        reasons = [*([str(problem)] if problem is not None else []), *left, *self.unverified]
        if self._ended and problem is None:
            reasons.append(f"The suite ended early: {self._ended}")
        if going:
            done = sum(one.outcome != "not_run" for one in experiments)
            reasons.append(f"Not finished: {done} of {len(experiments)} experiments so far")
        return SuiteResult(
            name=planned.suite.name,
            profile=planned.suite.profile,
            exit_code=int(code),
            reasons=tuple(dict.fromkeys(reasons)),
            started=self._started,
            seconds=round(self._seconds_before + seconds, 1),
            scenario=plan.scenario.name,
            scale=plan.scale,
            rate=plan.load.rate,
            model=plan.load.model,
            stack=plan.stack,
            seed=plan.seed,
            target_url=self._url,
            target_version=provenance.target_version if provenance is not None else None,
            harness=provenance.harness if provenance is not None else "",
            machine=provenance.machine if provenance is not None else "",
            command=self.command,
            load=load_of(plan),
            locustfile_sha256=plan.load.locustfile_sha256,
            experiments=experiments,
            score=score(experiments),
            excluded=tuple(Excluded(name=one.name, why=one.why) for one in planned.suite.left),
            warnings=tuple(dict.fromkeys(text for one in planned.items for text in one.plan.warnings)),
        )

    def _why_not_run(self, name: str, never: str) -> str:
        last = self._last.get(name)
        return self._why.get(name) or (last.unjudged if last is not None else "") or self._ended or never

    def _experiment(self, one: PlannedItem, never: str) -> ExperimentResult:
        plan = one.plan
        attempts = tuple(self._attempts[one.item.name])
        return ExperimentResult(
            name=one.item.name,
            faults=tuple(dict.fromkeys(fault.spec.text or fault.spec.name for fault in plan.faults)),
            dependency="+".join(dict.fromkeys(fault.spec.dependency for fault in plan.faults)),
            kind="+".join(dict.fromkeys(fault.spec.kind for fault in plan.faults)),
            definition=definition(plan),
            on_target=bool(plan.faults) and all(fault.change.dependency.target for fault in plan.faults),
            weight=one.item.weight,
            outcome=outcome_of(attempts),
            why="" if attempts else self._why_not_run(one.item.name, never),
            attempts=attempts,
            command=command_for(one, self.command),
        )


def command_for(one: PlannedItem, whole: str = "") -> str:
    """What carries one experiment out again, by itself: a run, or its suite without the others where no option of a run
    says what it says. whole: the suite's command. Empty where there is no such call."""
    if one.item.may_fail:
        return _alone(whole, one.item.name)
    plan = one.plan
    words = ["harness", "run"]
    for text in dict.fromkeys(fault.spec.text or fault.spec.name for fault in plan.faults) or ("none",):
        words += ["--fault", text]
    words += ["--scenario", plan.scenario.name]
    if plan.stack == "external":
        words += ["--host", plan.load.host]
    elif plan.stack != "embedded":
        words += ["--stack", plan.stack]
    lasting = {fault.for_s for fault in plan.faults if fault.for_s is not None}
    if len(lasting) == 1:
        words += ["--fault-for", format_duration(lasting.pop())]
    words += ["--baseline", format_duration(plan.phases.baseline_s)]
    words += ["--recovery-limit", format_duration(plan.phases.recovery_limit_s)]
    for target in plan.targets:
        if target.explicit:
            words += ["--target", target.text]
    return shlex.join(words)


_CHOICES = ("--only", "--time-limit", "--resume")


def _alone(whole: str, name: str) -> str:
    if not one_call(whole):
        return ""  # of a suite that goes on, it comes from that suite's record, which may be anybody's
    words = iter(shlex.split(whole))
    kept: list[str] = []
    for word in words:
        if word in _CHOICES:
            next(words, None)
        elif not word.startswith(tuple(f"{one}=" for one in _CHOICES)):
            kept.append(word)
    return shlex.join([*kept, "--only", re.sub(r"([*?[])", r"[\1]", name)]) if kept[:2] == ["harness", "suite"] else ""


def exit_code(
    experiments: Sequence[ExperimentResult], problem: HarnessError | None, *, interrupted: bool, left: bool
) -> ExitCode:
    """The first that occurs, worst first. What was not run leaves the suite undecided."""
    last = {ExitCode(attempt.exit_code) for one in experiments for attempt in one.attempts[-1:]}
    codes = last & set(WORST_FIRST[:3])
    codes |= {ExitCode.INCONCLUSIVE for one in experiments if one.outcome in ("not_run", "unknown")}
    codes |= {ExitCode.FAIL for one in experiments if one.outcome == "broken"}
    if left:
        codes.add(ExitCode.UNDO_UNVERIFIED)
    if interrupted:
        codes.add(ExitCode.INTERRUPTED)
    if problem is not None:
        codes.add(problem.exit_code)
    return next((code for code in WORST_FIRST if code in codes), ExitCode.PASS)
