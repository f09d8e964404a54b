"""Requests of which something is declared: phases long enough for them, targets of their own, and what stays open."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import msgspec

from harness.model.records.load import LoadPlan
from harness.model.records.plan import Plan
from harness.model.units import format_duration
from harness.plan.experiment import Experiment
from harness.plan.isolation import ALLOWED, isolation_targets
from harness.plan.loadplan import expected_mix, known_share
from harness.plan.phases import HOLD_ARRIVALS, MIN_BASELINE_S, MIN_HOLD_S, on_grid, shortest
from harness.plan.suite.items import BASELINE_S, FAULT_S, Item
from harness.plan.suite.suite_plan import Undecided
from harness.plan.warnings import needed_requests

ENOUGH = 100
"""Planned arrivals of a name: seldom fewer than the 59 that decide it come of so many."""
MOST_S = 60.0
"""No phase is made longer than this for the sake of a name."""


def arrivals_per_s(load: LoadPlan, name: str) -> float | None:
    """Of a request name, as the plan intends it. None in the closed model, and where no task is named like it."""
    share = known_share(load, name)
    return None if load.rate is None or share is None else load.rate * share


def with_lengths(shared: Experiment, own: Mapping[str, float], load: LoadPlan, names: Collection[str]) -> Experiment:
    """shared, with the lengths of baseline, fault and hold that nobody gave. own: those of the suite's profile.

    Each decides at this rate; fault and hold are long enough for ENOUGH arrivals of each of these names that gets as
    many within MOST_S.
    """
    usual = {"baseline_s": BASELINE_S, "fault_s": FAULT_S, **own}
    baseline_s = shortest(max(usual["baseline_s"], MIN_BASELINE_S), load.rate)
    fault_s = shortest(usual["fault_s"], load.rate)
    needed = [ENOUGH / each for name in names if (each := arrivals_per_s(load, name))]
    named_s = on_grid(max((each for each in needed if each <= MOST_S), default=0.0))
    hold_s = shared.hold_s
    if hold_s is None and named_s > shortest(MIN_HOLD_S, load.rate, HOLD_ARRIVALS):
        hold_s = named_s
    return msgspec.structs.replace(
        shared,
        baseline_s=shared.baseline_s if shared.baseline_s is not None else baseline_s,
        fault_s=shared.fault_s if shared.fault_s is not None else max(fault_s, named_s),
        hold_s=hold_s,
    )


def declared_names(shared: Experiment, items: Sequence[Item]) -> tuple[str, ...]:
    """The request names of which harness.toml or the suite says something."""
    said = [*shared.independent_of, *shared.may_fail_with]
    said += [name for item in items for name in (*item.must_hold, *item.may_fail)]
    return tuple(dict.fromkeys(said))


def must_hold(item: Item, plan: Plan) -> tuple[str, ...]:
    """Request names that have to hold in an experiment: those of its own, and those declared independent of what it
    hits, but for what it expects to fail itself."""
    hit = {fault.spec.dependency for fault in plan.faults}
    independent = [name for name, of in plan.independent_of.items() if hit & set(of) and name not in item.may_fail]
    return tuple(dict.fromkeys((*item.must_hold, *independent)))


def own_targets(item: Item, plan: Plan) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Primary targets of the requests that have to hold and can be decided; and a sentence about each of the others."""
    targets: list[str] = []
    warnings: list[str] = []
    for name in must_hold(item, plan):
        why = _too_few(name, plan)
        if why:
            warnings.append(f"{name} has to hold in {item.name}, and has no target of its own: {why}")
        else:
            targets += isolation_targets({name: ("it",)}, {"it"}, plan.targets)
    return tuple(targets), tuple(warnings)


def _too_few(name: str, plan: Plan) -> str:
    """Why it is not known beforehand that so many requests decide it; "" where it is."""
    if plan.load.rate is None:
        return "how many requests the users of the closed model make is not known beforehand"
    each = arrivals_per_s(plan.load, name)
    if each is None:
        return "no task of the locustfile is named like it, so how often it is asked for is not known beforehand"
    planned = each * plan.phases.fault_s
    if planned >= ENOUGH - 1e-6:
        return ""
    return f"about {planned:.0f} requests are planned in {format_duration(plan.phases.fault_s)}, {ENOUGH} are needed"


def undecided(plans: Sequence[tuple[Item, Plan]], names: Collection[str]) -> Iterator[Undecided]:
    """What cannot be decided at the plan's rate, whatever comes: tasks, and of the declared names those that no task is
    named like. Nothing is known of that in the closed model."""
    needed = needed_requests(ALLOWED)
    hit = [(item, plan) for item, plan in plans if plan.faults and plan.load.rate is not None]
    if not hit:
        return
    load = hit[0][1].load
    for task, share in expected_mix(load).items():
        few = [(item.name, (load.rate or 0.0) * share * plan.phases.fault_s) for item, plan in hit]
        few = [(name, planned) for name, planned in few if planned < needed]
        if few and share > 0:
            yield Undecided(
                name=task,
                arrivals=round(max(planned for _, planned in few), 1),
                needed=needed,
                experiments=tuple(name for name, _ in few),
            )
    for name in names:
        if known_share(load, name) is None:
            yield Undecided(name=name, arrivals=None, needed=needed, experiments=tuple(item.name for item, _ in hit))
