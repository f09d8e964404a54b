"""What a run writes while it goes on: torn lines wait, failing writes are told once and stop nothing."""

from __future__ import annotations

import resource
import signal
import threading
from pathlib import Path

import pytest

from harness.conductor.recording.history import History
from harness.conductor.recording.log import RunLog
from harness.model.clock import monotonic
from harness.model.jsonl import read_lines
from harness.model.records.events import Event, Note, PhaseStarted


def test_events_carry_seconds_since_t0_and_wall_time(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl", "x", pytest.fail)
    history.start(monotonic() - 5.0)
    history.add(PhaseStarted, phase="warmup", start_s=0.0)
    events = list(read_lines(tmp_path / "history.jsonl", Event))
    assert [type(event).__name__ for event in events] == ["Started", "PhaseStarted"]
    assert events == history.events
    assert 5.0 <= events[1].at < 60.0 and events[1].wall.endswith("Z") and events[1].experiment == "x"


def test_what_is_no_utf8_is_recorded_spelt_out(tmp_path: Path) -> None:
    """File names and foreign error messages may hold half a surrogate pair, which JSON cannot."""
    history = History(tmp_path / "history.jsonl", "x", pytest.fail)
    history.add(Note, text="no such file: a\udcff.py")
    (event,) = read_lines(tmp_path / "history.jsonl", Event)
    assert isinstance(event, Note) and event.text == "no such file: a\\udcff.py"


def test_a_history_that_cannot_be_written_is_told_once_and_keeps_going(tmp_path: Path) -> None:
    told: list[str] = []
    history = History(tmp_path / "gone" / "history.jsonl", "x", told.append)
    history.start(monotonic())
    history.add(Note, text="still here")
    assert len(told) == 1 and "history.jsonl" in told[0]
    assert len(history.events) == 2 and not history.complete


def test_a_disk_that_was_full_for_a_moment_leaves_whole_events(tmp_path: Path) -> None:
    """A file-size limit stands for the full disk: the kernel cuts a write short, then refuses, in the same way."""
    told: list[str] = []
    path = tmp_path / "history.jsonl"
    history = History(path, "x", told.append)
    history.add(Note, text="before")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, hard))
        history.add(Note, text="y" * 200)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    history.add(Note, text="after")
    assert [event.text for event in read_lines(path, Event)] == ["before", "after"]
    assert len(told) == 1 and not history.complete and len(history.events) == 3


def test_events_from_many_threads_are_whole_lines(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl", "x", pytest.fail)
    history.start(monotonic())
    threads = [
        threading.Thread(target=lambda: [history.add(Note, text="y" * 500) for _ in range(50)]) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(read_lines(tmp_path / "history.jsonl", Event))) == 401


def test_a_full_disk_does_not_stop_the_log(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").symlink_to("/dev/full")
    with RunLog(tmp_path, "none") as log:
        log.say("undoing")
        log.say("undone")
