"""The columns of numbers that every table of phases and requests has, in every form of the report."""

from __future__ import annotations

from collections.abc import Sequence

from harness.model.result import PhaseResult, RequestResult
from harness.report import text

FIGURES = ("Requests", "Failures", "Fail %", "RPS", "Mean", "p50", "p95", "p99", "Max")


def figures(row: PhaseResult | RequestResult, columns: Sequence[str] = FIGURES) -> tuple[str, ...]:
    """The cells of these columns, in their order."""
    cells = {
        "Requests": text.count(row.requests),
        "Failures": text.count(row.failures),
        "Fail %": text.percent(row.error_rate),
        "RPS": text.rps(row.rps),
        "Mean": text.ms(row.mean_ms),
        "p50": text.ms(row.p50_ms),
        "p95": text.ms(row.p95_ms),
        "p99": text.ms(row.p99_ms),
        "Max": text.ms(row.max_ms),
    }
    return tuple(cells[column] for column in columns)
