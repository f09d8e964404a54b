"""The gate: each rule, and each sentence where it must not appear."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import msgspec
import pytest

from harness.analysis.suite.accept import accepted
from harness.analysis.suite.gate import gate, to_confirm
from harness.model.errors import UsageError
from harness.model.records.many_runs.gate import LOST_WRITES, WHOLE, Base, GateResult, Known
from harness.model.records.many_runs.suite import NOT_CHOSEN, Attempt, Excluded, SuiteResult
from tests.analysis.suite.suites import attempt, cell, experiment, suite

DAY = date(2026, 11, 30)
UNTIL = date(2027, 1, 12)
GOOD = attempt("held", {"A": "held", "B": "held"})
BAD = attempt("broken", {"A": "broken", "B": "held"})
UNDECIDED = attempt("unknown", [cell("A", "unknown", why="too few"), cell("B")])
DOWN = "redis-down"


def base_of(*attempts: Attempt, **more: object) -> tuple[Base, tuple[Known, ...]]:
    return accepted(
        suite(experiment(DOWN, *attempts), experiment("control", GOOD), **more),
        owner="me",
        reason="no fallback",
        until=UNTIL,
        today=DAY,
    )


def now(*attempts: Attempt, **more: object) -> SuiteResult:
    return suite(experiment(DOWN, *attempts), experiment("control", GOOD), **more)


def said(before: Sequence[Attempt], after: Sequence[Attempt], today: date = DAY, **more: object) -> GateResult:
    base, known = base_of(*before)
    return gate(base, known, now(*after, **more), today)


def where(found: GateResult) -> dict[str, list[str]]:
    """Every list that is not empty, by the items in it."""
    names = ("new", "worse", "expired", "unknown", "known", "fixed")
    every = {name: [one.request or one.target for one in getattr(found, name)] for name in names}
    return {name: items for name, items in every.items() if items}


def test_the_same_again_passes() -> None:
    found = said([GOOD], [GOOD])
    assert (found.exit_code, found.sentence, where(found), found.listed) == (0, "passed", {}, ())


def test_newly_broken_in_two_of_three_fails() -> None:
    found = said([GOOD], [BAD, GOOD, BAD])
    assert (found.exit_code, found.sentence, where(found)) == (1, "failed, 1 newly broken", {"new": ["A"]})
    assert found.new[0].why == "100 of 100 requests were bad (fault: error_rate < 1%), in 2 of 3 attempts"


def test_broken_in_one_of_three_passes() -> None:
    found = said([GOOD], [BAD, GOOD, GOOD])
    assert (found.exit_code, found.sentence, where(found)) == (0, "passed", {})


def test_broken_once_and_not_confirmed_is_neither_red_nor_green() -> None:
    found = said([GOOD], [BAD])
    assert (found.exit_code, where(found)) == (3, {"unknown": ["A"]})
    assert "newly broken" not in found.sentence and "not confirmed" in found.unknown[0].why
    assert said([GOOD], [BAD, GOOD, UNDECIDED]).exit_code == 3


def test_decided_before_and_unknown_now_is_undecided() -> None:
    found = said([GOOD], [UNDECIDED, UNDECIDED, GOOD])
    assert (found.exit_code, where(found)) == (3, {"unknown": ["A"]})
    assert found.sentence == "undecided, 1 decided before and unknown now" and found.unknown[0].why == "too few"
    assert said([UNDECIDED], [UNDECIDED]).exit_code == said([UNDECIDED], [GOOD]).exit_code == 0


def test_an_experiment_that_is_unknown_as_a_whole_is_undecided() -> None:
    whole = attempt("unknown", {"A": "held", "B": "held"}, undecided_targets=("after: rps >= 95% of plan",))
    found = said([GOOD], [whole])
    assert (found.exit_code, where(found), found.unknown[0].why) == (3, {"unknown": [""]}, "it was unknown.")
    assert where(said([whole], [whole])) == {}
    assert where(said([GOOD], [whole, GOOD, GOOD])) == {}
    # Each time another request name, each of which held in two of three.
    other = attempt("unknown", {"A": "held", "B": "unknown"})
    assert where(said([GOOD], [UNDECIDED, other, GOOD])) == {}


def test_a_known_weakness_passes_and_says_when_it_expires() -> None:
    found = said([BAD], [BAD])
    assert (found.exit_code, where(found)) == (0, {"known": ["A"]})
    assert found.sentence == "passed, 1 known weakness, next expires on 12 January"
    base, known = base_of(attempt("broken", {"A": "broken", "B": "broken", "C": "broken"}))
    known = (msgspec.structs.replace(known[0], until="2026-12-05"), *known[1:])
    again = gate(base, known, now(attempt("broken", {"A": "broken", "B": "broken", "C": "broken"})), DAY)
    assert again.sentence == "passed, 3 known weaknesses, next expires on 5 December"


def test_it_expires_after_its_day() -> None:
    assert said([BAD], [BAD], today=UNTIL).exit_code == 0
    found = said([BAD], [BAD], today=date(2027, 1, 13))
    assert (found.exit_code, where(found)) == (1, {"expired": ["A"]})
    assert found.sentence.startswith("failed, 1 known until a day that has passed, ")
    assert "next expires" not in found.sentence
    assert said([BAD], [UNDECIDED], today=date(2027, 1, 13)).exit_code == 1
    fixed = said([BAD], [GOOD], today=date(2027, 1, 13))
    assert (fixed.exit_code, where(fixed)) == (0, {"fixed": ["A"]})


def test_a_known_one_that_holds_now_is_to_be_removed() -> None:
    found = said([BAD], [GOOD])
    assert (found.exit_code, where(found)) == (0, {"fixed": ["A"]})
    assert found.sentence == "passed, 1 known weakness holds now: remove it"
    assert "remove" not in said([BAD], [BAD]).sentence and "remove" not in said([GOOD], [GOOD]).sentence


def test_a_known_one_beyond_what_was_accepted_fails() -> None:
    partly = attempt("broken", [cell("A", "broken", 20), cell("B")])
    base, known = base_of(partly)
    assert known[0].at_most is not None and 0.2 < known[0].at_most < 0.4
    assert gate(base, known, now(partly), DAY).exit_code == 0
    worse = attempt("broken", [cell("A", "broken", 70), cell("B")])
    found = gate(base, known, now(worse, worse, partly), DAY)
    assert (found.exit_code, where(found)) == (1, {"worse": ["A"]}) and "70%" in found.worse[0].why
    assert where(gate(base, known, now(worse, partly, partly), DAY)) == {"known": ["A"]}
    once = gate(base, known, now(worse), DAY)
    assert (once.exit_code, where(once)) == (3, {"unknown": ["A"]})
    # However much, where nothing was said of it.
    free = (msgspec.structs.replace(known[0], at_most=None),)
    assert gate(base, free, now(worse, worse, worse), DAY).exit_code == 0


def test_a_known_recovery_has_a_longest_time() -> None:
    def late(seconds: float | None) -> Attempt:
        return attempt("broken", {"A": "held"}, broken_targets=("recovery < 30s",), recovery_s=seconds)

    base, known = base_of(late(40.0))
    assert [(one.request, one.target, one.at_most) for one in known] == [("", "recovery < 30s", 60.0)]
    assert where(gate(base, known, now(late(55.0)), DAY)) == {"known": ["recovery < 30s"]}
    for seconds, words in ((65.0, "recovery took 1m5s"), (None, "it did not recover")):
        found = gate(base, known, now(late(seconds), late(seconds), late(seconds)), DAY)
        assert (found.exit_code, where(found)) == (1, {"worse": ["recovery < 30s"]})
        assert words in found.worse[0].why
    assert base_of(late(None))[1][0].at_most is None


def test_what_breaks_beside_the_request_names_counts() -> None:
    both = attempt("broken", {"A": "broken"}, broken_targets=("fault: error_rate < 1%", "recovery < 30s"))
    found = said([BAD], [both, both])
    # The share of all requests is the names' own; recovery is not.
    assert where(found) == {"new": ["recovery < 30s"], "known": ["A"], "unknown": ["B"]}
    lost = attempt("broken", {"A": "broken", "B": "held"}, lost_writes=3)
    assert where(said([BAD], [lost, lost])) == {"new": [LOST_WRITES], "known": ["A"]}
    aborted = attempt("broken", {"A": "held", "B": "held"})
    assert where(said([GOOD], [aborted, aborted])) == {"new": [WHOLE]}
    total = attempt("broken", {"A": "held", "B": "held"}, broken_targets=("fault: error_rate < 1%",))
    assert where(said([GOOD], [total, total])) == {"new": ["fault: error_rate < 1%"]}


def test_what_is_declared_that_it_may_fail_is_no_weakness() -> None:
    may = attempt("held", [cell("A", "broken", may_fail=True), cell("B")])
    assert said([GOOD], [may, may, may]).exit_code == 0
    assert base_of(may)[1] == ()
    assert where(said([may], [BAD, BAD])) == {"new": ["A"]}  # the declaration is gone
    found = said([BAD], [may])
    assert where(found) == {"fixed": ["A"]} and "declared" in found.fixed[0].why


def test_broken_in_the_base_and_owned_by_nobody_fails() -> None:
    base, _ = base_of(BAD)
    found = gate(base, (), now(BAD, BAD), DAY)
    assert found.exit_code == 1 and "nobody owns it" in found.new[0].why
    assert "nobody" not in said([GOOD], [BAD, BAD]).new[0].why


def test_new_changed_and_gone_experiments_are_listed() -> None:
    base, known = base_of(GOOD)
    other = suite(experiment("control", GOOD), experiment("db-down", BAD, BAD, BAD))
    found = gate(base, known, other, DAY)
    assert found.exit_code == 0 and where(found) == {}
    assert found.listed == ("db-down is new: broken", "redis-down is in the base and no longer in the suite")
    chosen = suite(experiment("control", GOOD), excluded=(Excluded(name=DOWN, why=NOT_CHOSEN),))
    assert gate(base, known, chosen, DAY).listed == ("redis-down is in the base and left out by --only",)
    changed = gate(base, known, suite(experiment(DOWN, BAD, BAD, definition="x"), experiment("control", GOOD)), DAY)
    assert (changed.exit_code, changed.listed) == (0, ("redis-down has changed: broken",))
    assert gate(base, known, now(GOOD), DAY).listed == ()


def test_a_base_of_another_suite_lets_nothing_pass() -> None:
    base, known = base_of(GOOD)
    found = gate(base, known, suite(experiment("db-down", GOOD), experiment("db-hang", GOOD)), DAY)
    assert (found.exit_code, found.sentence) == (3, "undecided, no experiment of the base could be compared")
    assert (
        "no experiment"
        not in gate(base, known, suite(experiment("db-down", GOOD), experiment(DOWN, GOOD)), DAY).sentence
    )


def test_a_known_weakness_of_what_is_not_compared_still_expires() -> None:
    base, known = base_of(BAD)
    changed = suite(experiment(DOWN, BAD, definition="x"), experiment("control", GOOD))
    assert where(gate(base, known, changed, DAY)) == {"known": ["A"]}
    assert gate(base, known, changed, date(2027, 2, 1)).exit_code == 1
    gone = gate(base, known, suite(experiment("control", GOOD)), date(2027, 2, 1))
    assert (
        gone.exit_code == 0 and "redis-down: a known weakness of an experiment that is not in the suite" in gone.listed
    )


def test_another_load_is_listed_and_compared_by_the_names_that_both_have() -> None:
    base, known = base_of(GOOD)
    renamed = attempt("broken", {"A": "broken", "C": "broken"})
    found = gate(base, known, now(renamed, renamed, load="other"), DAY)
    assert (found.exit_code, where(found)) == (1, {"new": ["A"]}) and "the load is another" in found.listed[0]
    same = gate(base, known, now(renamed, renamed), DAY)
    assert where(same) == {"new": ["A", "C"], "unknown": ["B"]} and same.listed == ()


def test_what_was_not_run_is_unknown() -> None:
    base, known = base_of(GOOD)
    late = suite(experiment(DOWN, why="the time was up"), experiment("control", GOOD))
    found = gate(base, known, late, DAY)
    assert (found.exit_code, found.unknown[0].why) == (3, "not run: the time was up")


def test_what_is_new_or_undecided_is_confirmed() -> None:
    base, known = base_of(GOOD)
    assert to_confirm(base, known, now(GOOD), DAY) == ()
    for one in (BAD, UNDECIDED):
        assert to_confirm(base, known, now(one), DAY) == (DOWN,)
        assert to_confirm(base, known, now(one, one), DAY) == (DOWN,)
        assert to_confirm(base, known, now(one, one, one), DAY) == ()
    assert to_confirm(base, known, suite(experiment(DOWN), experiment("control", GOOD)), DAY) == ()
    base, known = base_of(BAD)
    assert to_confirm(base, known, now(BAD), DAY) == ()
    assert to_confirm(base, known, now(GOOD), DAY) == (DOWN,)  # fixed is news, too
    base, known = base_of(UNDECIDED)
    assert to_confirm(base, known, now(UNDECIDED), DAY) == ()
    # New experiments, and suites of which nothing is accepted: what is broken or unknown.
    both = suite(experiment(DOWN, GOOD), experiment("control", GOOD), experiment("db-down", BAD), experiment("x", GOOD))
    assert to_confirm(base, known, both, DAY) == ("db-down",)
    assert to_confirm(None, (), both, DAY) == ("db-down",)


def test_accepting_asks_for_a_reason_and_a_day_where_something_is_newly_broken() -> None:
    broken, fine = now(BAD), now(GOOD)
    accepted(fine, owner="me", today=DAY)
    for more in ({}, {"reason": "r"}, {"until": UNTIL}, {"until": UNTIL, "reason": " "}):
        with pytest.raises(UsageError, match="'redis-down: A' is broken"):
            accepted(broken, owner="me", today=DAY, **more)
    for day in (date(2026, 11, 29), date(2027, 5, 30)):
        with pytest.raises(UsageError, match="180 days at most"):
            accepted(fine, owner="me", today=DAY, until=day)
    accepted(fine, owner="me", today=DAY, until=date(2027, 5, 29))
    # What is known already keeps its owner and its day.
    base, known = base_of(BAD)
    _, again = accepted(broken, owner="you", today=DAY, base=base, known=known)
    assert again == known and known[0].owner == "me"
    with pytest.raises(UsageError):  # expired
        accepted(broken, owner="you", today=date(2027, 2, 1), base=base, known=known)
    _, gone = accepted(fine, owner="you", today=DAY, base=base, known=known)
    assert gone == ()


def test_accepting_keeps_what_was_not_run() -> None:
    base, known = base_of(BAD)
    partial = suite(experiment(DOWN), experiment("control", GOOD))
    after, still = accepted(partial, owner="you", today=DAY, base=base, known=known)
    assert after.experiments == base.experiments and still == known
    first, _ = accepted(partial, owner="you", today=DAY)
    assert first.experiments[DOWN].outcome == "not_run"


def test_a_stale_base_counts_and_is_said() -> None:
    started = "2026-11-30T10:00:00Z"
    base, known = base_of(GOOD, started=started)
    last, old = date(2026, 12, 30), date(2026, 12, 31)
    assert gate(base, known, now(GOOD), last).stale == ()
    found = gate(base, known, now(GOOD), old)
    assert (found.exit_code, where(found)) == (0, {})
    assert found.sentence == "passed, 2 of 2 outcomes compared with are stale, and count"
    assert [(one.why, one.experiments) for one in found.stale] == [("31 days old", (DOWN, "control"))]
    assert gate(base, known, now(BAD, BAD, BAD), old).exit_code == 1
    (other,) = gate(base, known, now(GOOD, target_version="1.1"), DAY).stale
    assert other.why == "of target version 1.0, and it is 1.1 now"
    assert gate(base, known, now(GOOD, target_version=None), DAY).stale == ()


def test_what_is_accepted_is_as_old_as_it_was_found() -> None:
    base, known = base_of(GOOD, started="2026-10-01T10:00:00Z")
    assert (base.day, base.accepted) == ("2026-10-01", "2026-11-30")
    assert len(gate(base, known, now(GOOD), DAY).stale) == 1
    # What was not run when the base was accepted anew stays as old as it is.
    partial = suite(experiment(DOWN), experiment("control", GOOD), started="2026-11-30T10:00:00Z", target_version="2")
    after, known = accepted(partial, owner="me", today=DAY, base=base, known=known)
    assert (after.experiments[DOWN].day, after.experiments[DOWN].target_version) == ("2026-10-01", "1.0")
    assert after.experiments["control"].day == ""
    assert gate(after, known, now(GOOD, target_version="2"), DAY).stale[0].experiments == (DOWN,)


def test_a_weakness_is_known_since_it_was_first_accepted() -> None:
    base, known = base_of(BAD)
    assert [one.since for one in known] == ["2026-11-30"]
    later = date(2027, 1, 9)
    assert "1 known weakness, known for 40 days, next" in gate(base, known, now(BAD), later).sentence
    _, again = accepted(
        now(BAD), owner="you", reason="still", until=date(2027, 6, 1), today=date(2027, 2, 1), base=base, known=known
    )
    assert [(one.since, one.owner) for one in again] == [("2026-11-30", "you")]
    unknown = [msgspec.structs.replace(one, since="") for one in known]
    assert "known for" not in gate(base, unknown, now(BAD), later).sentence


def test_the_base_is_the_same_whatever_the_order() -> None:
    one, two = experiment(DOWN, BAD), experiment("control", GOOD)
    first = accepted(suite(one, two), owner="me", today=DAY, reason="r", until=UNTIL)
    assert first == accepted(suite(two, one), owner="me", today=DAY, reason="r", until=UNTIL)
