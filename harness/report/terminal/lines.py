"""Progress without a terminal: a line per phase change and every 10 s, for CI logs."""

from __future__ import annotations

from typing import TextIO

from harness.model.records.live import LiveState
from harness.report.sentences import text
from harness.report.terminal.flapping import of_now

EVERY_S = 10.0


class LineView:
    """Writes plain lines to a stream. A write that fails is never raised: the run goes on without its view."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._phase: str | None = None
        self._last_s = float("-inf")
        self._faults: tuple[tuple[str, str], ...] = ()

    def start(self) -> None:
        pass

    def update(self, state: LiveState) -> None:
        faults = tuple((fault.id, fault.state) for fault in state.faults)
        changed = state.phase != self._phase
        if not changed and faults == self._faults and state.at_s - self._last_s < EVERY_S:
            return
        self._phase, self._faults, self._last_s = state.phase, faults, state.at_s
        self._write(line(state, changed=changed))

    def say(self, line: str) -> None:
        """A line of the run's own, for example a warning."""
        for part in line.splitlines():
            self._write(text.visible(part, 1000))

    def stop(self) -> None:
        pass

    def _write(self, written: str) -> None:
        try:
            self._stream.write(written + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # closed pipe, full disk, closed stream, an encoding without the sign
            pass


def line(state: LiveState, *, changed: bool) -> str:
    """`[ 1:12] fault  200.1/200 rps  12.4% failed  p95 168ms  redis-down proven`."""
    n = state.numbers
    planned = f"/{text.rps(n.planned_rps)}" if n.planned_rps is not None else ""
    least = ">=" if n.open_rate else ""
    parts = [
        f"{text.rps(n.rps)}{planned} rps",
        f"{least}{text.percent(n.error_rate)} failed",
        f"p95 {least if n.p95_ms is not None else ''}{text.ms(n.p95_ms)}",
        f"{n.in_flight:,} in flight",
    ]
    if n.open_rate:
        parts.append(f"{text.percent(n.open_rate)} still open")
    if n.unsent:
        parts.append(f"{n.unsent:,} unsent")
    parts += [
        f"{text.visible(f.id, 60)} {f.state}{f' ({text.visible(f.detail, 100)})' if f.detail else ''}"
        for f in of_now(state.faults)
    ]
    if told := recovering(state):
        parts.append(told)
    if state.message and changed:
        parts.append(text.visible(state.message, 200))
    arrow = ">" if changed else " "
    return f"[{text.clock(state.at_s):>6}] {arrow} {text.visible(state.phase, 20):<9} " + "  ".join(parts)


def recovering(state: LiveState) -> str:
    """How long recovery has taken so far; "" where it has not begun. A control run has no undo to begin with."""
    if state.recovery_s is None or state.recovery_s < 0:
        return ""
    since = "since the undo took effect" if state.faults else "since its fault phase ended"
    return f"{text.seconds(state.recovery_s)} {since}"
