"""What reports say of alerts: every outcome in words, nothing where none was looked at, names from outside escaped."""

from __future__ import annotations

import msgspec
import pytest

from harness.model.records.alerts import AlertRule, AlertsPlan
from harness.model.records.result import AlertResult, DetectionResult, Result
from harness.report import junit, markdown
from harness.report.html import tables
from harness.report.sentences.detection import lead, sentence
from harness.report.terminal.plan import plan_text
from harness.report.terminal.summary import summary
from tests.report import sample

HOSTILE = "<script>alert(1)</script>\x1b[2J|"
DETECTED = AlertResult(
    alert="Down",
    outcome="detected",
    seconds=7.0,
    lower_s=6.0,
    upper_s=7.0,
    fired_s=79.5,
    notified_s=80.25,
    resolved_after_s=3.0,
    times=1,
)
SILENT = AlertResult(alert=HOSTILE, outcome="never_fired", why=f"its query {HOSTILE}")
FOUND = DetectionResult(source="prometheus", alerts=(DETECTED, SILENT))


def result(found: DetectionResult | None = FOUND) -> Result:
    return msgspec.structs.replace(sample.result("fail"), detection=found)


def test_the_summary_and_the_markdown_tell_each_alert() -> None:
    said = summary(sample.plan_of("fail"), result(), colour=False)
    assert (
        "1 of 2 expected alerts that could be judged detected the impact, as Prometheus tells; no false alarm." in said
    )
    assert "Down: detected between 6s and 7s after the impact began, resolved 3s after recovery" in said
    assert "\x1b" not in said and "never fired" in said
    told = markdown.render(sample.plan_of("fail"), result())
    assert "## Alerts" in told and "| Down | detected | between 6s and 7s |" in told
    assert "<script>" not in told and "\x1b" not in told
    for text in (
        summary(sample.plan_of("fail"), result(None), colour=False),
        markdown.render(sample.plan_of("fail"), result(None)),
    ):
        assert "alert" not in text.lower()


def test_the_page_shows_them_escaped() -> None:
    table = tables.alerts(result())
    assert [row.cells[1].text for row in table.rows] == ["detected", "never fired"]
    assert "\x1b" not in table.rows[1].cells[0].text
    assert tables.alerts(result(None)).rows == ()


def test_what_nobody_could_judge_is_not_said_to_be_missed() -> None:
    moot = AlertResult(alert="Down", outcome="not_judged", why="no fault was injected: there was nothing to detect")
    said = lead(DetectionResult(source="alertmanager", alerts=(moot,)))
    assert said == "No expected alert could be judged by an impact, as Alertmanager tells; no false alarm."
    unseen = lead(DetectionResult(source="webhook", alerts=(moot,), unseen=((2.0, 9.0),), baseline_seen=False))
    assert "no false alarm that was seen. It did not answer from" in unseen
    assert sentence(moot).startswith("Down: not judged (no fault")


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ((), "expected   Down\n"),
        ((AlertRule(alert="Down", for_s=60.0, interval_s=15.0),), "fires once targets are broken for 1m15s (for 1m, "),
        ((AlertRule(alert="Down", for_s=60.0, interval_s=15.0),), "faults of 1m are too short"),
        ((AlertRule(alert="Other", for_s=0.0, interval_s=15.0),), "has no alerting rule of this name"),
    ],
)
def test_the_plan_says_how_long_a_fault_has_to_last(rules: tuple[AlertRule, ...], says: str) -> None:
    alerts = AlertsPlan(prometheus="http://127.0.0.1:9090", expected=("Down",), rules=rules)
    plan = msgspec.structs.replace(sample.plan_of("fail"), alerts=alerts)
    shown = plan_text(plan, width=200)
    assert says in shown and "Prometheus http://127.0.0.1:9090, read each second" in shown
    assert ("too short" in shown) == bool(rules and rules[0].alert == "Down")
    assert "Alerts" not in plan_text(sample.plan_of("fail"))


def test_junit_has_a_case_for_a_target_of_detection() -> None:
    target = msgspec.structs.replace(
        sample.result("fail").targets[0],
        target="detect{Down} < 60s",
        metric="detect",
        phase=None,
        observed=None,
        outcome="broken",
        why="the alert was not seen",
    )
    told = junit.render(sample.plan_of("fail"), msgspec.structs.replace(result(), targets=(target,)))
    assert 'name="detect{Down} &lt; 60s"' in told and "the alert was not seen" in told
