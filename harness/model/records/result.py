"""result.json: what a run found. Documented in docs/result.md; `schema` changes when a field changes meaning.

Times are seconds since t0; what is not known is null.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from harness.model.records.faults import Evidence
from harness.model.records.metrics import Metric, metric_traits
from harness.model.records.windows import TraceId

SCHEMA = 1

Verdict = Literal["pass", "fail", "inconclusive"]
Outcome = Literal["held", "broken", "undecided", "not_judged"]
AlertOutcome = Literal["detected", "held_back", "never_fired", "fired_without_impact", "carried_over", "not_judged"]
RecoveryOutcome = Literal["recovered", "no_impact", "not_recovered", "undecided", "not_judged"]


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What was really sent, without backfilled arrivals (closed model)."""

    mean_ms: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    error_rate: float | None = None


class PhaseResult(msgspec.Struct, frozen=True, kw_only=True):
    """One phase. planned: arrivals scheduled (open) or task starts (closed). mix_*: request class -> share."""

    name: str
    start_s: float
    end_s: float
    planned: int
    requests: int
    failures: int
    unsent: int
    unfinished: int
    backfilled: int
    failed_arrivals: int
    mix_planned: dict[str, float]
    mix_sent: dict[str, float]
    error_rate: float | None
    rps: float | None
    mean_ms: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_ms: float | None
    violating_s: float | None
    failed_p50_ms: float | None = None
    failed_p95_ms: float | None = None
    failed_max_ms: float | None = None
    """What people waited before they were told of a failure; null where none was, or records are of an old version."""
    dispersion: float | None = None
    """How many failures of a cluster tell as much as one, as baseline showed it; null: they came singly."""
    measured: Measured | None = None
    """Null when nothing was backfilled: then the figures above are exactly what was measured."""
    unsent_task: int = 0
    """Of unsent: because of the locustfile's own time."""
    unsent_by: dict[str, int] = {}
    """Unsent by cause: cap and task as in ClassCounts without, cap_start and task_start with, those for which no new
    user could start; generator. Empty in older files."""
    empty: int = 0
    """Arrivals whose task ended without a request and without an exception."""
    resent: int = 0
    """Successful requests that were sent twice: their kept connection was closed before any byte of a reply."""


class RequestResult(msgspec.Struct, frozen=True, kw_only=True):
    """One request name in one phase."""

    name: str
    phase: str
    requests: int
    failures: int
    unfinished: int
    backfilled: int
    error_rate: float | None
    rps: float | None
    mean_ms: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_ms: float | None
    failed_p50_ms: float | None = None
    failed_p95_ms: float | None = None
    failed_max_ms: float | None = None
    measured: Measured | None = None
    mean_bytes: float | None = None
    """Of the replies of successful requests, as the client told their length; null where it told none."""


class ErrorResult(msgspec.Struct, frozen=True, kw_only=True):
    kind: str
    name: str | None
    count: int
    first_s: float
    last_s: float
    example: str
    traces: tuple[TraceId, ...] = ()
    """Trace ids of the first of them, five at most and one of 100 ms and generator."""


class SlowRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A successful request that was among the slowest of its phase and name. at_s: start of the 100 ms in which it was
    meant to start. ms: its latency, as in the figures."""

    name: str
    phase: str
    at_s: float
    ms: float
    trace_id: TraceId


class NameResult(msgspec.Struct, frozen=True, kw_only=True):
    """One request name under a target of all requests. bad of n: requests of the phase that were bad in its sense;
    bad_s of asked_s: seconds with a bad one, of those in which it was asked for. limit: the share it may have.

    outcome: broken; allowed, over the limit, but declared (`may_fail_with`) or already so in baseline.
    """

    name: str
    bad: int
    n: int
    limit: float
    bad_s: int
    asked_s: int
    outcome: Literal["broken", "allowed"]
    why: str = ""
    failed: int | None = None
    """How many of the bad ones failed; the others were too slow. Null where it is not known."""


class TargetResult(msgspec.Struct, frozen=True, kw_only=True):
    """observed is in the target's own unit (ms, proportion, per second, seconds).

    limit: the resolved limit in that unit (relative targets resolved, the larger of two). why: one clause, for people.
    """

    target: str
    phase: str | None
    metric: str
    observed: float | None
    limit: float | None
    outcome: Outcome
    primary: bool
    why: str = ""
    dispersion: float | None = None
    """How many bad requests of a cluster tell as much as one; null: they came singly, or it does not apply."""
    names: tuple[NameResult, ...] = ()
    """Request names over the limit, the worst first; empty for targets of one name."""

    @property
    def traits(self) -> Metric:
        return metric_traits(self.metric)


class FaultResult(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    params: dict[str, str | int | float | bool | None]
    requested_s: float | None
    injected_s: float | None
    proven: bool
    proof: tuple[Evidence, ...]
    undone_s: float | None
    undo_verified: bool | None
    missing: str | None = None
    mended_s: float | None = None
    """When people had ended it by hand, while it was on; null where they had not."""


class TargetRecovery(msgspec.Struct, frozen=True, kw_only=True):
    target: str
    outcome: RecoveryOutcome
    seconds: float | None
    lower_s: float | None
    upper_s: float | None
    why: str = ""
    graded: bool = False
    """It came back by degrees: the interval is where its rate fell below the target."""


class RecoveryResult(msgspec.Struct, frozen=True, kw_only=True):
    """seconds, lower_s and upper_s are after zero_s. relapses: [start_s, end_s] since t0, violations after a whole
    hold; they undo the recovery only where they are an outage by themselves."""

    outcome: RecoveryOutcome
    seconds: float | None
    lower_s: float | None
    upper_s: float | None
    zero_s: float | None
    from_undo_requested_s: float | None
    drain_s: float | None
    targets: tuple[TargetRecovery, ...] = ()
    relapses: tuple[tuple[float, float], ...] = ()
    relapsed: tuple[int, ...] = ()
    """How many requests were bad in each of the relapses."""
    why: str = ""
    graded: bool = False


class ImpactResult(msgspec.Struct, frozen=True, kw_only=True):
    """mitigated_s: when targets held again while the fault was still on. budget_burnt: 1.0 = the whole budget.

    violating: [start_s, end_s] stretches since t0. mitigated_at_least: they held until the fault ended, for less than
    a hold.
    """

    start_s: float | None
    mitigated_s: float | None
    violating_s: float
    failed_requests: int
    budget_burnt: float | None
    violating: tuple[tuple[float, float], ...] = ()
    mitigated_at_least: bool = False
    end_unseen: bool = False
    """The load generator did not see where the outage ended before the undo: mitigated_s is null then."""
    before_s: float | None = None
    """How long before the first injection the service had begun to fail by itself; null where it had not."""
    as_in_baseline: int = 0
    """Short episodes of failures outside the fault phase that were no more frequent than baseline's: not counted."""
    by_name: dict[str, int] = {}
    """Request names hurt from the first injection on, with how many of their requests failed or were too slow."""
    by_name_failed: dict[str, int] = {}
    """How many of these failed."""


class ClockResult(msgspec.Struct, frozen=True, kw_only=True):
    """A remote worker's clock. offset_s: its CLOCK_MONOTONIC minus the run's, as used. doubt_s: the most its times may
    be off."""

    worker: str
    offset_s: float
    doubt_s: float


class GeneratorResult(msgspec.Struct, frozen=True, kw_only=True):
    """cpu: busiest load process, mean share of one core. saturated: [start_s, end_s] stretches. clocks: of the workers
    on other machines."""

    cpu: float | None
    lateness_p99_ms: float | None
    unsent: int
    saturated: tuple[tuple[float, float], ...] = ()
    clocks: tuple[ClockResult, ...] = ()


class MemoryResult(msgspec.Struct, frozen=True, kw_only=True):
    """slope: proportion per hour of the target's RSS (null: too short to judge). retained: bytes kept across the
    fault. outcome: stable, growing or not_judged."""

    outcome: Literal["stable", "growing", "not_judged"]
    slope: float | None
    retained: int | None
    why: str = ""


class SignalResult(msgspec.Struct, frozen=True, kw_only=True):
    """A Prometheus signal: mean by phase (counters: per second). noise: standard deviation of baseline's single
    readings; null where there were fewer than three."""

    by_phase: dict[str, float]
    counter: bool
    noise: float | None = None


class SignatureResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a fault did to a dependency, by the dependency's own counters (harness/analysis/rules/signatures.py).

    found: observed is beyond limit, and lasted. observed: the worst, in `unit`; of cold_cache the lowest hit rate.
    seconds: after recovery's zero, until it was as before; null when that was not seen, or is not asked of this kind.
    extra: of reconnect_storm the connections beyond baseline's rate; of cold_cache the databases' transactions per
    second as a multiple of baseline's.
    """

    kind: Literal["retry_amplification", "reconnect_storm", "cold_cache", "consumer_lag"]
    dependency: str
    found: bool
    baseline: float
    observed: float
    limit: float
    unit: str
    seconds: float | None = None
    extra: float | None = None


class AlertResult(msgspec.Struct, frozen=True, kw_only=True):
    """One expected alert (harness/analysis/rules/detection.py).

    seconds: from the impact's start until it fired, between lower_s and upper_s. fired_s, notified_s: since t0; the
    latter is null where no webhook tells. resolved_after_s: after recovery. times: how often it began to fire since the
    first injection. false_alarms: how often without impact. least_s: how long its condition must last, by its rule.
    """

    alert: str
    outcome: AlertOutcome
    why: str = ""
    seconds: float | None = None
    lower_s: float | None = None
    upper_s: float | None = None
    fired_s: float | None = None
    notified_s: float | None = None
    resolved_after_s: float | None = None
    times: int = 0
    false_alarms: int = 0
    least_s: float | None = None


class DetectionResult(msgspec.Struct, frozen=True, kw_only=True):
    """Did anybody notice? source: whose word counts for firing. false_alarms: of the expected alerts together. unseen:
    [start_s, end_s] in which that source did not answer."""

    source: Literal["prometheus", "alertmanager", "webhook"]
    alerts: tuple[AlertResult, ...] = ()
    false_alarms: int = 0
    unseen: tuple[tuple[float, float], ...] = ()
    baseline_seen: bool = True
    """Whether the source answered wherever false alarms are counted: in baseline, or all along a control run."""


class AcknowledgedResult(msgspec.Struct, frozen=True, kw_only=True):
    """Acknowledged writes, read back after the load: there + lost + unchecked = chosen, chosen <= noted.

    why: what kept the unchecked ones from being checked.
    """

    noted: int
    chosen: int
    there: int
    lost: int
    unchecked: int
    examples: tuple[str, ...] = ()
    seconds: float = 0.0
    why: str = ""


class AfterLoadResult(msgspec.Struct, frozen=True, kw_only=True):
    """The target without load: the last word on it. seconds: after the end of load, when it first answered as in
    baseline; with the other outcomes, how long it was asked for.

    asked, good: requests of the last look, and how many of them were as in baseline. why: of one that was not.
    """

    outcome: Literal["as_in_baseline", "still_bad", "no_answer"]
    seconds: float
    asked: int = 0
    good: int = 0
    why: str = ""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    schema: int = SCHEMA
    verdict: Verdict
    exit_code: int
    reasons: tuple[str, ...]
    scenario: str
    scale: float
    model: str
    stack: str
    seed: int
    experiment: str
    target_url: str
    started: str | None
    phases: tuple[PhaseResult, ...] = ()
    requests: tuple[RequestResult, ...] = ()
    totals: tuple[RequestResult, ...] = ()
    """The whole run (every phase): one row by request name with phase "all", and one of everything under the name
    "Aggregated", as Locust's own table has them. Percentiles do not add up, so no reader can make these itself."""
    setup: tuple[RequestResult, ...] = ()
    """Requests that users made in on_start, by name, phase "setup": never judged, in no total."""
    errors: tuple[ErrorResult, ...] = ()
    slowest: tuple[SlowRequest, ...] = ()
    """By phase and request name, five at most and one of 100 ms; empty where requests carried no trace ids."""
    targets: tuple[TargetResult, ...] = ()
    faults: tuple[FaultResult, ...] = ()
    recovery: RecoveryResult | None = None
    impact: ImpactResult | None = None
    generator: GeneratorResult | None = None
    memory: MemoryResult | None = None
    signals: dict[str, SignalResult] = {}
    cpu_by_phase: dict[str, float] = {}
    signatures: tuple[SignatureResult, ...] = ()
    detection: DetectionResult | None = None
    """Null where nobody looked at alerts, or none was expected."""
    acknowledged: AcknowledgedResult | None = None
    """Null when the locustfile notes no acknowledged writes, or none was acknowledged."""
    after_load: AfterLoadResult | None = None
    """Null when nobody asked: the run ended early, or the load was lost."""
    fresh_connections: tuple[tuple[float, float], ...] | None = None
    """[start_s, end_s] stretches in which requests on fresh connections failed while the load, which keeps its
    connections, was mostly served. Null: not looked at (no HTTP target, or records of an old version)."""
    warnings: tuple[str, ...] = ()
    earlier_baseline_s: float = 0.0
    """Seconds of clean baselines of the same session before this experiment, by which bursts and pauses were measured
    too."""

    def phase(self, name: str | None) -> PhaseResult | None:
        return next((phase for phase in self.phases if phase.name == name), None)
