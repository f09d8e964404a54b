"""The live view on a terminal: phase clock, load, latency with a minute of history, faults and their proof.

Drawn in place on stderr, so that everything above stays readable and a run that is killed leaves an ordinary
terminal behind. A resize or a multiplexer that reflows lines would leave old frames behind: a change of size
starts the region anew on a clean screen.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TextIO

from harness.model.records.live import FaultState, LiveFault, LiveNumbers, LiveState
from harness.report.sentences import text
from harness.report.terminal.flapping import of_now
from harness.report.terminal.lines import recovering
from harness.report.terminal.plain import styled

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

PHASES = ("warmup", "baseline", "gap", "fault", "recovery", "after", "tail")
SHARED_PHASES = ("settle", *PHASES[1:-1])
"""Of an experiment of a suite: the load was there before, and goes on."""
HISTORY_S = 60
MIN_INTERVAL_S = 0.12
LABEL = 11
VALUE = 26

BARS = " ▁▂▃▄▅▆▇█"
ASCII_BARS = " _.-=+*#@"
_STYLES: dict[FaultState, str] = {
    "planned": "dim",
    "capturing": "dim",
    "injecting": "yellow",
    "injected": "yellow",
    "proven": "bold red",
    "not proven": "bold yellow",
    "undoing": "yellow",
    "undone": "cyan",
    "verified": "green",
    "not verified": "bold red",
}


class History:
    """One value a second over the last minute; a second without a value stays a gap."""

    def __init__(self) -> None:
        self._values: dict[str, deque[tuple[int, float | None]]] = {}

    def add(self, at_s: float, numbers: LiveNumbers) -> None:
        second = int(at_s)
        for key in ("rps", "error_rate", "p50_ms", "p95_ms", "p99_ms", "in_flight"):
            values = self._values.setdefault(key, deque())
            value = getattr(numbers, key)
            if values and values[-1][0] == second:
                values.pop()
            values.append((second, None if value is None else float(value)))
            while values and values[0][0] <= second - HISTORY_S:
                values.popleft()

    def last(self, key: str, columns: int) -> list[float | None]:
        """The last `columns` seconds, oldest first, shorter at the beginning of a run."""
        values = self._values.get(key)
        if not values:
            return []
        by_second = dict(values)
        newest = values[-1][0]
        oldest = max(values[0][0], newest - columns + 1)
        return [by_second.get(second) for second in range(oldest, newest + 1)]


def sparkline(values: Sequence[float | None], bars: str = BARS) -> str:
    """Bars from zero to the largest value; a gap where nothing is known, the lowest bar for zero."""
    top = max((value for value in values if value is not None), default=0.0)
    steps = len(bars) - 2
    return "".join(
        bars[0] if value is None else bars[1 + (round(value / top * steps) if top > 0 else 0)] for value in values
    )


def frame(state: LiveState, history: History, width: int, height: int, *, ascii_only: bool = False) -> list[Text]:
    """The lines of one frame, none wider than `width`, at most height - 1 of them."""
    from rich.text import Text

    bars = ASCII_BARS if ascii_only else BARS
    n = state.numbers
    planned = f" of {text.rps(n.planned_rps)} planned" if n.planned_rps is not None else ""
    least = (">=" if ascii_only else "≥") if n.open_rate else ""
    failed = Text(least + text.percent(n.error_rate), style="bold red" if (n.error_rate or 0) >= 0.01 else "")
    failed.append(f"{_limit(state, 'error_rate')}, {state.total_failures:,} in all")
    flight = f"{n.in_flight:,}, {n.users:,} users" + (f", {n.unsent:,} unsent" if n.unsent else "")

    def latency(metric: str, value: float | None) -> Text:
        return Text((least if value is not None else "") + text.ms(value) + _limit(state, metric))

    numbers = [
        _metric("RPS", Text(text.rps(n.rps) + planned), history, "rps", "cyan", width, bars),
        _metric("Failed", failed, history, "error_rate", "red", width, bars),
        _metric("p50", latency("p50", n.p50_ms), history, "p50_ms", "green", width, bars),
        _metric("p95", latency("p95", n.p95_ms), history, "p95_ms", "yellow", width, bars),
        _metric("p99", latency("p99", n.p99_ms), history, "p99_ms", "magenta", width, bars),
        _metric("In flight", Text(flight), history, "in_flight", "blue", width, bars),
        Text(when(state), style="bold yellow" if n.provisional else "dim"),
    ]
    faults = [_fault(fault, state.at_s, ascii_only) for fault in of_now(state.faults)]
    tail = []
    if told := recovering(state):
        tail.append(Text(told, style="bold"))
    if state.message:
        tail.append(Text(text.visible(state.message, 300), style="italic"))
    blank = Text("")
    top = [_title(state, width), *_clock(state, width, ascii_only)]
    lines = [*top, blank, *numbers, blank, *faults, *tail]
    if len(lines) >= height:  # a small pane: blank lines go first, then history's lesser rows
        lines = [*top, *numbers[:2], numbers[3], *([numbers[-1]] if n.provisional else []), *faults, *tail]
    lines = lines[: max(1, height - 1)]
    for line in lines:
        line.truncate(width, overflow="ellipsis" if not ascii_only else "crop")
    return lines


def _limit(state: LiveState, metric: str) -> str:
    limit = state.limits.get(metric)
    return f" ({limit})" if limit else ""


def when(state: LiveState) -> str:
    """Which seconds the numbers are of, and what they lack."""
    n = state.numbers
    if n.end_s is None:
        return "no numbers yet" if n.in_flight == 0 else "no numbers: nothing was recorded in the last seconds"
    ago = f"of the {n.span_s:g}s up to {text.seconds(max(0.0, round(state.at_s - n.end_s, 1)))} ago"
    waiting = f"; the oldest open request has waited {text.seconds(n.oldest_s)}" if (n.oldest_s or 0) >= 1 else ""
    if not n.provisional:
        return f"final, {ago}{waiting}"
    return f"PROVISIONAL, {ago}: {text.percent(n.open_rate)} still open{waiting}"


def _title(state: LiveState, width: int) -> Text:
    from rich.text import Text

    right = f"{text.clock(state.at_s)}  {state.total_requests:,} requests"
    name = state.part or state.experiment
    left = f"{text.visible(name, 100)} ({state.scenario}, {state.stack})"
    left = text.shorten(left, max(8, width - len(right) - 2))
    line = Text(left, style="bold")
    line.append(" " * max(1, width - len(left) - len(right)))
    line.append(right, style="not bold")
    return line


def _clock(state: LiveState, width: int, ascii_only: bool) -> list[Text]:
    """Where in the phases the run is, and how far this one has come."""
    from rich.text import Text

    done, now = ("x", ">") if ascii_only else ("✓", "▶")
    steps = Text()
    phases = SHARED_PHASES if state.part else PHASES
    at = phases.index(state.phase) if state.phase in phases else -1
    for i, name in enumerate(phases):
        if i:
            steps.append("  ", style="dim")
        if i < at:
            steps.append(f"{done} {name}", style="green")
        elif i == at:
            steps.append(f"{now} {name.upper()}", style="bold reverse" if not ascii_only else "bold")
        else:
            steps.append(name, style="dim")
    if at < 0:
        steps = Text(f"{now} {text.visible(state.phase, 40).upper()}", style="bold")
    left = f" {text.clock(state.phase_left_s)} left" if state.phase_left_s is not None else " until done"
    if state.phase_left_s is None and state.phase_most_s is not None:
        left = f" {text.clock(state.phase_most_s)} at most"
    label = f"{text.clock(state.phase_at_s)}"
    room = max(4, width - len(left) - len(label) - 1)
    bar = Text(f"{label} ")
    if state.phase_left_s is None:
        bar.append(("." if ascii_only else "╌") * room, style="dim")
    else:
        length = state.phase_at_s + max(0.0, state.phase_left_s)
        filled = min(room, round(room * state.phase_at_s / length)) if length > 0 else room
        bar.append(("#" if ascii_only else "━") * filled, style="cyan")
        bar.append(("." if ascii_only else "─") * (room - filled), style="dim")
    bar.append(left)
    return [steps, bar]


def _metric(label: str, value: Text, history: History, key: str, style: str, width: int, bars: str) -> Text:
    from rich.text import Text

    line = Text(f"{label:<{LABEL}}")
    line.append_text(value)
    pad = LABEL + VALUE - line.cell_len
    line.append(" " * max(2, pad))
    room = min(HISTORY_S, width - line.cell_len)
    if room >= 8:
        line.append(sparkline(history.last(key, room), bars), style=style)
    return line


def _fault(fault: LiveFault, at_s: float, ascii_only: bool) -> Text:
    from rich.text import Text

    line = Text("* " if ascii_only else "● ", style=_STYLES[fault.state])
    line.append(text.visible(fault.id, 60), style="bold")
    line.append(f"  {fault.state.upper()}", style=_STYLES[fault.state])
    if fault.since_s is not None:
        line.append(f" for {text.seconds(max(0.0, round(at_s - fault.since_s, 1)))}")
    if fault.detail:
        line.append(f"  {text.visible(fault.detail, 200)}", style="dim")
    return line


class LiveView:
    """start(), update(state) as often as you like, stop(). No call raises for a terminal that has gone away."""

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        console: Console | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._given = console
        self._monotonic = monotonic
        self._console: Console | None = None
        self._live: Live | None = None
        self._lock = threading.RLock()
        self._lost = False
        self._size: tuple[int, int] = (0, 0)
        self._drawn_at = float("-inf")
        self._phase = ""
        self._history = History()

    def start(self) -> None:
        from rich.console import Console

        def begin() -> None:
            self._console = self._given or Console(
                file=self._stream or styled(sys.stderr), markup=False, highlight=False, emoji=False
            )
            self._begin_region()

        self._safely(begin)

    def update(self, state: LiveState) -> None:
        self._history.add(state.at_s, state.numbers)
        now = self._monotonic()
        if state.phase == self._phase and now - self._drawn_at < MIN_INTERVAL_S:
            return
        self._drawn_at, self._phase = now, state.phase
        self._safely(lambda: self._draw(state))

    def say(self, line: str) -> None:
        """A line that stays, above the view; before start and after stop a plain line on the same stream."""
        from rich.text import Text

        def write() -> None:
            for part in line.splitlines():
                shown = text.visible(part, 1000)
                if self._console is not None:
                    self._console.print(Text(shown), soft_wrap=True)
                else:
                    print(shown, file=self._stream or sys.stderr, flush=True)

        self._safely(write)

    def stop(self) -> None:
        # Also after a failed write: if the terminal is there after all, it gets its cursor back.
        live, self._live, self._lost = self._live, None, False
        if live is not None:
            self._safely(live.stop)
        self._console = None

    def _begin_region(self) -> None:
        from rich.live import Live

        assert self._console is not None
        self._size = self._console.size
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )
        self._live.start()

    def _draw(self, state: LiveState) -> None:
        from rich.console import Group

        if self._console is None or self._live is None:
            return
        if self._console.size != self._size:
            self._live.stop()
            self._console.clear()
            self._begin_region()
        width, height = self._size
        ascii_only = not self._console.encoding.lower().startswith("utf")
        lines = frame(state, self._history, width, height, ascii_only=ascii_only)
        self._live.update(Group(*lines), refresh=True)

    def _safely(self, act: Callable[[], object]) -> None:
        with self._lock:  # lines may come from worker threads while the main loop draws
            if self._lost:
                return
            try:
                act()
            except (OSError, ValueError, EOFError):  # hung-up terminal, closed stream, full disk, odd encoding
                self._lost = True
