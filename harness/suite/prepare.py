"""From a suite that is asked for to the plans of its experiments, before anything is touched."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterator, Sequence
from fnmatch import fnmatchcase

import msgspec
from msgspec.structs import replace

from harness.adapters.processes.start_command import reset_command
from harness.conductor.prepare import Ground, Planned, ground
from harness.config.file import Configuration
from harness.fault import registered
from harness.model.errors import HarnessError, UsageError
from harness.model.records.load import Locustfile
from harness.model.records.many_runs.suite import NOT_CHOSEN, SuiteResult
from harness.model.records.plan import Plan
from harness.model.units import format_duration
from harness.plan.consent import harm_of
from harness.plan.experiment import OPTIONS, Experiment
from harness.plan.phases import MIN_HOLD_S, sharing, shortest_run
from harness.plan.suite.declared import declared_names, must_hold, own_targets, undecided, with_lengths
from harness.plan.suite.items import Item, Left, Suite, experiment_of
from harness.plan.suite.profile import NOT_OURS, profile
from harness.plan.suite.suite_file import SuiteFile
from harness.plan.suite.suite_plan import PlannedExperiment, SuitePlan

BETWEEN_S = 5.0
"""From the end of one experiment to the baseline of the next, as a rule: surplus users leave, writes are read back."""


class PlannedItem(msgspec.Struct, frozen=True, kw_only=True):
    item: Item
    plan: Plan

    @property
    def own_load(self) -> bool:
        """It shares no load with others: it says itself what its own is, or that one jumps."""
        return self.item.own_load or self.plan.load.jump_from is not None


class PlannedSuite(msgspec.Struct, frozen=True, kw_only=True):
    """base: a control run on the same load, and the stack it is for. items: in the order in which they will run.
    another: plans one that was not asked for beforehand, where that is possible; see planned_item."""

    suite: Suite
    base: Planned
    items: tuple[PlannedItem, ...]
    another: Callable[[Item], PlannedItem] | None = None

    @property
    def seconds(self) -> float:
        """What it takes where every target recovers at once and no phase has to go on."""
        return sum(self._starts) + sum(shortest_run(sharing(one.plan.phases)) + BETWEEN_S for one in self.items)

    @property
    def _starts(self) -> Iterator[float]:
        """What the start of each load takes until the first experiment on it."""
        shared = False
        for one in self.items:
            if one.own_load or not shared:
                yield (one.plan if one.own_load else self.base.plan).phases.warmup_s + MIN_HOLD_S
            shared = not one.own_load

    @property
    def envelope(self) -> Plan:
        """A plan with the faults of all: what the session has to lock."""
        faults = tuple(fault for one in self.items for fault in one.plan.faults)
        return replace(self.base.plan, faults=faults)

    @property
    def _reset(self) -> str:
        if self.base.plan.stack != "external":
            return "it is started again, and the rest goes on"
        if self.base.declared_reset is None:
            return (
                "the rest is not run, unless it is well without load ([suite] reset in harness.toml declares a command)"
            )
        try:
            return f"`{shlex.join(reset_command(*self.base.declared_reset).argv)}` is run, and the rest goes on"
        except HarnessError as error:
            return f"run will refuse this: {error}"

    def check(self) -> None:
        """See Planned."""
        replace(self.base, plan=self.envelope).check()
        if self.base.declared_reset is not None:
            reset_command(*self.base.declared_reset)

    @property
    def told(self) -> SuitePlan:
        """For people and programs, with what a run would refuse among its warnings."""
        plans = [(one.item, one.plan) for one in self.items]
        own = {one.item.name for one in self.items if one.own_load}
        usual = {target.text for target in self.base.plan.targets if target.primary}
        names = declared_names(self.base.experiment, [one.item for one in self.items])
        refused = self.base.told.warnings[: -len(self.base.plan.warnings) or None]
        return SuitePlan(
            name=self.suite.name,
            profile=self.suite.profile,
            seconds=self.seconds,
            experiments=tuple(
                PlannedExperiment(
                    name=item.name,
                    seconds=shortest_run(sharing(plan.phases)) + BETWEEN_S,
                    weight=item.weight,
                    own_load=item.name in own,
                    may_fail=item.may_fail,
                    must_hold=must_hold(item, plan),
                    targets=tuple(t.text for t in plan.targets if t.primary and t.text not in usual),
                    plan=plan,
                )
                for item, plan in plans
            ),
            reset=self._reset,
            left=self.suite.left,
            undecided=tuple(undecided(plans, names)),
            warnings=tuple(dict.fromkeys([*refused, *(text for _, plan in plans for text in plan.warnings)])),
            base=self.base.plan,
        )


def plan_suite(
    shared: Experiment,
    configuration: Configuration | None,
    *,
    file: SuiteFile | None = None,
    profile_name: str = "standard",
    only: Sequence[str] = (),
    look: Callable[[Ground, Experiment], Locustfile] = Ground.look,
) -> PlannedSuite:
    """shared: the settings of all its experiments. file: what it consists of; else the profile of that name.

    Executes the locustfile in a child to describe it, and touches nothing else. Raises UsageError.
    """
    on = ground(shared, configuration)
    suite = _suite(on, shared, file, profile_name)
    locustfile = look(on, shared)
    control = replace(shared, faults=("none",))
    base = Planned(experiment=control, plan=on.plan(control, lambda: locustfile), stack=on.stack, running=on.running)
    chosen, left = _chosen(suite, only)
    shared = with_lengths(shared, suite.shared, base.plan.load, declared_names(shared, suite.items))

    def another(item: Item) -> PlannedItem:
        return planned_item(item, on, shared, base.plan, locustfile)

    items: list[PlannedItem] = []
    for item in chosen:
        one = another(item)
        if not_allowed(item, one.plan, file):
            left += (Left(name=item.name, why=NOT_OURS),)
        elif one.own_load and one.plan.load.remote is not None:
            raise UsageError(
                f"experiment {item.name}: it has a load of its own, and workers of other machines wait for one load",
                hint="run it alone: harness run",
            )
        else:
            items.append(one)
    if not items:
        raise UsageError(
            f"nothing is left of the suite: {left[-1].name}: {left[-1].why}",
            hint=f"allow: [{left[-1].name}] in the suite file, if it may be done all the same",
        )
    return PlannedSuite(suite=replace(suite, left=(*suite.left, *left)), base=base, items=tuple(items), another=another)


def planned_item(item: Item, on: Ground, shared: Experiment, base: Plan, locustfile: Locustfile) -> PlannedItem:
    """One experiment of those that share settings, and the load of base unless it says otherwise. Raises UsageError."""
    try:
        experiment = replace(experiment_of(item, shared), seed=base.seed)
        plan = on.plan(experiment, lambda: locustfile)
        targets, warnings = own_targets(item, plan)
        if targets:
            plan = on.plan(replace(experiment, targets=(*experiment.targets, *targets)), lambda: locustfile)
    except UsageError as error:
        if error.field is not None and error.field not in item.settings:
            # Of all experiments, or said by an option: that is named first.
            error.message = f"{error.message} (experiment {item.name})"
            raise
        option = OPTIONS.get(error.field or "")
        said = f"{option.key}{error.lead or ': '}{error.message}" if option is not None else str(error)
        raise type(error)(f"experiment {item.name}: {said}", hint=error.hint) from error
    own_load = item.own_load or plan.load.jump_from is not None
    plan = replace(
        plan,
        load=plan.load if own_load else replace(base.load, limits_ms=plan.load.limits_ms),
        may_fail_with=_may_fail_with(item, plan),
        warnings=(*plan.warnings, *warnings),
    )
    return PlannedItem(item=item, plan=plan)


def broken_first(planned: PlannedSuite, last: SuiteResult) -> PlannedSuite:
    """Where time is short: what was broken last time comes first, then what nobody knew."""
    rank = {"broken": 0, "unknown": 1, "not_run": 1, "held": 2}
    before = {one.name: rank[one.outcome] for one in last.experiments}
    items = sorted(planned.items, key=lambda one: before.get(one.item.name, 1))
    return replace(planned, items=tuple(items))


def _suite(on: Ground, shared: Experiment, file: SuiteFile | None, profile_name: str) -> Suite:
    ours = on.stack.name != "external"
    if file is None:
        return profile(profile_name, on.dependencies, registered(), ours=ours)
    made = profile(file.profile, on.dependencies, registered(), ours=ours, allow=file.allow) if file.profile else None
    items = {item.name: item for item in (made.items if made is not None else ())}
    items |= {item.name: item for item in file.items}
    known = {*items, *(one.name for one in (made.left if made is not None else ()))}
    for key, names in (("exclude", file.exclude), ("allow", file.allow)):
        if wrong := [name for name in names if name not in known]:
            raise UsageError(f"{file.where(key)}: the suite has no experiment {wrong[0]!r}")
    left = tuple(Left(name=name, why=why) for name, why in file.exclude.items())
    return Suite(
        name=file.title or (made.name if made is not None else "suite"),
        profile=file.profile,
        items=tuple(item for name, item in items.items() if name not in file.exclude),
        left=(*(one for one in (made.left if made is not None else ()) if one.name not in items), *left),
        shared=made.shared if made is not None else {},
    )


def _chosen(suite: Suite, only: Sequence[str]) -> tuple[tuple[Item, ...], tuple[Left, ...]]:
    """Those whose name fits one of the patterns; all, where none is given."""
    chosen = tuple(item for item in suite.items if not only or any(fnmatchcase(item.name, one) for one in only))
    if not chosen:
        names = ", ".join(item.name for item in suite.items[:8])
        wrong = f"--only: no experiment fits {', '.join(only)}" if only else "the suite is empty"
        raise UsageError(wrong, hint=f"there are for example {names}" if names else "list some")
    left = (Left(name=item.name, why=NOT_CHOSEN) for item in suite.items if item not in chosen)
    return chosen, tuple(left)


def not_allowed(item: Item, plan: Plan, file: SuiteFile | None) -> bool:
    """Whether it does to a stack that is not ours what nobody can undo, and the suite does not say that it may."""
    if plan.stack != "external" or (file is not None and item.name in file.allow):
        return False
    faults = registered()
    return any(harm_of(faults[one.spec.kind], one.change) for one in plan.faults)


def _may_fail_with(item: Item, plan: Plan) -> dict[str, tuple[str, ...]]:
    """With what is expected of this experiment: its faults are on these dependencies."""
    hit = {fault.spec.dependency for fault in plan.faults}
    expected = {name: tuple(sorted({*plan.may_fail_with.get(name, ()), *hit})) for name in item.may_fail}
    return {**plan.may_fail_with, **expected}


def told_length(planned: PlannedSuite, done: Collection[str] = ()) -> str:
    """done: names of those that are not carried out once more."""
    left = [one for one in planned.items if one.item.name not in done]
    many = f"{len(left)} of {len(planned.items)}" if done else f"{len(left)}"
    long = format_duration(round(replace(planned, items=tuple(left)).seconds))
    return f"{many} experiment{'' if many == '1' else 's'}, about {long}"
