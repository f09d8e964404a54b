"""The suites that are made from the declared dependencies and what can be done to each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from harness.model.errors import UsageError
from harness.model.records.faults import Dependency, FaultSpec
from harness.model.suggest import unknown
from harness.plan.fault_text import decode_params
from harness.plan.suite.items import CONTROL, Item, Left, Suite, one
from harness.plan.timeline import FaultDescription

Profile = Literal["quick", "standard"]
PROFILES = ("quick", "standard")

QUICK = ("down", "hang", "latency", "kill")
STANDARD = ("down", "hang", "latency", "reset", "pause", "kill", "restart")
OF_TARGET = ("kill", "pause")
PARAMS = {"latency": "latency=300ms"}
NOT_OURS = "it cannot be undone, and the stack is not ours"
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
            if not ours and harmful(getattr(faults[kind], "traits", ())) and fault not in allow:
                left.append(Left(name=fault, why=NOT_OURS))
            elif possible(faults[kind], one_of):
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
        return tuple(kind for kind in QUICK if kind in faults)
    own = sorted(kind for kind, fault in faults.items() if fault.needs == "server" and possible(fault, dependency))
    return (*(kind for kind in STANDARD if kind in faults), *own)


def harmful(traits: Iterable[str]) -> bool:
    """What such a fault does to the data or the roles of a cluster nobody can take back."""
    return bool({"loses_data", "moves_roles"} & set(traits))


def possible(fault: FaultDescription, dependency: Dependency) -> bool:
    """Whether planning accepts the pair with its default parameters."""
    return refusal(fault, dependency) is None


def refusal(fault: FaultDescription, dependency: Dependency) -> UsageError | None:
    """Why planning does not: the fault itself is the only judge of that. None where it does."""
    spec = FaultSpec(name=f"{dependency.name}-{fault.kind}", dependency=dependency.name, kind=fault.kind)
    try:
        fault.plan(dependency, decode_params(spec, fault.params))
    except UsageError as error:
        return error
    return None
