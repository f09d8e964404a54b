"""Realistic results made by hand, for looking at reports and for golden files. Everything is seeded."""

from __future__ import annotations

import random
from typing import Literal

import msgspec

from harness.fault import registered, traits_of
from harness.model.records.events import (
    Event,
    FaultEvidence,
    FaultInjected,
    FaultNotProven,
    FaultProven,
    FaultRequested,
    LoadEnded,
    Note,
    PhaseStarted,
    Started,
    Stopped,
    Undone,
    UndoRequested,
    UndoVerified,
    ZeroFound,
)
from harness.model.records.faults import Change, Dependency, Evidence, FaultSpec
from harness.model.records.load import LoadPlan, Scenario, TaskInfo, UserClass
from harness.model.records.metrics import Unit
from harness.model.records.plan import PhasePlan, Plan, PlannedFault, Provenance
from harness.model.records.result import (
    ErrorResult,
    FaultResult,
    GeneratorResult,
    ImpactResult,
    MemoryResult,
    Outcome,
    PhaseResult,
    RecoveryResult,
    RequestResult,
    Result,
    SignalResult,
    TargetRecovery,
    TargetResult,
)
from harness.model.records.targets import Op, PhaseName, Target

EXPERIMENT = "20261123-160000-redis-down-target"
EDGES: tuple[tuple[PhaseName, float], ...] = (
    ("warmup", 0.0),
    ("baseline", 12.0),
    ("gap", 72.0),
    ("fault", 72.4),
    ("recovery", 133.1),
    ("after", 134.4),
    ("tail", 184.4),
)
END_S = 189.4
SENT_S, INJECTED_S, UNDONE_S, ZERO_S = 72.409, 72.412, 132.431, 132.44

NAMES = ("POST /api/v1/predict", "POST /api/v1/batch/predict", "GET /api/v1/anomalies", "GET /health")
SHARES = (0.75, 0.125, 0.075, 0.05)
HOSTILE = (
    "/x/[/id]",
    "<script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "=cmd|' /C calc'!A0",
    "a|b`c*d_e",
    "\x1b[31mred\x1b[0m\x07\u202egnp.exe",
    "{{ 7 * 7 }} %{x} $\\alpha$",
    "]]></script><b>",
)

Kind = Literal["fail", "pass", "inconclusive", "interrupted", "control", "hostile"]


def target(metric: str, op: Op, value: float, unit: Unit, phase: str | None, **more: object) -> Target:
    shown = {"ms": f"{value:g}ms", "proportion": f"{value * 100:g}%", "s": f"{value:g}s"}.get(unit, f"{value:g}")
    if more.get("relative") == "plan":
        shown = f"{value * 100:g}% of plan"
    text = f"{phase}: {metric} {op} {shown}" if phase else f"{metric} {op} {shown}"
    return msgspec.convert(
        {"metric": metric, "op": op, "value": value, "unit": unit, "text": text, "phase": phase, **more}, Target
    )


def targets() -> tuple[Target, ...]:
    return (
        *(target("rps", ">=", 0.95, "per_s", phase, relative="plan") for phase in ("baseline", "after")),
        *(target("p95", "<", 200, "ms", phase) for phase in ("baseline", "fault", "after")),
        *(target("error_rate", "<", 0.01, "proportion", phase) for phase in ("baseline", "fault", "after")),
        target("recovery", "<", 30, "s", None),
        *(target("p50", "<", 100, "ms", phase, primary=False) for phase in ("baseline", "fault", "after")),
        *(target("p99", "<", 500, "ms", phase, primary=False) for phase in ("baseline", "fault", "after")),
        target("cpu", "<", 0.8, "proportion", "baseline", primary=False),
    )


def planned_fault(name: str = "redis-down", **params: float) -> PlannedFault:
    dependency, _, kind = name.partition("-")
    return PlannedFault(
        id=name,
        spec=FaultSpec(name=name, dependency=dependency, kind=kind, text=name),
        change=Change(
            kind=kind,
            dependency=Dependency(name=dependency, kind="redis", proxied=True, runtime="process"),
            params=dict(params),
            does="Toxiproxy disables the proxy of redis: its connections close, new ones are refused",
            undoes="the proxy is enabled again",
            proves="the proxy reads back as disabled and a PING through it is refused",
            property="proxy redis: enabled",
            traits=tuple(traits_of(registered()[kind])),
            delays_s=params.get("latency"),
        ),
        at_s=0.0,
        for_s=60.0,
    )


def plan(*faults: PlannedFault, scale: float = 0.02) -> Plan:
    return Plan(
        experiment=EXPERIMENT,
        created="2026-11-23T16:00:00.000Z",
        scenario=Scenario(
            name="target", summary="The load to expect", users=5000, spawn_rate=500, run_time_s=600, rate=10000
        ),
        scale=scale,
        stack="embedded",
        load=LoadPlan(
            model="open",
            host="http://127.0.0.1:23180",
            locustfile="locustfiles/anomaly.py",
            classes=(
                UserClass(name="AnomalyDetectionUser", tasks=(TaskInfo(name="predict", share=0.5),)),
                UserClass(name="HighThroughputUser", tasks=(TaskInfo(name="predict", share=1.0),)),
            ),
            seed=1742,
            users=100,
            spawn_rate=10,
            ramp_s=10,
            rate=10000 * scale,
            max_in_flight=2000,
        ),
        phases=PhasePlan(
            warmup_s=12, baseline_s=60, gap_s=10, fault_s=60, recovery_limit_s=470, hold_s=15, after_s=50, tail_s=5
        ),
        targets=targets(),
        faults=faults,
        provenance=Provenance(
            harness="0.1.0",
            command="harness run --fault redis-down --scenario target",
            machine="Linux 6.1 x86_64",
            cpus=2,
            memory_bytes=24 * 2**30,
            python="3.11.7",
            versions={"locust": "2.47.0", "toxiproxy": "2.12.0", "valkey": "9.0.1", "kafka": "4.1.1"},
            target_version="1.0.0 (hardened)",
            git="3f33ea0",
        ),
    )


def evidence(held: bool = True) -> tuple[Evidence, ...]:
    return (
        Evidence(
            source="path",
            expected="the API's connections to redis go through the proxy, and its commands rose during baseline",
            observed="8 of 8 connections on the proxy; 11,842 commands in baseline",
            held=True,
            at=72.38,
        ),
        Evidence(
            source="control", expected="proxy redis: enabled = false", observed="enabled = false", held=held, at=72.416
        ),
        Evidence(
            source="probe",
            expected="PING through the proxy is refused",
            observed="connection refused after 0.4ms" if held else "PONG after 0.6ms",
            held=held,
            at=72.419,
        ),
    )


def history(kind: Kind = "fail") -> list[Event]:
    def wall(at: float) -> str:
        return f"2026-11-23T16:{1 + int(at) // 60:02d}:{at % 60:06.3f}Z"

    def base(at: float) -> dict[str, object]:
        return {"at": at, "wall": wall(max(at, 0)), "experiment": EXPERIMENT}

    made: list[Event] = [Started(**base(0.0), monotonic=81234.5)]  # type: ignore[arg-type]

    def add(cls: type[Event], at: float, **fields: object) -> None:
        made.append(cls(**base(at), **fields))

    for name, start in EDGES:
        if kind == "interrupted" and start > INJECTED_S:
            continue
        if kind == "control" and name == "recovery":
            pass
        add(PhaseStarted, start, phase=name, start_s=start)
    if kind != "control":
        fault = "redis-down"
        add(FaultRequested, 72.39, fault=fault)
        add(FaultInjected, INJECTED_S, fault=fault, sent_s=SENT_S)
        for item in evidence(kind != "inconclusive"):
            add(FaultEvidence, 72.42, fault=fault, stage="injected", evidence=item)
        if kind == "inconclusive":
            add(FaultNotProven, 74.0, fault=fault, missing="a PING through the proxy was still answered")
        else:
            add(FaultProven, 72.42, fault=fault)
        if kind == "interrupted":
            add(Stopped, 92.0, why="interrupt", text="SIGINT in phase fault")
            add(Undone, 92.02, fault=fault, sent_s=92.01)
            add(UndoVerified, 92.1, fault=fault)
            add(LoadEnded, 92.3, end_s=92.2)
        else:
            add(UndoRequested, 132.42, fault=fault, sent_s=132.42)
            add(Undone, UNDONE_S, fault=fault, sent_s=132.425)
            add(UndoVerified, 132.46, fault=fault)
            add(ZeroFound, 132.46, zero_s=ZERO_S, lower_s=132.39, upper_s=132.44, source="probe")
            add(Note, 140.0, text="recovered; holding for 50s")
    if kind != "interrupted":
        add(LoadEnded, END_S, end_s=END_S)
    return sorted(made, key=lambda event: event.at)


def _phases(kind: Kind) -> tuple[PhaseResult, ...]:
    draw = random.Random(7)
    ends = [start for _, start in EDGES[1:]] + [END_S]
    made = []
    for (name, start), end in zip(EDGES, ends, strict=True):
        if kind == "interrupted":
            if start > INJECTED_S:
                break
            end = min(end, 92.2)
        planned = round(200 * (end - start) * (0.6 if name == "warmup" else 1)) + draw.randrange(-20, 20)
        hurt = kind in ("fail", "hostile") and name in ("fault", "recovery")
        failures = round(planned * (0.124 if hurt and name == "fault" else 0.31 if hurt else 0.0004))
        p50, p95, p99 = (31.2, 168.0, 713.0) if hurt else (8.4, 24.1, 41.3)
        made.append(
            PhaseResult(
                name=name,
                start_s=start,
                end_s=end,
                planned=planned,
                requests=planned,
                failures=failures,
                unsent=0,
                unfinished=0,
                backfilled=0,
                failed_arrivals=0,
                mix_planned=dict(zip(NAMES, SHARES, strict=True)),
                mix_sent=dict(zip(NAMES, SHARES, strict=True)),
                error_rate=failures / planned if planned else None,
                rps=planned / (end - start),
                mean_ms=p50 * 1.4,
                p50_ms=p50,
                p95_ms=p95,
                p99_ms=p99,
                max_ms=p99 * 2.2,
                failed_p50_ms=4.2 if hurt else None,
                failed_p95_ms=1250.0 if hurt else None,
                failed_max_ms=10_000.0 if hurt else None,
                violating_s=58.9 if hurt and name == "fault" else 0.0,
            )
        )
    return tuple(made)


def _requests(phases: tuple[PhaseResult, ...], names: tuple[str, ...]) -> tuple[RequestResult, ...]:
    rows = []
    for phase in phases:
        for i, name in enumerate(names):
            n = round(phase.requests * (SHARES[i] if i < 4 else 0.01))
            failures = phase.failures if i == 0 else 0
            rows.append(
                RequestResult(
                    name=name,
                    phase=phase.name,
                    requests=n,
                    failures=failures,
                    unfinished=0,
                    backfilled=0,
                    error_rate=failures / n if n else None,
                    rps=n / (phase.end_s - phase.start_s),
                    mean_ms=phase.mean_ms,
                    p50_ms=phase.p50_ms,
                    p95_ms=phase.p95_ms,
                    p99_ms=phase.p99_ms,
                    max_ms=phase.max_ms,
                    failed_p50_ms=phase.failed_p50_ms if failures else None,
                    failed_p95_ms=phase.failed_p95_ms if failures else None,
                    failed_max_ms=phase.failed_max_ms if failures else None,
                )
            )
    return tuple(rows)


def _totals(rows: tuple[RequestResult, ...], phases: tuple[PhaseResult, ...]) -> tuple[RequestResult, ...]:
    length = phases[-1].end_s

    def whole(name: str, members: list[RequestResult]) -> RequestResult:
        n, failures = sum(row.requests for row in members), sum(row.failures for row in members)
        worst = max(members, key=lambda row: row.p99_ms or 0)
        return msgspec.structs.replace(
            worst, name=name, phase="all", requests=n, failures=failures, error_rate=failures / n, rps=n / length
        )

    names = list(dict.fromkeys(row.name for row in rows))
    return (
        *(whole(name, [row for row in rows if row.name == name]) for name in names),
        whole("Aggregated", list(rows)),
    )


def _judged(kind: Kind, phases: tuple[PhaseResult, ...]) -> tuple[TargetResult, ...]:
    by_name = {phase.name: phase for phase in phases}
    made = []
    for t in targets():
        phase = by_name.get(t.phase or "")
        observed: float | None = None
        limit = t.value
        outcome: Outcome = "held"
        why = ""
        if t.metric == "rps":
            observed, limit = (200.1 if phase else None), 190.0
        elif t.metric == "error_rate":
            observed = phase.error_rate if phase else None
        elif t.metric == "recovery":
            observed = 1.3 if kind in ("fail", "hostile") else 0.0 if kind == "pass" else None
        elif t.metric == "cpu":
            observed = 0.41
        elif phase:
            observed = {"p50": phase.p50_ms, "p95": phase.p95_ms, "p99": phase.p99_ms}[t.metric]
        if observed is None:
            outcome, why = "not_judged", "the phase did not take place" if t.phase else "no fault was undone"
        elif (observed >= limit) if t.op == "<" else (observed < limit):
            outcome = "broken"
        if kind == "inconclusive" and t.metric == "p95" and t.phase == "after":
            outcome, why = "undecided", "too close to call: 5.1 % of 9,992 requests took 200ms or more"
        made.append(
            TargetResult(
                target=t.text,
                phase=t.phase,
                metric=t.metric,
                observed=observed,
                limit=limit,
                outcome=outcome,
                primary=t.primary,
                why=why,
            )
        )
    return tuple(made)


def _recovery(kind: Kind) -> RecoveryResult:
    empty = RecoveryResult(
        outcome="not_judged",
        seconds=None,
        lower_s=None,
        upper_s=None,
        zero_s=None,
        from_undo_requested_s=None,
        drain_s=None,
    )
    if kind in ("fail", "hostile"):
        one = TargetRecovery(
            target="after: error_rate < 1%", outcome="recovered", seconds=1.3, lower_s=1.2, upper_s=1.4
        )
        return msgspec.structs.replace(
            empty,
            outcome="recovered",
            seconds=1.3,
            lower_s=1.2,
            upper_s=1.4,
            zero_s=ZERO_S,
            from_undo_requested_s=1.32,
            drain_s=0.4,
            targets=(one,),
        )
    if kind in ("pass", "inconclusive"):
        return msgspec.structs.replace(
            empty,
            outcome="no_impact",
            seconds=0.0,
            lower_s=0.0,
            upper_s=0.15,
            zero_s=ZERO_S,
            from_undo_requested_s=0.02,
            drain_s=0.1,
        )
    return msgspec.structs.replace(empty, why="no fault was undone")


_REASONS: dict[Kind, tuple[str, ...]] = {
    "fail": ("fault: error_rate < 1% is broken: 12.4% of 12,140 requests failed",),
    "hostile": ("fault: error_rate < 1% is broken: <script>document.title='owned'</script> \x1b[2J",),
    "pass": (),
    "control": (),
    "inconclusive": (
        "redis-down was not proven: a PING through the proxy was still answered",
        "after: p95 < 200ms is undecided: too close to call",
    ),
    "interrupted": ("interrupted in fault",),
}


def result(kind: Kind = "fail") -> Result:
    phases = _phases(kind)
    names = (*NAMES, *HOSTILE) if kind == "hostile" else NAMES
    rows = _requests(phases, names)
    hurt = kind in ("fail", "hostile")
    errors: tuple[ErrorResult, ...] = ()
    if hurt:
        errors = (
            ErrorResult(
                kind="status",
                name=NAMES[0],
                count=1402,
                first_s=72.5,
                last_s=133.7,
                example='503 {"detail":"cache unavailable: Error 111 connecting to 127.0.0.1:23101"}',
            ),
            ErrorResult(
                kind="timeout",
                name=NAMES[0],
                count=103,
                first_s=72.6,
                last_s=82.4,
                example="no complete answer within 10s",
            ),
        )
    if kind == "hostile":
        errors += (
            *(
                ErrorResult(kind="exception", name=name, count=3, first_s=80.0, last_s=81.0, example=name * 2)
                for name in HOSTILE
            ),
            ErrorResult(kind="check", name=None, count=1, first_s=80.0, last_s=80.0, example="x" * 10_000),
        )
    fault = FaultResult(
        name="redis-down",
        params={},
        requested_s=72.39,
        injected_s=INJECTED_S,
        proven=kind != "inconclusive",
        proof=evidence(kind != "inconclusive"),
        undone_s=92.02 if kind == "interrupted" else UNDONE_S,
        undo_verified=True,
        missing="a PING through the proxy was still answered" if kind == "inconclusive" else None,
    )
    verdict, code = {
        "fail": ("fail", 1),
        "hostile": ("fail", 1),
        "pass": ("pass", 0),
        "control": ("pass", 0),
        "inconclusive": ("inconclusive", 3),
        "interrupted": ("inconclusive", 130),
    }[kind]
    return Result(
        verdict=verdict,  # type: ignore[arg-type]
        exit_code=code,
        reasons=_REASONS[kind],
        scenario="target",
        scale=0.02,
        model="open",
        stack="embedded",
        seed=1742,
        experiment=EXPERIMENT,
        target_url="http://127.0.0.1:23180",
        started="2026-11-23T16:01:00.000Z",
        phases=phases,
        requests=rows,
        totals=_totals(rows, phases),
        errors=errors,
        targets=tuple(t for t in _judged(kind, phases) if kind != "control" or t.metric != "recovery"),
        faults=() if kind == "control" else (fault,),
        recovery=None if kind == "control" else _recovery(kind),
        impact=ImpactResult(
            start_s=72.5 if hurt else None,
            mitigated_s=None,
            violating_s=60.2 if hurt else 0.0,
            failed_requests=1505 if hurt else 0,
            budget_burnt=3.98 if hurt else 0.04,
            violating=((72.5, 132.7),) if hurt else (),
        ),
        generator=GeneratorResult(cpu=0.31, lateness_p99_ms=1.9, unsent=0),
        memory=MemoryResult(outcome="not_judged", slope=None, retained=None, why="needs 300s, had 42s"),
        signals={
            "cache_hit_rate": SignalResult(
                by_phase={"baseline": 0.83, "fault": 0.0, "after": 0.71}, counter=False, noise=0.02
            ),
            "kafka_consumer_lag": SignalResult(
                by_phase={"baseline": 3.0, "fault": 5.0, "after": 4.0}, counter=False, noise=1.5
            ),
            "http_requests_total": SignalResult(
                by_phase={"baseline": 199.0, "fault": 193.0, "after": 200.0}, counter=True
            ),
        },
        cpu_by_phase={"baseline": 0.41, "fault": 0.38, "after": 0.42},
    )


def plan_of(kind: Kind) -> Plan:
    return plan() if kind == "control" else plan(planned_fault())
