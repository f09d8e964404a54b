"""Which acknowledged writes are read back, and what the verdict makes of what came of it."""

from __future__ import annotations

import pytest
from histories import Scene, make

from harness.analysis.verdict.acknowledged import MOST_AROUND, MOST_ELSEWHERE, choose
from harness.model.records import events as ev
from harness.model.records.acknowledged import Noted
from harness.model.records.result import Result


def noted(at: float, many: int, name: str = "order") -> Noted:
    return Noted(at=at, worker="w0", name=name, ids=tuple(f"{at:g}-{number}" for number in range(many)), left_out=7)


def judged(*told: ev.Event) -> Result:
    run = Scene().build()
    run.events += told
    return run.judge()


def test_what_was_acknowledged_around_the_fault_comes_first() -> None:
    run = Scene().build()
    rows = [noted(float(at), 3000) for at in (3, 8, 20, 30, 44, 60)]
    asks, total = choose(run.plan, run.events, rows)
    near = [id_ for _, id_ in asks if id_.split("-")[0] in ("20", "30", "44")]
    assert len(near) == MOST_AROUND and len(asks) - len(near) == MOST_ELSEWHERE
    assert total == 6 * 3007
    assert choose(run.plan, run.events, rows) == (asks, total), "drawn from the seed"
    # Evenly: the first second has no more of them than the last.
    share = MOST_AROUND / 3
    assert all(0.8 * share < sum(id_.startswith(f"{at}-") for id_ in near) < 1.2 * share for at in (20, 30, 44))


def test_few_are_all_asked_for_and_each_once() -> None:
    run = Scene().build()
    asks, total = choose(run.plan, run.events, [noted(30.0, 5), noted(30.0, 5), noted(30.0, 5, "payment")])
    assert len(set(asks)) == len(asks) == 10 and total == 10 + 3 * 7


def told(there: int, lost: int, unchecked: int, why: str = "") -> ev.Event:
    return make(
        ev.ReadBack, 70.0, noted=1000, chosen=there + lost + unchecked, there=there, lost=lost, unchecked=unchecked,
        seconds=3.0, why=why,
    )  # fmt: skip


def test_all_there_changes_nothing() -> None:
    assert judged().verdict == judged(told(500, 0, 0)).verdict == "pass"
    assert judged().acknowledged is None


def test_a_loss_is_a_fail_whatever_else_with_examples() -> None:
    result = judged(make(ev.DataLost, 70.0, count=2, examples=("a", "b")), told(498, 2, 0))
    assert result.verdict == "fail" and result.exit_code == 1
    assert result.reasons[0] == "2 acknowledged writes were gone after recovery, such as a, b."
    assert result.acknowledged is not None and result.acknowledged.examples == ("a", "b")


@pytest.mark.parametrize("lost", [0, 1])
def test_what_could_not_be_checked_is_never_counted_as_fine(lost: int) -> None:
    events = [make(ev.DataLost, 70.0, count=1, examples=("a",))] if lost else []
    result = judged(*events, told(400, lost, 99, "no answer within 5 s"))
    assert result.verdict == ("fail" if lost else "inconclusive")
    assert any("99 of" in reason and "no answer within 5 s" in reason for reason in result.reasons), result.reasons
