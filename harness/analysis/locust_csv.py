"""The gate for a file that plain Locust wrote: `locust --csv NAME` leaves NAME_stats.csv.

Such a file has no phases and its percentiles are rounded to whole milliseconds and include failed requests, so the
row is compared literally; a target is undecided only where there are too few requests. k6_summary.py makes the same
rows of what k6 wrote.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import msgspec

from harness.analysis.rules.targets import COMPARE
from harness.analysis.statistics.binomial import judge_proportion, needed
from harness.model.errors import UsageError
from harness.model.exit_codes import ExitCode
from harness.model.files import read_limited
from harness.model.records.load import Scenario
from harness.model.records.metrics import ALLOWED_OVER, METRICS, NAMED
from harness.model.records.result import Outcome, TargetResult, Verdict
from harness.model.records.targets import Target
from harness.model.target_grammar import did_you_mean, merge, parse_expression
from harness.model.units import format_rps

AGGREGATED = "Aggregated"
DEFAULTS = ("p95 < 200ms", "error_rate < 1%")
RPS_SHARE = 0.95
MAX_BYTES = 64_000_000
MAX_VALUE = 1e12

_COLUMNS = {
    **{name: METRICS[name].column for name in NAMED if METRICS[name].column},
    "mean": "Average Response Time",
    "requests": "Request Count",
    "failures": "Failure Count",
}
Row = Mapping[str, str]
COLUMNS = MappingProxyType(_COLUMNS)


class ImpossibleRow(ValueError):
    """A number in it is one that nobody writes: str(error) says which."""


class Writer(msgspec.Struct, frozen=True):
    """Who wrote the file, and what it is called."""

    name: str
    file: str


LOCUST = Writer("Locust", "a Locust CSV file")


class CsvCheck(msgspec.Struct, frozen=True, kw_only=True):
    """What a _stats.csv or a summary of k6's says. name: the row judged. Latencies in ms, None where there is none."""

    name: str
    verdict: Verdict
    exit_code: int
    reasons: tuple[str, ...]
    targets: tuple[TargetResult, ...]
    requests: int
    failures: int
    error_rate: float | None
    rps: float
    mean_ms: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_ms: float | None


def check_stats_csv(
    path: Path,
    targets: Sequence[str] = (),
    *,
    name: str = AGGREGATED,
    scenario: Scenario | None = None,
    scale: float = 1.0,
) -> CsvCheck:
    """Judge one row: p95 < 200ms and error_rate < 1 % unless `targets` (expressions without a phase) say otherwise.

    rps is judged with a scenario that has a rate (95 % of rate x scale) or by a target of its own, else reported.
    Raises UsageError for a file that is no _stats.csv or has not one row of all requests, a row that is not there, a
    target that cannot apply.
    """
    return judge_rows(_read(path), LOCUST, path, targets, name=name, scenario=scenario, scale=scale)


def judge_rows(
    rows: Sequence[Row],
    writer: Writer,
    path: Path,
    targets: Sequence[str],
    *,
    name: str,
    scenario: Scenario | None,
    scale: float,
    doubt: str = "",
) -> CsvCheck:
    """The same of rows that were read. doubt: what takes a PASS away. Raises UsageError."""
    try:
        return _checked(rows, writer, path, targets, name, scenario, scale, doubt)
    except ImpossibleRow as error:
        raise UsageError(f"{path}: {error}") from error


def _checked(
    rows: Sequence[Row],
    writer: Writer,
    path: Path,
    targets: Sequence[str],
    name: str,
    scenario: Scenario | None,
    scale: float,
    doubt: str,
) -> CsvCheck:
    row = _row(rows, name, path)
    parsed = tuple(_target(text, writer) for text in targets)
    base = tuple(parse_expression(text) for text in DEFAULTS)
    if scenario is not None and scenario.rate is not None and not any(t.traits.of_plan for t in parsed):
        base = (parse_expression(f"rps >= {RPS_SHARE * scenario.rate * scale:.12g}"), *base)
    wanted = merge(base, parsed)
    results = [_judge(t, row if t.name is None else _row(rows, t.name, path), writer) for t in wanted]
    rps = _number(row, "rps") or 0.0
    if not any(target.traits.of_plan for target in wanted):
        results.insert(0, _reported(rps))
    reasons = tuple(_reason(result) for result in results if result.primary and result.outcome != "held")
    outcomes = {result.outcome for result in results if result.primary}
    verdict: Verdict = "fail" if "broken" in outcomes else "inconclusive" if doubt or outcomes - {"held"} else "pass"
    reasons += (doubt,) if doubt else ()
    code = {"pass": ExitCode.PASS, "fail": ExitCode.FAIL, "inconclusive": ExitCode.INCONCLUSIVE}[verdict]
    requests, failures = _counts(row)
    return CsvCheck(
        name=row["Name"],
        verdict=verdict,
        exit_code=int(code),
        reasons=reasons,
        targets=tuple(results),
        requests=requests,
        failures=failures,
        error_rate=failures / requests if requests else None,
        rps=rps,
        mean_ms=_number(row, "mean") if requests else None,
        p50_ms=_number(row, "p50"),
        p95_ms=_number(row, "p95"),
        p99_ms=_number(row, "p99"),
        max_ms=_number(row, "max") if requests else None,
    )


def _target(text: str, writer: Writer) -> Target:
    target = parse_expression(text)
    if target.phase is not None:
        raise UsageError(f"target {text!r}: {writer.file} has no phases; leave out `{target.phase}:`")
    relative = next((limit.relative for limit in target.limits if limit.relative is not None), None)
    if relative is not None or target.other is not None:
        raise UsageError(f"target {text!r}: {writer.file} has no {relative or 'phases'}; write a number")
    if not target.traits.column:
        raise UsageError(f"target {text!r}: {target.metric} is not in {writer.file}")
    return target


def _judge(target: Target, row: Row, writer: Writer) -> TargetResult:
    requests, failures = _counts(row)
    outcome: Outcome
    if requests == 0:
        return _result(target, None, "undecided", "no requests")
    observed = failures / requests if target.traits.failures else _number(row, target.metric)
    if observed is None:
        return _result(target, None, "undecided", f"{writer.name} wrote no value")
    if target.traits.failures:
        outcome = "held" if COMPARE[target.op](observed, target.value) else "broken"
        why = f"{failures:,} of {requests:,} requests failed"
        if 0 < target.value < 1 and requests < needed(target.value):
            outcome = judge_proportion(failures, requests, target.value, target.op)
            why += f"; from {needed(target.value):,} on the figure itself decides" if outcome == "undecided" else ""
        return _result(target, observed, outcome, why)
    outcome = "held" if COMPARE[target.op](observed, target.value) else "broken"
    if target.metric in ALLOWED_OVER and requests < needed(ALLOWED_OVER[target.metric]):
        least = needed(ALLOWED_OVER[target.metric])
        return _result(target, observed, "undecided", f"only {requests:,} requests, {least:,} are needed")
    return _result(target, observed, outcome)


def _result(target: Target, observed: float | None, outcome: Outcome, why: str = "") -> TargetResult:
    return TargetResult(
        target=target.text,
        phase=None,
        metric=target.metric,
        observed=observed,
        limit=target.value,
        outcome=outcome,
        primary=target.primary,
        why=why,
    )


def _reported(rps: float) -> TargetResult:
    return TargetResult(
        target="rps",
        phase=None,
        metric="rps",
        observed=rps,
        limit=None,
        outcome="not_judged",
        primary=False,
        why="reported; --scenario NAME or --target 'rps >= N' judges it",
    )


def _reason(result: TargetResult) -> str:
    seen = "nothing was seen"
    if result.observed is not None:
        shown = {"per_s": f"{format_rps(result.observed)} requests/s", "proportion": f"{result.observed:.2%}"}
        seen = f"observed {shown.get(result.traits.unit, f'{result.observed:g}ms')}"
    state = "is broken" if result.outcome == "broken" else "could not be decided"
    return f"{result.target} {state}: {seen}" + (f" ({result.why})." if result.why else ".")


def _read(path: Path) -> list[Row]:
    try:
        text = read_limited(path, MAX_BYTES).decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""))
        columns = reader.fieldnames or []
        rows = [{key: value for key, value in row.items() if key is not None} for row in reader]
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UsageError(f"{path} cannot be read as CSV: line {line} is not UTF-8 text") from error
    except csv.Error as error:
        raise UsageError(f"{path} cannot be read as CSV: {error}") from error
    if "Timestamp" in columns and "Total Request Count" in columns:
        raise UsageError(f"{path} is Locust's history file", hint="give the file that ends in _stats.csv")
    missing = [column for column in ("Type", "Name", *_COLUMNS.values()) if column not in columns]
    if missing:
        raise UsageError(f"{path} is not a Locust _stats.csv: it has no column {missing[0]!r}")
    named: list[Row] = [row for row in rows if row.get("Name") is not None]
    # Locust writes it once, at the end: without it the file was cut short, with two it is of two runs. This is so
    # whichever row is asked for.
    totals = sum(_is_total(row) for row in named)
    if totals != 1:
        raise UsageError(
            f"{path} has {f'{totals} rows' if totals else 'no row'} called {AGGREGATED!r}, where Locust writes one",
            hint="it holds several runs; give the file of one" if totals else "the file was cut short",
        )
    return named


def _is_total(row: Row) -> bool:
    """A request may be called Aggregated as well; it has a type."""
    return row["Name"] == AGGREGATED and not row.get("Type")


def _row(rows: Sequence[Row], name: str, path: Path) -> Row:
    """The row of a request name, or of "TYPE name" where two methods share one; "Aggregated" is all requests."""
    if name == AGGREGATED:
        return next(row for row in rows if _is_total(row))
    found = [row for row in rows if name in (row["Name"], f"{row.get('Type')} {row['Name']}")]
    if len(found) == 1:
        return found[0]
    if found:
        types = ", ".join(f"{row.get('Type')} {row['Name']}" for row in found)
        raise UsageError(f"{path}: several rows are called {name!r}; name one of: {types}")
    near = did_you_mean(name, [row["Name"] for row in rows])
    raise UsageError(f"{path} has no row called {name!r}{near}")


def _number(row: Row, column: str) -> float | None:
    """None where Locust wrote N/A. Raises ImpossibleRow for what it never writes."""
    text = row[_COLUMNS[column]]
    if text is None or text.strip() in ("", "N/A"):
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= MAX_VALUE:
        raise ImpossibleRow(
            f"{_COLUMNS[column]!r} of {row['Name']!r} is {text[:40]!r}, not a number that is ever written"
        )
    return value


def _count(row: Row, column: str) -> int:
    value = _number(row, column)
    if value is None or value != int(value):
        text = str(row[_COLUMNS[column]])[:40]
        raise ImpossibleRow(f"{_COLUMNS[column]!r} of {row['Name']!r} is {text!r}, not a whole number")
    return int(value)


def _counts(row: Row) -> tuple[int, int]:
    """(requests, failures)."""
    requests, failures = _count(row, "requests"), _count(row, "failures")
    if failures > requests:
        raise ImpossibleRow(f"{row['Name']!r} has {failures:,} failures of {requests:,} requests, which cannot be")
    return requests, failures
