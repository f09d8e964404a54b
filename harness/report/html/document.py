"""report.html: one self-contained file that works offline.

Outside text reaches the page through the template and `svg.tag`, both of which escape everything. What the script
needs is JSON of numbers in a data block. A content security policy with the hashes of our own script and style sheet
forbids every other one and every request, so even a hole in the escaping could neither run nor fetch anything.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from harness.model.records.events import Event
from harness.model.records.plan import Plan
from harness.model.records.result import Result
from harness.report.html import charts
from harness.report.html.axis import axis_of
from harness.report.html.page import page
from harness.report.html.svg import TimeAxis, icon, key

if TYPE_CHECKING:
    from jinja2 import Template

    from harness.analysis.verdict.timeline import ChartData

NOTHING_ELSE = "default-src 'none'; base-uri 'none'; form-action 'none'"
MAX_BYTES = 400_000
POINTS = (charts.MAX_POINTS, 200, 120, 60, 30)
TEMPLATES = Path(__file__).with_name("templates")


def render(
    plan: Plan, result: Result, chart: ChartData, history: Sequence[Event], run_dir: Path | str | None = None
) -> str:
    """The whole page, with as many points a line as fit into MAX_BYTES."""
    told = page(plan, result, chart, history, run_dir)
    axis = axis_of(plan, result, chart, history)
    made = ""
    for points in POINTS:
        made = _rendered(told, axis, charts.panels(plan, result, chart, history, points))
        if len(made.encode()) <= MAX_BYTES:
            break
    return made


def _rendered(told: dict[str, object], axis: TimeAxis, panels: Sequence[charts.Panel]) -> str:
    css, script = _asset("report.css"), _asset("report.js")
    return template().render(
        page=told,
        panels=panels,
        css=css,
        script=script,
        numbers=_numbers(panels, axis),
        policy=f"{NOTHING_ELSE}; script-src {hash_of(script)}; style-src {hash_of(css)}",
        icon=icon,
        key=key,
    )


@functools.cache
def template() -> Template:
    """The page's template, compiled once: together with the import of jinja2 that is most of a page's time."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("report.html.j2")


def _asset(name: str) -> str:
    return TEMPLATES.joinpath(name).read_text(encoding="utf-8").strip()


def _numbers(panels: Sequence[charts.Panel], axis: TimeAxis) -> str:
    """What the script tells of a moment: numbers alone, so nothing that could close the script element."""
    grids: list[list[float]] = []
    shown = []
    for panel in panels:
        if panel.grid not in grids:
            grids.append(panel.grid)
        shown.append({"id": panel.id, "grid": grids.index(panel.grid), "values": panel.values})
    began = axis.began.timestamp() * 1000 if axis.began is not None else None
    told = {"start": axis.start, "end": axis.end, "began": began, "grids": grids, "panels": shown}
    return msgspec.json.encode(told).decode()


def hash_of(inline: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()}'"
