"""The fault that is none: the control run. It has a name in the catalogue and touches no dependency."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from harness.fault import ParamInfo, Stage
from harness.model.errors import Refused
from harness.model.records.faults import Applied, Change, Dependency, Evidence, UndoRecord


class Control:
    """`--fault none` conducts the same phases with nothing injected; as the fault of a dependency it is refused."""

    kind = "none"
    summary = "nothing: the control run, with the same phases and the same verdict"
    undo_summary = "there is nothing to undo"
    proof_summary = "there is nothing to prove"
    needs: Literal["nothing"] = "nothing"
    one_shot = False
    params: tuple[ParamInfo, ...] = ()

    def plan(self, dependency: Dependency, params: Mapping[str, Any]) -> Change:
        raise Refused(f"{dependency.name}-none is no fault", hint="the control run is --fault none")

    def capture(self, change: Change, record_id: str) -> UndoRecord:
        raise Refused("the control run changes nothing")

    def inject(self, record: UndoRecord) -> Applied:
        raise Refused("the control run changes nothing")

    def prove(self, record: UndoRecord, stage: Stage) -> tuple[Evidence, ...]:
        return ()

    def undo(self, record: UndoRecord) -> Applied:
        raise Refused("the control run changes nothing")

    def verify_undone(self, record: UndoRecord) -> tuple[Evidence, ...]:
        return ()


NONE = Control()
