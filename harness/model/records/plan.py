"""The plan of one experiment: pure data, printable, replayable; plan.json is exactly this."""

from __future__ import annotations

from typing import Annotated

import msgspec

from harness.model.records.alerts import AlertsPlan
from harness.model.records.faults import Change, FaultSpec
from harness.model.records.load import LoadPlan, Scenario
from harness.model.records.stack import StackName
from harness.model.records.targets import JudgedPhase, Target

SCHEMA = 2
"""Of plan.json and, with it, of windows.jsonl. 2 has `load.first_step`, and an error row for each step."""
READ_SCHEMAS = (1, SCHEMA)
"""Those that can be read still: what is missing in a former one has its default."""


_OF_URL = r"[A-Za-z0-9._~:/?#\[\]@!$&*+,;=%-]*"
TRACE_URL = rf"^(https?://[A-Za-z0-9.:\[\]-]+/{_OF_URL}\{{trace_id\}}{_OF_URL})?\Z"
"""A link that reports make, of text that needs no escaping anywhere; "" for none."""
MAX_PHASE_S = 24 * 3600.0
"""The longest phase, and so the latest instant in one."""


class PhasePlan(msgspec.Struct, frozen=True, kw_only=True):
    """Lengths in seconds. warmup_s includes the ramp. gap_s, recovery_s and tail_s are upper bounds.

    hold_s: the stretch after recovery over which targets must hold; after_s = hold_s + soak.
    extend: phases that go on once, to three times their length at most, where a primary proportion target is met but
    not yet held. settle_s: where experiments share one load, the longest wait for a calm target before baseline: it
    takes warmup's place, and the load is handed on at the end; null: the experiment has a load of its own.
    """

    warmup_s: float
    baseline_s: float
    gap_s: float
    fault_s: float
    recovery_limit_s: float
    hold_s: float
    after_s: float
    tail_s: float
    extend: tuple[JudgedPhase, ...] = ()
    settle_s: float | None = None

    @property
    def judged(self) -> dict[JudgedPhase, float]:
        return {"baseline": self.baseline_s, "fault": self.fault_s, "after": self.after_s}


class PlannedFault(msgspec.Struct, frozen=True, kw_only=True):
    """id: `redis-down` or `redis-down#2`; at_s from the start of the fault phase; for_s None = one-shot."""

    id: str
    spec: FaultSpec
    change: Change
    at_s: float
    for_s: float | None


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """Where a result comes from.

    versions: server, or `python PACKAGE` -> version. git: commit of the directory that the run was started in.
    """

    harness: str
    command: str
    machine: str
    cpus: int
    memory_bytes: int
    python: str
    versions: dict[str, str] = {}
    target_version: str | None = None
    git: str | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    schema: int = SCHEMA
    experiment: str
    created: str
    scenario: Scenario
    scale: float
    stack: StackName
    load: LoadPlan
    phases: PhasePlan
    targets: tuple[Target, ...]
    faults: tuple[PlannedFault, ...] = ()
    abort_if: tuple[str, ...] = ()
    strict: bool = False
    warnings: tuple[str, ...] = ()
    provenance: Provenance | None = None
    may_fail_with: dict[str, tuple[str, ...]] = {}
    """Request name -> dependencies during whose faults it may fail, as declared."""
    independent_of: dict[str, tuple[str, ...]] = {}
    """Request name -> dependencies that it does not need, as declared."""
    alerts: AlertsPlan | None = None
    """Null where nobody looks at alerts."""
    trace_url: Annotated[str, msgspec.Meta(pattern=TRACE_URL)] = ""
    """Where people read a trace, {trace_id} in it: [report] of harness.toml."""
    target_workers: int = 1
    """Worker processes of the target (TargetInfo.workers): what its CPU share is a share of."""

    @property
    def seed(self) -> int:
        return self.load.seed

    @property
    def control_run(self) -> bool:
        return not self.faults
