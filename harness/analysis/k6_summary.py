"""The gate for k6's end-of-test summary: what `k6 run --summary-export FILE` or handleSummary() writes as JSON.

Judged as a row of Locust's CSV file is. k6 has one latency, http_req_duration: from sending a request to the last byte,
without the wait for a connection, failed requests included.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from harness.analysis.locust_csv import (
    AGGREGATED,
    COLUMNS,
    MAX_BYTES,
    CsvCheck,
    Row,
    Writer,
    judge_rows,
)
from harness.model.errors import UsageError
from harness.model.files import open_regular, read_limited
from harness.model.records.load import Scenario
from harness.model.records.metrics import METRICS

K6 = Writer("k6", "a summary of k6's")
_REQUESTS, _FAILED, _TOOK = "http_reqs", "http_req_failed", "http_req_duration"
_TAGGED = re.compile(rf"(?:{_REQUESTS}|{_FAILED}|{_TOOK})\{{([^{{}}]*)\}}")

_Values = Mapping[str, float | None]


def is_k6_summary(path: Path) -> bool:
    """By its first character: no CSV file of Locust's begins with a brace."""
    try:
        with open_regular(path) as file:
            return file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")
    except (OSError, UsageError):
        return False  # told by who reads it


def check_k6_summary(
    path: Path,
    targets: Sequence[str] = (),
    *,
    name: str = AGGREGATED,
    scenario: Scenario | None = None,
    scale: float = 1.0,
) -> CsvCheck:
    """As check_stats_csv. name: of requests for which thresholds of the script name all three metrics: a value of the
    tag `name`, or `tag:value`.

    Raises UsageError for what is no summary of a test that made HTTP requests.
    """
    metrics = _metrics(path)
    rows = [_row(metrics, AGGREGATED, "", path)]
    tagged = sorted({found[1] for metric in metrics if (found := _TAGGED.fullmatch(metric))})
    for tags in tagged:
        if all(f"{metric}{{{tags}}}" in metrics for metric in (_REQUESTS, _FAILED, _TOOK)):
            rows.append(_row(metrics, tags.removeprefix("name:"), f"{{{tags}}}", path))
    dropped = _whole(_values(metrics, "dropped_iterations", path).get("count", 0), "dropped_iterations", path)
    doubt = ""
    if dropped:
        doubt = f"k6 dropped {dropped:,} iterations for want of VUs: what they would have met is in no figure."
    return judge_rows(rows, K6, path, targets, name=name, scenario=scenario, scale=scale, doubt=doubt)


def _metrics(path: Path) -> Mapping[str, Any]:
    try:
        data = msgspec.json.decode(read_limited(path, MAX_BYTES).removeprefix(b"\xef\xbb\xbf"))
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as JSON: {error}") from error
    metrics = data.get("metrics") if isinstance(data, dict) else None
    if not isinstance(metrics, dict):
        raise UsageError(
            f"{path} is no summary of k6's: it has no table `metrics`",
            hint="k6 run --summary-export FILE, without --new-machine-readable-summary",
        )
    return metrics


def _row(metrics: Mapping[str, Any], name: str, tags: str, path: Path) -> Row:
    """A row as Locust has them. tags: the end of the metrics' names."""
    requests, failed, took = (_values(metrics, metric + tags, path) for metric in (_REQUESTS, _FAILED, _TOOK))
    count = _whole(requests.get("count"), f"{_REQUESTS}{tags}", path)
    bad, good = (_whole(failed.get(key), f"{_FAILED}{tags}", path) for key in ("passes", "fails"))
    if bad + good != count:
        raise UsageError(
            f"{path}: {_FAILED}{tags} is of {bad + good:,} requests, and {_REQUESTS}{tags} of {count:,}",
            hint="k6 counts no failures where a script sets responseCallback to null",
        )
    if requests.get("rate") is None:
        raise UsageError(f"{path} is no summary of k6's: {_REQUESTS}{tags} has no rate")
    tables = {_REQUESTS: requests, _FAILED: failed, _TOOK: took}
    found = {COLUMNS["requests"]: count, COLUMNS["failures"]: bad, COLUMNS["mean"]: took.get("avg")}
    for traits in METRICS.values():
        if traits.k6:
            metric, _, value = traits.k6.partition(" ")
            found[traits.column] = tables[metric].get(value)
    columns = {column: "" if value is None else repr(value) for column, value in found.items()}
    return {"Type": "", "Name": name, **columns}


def _values(metrics: Mapping[str, Any], metric: str, path: Path) -> _Values:
    """Of a metric; --summary-export has them beside its thresholds, handleSummary in a table of their own."""
    table = metrics.get(metric)
    if table is None:
        if metric == "dropped_iterations":
            return {}
        raise UsageError(f"{path} has no metric {metric}: a summary of a test that made HTTP requests is wanted")
    values = table.get("values", table) if isinstance(table, dict) else None
    if not isinstance(values, dict):
        raise UsageError(f"{path} is no summary of k6's: {metric} is no table")
    numbers = {key: value for key, value in values.items() if key not in ("thresholds", "type", "contains")}
    for key, value in numbers.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise UsageError(f"{path}: {key} of {metric} is no number")
    return numbers


def _whole(value: float | None, metric: str, path: Path) -> int:
    if value is None or not 0 <= value <= 1e12 or value != int(value):
        raise UsageError(f"{path}: {metric} has counts that are none")
    return int(value)
