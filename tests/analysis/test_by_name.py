"""Every request name counts: what hides in the share of all requests is found by its own."""

from __future__ import annotations

import random

import msgspec
import pytest

from harness.model.records.result import Result
from harness.model.records.windows import MarkRow
from harness.report.sentences.recovery_words import recovery_sentence
from harness.report.sentences.story import headline
from tests.analysis.histories import INJECTED, ZERO, Reply, Run, Scene, Service, healthy, target

RARE = "GET /anomalies"


def rare(
    share: float, dead: tuple[float, float] | None, kind: str | None = "status", latency_ms: float = 5.0
) -> Service:
    """`share` of the requests have a name of their own, and fail (or are slow) in `dead`."""

    def service(at: float, draw: random.Random) -> Reply:
        if draw.random() >= share:
            return healthy(at, draw)
        if dead is not None and dead[0] <= at < dead[1]:
            return Reply(latency_ms, kind, RARE)
        return Reply(30.0, None, RARE)

    return service


def judged(service: Service, **more: object) -> Result:
    return Scene(service=service, **more).build().judge()  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "latency_ms", "metric"), [("status", 5.0, "error_rate"), (None, 900.0, "p95")])
def test_a_request_of_less_than_one_percent_that_is_dead_under_the_fault_is_found(
    kind: str | None, latency_ms: float, metric: str
) -> None:
    result = judged(rare(0.006, (INJECTED, ZERO), kind, latency_ms))
    assert result.verdict == "fail"
    limit = "1%" if metric == "error_rate" else "200ms"
    found = target(result, f"fault: {metric} < {limit}")
    assert [name.name for name in found.names] == [RARE] and found.names[0].outcome == "broken"
    assert found.names[0].bad == found.names[0].n > 10
    assert any(RARE in reason for reason in result.reasons)
    assert result.impact is not None and result.impact.by_name == {RARE: found.names[0].bad}
    assert result.impact.start_s == pytest.approx(INJECTED, abs=2.5)


def halting(at: float, draw: random.Random) -> Reply:
    """Half of a rare name's requests fail, the other half is slow."""
    if draw.random() >= 0.006:
        return healthy(at, draw)
    kind = "status" if draw.random() < 0.5 else None
    return Reply(900.0, kind, RARE) if INJECTED <= at < ZERO else Reply(30.0, None, RARE)


SLOW_ONLY, FAILS = rare(0.006, (INJECTED, ZERO), None, 900.0), rare(0.006, (INJECTED, ZERO))


@pytest.mark.parametrize(
    ("service", "targets", "expected"),
    [
        (SLOW_ONLY, ("fault: p95 < 200ms",), "was too slow"),
        (FAILS, ("fault: error_rate < 1%",), "failed"),
        (FAILS, ("fault: p95 < 200ms", "~fault: error_rate < 1%"), "failed"),
        (halting, ("fault: p95 < 200ms", "~fault: error_rate < 1%"), "failed or was too slow"),
        (halting, ("fault: p95 < 200ms",), "was too slow"),
    ],
)
def test_a_name_failed_only_where_it_failed_and_was_slow_only_where_it_was(
    service: Service, targets: tuple[str, ...], expected: str
) -> None:
    run = Scene(service=service, targets=targets).build()
    result = run.judge()
    found = next(name for name in target(result, targets[0]).names if name.name == RARE)
    said = f"{expected} {found.bad} of {found.n} times"
    assert any(f"{RARE!r} {said}" in reason for reason in result.reasons), result.reasons
    assert result.verdict == "fail" and ("failed" not in expected) is (found.failed == 0 and "p95" in targets[0])


def test_the_same_of_a_name_in_a_run_that_passed() -> None:
    for service, expected in ((SLOW_ONLY, "was too slow"), (FAILS, "failed")):
        run = Scene(service=service).build()
        plan = msgspec.structs.replace(run.plan, may_fail_with={RARE: ("redis",)})
        result = Run(plan, run.events, run.rows, run.samples).judge()
        assert result.verdict == "pass" and result.impact is not None
        said = f"{expected} {result.impact.by_name[RARE]} times"
        assert f"{RARE!r} {said}" in result.reasons[0]
        assert expected == "failed" or f"{RARE} {said}" in headline(plan, result)


def test_no_impact_is_not_said_of_a_service_with_a_dead_name() -> None:
    result = judged(rare(0.006, (INJECTED, ZERO)))
    assert (result.recovery is not None and result.recovery.outcome != "no_impact") or result.impact.by_name  # type: ignore[union-attr]
    assert not any("nothing to recover from" in reason.lower() for reason in result.reasons)


def test_a_name_that_may_fail_is_named_and_breaks_nothing() -> None:
    run = Scene(service=rare(0.006, (INJECTED, ZERO))).build()
    plan = msgspec.structs.replace(run.plan, may_fail_with={RARE: ("redis",)})
    result = Run(plan, run.events, run.rows, run.samples).judge()
    found = target(result, "fault: error_rate < 1%")
    assert result.verdict == "pass" and found.outcome == "held"
    assert [(name.name, name.outcome) for name in found.names] == [(RARE, "allowed")]
    assert RARE in result.reasons[0]
    assert "too few" not in " ".join((*result.reasons, recovery_sentence(plan, result)))
    # Another dependency's fault is no excuse.
    other = msgspec.structs.replace(run.plan, may_fail_with={RARE: ("kafka",)})
    assert Run(other, run.events, run.rows, run.samples).judge().verdict == "fail"


def test_a_name_that_is_over_the_target_in_baseline_already_blocks_and_breaks_nothing() -> None:
    def service(at: float, draw: random.Random) -> Reply:
        if draw.random() >= 0.02:
            return healthy(at, draw)
        return Reply(5.0, "status" if draw.random() < 0.3 else None, RARE)

    result = judged(service)
    found = target(result, "baseline: error_rate < 1%")
    assert found.outcome == "held" and [name.outcome for name in found.names] == ["allowed"]
    assert result.verdict == "pass"
    assert not any(name.outcome == "broken" for t in result.targets for name in t.names)


def test_a_name_that_stays_dead_after_the_undo_is_no_recovery() -> None:
    result = judged(rare(0.02, (INJECTED, 1e9)))
    assert result.verdict == "fail"
    assert target(result, "after: error_rate < 1%").outcome == "broken"
    assert (result.recovery is not None and result.recovery.outcome == "not_recovered") or not result.recovery.seconds  # type: ignore[union-attr]


def test_bursts_that_hit_many_names_break_none() -> None:
    """20 failures within a second, every 40 s, over ten names: 0.25 % of all requests."""

    def service(at: float, draw: random.Random) -> Reply:
        name = f"GET /{draw.randrange(10)}"
        return Reply(5.0, "status" if at % 40 < 0.1 else None, name)

    result = judged(service)
    assert result.verdict != "fail"
    assert not any(name.outcome == "broken" for t in result.targets for name in t.names)


def test_too_few_requests_of_a_name_hold_nothing_up() -> None:
    result = judged(rare(0.0005, None))
    assert result.verdict == "pass" and not any(t.names for t in result.targets)


def test_nothing_excuses_a_name_that_is_still_dead_when_the_dependency_is_back() -> None:
    run = Scene(service=rare(0.02, (INJECTED, 1e9))).build()
    plan = msgspec.structs.replace(run.plan, may_fail_with={RARE: ("redis",)})
    result = Run(plan, run.events, run.rows, run.samples).judge()
    assert [name.outcome for name in target(result, "fault: error_rate < 1%").names] == ["allowed"]
    assert [name.outcome for name in target(result, "after: error_rate < 1%").names] == ["broken"]


def test_one_failure_of_a_name_with_few_requests_leaves_recovery_decided() -> None:
    dead = rare(0.01, (INJECTED, ZERO))
    late = iter([True])

    def service(at: float, draw: random.Random) -> Reply:
        if at > ZERO + 4 and next(late, False):
            return Reply(5.0, "status", RARE)
        return dead(at, draw)

    run = Scene(service=service, seed=3).build()
    plan = msgspec.structs.replace(run.plan, may_fail_with={RARE: ("redis",)})
    result = Run(plan, run.events, run.rows, run.samples).judge()
    assert result.recovery is not None and result.recovery.outcome != "undecided"
    assert [t.outcome for t in result.recovery.targets if RARE in t.target] == ["undecided"]
    assert result.verdict == "pass"
    # The name was dead up to the undo, so nothing is said of an outage that was over or of one that was not there.
    said = [*result.reasons, recovery_sentence(plan, result)]
    assert not any("nothing to recover" in text.lower() or "over before" in text for text in said)
    assert sum("too few requests tell when it was well" in text for text in said) == 2


def test_a_generator_that_starved_excuses_no_name_that_answered_with_errors() -> None:
    run = Scene(service=rare(0.006, (INJECTED, ZERO))).build()
    rows = [
        msgspec.structs.replace(row, saturated=True) if isinstance(row, MarkRow) and row.at == INJECTED + 9 else row
        for row in run.rows
    ]
    result = Run(run.plan, run.events, rows, run.samples).judge()
    assert result.verdict == "fail" and RARE in result.reasons[0]
    slow = Scene(service=rare(0.02, (INJECTED + 5, INJECTED + 8), None, 900.0)).build()
    rows = [
        msgspec.structs.replace(row, saturated=True) if isinstance(row, MarkRow) and row.at == INJECTED + 9 else row
        for row in slow.rows
    ]
    assert Run(slow.plan, slow.events, rows, slow.samples).judge().verdict == "inconclusive"


def test_of_many_names_that_stay_dead_the_worst_few_are_followed() -> None:
    """Each costs as much as all of them together."""

    def service(at: float, draw: random.Random) -> Reply:
        return Reply(5.0, "status" if INJECTED <= at < ZERO + 20 else None, f"GET /{draw.randrange(60)}")

    result = judged(service, recovery_s=5.0, after_s=40.0)
    assert result.recovery is not None and len(result.recovery.targets) <= 22
    assert len(target(result, "after: error_rate < 1%").names) > 30


def test_a_request_that_may_fail_breaks_no_target_of_all_requests_by_its_share_of_the_traffic() -> None:
    run = Scene(service=rare(0.5, (INJECTED, ZERO))).build()
    assert run.judge().verdict == "fail"
    plan = msgspec.structs.replace(run.plan, may_fail_with={RARE: ("redis",)})
    result = Run(plan, run.events, run.rows, run.samples).judge()
    found = target(result, "fault: error_rate < 1%")
    assert result.verdict == "pass" and found.outcome == "held"
    assert found.observed is not None and found.observed < 0.01, "the figure is of what was judged"
    assert found.why.endswith(f"without {RARE}")
    assert [(name.name, name.outcome) for name in found.names] == [(RARE, "allowed")]
    # The others are held to it as before; and another dependency's fault is no excuse.
    half = rare(0.5, (INJECTED, ZERO))

    def all_of_it(at: float, draw: random.Random) -> Reply:
        found = half(at, draw)
        broken = INJECTED <= at < ZERO and draw.random() < 0.3
        return Reply(5.0, "status", found.name) if broken else found

    everything = Scene(service=all_of_it).build()
    plan = msgspec.structs.replace(everything.plan, may_fail_with={RARE: ("redis",)})
    assert Run(plan, everything.events, everything.rows, everything.samples).judge().verdict == "fail"
    other = msgspec.structs.replace(run.plan, may_fail_with={RARE: ("kafka",)})
    assert Run(other, run.events, run.rows, run.samples).judge().verdict == "fail"


def test_where_all_that_is_asked_may_fail_the_fault_phase_holds_and_says_why() -> None:
    run = Scene(service=rare(1.0, (INJECTED, ZERO))).build()
    plan = msgspec.structs.replace(run.plan, may_fail_with={RARE: ("redis",)})
    result = Run(plan, run.events, run.rows, run.samples).judge()
    found = target(result, "fault: error_rate < 1%")
    assert (found.outcome, found.observed) == ("held", None)
    assert found.why == "all that was asked may fail with redis"
    assert result.verdict == "pass"
