"""A metric is one row and one function: what METRICS says of each is true, and a new one is known everywhere."""

from __future__ import annotations

import msgspec
import pytest
from histories import INJECTED, ZERO, Run, Scene, failing, target

from harness.analysis.live import parse_abort
from harness.analysis.record.spans import Span
from harness.analysis.rules import targets
from harness.analysis.rules.facts import Facts
from harness.analysis.rules.proportions import chances_of, result_of
from harness.analysis.statistics.binomial import judge_proportion
from harness.history.trend import subjects
from harness.model.errors import UsageError
from harness.model.records.metrics import METRICS, Metric, Origin, metric_traits
from harness.model.records.result import PhaseResult, RequestResult, TargetResult
from harness.model.records.targets import Target
from harness.model.target_grammar import defaults, merge, parse_targets
from harness.plan.warnings import allowed_proportion
from harness.report.sentences.story import headline

MADE_UP = Metric(
    unit="proportion",
    label="Made-up Rate",
    broken="{seen} of the requests{of} were refused",
)


def refused(one: Target, span: Span, facts: Facts) -> TargetResult:
    names = facts.totals(span).of(one.name)
    bad, n = names.fail.get("refused", 0), names.requests
    outcome = judge_proportion(bad, n, one.value, one.op, chances_of(one, span, facts, None))
    return result_of(one, bad / n, one.value, outcome, f"{bad:,} of {n:,}")


@pytest.fixture
def with_made_up_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS, "made_up_rate", MADE_UP)
    monkeypatch.setitem(targets.OF_PHASE, "made_up_rate", refused)  # type: ignore[arg-type]


def _run(kind: str) -> Run:
    explicit = parse_targets("fault: made_up_rate < 2%")
    quiet = parse_targets("fault: error_rate < 60%") + parse_targets("fault: p95 < 10s")
    plan_targets = tuple(t for t in merge(defaults(True), quiet + explicit) if t.phase == "fault" or t.phase is None)
    return Scene(service=failing(INJECTED, ZERO, 0.3, kind), plan_targets=plan_targets).build()


@pytest.mark.usefixtures("with_made_up_rate")
def test_a_new_metric_is_judged_and_told() -> None:
    run = _run("refused")
    result = run.judge()
    found = target(result, "fault: made_up_rate < 2%")
    assert found.outcome == "broken" and found.observed == pytest.approx(0.3, abs=0.03)
    assert any("of the requests were refused, the target is less than 2%" in reason for reason in result.reasons)
    assert "Made-up Rate was" in headline(run.plan, result)
    assert target(_run("status").judge(), "fault: made_up_rate < 2%").outcome == "held"


@pytest.mark.usefixtures("with_made_up_rate")
def test_a_new_metric_is_what_its_row_says() -> None:
    (one,) = parse_targets("fault: made_up_rate < 2%")
    assert allowed_proportion(one) == 0.02
    assert [subject.unit for subject in subjects("fault: made_up_rate")] == ["proportion"]
    with pytest.raises(UsageError, match="is not known by request name"):
        parse_targets("fault: made_up_rate{GET /items} < 2%")
    with pytest.raises(UsageError, match="is not known second by second"):
        parse_abort("made_up_rate > 2% for 10s")
    with pytest.raises(UsageError, match="no baseline to compare with"):
        parse_targets("fault: made_up_rate < 2x baseline")


def test_without_its_row_it_is_the_name_of_a_signal() -> None:
    assert metric_traits("made_up_rate").origin is Origin.SIGNAL


def test_every_metric_has_its_computation() -> None:
    of_run = {name for name, metric in METRICS.items() if metric.whole_run}
    assert set(targets.OF_RUN) == of_run and set(targets.OF_PHASE) == set(METRICS) - of_run
    second_by_second = {name for name, metric in METRICS.items() if metric.by_name and not metric.watched}
    assert set(targets.FIGURES) == second_by_second


@pytest.mark.parametrize("name", METRICS)
def test_what_a_row_names_is_there(name: str) -> None:
    row = METRICS[name]
    rows = [PhaseResult, RequestResult] if row.by_name else [PhaseResult]
    fields = {field.name for field in msgspec.structs.fields(PhaseResult)}
    for kind in rows:
        assert not row.field or row.field in {field.name for field in msgspec.structs.fields(kind)} & fields
    assert "1s" in row.broken.format(metric=name, seen="1s", of=" of X")
    assert "1s" in row.headline.format(metric=row.label, seen="1s", of=" of X", few="only ", the="the ")
