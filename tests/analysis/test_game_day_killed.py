"""The record of a game day whose run was killed in a drill: what its history tells, and who healed it."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.gameday.files import read_record
from harness.model.records import events as ev
from harness.model.records.many_runs.gameday import Act, DrillRecord, GameDayRecord
from harness.report.gameday import sentences as say
from harness.report.gameday.evidence import Evidence
from harness.report.gameday.html import render as page
from harness.report.gameday.markdown import render as markdown
from tests.analysis.gamedays import act, carried_out, day_plan, drill_plan, folder
from tests.analysis.histories import BASELINE, INJECTED, Run, Scene, make, stopped

ZERO = "2026-01-01T00:00:00.000Z"
HEALING = {"entry": "healing", "why": "the run died"}
VERIFIED = {"entry": "outcome", "id": "drill-01/redis-down", "state": "verified"}
FAILED = {**VERIFIED, "state": "unverified", "left": "the proxy is still disabled", "mend": "curl it"}
BEGUN = carried_out(1, 25.0)[:-1]


@cache
def recorded() -> Run:
    return Scene().build()


def killed(
    at: Path,
    *lines: dict[str, Any],
    cut: float = INJECTED + 3.0,
    more: tuple[ev.Event, ...] = (),
    acts: list[Act] = BEGUN,
) -> GameDayRecord:
    """lines: of the day's keeper.jsonl."""
    day = folder(at, acts, plan=day_plan(drill_plan(1), drill_plan(2, "db"), zero=ZERO))
    recorded().cut(cut, *more).write(day / "drill-01")
    text = "".join(json.dumps({"at": "2026-01-01T00:01:07.250Z", **line}) + "\n" for line in lines)
    (day / "keeper.jsonl").write_text(text)
    return read_record(day)


def first(day: GameDayRecord) -> DrillRecord:
    return day.drills[0]


def test_what_the_keeper_undid_is_told_and_nothing_is_confirmed(tmp_path: Path) -> None:
    day = killed(tmp_path, HEALING, VERIFIED)
    drill = first(day)
    assert (drill.status, drill.why) == ("cut_off", "the run was killed, or lost, while it was on")
    assert (drill.answer, drill.verdict, drill.proven, drill.undone, drill.ended) == (None, None, True, True, None)
    assert drill.reasons == (
        "The record breaks off in the fault phase.",
        "The keeper undid what it had changed and verified it at 2026-01-01T00:01:07.250Z.",
    )
    last = day.timeline[-1]
    assert (last.at, last.who, last.drill, last.said) == (67.25, "keeper", 1, "undoes what drill 1 had changed")
    assert say.headline(day) == "2 drills: confirmed 0, refuted 0, not decided 0, cut off 1, not run 1."
    assert say.found(drill) == "The run was killed, or lost, while it was on. There is no result."
    cautions = " ".join(say.cautions(day))
    assert "not closed in order" in cautions and "No end on record: drill 1." in cautions
    assert "Undo not verified" not in cautions and "Fault not proven" not in cautions
    for text in (markdown(day, Evidence()), page(day, Evidence())):
        assert "The keeper undid what it had changed" in text and "cut off" in text and "undoes what drill 1" in text


def test_heal_by_hand_is_told_as_such(tmp_path: Path) -> None:
    day = killed(tmp_path, {**HEALING, "why": "harness heal"}, VERIFIED)
    assert first(day).reasons[1].startswith('"harness heal" undid') and day.timeline[-1].who == "harness heal"


def test_what_could_not_be_undone_or_is_not_known_to_be_is_a_caution(tmp_path: Path) -> None:
    failed, unknown = killed(tmp_path / "a", HEALING, FAILED), killed(tmp_path / "b")
    for day in (failed, unknown):
        assert first(day).undone is False and "Undo not verified: drill 1." in say.cautions(day)
        assert not any("verified it at" in reason for reason in first(day).reasons)
    assert "the proxy is still disabled. To mend it: curl it" in first(failed).reasons[1]
    assert failed.timeline[-1].said == "cannot verify the undo of all that drill 1 had changed"
    assert "harness heal" in first(unknown).reasons[1]
    # Nobody has healed it: it may be going on.
    assert first(unknown).why == "the run was killed, or is going on"
    assert unknown.timeline[-1].who == "harness"


def test_a_drill_that_had_broken_nothing_yet_and_one_that_was_undone_by_then(tmp_path: Path) -> None:
    early, late = killed(tmp_path / "a", cut=BASELINE + 1), killed(tmp_path / "b", cut=INJECTED + 25)
    assert (first(early).proven, first(early).undone) == (None, None)
    assert first(early).why == "the run was killed, or is going on"
    dead = killed(tmp_path / "c", HEALING, {"entry": "closed"}, cut=BASELINE + 1)
    assert first(dead).why == "the run was killed, or lost, while it was on" and dead.timeline[-1].who == "harness"
    assert (
        first(early).reasons
        == first(dead).reasons
        == ("The record breaks off in the baseline phase.", "Nothing had been injected.")
    )
    assert first(late).undone is True
    assert first(late).reasons[1] == "What it had changed had been undone and verified by then."


@pytest.mark.parametrize("written", [True, False])
def test_an_abort_that_the_run_did_not_survive_is_one(tmp_path: Path, written: bool) -> None:
    """Its line of people.jsonl may not have come to be."""
    ordered = make(ev.Ordered, INJECTED + 2.9, order="abort", who="Ada"), stopped("by_hand", INJECTED + 2.9)
    acts = [*BEGUN, *([act(60.0, "abort", drill=1)] if written else [])]
    drill = first(killed(tmp_path, HEALING, VERIFIED, more=ordered, acts=acts))
    assert (drill.status, drill.undone) == ("aborted", True)
    assert drill.why == "aborted by Ada; the run was killed, or lost, while it was on"


def test_a_drill_that_was_over_and_not_judged(tmp_path: Path) -> None:
    drill = first(killed(tmp_path, cut=1_000.0, acts=carried_out(1, 25.0)))
    assert (drill.status, drill.why, drill.undone) == ("done", "its result is missing", True)


@pytest.mark.parametrize("damage", ["history.jsonl", "plan.json"])
def test_a_history_that_cannot_be_read_tells_nothing(tmp_path: Path, damage: str) -> None:
    killed(tmp_path, HEALING, VERIFIED)
    (tmp_path / "drill-01" / damage).write_bytes(b"{\n{\n")
    day = read_record(tmp_path)
    assert first(day).proven is None and first(day).undone is None
    assert first(day).why.startswith("its result is missing, and its record cannot be read: ")
    assert "There is no result." in say.found(first(day))


@pytest.mark.parametrize("wall", ["", "yesterday", "2026-01-01", "\x1b[31m", "1999-01-01T00:00:00Z"])
def test_a_time_that_is_none_is_no_moment(tmp_path: Path, wall: str) -> None:
    day = killed(tmp_path, HEALING, {**VERIFIED, "at": wall})
    assert len(day.timeline) == len(BEGUN) and "\x1b" not in page(day, Evidence()) + markdown(day, Evidence())
