"""The reasons of a verdict say what was seen at the end, once, in words without markup."""

from __future__ import annotations

import random

import msgspec
import pytest
from histories import INJECTED, ZERO, Reply, Scene, failing, healthy, make, stopped

from harness.model.records import events as ev
from harness.model.records.result import NameResult, Result, TargetResult

TOLERANT = ("fault: error_rate <= 100%", "fault: p95 < 10s")


def said(result: Result) -> str:
    return " ".join((*result.reasons, *result.warnings))


def test_what_was_over_before_the_undo_is_not_nothing() -> None:
    early = Scene(service=failing(INJECTED, INJECTED + 3, 1.0), targets=TOLERANT).build().judge()
    assert early.verdict == "pass" and "over before the undo" in said(early)
    assert "nothing to recover from" not in said(early)
    calm = Scene().build().judge()
    assert "nothing to recover from" in said(calm) and "over before" not in said(calm)
    assert calm.recovery is not None and calm.recovery.why == "", "the outcome says it already"


def test_a_blip_after_a_whole_hold_is_told_and_fails_nothing() -> None:
    def service(at: float, draw: random.Random) -> Reply:
        if INJECTED <= at < ZERO + 5 and draw.random() < 0.9:
            return Reply(5.0, "status")
        return Reply(500.0 if 68.0 <= at < 68.2 else 30.0)

    scene = Scene(service=service, recovery_s=5.1, after_s=30.0, targets=TOLERANT)
    result = scene.build().judge()
    assert "did not recover" not in said(result) and "recovered 5s after" in said(result)
    assert result.recovery is not None and len(result.recovery.relapses) == 1


@pytest.mark.parametrize("text", ["SIGTERM in baseline", "SIGTERM", ""])
def test_an_interrupt_is_told_once(text: str) -> None:
    result = Scene().build().cut(10.0, stopped("interrupt", 10.0, text)).judge()
    by = " (SIGTERM)" if text else ""
    assert result.reasons[0] == f"interrupted in baseline{by}."


def test_no_reason_has_markup_in_it() -> None:
    runs = (
        Scene(service=failing(INJECTED, 1e9, 0.3), after_s=None).build(),
        Scene(service=failing(0, 1e9, 0.05)).build(),
        Scene(service=failing(INJECTED, ZERO, 0.01)).build(),
        Scene().build().cut(30.0, stopped("abort", 30.0, "enough", "error_rate > 1% for 5s")),
    )
    for run in runs:
        assert "`" not in said(run.judge())


def test_a_name_broken_by_itself_has_its_own_numbers() -> None:
    from harness.analysis.verdict.sentences import broken

    one = NameResult(name="GET /rare", bad=15, n=15, limit=0.01, bad_s=9, asked_s=9, outcome="broken")
    target = TargetResult(
        target="fault: error_rate < 1%",
        phase="fault",
        metric="error_rate",
        observed=0.006,
        limit=0.01,
        outcome="broken",
        primary=True,
        names=(one,),
    )
    assert "'GET /rare' failed 15 of 15 times; the target is less than 1%, of every request name" in broken(target)
    all_broken = msgspec.structs.replace(target, observed=0.5)
    assert "50% of the requests failed" in broken(all_broken)
    allowed = msgspec.structs.replace(target, names=(msgspec.structs.replace(one, outcome="allowed"),))
    assert "GET /rare" not in broken(allowed)


def test_the_noise_of_a_signal_is_baselines() -> None:
    from harness.model.records.samples import Sample

    def sample(at: float) -> Sample:
        rate = 0.8 + (0.02 if int(at) % 2 else -0.02)
        return Sample(at=at, signals={"cache_hit_rate": rate if at < INJECTED else 0.2, "made_total": 200.0 * at})

    found = Scene(service=healthy, sample=sample).build().judge().signals
    assert found["cache_hit_rate"].noise == pytest.approx(0.02, rel=0.1)
    assert found["made_total"].noise == pytest.approx(0.0, abs=1e-6)
    assert Scene(samples=False).build().judge().signals == {}


def test_a_phase_that_went_on_is_told_among_the_events() -> None:
    from harness.report.sentences.event_log import moments

    longer = make(ev.PhaseExtended, 60.0, phase="baseline", end_s=110.0, target="baseline: error_rate < 1%")
    (moment,) = moments([longer])
    assert moment.said == "phase baseline goes on to 110.0s, to be sure of baseline: error_rate < 1%"
