"""history.jsonl: the clock of a run and the clock on the wall."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from harness.conductor.recording.history import History
from harness.model.clock import monotonic
from harness.model.records import events as ev


def test_the_start_is_the_wall_time_of_t0_and_not_of_the_moment_it_was_chosen(tmp_path: Path) -> None:
    """t0 is chosen ahead, so that every load process knows it in time."""
    history = History(tmp_path / "history.jsonl", "test", lambda _: None)
    before = datetime.now(UTC)
    t0 = monotonic() + 3600.0
    history.start(t0)
    after = datetime.now(UTC)
    (started,) = history.events
    assert isinstance(started, ev.Started) and started.at == 0.0 and started.monotonic == t0
    told = datetime.fromisoformat(started.wall)
    slack = timedelta(milliseconds=2)
    assert before + timedelta(hours=1) - slack <= told <= after + timedelta(hours=1) + slack
    history.add(ev.Note, text="now")
    assert datetime.fromisoformat(history.events[-1].wall) < told, "other events keep the time they happened"
