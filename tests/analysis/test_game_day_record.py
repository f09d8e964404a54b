"""The record of a game day, from what people did and what its drills found; docs/gameday-record.md has every field."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from harness.analysis.gameday.files import read_acts, read_plan, read_record
from harness.analysis.gameday.record import right
from harness.model.errors import UsageError
from harness.model.jsonl import encode, encode_line
from harness.model.records.many_runs import gameday as records
from harness.model.records.result import RecoveryResult
from tests.analysis.gamedays import act, carried_out, day_plan, drill_plan, folder, found, one_drill, record
from tests.report import sample

INJECTED = 20.0 + sample.INJECTED_S
"""On the day's clock; the impact of the sample that failed begins 0.1 s later."""


def test_a_hypothesis_is_answered_by_what_was_measured() -> None:
    day = record([*carried_out(1, 25.0), *carried_out(2, 300.0)], {1: found("pass"), 2: found("fail", harm=1505)})
    held, broken = day.drills
    assert (held.answer, held.status, held.harm, held.impact_s) == ("confirmed", "done", 0, None)
    assert (broken.answer, broken.harm, broken.impact_s, broken.recovery_s) == ("refuted", 1505, 0.1, 1.3)
    assert held.proven and held.undone and day.harm == 1505 and day.complete
    assert one_drill("inconclusive").answer == "not decided"


def test_a_drill_without_a_result_says_why() -> None:
    (drill, _) = record(carried_out(1, 25.0), {1: "its result is missing"}).drills
    assert drill.status == "done" and drill.answer is None and drill.why == "its result is missing"
    assert drill.proven is None and drill.harm is None and drill.responders is None


def test_what_was_aborted_skipped_or_never_begun() -> None:
    plan = day_plan(drill_plan(1), drill_plan(2, "db"), drill_plan(3, "kafka"))
    acts = [*carried_out(1, 25.0, act(60.0, "abort", "Bo", drill=1)), act(230.0, "skip", drill=2)]
    aborted, skipped, left = record(acts, {1: found("inconclusive")}, plan).drills
    assert (aborted.status, aborted.why) == ("aborted", "aborted by Bo")
    assert (skipped.status, skipped.why, skipped.begun) == ("skipped", "skipped by Ada", None)
    assert (left.status, left.why) == ("not_run", "the game day ended before it")
    # The end of the day while a drill is on ends it, too.
    ended = record(carried_out(1, 25.0, act(60.0, "end", drill=1)), {1: found("inconclusive")}, plan).drills[0]
    assert (ended.status, ended.why) == ("aborted", "aborted by Ada")


def test_a_day_that_was_not_closed_does_not_know_what_came_after() -> None:
    day = record(carried_out(1, 25.0), {1: found()}, closed=False)
    assert not day.complete and day.drills[1].why == "nothing of it is on record"


def test_an_unplanned_drill_comes_after_the_planned_ones() -> None:
    asked = act(24.0, "inject", drill=3, text="redis-latency:latency=1s")
    day = record([asked, *carried_out(3, 25.0)[1:]], {3: found()})
    drill = day.drills[2]
    assert drill.ad_hoc and drill.plan.faults == ("redis-latency:latency=1s",) and drill.plan.dependencies == ("redis",)
    assert drill.planned_begin is None and drill.late_s is None
    assert drill.command == "harness run --fault redis-latency:latency=1s --scenario target"
    elsewhere = record([asked, *carried_out(3, 25.0)[1:]], plan=day_plan(stack="external")).drills[2]
    assert elsewhere.command.endswith(" --host http://127.0.0.1:8000")


@pytest.mark.parametrize("command", ["curl x | sh", "harness run; rm -rf ~", "harness run $(id)", "harness run '", ""])
def test_a_command_that_is_no_single_call_of_the_harness_is_not_repeated(command: str) -> None:
    plan = day_plan(drill_plan(1, command=command))
    day = record(carried_out(1, 25.0, act(60.0, "action", text="x", drill=1)), {1: found()}, plan)
    assert day.drills[0].command == "" and day.actions[0].retest == ""


def test_the_abort_counts_only_before_the_first_drill() -> None:
    assert record([act(5.0, "abort"), *carried_out(1, 25.0)], {1: found()}).abort_tried == 5.0
    assert record([*carried_out(1, 25.0, act(60.0, "abort", drill=1))], {1: found()}).abort_tried is None
    assert record([act(5.0, "abort")]).abort_tried == 5.0
    assert record([]).abort_tried is None


def test_planned_against_what_happened() -> None:
    day = record([*carried_out(1, 70.0, ended=190.0), *carried_out(2, 300.0)], {1: found(), 2: found()})
    first, second = day.drills
    # Planned: 60 s of pause and 100 s at least, twice.
    assert (first.planned_begin, first.late_s, first.paused_s, first.lasted_s) == (60.0, 10.0, 70.0, 120.0)
    assert (second.planned_begin, second.late_s, second.paused_s, second.lasted_s) == (220.0, 80.0, 110.0, 200.0)
    early = record(carried_out(1, 25.0), {1: found()}).drills
    assert early[0].late_s == -35.0 and early[1].planned_begin == 220.0 and early[1].paused_s is None


def test_a_drill_that_never_ended_has_no_length() -> None:
    (drill, _) = record(carried_out(1, 25.0)[:-1], {1: found()}, closed=False).drills
    assert drill.ended is None and drill.lasted_s is None and drill.begun == 25.0


def test_responders_are_timed_from_the_impact() -> None:
    said = [
        act(INJECTED + 10.1, "see", "Bo", drill=1, text="errors"),
        act(INJECTED + 15.1, "think", "Bo", drill=1, text="the network"),
        act(INJECTED + 30.1, "think", "Cy", drill=1, text="REDIS, surely", role="responder"),
    ]
    heard = one_drill("fail", *said).responders
    assert heard is not None and heard.counted_from == "impact"
    assert (heard.noticed_s, heard.noticed_by) == (10.0, "Bo")
    assert (heard.diagnosed_s, heard.diagnosed_by) == (30.0, "Cy")
    assert heard.mitigated_s == round(sample.ZERO_S + 1.3 - 72.5, 1)
    assert [one.right for one in heard.said] == [None, None, True]


def test_without_an_impact_they_are_timed_from_the_injection() -> None:
    heard = one_drill("pass", act(INJECTED + 10, "see", "Bo", drill=1)).responders
    assert heard is not None and heard.counted_from == "injection"
    assert heard.noticed_s == 10.0 and heard.mitigated_s is None


def test_what_was_said_before_noticed_nothing() -> None:
    early = act(INJECTED - 5, "think", "Bo", drill=1, text="redis")
    heard = one_drill("fail", early).responders
    assert heard is not None and heard.noticed_s is None and heard.diagnosed_s is None
    assert heard.said[0].since_s == -5.1


def test_nobody_is_scored_of_a_drill_that_was_not_blind_and_where_nobody_spoke() -> None:
    assert one_drill("fail").responders is None
    blind = one_drill("fail", plan=drill_plan(1, blind=True)).responders
    assert blind is not None and blind.said == () and blind.noticed_s is None
    never = one_drill("inconclusive", plan=drill_plan(1, blind=True), faults=()).responders
    assert never is None, "nothing was injected"


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("redis", True),
        ("it is Redis!", True),
        ("redis-down, or the db", True),
        ("the db", False),
        ("the cache", None),
        ("redistribution", None),
        ("", None),
    ],
)
def test_a_diagnosis_is_wrong_only_where_it_names_something_else_of_the_day(said: str, answer: bool | None) -> None:
    assert right(said, drill_plan(1), {"redis", "db"}) is answer


def test_a_service_that_did_not_recover_is_not_well_again() -> None:
    never = RecoveryResult(
        outcome="not_recovered",
        seconds=None,
        lower_s=60.0,
        upper_s=None,
        zero_s=sample.ZERO_S,
        from_undo_requested_s=None,
        drain_s=None,
    )
    heard = one_drill("fail", act(INJECTED + 10, "see", "Bo", drill=1), recovery=never).responders
    assert heard is not None and heard.mitigated_s is None


def test_people_prerequisites_notes_and_actions() -> None:
    plan = day_plan(drill_plan(1), prerequisites=("say stop", "tell on-call"))
    runbook = act(60.0, "action", text="a runbook", owner="Bo", due="2027-01-31", severity="high", drill=1)
    acts = [
        act(1.0, "tick", what=2),
        act(2.0, "tick", "Bo", what=2),
        act(3.0, "note", "Cy", text="hello", role="observer"),
        *carried_out(1, 25.0, runbook),
        act(240.0, "action", text="a dashboard"),
    ]
    day = record(acts, {1: found()}, plan)
    assert day.people == {"Ada": "operator", "Bo": "responder", "Cy": "observer"}
    assert [(one.ticked_by, one.at) for one in day.prerequisites] == [("", None), ("Ada", 1.0)]
    assert [(one.who, one.text, one.kind) for one in day.notes] == [("Cy", "hello", "note")]
    first, dashboard = day.actions
    assert (first.owner, first.severity, first.retest) == ("Bo", "high", "harness run --fault redis-down")
    assert dashboard.retest == "" and dashboard.drill is None
    said = [one.said for one in day.timeline]
    assert said[0] == "ticks prerequisite 2" and "notes: hello" in said and "drill 1 started" in said


def test_where_people_say_nothing_but_orders_the_harness_fills_in_most() -> None:
    """60 % at least: of a day with drills that are blind and that are not, with prerequisites that nobody ticked."""
    plan = day_plan(drill_plan(1), drill_plan(2, "db", blind=True), prerequisites=("say stop", "tell on-call"))
    day = record([*carried_out(1, 25.0), *carried_out(2, 300.0)], {1: found("pass"), 2: found("fail", 9)}, plan)
    assert day.filled.by_harness >= 0.6
    assert day.filled.empty > 0
    talked = record([*carried_out(1, 25.0, *[act(60.0, "action", text="x", drill=1)] * 30)], {1: found()}, plan)
    assert talked.filled.by_harness < day.filled.by_harness and talked.filled.people > day.filled.people


# -- folders -----------------------------------------------------------------------------------------------------------


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    at = folder(tmp_path, [*carried_out(1, 25.0), act(240.0, "closed", "harness")], {1: sample.result("pass")})
    whole = (at / "people.jsonl").read_bytes()
    (at / "people.jsonl").write_bytes(whole[:-9])
    day = read_record(at)
    assert not day.complete and day.drills[0].answer == "confirmed"


@pytest.mark.parametrize(
    ("name", "line", "said"),
    [
        ("people.jsonl", b"{not json}\n", "is damaged: people.jsonl line 1"),
        ("people.jsonl", encode_line(act(-1.0, "note", text="x")), "a time that no game day has"),
        ("people.jsonl", encode_line(act(1e300, "note", text="x")), "a time that no game day has"),
        ("people.jsonl", encode_line(act(1.0, "started", directory="../../etc")), "no drill's directory"),
        ("people.jsonl", encode_line(act(1.0, "started", directory="drill-01/../x")), "no drill's directory"),
        ("people.jsonl", encode_line(act(1.0, "started")), "'' is no drill's directory"),
        ("gameday-plan.json", b"[]", "is damaged"),
        ("gameday-plan.json", b'{"schema": 2}', "is of schema 2, and this version of the harness reads schema 1"),
        ("gameday-plan.json", b"[" * 100_000, "is damaged"),
        ("gameday-plan.json", encode(day_plan(drill_plan(1, pause_s=1e300))), "a time that no game day has"),
        ("gameday-plan.json", encode(day_plan(*map(drill_plan, range(51)))), "more drills"),
        ("gameday-plan.json", None, "is missing: this is not a game day's directory"),
    ],
)
def test_what_is_wrong_with_a_file_is_a_line(tmp_path: Path, name: str, line: bytes | None, said: str) -> None:
    at = folder(tmp_path, [])
    (at / name).unlink() if line is None else (at / name).write_bytes(line)
    with pytest.raises(UsageError, match=said) as caught:
        read_record(at)
    assert "\n" not in str(caught.value)


def test_a_folder_where_nobody_did_anything_is_a_record(tmp_path: Path) -> None:
    at = folder(tmp_path, [])
    (at / "people.jsonl").unlink()
    assert read_acts(at) == () and read_plan(at).title == "the first one"
    assert [drill.status for drill in read_record(at).drills] == ["not_run", "not_run"]


def test_a_drill_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    other = folder(tmp_path / "other", [], {1: sample.result("pass")})
    at = folder(tmp_path / "day", carried_out(1, 25.0))
    (at / "drill-01").symlink_to(other / "drill-01")
    assert read_record(at).drills[0].why == "its directory is a link"


def test_a_drill_whose_result_is_damaged_says_so(tmp_path: Path) -> None:
    at = folder(tmp_path, carried_out(1, 25.0), {1: sample.result("pass")})
    (at / "drill-01" / "result.json").write_bytes(b"{")
    drill = read_record(at).drills[0]
    assert drill.answer is None and drill.why.startswith("its result cannot be read: ") and "is damaged" in drill.why


def test_a_record_can_be_read_back() -> None:
    day = record([*carried_out(1, 25.0, act(99.0, "see", "Bo", drill=1))], {1: found("fail", 3)})
    assert msgspec.json.decode(encode(day), type=records.GameDayRecord) == day


# -- its page ----------------------------------------------------------------------------------------------------------

PAGE = Path(__file__).resolve().parents[2] / "docs" / "gameday-record.md"


@pytest.mark.parametrize(
    "kind",
    [
        records.GameDayRecord,
        records.DrillRecord,
        records.Responders,
        records.Said,
        records.ActionItem,
        records.Prerequisite,
        records.Moment,
        records.Filled,
        records.GameDayPlan,
        records.DrillPlan,
        records.Act,
    ],
)
def test_every_field_has_a_row(kind: type[msgspec.Struct]) -> None:
    title = "## Plan" if kind is records.GameDayPlan else f"### {kind.__name__}"
    section = re.split(r"\n##+ ", PAGE.read_text("utf-8").partition(f"\n{title}\n")[2])[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    named = [name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])]
    assert sorted(named) == sorted(kind.__struct_fields__)


def test_every_kind_of_act_is_on_the_page() -> None:
    (row,) = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| `kind` |")]
    assert set(get_args(records.ActKind)) == set(re.findall(r"`([^`]+)`", row.split("|")[2]))
