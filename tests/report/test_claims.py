"""Every sentence is a claim: each is looked for where it is true, and must not appear where it is not."""

from __future__ import annotations

import msgspec

from harness.model.records.result import (
    AfterLoadResult,
    ImpactResult,
    NameResult,
    RecoveryResult,
    Result,
    SignalResult,
    TargetRecovery,
    TargetResult,
)
from harness.model.target_grammar import parse_targets
from harness.report import markdown
from harness.report.findings.notes import notes
from harness.report.html import charts
from harness.report.sentences.recovery_words import recovery_sentence
from harness.report.sentences.story import headline
from harness.report.terminal import summary as terminal

from .claims import FAIL, PASS, error, found, healthy, judged, row, with_rows
from .sample import ZERO_S, history, plan_of, result
from .sample_chart import chart

# -- the first sentence ------------------------------------------------------------------------------------------------


def failed(*targets: TargetResult, **changes: object) -> str:
    plan = msgspec.structs.replace(FAIL, targets=tuple(t for r in targets for t in parse_targets(r.target)))
    phases = tuple(
        msgspec.structs.replace(p, error_rate=0.949, p50_ms=9000.0, p95_ms=9990.0) if p.name == "fault" else p
        for p in result("fail").phases
    )
    made = msgspec.structs.replace(result("fail"), targets=targets, reasons=(), phases=phases, **changes)
    return headline(plan, made)


def test_the_worst_harm_comes_first() -> None:
    said = failed(judged("fault: p95 < 200ms", 9990.0), judged("fault: error_rate < 1%", 0.949))
    assert said.startswith("FAIL: with redis-down, 94.9% of requests failed during the fault")
    few = failed(judged("fault: p50 < 100ms", 9000.0), judged("after: error_rate < 1%", 0.011))
    assert few.startswith("FAIL: with redis-down, P50 Latency was 9s"), "half of all waited, 1.1 % failed"


def test_a_service_that_never_recovered_is_said_to_be_so_before_a_latency_that_nobody_had() -> None:
    """Where nearly all failed there is little to say of the others' latency."""
    targets = (
        judged("fault: error_rate < 1%", 0.949),
        judged("fault: p95 < 200ms", None),
        judged("recovery < 30s", None),
    )
    before = result("fail").recovery
    assert before is not None
    never = msgspec.structs.replace(before, outcome="not_recovered", seconds=None, lower_s=60.0, upper_s=None)
    said = failed(*targets, recovery=never)
    assert "94.9% of requests failed during the fault" in said and "did not recover" in said
    assert "not one request succeeded" not in said and "1 more target was broken" in said


def test_a_named_target_speaks_of_its_name() -> None:
    assert "12% of the requests of POST /x failed" in failed(judged("fault: error_rate{POST /x} < 1%", 0.12))
    assert "P95 Latency of POST /x was 900ms" in failed(judged("fault: p95{POST /x} < 200ms", 900.0))
    assert "not one request of POST /x succeeded" in failed(judged("fault: p95{POST /x} < 200ms", None))
    assert " of POST" not in failed(judged("fault: error_rate < 1%", 0.12))


def test_a_name_that_breaks_a_target_of_all_is_named_with_its_count() -> None:
    one = NameResult(name="GET /rare", bad=15, n=15, limit=0.01, bad_s=9, asked_s=9, outcome="broken")
    said = failed(judged("fault: error_rate < 1%", 0.006, names=(one,)))
    assert "GET /rare failed 15 of 15 times during the fault" in said and "0.6% of requests failed" not in said
    assert "94.9% of requests failed" in failed(judged("fault: error_rate < 1%", 0.949, names=(one,)))
    allowed = msgspec.structs.replace(one, outcome="allowed")
    assert "GET /rare" not in failed(judged("fault: error_rate < 1%", 0.02, names=(allowed,)))


def test_it_did_not_recover_only_where_it_did_not() -> None:
    late = judged("recovery < 3s", None)
    recovery = result("fail").recovery
    assert recovery is not None
    gone = msgspec.structs.replace(recovery, outcome="not_recovered", seconds=None, lower_s=60.0)
    assert "did not recover within 1m" in failed(late, recovery=gone)
    assert "did not recover" not in failed(late, recovery=msgspec.structs.replace(recovery, outcome="undecided"))


def test_no_impact_is_said_only_where_nobody_noticed() -> None:
    calm = with_rows("pass", *healthy("GET /a", "GET /b"))
    assert headline(PASS, calm).endswith("and its users saw no impact.")
    assert calm.impact is not None

    one = (*healthy("GET /a"), row("GET /rare", "baseline", 0, 6), row("GET /rare", "fault", 6, 6))
    said = headline(PASS, with_rows("pass", *one))
    assert "GET /rare failed 6 of 6 times during the fault" in said
    assert "no impact" not in said and "kept every target" not in said

    hurt = msgspec.structs.replace(calm.impact, by_name={"GET /b": 7})
    said = headline(PASS, msgspec.structs.replace(calm, impact=hurt))
    assert "GET /b failed or was too slow 7 times" in said and "no impact" not in said

    few = msgspec.structs.replace(calm.impact, failed_requests=3)
    assert headline(PASS, msgspec.structs.replace(calm, impact=few)).endswith(
        "3 requests failed from the injection on."
    )

    slow = (*healthy("GET /a"), row("GET /b", "baseline", 0, 900), row("GET /b", "fault", 0, 900, p95=190.0))
    assert "no impact" not in headline(PASS, with_rows("pass", *slow))


def signal(before: float, now: float, *, counter: bool = False, noise: float = 0.0) -> SignalResult:
    return SignalResult(by_phase={"baseline": before, "fault": now}, counter=counter, noise=noise)


def test_worse_answers_are_told_and_noise_is_not() -> None:
    rows = healthy("GET /a", "GET /b")
    worse = {
        "cache_hit_rate": signal(0.83, 0.22, noise=0.02),
        "stale_answers_total": signal(0.0, 818.0, counter=True),
        "redis_up": signal(1.0, 0.05),
    }
    made = with_rows("pass", *rows, signals=worse)
    said = headline(PASS, made)
    assert "stale_answers_total rose from 0 to 818/s" in said and "cache_hit_rate fell from 0.83 to 0.22" in said
    assert "no impact" not in said and "redis_up" not in said, "the fault itself is no answer of the service"
    assert any("cache_hit_rate fell" in note for note in notes(PASS, made))

    calm = {
        "backlog": signal(1.2, 0.62, noise=1.1),
        "cache_hit_rate": signal(0.83, 0.80, noise=0.001),
        "lag": signal(0.0, 0.3),
    }
    made = with_rows("pass", *rows, signals=calm)
    assert "no impact" in headline(PASS, made) and not notes(PASS, made)
    control = plan_of("control")
    assert "fell" not in headline(control, msgspec.structs.replace(made, signals=worse))
    assert not notes(control, msgspec.structs.replace(made, signals=worse))


def test_the_signals_that_moved_are_drawn() -> None:
    """Not the first eight by alphabet, and none that did not move."""
    names = [f"a{i:02}_total" for i in range(20)] + ["z_backlog"]
    data = chart("fail")
    data = msgspec.structs.replace(data, signals={name: [1.0] * len(data.sample_t) for name in names})
    signals = {name: signal(100.0, 104.0, counter=True, noise=5.0) for name in names}
    made = msgspec.structs.replace(result("fail"), signals=signals | {"z_backlog": signal(3.0, 900.0, noise=1.0)})
    drawn = [p.title for p in charts.panels(FAIL, made, data, history("fail")) if p.id.startswith("signal")]
    assert drawn == ["z_backlog"]


def test_what_failed_requests_took_is_drawn_where_any_failed() -> None:
    data = chart("fail")
    failed = msgspec.structs.replace(data, failed_p95_ms=[1500.0] * len(data.t))
    for one, there in ((failed, True), (data, False)):
        panel = next(p for p in charts.panels(FAIL, result("fail"), one, history("fail")) if p.id == "latency")
        assert ("p95 of failed" in [entry.name for entry in panel.entries]) is there and (
            "what failed requests took" in panel.note
        ) is there


def test_a_control_run_says_so_at_its_start_and_in_its_first_sentence() -> None:
    plan, made = plan_of("control"), result("control")
    assert headline(plan, made).startswith("PASS: in a control run, without any fault")
    assert terminal.summary(plan, made, colour=False).startswith("control run, no fault / target")
    assert "control run" not in headline(PASS, result("pass"))
    undecided = msgspec.structs.replace(made, verdict="inconclusive", reasons=("too few requests",))
    assert "this control run" in headline(plan, undecided)


# -- recovery ----------------------------------------------------------------------------------------------------------


def recovery(**changes: object) -> Result:
    base = result("fail")
    assert base.recovery is not None
    return msgspec.structs.replace(base, recovery=msgspec.structs.replace(base.recovery, **changes))


def test_what_was_over_before_the_undo_was_not_no_impact() -> None:
    none = {"outcome": "no_impact", "seconds": 0.0, "lower_s": 0.0, "upper_s": 0.15, "targets": ()}
    early = recovery(**none)
    assert "What the fault broke was over before the undo" in recovery_sentence(FAIL, early)
    calm = msgspec.structs.replace(early, impact=result("pass").impact)
    assert recovery_sentence(FAIL, calm).startswith("No target was broken when the fault ended")
    for text in (terminal.summary(FAIL, early, colour=False), markdown.render(FAIL, early)):
        assert "no recovery was needed" not in text and "no impact" not in text


def test_short_relapses_do_not_read_as_a_failed_recovery() -> None:
    after = ZERO_S + 20
    blips = recovery(relapses=((after, after + 0.2), (after + 5, after + 5.1)), relapsed=(12, 3))
    said = recovery_sentence(FAIL, blips)
    assert "Recovered 1.3s after" in said and "broken again 2 times, too shortly to undo it (15 bad requests)" in said
    keys = found("fail", blips)
    assert "slow-recovery" not in keys and "12 bad requests" in keys["relapse"].seen
    outage = recovery(seconds=40.0, lower_s=39.0, upper_s=41.0, relapses=((after, after + 19),), relapsed=(900,))
    assert "it fell again once, and the last recovery counts" in recovery_sentence(FAIL, outage)
    assert "relapse" not in found("fail", result("fail"))


def test_only_what_is_broken_at_the_end_did_not_come_back() -> None:
    gone = recovery(outcome="not_recovered", seconds=None, lower_s=60.0)
    assert gone.impact is not None
    end = gone.phases[-1].end_s
    dead, well = (
        AfterLoadResult(outcome="no_answer", seconds=60.4),
        AfterLoadResult(outcome="as_in_baseline", seconds=2),
    )
    cases = ((end - 1, dead, True), (end - 1, well, False), (end - 1, None, False), (end - 20, dead, False))
    for last, after, by_itself in cases:
        impact = msgspec.structs.replace(gone.impact, violating=((72.5, last),))
        one = found("fail", msgspec.structs.replace(gone, impact=impact, after_load=after))["slow-recovery"]
        assert ("by itself" in one.title) is by_itself and ("only a restart helps" in one.advice) is by_itself


def test_an_end_that_fades_is_told_as_an_interval() -> None:
    graded = recovery(graded=True, why="it came back by degrees", lower_s=2.0, upper_s=5.0, seconds=4.0)
    assert recovery_sentence(FAIL, graded) == "Came back by degrees, between 2s and 5s after the undo took effect."
    assert "(by degrees, between 2s and 5s)" in terminal.summary(FAIL, graded, colour=False)
    assert "degrees" not in terminal.summary(FAIL, result("fail"), colour=False)


def test_bursts_episodes_and_longer_phases_are_told() -> None:
    calm = with_rows("pass", *healthy("GET /a", n=3000))
    assert not notes(PASS, calm)
    bursts = tuple(msgspec.structs.replace(p, dispersion=20.0) if p.name == "fault" else p for p in calm.phases)
    assert calm.impact is not None
    told = msgspec.structs.replace(calm, phases=bursts, impact=msgspec.structs.replace(calm.impact, as_in_baseline=2))
    said = " ".join(notes(PASS, told))
    assert "bursts of about 20" in said and "the 3,000 requests of the fault phase tell as much as 150" in said
    assert "2 short episodes of failed or slow requests after the undo were no more frequent than in baseline" in said
    shorter = msgspec.structs.replace(PASS.phases, baseline_s=40.0, extend=("baseline",))
    extended = msgspec.structs.replace(PASS, phases=shorter)
    assert "Phase baseline went on from 40s to 1m" in " ".join(notes(extended, calm))
    fixed = msgspec.structs.replace(PASS, phases=msgspec.structs.replace(shorter, extend=()))
    assert not notes(fixed, calm)


# -- small things people stumble over ----------------------------------------------------------------------------------


def test_an_error_example_keeps_both_its_ends() -> None:
    long = "HTTPError: 503 Server Error for url: http://127.0.0.1:8000/api/v1/x " + "a" * 600 + " original=10.0 seconds"
    made = msgspec.structs.replace(result("fail"), errors=(error("status", "GET /a", 9, example=long),))
    for text in (terminal.summary(FAIL, made, colour=False), markdown.render(FAIL, made)):
        flat = " ".join(text.replace("\\", "").split())
        assert "HTTPError: 503 Server Error" in flat and "original=10.0 seconds" in flat


def test_the_markdown_report_has_every_endpoint_in_the_fault() -> None:
    text = markdown.render(FAIL, result("fail"))
    table = text.partition("## Requests (fault phase)")[2].partition("## Requests (whole run)")[0]
    assert "| POST /api/v1/predict | 9,092 | 1,503 | 16.5% |" in table and "GET /health" in table
    nothing = msgspec.structs.replace(result("fail"), requests=())
    assert "(fault phase)" not in markdown.render(FAIL, nothing)


def test_targets_that_did_not_recover_are_the_ones_named() -> None:
    from harness.analysis.verdict.sentences import not_recovered

    def one(target: str, outcome: str) -> TargetRecovery:
        return TargetRecovery(target=target, outcome=outcome, seconds=None, lower_s=60, upper_s=None)  # type: ignore[arg-type]

    base = result("fail").recovery
    assert isinstance(base, RecoveryResult) and isinstance(result("fail").impact, ImpactResult)
    gone = msgspec.structs.replace(
        base,
        outcome="not_recovered",
        lower_s=60.0,
        targets=(
            one("after: p95 < 200ms", "not_recovered"),  # failed requests count as slow ones
            one("after: error_rate < 1%", "not_recovered"),
            one("after: p50 < 100ms", "recovered"),
        ),
    )
    assert (
        not_recovered(gone) == "The service did not recover within 1m after the undo (target after: error_rate < 1%)."
    )
    slow = msgspec.structs.replace(gone, targets=(one("after: p95 < 200ms", "not_recovered"), gone.targets[2]))
    assert "(target after: p95 < 200ms)" in not_recovered(slow)
