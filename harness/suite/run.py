"""From a planned suite to its result: one session, its experiments one after the other, and what is left of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import msgspec
from msgspec.structs import replace

from harness.analysis.run_directory import Run
from harness.analysis.suite.gate import ATTEMPTS, gate, to_confirm
from harness.analysis.suite.suite_file import GATE, SUITE
from harness.conductor.recording.log import RunLog
from harness.conductor.session import Session, make_run_dir, opened
from harness.conductor.sharing.carried import Carried
from harness.conductor.signals import Signals
from harness.conductor.worker_threads import renewing
from harness.model.clock import monotonic, today, wall
from harness.model.errors import HarnessError, SetupError
from harness.model.files import replace_file
from harness.model.jsonl import encode
from harness.model.records.live import LiveState
from harness.model.records.many_runs.gate import Base, GateResult, Known
from harness.model.records.many_runs.suite import SuiteResult
from harness.model.records.result import Result
from harness.model.units import format_duration
from harness.report.suite.files import write_suite_reports
from harness.suite.loads import Loads
from harness.suite.outcome import Book
from harness.suite.prepare import PlannedItem, PlannedSuite, told_length
from harness.suite.resume import Earlier, clean_before
from harness.suite.standing import stand_up

Say = Callable[[str], None]


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """What the outcomes of a suite are compared with. today: the day on which known weaknesses are looked at."""

    base: Base
    known: tuple[Known, ...]
    today: date


class SuiteEnded(msgspec.Struct, frozen=True, kw_only=True):
    """A finished suite. problem: why it could not be carried out, None when it was."""

    result: SuiteResult
    run_dir: Path
    problem: str | None = None
    hint: str | None = None
    gate: GateResult | None = None


def run_suite(
    planned: PlannedSuite,
    *,
    out: Path,
    view: str,
    command: str,
    signals: Signals,
    time_limit_s: float | None = None,
    accepted: Accepted | None = None,
    earlier: Earlier | None = None,
) -> SuiteEnded:
    """Carry a suite out that was checked; its folder is made below `out`. time_limit_s: nothing begins that would end
    later than that; it is not run. accepted: what the outcomes are compared with. earlier: it goes on there; what the
    session itself records has a folder of its own in it then.

    Raises UsageError, and Refused for what another run has; nothing was touched then. All else is in the result.
    """
    base, name = planned.base, f"{planned.base.plan.experiment.partition('-')[0]}-suite"
    if earlier is not None:
        name = f"{earlier.folder.name}-on-{earlier.last_number}"

    def make() -> Path:
        return make_run_dir(out, name) if earlier is None else make_run_dir(earlier.folder, "session-on")

    with opened(base, planned.envelope, make, owner=name, view=view) as (session, log):
        log.say(told_length(planned, earlier.done if earlier is not None else ()))
        return _Running(planned, session, log, signals, command, time_limit_s, accepted, earlier).run()


class _Running:
    def __init__(
        self,
        planned: PlannedSuite,
        session: Session,
        log: RunLog,
        signals: Signals,
        command: str,
        time_limit_s: float | None,
        accepted: Accepted | None,
        earlier: Earlier | None,
    ) -> None:
        self._accepted = accepted
        self._folder = earlier.folder if earlier is not None else session.run_dir
        self._earlier = earlier
        self._done_before = earlier.done if earlier is not None else frozenset()
        self._planned = planned
        self._session = session
        self._log = log
        self._signals = signals
        self._limit_s = time_limit_s
        self._begun = monotonic()
        self._number = earlier.last_number if earlier is not None else 0
        self._part = ""
        self._book = Book(planned, command, earlier.result if earlier is not None else None)

    def run(self) -> SuiteEnded:
        problem: HarnessError | None = None
        try:
            self._carry_out()
        except HarnessError as error:
            problem = error
        except OSError as error:
            problem = SetupError(
                f"the suite could not go on: {error.strerror or error}: {error.filename or ''}".rstrip(": ")
            )
        self._session.end(self._book.unverified)
        compared = self._accepted
        if compared is not None:
            self._book.gate = gate(compared.base, compared.known, self._so_far(), compared.today)
        result = self._so_far(problem)
        write_suite(self._folder, result, self._book.gate, self._log.say)
        write_suite_reports(self._folder, self._log.say, today())
        return SuiteEnded(
            result=result,
            run_dir=self._folder,
            problem=str(problem) if problem else None,
            hint=problem.hint if problem else None,
            gate=self._book.gate,
        )

    def _so_far(self, problem: HarnessError | None = None, *, going: bool = False) -> SuiteResult:
        return self._book.result(
            seconds=monotonic() - self._begun,
            going=going,
            problem=problem,
            interrupted=self._signals.count > 0,
            left=tuple(self._session.left),
        )

    def _carry_out(self) -> None:
        standing = stand_up(self._planned, self._session, self._book.command, self._signals, self._log)
        if standing is None:
            return
        self._book.begun(standing.up, standing.provenance, wall())
        write_suite(self._folder, self._so_far(going=True), None, self._log.say)
        if self._signals.count:
            return
        clean = clean_before(self._earlier) if self._earlier is not None else ()
        loads = standing.loads(self._show, self._done, clean)
        try:
            self._experiments(loads)
        finally:
            loads.close()

    def _experiments(self, loads: Loads) -> None:
        todo = [one for one in self._planned.items if one.item.name not in self._done_before]
        for at, one in enumerate(todo, start=1):
            why = self._why_not()
            if why:
                self._book.not_run(one, why)
                continue
            left = f"about {format_duration(round((len(todo) - at + 1) * self._each_s, -1))} left"
            if not self._one(loads, one, f"experiment {at} of {len(todo)}: {one.item.name}; {left}"):
                return
        self._confirm(loads)

    def _confirm(self, loads: Loads) -> None:
        """What is new or undecided against the base is carried out twice more."""
        compared = self._accepted
        if compared is None:
            return
        renewing(self._session.keeper, loads.wait_until_judged)
        names = to_confirm(compared.base, compared.known, self._so_far(), compared.today)
        if names:
            self._log.say(f"new or undecided, so twice more: {', '.join(names)}")
        for one in (one for one in self._planned.items if one.item.name in names):
            for _ in range(ATTEMPTS - 1):
                if self._why_not() or not self._one(loads, one, f"{one.item.name}, once more"):
                    return

    def _one(self, loads: Loads, one: PlannedItem, part: str) -> bool:
        """Carry one out; False where nothing can follow. part: of the suite, for people."""
        self._part = part
        self._log.say(part)
        series = loads.series_for(one.plan if one.own_load else None)
        if series is None:
            self._book.ended("it was interrupted" if self._signals.count else "the load ended before it")
            return False
        self._number += 1
        name = folder_name(self._number, one.item.name)
        folder = self._folder / name
        folder.mkdir()
        plan = replace(one.plan, experiment=f"{self._folder.name}/{name}", created=wall())
        carried = series.carry_out(plan, folder, lambda carried: self._book.carried(one, carried))
        if self._signals.count:
            self._book.ended("it was interrupted")
            return False
        if why := carried.ends_session:
            self._book.ended(why)
            self._log.say(f"the suite ends here: {why}")
            return False
        return True

    def _why_not(self) -> str:
        """Why no other experiment may begin; "" where one may."""
        if self._limit_s is None or monotonic() - self._begun + self._each_s <= self._limit_s:
            return ""
        return f"the time limit of {format_duration(self._limit_s)} was reached"

    @property
    def _each_s(self) -> float:
        return self._planned.seconds / max(1, len(self._planned.items))

    def _show(self, state: LiveState) -> None:
        self._log.show(replace(state, part=self._part))

    def _done(self, carried: Carried, run: Run, result: Result) -> None:
        self._book.judged(carried, run, result)
        # A suite that is killed has its result up to here, and can go on.
        write_suite(self._folder, self._so_far(going=True), None, self._log.say)
        shown = {"pass": "held", "fail": "BROKEN", "inconclusive": "unknown"}[result.verdict]
        self._log.say(f"{carried.folder.name}: {shown}. {result.reasons[0] if result.reasons else ''}")


def folder_name(number: int, name: str) -> str:
    """`03-redis-latency`: of what a name has, letters, digits, dots and dashes stay."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-.") else "-" for c in name).strip("-.")
    return f"{number:02d}-{plain[:60] or 'experiment'}"


def write_suite(run_dir: Path, result: SuiteResult, gate: GateResult | None, say: Say) -> None:
    """suite.json and, of a suite that was compared, gate.json; one of before does not stay."""
    for name, found in ((SUITE, result), (GATE, gate)):
        try:
            if found is None:
                (run_dir / name).unlink(missing_ok=True)
            else:
                replace_file(run_dir / name, msgspec.json.format(encode(found), indent=2) + b"\n")
        except OSError as error:
            say(f"{name} could not be written: {error.strerror}")
