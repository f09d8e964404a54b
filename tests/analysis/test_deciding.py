"""What a plan says that its requests can tell is what they tell."""

from __future__ import annotations

import random

import msgspec
import pytest
from histories import Scene
from synthetic import binomial

from harness.analysis.rules.deciding import tells
from harness.analysis.statistics.binomial import Chances, judge_proportion
from harness.model.target_grammar import parse_targets


@pytest.mark.parametrize("text", ["after: error_rate < 1%", "fault: p95 < 200ms", "fault: error_rate <= 0.2%"])
def test_rates_said_to_be_held_and_broken_are(text: str) -> None:
    (target,) = parse_targets(text)
    found = tells(target, Scene(rate=200.0).plan())
    assert found is not None and found.held is not None
    p = 0.05 if target.metric == "p95" else target.value
    draw = random.Random(text)
    for rate, outcome in ((found.held, "held"), (found.broken, "broken")):
        said = [judge_proportion(binomial(draw, found.n, rate), found.n, p, "<", Chances()) for _ in range(400)]
        assert said.count(outcome) >= 0.9 * len(said)
    middle = [judge_proportion(binomial(draw, found.n, p), found.n, p, "<", Chances()) for _ in range(400)]
    assert middle.count("undecided") >= 0.85 * len(middle)


def test_a_phase_that_goes_on_tells_more() -> None:
    (target,) = parse_targets("after: error_rate < 1%")
    plan = Scene(rate=200.0).plan()
    longer = msgspec.structs.replace(plan, phases=msgspec.structs.replace(plan.phases, extend=("after",)))
    found = tells(target, longer)
    assert found is not None and found.held is not None and found.held_later is not None
    assert found.held < found.held_later < 0.01 < found.broken


@pytest.mark.parametrize("text", ["fault: error_rate < 2x baseline", "fault: rps >= 10", "fault: error_rate > 1%"])
def test_of_other_targets_nothing_is_said(text: str) -> None:
    (target,) = parse_targets(text)
    assert tells(target, Scene(rate=200.0).plan()) is None


def test_too_few_requests_hold_nothing() -> None:
    (target,) = parse_targets("after: error_rate < 0.1%")
    found = tells(target, Scene(rate=20.0).plan())
    assert found is not None and found.held is None
