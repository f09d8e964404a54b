"""The tables of a result: phases, requests by name, errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Sequence

from harness.analysis.record.cells import NameTotals, Totals, shares
from harness.analysis.record.spans import Span
from harness.analysis.record.windows import ErrorSeen, WindowStore
from harness.analysis.rules.targets import violating_in
from harness.model.clock import step_start
from harness.model.records.result import ErrorResult, Measured, PhaseResult, RequestResult, SlowRequest

AGGREGATED = "Aggregated"
"""Locust's name for the row of everything."""
UNSENT_WHY = {
    "cap": "no user was free within 1 s: every user was waiting for the target, or still starting",
    "cap_start": "no user was free within 1 s, and the target kept new ones from starting",
    "task": "no user was free within 1 s: most were in a task's own time",
    "task_start": "no user was free within 1 s, and no new one could start",
    "generator": "the load generator could not keep up",
}


def phase_result(
    span: Span,
    totals: Totals,
    violating: Sequence[tuple[float, float]] | None,
    dispersion: float | None = None,
) -> PhaseResult:
    """One phase. dispersion: of its failures, where they did not come singly. violating: None where violating time is
    not known (no target to time)."""
    names, arrivals = totals.all_names(), totals.arrivals
    classes = totals.classes.items()
    return PhaseResult(
        name=span.name,
        start_s=span.start_s,
        end_s=span.end_s,
        planned=arrivals.planned,
        requests=names.requests,
        failures=names.failed,
        unsent=arrivals.unsent,
        unsent_task=arrivals.unsent_task,
        unsent_by=arrivals.unsent_by,
        empty=arrivals.empty,
        resent=names.resent,
        unfinished=names.fail.get("unfinished", 0),
        backfilled=names.backfilled + names.backfilled_failed,
        failed_arrivals=arrivals.failed,
        mix_planned=_rounded(shares((name, a.planned) for name, a in classes)),
        mix_sent=_rounded(shares((name, a.planned - a.unsent) for name, a in classes)),
        error_rate=_round(totals.error_rate),
        rps=_round(names.replies / totals.seconds),
        mean_ms=_round(names.mean_ms),
        p50_ms=_round(names.quantile_ms(0.5)),
        p95_ms=_round(names.quantile_ms(0.95)),
        p99_ms=_round(names.quantile_ms(0.99)),
        max_ms=_round(names.max_ms) if names.ok else None,
        failed_p50_ms=_round(names.failed_quantile_ms(0.5)),
        failed_p95_ms=_round(names.failed_quantile_ms(0.95)),
        failed_max_ms=_round(names.failed_max_ms) if names.failed_sketch else None,
        violating_s=None if violating is None else violating_in(violating, span),
        dispersion=dispersion,
        measured=_measured(names, totals.measured_error_rate),
    )


def request_results(phase: str, totals: Totals, sized: Container[str] = ()) -> list[RequestResult]:
    """Every request name of one phase, sorted by name. sized: those of whose replies the length is known."""
    return [
        request_result(name, phase, names, totals.seconds, sized=name in sized)
        for name, names in sorted(totals.names.items())
    ]


def whole_run(store: WindowStore) -> tuple[RequestResult, ...]:
    """Every request name over the whole run, and all of them as "Aggregated", as Locust's own table has them."""
    totals = store.totals(0, store.end)
    if not totals.names:
        return ()
    whole = request_result(AGGREGATED, "all", totals.all_names(), totals.seconds)
    return (*request_results("all", totals), whole)


def slowest(store: WindowStore, spans: Sequence[Span]) -> tuple[SlowRequest, ...]:
    """Of each phase and request name the slowest requests that carried a trace id."""
    return tuple(
        SlowRequest(name=name, phase=span.name, at_s=step_start(number), ms=round(ms, 4), trace_id=trace_id)
        for span in spans
        for name, found in store.slowest(span.start, span.end).items()
        for ms, number, trace_id in found
    )


def request_result(
    name: str, phase: str, names: NameTotals, seconds: float | None, *, sized: bool = False
) -> RequestResult:
    requests, ok = names.requests, names.ok - names.backfilled
    return RequestResult(
        name=name,
        phase=phase,
        requests=requests,
        failures=names.failed,
        unfinished=names.fail.get("unfinished", 0),
        backfilled=names.backfilled + names.backfilled_failed,
        error_rate=_round(names.expected_failed / names.expected) if names.expected else None,
        rps=_round(names.replies / seconds) if seconds else None,
        mean_ms=_round(names.mean_ms),
        p50_ms=_round(names.quantile_ms(0.5)),
        p95_ms=_round(names.quantile_ms(0.95)),
        p99_ms=_round(names.quantile_ms(0.99)),
        max_ms=_round(names.max_ms) if names.ok else None,
        failed_p50_ms=_round(names.failed_quantile_ms(0.5)),
        failed_p95_ms=_round(names.failed_quantile_ms(0.95)),
        failed_max_ms=_round(names.failed_max_ms) if names.failed_sketch else None,
        measured=_measured(names, names.failed / requests if requests else None),
        mean_bytes=_round(names.body_bytes / ok) if sized and ok else None,
    )


def error_results(store: WindowStore) -> tuple[ErrorResult, ...]:
    """Errors of the whole run by kind and request name, most frequent first.

    Counts come from the windows, examples from the error rows; an error that only an error row knows (in a user's
    on_start) keeps that row's count. Unsent arrivals have no request, so no name.
    """
    counted: dict[tuple[str, str | None], ErrorSeen] = {}
    unsent: Counter[str] = Counter()
    told_failed = any(name is None and kind != "unsent" for kind, name in store.errors)

    def note(key: tuple[str, str | None], count: int, number: int) -> None:
        seen = counted.setdefault(key, ErrorSeen(first_s=step_start(number)))
        seen.count += count
        seen.last_s = step_start(number + 1)

    for number, step in store.steps(0, store.end):
        for name, cell in step.cells.items():
            for kind, count in (cell.fail or {}).items():
                note((kind, name), count, number)
        for arrivals in step.classes.values():
            if arrivals.unsent:
                note(("unsent", None), arrivals.unsent, number)
                unsent.update(arrivals.unsent_by)
            # An arrival that failed without a request has no name; its error row knows the kind.
            if arrivals.failed and not told_failed:
                note(("exception", None), arrivals.failed, number)
    found = []
    for key in counted.keys() | store.errors.keys():
        told = store.errors.get(key)
        counts = counted.get(key) or told or ErrorSeen()
        times = told if told is not None and told.count else counts
        example = told.example if told is not None else ""
        if key[0] == "unsent" and (not example or len(unsent) > 1):
            example = "; ".join(f"{unsent[cause]:,}: {why}" for cause, why in UNSENT_WHY.items() if unsent[cause])
        found.append(
            ErrorResult(
                kind=key[0],
                name=key[1],
                count=counts.count,
                first_s=times.first_s,
                last_s=times.last_s,
                example=example,
                traces=tuple(told.traces) if told is not None else (),
            )
        )
    return tuple(sorted(found, key=lambda e: (-e.count, e.kind, e.name or "")))


def _measured(names: NameTotals, error_rate: float | None) -> Measured | None:
    if not names.backfilled_failed and not (names.backfilled and names.backfilled_sketch):
        return None
    measured = names.measured()
    return Measured(
        error_rate=_round(error_rate),
        mean_ms=_round(measured.mean_ms),
        p50_ms=_round(measured.quantile_ms(0.5)),
        p95_ms=_round(measured.quantile_ms(0.95)),
        p99_ms=_round(measured.quantile_ms(0.99)),
    )


def _round(value: float | None) -> float | None:
    """Six digits: more is noise that would make two analyses of one run look different."""
    return None if value is None else round(value, 6)


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in values.items()}
