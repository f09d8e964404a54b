"""A game day's plan for people: what each drill would break, for how long, and what is believed of it."""

from __future__ import annotations

from collections.abc import Iterable

from harness.model.records.many_runs.gameday import DrillPlan
from harness.model.units import format_duration
from harness.plan.gameday.told import GameDayTold
from harness.plan.suite.suite_plan import PlannedExperiment
from harness.report.sentences.text import visible
from harness.report.terminal.plan import load_text, wrapped


def gameday_plan_text(day: GameDayTold, *, width: int = 100) -> str:
    """For the operator: it names what blind drills would break."""
    many = f"{len(day.drills)} drill{'' if len(day.drills) == 1 else 's'}"
    long = format_duration(round(day.seconds))
    title = f"{visible(day.title, 100)}: {many}, about {long} with the pauses if the target recovers at once each time"
    people = [f"  {role:<10} {_list(names)}" for role, names in day.roles.items()]
    before = [wrapped(f"  {number:>3} ", visible(one, 500), width) for number, one in enumerate(day.prerequisites, 1)]
    planned = day.suite.experiments
    same = len({drill.targets for drill in day.drills}) == 1
    blocks = [
        load_text(day.suite.base, width, title),
        "\n".join(["People", *people]) if people else "",
        "\n".join(["Before the first drill, ticked one by one", *before]) if before else "",
        wrapped("Targets of every drill: ", _list(day.drills[0].targets), width) if same else "",
        "Drills, in this order",
        *(_drill(drill, one, width, targets=not same) for drill, one in zip(day.drills, planned, strict=True)),
        wrapped("Where the target does not come back by itself: ", visible(day.suite.reset, 500), width),
    ]
    warnings = [wrapped("  - ", visible(text, 1000), width) for text in day.suite.warnings]
    blocks.append("\n".join(["Notes", *warnings]) if warnings else "")
    return "\n\n".join(block for block in blocks if block)


def _drill(drill: DrillPlan, one: PlannedExperiment, width: int, *, targets: bool) -> str:
    blind = " (blind: the responders are not told what is broken)" if drill.blind else ""
    lines = [f"  {drill.number:>3} {visible(drill.name, 100)}{blind}"]
    said = [*_of(drill, one), ("targets", _list(drill.targets) if targets else "")]
    return "\n".join([*lines, *(wrapped(f"        {what:<11} ", text, width) for what, text in said if text)])


def _of(drill: DrillPlan, one: PlannedExperiment) -> Iterable[tuple[str, str]]:
    phases = one.plan.phases
    yield "breaks", _list(drill.faults) or "nothing: a control drill"
    yield "of", _list(drill.dependencies)
    yield (
        "takes",
        f"pause {_d(drill.pause_s)}, baseline {_d(phases.baseline_s)}, fault {_d(phases.fault_s)}, "
        f"hold {_d(phases.hold_s)}; {_d(round(drill.seconds))} without the pause",
    )
    yield "believed", visible(drill.hypothesis, 500)
    yield "to be seen", visible(drill.expect, 500)
    yield "may fail", _list(one.may_fail)
    yield "must hold", _list(one.must_hold)
    yield "alerts", _list(drill.alerts)
    yield "stops when", _list(drill.abort_if)


def _list(names: Iterable[str]) -> str:
    return ", ".join(visible(name, 100) for name in names)


def _d(seconds: float) -> str:
    return format_duration(seconds)
