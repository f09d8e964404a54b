"""record.html of a game day: one file without any script, which works offline and on paper.

What people wrote reaches the page through the template and `svg.tag`, both of which escape it, and the page's policy
allows our style sheet alone. Links lead to the drills' reports inside the folder, which can be moved as a whole.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from harness.model.records.many_runs.gameday import GameDayRecord
from harness.report.gameday.evidence import Evidence
from harness.report.gameday.page import Room, page
from harness.report.html.document import MAX_BYTES, NOTHING_ELSE, TEMPLATES, hash_of
from harness.report.html.svg import icon, key

if TYPE_CHECKING:
    from jinja2 import Template

ROOMS = (
    Room(drills=60, points=120, lines=100, characters=600),
    Room(drills=60, points=60, lines=100, characters=600),
    Room(drills=60, points=30, lines=100, characters=600),
    Room(drills=60, points=0, lines=100, characters=600),
    Room(drills=50, points=0, lines=50, characters=300),
    Room(drills=20, points=0, lines=20, characters=150),
)
HERE = Path(__file__).with_name("templates")


def render(record: GameDayRecord, by: Evidence) -> str:
    """The whole page, with as much of a long day as fits into MAX_BYTES."""
    css = "\n".join(
        path.read_text(encoding="utf-8").strip() for path in (TEMPLATES / "report.css", HERE / "record.css")
    )
    made = ""
    for room in ROOMS:
        made = template().render(
            page=page(record, by, room), css=css, policy=f"{NOTHING_ELSE}; style-src {hash_of(css)}", icon=icon, key=key
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
    return environment.get_template("record.html.j2")
