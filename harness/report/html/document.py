"""report.html: one self-contained file that works offline.

Outside text reaches the page in two ways only: through the template, which escapes everything, and as JSON in a
data block, where `<` is written as an escape. A content security policy with the hashes of our own two scripts
forbids every other script and every request, so even a hole in the escaping could neither run nor fetch anything.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.model.records.events import Event
from harness.model.records.plan import Plan
from harness.model.records.result import Result
from harness.report.html import charts
from harness.report.html.page import page

if TYPE_CHECKING:
    from jinja2 import Template

    from harness.analysis.verdict.timeline import ChartData

TEMPLATES = Path(__file__).with_name("templates")


def render(
    plan: Plan, result: Result, chart: ChartData, history: Sequence[Event], run_dir: Path | str | None = None
) -> str:
    """The whole page, about 5 MB of which plotly.js is nearly all."""
    panels = charts.panels(plan, result, chart, history)
    plotly, script = _plotly_js(), _asset("report.js")
    return template().render(
        page=page(plan, result, chart, history, run_dir),
        panels=panels,
        css=_asset("report.css"),
        plotly=plotly,
        script=script,
        figures=_figures(panels),
        policy=_policy(plotly, script),
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


def _plotly_js() -> str:
    from plotly.offline import get_plotlyjs

    # Inside a script element only this sequence could end it early; in a JavaScript string the two are the same.
    return str(get_plotlyjs()).strip().replace("</script", "<\\/script")


def _figures(panels: Sequence[charts.Panel]) -> str:
    """Every figure in one JSON array, safe inside a script element: `<` could close it or open a comment."""
    parts = [f'{{"id":"{panel.id}","height":{panel.height},{panel.figure[1:]}' for panel in panels]
    return f"[{','.join(parts)}]".replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _policy(*scripts: str) -> str:
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
    # Plotly sets styles from script.
    return f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'"
