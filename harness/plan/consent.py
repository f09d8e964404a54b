"""What nobody can undo is done to somebody else's system only where its owner has said that it may be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from harness.model.errors import Refused
from harness.model.records.faults import HARMFUL, Change, Dependency, ParamInfo, Trait


class FaultDescription(Protocol):
    """What planning needs of a fault."""

    @property
    def kind(self) -> str: ...

    @property
    def needs(self) -> str: ...

    @property
    def one_shot(self) -> bool: ...

    @property
    def params(self) -> tuple[ParamInfo, ...]: ...

    def plan(self, dependency: Dependency, params: Mapping[str, Any]) -> Change: ...


_HARM: Mapping[Trait, str] = {
    "loses_data": "what {name} holds would be lost for good",
    "moves_roles": "another member of the cluster of {name} would lead, and nobody moves that back",
}


def harm_of(fault: FaultDescription, change: Change) -> list[Trait]:
    """What of it nobody can undo: the traits of this change, and those that the fault has on everything."""
    return sorted(HARMFUL & {*change.traits, *getattr(fault, "traits", ())})


def planned(fault: FaultDescription, dependency: Dependency, params: Mapping[str, Any]) -> Change:
    """As the fault itself plans it. Raises Refused also where its harm is not allowed on this dependency."""
    change = fault.plan(dependency, params)
    harm = harm_of(fault, change) if dependency.external and fault.kind not in dependency.allow else []
    if harm:
        raise Refused(
            f"{dependency.name}-{fault.kind} cannot be undone, and {dependency.name} is not the harness's own:"
            f" {_HARM[harm[0]].format(name=dependency.name)}",
            hint=f'where that is meant, write allow = ["{fault.kind}"] in [dependencies.{dependency.name}] of'
            " harness.toml",
        )
    return change
