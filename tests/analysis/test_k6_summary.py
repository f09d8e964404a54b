"""The gate for k6's summaries, in both shapes that k6 1.8 writes, and for what is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from harness.analysis.k6_summary import check_k6_summary, is_k6_summary
from harness.cli.commands.check import check
from harness.model.errors import UsageError
from harness.plan.scenarios import SCENARIOS

TOOK = {"avg": 45.5, "min": 1.0, "med": 40.25, "max": 800.0, "p(90)": 100.0, "p(95)": 120.5}


def metrics(requests: int = 1000, failed: int = 0, tags: str = "", **took: float) -> dict[str, dict[str, Any]]:
    return {
        f"http_req_duration{tags}": {**TOOK, **took},
        f"http_req_failed{tags}": {"value": failed / max(1, requests), "passes": failed, "fails": requests - failed},
        f"http_reqs{tags}": {"count": requests, "rate": 196.0},
    }


def exported(path: Path, found: dict[str, dict[str, Any]]) -> Path:
    """As --summary-export has it."""
    tables = {name: {**values, "thresholds": {"p(95)<1": False}} for name, values in found.items()}
    path.write_text(json.dumps({"root_group": {"name": "", "checks": {}}, "metrics": tables}))
    return path


def handled(path: Path, found: dict[str, dict[str, Any]]) -> Path:
    """As handleSummary() gets it."""
    kinds = {"http_reqs": "counter", "http_req_failed": "rate", "http_req_duration": "trend"}
    tables = {
        name: {"type": kinds.get(name.partition("{")[0], "counter"), "contains": "default", "values": values}
        for name, values in found.items()
    }
    state = {"isStdOutTTY": False, "testRunDurationMs": 5100.1}
    path.write_text("\ufeff" + json.dumps({"root_group": {}, "options": {}, "state": state, "metrics": tables}))
    return path


@pytest.mark.parametrize("file", ["k6_export.json", "k6_handled.json"])
def test_files_that_k6_has_written(file: str) -> None:
    """By k6 1.8.1: 60 iterations a second for 3 s, each with a request that went well and one that failed."""
    found = check_k6_summary(Path(__file__).parent / "files" / file, ["p99 < 1s"])
    assert (found.exit_code, found.requests, found.failures) == (1, 362, 181)
    assert 110 < found.rps < 130 and found.p95_ms is not None and (found.p99_ms is None) == ("handled" in file)
    good = check_k6_summary(Path(__file__).parent / "files" / file, ["error_rate < 5%"], name="good")
    assert (good.exit_code, good.requests, good.failures) == (0, 181, 0)


@pytest.mark.parametrize("write", [exported, handled])
def test_both_shapes_say_the_same(tmp_path: Path, write: Any) -> None:
    path = write(tmp_path / "summary.json", metrics(failed=9))
    assert is_k6_summary(path)
    found = check_k6_summary(path, scenario=SCENARIOS["target"], scale=0.02)
    assert (found.verdict, found.requests, found.failures, found.rps) == ("pass", 1000, 9, 196.0)
    assert (found.p50_ms, found.p95_ms, found.p99_ms, found.mean_ms, found.max_ms) == (40.25, 120.5, None, 45.5, 800)
    assert check_k6_summary(write(path, metrics(failed=10))).exit_code == 1
    assert check_k6_summary(write(path, metrics(**{"p(95)": 200.0}))).exit_code == 1
    assert check_k6_summary(write(path, metrics()), ["rps >= 197"]).exit_code == 1


def test_what_is_not_there_never_passes(tmp_path: Path) -> None:
    path = exported(tmp_path / "s.json", metrics())
    found = check_k6_summary(path, ["p99 < 1s"])
    assert found.exit_code == 3 and "k6 wrote no value" in found.reasons[0]
    assert check_k6_summary(exported(path, metrics(**{"p(99)": 900.0})), ["p99 < 1s"]).exit_code == 0
    assert check_k6_summary(exported(path, metrics(40))).exit_code == 3
    dropped = {**metrics(), "dropped_iterations": {"count": 12, "rate": 1.0}}
    found = check_k6_summary(exported(path, dropped))
    assert found.exit_code == 3 and "dropped 12 iterations" in found.reasons[-1]
    assert check_k6_summary(exported(path, {**dropped, **metrics(failed=500)})).exit_code == 1
    assert not check_k6_summary(exported(path, {**metrics(), "dropped_iterations": {"count": 0}})).reasons


def test_requests_by_their_tags(tmp_path: Path) -> None:
    both = {**metrics(), **metrics(500, 100, tags="{name:/cart}"), **metrics(100, tags="{kind:read}")}
    both["http_req_duration{expected_response:true}"] = TOOK
    path = exported(tmp_path / "s.json", both)
    assert check_k6_summary(path).exit_code == 0
    assert check_k6_summary(path, name="/cart").exit_code == 1
    assert check_k6_summary(path, name="kind:read").requests == 100
    assert check_k6_summary(path, ["error_rate{/cart} < 5%"]).exit_code == 1
    with pytest.raises(UsageError, match="no row called 'expected_response:true'"):
        check_k6_summary(path, name="expected_response:true")


@pytest.mark.parametrize(
    ("text", "says"),
    [("fault: p95 < 1s", "a summary of k6's has no phases"), ("recovery < 30s", "is not in a summary of k6's")],
)
def test_targets_that_cannot_apply_are_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        check_k6_summary(exported(tmp_path / "s.json", metrics()), [text])


def without(name: str) -> dict[str, dict[str, Any]]:
    return {key: value for key, value in metrics().items() if key != name}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({}, "has no table `metrics`"),
        ({"version": "1.0.0", "results": {"metrics": []}}, "has no table `metrics`"),
        ({"metrics": []}, "has no table `metrics`"),
        ({"metrics": {}}, "has no metric http_reqs"),
        ({"metrics": without("http_req_failed")}, "has no metric http_req_failed"),
        ({"metrics": {**metrics(), "http_reqs": 7}}, "http_reqs is no table"),
        ({"metrics": {**metrics(), "http_reqs": {"count": 1000}}}, "http_reqs has no rate"),
        ({"metrics": {**metrics(), "http_reqs": {"count": "many", "rate": 1}}}, "count of http_reqs is no number"),
        ({"metrics": {**metrics(), "http_reqs": {"count": True, "rate": 1}}}, "count of http_reqs is no number"),
        ({"metrics": {**metrics(), "http_reqs": {"count": -1, "rate": 1}}}, "http_reqs has counts that are none"),
        ({"metrics": {**metrics(), "http_reqs": {"count": 1e300, "rate": 1}}}, "http_reqs has counts that are none"),
        ({"metrics": {**metrics(), "http_reqs": {"count": 900, "rate": 1}}}, "is of 1,000 requests"),
        ({"metrics": metrics(**{"p(95)": -5.0})}, "'-5.0', not a number"),
    ],
)
def test_what_is_no_summary_is_one_line(tmp_path: Path, data: Any, says: str) -> None:
    path = tmp_path / "s.json"
    path.write_text(json.dumps(data))
    with pytest.raises(UsageError) as refused:
        check_k6_summary(path)
    assert says in str(refused.value) and "\n" not in str(refused.value) and refused.value.exit_code == 2


@pytest.mark.parametrize(
    "content", [b"{", b"{" * 100_000, b'{"metrics": {"http_reqs": NaN}}', b'{"\xff": 1}', b"{} {}"]
)
def test_damage_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s.json"
    path.write_bytes(content)
    assert is_k6_summary(path)
    with pytest.raises(UsageError, match=r"cannot be read as JSON") as refused:
        check_k6_summary(path)
    assert "\n" not in str(refused.value)


def test_the_command_reads_either(tmp_path: Path) -> None:
    path = exported(tmp_path / "s.json", metrics(failed=10))
    done = CliRunner().invoke(check, [str(path)], standalone_mode=False)
    assert done.return_value == 1
    assert "TARGET ASSESSMENT" in done.output and "1,000 requests, 10 failures (1%)" in done.output
    assert "\nFAIL\n" in done.output
