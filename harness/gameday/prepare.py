"""From a game day's file to its drills as experiments, before anything is touched."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from harness.config.file import Configuration
from harness.model.errors import UsageError
from harness.model.records.many_runs.gameday import DrillPlan
from harness.plan.experiment import Experiment
from harness.plan.gameday.plan_file import DrillText, GameDayFile
from harness.plan.gameday.told import GameDayTold
from harness.plan.phases import sharing, shortest_run
from harness.plan.suite.items import one
from harness.suite.outcome import command_for
from harness.suite.prepare import PlannedItem, PlannedSuite, not_allowed, plan_suite


class PlannedGameDay(msgspec.Struct, frozen=True, kw_only=True):
    """suite: its drills as experiments, in order. drills: what is told of each."""

    file: GameDayFile
    suite: PlannedSuite
    drills: tuple[DrillPlan, ...]

    def check(self) -> None:
        """See Planned."""
        self.suite.check()

    @property
    def seconds(self) -> float:
        """What it takes with the pauses, where every target recovers at once."""
        return self.suite.seconds + sum(drill.pause_s for drill in self.drills)

    @property
    def told(self) -> GameDayTold:
        """For people and programs, with what a run would refuse."""
        return GameDayTold(
            title=self.file.title,
            seconds=self.seconds,
            roles=self.file.roles,
            prerequisites=self.file.prerequisites,
            drills=self.drills,
            suite=self.suite.told,
        )

    def another(self, text: str, number: int) -> tuple[DrillPlan, PlannedItem]:
        """A drill that nobody planned, of one fault as after --fault. Raises UsageError, Refused."""
        assert self.suite.another is not None
        found = self.suite.another(one(f"unplanned {number}", text))
        if not_allowed(found.item, found.plan, self.file.suite):
            raise UsageError("it cannot be undone, and this stack is not ours", hint="plan it, and name it in `allow`")
        if found.own_load:
            raise UsageError("it has a load of its own, and a game day has one load for all")
        ours = self.suite.base.plan.stack != "external"
        locked = {fault.spec.dependency for fault in self.suite.envelope.faults}
        for fault in found.plan.faults:
            if not ours and fault.spec.dependency not in locked:
                raise UsageError(
                    f"{fault.spec.dependency} is not locked by this game day: another run may be at it",
                    hint="plan a drill of it",
                )
        return _told(DrillText(name=found.item.name), found, number), found


def plan_game_day(file: GameDayFile, shared: Experiment, configuration: Configuration | None) -> PlannedGameDay:
    """Executes the locustfile in a child to describe it, and touches nothing else. Raises UsageError."""
    suite = plan_suite(shared, configuration, file=file.suite)
    if suite.suite.left:
        left = suite.suite.left[0]
        raise UsageError(f"drill {left.name}: {left.why}", hint="name it in `allow`, or leave it out")
    for planned in suite.items:
        if planned.own_load:
            raise UsageError(f"drill {planned.item.name}: its load jumps, and a game day has one load for all")
    texts = {drill.name: drill for drill in file.drills}
    drills = tuple(_told(texts[one.item.name], one, number) for number, one in enumerate(suite.items, start=1))
    return PlannedGameDay(file=file, suite=suite, drills=drills)


def rehearsal(planned: PlannedGameDay, short: Callable[[PlannedItem], PlannedItem]) -> PlannedSuite:
    """The drills as a suite, with short phases."""
    return replace(planned.suite, items=tuple(map(short, planned.suite.items)))


def _told(text: DrillText, planned: PlannedItem, number: int) -> DrillPlan:
    plan = planned.plan
    return DrillPlan(
        number=number,
        name=text.name,
        faults=tuple(dict.fromkeys(fault.spec.text or fault.spec.name for fault in plan.faults)),
        dependencies=tuple(dict.fromkeys(fault.spec.dependency for fault in plan.faults)),
        hypothesis=text.hypothesis,
        expect=text.expect,
        blind=text.blind,
        pause_s=text.pause_s,
        abort_if=plan.abort_if,
        targets=tuple(target.text for target in plan.targets if target.primary),
        alerts=plan.alerts.expected if plan.alerts is not None else (),
        seconds=shortest_run(sharing(plan.phases)),
        command=command_for(planned),
    )
