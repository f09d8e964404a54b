"""A run that was killed is read with what its keeper, or `harness heal`, did afterwards."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from histories import INJECTED, ZERO, Run, Scene, failing

from harness.analysis.run_directory import analyze, load_run, write_result
from harness.model.records import events as ev
from harness.model.records.result import Result
from harness.report.files import FORMATS, render

SCENE = Scene(service=failing(INJECTED, ZERO + 1, 0.5, "refused"), recovery_s=1.1)


@cache
def recorded() -> Run:
    return SCENE.build()


KILLED_AT = INJECTED + 3.0


def killed(folder: Path, *lines: dict[str, Any]) -> Path:
    """A run cut off while its fault was on, with these lines in keeper.jsonl, `at` in seconds since t0."""
    recorded().cut(KILLED_AT).write(folder)
    zero = datetime.fromisoformat(next(e.wall for e in recorded().events if isinstance(e, ev.Started)))
    text = ""
    for line in lines:
        wall = (zero + timedelta(seconds=line["at"])).isoformat(timespec="milliseconds")
        text += json.dumps({**line, "at": wall.replace("+00:00", "Z"), "crc": "00000000"}) + "\n"
    (folder / "keeper.jsonl").write_text(text)
    return folder


FAULT = SCENE.plan().faults[0].id
HEALING = {"entry": "healing", "at": KILLED_AT, "why": "the run died"}
VERIFIED = {"entry": "outcome", "at": KILLED_AT + 0.2, "id": FAULT, "state": "verified"}


def test_what_the_keeper_undid_is_not_said_to_be_left(tmp_path: Path) -> None:
    assert analyze(killed(tmp_path / "a")).exit_code == 5
    folder = killed(tmp_path / "b", HEALING, VERIFIED, {"entry": "closed", "at": KILLED_AT + 1})
    result = analyze(folder)
    assert (result.verdict, result.exit_code) == ("inconclusive", 3)
    assert "killed" in result.reasons[0] and f"{INJECTED:.0f}s after" in result.reasons[0]
    assert result.reasons[1].startswith("The keeper undid what the run had changed and verified it at 20")
    assert result.faults[0].undo_verified
    assert not any("harness heal" in reason for reason in result.reasons)


def test_an_experiment_of_a_session_is_healed_by_the_session_s_keeper(tmp_path: Path) -> None:
    """Where faults have its name before their own: those of the others are no matter of its."""
    folder = killed(tmp_path / "drill-01")
    session = tmp_path / "keeper.jsonl"
    (folder / "keeper.jsonl").rename(session)
    own = [HEALING, {**VERIFIED, "id": f"drill-01/{FAULT}"}]
    for lines, code in ((own, 3), ([HEALING, {**VERIFIED, "id": f"drill-02/{FAULT}"}], 5), ([HEALING, VERIFIED], 5)):
        session.write_text("".join(json.dumps({**line, "at": "2026-01-01T00:01:00.000Z"}) + "\n" for line in lines))
        result = analyze(folder)
        assert result.exit_code == code and result.faults[0].undo_verified is (True if code == 3 else None), lines


def test_heal_by_hand_is_told_as_such(tmp_path: Path) -> None:
    late = {**VERIFIED, "at": 4000.0, "state": "moot"}
    result = analyze(killed(tmp_path, {**HEALING, "why": "harness heal"}, late))
    assert any(reason.startswith('"harness heal" undid') for reason in result.reasons)
    assert "killed" in result.reasons[0] and "4,000" not in result.reasons[0]


def test_what_the_keeper_could_not_verify_is_left(tmp_path: Path) -> None:
    failed = {**VERIFIED, "state": "unverified", "left": "the proxy is still disabled", "mend": "curl it"}
    result = analyze(killed(tmp_path, HEALING, failed))
    assert result.exit_code == 5
    assert "the proxy is still disabled" in result.reasons[0] and "curl it" in result.reasons[0]
    healed = analyze(killed(tmp_path / "later", HEALING, failed, {**VERIFIED, "at": KILLED_AT + 60}))
    assert healed.exit_code == 3


def test_what_was_left_beside_the_faults_is_left_however_often_the_run_is_judged(tmp_path: Path) -> None:
    """A lock, a server or a folder: the history of a run that ended in order knows nothing of it."""
    lock = "Toxiproxy at http://127.0.0.1:8474 is still locked: harness heal --all"
    open_end: dict[str, Any] = {"entry": "closed", "at": 99.0, "clean": False, "left": [lock, f"{FAULT}: not undone"]}

    def judged(*lines: dict[str, Any]) -> Result:
        Scene().build().write(tmp_path)
        text = "".join(json.dumps({**line, "at": "2026-01-01T00:01:39.000Z"}) + "\n" for line in lines)
        (tmp_path / "keeper.jsonl").write_text(text)
        return analyze(tmp_path)

    result = judged(open_end)
    assert (result.verdict, result.exit_code, result.reasons[0]) == ("pass", 5, lock)
    assert not any("not undone" in reason for reason in result.reasons)
    assert judged(open_end, {"entry": "closed", "at": 120.0}).exit_code == 0


@pytest.mark.parametrize(
    "junk", [b"#torn\n", b"\x00\xff\n", b'{"entry": 3}\n', b"[" * 5000 + b"\n", b'{"entry":"outco']
)
def test_lines_that_cannot_be_read_say_nothing(tmp_path: Path, junk: bytes) -> None:
    folder = killed(tmp_path, HEALING, VERIFIED)
    path = folder / "keeper.jsonl"
    path.write_bytes(junk.replace(b"outco", b"outco\n") + path.read_bytes() + junk)
    assert analyze(folder).exit_code == 3
    path.write_bytes(junk)
    assert analyze(folder).exit_code == 5


def test_the_reports_of_a_killed_run_can_be_made(tmp_path: Path) -> None:
    folder = killed(tmp_path, HEALING, VERIFIED)
    write_result(folder, analyze(folder))
    for format_ in FORMATS:
        text = render(folder, format_)
        assert "The keeper undid" in text, format_


def test_an_orderly_run_is_read_from_its_history_alone(tmp_path: Path) -> None:
    folder = recorded().write(tmp_path)
    before = analyze(folder)
    (folder / "keeper.jsonl").write_text(json.dumps({**VERIFIED, "at": "2026-01-01T00:00:00Z", "crc": ""}) + "\n")
    assert analyze(folder) == before
    assert not any(isinstance(event, ev.Healed) for event in load_run(folder).history)


def test_a_run_without_faults_has_nothing_to_heal(tmp_path: Path) -> None:
    run = Run(recorded().plan, [], [])
    folder = run.write(tmp_path)
    (folder / "keeper.jsonl").write_text(json.dumps({**VERIFIED, "at": "x"}) + "\n")
    assert analyze(folder).exit_code == 4
