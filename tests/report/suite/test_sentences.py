"""Every sentence about a suite, and where it must not appear."""

from __future__ import annotations

from datetime import date

import msgspec
import pytest

from harness.analysis.suite.isolation import isolation
from harness.model.records.many_runs.gate import Finding, GateResult
from harness.report.suite import sentences as say
from harness.report.terminal.suite_summary import recovery_words
from tests.analysis.suite.suites import attempt, cell, experiment, suite

from .samples import KNOWN, gate_of_mixed, held, mixed


def test_counts_and_never_a_percentage() -> None:
    assert say.headline(mixed()) == "held 2, broken 2, unknown 1, not run 1 of 6"
    assert say.headline(held()) == "held 1, broken 0, unknown 0 of 1"


def test_the_score_is_an_interval_where_something_is_unknown_and_one_number_where_nothing_is() -> None:
    assert say.interval(mixed()).startswith("Score 33 to 67 of 100: it is 33 if all 2 undecided ones break")
    assert say.interval(held()) == "Score 100 of 100: every experiment is decided."
    assert say.interval(suite()).startswith("No score")
    one = suite(*held().experiments, experiment("db-down", attempt("unknown")))
    assert say.interval(one).endswith("if the undecided one breaks, 100 if it holds.")


def test_a_score_is_100_only_where_it_is() -> None:
    nearly = suite(*(experiment(f"redis-{i}", attempt("held"), weight=300.0) for i in range(3)))
    broken = experiment("db-down", attempt("broken"), weight=1.0)
    assert say.score_ends(suite(*nearly.experiments, broken)) == (99, 99)
    assert say.score_ends(nearly) == (100, 100)


def test_everything_held_is_said_only_where_all_is_decided() -> None:
    unknown = experiment("db-down", attempt("unknown"))
    assert say.verdict(held())[1] == "EVERY EXPERIMENT HELD"
    assert say.verdict(suite(*held().experiments, unknown))[1] == "NOT ALL IS KNOWN"
    assert say.verdict(suite(*held().experiments, experiment("kafka-down")))[1] == "NOT ALL IS KNOWN"
    assert say.verdict(suite())[1] == "NOT ALL IS KNOWN"
    assert say.verdict(mixed())[1] == "WEAKNESSES FOUND"


def test_what_is_said_where_nothing_is_broken() -> None:
    unknown = experiment("db-down", attempt("unknown"))
    assert say.nothing_broken(mixed()) == ""
    assert say.nothing_broken(held()) == "Nothing that was tried broke."
    left = suite(*held().experiments, excluded=mixed().excluded)
    assert say.nothing_broken(left).endswith("What was left out is listed below.")
    assert "1 more are unknown" in say.nothing_broken(suite(*held().experiments, unknown))
    assert "nothing is known to hold" in say.nothing_broken(suite(unknown))
    assert "Nothing was tried" in say.nothing_broken(suite())


def test_lost_writes_come_first_and_then_bad_requests() -> None:
    assert [one.experiment.name for one in say.weaknesses(mixed())] == ["db-down", "redis-down"]
    small, large = (experiment(name, attempt("broken", harm=n)) for name, n in (("a-x", 5), ("b-x", 50)))
    unknown_harm = experiment("c-x", attempt("broken", [cell("GET /", "broken", 20)]))
    found = say.weaknesses(suite(small, large, unknown_harm))
    assert [one.experiment.name for one in found] == ["b-x", "c-x", "a-x"]
    assert say.weaknesses(held()) == ()


def test_a_weakness_says_what_breaks_whom_it_hurts_and_how_much() -> None:
    db, redis = say.weaknesses(mixed())
    assert say.what_breaks(redis) == "With redis-down, GET /products fails and GET /search is too slow."
    assert say.how_much(redis) == (
        "1,234 bad requests beyond baseline's share; targets violated for 12.3s; recovered 3.2s after the fault; "
        "broken in 2 of 3 attempts."
    )
    assert say.what_breaks(db) == "With db-down, GET /health and POST /orders fail."
    assert say.how_much(db) == (
        "200 bad requests beyond baseline's share; 3 acknowledged writes lost; not recovered when the experiment ended."
    )


def test_what_one_attempt_of_three_broke_is_not_said_to_break() -> None:
    assert "GET /once" not in say.what_breaks(say.weaknesses(mixed())[1])


def test_what_may_fail_is_not_called_a_victim() -> None:
    assert "GET /tips" not in say.what_breaks(say.weaknesses(mixed())[1])


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (attempt("broken", broken_targets=("recovery < 30s",)), "db-down breaks the target recovery < 30s."),
        (attempt("broken", lost_writes=2), "With db-down, writes are acknowledged and lost."),
        (attempt("broken", reason="It failed."), "db-down: It failed."),
    ],
)
def test_a_weakness_without_a_broken_request_name_says_what_else(found: object, said: str) -> None:
    (one,) = say.weaknesses(suite(experiment("db-down", found)))  # type: ignore[arg-type]
    assert say.what_breaks(one) == said


def test_what_is_not_on_record_is_not_said() -> None:
    (one,) = say.weaknesses(suite(experiment("db-down", attempt("broken", reason=""))))
    assert say.how_much(one) == ""
    (without,) = say.weaknesses(suite(experiment("db-down", outcome="broken")))
    assert "no attempt on record" in say.what_breaks(without)
    assert say.how_much(without) == ""


def test_harm_without_a_baseline_is_said_otherwise() -> None:
    (one,) = say.weaknesses(suite(experiment("db-down", attempt("broken", [cell("GET /", "broken", 20)]))))
    assert say.how_much(one) == "20 bad requests while the fault was on."


def test_a_broken_control_run_has_no_fault_to_blame() -> None:
    broken = experiment("control", attempt("broken", {"GET /": "broken"}), faults=())
    assert say.what_breaks(say.weaknesses(suite(broken))[0]).startswith("Without any fault, ")


def test_recovery_is_said_only_where_it_was_judged() -> None:
    assert say.recovery(attempt("held", recovery="no_impact")) == ""
    assert say.recovery(attempt("held", recovery="not_judged")) == ""
    assert say.recovery(attempt("held")) == ""
    assert say.recovery(attempt("unknown", recovery="undecided")) == "recovery undecided"


def test_why_something_is_undecided() -> None:
    assert say.undecided(mixed()) == "Not decided: redis-hang: The fault was not proven. And 1 more."
    assert say.undecided(held()) == ""
    torn = experiment("db-down", attempt("held"), attempt("broken"))
    assert say.why_undecided(torn) == "its attempts do not agree: broken in 1 of 2"


def test_couplings_that_nobody_declared_and_a_freeze() -> None:
    lines = [line for one in isolation(mixed().experiments) for line in say.needs(one)]
    assert "GET /products fails with redis, and no declaration says so." in lines
    assert "GET /health fails with db though it is declared independent." in lines
    assert any(line.startswith("Everything froze in db-down") for line in lines)
    assert not any("GET /tips" in line for line in lines)
    assert [line for one in isolation(held().experiments) for line in say.needs(one)] == []


def test_a_coupling_that_some_experiments_declare_is_not_said_to_be_declared_by_none() -> None:
    broken = cell("GET /", "broken")
    down = experiment("db-down", attempt("broken", [broken, cell("GET /b")]))
    declared = cell("GET /", "broken", may_fail=True)
    slow = experiment("db-latency", attempt("held", [declared, cell("GET /b")]))
    lines = [line for one in isolation([down, slow]) for line in say.needs(one)]
    assert lines == ["GET / fails with db, which is declared of some experiments only."]


def test_a_slow_coupling_does_not_fail() -> None:
    slow = experiment("db-latency", attempt("broken", [cell("GET /", "broken", 50, failed=1), cell("GET /b")]))
    lines = [line for one in isolation([slow]) for line in say.needs(one)]
    assert lines == ["GET / gets too slow with db, and no declaration says so."]


def test_a_known_weakness_has_its_owner_and_the_days_left() -> None:
    (line,) = say.known(gate_of_mixed(), date(2026, 11, 30))
    assert line == (
        "db-down, POST /orders: owner team-orders, until 30 December 2026, 30 days left, SHOP-123. "
        "Reason: no fallback yet"
    )
    assert "expired on 30 December 2026, 2 days ago" in say.known(gate_of_mixed(), date(2027, 1, 1))[0]
    assert "left" not in say.known(gate_of_mixed(), None)[0]
    assert say.known(None, None) == []


def test_a_day_that_is_none_is_shown_as_it_is() -> None:
    odd = Finding(experiment="a", outcome="broken", known=msgspec.structs.replace(KNOWN, until="soon\x1b"))
    (line,) = say.known(GateResult(exit_code=0, sentence="", known=(odd,)), date(2026, 1, 1))
    assert "until soon\\x1b" in line


def test_new_and_known_are_said_only_with_a_gate() -> None:
    assert say.status("redis-down", gate_of_mixed()) == "new"
    assert say.status("db-down", gate_of_mixed()) == "known"
    assert say.status("db-latency", gate_of_mixed()) == ""
    assert say.status("redis-down", None) == ""


def test_changes_have_only_the_kinds_that_there_are() -> None:
    assert [title for title, _ in say.changes(gate_of_mixed())] == ["Newly broken"]
    fixed = Finding(experiment="a", request="b", outcome="held", known=KNOWN)
    other = Finding(experiment="a", request="c", outcome="held")
    ((_, lines),) = say.changes(GateResult(exit_code=0, sentence="", fixed=(fixed, other)))
    assert lines == ["a, b; remove it from the known weaknesses", "a, c"]


def test_resets_and_what_was_left_out() -> None:
    assert [said for _, _, said in say.resets(mixed())] == ["after db-down: api was restarted"]
    assert say.resets(held()) == []
    assert say.excluded(mixed()) == ["left out by --only: kafka-kill"]
    assert say.excluded(held()) == []


def test_what_an_attempt_says_of_recovery_is_no_more_than_was_judged() -> None:
    """That no target was broken when the fault ended does not say that nobody noticed."""
    one = attempt("held", {"A": "held"})
    quiet = msgspec.structs.replace(one, recovery="no_impact", violating_s=0.0)
    assert recovery_words(quiet) == "no target was broken"
    hurt = msgspec.structs.replace(quiet, violating_s=1.2)
    assert recovery_words(hurt) == "targets held again before the fault ended"
