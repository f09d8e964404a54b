"""Game days among the runs of a folder: listed, their drills in the lines, their raw records dropped with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from harness.analysis.gameday.files import GAMEDAY_PLAN, write_record
from harness.analysis.gameday.record import record_of
from harness.history.prune import prune
from harness.history.reading import Folder, read_folder
from harness.history.terminal import _outcome
from harness.model.records.many_runs.gameday import Answer
from tests.analysis.gamedays import act, day_plan, drill_plan
from tests.history.folders import NOW, add_raw, ago, run


def game_day(folder: Path, name: str, *answers: Answer | None, raw: bool = False) -> Path:
    """None: a drill that was skipped."""
    made = folder / name
    made.mkdir(parents=True)
    drills = tuple(drill_plan(number) for number in range(1, len(answers) + 1))
    record = record_of(day_plan(*drills, zero=ago(days=3)), [act(1.0, "note", text="x")], {})
    shown = []
    for drill, answer in zip(record.drills, answers, strict=True):
        more: dict[str, Any] = {"status": "skipped"}
        if answer is not None:
            number = drill.plan.number
            more = {"status": "done", "answer": answer, "directory": f"drill-{number:02d}", "harm": 10 * number}
            run(made, f"drill-{number:02d}", ago(days=3), raw=raw)
        shown.append(msgspec.structs.replace(drill, **more))
    write_record(made, msgspec.structs.replace(record, drills=tuple(shown)))
    if raw:
        add_raw(made)
    return made


def read(folder: Path, **more: bool) -> Folder:
    return read_folder(folder, NOW.timestamp(), **more)


def test_a_game_day_is_listed_with_the_answers_of_its_drills(tmp_path: Path) -> None:
    game_day(tmp_path, "a-gameday", "confirmed", "refuted", "not decided", None)
    game_day(tmp_path, "b-gameday", "confirmed", "confirmed")
    game_day(tmp_path, "c-gameday", "confirmed", None)
    folder = read(tmp_path)
    entries = {one.entry.directory: one.entry for one in folder.found}
    assert (folder.foreign, folder.unreadable) == (0, ()) and {one.kind for one in entries.values()} == {"gameday"}
    assert {name: one.verdict for name, one in entries.items()} == {
        "a-gameday": "fail",
        "b-gameday": "pass",
        "c-gameday": "inconclusive",
    }
    assert _outcome(entries["a-gameday"]) == "confirmed 1, refuted 1, not decided 2 of 4"


def test_its_drills_are_in_the_lines_of_runs(tmp_path: Path) -> None:
    made = game_day(tmp_path, "a-gameday", "confirmed", "refuted")
    run(made, "something else", ago(days=3))
    found = read(tmp_path, inside=True).found
    assert {one.entry.directory: one.harm for one in found if one.entry.kind == "run"} == {
        "a-gameday/drill-01": 10,
        "a-gameday/drill-02": 20,
    }


def test_one_without_a_record_is_named(tmp_path: Path) -> None:
    made = game_day(tmp_path, "a-gameday", "confirmed")
    (made / "gameday.json").unlink()
    (made / GAMEDAY_PLAN).write_text("{}")
    (unread,) = read(tmp_path).unreadable
    assert unread.directory == "a-gameday" and "without a record" in unread.why
    (made / "gameday.json").write_text("{")
    assert "damaged" in read(tmp_path).unreadable[0].why


def test_its_raw_records_are_dropped_with_those_of_its_drills(tmp_path: Path) -> None:
    made = game_day(tmp_path, "a-gameday", "confirmed", "refuted", raw=True)
    dropped = prune(read(tmp_path).found, NOW.timestamp(), dry_run=False)
    assert dropped.runs == 3 and dropped.skipped == ()
    assert not list(made.rglob("windows.jsonl")) and (made / "drill-01" / "result.json").exists()
    assert read(tmp_path).found[0].entry.pruned
