"""The score is an interval that missing data widens and never raises; attempts decide by majority."""

from __future__ import annotations

import pytest

from harness.analysis.suite.score import cells_of_most, majority, outcome_of, score
from harness.model.records.many_runs.suite import ExperimentOutcome, ExperimentResult
from tests.analysis.suite.suites import attempt, experiment


def made(name: str, outcome: ExperimentOutcome, weight: float = 1.0) -> ExperimentResult:
    return experiment(name, attempt(outcome), weight=weight) if outcome != "not_run" else experiment(name)


def test_the_score_is_what_held_to_what_is_not_known_to_be_broken() -> None:
    found = score([made(f"e{i}", "held") for i in range(17)] + [made(f"b{i}", "broken") for i in range(4)])
    assert (found.held, found.broken) == (17, 4)
    assert found.low == found.high == pytest.approx(80.95, abs=0.01)
    more = score(
        [made(f"e{i}", "held") for i in range(17)]
        + [made(f"b{i}", "broken") for i in range(4)]
        + [made(f"u{i}", "unknown") for i in range(5)]
        + [made("n", "not_run")]
    )
    assert (more.unknown, more.not_run) == (5, 1)
    assert more.low == pytest.approx(62.96, abs=0.01) and more.high == pytest.approx(85.19, abs=0.01)


@pytest.mark.parametrize("missing", ["unknown", "not_run"])
def test_missing_data_widens_and_never_raises(missing: ExperimentOutcome) -> None:
    every = [made("a", "held"), made("b", "broken"), made("c", "held")]
    whole = score(every)
    for at in range(3):
        less = score([*every[:at], made(every[at].name, missing), *every[at + 1 :]])
        assert less.low <= whole.low and less.high >= whole.high and less.high - less.low > 0
    more = score([*every, made("d", missing)])
    assert more.low < whole.low < more.high


def test_weights_count_and_nothing_is_known_of_an_empty_suite() -> None:
    found = score([made("a", "held", 3.0), made("b", "broken")])
    assert (found.low, found.high, found.held, found.broken) == (75.0, 75.0, 1, 1)
    assert (score([]).low, score([]).high) == (0.0, 100.0)
    assert (score([made("a", "not_run")]).low, score([made("a", "not_run")]).high) == (0.0, 100.0)


def test_two_of_three_decide() -> None:
    assert majority(["held", "broken", "held"], "unknown") == "held"
    assert majority(["held", "broken"], "unknown") == majority(["held", "broken", "unknown"], "unknown") == "unknown"
    assert outcome_of([attempt("broken"), attempt("held"), attempt("broken")]) == "broken"
    assert outcome_of([attempt("broken"), attempt("not_run")]) == "broken"
    assert outcome_of([]) == outcome_of([attempt("not_run")]) == "not_run"


def test_cells_of_most_attempts() -> None:
    one = experiment(
        "redis-down",
        attempt("broken", {"A": "broken", "B": "held", "C": "broken"}),
        attempt("held", {"A": "broken", "B": "held", "C": "held"}),
        attempt("held", {"A": "held", "B": "broken", "D": "held"}),
    )
    found = {cell.request: cell.outcome for cell in cells_of_most(one)}
    # C once broken, once held, once not asked for; D was asked for only once.
    assert found == {"A": "broken", "B": "held", "C": "unknown", "D": "unknown"}
    assert next(c for c in cells_of_most(one) if c.request == "C").why == "attempts do not agree"
