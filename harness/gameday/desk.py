"""The desk of a game day: where people say what they want, in any thread, and where it is written down who did.

It knows which drill is next and which is on; what is asked of the experiment that is going on goes to its loop.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec.structs import replace

from harness.analysis.gameday.files import PEOPLE
from harness.analysis.gameday.record import moment_of
from harness.conductor.orders import OVER, QUESTION_S, Chosen, Orders
from harness.conductor.recording.alerts import QUIET
from harness.gameday.board import (
    LAST_ACTIONS,
    LAST_ACTS,
    ActionRow,
    ActRow,
    Board,
    DrillRow,
    PrerequisiteRow,
    Sparks,
    may_now,
)
from harness.gameday.commands import ALLOWED, Command
from harness.model.clock import monotonic, wall
from harness.model.errors import HarnessError
from harness.model.jsonl import append_line, encode_line
from harness.model.records.events import OrderKind
from harness.model.records.live import LiveState
from harness.model.records.many_runs.gameday import Act, DrillPlan, GameDayPlan, Role
from harness.suite.prepare import PlannedItem

MOST_ACTS = 20_000
"""A day has so many; beyond it nothing is done but what heals or ends."""
_DRILL_ORDERS: dict[str, OrderKind] = {
    "begin_anyway": "begin_anyway",
    "extend": "extend",
    "clear": "clear",
    "abort": "abort",
}
HEALING = ("clear", "abort", "end")
IN_BETWEEN = "a drill begins or ends at this moment: type it again"


class Next(msgspec.Struct, frozen=True, kw_only=True):
    """The drill that people have begun."""

    drill: DrillPlan
    planned: PlannedItem
    who: str
    anyway: bool = False
    ad_hoc: bool = False


class Desk:
    """plan: of the day. items: of its drills, in order. another: plans a fault that was not planned; raises
    HarnessError. zero: CLOCK_MONOTONIC, at which the day begins. say: one line for people. revealed: told
    the number of a blind drill that is blind no more."""

    def __init__(
        self,
        plan: GameDayPlan,
        items: tuple[PlannedItem, ...],
        another: Callable[[str, int], tuple[DrillPlan, PlannedItem]],
        folder: Path,
        zero: float,
        say: Callable[[str], None],
        revealed: Callable[[int], None] = lambda number: None,
    ) -> None:
        self.plan = plan
        self.acts: list[Act] = []
        self.ended = False
        self.next: Next | None = None
        self.live: LiveState | None = None
        self._todo = list(zip(plan.drills, items, strict=True))
        self._another = another
        self._number = len(plan.drills)
        self.folder = folder
        self._path = folder / PEOPLE
        self._zero = zero
        self._say = say
        self._revealed = revealed
        self._lock = threading.RLock()
        self._question = ""
        self._chosen = Chosen()
        self._answered = threading.Event()
        self._sparks = Sparks()
        self._alerts: dict[str, str] = {}
        self._counters: dict[str, dict[str, float]] = {}
        self._drills = list(plan.drills)
        self._answers: dict[int, str] = {}
        self._orders: Orders | None = None
        self._on: DrillPlan | None = None

    # -- what people do ----------------------------------------------------------------------------------------

    def do(self, who: str, role: Role, command: Command) -> str:
        """Returns "" when it is done, else why it is not, a clause. Every act that was done is on disk by then."""
        if command.kind not in ALLOWED[role]:
            return f"{command.kind.replace('_', ' ')} is for the operator" if role != "operator" else "not yours"
        if len(self.acts) >= MOST_ACTS and command.kind not in HEALING:
            return "enough was written down today"
        match command.kind:
            case "begin" | "begin_anyway" | "skip" | "inject" | "end":
                return self._decide(who, role, command)
            case "extend" | "clear" | "abort":
                return self._order(who, role, command)
            case "tick":
                return self._tick(who, role, command)
            case "reveal":
                return self._reveal(who, role, command)
            case "keep" | "restore":
                return self._choose(who, role, command)
            case _:
                self._write(who, role, command)
                return ""

    def _decide(self, who: str, role: Role, command: Command) -> str:
        """What is asked of the wait between two drills."""
        with self._lock:
            on, orders = self._on, self._orders
            if on is not None and command.kind not in ("begin_anyway", "end"):
                return f"drill {on.number} is on; abort or clear it first"
            if on is None or command.kind == "end":
                why_not = self._decided(who, role, command)
                if why_not or command.kind == "skip":
                    return why_not
        if on is not None and command.kind == "begin_anyway":
            return self._order(who, role, command)
        # Where no wait goes on the day looks at what was decided before it waits again. The lock is not held: the loop
        # that answers shows what the desk knows.
        if orders is not None:
            orders.ask("proceed" if on is None else "abort", who)
        return ""

    def _decided(self, who: str, role: Role, command: Command) -> str:
        if self.ended:
            return "the game day is being closed"
        if command.kind == "end":
            self.ended = True
            self._write(who, role, command)
            return ""
        if self.next is not None:
            return f"drill {self.next.drill.number} is about to begin"
        if command.kind == "inject":
            try:
                drill, planned = self._another(command.text, self._number + 1)
            except HarnessError as error:
                return f"{error}; {error.hint}" if error.hint else str(error)
            self._number += 1
            self._drills.append(drill)
            self.next = Next(drill=drill, planned=planned, who=who, ad_hoc=True)
        elif not self._todo:
            return "no drill is left: type end, or inject something"
        else:
            drill, planned = self._todo.pop(0)
            if command.kind != "skip":
                self.next = Next(drill=drill, planned=planned, who=who, anyway=command.kind == "begin_anyway")
        self._write(who, role, command, drill.number)
        return ""

    def _order(self, who: str, role: Role, command: Command) -> str:
        """What is asked of the experiment that is going on. An abort in a wait goes the whole way as well, and a drill
        that is about to begin does not."""
        with self._lock:
            orders = self._orders
            if command.kind == "abort" and self._taken_back():
                self._write(who, role, command)
                return ""
        if orders is None:
            return IN_BETWEEN
        why_not = orders.ask(_DRILL_ORDERS[command.kind], who, command.seconds or 0.0)
        if not why_not:
            self._write(who, role, command)
        return why_not

    def choose(self, fault: str, left: str, hurry: Callable[[], bool] = lambda: False) -> Chosen:
        """Ask people what is to become of what an undo has found; see People. Called by the run. hurry: nobody will
        answer any more."""
        with self._lock:
            blind = self._on is not None and self._on.blind
            self._question = left
            self._chosen = Chosen()
            self._answered.clear()
        what = "something of this drill" if blind else left
        self._say(f"{what}\ntype keep (it stays as it is), or restore; after {QUESTION_S:g} s the day ends with it")
        until = monotonic() + QUESTION_S
        while not self._answered.wait(0.1) and monotonic() < until and not self.ended and not hurry():
            pass
        with self._lock:
            self._question = ""
            return self._chosen

    def _choose(self, who: str, role: Role, command: Command) -> str:
        with self._lock:
            if not self._question or self._answered.is_set():
                return "nothing was asked"
            self._chosen = Chosen(choice="keep" if command.kind == "keep" else "restore", who=who)
            self._write(who, role, command)
            self._answered.set()
        return ""

    def _taken_back(self) -> bool:
        """Whether a drill was about to begin; it is the next one again, one that nobody had planned is forgotten."""
        taken, self.next = self.next, None
        if taken is not None and not taken.ad_hoc:
            self._todo.insert(0, (taken.drill, taken.planned))
        return taken is not None

    def _tick(self, who: str, role: Role, command: Command) -> str:
        number = command.what or 0
        if not 1 <= number <= len(self.plan.prerequisites):
            many = len(self.plan.prerequisites)
            return f"there {'is one prerequisite' if many == 1 else f'are {many} prerequisites'}"
        self._write(who, role, command)
        return ""

    def _reveal(self, who: str, role: Role, command: Command) -> str:
        with self._lock:
            hidden = [number for number in self.hidden if self._on is None or number != self._on.number]
            if not hidden and self._on is not None and self._on.blind:
                return "wait for the end of the drill"
            if not hidden:
                return "nothing is hidden"
            for number in hidden:
                self._write(who, role, command, number)
                self._revealed(number)
                drill = self.plan.drills[number - 1]
                self._say(f"drill {number} was {drill.name}: {', '.join(drill.faults) or 'nothing was broken'}")
        return ""

    @property
    def hidden(self) -> list[int]:
        """Numbers of blind drills that were begun and not revealed."""
        with self._lock:
            begun = {act.drill for act in self.acts if act.kind == "started"}
            revealed = {act.drill for act in self.acts if act.kind == "reveal"}
            return [d.number for d in self.plan.drills if d.blind and d.number in begun - revealed]

    def board(self, *, hidden: bool) -> Board:
        """What people look at. hidden: of a blind drill that is not revealed nothing is shown."""
        with self._lock:
            at, live, on = monotonic() - self._zero, self.live, self._on
            secret = set(self._blind()) if hidden else set()
            veiled = on is not None and on.number in secret
            known = live if live is not None and not veiled else None
            aborted = next((act.at for act in self.acts if act.kind == "abort"), None)
            first = next((act.at for act in self.acts if act.kind == "started"), None)
            return Board(
                title=self.plan.title,
                at=at,
                on=on.number if on is not None else None,
                on_name="" if on is None else "blind" if veiled else on.name,
                phase=known.phase if known is not None else "",
                phase_at_s=known.phase_at_s if known is not None else 0.0,
                phase_left_s=known.phase_left_s if known is not None else None,
                message=known.message if known is not None else "",
                numbers=live.numbers if live is not None else None,
                limits=known.limits if known is not None else {},
                faults=known.faults if known is not None else (),
                seen=self._sparks.seen(at),
                drills=tuple(self._row(drill, drill.number in secret) for drill in self._drills),
                prerequisites=tuple(self._prerequisite(*one) for one in enumerate(self.plan.prerequisites, start=1)),
                acts=tuple(self._act(act, secret) for act in self.acts[-LAST_ACTS:]),
                actions=tuple(
                    ActionRow(text=act.text, owner=act.owner, due=act.due, severity=act.severity)
                    for act in self.acts
                    if act.kind == "action"
                )[-LAST_ACTIONS:],
                question="" if hidden else self._question,
                # What a drill expects names what it breaks; what is active anybody can see elsewhere, too.
                alerts=_active(self._alerts) if veiled else self._alerts,
                counters={} if veiled or secret else self._counters,
                may=may_now(on is not None, live, todo=bool(self._todo), ended=self.ended)
                if not hidden
                else ("abort",),
                ended=self.ended,
                abort_tried=aborted is not None and (first is None or aborted < first),
            )

    def _blind(self) -> list[int]:
        """Numbers of blind drills that are not revealed, begun or not."""
        revealed = {act.drill for act in self.acts if act.kind == "reveal"}
        return [drill.number for drill in self.plan.drills if drill.blind and drill.number not in revealed]

    def _row(self, drill: DrillPlan, secret: bool) -> DrillRow:
        left = {one.number for one, _ in self._todo}
        kinds = {act.kind for act in self.acts if act.drill == drill.number}
        status = "over" if "over" in kinds else "on" if "started" in kinds else "skipped" if "skip" in kinds else ""
        if not status:
            status = "next" if left and drill.number == min(left) else "planned"
        if drill.number in self._answers and not secret:
            status = self._answers[drill.number]
        return DrillRow(
            number=drill.number,
            name="blind" if secret else drill.name,
            faults="" if secret else ", ".join(drill.faults),
            status=status,
            blind=drill.blind,
            hypothesis="" if secret else drill.hypothesis,
            expect="" if secret else drill.expect,
        )

    def _prerequisite(self, number: int, text: str) -> PrerequisiteRow:
        ticked = next((act for act in self.acts if act.kind == "tick" and act.what == number), None)
        return PrerequisiteRow(number=number, text=text, ticked_by=ticked.who if ticked is not None else "")

    def _act(self, act: Act, secret: set[int]) -> ActRow:
        moment = moment_of(act)
        # What was injected without a plan is told to nobody from whom drills are hidden: it may be the next one's.
        said = "begins an unplanned drill" if secret and act.kind == "inject" else moment.said
        return ActRow(at=act.at, kind=act.kind, who=act.who, said=said)

    # -- what the day tells it ---------------------------------------------------------------------------------

    def shows(
        self,
        live: LiveState,
        alerts: dict[str, str] | None = None,
        counters: dict[str, dict[str, float]] | None = None,
    ) -> None:
        """As the experiment or the wait is now. alerts, counters: see Board; of a dependency that was not read this
        time the last reading stays."""
        with self._lock:
            self.live, self._alerts = live, alerts or {}
            self._counters |= {name: read for name, read in (counters or {}).items() if read}
            self._sparks.add(monotonic() - self._zero, live.numbers)

    def judged(self, number: int, answer: str) -> None:
        with self._lock:
            self._answers[number] = answer

    def console_lost(self) -> bool:
        """Nobody may be there to end it: what is on is undone, and the load goes on. True where something was on; a
        drill that has come to its end, and is only not told to be over yet, was not aborted."""
        with self._lock:
            on, orders = self._on, self._orders
        if on is None or orders is None or orders.ask("abort", "the harness: its console was lost") == OVER:
            return False
        self._harness("abort", on.number, text="console lost")
        return True

    def waits(self, orders: Orders) -> bool:
        """People decide what comes next. False when they have already."""
        with self._lock:
            self._on = None
            if self.ended or self.next is not None:
                return False
            self._orders = orders
            return True

    def begins(self) -> Next | None:
        """What people have decided, once; from now on that drill is on."""
        with self._lock:
            found, self.next, self._orders = self.next, None, None
            self._on = found.drill if found is not None else None
            return found

    def starts(self, begun: Next, directory: str, orders: Orders) -> None:
        with self._lock:
            self._on, self._orders = begun.drill, orders
            text = begun.drill.name if begun.ad_hoc else ""
            self._harness("started", begun.drill.number, directory=directory, text=text)

    def over(self, number: int, t0: float) -> None:
        """t0: CLOCK_MONOTONIC, at which the drill's own clock was at 0. Orders find nothing that is on any more."""
        with self._lock:
            self._on = self._orders = None
            if self.live is not None:
                # What is shown until the wait shows itself must not name what a blind drill has broken.
                self.live = replace(self.live, phase="", phase_left_s=None, faults=(), message="")
            self._alerts = _active(self._alerts)
            self._harness("over", number, seconds=round(t0 - self._zero, 3))

    def close(self) -> None:
        with self._lock:
            self._orders = None
            self._harness("closed")

    @property
    def left(self) -> tuple[DrillPlan, ...]:
        with self._lock:
            return tuple(drill for drill, _ in self._todo)

    @property
    def on(self) -> DrillPlan | None:
        return self._on

    # -- what is written ---------------------------------------------------------------------------------------

    def _harness(
        self, kind: str, drill: int | None = None, *, directory: str = "", seconds: float | None = None, text: str = ""
    ) -> None:
        act = Act(at=0.0, wall="", who="harness", role="harness", kind=kind, drill=drill)  # type: ignore[arg-type]
        self._append(replace(act, directory=directory, seconds=seconds, text=text))

    def _write(self, who: str, role: Role, command: Command, drill: int | None = None) -> None:
        on = self._on
        act = Act(
            at=0.0,
            wall="",
            who=who,
            role=role,
            kind=command.kind,
            drill=drill if drill is not None else on.number if on is not None else self._talked_of(command),
            text=command.text,
            seconds=command.seconds,
            what=command.what,
            owner=command.owner,
            due=command.due,
            severity=command.severity,
        )
        self._append(act)

    def _talked_of(self, command: Command) -> int | None:
        """In the pause after a drill people talk of that one."""
        if command.kind not in ("observed", "action", "note", "mark"):
            return None
        return next((act.drill for act in reversed(self.acts) if act.kind == "started"), None)

    def _append(self, act: Act) -> None:
        with self._lock:
            act = replace(act, at=round(monotonic() - self._zero, 2), wall=wall())
            self.acts.append(act)
            try:
                append_line(self._path, encode_line(act))
            except OSError as error:
                self._say(f"{PEOPLE} cannot be written: {error.strerror}")


def _active(alerts: dict[str, str]) -> dict[str, str]:
    return {name: state for name, state in alerts.items() if state not in QUIET}
