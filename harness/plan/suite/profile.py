"""The suites that are made from the declared dependencies and what can be done to each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from harness.model.errors import UsageError, unknown
from harness.model.records.faults import Change, Dependency, FaultSpec, Scalar
from harness.plan.consent import FaultDescription, harm_of, planned
from harness.plan.fault_text import decode_params
from harness.plan.suite.items import CONTROL, Item, Left, Suite, one

Profile = Literal["quick", "standard"]
PROFILES = ("quick", "standard")

QUICK = ("down", "hang", "latency", "kill")
QUICK_FRONTED = ("status",)
"""Of an HTTP upstream behind an Envoy: what nothing below HTTP can play, and no more, for the suite is to be quick."""
STANDARD = ("down", "hang", "latency", "reset", "pause", "kill", "restart")
OF_TARGET = ("kill", "pause")
PARAMS = {"latency": "latency=300ms"}
NOT_OURS = "it cannot be undone, and the stack is not ours"
NOT_ALLOWED = 'it cannot be undone, and allow = ["{kind}"] is not in [dependencies.{name}] of harness.toml'
QUICK_LENGTHS = {"baseline_s": 15.0, "fault_s": 10.0}


def profile(
    name: str,
    dependencies: Sequence[Dependency],
    faults: Mapping[str, FaultDescription],
    *,
    ours: bool,
    allow: Sequence[str] = (),
) -> Suite:
    """The suite of that name. ours: the harness has started the stack, so that data may be lost on it. allow: faults
    that may lose data, or move roles, on one that is not. Raises UsageError for an unknown name."""
    if name not in PROFILES:
        raise unknown("profile", name, PROFILES, field="profile")
    items: list[Item] = []
    left: list[Left] = []
    for one_of in (each for each in dependencies if not each.target):
        for kind in kinds_for(name, one_of, faults):
            fault = f"{one_of.name}-{kind}"
            change = _change(faults[kind], one_of)
            if not ours and change is not None and harm_of(faults[kind], change) and fault not in allow:
                left.append(Left(name=fault, why=NOT_OURS))
            elif change is not None and not possible(faults[kind], one_of):
                left.append(Left(name=fault, why=NOT_ALLOWED.format(kind=kind, name=one_of.name)))
            elif change is not None:
                items.append(one(fault, f"{fault}:{PARAMS[kind]}" if kind in PARAMS else fault))
            else:
                left.append(Left(name=fault, why=f"it cannot be done to {one_of.name} as it is declared"))
    if name == "standard":
        for target in (each for each in dependencies if each.target):
            items += [
                one(f"{target.name}-{kind}", f"{target.name}-{kind}")
                for kind in OF_TARGET
                if kind in faults and possible(faults[kind], target)
            ]
    items.append(one(CONTROL, "none"))
    shared = dict(QUICK_LENGTHS) if name == "quick" else {}
    return Suite(name=f"{name} suite", profile=name, items=tuple(items), left=tuple(left), shared=shared)


def kinds_for(name: str, dependency: Dependency, faults: Mapping[str, FaultDescription]) -> tuple[str, ...]:
    """Kinds of fault that a profile has for a dependency, in order: of the standard one also the protocol's own."""
    if name == "quick":
        kinds = QUICK if dependency.front is None else QUICK_FRONTED
        return tuple(kind for kind in kinds if kind in faults)
    own = sorted(
        kind for kind, fault in faults.items() if fault.needs in ("server", "front") and _change(fault, dependency)
    )
    return (*(kind for kind in STANDARD if kind in faults), *own)


def possible(fault: FaultDescription, dependency: Dependency, *, told: bool = False) -> bool:
    """Whether planning accepts the pair with its default parameters. told: names that have no default, because only a
    person knows them (a table), will be given."""
    names = {one.name: "NAME" for one in fault.params if told and one.unit == "name" and not one.default}
    return refusal(fault, dependency, names) is None


def refusal(
    fault: FaultDescription, dependency: Dependency, names: Mapping[str, str] | None = None
) -> UsageError | None:
    """Why planning does not: the fault itself is the only judge of that. None where it does."""
    try:
        planned(fault, dependency, _defaults(fault, dependency, names))
    except UsageError as error:
        return error
    return None


def _change(fault: FaultDescription, dependency: Dependency) -> Change | None:
    """What it would do there, allowed or not; None where it cannot be had, of which the fault is the only judge."""
    try:
        return fault.plan(dependency, _defaults(fault, dependency))
    except UsageError:
        return None


def _defaults(
    fault: FaultDescription, dependency: Dependency, names: Mapping[str, str] | None = None
) -> dict[str, Scalar]:
    spec = FaultSpec(
        name=f"{dependency.name}-{fault.kind}", dependency=dependency.name, kind=fault.kind, params=dict(names or {})
    )
    return decode_params(spec, fault.params)
