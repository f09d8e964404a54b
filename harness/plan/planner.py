"""From a request to a Plan: pure. It is given the faults' descriptions and imports none of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

import msgspec

from harness.model.errors import UsageError, unknown
from harness.model.records.alerts import AlertsPlan
from harness.model.records.faults import Dependency
from harness.model.records.load import Locustfile, Scenario
from harness.model.records.metrics import Origin
from harness.model.records.plan import PhasePlan, Plan, PlannedFault, Provenance
from harness.model.records.stack import StackUp
from harness.model.records.targets import JudgedPhase, Target
from harness.model.target_grammar import defaults, merge, parse_targets, refuse_impossible
from harness.model.units import format_duration
from harness.plan import loadplan, phases
from harness.plan.consent import FaultDescription, planned
from harness.plan.experiment import Experiment
from harness.plan.files.entries import Entry, FaultEntry
from harness.plan.scenarios import SCENARIOS
from harness.plan.timeline import expand
from harness.plan.warnings import file_notes, plan_warnings


def find_scenario(name: str) -> Scenario:
    if name not in SCENARIOS:
        raise unknown("scenario", name, SCENARIOS, field="scenario")
    return SCENARIOS[name]


def build_plan(
    request: Experiment,
    *,
    describe: Callable[[], Locustfile],
    dependencies: tuple[Dependency, ...],
    faults: Mapping[str, FaultDescription],
    host: str,
    created: str,
    provenance: Provenance | None = None,
) -> Plan:
    """The plan of one experiment. host: base URL, or a placeholder where the stack chooses it later. describe: looks
    into the locustfile, which takes a second or two: it is asked when all else is right.

    Raises UsageError for anything in the request that cannot be, Refused for what must not be.
    """
    scenario = find_scenario(request.scenario)
    seed = request.seed if request.seed is not None else _seed(created)
    entries = (*(FaultEntry(where=repr(text), fault=text, typed=True) for text in request.faults), *request.timeline)
    load = loadplan.load_plan(request, scenario, host=host, seed=seed)
    fault_s = _or_default(request.fault_s, scenario.fault_s, phases.MIN_FAULT_S, load.rate)
    planned = expand(entries, dependencies=dependencies, faults=faults, fault_s=fault_s, seed=seed)
    lasting = [f for f in planned if f.for_s is not None]
    targets = _targets(request, has_rate=load.rate is not None)
    refuse_impossible(targets, open_model=load.rate is not None)
    alerts = _alerts(request.alerts, targets)
    one_shot_s = (
        phases.ONE_SHOT_S if lasting else phases.shortest(phases.ONE_SHOT_S, load.rate, phases.ONE_SHOT_ARRIVALS)
    )
    length = phases.lengths(
        ramp_s=load.ramp_s,
        warmup_s=request.warmup_s,
        baseline_s=_or_default(request.baseline_s, scenario.baseline_s, phases.MIN_BASELINE_S, load.rate),
        fault_s=max((f.at_s + (f.for_s or one_shot_s) for f in planned), default=fault_s),
        one_shot_only=bool(planned) and not lasting,
        run_time_s=request.run_time_s if request.run_time_s is not None else scenario.run_time_s,
        rate=load.rate,
        request_timeout_s=request.request_timeout_s,
        recovery_limit_s=request.recovery_limit_s,
        hold_s=request.hold_s,
        soak_s=request.soak_s,
        extend=_extended(request, scenario, entries, planned, targets),
    )
    _refuse_short_limit(targets, length)
    locustfile = describe()
    load = loadplan.with_locustfile(load, request, scenario, locustfile)
    load = msgspec.structs.replace(load, limits_ms=latency_limits(targets))
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
        may_fail_with=request.may_fail_with,
        independent_of=request.independent_of,
        alerts=alerts,
        trace_url=request.trace_url,
        provenance=provenance,
    )
    return msgspec.structs.replace(plan, warnings=(*plan_warnings(plan, request), *file_notes(locustfile, load)))


def _or_default(given_s: float | None, default_s: float, least_s: float, rate: float | None) -> float:
    """A length that nobody gave is long enough to decide something."""
    return given_s if given_s is not None else max(default_s, phases.shortest(least_s, rate))


def _extended(
    request: Experiment,
    scenario: Scenario,
    entries: tuple[Entry, ...],
    planned: tuple[PlannedFault, ...],
    targets: tuple[Target, ...],
) -> tuple[JudgedPhase, ...]:
    """The phases that may go on. Of a fault phase nobody may have said how long it is, and every fault must last as
    long as the phase: what comes and goes would come and go differently."""
    if not request.extend or scenario.jump:
        return ()
    given = request.fault_s is not None or any(_names_duration(entry) for entry in entries)
    whole = all(f.at_s == 0.0 and f.for_s is not None for f in planned) and len({f.for_s for f in planned}) <= 1
    fault = whole and (not given or request.extend_fault)
    found: tuple[JudgedPhase, ...] = ("baseline", "fault", "after") if fault else ("baseline", "after")
    return tuple(phase for phase in found if any(t.primary and t.phase == phase and t.traits.watched for t in targets))


def _names_duration(entry: Entry) -> bool:
    return (
        not isinstance(entry, FaultEntry) or entry.for_s is not None or entry.repeat is not None or "+" in entry.fault
    )


def _refuse_short_limit(targets: tuple[Target, ...], length: PhasePlan) -> None:
    """A search for recovery that ends before its target's time would call a service late that nobody waited for."""
    for target in targets:
        if target.traits.origin is Origin.RECOVERY and target.primary and length.recovery_limit_s < target.value:
            raise UsageError(
                f"{format_duration(length.recovery_limit_s)} is shorter than target `{target.text}` allows",
                field="recovery_limit_s",
                hint=f"at least {format_duration(target.value)}, or a stricter --target 'recovery < ...'",
            )


def bind(plan: Plan, up: StackUp, faults: Mapping[str, FaultDescription]) -> Plan:
    """The same plan against a running stack: changes made again from dependencies that now have addresses."""
    by_name = {dependency.name: dependency for dependency in up.dependencies}
    bound = tuple(
        msgspec.structs.replace(
            fault, change=planned(faults[fault.spec.kind], by_name[fault.spec.dependency], fault.change.params)
        )
        for fault in plan.faults
    )
    run = _stamp(plan.created) if plan.load.trace else ""
    load = msgspec.structs.replace(plan.load, host=up.target.url, addresses=up.target.addresses, run=run)
    alerts = plan.alerts
    if alerts is not None and alerts.of_stack and up.alerts is not None:
        own = up.alerts
        alerts = msgspec.structs.replace(alerts, prometheus=own.prometheus, alertmanager=own.alertmanager)
    return msgspec.structs.replace(plan, faults=bound, load=load, target_workers=up.target.workers, alerts=alerts)


def latency_limits(targets: tuple[Target, ...]) -> tuple[float, ...]:
    """Absolute latency limits in ms, sorted: what the load counts exactly from the start."""
    return tuple(
        sorted({limit.value for t in targets if t.unit == "ms" for limit in t.limits if limit.relative is None})
    )


def _targets(request: Experiment, *, has_rate: bool) -> tuple[Target, ...]:
    merged = defaults(has_rate)
    for layer in (*request.target_layers, request.targets):
        merged = merge(merged, (target for text in layer for target in parse_targets(text)))
    return merge(merged, (), strict=request.strict)


def _alerts(alerts: AlertsPlan | None, targets: tuple[Target, ...]) -> AlertsPlan | None:
    """With those that targets name among the expected ones. Raises UsageError for targets that nothing can decide."""
    for target in targets:
        if target.traits.origin is Origin.ALERTS and alerts is None:
            raise UsageError(
                f"nobody looks at alerts, as target `{target.text}` needs",
                hint='[alerts] in harness.toml, and prometheus = "http://127.0.0.1:9090" in it',
            )
    if alerts is None:
        return None
    named = (target.name for target in targets if target.traits.of_alert and target.name is not None)
    expected = tuple(dict.fromkeys((*alerts.expected, *named)))
    if not expected and any(t.traits.origin is Origin.ALERTS and not t.traits.of_alert for t in targets):
        raise UsageError("target `false_alarms` of which alerts?", hint='[alerts] and expected = ["ServiceDown"]')
    return msgspec.structs.replace(alerts, expected=expected)


def _seed(created: str) -> int:
    """A fresh seed a run, drawn from its time, so that it is printed once and replays exactly."""
    return int.from_bytes(hashlib.blake2b(created.encode(), digest_size=4).digest(), "big")


def _stamp(created: str) -> str:
    return created.replace("-", "").replace(":", "")


def _name(created: str, planned: tuple[PlannedFault, ...], scenario: Scenario) -> str:
    stamp = _stamp(created).partition(".")[0].rstrip("Z") + "Z"
    faults = "+".join(dict.fromkeys(fault.spec.name for fault in planned)) or "none"
    return f"{stamp}-{faults[:80]}-{scenario.name}"
