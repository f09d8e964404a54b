"""The live view and the plain lines, on real pseudo terminals and in a real tmux."""

from __future__ import annotations

import fcntl
import io
import os
import shutil
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from rich.cells import cell_len

from harness.cli.streams import view_of
from harness.model.records.live import LiveFault, LiveNumbers, LiveState
from harness.report.terminal.lines import LineView
from harness.report.terminal.live import PHASES, SHARED_PHASES, History, LiveView, frame, sparkline

STATE = LiveState(
    experiment="20261123-160000-redis-down-target",
    scenario="target",
    stack="embedded",
    at_s=84.2,
    phase="fault",
    phase_at_s=11.8,
    phase_left_s=48.2,
    total_requests=16_402,
    total_failures=351,
    numbers=LiveNumbers(
        span_s=2,
        planned_rps=200,
        rps=186.5,
        error_rate=0.124,
        p50_ms=31,
        p95_ms=168,
        p99_ms=713,
        in_flight=42,
        users=120,
        end_s=83.9,
    ),
    limits={"p95": "<200ms", "error_rate": "<1%"},
    faults=(
        LiveFault(
            id="redis-down",
            state="proven",
            since_s=72.4,
            detail="PING through the proxy: connection refused after 0.4ms",
        ),
    ),
    message="[red]/x/[/id]\x1b[2J",
)


def at(state: LiveState, at_s: float, **changes: object) -> LiveState:
    return msgspec.structs.replace(state, at_s=at_s, **changes)


def filled() -> History:
    history = History()
    for second in range(120):
        history.add(second, STATE.numbers)
    return history


@pytest.mark.parametrize("width", [80, 100, 132, 200])
@pytest.mark.parametrize("height", [8, 12, 24, 50])
@pytest.mark.parametrize("ascii_only", [False, True])
def test_a_frame_fits_its_terminal(width: int, height: int, ascii_only: bool) -> None:
    lines = [line.plain for line in frame(STATE, filled(), width, height, ascii_only=ascii_only)]
    assert len(lines) < height
    assert all(cell_len(line) <= width for line in lines)
    assert not [c for line in lines for c in line if ord(c) < 32]
    if ascii_only:
        assert all(line.isascii() for line in lines)


def test_a_frame_says_phase_clock_load_latency_and_proof() -> None:
    text = "\n".join(line.plain for line in frame(STATE, filled(), 100, 24))
    for part in ("FAULT", "0:11", "0:48 left", "186.5 of 200 planned", "12.4% (<1%), 351 in all", "168ms (<200ms)"):
        assert part in text
    assert "42, 120 users" in text and "final, of the 2s up to 300ms ago" in text and "PROVISIONAL" not in text
    assert "redis-down  PROVEN for 11.8s  PING through the proxy" in text


@pytest.mark.parametrize("ascii_only", [False, True])
def test_provisional_numbers_say_so_and_are_lower_bounds(ascii_only: bool) -> None:
    hang = msgspec.structs.replace(
        STATE.numbers, provisional=True, open_rate=0.84, p95_ms=42.0, error_rate=0.02, end_s=83.2, oldest_s=8.2
    )
    state = msgspec.structs.replace(STATE, numbers=hang)
    for height in (24, 14):
        text = "\n".join(line.plain for line in frame(state, filled(), 120, height, ascii_only=ascii_only))
        assert "PROVISIONAL, of the 2s up to 1s ago: 84% still open; the oldest open request has waited 8.2s" in text
        least = ">=" if ascii_only else "≥"
        assert f"{least}2% (<1%)" in text and f"{least}42ms (<200ms)" in text
    stream = io.StringIO()
    LineView(stream).update(state)
    assert ">=2% failed" in stream.getvalue() and "84% still open" in stream.getvalue()


def test_recovery_says_until_when_it_may_last() -> None:
    waiting = msgspec.structs.replace(STATE, phase="recovery", phase_left_s=None, phase_most_s=470.0)
    assert "7:50 at most" in "\n".join(line.plain for line in frame(waiting, filled(), 100, 24))


def test_what_is_not_known_is_not_drawn_as_zero() -> None:
    unknown = msgspec.structs.replace(STATE, numbers=LiveNumbers(span_s=2), phase_left_s=None)
    text = "\n".join(line.plain for line in frame(unknown, History(), 100, 24))
    assert "p95        n/a" in text
    assert "until done" in text


def test_history_leaves_gaps_and_forgets() -> None:
    history = History()
    history.add(0, LiveNumbers(span_s=2, p95_ms=10))
    history.add(3, LiveNumbers(span_s=2, p95_ms=20))
    assert history.last("p95_ms", 10) == [10, None, None, 20]
    assert sparkline(history.last("p95_ms", 10)) == "▅  █"
    history.add(300, LiveNumbers(span_s=2, p95_ms=5))
    assert history.last("p95_ms", 60) == [5]


def test_every_phase_of_the_model_is_on_the_clock() -> None:
    from typing import get_args

    from harness.model.records.targets import PhaseName

    assert {*get_args(PhaseName)} == {*PHASES, *SHARED_PHASES}


class Broken(io.StringIO):
    """A terminal that has gone away. encoding: StringIO has none, a terminal has."""

    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        raise OSError(5, "Input/output error")


def test_a_terminal_that_has_gone_away_stops_nothing() -> None:
    for view in (LiveView(Broken()), LineView(Broken())):
        view.start()
        view.update(STATE)
        view.update(at(STATE, 200.0, phase="after"))
        view.stop()
    closed = io.StringIO()
    closed.close()
    for view in (LiveView(closed), LineView(closed)):
        view.start()
        view.update(STATE)
        view.stop()


def test_a_hung_up_terminal_stops_nothing() -> None:
    leader, follower = os.openpty()
    with os.fdopen(follower, "w") as stream:
        view = LiveView(stream)
        view.start()
        view.update(STATE)
        os.close(leader)
        for second in range(85, 95):
            view.update(at(STATE, second, phase=PHASES[second % 7]))
        view.say("still here")
        view.stop()


def test_without_a_terminal_there_is_a_line_a_phase_and_every_ten_seconds() -> None:
    stream = io.StringIO()
    view = LineView(stream)
    for tenth in range(0, 600):
        view.update(at(STATE, tenth / 10, phase="baseline" if tenth < 300 else "fault", faults=()))
    rows = stream.getvalue().splitlines()
    assert len(rows) == 6
    assert [row[:20].rstrip() for row in rows[::3]] == ["[  0:00] > baseline", "[  0:30] > fault"]
    assert "186.5/200 rps  12.4% failed  p95 168ms" in rows[0]
    assert "\x1b" not in stream.getvalue()


def test_lines_of_the_run_itself_are_shown_by_either_view() -> None:
    for view in (LineView(stream := io.StringIO()), LiveView(stream)):
        view.say("before \x1b[2J")
        view.start()
        view.say("first\nsecond")
        view.stop()
        view.say("after")
    rows = stream.getvalue().splitlines()
    assert [row for row in rows if row.strip()] == ["before \\x1b[2J", "first", "second", "after"] * 2


def test_a_change_of_a_fault_is_a_line_of_its_own() -> None:
    stream = io.StringIO()
    view = LineView(stream)
    view.update(STATE)
    view.update(at(STATE, 84.3, faults=(msgspec.structs.replace(STATE.faults[0], state="undoing"),)))
    assert "redis-down undoing" in stream.getvalue().splitlines()[1]


def test_the_view_fits_where_stderr_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    usual = {"quiet": False, "no_live": False}
    leader, follower = os.openpty()
    with os.fdopen(leader), os.fdopen(follower, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        assert view_of(usual) == "live"
        assert view_of({**usual, "no_live": True}) == "lines"
        assert view_of({**usual, "quiet": True}) == "none"
        monkeypatch.setenv("CI", "true")
        assert view_of(usual) == "lines"
        monkeypatch.delenv("CI")
        monkeypatch.setenv("TERM", "dumb")
        assert view_of(usual) == "lines"
        monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert view_of(usual) == "lines"


def drawn(env: dict[str, str], columns: int) -> str:
    """What a LiveView writes to a pseudo terminal of that width."""
    leader, follower = os.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    script = (
        "import sys, msgspec; from harness.report.terminal.live import LiveView;"
        "from harness.model.records.live import LiveState;"
        "state = msgspec.json.decode(sys.argv[1], type=LiveState);"
        "view = LiveView(sys.stderr); view.start(); view.update(state); view.stop()"
    )
    clean = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS", "LINES")}
    subprocess.run(
        [sys.executable, "-c", script, msgspec.json.encode(STATE).decode()],
        stderr=follower,
        env={**clean, "TERM": "xterm-256color", **env},
        check=True,
        timeout=60,
    )
    os.close(follower)
    parts = []
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:
            break
        if not part:
            break
        parts.append(part)
    os.close(leader)
    return b"".join(parts).decode()


def test_no_color_is_respected_on_a_terminal() -> None:
    assert "\x1b[31m" in drawn({}, 80) or "\x1b[1;31m" in drawn({}, 80)
    plain = drawn({"NO_COLOR": "1"}, 80)
    assert "PROVEN" in plain
    assert not [colour for colour in range(30, 38) if f"\x1b[{colour}m" in plain or f";{colour}m" in plain]


@pytest.fixture
def tmux(tmp_path: Path) -> Iterator[list[str]]:
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed")
    command = ["tmux", "-S", str(tmp_path / "tmux"), "-f", "/dev/null"]
    yield command
    subprocess.run([*command, "kill-server"], capture_output=True, check=False, timeout=30)


def test_in_tmux_one_frame_is_on_the_screen_also_after_a_resize(tmux: list[str], tmp_path: Path) -> None:
    script = tmp_path / "view.py"
    script.write_text(
        "import sys, time, msgspec\n"
        "from harness.report.terminal.live import LiveView\nfrom harness.model.records.live import LiveState\n"
        f"state = msgspec.json.decode({msgspec.json.encode(STATE)!r}, type=LiveState)\n"
        "view = LiveView(sys.stderr); view.start()\n"
        "for i in range(600):\n"
        "    view.update(msgspec.structs.replace(state, at_s=84.2 + i / 10)); time.sleep(0.1)\n"
        "view.stop()\n"
    )
    env = {**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
    start = [*tmux, "-u", "new-session", "-d", "-s", "v", "-x", "80", "-y", "24", f"{sys.executable} {script}"]
    subprocess.run(start, env=env, check=True, timeout=30)

    def screen_when(width: int) -> list[str]:
        """The screen once a frame of that width is on it; at most 30 s."""
        rows: list[str] = []
        for _ in range(300):
            done = subprocess.run(
                [*tmux, "capture-pane", "-p", "-t", "v"],
                env=env,
                capture_output=True,
                text=True,
                check=True,
                timeout=30,
            )
            rows = done.stdout.splitlines()
            bar = next((row for row in rows if row.endswith("left")), "")
            if cell_len(bar) == width and any("PROVEN" in row for row in rows):
                return rows
            time.sleep(0.1)
        raise AssertionError(f"no frame {width} columns wide; the screen is: {rows}")

    for width, height in ((80, 24), (120, 40), (90, 16), (200, 50)):
        subprocess.run(
            [*tmux, "resize-window", "-t", "v", "-x", str(width), "-y", str(height)], env=env, check=True, timeout=30
        )
        rows = screen_when(width)
        assert sum("PROVEN" in row for row in rows) == 1, rows
        assert sum("RPS" in row for row in rows) == 1, rows


def test_an_experiment_of_a_suite_says_which_it_is_and_a_single_run_has_no_phase_of_it() -> None:
    def shown(state: LiveState) -> str:
        return "\n".join(line.plain for line in frame(state, History(), 120, 40))

    alone = shown(STATE)
    assert "warmup" in alone and "tail" in alone and "settle" not in alone
    shared = shown(msgspec.structs.replace(STATE, part="experiment 3 of 27: redis-down; about 21m left"))
    assert "experiment 3 of 27: redis-down; about 21m left" in shared
    assert "settle" in shared and "warmup" not in shared and "tail" not in shared
