"""Results made of a few request names, for looking at single sentences."""

from __future__ import annotations

import msgspec

from harness.model.records.result import ErrorResult, NameResult, RequestResult, Result, TargetResult
from harness.model.target_grammar import parse_targets
from harness.report.findings.finding import Finding
from harness.report.findings.rules import findings

from .sample import plan_of, result

FAIL, PASS = plan_of("fail"), plan_of("pass")


def row(name: str, phase: str, failed: int, n: int, p95: float = 25.0, took: float = 5.0) -> RequestResult:
    base = result("pass").requests[0]
    waited = took if failed else None
    return msgspec.structs.replace(
        base,
        name=name,
        phase=phase,
        requests=n,
        failures=failed,
        error_rate=failed / n,
        p95_ms=p95,
        failed_p50_ms=waited,
        failed_p95_ms=waited,
        failed_max_ms=waited,
    )


def with_rows(kind: str, *rows: RequestResult, **changes: object) -> Result:
    """The sample result with these rows, its fault phase made of them, and no signals."""
    base = result("fail" if kind == "fail" else "pass")
    fault = [r for r in rows if r.phase == "fault"]
    failed, n = sum(r.failures for r in fault), sum(r.requests for r in fault)
    took = max((r.failed_p95_ms for r in fault if r.failed_p95_ms is not None), default=None)
    phases = tuple(
        msgspec.structs.replace(
            p, requests=n, failures=failed, error_rate=failed / n, failed_p50_ms=took, failed_p95_ms=took
        )
        if p.name == "fault" and n
        else p
        for p in base.phases
    )
    return msgspec.structs.replace(base, requests=rows, phases=phases, **{"signals": {}, **changes})


def healthy(*names: str, n: int = 1000) -> tuple[RequestResult, ...]:
    return tuple(row(name, phase, 0, n) for name in names for phase in ("baseline", "fault", "after"))


def error(kind: str, name: str, count: int, first_s: float = 73.0, example: str = "") -> ErrorResult:
    return ErrorResult(kind=kind, name=name, count=count, first_s=first_s, last_s=131.0, example=example)


def found(plan_kind: str, result_: Result) -> dict[str, Finding]:
    return {one.key: one for one in findings(plan_of("fail" if plan_kind == "fail" else "pass"), result_)}


def judged(text: str, observed: float | None, why: str = "", names: tuple[NameResult, ...] = ()) -> TargetResult:
    (target,) = parse_targets(text)
    return TargetResult(
        target=target.text,
        phase=target.phase,
        metric=target.metric,
        observed=observed,
        limit=target.value,
        outcome="broken",
        primary=True,
        why=why,
        names=names,
    )
