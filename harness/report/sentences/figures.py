"""The columns of numbers that every table of phases and requests has, in every form of the report."""

from __future__ import annotations

from collections.abc import Sequence

from harness.model.records.result import PhaseResult, RequestResult
from harness.report.sentences import text

FIGURES = ("Requests", "Failures", "Fail %", "RPS", "Mean", "p50", "p95", "p99", "Max")
FAILED = ("Failed p50", "Failed p95")
"""What those waited who were told of a failure; the percentiles before them are of successful requests."""


def columns_for(rows: Sequence[PhaseResult | RequestResult]) -> tuple[str, ...]:
    """FIGURES, with those of failed requests beside them where any is known."""
    return (*FIGURES, *FAILED) if any(row.failed_p50_ms is not None for row in rows) else FIGURES


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
        "Failed p50": _failed(row, row.failed_p50_ms),
        "Failed p95": _failed(row, row.failed_p95_ms),
    }
    return tuple(cells[column] for column in columns)


def _failed(row: PhaseResult | RequestResult, value: float | None) -> str:
    return text.ms(value) if row.failures or value is not None else "-"
