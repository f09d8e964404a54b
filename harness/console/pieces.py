"""The parts of the page that change, each rendered by itself. Everything from outside is escaped by the templates."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.gameday.board import Board
from harness.report.sentences import text
from harness.report.terminal.flapping import of_now

if TYPE_CHECKING:
    from jinja2 import Environment

HERE = Path(__file__).parent
PIECES = (
    *("news", "alarm", "clock", "numbers", "signals", "faults", "controls", "drills", "prerequisites", "actions"),
    "timeline",
)
"""news and alarm are for whoever listens instead of looking: what has changed, and an abort, in a sentence."""
METRICS: tuple[tuple[str, str, str, Callable[[float | None], str]], ...] = (
    ("rps", "Requests a second", "rps", text.rps),
    ("error_rate", "Failed", "error_rate", text.percent),
    ("p50_ms", "p50", "p50", text.ms),
    ("p95_ms", "p95", "p95", text.ms),
    ("p99_ms", "p99", "p99", text.ms),
)
"""Field of the numbers, what it is called, the metric of its limit, how it is written."""
WIDTH, HEIGHT = 240, 36


def rendered(board: Board) -> dict[str, str]:
    """Piece -> HTML."""
    shown = {"board": board, "metrics": _metrics(board), "faults": of_now(board.faults), "text": text}
    return {name: environment().get_template(f"piece_{name}.html.j2").render(shown).strip() for name in PIECES}


def page(name: str, **values: object) -> str:
    return environment().get_template(name).render(text=text, **values)


def _metrics(board: Board) -> list[dict[str, str]]:
    numbers = board.numbers
    found = []
    for key, label, metric, written in METRICS:
        value = getattr(numbers, key) if numbers is not None else None
        limit = board.limits.get(metric, "")
        found.append({"label": label, "value": written(value), "limit": limit, "line": line(board.seen.get(key, ()))})
    return found


def line(values: Sequence[float | None]) -> str:
    """Points of an SVG path from zero to the largest value; a gap where nothing is known."""
    top = max((value for value in values if value is not None), default=0.0)
    if not values or (top <= 0 and all(value is None for value in values)):
        return ""
    step, parts, pen = WIDTH / max(1, len(values) - 1), [], "M"
    for number, value in enumerate(values):
        if value is None:
            pen = "M"
            continue
        y = HEIGHT - 2 - (HEIGHT - 4) * (value / top if top else 0.0)
        parts.append(f"{pen}{number * step:.1f} {y:.1f}")
        pen = "L"
    return " ".join(parts)


@functools.cache
def environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
