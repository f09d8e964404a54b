"""The path proofs of a run: which dependency was looked at when, and what that says about each fault on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Literal

from harness.adapters.docker.address import at_present
from harness.adapters.processes import sockets
from harness.conductor.path_proof import outside
from harness.conductor.path_proof.clients import PathSnapshot, snapshot
from harness.conductor.path_proof.evidence import (
    bypass_evidence,
    passed_evidence,
    path_evidence,
    strays_of,
    trouble_of,
    unpassed,
)
from harness.conductor.path_proof.target_processes import family
from harness.dependencies.registry import kind_of
from harness.fault import Fault
from harness.model.errors import HarnessError
from harness.model.records.faults import Dependency, Evidence
from harness.model.records.plan import Plan
from harness.model.records.stack import StackUp

TRIES = 4
BETWEEN_TRIES_S = 0.5
"""A pool that reconnects on a busy machine has no connection for a moment: only a lasting absence proves anything."""

APART_S = 1.0

EvidenceStage = Literal["path", "injected", "held"]


def look_at(dependency: Dependency, up: StackUp | None) -> PathSnapshot:
    """Who is connected to it now. up: tells which processes are the target's. Raises HarnessError."""
    return snapshot(at_present(dependency), target=_target(up) if kind_of(dependency).asks_for_target else ())


def _target(up: StackUp | None) -> frozenset[int]:
    """Its processes, where they are known."""
    if up is None:
        return frozenset()
    try:
        found = family(up.target, up.dependencies, sockets.held())
    except HarnessError:
        return frozenset()
    return found.pids if found is not None else frozenset()


class Paths:
    """evidence: records an observation about a fault. not_proven: says why a fault does not count. no_path: says that
    nothing shows whether the application uses the path, which takes a PASS away and no failure. up: tells which
    processes are the target's."""

    def __init__(
        self,
        plan: Plan,
        faults: Mapping[str, Fault],
        *,
        say: Callable[[str], None],
        evidence: Callable[[str, EvidenceStage, Evidence], None],
        not_proven: Callable[[str, str], None],
        no_path: Callable[[str, str], None] = lambda fault, missing: None,
        up: StackUp | None = None,
    ) -> None:
        self._up = up
        self._say = say
        self._evidence = evidence
        self._not_proven = not_proven
        self._no_path = no_path
        self._faults: dict[str, list[str]] = {}
        self._dependencies: dict[str, Dependency] = {}
        self._on_proxy: set[str] = set()
        self._on_front: set[str] = set()
        for planned in plan.faults:
            dependency = planned.change.dependency
            self._dependencies[dependency.name] = dependency
            self._faults.setdefault(dependency.name, []).append(planned.id)
            needs = faults[planned.spec.kind].needs
            if needs in ("proxy", "front"):
                self._on_proxy.add(planned.id)
            if needs == "front":
                self._on_front.add(planned.id)
        self._last: dict[str, PathSnapshot] = {}

    def first_look(self, dependency: Dependency) -> None:
        """Early in baseline."""
        try:
            self._last[dependency.name] = self._look(dependency)
        except HarnessError as error:
            self._say(f"path proof of {dependency.name}: {error}")

    def _look(self, dependency: Dependency) -> PathSnapshot:
        return look_at(dependency, self._up)

    def prove(self, dependency: Dependency) -> None:
        """Just before the injection: the second look, judged for every fault on this dependency."""
        if dependency.path_assumed:
            return
        if dependency.name not in self._last:
            # It failed, or a busy machine is still at it: two looks this far apart will do.
            self.first_look(dependency)
            time.sleep(APART_S)
        before = self._last.get(dependency.name)
        problem = "nothing could be seen in baseline"
        after = None
        for attempt in range(TRIES):
            if attempt:
                time.sleep(BETWEEN_TRIES_S)
            try:
                after = self._last[dependency.name] = self._look(dependency)
            except HarnessError as error:
                problem = str(error)
            if before is None or (after is not None and _in_use(before, after, dependency)):
                break
        if after is not None and not after.can_tell and not dependency.target:
            self._from_outside(dependency, before, after)
            return
        for fault_id in self._faults[dependency.name]:
            if before is None or after is None:
                self._not_proven(fault_id, f"who uses {dependency.name} could not be looked at: {problem}")
            else:
                self._judge(fault_id, before, after, dependency)

    def _from_outside(self, dependency: Dependency, before: PathSnapshot | None, after: PathSnapshot) -> None:
        """It cannot be asked who uses it: somebody must be seen connected, the target where it is known.

        The target's own path is the load's.
        """
        target, dependencies = (self._up.target, self._up.dependencies) if self._up is not None else (None, ())
        seen = outside.look(at_present(dependency), target, dependencies)
        past = outside.past(dependency, target, dependencies)
        for fault_id in self._faults[dependency.name]:
            if past and fault_id in self._on_proxy:
                self._not_proven(fault_id, f"{outside.reaches_past(seen, dependency)}: {past}")
            elif fault_id in self._on_front:
                passed = passed_evidence(before, after, dependency)
                self._evidence(fault_id, "path", passed)
                if not passed.held:
                    self._not_proven(fault_id, f"{unpassed(dependency)}: {passed.observed}")
            elif seen.ends:
                self._evidence(fault_id, "path", outside.evidence_of(seen, dependency))
            else:
                self._no_path(fault_id, outside.missing_of(seen, dependency))

    def look_again(self, is_on: Callable[[str], bool]) -> None:
        """While faults are on: does anybody use a dependency past the proxy that carries one?

        What cannot be seen is no reason to doubt: another fault may have stopped the dependency itself.
        """
        for name, dependency in self._dependencies.items():
            before = self._last.get(name)
            if before is None or dependency.path_assumed or not self._hurt(name, is_on):
                continue
            try:
                after = self._last[name] = self._look(dependency)
            except HarnessError:
                continue
            evidence = bypass_evidence(before, after, dependency)
            if evidence is None:
                continue
            for fault_id in self._hurt(name, is_on):
                self._evidence(fault_id, "held", evidence)
                if not evidence.held:
                    self._not_proven(
                        fault_id, f"while it was on the target reached {name} past the proxy: {evidence.observed}"
                    )

    def _hurt(self, name: str, is_on: Callable[[str], bool]) -> list[str]:
        """Faults that are on this dependency's proxy now."""
        return [fault for fault in self._faults[name] if fault in self._on_proxy and is_on(fault)]

    def _judge(self, fault_id: str, before: PathSnapshot, after: PathSnapshot, dependency: Dependency) -> None:
        on_proxy = fault_id in self._on_proxy
        evidence = path_evidence(before, after, dependency, on_proxy=on_proxy)
        if evidence is None:
            return
        self._evidence(fault_id, "path", evidence)
        if evidence.held:
            return
        how = trouble_of(before, after, dependency, on_proxy=on_proxy)
        self._not_proven(fault_id, f"{how}: {evidence.observed}")


def _in_use(before: PathSnapshot, after: PathSnapshot, dependency: Dependency) -> bool:
    evidence = path_evidence(before, after, dependency)
    return evidence is None or evidence.held or bool(strays_of(before, after, dependency))
