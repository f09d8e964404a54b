"""pause, kill and restart by what runs the server: its processes (process.py) or a container (container_state.py)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from faults.common.server_processes import mend
from faults.runtime import processes as process
from faults.runtime.containers import ContainerKill, ContainerPause, ContainerRestart
from harness.fault import ParamInfo, Stage
from harness.model.records.faults import Applied, Change, Dependency, Evidence, UndoRecord


class ByRuntime:
    """One kind of fault for both. The records tell which one it was."""

    needs: Literal["runtime"] = "runtime"

    def __init__(self, of_process: process.Pause | process.Kill, of_container: ContainerPause | ContainerKill) -> None:
        self._process = of_process
        self._container = of_container
        self.kind: str = of_process.kind
        self.summary: str = of_process.summary
        self.undo_summary: str = of_process.undo_summary
        self.proof_summary: str = of_process.proof_summary
        self.one_shot: bool = of_process.one_shot
        self.params: tuple[ParamInfo, ...] = of_process.params

    def plan(self, dependency: Dependency, params: Mapping[str, Any]) -> Change:
        return self._side(dependency).plan(dependency, dict(params))

    def capture(self, change: Change, record_id: str) -> UndoRecord:
        return self._side(change.dependency).capture(change, record_id)

    def inject(self, record: UndoRecord) -> Applied:
        return self._side(record.dependency).inject(record)

    def prove(self, record: UndoRecord, stage: Stage) -> tuple[Evidence, ...]:
        return self._side(record.dependency).prove(record, stage)

    def undo(self, record: UndoRecord) -> Applied:
        return self._side(record.dependency).undo(record)

    def verify_undone(self, record: UndoRecord) -> tuple[Evidence, ...]:
        return self._side(record.dependency).verify_undone(record)

    def by_hand(self, record: UndoRecord) -> str:
        side = self._side(record.dependency)
        return mend(record.dependency) if isinstance(side, process.Pause | process.Kill) else side.by_hand(record)

    def _side(self, dependency: Dependency) -> process.Pause | process.Kill | ContainerPause | ContainerKill:
        return self._container if dependency.runtime == "container" else self._process


PAUSE = ByRuntime(process.PAUSE, ContainerPause())
KILL = ByRuntime(process.KILL, ContainerKill())
RESTART = ByRuntime(process.RESTART, ContainerRestart())
