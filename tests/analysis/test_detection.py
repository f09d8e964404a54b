"""Expected alerts against an impact whose truth is known: what each outcome is said for, and what it is not."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from histories import INJECTED, ZERO, Run, Scene, failing, target

from harness.model.records.alerts import AlertRow, AlertRule, AlertsPlan, Changed, Looked, RuleSeen, Source, State
from harness.model.records.result import AlertResult, Result

DOWN = "ServiceDown"
OUTAGE = Scene(service=failing(INJECTED, ZERO + 1.5, 1.0, "refused"), recovery_s=1.6).build()
CALM = Scene().build()
CONTROL = Scene(faults=()).build()
END = 80


def looks(source: Source = "prometheus", but: tuple[float, float] = (0.0, 0.0)) -> list[AlertRow]:
    return [Looked(at=float(at), source=source) for at in range(END) if not but[0] < at < but[1]]


def rule(for_s: float = 5.0, query: str = "errors > 0", alert: str = DOWN) -> AlertRow:
    return RuleSeen(at=0.1, rule=AlertRule(alert=alert, for_s=for_s, interval_s=1.0, query=query))


def became(at: float, state: State = "firing", source: Source = "prometheus", series: str = "a") -> AlertRow:
    return Changed(
        at=at, not_before=at - 1.0, alert=DOWN, series=series, labels="", state=state, source=source, clock="seen"
    )


def judged(run: Run, rows: Sequence[AlertRow], *targets: str, **sources: str | None) -> Result:
    named = {"prometheus": "http://127.0.0.1:9090", **sources}
    alerts = AlertsPlan(expected=(DOWN,), **named)  # type: ignore[arg-type]
    run = Run(msgspec.structs.replace(run.plan, alerts=alerts), run.events, run.rows, run.samples)
    return run.judge(*targets, alerts=rows)


def found(run: Run, rows: Sequence[AlertRow], **sources: str | None) -> AlertResult:
    result = judged(run, rows, **sources)
    assert result.detection is not None
    (one,) = result.detection.alerts
    return one


def test_the_time_to_detect_is_counted_from_the_impact_and_that_to_resolve_from_recovery() -> None:
    rows = [*looks(), rule(), became(INJECTED + 1, "pending"), became(INJECTED + 7), became(ZERO + 4.5, "resolved")]
    one = found(OUTAGE, rows)
    assert one.outcome == "detected" and one.why == "" and one.times == 1
    assert one.seconds == pytest.approx(7.0, abs=0.4)
    assert one.lower_s == pytest.approx(6.0, abs=0.4) and one.fired_s == INJECTED + 7
    assert one.resolved_after_s == pytest.approx(3.0, abs=0.5) and one.notified_s is None
    assert one.least_s == 6.0 and one.false_alarms == 0


def test_a_target_of_detection_is_held_broken_or_too_close_to_the_looks_to_tell() -> None:
    rows = [*looks(), rule(), became(INJECTED + 7)]
    outcomes = {}
    for limit in ("10s", "6.5s", "4s"):
        result = judged(OUTAGE, rows, f"detect{{{DOWN}}} < {limit}")
        outcomes[limit] = target(result, f"detect{{{DOWN}}} < {limit.replace('6.5s', '6.5s')}").outcome
    assert outcomes == {"10s": "held", "6.5s": "undecided", "4s": "broken"}
    result = judged(OUTAGE, rows, "fault: error_rate <= 100%", "fault: p95 < 10s", f"detect{{{DOWN}}} < 4s")
    assert any(f"the alert of {DOWN} took" in reason.lower().replace(DOWN.lower(), DOWN) for reason in result.reasons)


def test_never_fired_is_said_only_where_the_rule_had_the_time() -> None:
    one = found(OUTAGE, [*looks(), rule(for_s=5.0)])
    assert one.outcome == "never_fired" and "its rule needs 6" in one.why and "looks back" not in one.why
    result = judged(OUTAGE, [*looks(), rule(for_s=5.0)], f"detect{{{DOWN}}} < 60s")
    assert target(result, f"detect{{{DOWN}}} < 60s").outcome == "broken"
    short = found(OUTAGE, [*looks(), rule(for_s=60.0), became(INJECTED + 1, "pending"), became(ZERO + 3, "lapsed")])
    assert short.outcome == "not_judged" and short.why.startswith("fault too short: targets were broken for 2")
    result = judged(OUTAGE, [*looks(), rule(for_s=60.0)], f"detect{{{DOWN}}} < 60s")
    assert target(result, f"detect{{{DOWN}}} < 60s").outcome == "not_judged" and result.verdict != "pass"


def test_why_an_alert_did_not_fire() -> None:
    assert "no alerting rule of this name" in found(OUTAGE, [*looks(), rule(alert="Other")]).why
    long = found(OUTAGE, [*looks(), rule(query="rate(errors[1m30s]) > 1 or errors[5s:1s]")])
    assert long.outcome == "never_fired" and "its query looks back 1m30s" in long.why
    waited = found(OUTAGE, [*looks(), rule(), became(INJECTED + 1, "pending"), became(ZERO + 3, "lapsed")])
    assert "it was pending" in waited.why
    blind = found(OUTAGE, [*looks("alertmanager")], alertmanager="http://127.0.0.1:9093", prometheus=None)
    assert blind.outcome == "not_judged" and "names no Prometheus" in blind.why


def test_where_nobody_looked_nothing_is_said_of_silence() -> None:
    one = found(OUTAGE, [*looks(but=(INJECTED + 2, INJECTED + 12)), rule()])
    assert one.outcome == "not_judged" and "did not answer" in one.why
    assert found(OUTAGE, []).outcome == "not_judged"
    result = judged(OUTAGE, [], "false_alarms < 1")
    assert target(result, "false_alarms < 1").outcome == "undecided"


def test_an_alert_that_fires_before_baseline_is_carried_over_and_no_false_alarm() -> None:
    result = judged(OUTAGE, [*looks(), rule(), became(0.5)], f"detect{{{DOWN}}} < 60s", "false_alarms < 1")
    assert result.detection is not None and result.detection.alerts[0].outcome == "carried_over"
    assert result.detection.false_alarms == 0
    assert target(result, f"detect{{{DOWN}}} < 60s").outcome == "not_judged"
    gone = found(OUTAGE, [*looks(), rule(), became(0.5), became(8.0, "resolved"), became(INJECTED + 7)])
    assert gone.outcome == "detected" and gone.false_alarms == 0


def test_a_false_alarm_takes_the_word_of_a_later_one_away() -> None:
    rows = [*looks(), rule(), became(10.0), became(12.0, "resolved"), became(INJECTED + 7)]
    result = judged(OUTAGE, rows, f"detect{{{DOWN}}} < 60s", "false_alarms < 1")
    assert result.detection is not None and result.detection.alerts[0].outcome == "fired_without_impact"
    assert target(result, "false_alarms < 1").outcome == "broken"
    assert target(result, f"detect{{{DOWN}}} < 60s").outcome == "undecided"


def test_without_impact_there_is_nothing_to_detect_and_the_run_may_pass() -> None:
    result = judged(CALM, [*looks(), rule()], f"detect{{{DOWN}}} < 60s", "false_alarms < 1")
    assert result.verdict == "pass"
    assert target(result, f"detect{{{DOWN}}} < 60s").why == "the fault broke no target: there was nothing to detect"
    assert found(CALM, [*looks(), rule(), became(INJECTED + 7)]).outcome == "fired_without_impact"
    assert found(CALM, [*looks(), rule(), became(INJECTED + 7)]).false_alarms == 0


def test_a_control_run_counts_every_alarm_and_detects_nothing() -> None:
    result = judged(CONTROL, [*looks(), rule()], f"detect{{{DOWN}}} < 60s", "false_alarms < 1")
    assert result.verdict == "pass" and target(result, "false_alarms < 1").outcome == "held"
    late = judged(CONTROL, [*looks(), rule(), became(35.0)], "false_alarms < 1")
    assert target(late, "false_alarms < 1").observed == 1 and late.verdict == "fail"


def test_flapping_is_detected_once_and_counted() -> None:
    on = [became(INJECTED + at, "firing" if at % 6 else "resolved") for at in (3, 6, 9, 12, 15, 18)]
    one = found(OUTAGE, [*looks(), rule(0.0), *on])
    assert (one.outcome, one.times) == ("detected", 3) and "3 times" in one.why
    two = [became(INJECTED + 3, series="a"), became(INJECTED + 4, series="b"), became(INJECTED + 5, "resolved")]
    assert found(OUTAGE, [*looks(), rule(0.0), *two]).times == 1


def test_what_alertmanager_holds_back_was_told_to_nobody() -> None:
    both = {"alertmanager": "http://127.0.0.1:9093"}
    base = [*looks(), *looks("alertmanager"), rule(), became(INJECTED + 7)]
    silenced = [*base, became(INJECTED + 8, "suppressed", "alertmanager")]
    assert "suppressed" in found(OUTAGE, silenced, **both).why
    assert found(OUTAGE, silenced, **both).outcome == "held_back"
    assert "did not come to Alertmanager" in found(OUTAGE, base, **both).why
    told = [*base, became(INJECTED + 8, "firing", "alertmanager")]
    assert found(OUTAGE, told, **both).fired_s == INJECTED + 8


def test_a_webhook_alone_detects_and_beside_others_tells_who_was_notified() -> None:
    notified = became(INJECTED + 9, "notified", "webhook")
    alone = found(OUTAGE, [*looks("webhook"), notified], prometheus=None, webhook="127.0.0.1:9099")
    assert alone.outcome == "detected" and alone.notified_s == alone.fired_s == INJECTED + 9
    beside = [*looks(), *looks("webhook"), rule(), became(INJECTED + 7), notified]
    one = found(OUTAGE, beside, webhook="127.0.0.1:9099")
    assert (one.fired_s, one.notified_s) == (INJECTED + 7, INJECTED + 9)


def test_an_alert_that_comes_after_recovery_says_so() -> None:
    one = found(OUTAGE, [*looks(), rule(), became(ZERO + 8)])
    assert one.outcome == "detected" and "after the service was well again" in one.why
    assert "still fired when the record ended" in one.why and one.resolved_after_s is None


def test_the_least_length_is_the_rules_own_and_an_evaluation() -> None:
    def least(for_s: float, interval_s: float) -> float:
        return AlertRule(alert="a", for_s=for_s, interval_s=interval_s).least_s

    assert [least(0, 15), least(60, 15), least(50, 15), least(0.3, 0.1), least(5, 0)] == [15, 75, 75, 0.4, 0]
