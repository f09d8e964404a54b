"""Eight rules of known quality on the real Prometheus and Alertmanager, each classed as what it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.model.records.alerts import Changed, Looked
from tests.e2e.eight_rules import CLASSES, eight_rules


@pytest.mark.timeout(120)
def test_eight_rules_are_classed_as_what_they_are(tmp_path: Path) -> None:
    found, rows, truth, _ = eight_rules(tmp_path)
    assert not any(isinstance(row, Looked) and row.trouble for row in rows)
    assert found.unseen == () and found.false_alarms == 0
    by_name = {one.alert: one for one in found.alerts}
    assert {name: one.outcome for name, one in by_name.items()} == CLASSES
    assert by_name["LongFor"].why.startswith("fault too short")
    assert "looks back" in by_name["LongWindow"].why and "looks back" not in by_name["WrongLabel"].why
    assert "suppressed" in by_name["Inhibited"].why
    assert by_name["Flapping"].times >= 2 and by_name["Right"].times == 1
    right = by_name["Right"]
    assert right.seconds is not None and right.fired_s is not None and right.resolved_after_s is not None
    assert right.fired_s == pytest.approx(truth, abs=1.0)
    assert 2.0 <= right.seconds <= 2.0 + 0.5 + 2 * 1.0 + 1.0
    assert right.resolved_after_s <= 0.5 + 2 * 1.0 + 1.0
    assert right.notified_s is not None and right.notified_s >= right.fired_s - 1.0
    own = [r for r in rows if isinstance(r, Changed) and r.source == "prometheus" and r.alert == "Right"]
    assert [r.state for r in own] == ["pending", "firing", "resolved"] and {r.clock for r in own} == {"own"}
    assert by_name["Inhibited"].notified_s is None
    assert own[1].at == pytest.approx(truth, abs=0.2)
