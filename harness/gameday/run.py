"""From a planned game day to its record: one session, its load, and drills when people begin them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec.structs import replace

from harness.analysis.gameday.files import write_plan_told
from harness.analysis.gameday.record import ANSWERS
from harness.analysis.run_directory import Run
from harness.conductor.orders import Chosen, Orders, People
from harness.conductor.recording.annotations import Annotations
from harness.conductor.recording.log import RunLog
from harness.conductor.session import Session, make_run_dir, opened
from harness.conductor.sharing.carried import Carried
from harness.conductor.sharing.series import Series
from harness.conductor.signals import Signals
from harness.conductor.worker_threads import renewing
from harness.gameday.awake import awake
from harness.gameday.desk import Desk, Next
from harness.gameday.prepare import PlannedGameDay
from harness.model.clock import monotonic, wall
from harness.model.errors import HarnessError, SetupError
from harness.model.exit_codes import ExitCode
from harness.model.records.events import UndoNotVerified
from harness.model.records.live import LiveState
from harness.model.records.many_runs.gameday import GameDayPlan, GameDayRecord
from harness.model.records.plan import Plan
from harness.model.records.result import Result
from harness.model.units import format_duration
from harness.report.gameday.files import write_game_day_reports
from harness.suite.loads import Loads
from harness.suite.standing import Standing, stand_up

Say = Callable[[str], None]
Opens = Callable[[Desk, Say, Path], Callable[[], None]]
"""Opens a desk to people, given a folder that nobody else may enter; what it returns closes it."""


class GameDayEnded(msgspec.Struct, frozen=True, kw_only=True):
    """problem: why it could not go on, None where people closed it. record: None where it never began."""

    run_dir: Path
    exit_code: ExitCode
    record: GameDayRecord | None = None
    problem: str | None = None
    hint: str | None = None


def run_game_day(
    planned: PlannedGameDay,
    *,
    out: Path,
    view: str,
    command: str,
    signals: Signals,
    opens: Opens,
) -> GameDayEnded:
    """Carry a game day out that was checked; its folder is made below `out`. opens: see Opens; once the load runs.

    Raises UsageError, and Refused for what another run has; nothing was touched then. All else is in the result.
    """
    base, name = planned.suite.base, f"{planned.suite.base.plan.experiment.partition('-')[0]}-gameday"
    with opened(base, planned.suite.envelope, lambda: make_run_dir(out, name), owner=name, view=view) as (session, log):
        return _Running(planned, session, log, signals, command, opens).run()


class _Running:
    def __init__(
        self,
        planned: PlannedGameDay,
        session: Session,
        log: RunLog,
        signals: Signals,
        command: str,
        opens: Opens,
    ) -> None:
        self._planned = planned
        self._session = session
        self._log = log
        self._signals = signals
        self._command = command
        self._opens = opens
        self._desk: Desk | None = None
        self._waits = 0
        self._unverified: list[str] = []
        self._hidden: dict[int, Carried] = {}
        alerts = planned.suite.base.plan.alerts
        self._expected = alerts.expected if alerts is not None else ()
        self._why = ""

    def run(self) -> GameDayEnded:
        problem: HarnessError | None = None
        try:
            self._carry_out()
        except HarnessError as error:
            problem = error
        except OSError as error:
            problem = SetupError(
                f"the game day could not go on: {error.strerror or error}: {error.filename or ''}".rstrip(": ")
            )
        self._session.end(self._unverified)
        folder = self._session.run_dir
        record = write_game_day_reports(folder, self._log.say) if self._desk is not None else None
        reasons = [*([str(problem)] if problem else []), *self._session.left, *self._unverified, self._why]
        return GameDayEnded(
            run_dir=folder,
            exit_code=self._exit_code(problem),
            record=record,
            problem=next((reason for reason in reasons if reason), None),
            hint=problem.hint if problem else None,
        )

    def _exit_code(self, problem: HarnessError | None) -> ExitCode:
        """A game day is no gate: what its drills have found is in its record."""
        if self._session.left or self._unverified:
            return ExitCode.UNDO_UNVERIFIED
        if self._signals.count:
            return ExitCode.INTERRUPTED
        if problem is not None:
            return problem.exit_code
        return ExitCode.HARNESS_FAILED if self._why else ExitCode.PASS

    def _carry_out(self) -> None:
        standing = stand_up(self._planned.suite, self._session, self._command, self._signals, self._log)
        if standing is None:
            return
        loads = standing.loads(self._show, self._done)
        try:
            series = loads.series_for(None)
            if series is None:
                self._why = "" if self._signals.count else "the load ended before the first drill"
                return
            self._desk = desk = self._desk_of(standing)
            close = self._opened(desk)
            try:
                with awake("a game day is going on") as held_off:
                    if held_off:
                        self._log.say("this machine does not go to sleep until the game day is over")
                    self._day(desk, series, loads)
            finally:
                renewing(self._session.keeper, close)
                desk.close()
                for number in tuple(self._hidden):
                    self._revealed(number)
        finally:
            loads.close()

    def _opened(self, desk: Desk) -> Callable[[], None]:
        """A console may take longer to start, or to end, than the lease."""
        found: list[Callable[[], None]] = []
        opens, answer, private = self._opens, self._log.answer, self._session.state_dir
        renewing(self._session.keeper, lambda: found.append(opens(desk, answer, private)))
        return found[0]

    def _desk_of(self, standing: Standing) -> Desk:
        planned, folder, plan = self._planned, self._session.run_dir, self._planned.suite.base.plan
        told = GameDayPlan(
            title=planned.file.title,
            zero=wall(),
            roles=planned.file.roles,
            prerequisites=planned.file.prerequisites,
            drills=planned.drills,
            scenario=plan.scenario.name,
            rate=plan.load.rate,
            users=plan.load.users,
            stack=plan.stack,
            target_url=standing.up.target.url,
            target_version=standing.provenance.target_version,
            harness=standing.provenance.harness,
            machine=standing.provenance.machine,
            command=self._command,
        )
        write_plan_told(folder, told)
        items, zero = planned.suite.items, monotonic()
        return Desk(told, items, planned.another, folder, zero, self._log.note, self._revealed)

    def _day(self, desk: Desk, series: Series, loads: Loads) -> None:
        while not desk.ended and not self._signals.count:
            ended = self._wait(desk, series)
            begun = desk.begins()
            if ended is None and begun is not None and not desk.ended:
                ended = self._drill(desk, series, begun)
            if ended:
                self._why = ended
                self._log.say(f"the game day ends here: {ended}")
                return

    def _wait(self, desk: Desk, series: Series) -> str | None:
        """Until people decide; why no drill can follow, None where one can."""
        orders = Orders()
        if not desk.waits(orders):
            return None
        plan, self._waits = self._planned.suite.base.plan, self._waits + 1
        name = f"interval-{self._waits:02d}"
        carried = series.wait(self._named(plan, name), self._folder(name), orders, lambda found: told(desk, found))
        return carried.ends_session or None

    def _drill(self, desk: Desk, series: Series, begun: Next) -> str | None:
        orders, name = Orders(), f"drill-{begun.drill.number:02d}"
        desk.starts(begun, name, orders)
        if begun.anyway:
            orders.later("begin_anyway", begun.who)
        self._log.say(f"drill {begun.drill.number} begins")
        blind = begun.drill.blind
        with self._log.silent(blind):
            plan, folder = self._named(begun.planned.plan, name), self._folder(name)
            people = People(orders=orders, hidden=blind, choose=self._choose)
            carried = series.carry_out(plan, folder, lambda carried: self._over(begun, carried), people)
        self._log.say(f"drill {begun.drill.number} is over")
        return carried.ends_session or None

    def _choose(self, fault: str, left: str) -> Chosen:
        assert self._desk is not None
        return self._desk.choose(fault, left, lambda: self._signals.count > 0)

    def _over(self, begun: Next, carried: Carried) -> None:
        self._unverified += [
            f"{carried.folder.name}/{event.fault}: {event.left}; {event.mend}"
            for event in carried.events
            if isinstance(event, UndoNotVerified)
        ]
        assert self._desk is not None
        if begun.drill.blind:
            self._hidden[begun.drill.number] = carried
        self._desk.over(begun.drill.number, carried.history.t0)

    def _revealed(self, number: int) -> None:
        """What was held back is told now, with its true times."""
        carried, up = self._hidden.pop(number, None), self._session.up
        if carried is not None and self._session.spans is not None:
            self._session.spans.afterwards(carried.plan, carried.events)
        if carried is None or up is None or up.grafana is None:
            return
        args = (up.grafana, f"{self._session.run_dir.name}/drill-{number:02d}", carried.history, self._log.say)
        threading.Thread(target=Annotations.afterwards, args=args, name="reveal", daemon=True).start()

    def _named(self, plan: Plan, name: str) -> Plan:
        return replace(plan, experiment=f"{self._session.run_dir.name}/{name}", created=wall())

    def _folder(self, name: str) -> Path:
        folder = self._session.run_dir / name
        folder.mkdir()
        return folder

    def _show(self, state: LiveState) -> None:
        desk = self._desk
        part = ""
        if desk is not None:
            on = desk.on
            session, expected = self._session, {*self._expected, *(on.alerts if on is not None else ())}
            desk.shows(state, session.alerts_now(expected), session.counters_now())
            part = f"{desk.plan.title}: " + (f"drill {on.number}" if on is not None else "between drills")
            if on is not None and on.blind:
                state = replace(state, faults=(), phase="drill", message="", recovery_s=None, phase_left_s=None)
        self._log.show(replace(state, part=part))

    def _done(self, carried: Carried, run: Run, result: Result) -> None:
        desk = self._desk
        number = int(carried.folder.name.rpartition("-")[2])
        if desk is None:
            return
        answer = ANSWERS[result.verdict]
        desk.judged(number, answer)
        if number in desk.hidden:
            return
        self._log.say(f"drill {number}: {answer}. {result.reasons[0] if result.reasons else ''}")


def told(desk: Desk, restless: str) -> str:
    """What is waited for between two drills."""
    left = desk.left
    following = f"next is drill {left[0].number}" if left else "no drill is left"
    if left and not left[0].blind:
        following += f", {left[0].name}"
    rest = restless or "the target is at rest"
    if restless and desk.hidden:
        rest = "not yet at rest"  # why could name what a blind drill has broken
    return f"{following}; {rest}"


def planned_length(planned: PlannedGameDay) -> str:
    return f"{len(planned.drills)} drills, about {format_duration(round(planned.seconds))} with the pauses"
