"""Target expressions mean exactly what the grammar says; what does not parse is refused before a run."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from harness.model.errors import UsageError
from harness.model.records.metrics import METRICS, metric_traits
from harness.model.target_grammar import defaults, merge, parse_expression, parse_targets, refuse_impossible


def texts(expression: str) -> list[str]:
    return [target.text for target in parse_targets(expression)]


def test_a_target_without_a_phase_is_expanded() -> None:
    assert texts("p95<200ms") == ["baseline: p95 < 200ms", "fault: p95 < 200ms", "after: p95 < 200ms"]
    assert texts("fault:error_rate<=5%") == ["fault: error_rate <= 5%"]
    assert texts("recovery < 30s") == ["recovery < 30s"]
    assert texts("memory_growth < 10%/h") == ["memory_growth < 10%/h"]
    assert texts("detect{Service Down} < 1m") == ["detect{Service Down} < 60s"]
    assert texts("~ false_alarms<1") == ["false_alarms < 1"]


def test_relative_to_baseline_is_not_asked_of_the_baseline() -> None:
    assert texts("p95 < 2x baseline") == ["fault: p95 < 2x baseline", "after: p95 < 2x baseline"]
    (target,) = parse_targets("after: rps >= 90% of baseline")
    assert (target.relative, target.value, target.unit) == ("baseline", 0.9, "per_s")
    (target,) = parse_targets("after: rps >= 95% of plan")
    assert (target.relative, target.value) == ("plan", 0.95)


def test_units_and_values() -> None:
    (target,) = parse_targets("fault: p99.9 < 1.5s")
    assert (target.metric, target.value, target.unit, target.op) == ("p99.9", 1500.0, "ms", "<")
    (target,) = parse_targets("after: cache_hit_rate >= 50%")
    assert (target.metric, target.value, target.unit) == ("cache_hit_rate", 0.5, "number")
    (target,) = parse_targets("after: rps >= 10,000/s")
    assert target.value == 10_000
    (target,) = parse_targets("~fault: cpu < 80%")
    assert not target.primary and target.explicit


@pytest.mark.parametrize("name", ["POST /api/v1/predict", "/users/{id}", "a < b", "/x/[/id]", "a: b", "été, ~%"])
def test_request_names_hold_any_character(name: str) -> None:
    (target,) = parse_targets(f"fault: p95{{{name}}} < 200ms")
    assert target.name == name
    assert parse_expression(target.text) == target


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "it is empty"),
        ("p95", "an operator"),
        ("p95 <", "value after the operator is missing"),
        ("p95 == 3s", "operators are"),
        ("p95 =< 3s", "operators are"),
        ("p95 << 3s", "does not parse"),
        ("p95{/a < 3s", "brace"),
        ("p95{} < 3s", "empty"),
        ("p95 < 200", "the unit is missing"),
        ("p95 < 5%", "not a duration"),
        ("error_rate < 1", "percent sign is missing"),
        ("error_rate < 101%", "more than 100%"),
        ("error_rate < -1%", "negative"),
        ("p95 < nan", "finite"),
        ("p95 < 0ms", "nothing is below 0"),
        ("rps >= 95%", "95% of plan"),
        ("p95 < 95% of plan", "only rps has a plan"),
        ("baseline: p95 < 2x baseline", "compared with itself"),
        ("violating < 2x baseline", "no baseline to compare"),
        ("violating < baseline + 1s", "no baseline to compare"),
        ("rps > baseline + 5", "nothing can be added"),
        ("rps >= 95% of plane", "did you mean 'plan'"),
        ("falt: p95 < 2s", "did you mean 'fault'"),
        ("warmup: p95 < 2s", "not judged"),
        ("fault: recovery < 30s", "whole run"),
        ("eror_rate < 1%", "did you mean 'error_rate'"),
        ("recvery < 30s", "did you mean 'recovery'"),
        ("p75 < 1s", "percentiles are p50, p90"),
        ("P95 < 1s", "did you mean 'p95'"),
        ("latency < 1s", "did you mean 'p95'"),
        ("memory_growth < 10%", "10%/h"),
        ("cpu{/a} < 80%", "not known by request name"),
        ("detect < 60s", "of one alert: which"),
        ("detect{} < 60s", "empty"),
        ("detect{Down} > 60s", "upper limit"),
        ("detect{Down} < 60", "the unit is missing"),
        ("detect{Down} < 2x baseline", "no baseline to compare"),
        ("fault: detect{Down} < 60s", "whole run"),
        ("false_alarms{Down} < 1", "not known by request name"),
        ("false_alarms >= 1", "upper limit"),
        ("false_alarms < 0", "nothing is below 0"),
    ],
)
def test_what_does_not_parse_is_refused_in_one_line(text: str, says: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_targets(text)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_defaults_are_those_promised() -> None:
    open_model = defaults(True)
    assert [t.text for t in open_model if t.primary] == [
        "baseline: rps >= 95% of plan",
        "after: rps >= 95% of plan",
        *(f"{phase}: p95 < 200ms" for phase in ("baseline", "fault", "after")),
        *(f"{phase}: error_rate < 1%" for phase in ("baseline", "fault", "after")),
        "recovery < 30s",
    ]
    secondary = {t.text for t in open_model if not t.primary}
    assert {"fault: p50 < 100ms", "after: p99 < 500ms", "fault: violating < 2s", "after: cpu < 80%"} <= secondary
    assert "memory_growth < 10%/h" in secondary
    assert not any(t.metric == "rps" for t in defaults(False))
    assert not any(t.explicit for t in open_model)


def test_an_explicit_target_replaces_the_default_of_its_phase_metric_and_name() -> None:
    merged = merge(defaults(True), parse_targets("fault: p95 < 1s") + parse_targets("p95{/a} < 50ms"))
    of_p95 = [t.text for t in merged if t.metric == "p95"]
    assert "fault: p95 < 200ms" not in of_p95
    assert {"baseline: p95 < 200ms", "after: p95 < 200ms", "fault: p95 < 1s", "fault: p95{/a} < 50ms"} <= set(of_p95)


def test_a_later_layer_wins_and_one_layer_may_hold_two_bounds() -> None:
    file_layer = merge(defaults(True), parse_targets("p95 < 300ms"))
    merged = merge(file_layer, parse_targets("after: p95 < 100ms"))
    assert {t.text for t in merged if t.metric == "p95"} == {
        "baseline: p95 < 300ms",
        "fault: p95 < 300ms",
        "after: p95 < 100ms",
    }
    both = merge(defaults(True), parse_targets("after: rps >= 100") + parse_targets("after: rps <= 300"))
    assert [t.text for t in both if t.metric == "rps" and t.phase == "after"] == [
        "after: rps >= 100",
        "after: rps <= 300",
    ]


def test_strict_makes_secondary_defaults_primary_but_respects_a_tilde() -> None:
    merged = merge(defaults(True), parse_targets("~p50 < 10ms"), strict=True)
    assert all(t.primary for t in merged if not t.explicit)
    assert not any(t.primary for t in merged if t.metric == "p50")


def test_the_closed_model_has_no_plan() -> None:
    with pytest.raises(UsageError, match="no planned rate"):
        refuse_impossible(parse_targets("after: rps >= 95% of plan"), open_model=False)
    refuse_impossible(parse_targets("after: rps >= 95% of baseline"), open_model=False)
    refuse_impossible(defaults(False), open_model=False)


@given(st.text(max_size=30))
def test_no_text_escapes_as_another_error(text: str) -> None:
    try:
        parse_targets(text)
    except UsageError as error:
        assert str(error)


@given(
    metric=st.sampled_from([*METRICS, "cache_hit_rate"]),
    op=st.sampled_from(["<", "<=", ">", ">="]),
    number=st.decimals(min_value="0.001", max_value="99", places=3),
    phase=st.sampled_from(["", "baseline: ", "fault: ", "after: "]),
    soft=st.booleans(),
)
def test_the_canonical_text_parses_back_to_the_same_target(
    metric: str, op: str, number: object, phase: str, soft: bool
) -> None:
    unit = {"ms": "ms", "s": "s", "proportion": "%", "per_h": "%/h", "per_s": "/s", "number": ""}
    traits = metric_traits(metric)
    where = "" if traits.whole_run else phase
    if traits.of_alert:
        metric += "{ServiceDown}"
    assume(not (traits.upper and op.startswith(">")))
    target = parse_expression(f"{where}{metric} {op} {number}{unit[traits.unit]}")
    again = parse_expression(("~" if soft else "") + target.text)
    assert (again.text, again.value, again.op) == (target.text, target.value, target.op)


def test_of_two_limits_without_baseline_the_larger_is_known_at_once() -> None:
    """Not every metric looks at a second limit."""
    assert parse_expression("recovery < max(30s, 60s)").text == "recovery < 60s"
    (kept,) = parse_targets("fault: violating < max(5s, 2s)")
    assert (kept.value, kept.other, kept.text) == (5.0, None, "fault: violating < 5s")
    assert parse_expression("p95 < max(1.3x baseline, 200ms)").other is not None
    with pytest.raises(UsageError, match="plan"):
        parse_targets("rps < max(100, 95% of plan)")
