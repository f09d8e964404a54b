"""Every kind of target reaches every outcome that it can have, and for the right reason."""

from __future__ import annotations

from functools import cache

import pytest
from histories import (
    INJECTED,
    ZERO,
    Reply,
    Run,
    Scene,
    failing,
    slow,
    steady_sample,
    target,
)

from harness.model.records.result import TargetResult
from harness.model.records.samples import ProcessUse, Sample
from harness.model.target_grammar import parse_targets


@cache
def well() -> Run:
    return Scene().build()


@cache
def outage() -> Run:
    return Scene(service=failing(INJECTED, ZERO + 1.5, 1.0, "refused"), recovery_s=1.6).build()


@cache
def sparse() -> Run:
    return Scene(rate=4.0, targets=("p95 < 1s",)).build()


def judged(run: Run, text: str) -> TargetResult:
    return target(run.judge(text), parse_targets(text)[0].text)


# -- percentiles ---------------------------------------------------------------------------------------------------


def test_percentile_held_broken_undecided() -> None:
    assert judged(well(), "fault: p95 < 200ms").outcome == "held"
    slow_run = Scene(service=slow(INJECTED, ZERO, 900.0, 0.08)).build()
    found = judged(slow_run, "fault: p95 < 200ms")
    assert found.outcome == "broken" and found.observed == pytest.approx(900, rel=0.02)
    few = judged(sparse(), "fault: p99 < 1s")
    assert few.outcome == "undecided" and "299 are needed" in few.why


def test_percentile_exactly_at_its_share_is_met() -> None:
    """p95 < 200 ms is "at most 5 %"."""
    state = {"n": 0}

    def service(at: float, draw: object) -> Reply:
        state["n"] += 1
        return Reply(500.0 if state["n"] % 20 == 0 else 20.0)

    found = judged(Scene(service=service).build(), "after: p95 < 200ms")
    assert found.outcome in ("held", "undecided")
    assert found.outcome == "held" or "too close" in found.why


def test_a_phase_without_success_breaks_every_latency_target() -> None:
    for text in ("fault: p50 < 10s", "fault: p99.9 < 10s", "fault: max < 10s", "fault: p95{GET /items} < 10s"):
        found = judged(outage(), text)
        assert found.outcome == "broken" and found.observed is None, text
        assert "not one of" in found.why


def test_a_name_that_was_never_seen_is_undecided() -> None:
    for text in ("fault: p95{GET /nothing} < 1s", "fault: error_rate{GET /nothing} < 1%"):
        found = judged(well(), text)
        assert found.outcome == "undecided" and "GET /nothing" in found.why


def test_named_targets_see_their_requests_only() -> None:
    run = Scene().build()
    found = judged(run, "fault: p95{GET /items} < 200ms")
    total = next(r for r in run.judge().requests if r.name == "GET /items" and r.phase == "fault")
    assert f"of {total.requests:,} ok requests" in found.why


def test_a_limit_first_given_to_analyze_is_undecided_within_one_percent() -> None:
    run = Scene(service=lambda at, draw: Reply(150.0)).build()
    assert judged(run, "fault: p95 < 150ms").outcome == "undecided"
    assert "not counted exactly" in judged(run, "fault: p95 < 150ms").why
    assert judged(run, "fault: p95 < 160ms").outcome == "held"
    assert judged(run, "fault: p95 < 140ms").outcome == "broken"


def test_an_exact_limit_is_decided_inside_one_bucket() -> None:
    below = Scene(service=lambda at, draw: Reply(199.9)).build()
    found = judged(below, "fault: p95 < 200ms")
    assert found.outcome == "held" and found.observed is not None and found.observed < 200
    at = Scene(service=lambda at, draw: Reply(200.0)).build()
    found = judged(at, "fault: p95 < 200ms")
    assert found.outcome == "broken" and found.observed is not None and found.observed >= 200


def test_a_lower_bound_on_latency_is_literal_too() -> None:
    assert judged(well(), "fault: p95 > 10ms").outcome == "held"
    assert judged(well(), "fault: p95 > 100ms").outcome == "broken"


def test_max_is_literal() -> None:
    assert judged(well(), "fault: max < 61ms").outcome == "held"
    assert judged(well(), "fault: max < 50ms").outcome == "broken"


# -- error_rate ------------------------------------------------------------------------------------------------------


def test_error_rate_outcomes() -> None:
    assert judged(well(), "fault: error_rate < 1%").outcome == "held"
    assert judged(outage(), "fault: error_rate < 1%").outcome == "broken"
    assert judged(sparse(), "fault: error_rate < 1%").outcome == "undecided"
    assert judged(outage(), "fault: error_rate > 50%").outcome == "held"
    assert judged(well(), "fault: error_rate > 50%").outcome == "broken"
    assert judged(well(), "fault: error_rate <= 0%").outcome == "held"
    single = Scene(service=failing(30.0, 30.02, 1.0)).build()
    assert judged(single, "fault: error_rate <= 0%").outcome == "broken"


def test_too_close_to_call_says_so() -> None:
    outcomes = set()
    for seed in range(6):
        run = Scene(service=failing(INJECTED, ZERO, 0.0105), seed=seed).build()
        found = judged(run, "fault: error_rate < 1%")
        outcomes.add(found.outcome)
        if found.outcome == "undecided":
            assert "too close" in found.why
    assert "broken" not in outcomes and "undecided" in outcomes


def test_unsent_and_failed_arrivals_are_errors_of_the_whole_only() -> None:
    for kind in ("unsent_cap", "unsent_task", "unsent_generator", "failed"):
        run = Scene(service=failing(INJECTED, ZERO, 0.3, kind)).build()
        assert judged(run, "fault: error_rate < 1%").outcome == "broken", kind
        assert judged(run, "fault: error_rate{GET /items} < 1%").outcome == "held", kind


def test_what_the_locustfile_kept_from_being_sent_is_said_to_be_its_own() -> None:
    run = Scene(service=failing(INJECTED, ZERO, 0.3, "unsent_task")).build()
    assert "because of the locustfile" in judged(run, "fault: error_rate < 1%").why
    assert "locustfile" not in judged(outage(), "fault: error_rate < 1%").why


# -- rps -------------------------------------------------------------------------------------------------------------


def test_tasks_that_ask_for_nothing_are_not_held_against_the_plan() -> None:
    run = Scene(service=failing(0, 1e9, 0.3, "empty")).build()
    found = judged(run, "fault: rps >= 95% of plan")
    assert found.outcome == "held" and "were empty" in found.why
    nothing = judged(Scene(service=failing(0, 1e9, 1.0, "empty")).build(), "fault: rps >= 95% of plan")
    assert nothing.outcome == "undecided" and "without a request" in nothing.why


def test_rps_of_plan_counts_replies_and_error_replies() -> None:
    assert judged(well(), "fault: rps >= 95% of plan").outcome == "held"
    replies = Scene(service=failing(INJECTED, ZERO, 0.5, "status")).build()
    assert judged(replies, "fault: rps >= 95% of plan").outcome == "held"
    silent = Scene(service=failing(INJECTED, ZERO, 0.1, "timeout")).build()
    found = judged(silent, "fault: rps >= 95% of plan")
    assert found.outcome == "broken" and "scheduled arrivals got a reply" in found.why and "empty" not in found.why
    assert found.limit == pytest.approx(190, rel=0.05)


def test_rps_absolute_and_of_baseline() -> None:
    assert judged(well(), "fault: rps >= 150").outcome == "held"
    assert judged(well(), "fault: rps >= 300").outcome == "broken"
    half = Scene(service=failing(INJECTED, ZERO, 0.5, "timeout")).build()
    assert judged(half, "fault: rps >= 90% of baseline").outcome == "broken"
    found = judged(half, "after: rps >= 80% of baseline")
    # The schedule happened to have fewer arrivals in `after` than in baseline: that is not held against the service.
    planned = half.store().totals(*(step for step in (431, 581))).arrivals.planned
    assert found.outcome == "held" and found.limit == pytest.approx(0.8 * planned / 15)


def test_the_closed_model_has_no_plan() -> None:
    run = Scene(rate=None).build()
    found = judged(run, "fault: rps >= 95% of plan")
    assert found.outcome == "not_judged" and found.observed is not None
    assert judged(run, "fault: rps >= 150").outcome == "held"
    assert run.judge().verdict == "pass" and run.judge().model == "closed"
    assert run.judge("fault: rps >= 95% of plan").verdict == "inconclusive"


# -- relative to baseline ------------------------------------------------------------------------------------------


def test_relative_latency_is_resolved_from_the_baseline() -> None:
    base = next(p for p in well().judge().phases if p.name == "baseline").p95_ms
    found = judged(well(), "fault: p95 < 2x baseline")
    assert base is not None and found.limit == pytest.approx(2 * base) and found.outcome == "held"
    slower = Scene(service=slow(INJECTED, ZERO, 180.0)).build()
    assert judged(slower, "fault: p95 < 2x baseline").outcome == "broken"
    assert judged(slower, "after: p95 < 2x baseline").outcome == "held"


def test_relative_to_a_baseline_without_anything_is_undecided() -> None:
    run = Scene().build()
    assert judged(run, "fault: p95{/none} < 2x baseline").outcome == "undecided"


# -- CPU, signals, violating, memory, recovery ---------------------------------------------------------------------


def test_cpu_is_a_share_of_what_the_target_may_use() -> None:
    assert judged(well(), "fault: cpu < 80%").observed == pytest.approx(0.4, abs=0.01)
    assert judged(well(), "fault: cpu < 30%").outcome == "broken"
    restarted = Scene(sample=lambda at: Sample(at=at, trees={"target": ProcessUse(cpu_s=0.4 * (at % 30), rss=10**8)}))
    assert judged(restarted.build(), "fault: cpu < 80%").observed == pytest.approx(0.4, abs=0.01)
    nothing = Scene(samples=False).build()
    assert judged(nothing, "fault: cpu < 80%").outcome == "not_judged"
    assert nothing.judge().verdict == "pass"
    assert nothing.judge("fault: cpu < 80%").verdict == "inconclusive"


def test_signals_are_means_and_counters_are_rates() -> None:
    assert judged(well(), "fault: cache_hit_rate >= 50%").outcome == "held"
    assert judged(well(), "fault: cache_hit_rate >= 90%").outcome == "broken"
    assert judged(well(), "fault: http_requests_total > 150").observed == pytest.approx(200)
    assert judged(well(), "fault: no_such_signal > 1").outcome == "undecided"
    signals = well().judge().signals
    assert signals["http_requests_total"].counter and not signals["cache_hit_rate"].counter


def test_violating_time_is_of_the_phase() -> None:
    found = judged(outage(), "fault: violating < 2s")
    assert found.outcome == "broken" and found.observed == pytest.approx(20.1, abs=0.2)
    assert judged(outage(), "after: violating < 2s").observed == 0
    assert judged(well(), "fault: violating < 2s").outcome == "held"


def test_memory_growth_outcomes() -> None:
    def leaking(at: float) -> Sample:
        return Sample(at=at, trees={"target": ProcessUse(cpu_s=at, rss=200_000_000 + int(at * 400_000))})

    leak = Scene(sample=leaking, after_s=70.0).build()
    found = judged(leak, "memory_growth < 10%/h")
    assert found.outcome == "broken" and found.observed is not None and found.observed > 1
    assert judged(Scene(sample=steady_sample).build(), "memory_growth < 10%/h").outcome == "not_judged"
    steady = Scene(rate=40.0, after_s=320.0).build()
    assert judged(steady, "memory_growth < 10%/h").outcome == "held"


def test_recovery_outcomes() -> None:
    assert judged(outage(), "recovery < 30s").outcome == "held"
    assert judged(outage(), "recovery < 1s").outcome == "broken"
    between = judged(outage(), "recovery < 1.5s")
    assert between.outcome == "undecided" and "between" in between.why
    assert judged(well(), "recovery < 30s").outcome == "held"


def test_the_end_of_load_before_the_hold_is_complete_is_undecided() -> None:
    short = Scene(service=failing(INJECTED, ZERO + 1.5, 1.0), recovery_s=1.6, after_s=4.0).build()
    found = judged(short, "recovery < 30s")
    assert found.outcome == "undecided" and "load ended before the hold was complete" in found.why


def test_a_phase_that_never_came_is_not_judged() -> None:
    found = judged(Scene(service=failing(INJECTED, 1e9, 0.3), after_s=None).build(), "after: p95 < 1s")
    assert found.outcome == "not_judged" and found.observed is None


def test_missing_data_never_holds() -> None:
    run = Scene().build()
    run.rows = []
    assert {t.outcome for t in run.judge().targets if t.metric in ("p95", "error_rate", "rps")} == {"undecided"}
