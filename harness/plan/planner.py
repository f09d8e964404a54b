"""From a request to a Plan: pure. It is given the faults' descriptions and imports none of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec

from harness.model.faults import Dependency
from harness.model.load import Locustfile, Scenario
from harness.model.plan import PhasePlan, Plan, PlannedFault, Provenance
from harness.model.stack import StackUp
from harness.model.suggest import unknown
from harness.model.target_grammar import defaults, merge, parse_targets, refuse_impossible
from harness.model.targets import Target
from harness.plan import loadplan, phases
from harness.plan.entries import FaultEntry
from harness.plan.file_notes import file_notes
from harness.plan.request import RunRequest
from harness.plan.scenarios import SCENARIOS
from harness.plan.timeline import FaultDescription, expand
from harness.plan.warnings import plan_warnings


def find_scenario(name: str) -> Scenario:
    if name not in SCENARIOS:
        raise unknown("scenario", name, SCENARIOS)
    return SCENARIOS[name]


def build_plan(
    request: RunRequest,
    *,
    locustfile: Locustfile,
    dependencies: tuple[Dependency, ...],
    faults: Mapping[str, FaultDescription],
    host: str,
    created: str,
    provenance: Provenance | None = None,
) -> Plan:
    """The plan of one experiment. host: base URL, or a placeholder where the stack chooses it later.

    Raises UsageError for anything in the request that cannot be, Refused for what must not be.
    """
    scenario = find_scenario(request.scenario)
    fault_s = request.fault_s if request.fault_s is not None else scenario.fault_s
    seed = request.seed if request.seed is not None else _seed(created)
    entries = (*(FaultEntry(where=f"--fault {text!r}", fault=text) for text in request.faults), *request.timeline)
    planned = expand(entries, dependencies=dependencies, faults=faults, fault_s=fault_s, seed=seed)
    load = loadplan.load_plan(request, scenario, locustfile, host=host, seed=seed)
    lasting = [f for f in planned if f.for_s is not None]
    one_shot_s = phases.ONE_SHOT_S if lasting else phases.one_shot_phase(load.rate)
    length = phases.lengths(
        ramp_s=load.ramp_s,
        warmup_s=request.warmup_s,
        baseline_s=request.baseline_s if request.baseline_s is not None else scenario.baseline_s,
        fault_s=max((f.at_s + (f.for_s or one_shot_s) for f in planned), default=fault_s),
        one_shot_only=bool(planned) and not lasting,
        run_time_s=request.run_time_s if request.run_time_s is not None else scenario.run_time_s,
        rate=load.rate,
        request_timeout_s=request.request_timeout_s,
        recovery_limit_s=request.recovery_limit_s,
        hold_s=request.hold_s,
        soak_s=request.soak_s,
    )
    targets = _targets(request, has_rate=load.rate is not None)
    refuse_impossible(targets, open_model=load.rate is not None)
    load = loadplan.with_limits(load, latency_limits(targets))
    plan = Plan(
        experiment=_name(created, planned, scenario),
        created=created,
        scenario=scenario,
        scale=loadplan.share_of_full_load(load, scenario),
        stack=request.stack,
        load=load,
        phases=length,
        targets=targets,
        faults=planned,
        abort_if=request.abort_if,
        strict=request.strict,
        provenance=provenance,
    )
    return msgspec.structs.replace(plan, warnings=(*plan_warnings(plan, request), *file_notes(locustfile, load)))


def bind(plan: Plan, up: StackUp, faults: Mapping[str, FaultDescription]) -> Plan:
    """The same plan against a running stack: changes made again from dependencies that now have addresses."""
    by_name = {dependency.name: dependency for dependency in up.dependencies}
    bound = tuple(
        msgspec.structs.replace(
            fault, change=faults[fault.spec.kind].plan(by_name[fault.spec.dependency], fault.change.params)
        )
        for fault in plan.faults
    )
    load = msgspec.structs.replace(plan.load, host=up.target.url, addresses=up.target.addresses)
    return msgspec.structs.replace(plan, faults=bound, load=load, target_workers=up.target.workers)


def replay_bytes(plan: Plan) -> bytes:
    """What the same request, seed and version give again byte for byte: the plan as JSON, without when and where it
    was made (`experiment`, which holds the time, `created` and `provenance`)."""
    return msgspec.json.encode(msgspec.structs.replace(plan, experiment="", created="", provenance=None))


def latency_limits(targets: tuple[Target, ...]) -> tuple[float, ...]:
    """Absolute latency limits in ms, sorted: what the load counts exactly from the start."""
    return tuple(sorted({t.value for t in targets if t.unit == "ms" and t.relative is None}))


def _targets(request: RunRequest, *, has_rate: bool) -> tuple[Target, ...]:
    merged = defaults(has_rate)
    for layer in (*request.target_layers, request.targets):
        merged = merge(merged, (target for text in layer for target in parse_targets(text)))
    return merge(merged, (), strict=request.strict)


def _seed(created: str) -> int:
    """A fresh seed a run, drawn from its time, so that it is printed once and replays exactly."""
    return int.from_bytes(hashlib.blake2b(created.encode(), digest_size=4).digest(), "big")


def _name(created: str, planned: tuple[PlannedFault, ...], scenario: Scenario) -> str:
    stamp = created.replace("-", "").replace(":", "").partition(".")[0].rstrip("Z") + "Z"
    faults = "+".join(dict.fromkeys(fault.spec.name for fault in planned)) or "none"
    return f"{stamp}-{faults[:80]}-{scenario.name}"


__all__ = ["FaultDescription", "PhasePlan", "bind", "build_plan", "find_scenario", "latency_limits", "replay_bytes"]
