"""Cells: each rule by runs whose truth is known."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest

from harness.analysis.run_directory import Run as Record
from harness.analysis.suite.cells import cells, cells_of
from harness.model.errors import UsageError
from harness.model.records import events as ev
from harness.model.records.many_runs.suite import Cell
from harness.model.records.plan import Plan
from harness.model.records.windows import MarkRow
from tests.analysis.histories import INJECTED, ZERO, Reply, Run, Scene, Service, healthy, stopped
from tests.analysis.test_by_name import rare

RARE = "GET /anomalies"
DEAD = rare(0.03, (INJECTED, ZERO))


def found(run: Run, **changes: object) -> dict[str, Cell]:
    plan = msgspec.structs.replace(run.plan, **changes)
    again = Run(plan, run.events, run.rows, run.samples)
    record = Record(plan, tuple(run.events), again.store(), tuple(run.samples))
    return {cell.request: cell for cell in cells(record, again.judge())}


def of(service: Service, **more: object) -> dict[str, Cell]:
    return found(Scene(service=service, **more).build())  # type: ignore[arg-type]


def test_names_that_kept_well_are_held_and_the_dead_one_is_broken() -> None:
    seen = of(DEAD)
    assert {name: cell.outcome for name, cell in seen.items()} == {
        "GET /items": "held",
        "POST /items": "held",
        RARE: "broken",
    }
    dead = seen[RARE]
    assert dead.bad == dead.failed >= dead.n - 1 > 90 and dead.target == "fault: error_rate < 1%" and not dead.may_fail
    assert dead.why == f"{dead.bad} of {dead.n}" and seen["GET /items"].why == "" == seen["GET /items"].target


def test_a_name_that_is_only_slow_is_broken_and_did_not_fail() -> None:
    slow = of(rare(0.03, (INJECTED, ZERO), None, 900.0))[RARE]
    assert (slow.outcome, slow.failed, slow.target) == ("broken", 0, "fault: p95 < 200ms")
    assert slow.bad >= slow.n - 1 > 90


@pytest.mark.parametrize(("n", "outcome"), [(58, "unknown"), (59, "held")])
def test_59_good_requests_decide(n: int, outcome: str) -> None:
    left = iter(range(n))

    def service(at: float, draw: random.Random) -> Reply:
        if INJECTED + 1 <= at < ZERO - 1 and next(left, None) is not None:
            return Reply(30.0, None, RARE)
        return healthy(at, draw)

    cell = of(service)[RARE]
    assert (cell.n, cell.bad, cell.outcome) == (n, 0, outcome)
    assert ("59 are needed" in cell.why) is (outcome == "unknown")


def test_a_share_near_five_percent_is_too_close() -> None:
    def service(at: float, draw: random.Random) -> Reply:
        if draw.random() >= 0.05:
            return healthy(at, draw)
        return Reply(5.0, "status" if draw.random() < 0.05 else None, RARE)

    cell = of(service)[RARE]
    assert cell.outcome == "unknown" and "too close to 5%" in cell.why and "needed" not in cell.why


def test_a_target_of_its_own_decides_with_it() -> None:
    few = rare(0.03, None)
    assert of(few)[RARE].outcome == "held"
    strict = of(few, targets=(f"fault: error_rate{{{RARE}}} < 1%",))[RARE]
    # 120 requests show 5 % and not 1 %.
    assert strict.outcome == "unknown" and strict.why.startswith(f"fault: error_rate{{{RARE}}} < 1%: ")
    wide = of(few, targets=(f"fault: error_rate{{{RARE}}} < 20%",))[RARE]
    assert (wide.outcome, wide.allowed) == ("held", 0.2)
    broken = of(rare(0.03, (INJECTED, ZERO)), targets=(f"fault: error_rate{{{RARE}}} < 20%",))[RARE]
    assert broken.outcome == "broken"


def test_what_may_fail_is_broken_and_says_so() -> None:
    run = Scene(service=DEAD).build()
    excused = found(run, may_fail_with={RARE: ("redis",)})
    assert excused[RARE].outcome == "broken" and excused[RARE].may_fail
    assert not found(run, may_fail_with={RARE: ("kafka",)})[RARE].may_fail
    # Nothing excuses it any more when the dependency is back, nor where it is declared not to need it.
    late = Scene(service=rare(0.03, (INJECTED, 1e9))).build()
    assert not found(late, may_fail_with={RARE: ("redis",)})[RARE].may_fail
    own = found(run, may_fail_with={RARE: ("redis",)}, independent_of={RARE: ("redis",)})[RARE]
    assert (own.outcome, own.may_fail, own.independent) == ("broken", False, True)
    assert not excused[RARE].independent


def test_an_independent_request_breaks_the_run_though_it_may_fail() -> None:
    run = Scene(service=rare(0.006, (INJECTED, ZERO))).build()
    plan = msgspec.structs.replace(run.plan, may_fail_with={RARE: ("redis",)})
    assert Run(plan, run.events, run.rows, run.samples).judge().verdict == "pass"
    plan = msgspec.structs.replace(plan, independent_of={RARE: ("redis",)})
    assert Run(plan, run.events, run.rows, run.samples).judge().verdict == "fail"
    plan = msgspec.structs.replace(plan, independent_of={RARE: ("kafka",)})
    assert Run(plan, run.events, run.rows, run.samples).judge().verdict == "pass"


def test_a_name_still_dead_after_the_undo_is_broken() -> None:
    def service(at: float, draw: random.Random) -> Reply:
        if draw.random() >= 0.03:
            return healthy(at, draw)
        return Reply(5.0, "status" if at >= ZERO else None, RARE)

    cell = of(service)[RARE]
    assert cell.outcome == "broken" and cell.target.startswith("after: ") and cell.bad <= 1


def test_nothing_is_said_of_a_fault_that_is_not_proven() -> None:
    run = Scene(service=DEAD).build().without(ev.FaultProven, ev.FaultEvidence)
    for cell in found(run).values():
        assert (cell.outcome, cell.why, cell.target) == ("unknown", "the fault redis-down was not proven", "")


def test_nothing_is_said_of_a_run_that_cannot_be_trusted() -> None:
    def early(at: float, draw: random.Random) -> Reply:
        return Reply(20.0, "status") if INJECTED - 1 <= at < ZERO and draw.random() < 0.6 else healthy(at, draw)

    def always(at: float, draw: random.Random) -> Reply:
        return Reply(5.0, "status") if draw.random() < 0.2 else healthy(at, draw)

    run = Scene().build()
    cut = run.cut(INJECTED + 10, stopped("lost_load", INJECTED + 10))
    starved = [
        msgspec.structs.replace(row, saturated=True) if isinstance(row, MarkRow) and row.at > INJECTED else row
        for row in run.rows
    ]
    lost = Run(run.plan, run.events, [r for r in run.rows if getattr(r, "step", 0) not in range(300, 310)], run.samples)
    for seen, why in (
        (found(Scene(service=early, ends=True).build()), "the service was failing before the injection"),
        (found(Scene(service=always).build()), "targets were broken in baseline already"),
        (found(cut), "the run ended early"),
        (found(Run(run.plan, run.events, starved, run.samples)), "the load generator was saturated"),
        (found(lost), "not all requests were recorded"),
    ):
        assert {(cell.outcome, cell.why) for cell in seen.values()} == {("unknown", why)}
    assert {cell.outcome for cell in found(run).values()} == {"held"}


def test_an_undecided_target_of_all_leaves_the_names_decided() -> None:
    """0.7 % of errors under a limit of 1 %: inconclusive, and every name is well within 5 %."""

    def service(at: float, draw: random.Random) -> Reply:
        return Reply(5.0, "status") if draw.random() < 0.007 else healthy(at, draw)

    run = Scene(service=service).build()
    assert run.judge().verdict == "inconclusive"
    assert {cell.outcome for cell in found(run).values()} == {"held"}


def test_a_control_run_has_cells_and_a_run_without_a_fault_phase_none() -> None:
    run = Scene(faults=()).build()
    assert {cell.outcome for cell in found(run).values()} == {"held"}
    assert found(run.cut(10.0, stopped("interrupt", 10.0))) == {}


def test_a_name_that_is_not_asked_for_any_more_is_unknown() -> None:
    def service(at: float, draw: random.Random) -> Reply:
        return Reply(30.0, None, RARE) if at < 20 and draw.random() < 0.05 else healthy(at, draw)

    cell = of(service)[RARE]
    assert (cell.outcome, cell.n, cell.why) == ("unknown", 0, "it was not asked for while the fault was on")


def test_bursts_in_baseline_make_a_name_hard_to_hold() -> None:
    """A burst tells as much as one failure: with the dispersion of baseline 120 requests are worth fewer."""

    def service(at: float, draw: random.Random) -> Reply:
        if draw.random() >= 0.03:
            return healthy(at, draw)
        return Reply(5.0, "status" if at < 20 and int(at) % 8 == 0 else None, RARE)

    calm, bursty = of(rare(0.03, None))[RARE], of(service)[RARE]
    assert (calm.outcome, bursty.outcome, bursty.bad) == ("held", "unknown", 0)


def test_from_a_run_directory(tmp_path: Path) -> None:
    Scene(service=DEAD).build().write(tmp_path / "run")
    assert {cell.request: cell.outcome for cell in cells_of(tmp_path / "run")}[RARE] == "broken"
    (tmp_path / "run" / "windows.jsonl").write_text("{}\n{}\n")
    with pytest.raises(UsageError):
        cells_of(tmp_path / "run")


def test_a_plan_of_before_declares_nothing_independent() -> None:
    former = msgspec.to_builtins(Scene().plan())
    del former["independent_of"]
    assert msgspec.convert(former, Plan).independent_of == {}
