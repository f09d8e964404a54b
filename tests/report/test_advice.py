"""Each piece of advice stands where its evidence is, and must not appear on a run where it is not."""

from __future__ import annotations

import msgspec
import pytest

from harness.model.records.result import GeneratorResult, PhaseResult
from harness.report.findings.notes import notes
from harness.report.findings.rules import findings
from harness.report.html.page import _p95_words
from harness.report.terminal import summary as terminal

from .claims import FAIL, PASS, error, found, healthy, judged, row, with_rows
from .sample import result


def test_only_one_request_fails_is_a_matter_of_rates() -> None:
    cope = (*healthy("GET /a", "GET /b"), row("POST /x", "baseline", 0, 500), row("POST /x", "fault", 400, 500))
    made = with_rows("fail", *cope, errors=(error("status", "POST /x", 400),))
    assert found("fail", made)["one-endpoint"].title == "Only POST /x failed"
    rare = (*healthy("GET /a", "GET /b"), row("GET /r", "baseline", 0, 6), row("GET /r", "fault", 6, 6))
    assert "6 of 6 times" in found("pass", with_rows("pass", *rare))["one-endpoint"].seen
    all_fail = tuple(row(name, "baseline", 0, n) for name, n in (("A", 5000), ("B", 60), ("C", 60)))
    all_fail += tuple(row(name, "fault", n, n) for name, n in (("A", 5000), ("B", 60), ("C", 60)))
    assert "one-endpoint" not in found("fail", with_rows("fail", *all_fail)), "97 % of failures, and nobody copes"


def test_a_failing_health_check_is_no_missing_fallback() -> None:
    names = (
        *healthy("GET /a", "GET /b"),
        row("GET /health", "baseline", 0, 200),
        row("GET /health", "fault", 200, 200),
    )
    keys = found("fail", with_rows("fail", *names, errors=(error("status", "GET /health", 200, example="503"),)))
    assert "health-check" in keys and not {"no-fallback", "one-endpoint"} & keys.keys()
    both = (*names, row("POST /x", "baseline", 0, 500), row("POST /x", "fault", 400, 500))
    errors = (error("status", "GET /health", 200), error("status", "POST /x", 400))
    keys = found("fail", with_rows("fail", *both, errors=errors))
    assert "no-fallback" in keys and "health-check" not in keys


@pytest.mark.parametrize(
    ("took", "says", "not_"),
    [(8.0, "rather than left waiting", "callers waited"), (1500.0, "callers waited for the error", "rather than left")],
)
def test_how_long_an_error_took_is_told(took: float, says: str, not_: str) -> None:
    rows = (row("POST /x", "baseline", 0, 500), row("POST /x", "fault", 420, 500, took=took))
    seen = found("fail", with_rows("fail", *rows, errors=(error("status", "POST /x", 420),)))["no-fallback"].seen
    assert says in seen and not_ not in seen


def test_the_p95_of_the_few_that_succeeded_says_so() -> None:
    fault: PhaseResult = next(p for p in result("fail").phases if p.name == "fault")
    hang = msgspec.structs.replace(fault, error_rate=0.84, p95_ms=42.0, failed_p95_ms=1500.0)
    assert _p95_words(hang, 40.0) == "of the 16% that succeeded; failed ones took 1.5s (p95); 40ms in baseline"
    assert _p95_words(msgspec.structs.replace(fault, error_rate=0.0), 40.0) == "40ms in baseline"
    assert "Failed p95" in terminal.summary(FAIL, result("fail"), width=120, colour=False)
    assert "Failed p95" not in terminal.summary(PASS, result("pass"), width=120, colour=False)


def test_everything_waits_only_where_everything_does() -> None:
    before = tuple(row(name, "baseline", 0, 100) for name in ("A", "B", "GET /health"))
    frozen = (*before, *(row(name, "fault", 0, 100, p95=1900.0) for name in ("A", "B", "GET /health")))
    made = with_rows("fail", *frozen)
    assert "everything-waits" in found("fail", made) and "all 3 of them" in " ".join(notes(FAIL, made))
    # A generator that could not keep up makes every reply slow, but not by what it did in baseline.
    for stretch, told in (((80.0, 90.0), False), ((20.0, 30.0), True)):
        late = GeneratorResult(cpu=0.9, lateness_p99_ms=180, unsent=0, saturated=(stretch,))
        starved = msgspec.structs.replace(made, generator=late)
        assert ("everything-waits" in found("fail", starved)) == told
        assert ("all 3 of them" in " ".join(notes(FAIL, starved))) == told
    one_fine = (*frozen[:-1], row("GET /health", "fault", 0, 100))
    made = with_rows("fail", *one_fine)
    assert "everything-waits" not in found("fail", made) and "Every request" not in " ".join(notes(FAIL, made))


def test_refusals_that_were_there_before_are_not_the_faults() -> None:
    rows = (row("A", "baseline", 0, 900), row("A", "fault", 700, 900))
    assert "target-down" in found("fail", with_rows("fail", *rows, errors=(error("refused", "A", 700),)))
    for errors in (
        (error("refused", "A", 700, first_s=20.0),),
        (error("refused", "A", 5), error("status", "A", 695)),
    ):
        assert "target-down" not in found("fail", with_rows("fail", *rows, errors=errors))


def broken_baseline(kind: str, example: str, rate: float = 1.0) -> str:
    base = result("inconclusive")
    phases = tuple(msgspec.structs.replace(p, error_rate=rate) if p.name == "baseline" else p for p in base.phases[:2])
    made = msgspec.structs.replace(
        base,
        phases=phases,
        targets=(judged("baseline: error_rate < 1%", rate),),
        errors=(error(kind, "GET /a", 9000, first_s=0.2, example=example),),
    )
    return found("fail", made)["baseline-broken"].advice


def test_less_load_is_advised_only_where_load_is_the_cause() -> None:
    assert "its login" in broken_baseline("status", "HTTPError: 401 Client Error: Unauthorized for url: http://x:8401/")
    assert "paths and bodies" in broken_baseline("status", "HTTPError: 404 Client Error: Not Found for url: http://x/")
    assert "start the service" in broken_baseline("refused", "ConnectionRefusedError: [Errno 111]")
    for advice in (broken_baseline("status", "HTTPError: 401 Client Error"), broken_baseline("refused", "refused")):
        assert "Lower the load" not in advice
    assert "Not one request succeeded" in broken_baseline("status", "HTTPError: 503 Server Error")
    assert "Lower the load" in broken_baseline("status", "HTTPError: 503 Server Error", rate=0.8)
    assert "Lower the load" in broken_baseline("status", "HTTPError: 401 Client Error", rate=0.02)


def test_more_workers_are_advised_only_to_a_generator_that_was_busy() -> None:
    for cpu, workers in ((0.96, True), (0.096, False)):
        made = GeneratorResult(cpu=cpu, lateness_p99_ms=180, unsent=0, saturated=((80.0, 90.0),))
        advice = found("fail", msgspec.structs.replace(result("fail"), generator=made))["saturated-generator"].advice
        assert ("Add load workers" in advice) is workers


def test_more_processes_are_advised_only_where_cores_are_left() -> None:
    busy = msgspec.structs.replace(result("pass"), cpu_by_phase={"baseline": 0.93})
    for workers, more in ((1, True), (2, False)):
        plan = msgspec.structs.replace(PASS, target_workers=workers)  # on two cores
        advice = next(f for f in findings(plan, busy) if f.key == "cpu").advice
        assert ("More worker processes" in advice) is more
