"""report.html of a suite: one file without any script, which works offline and on paper.

Outside text reaches the page through the template and `svg.tag`, both of which escape it, and the page's policy allows
our style sheet alone. Links lead to reports inside the suite's folder, so the folder can be moved as a whole.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from harness.model.records.many_runs.gate import GateResult
from harness.model.records.many_runs.suite import SuiteResult
from harness.report.html.document import MAX_BYTES, NOTHING_ELSE, TEMPLATES, hash_of
from harness.report.html.svg import icon
from harness.report.suite.evidence import Evidence
from harness.report.suite.page import Room, page
from harness.report.suite.sentences import Weakness

if TYPE_CHECKING:
    from jinja2 import Template

ROOMS = (
    Room(experiments=200, names=60, weaknesses=60, lines=100),
    Room(experiments=100, names=30, weaknesses=20, lines=40),
    Room(experiments=40, names=12, weaknesses=5, lines=10),
)
HERE = Path(__file__).with_name("templates")


def render(suite: SuiteResult, gate: GateResult | None, found: Sequence[Weakness], by: Evidence, today: date) -> str:
    """The whole page, as it is true today, with as much of an absurd suite as fits into MAX_BYTES."""
    css = "\n".join(
        path.read_text(encoding="utf-8").strip() for path in (TEMPLATES / "report.css", HERE / "resilience.css")
    )
    made = ""
    for room in ROOMS:
        made = template().render(
            page=page(suite, gate, found, by, room, today),
            css=css,
            policy=f"{NOTHING_ELSE}; style-src {hash_of(css)}",
            icon=icon,
        )
        if len(made.encode("utf-8", "backslashreplace")) <= MAX_BYTES:
            break
    return made


@functools.cache
def template() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("resilience.html.j2")
