"""People change what a drill has broken, while it is on: they mend it, or make a third thing of it, and are asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.e2e.control import call, execute
from tests.e2e.life import entries, state_folders
from tests.e2e.observe import family, still_alive, wait_until
from tests.e2e.test_game_day import Day, at
from tests.e2e.test_game_day import pytestmark as pytestmark

PLAN = """
title: people mend things
roles: {operator: [Ada], responder: [Bo]}
pause: 1s
drills:
  - {name: no cache, faults: [redis-down], fault_for: 120s}
  - {name: few connections, faults: [db-connection-limit], fault_for: 120s}
  - {name: few again, faults: [db-connection-limit], fault_for: 120s}
"""


@pytest.fixture
def day(tmp_path: Path) -> Iterator[Day]:
    opened = Day(tmp_path, PLAN)
    members = family(opened.terminal.shell.pid)
    yield opened
    opened.terminal.end()
    assert wait_until(lambda: not still_alive(members), 60), still_alive(members)


def dependency(day: Day, drill: str) -> dict[str, Any]:
    planned = json.loads((day.dir / drill / "plan.json").read_text())
    found: dict[str, Any] = planned["faults"][0]["change"]["dependency"]
    return found


def limit(db: dict[str, Any]) -> int:
    with psycopg.connect(db["credentials"]["admin"], connect_timeout=5) as connection:
        row = connection.execute(
            "SELECT rolconnlimit FROM pg_roles WHERE rolname = %s", (db["credentials"]["role"],)
        ).fetchone()
    assert row is not None
    return int(row[0])


def test_what_people_make_of_a_fault_is_theirs(day: Day) -> None:
    # Mended: the drill goes on to its recovery, and counts.
    day.type("begin", "drill 1 begins")
    day.wait_event("drill-01", "fault_proven")
    call("POST", f"{dependency(day, 'drill-01')['proxy']['url']}/proxies/redis", {"enabled": True})
    day.wait_for("drill 1 is over")
    history = day.history("drill-01")
    mended = next(one for one in history if one["event"] == "fault_mended")
    assert mended["seen_on_s"] < mended["at"] < at(history, "undo_verified") and "fault_not_proven" not in str(history)

    # A third thing: restored, as the operator says.
    day.type("begin", "drill 2 begins")
    day.wait_event("drill-02", "fault_proven")
    db = dependency(day, "drill-02")
    role = db["credentials"]["role"]
    execute(db["credentials"]["admin"], f"ALTER ROLE {role} CONNECTION LIMIT 7")
    day.type("clear", "clear: done")
    day.wait_for("type keep")
    day.type("restore", "restore: done")
    day.wait_for("drill 2 is over")
    assert limit(db) == -1

    # And kept: from now on it is the original.
    day.type("begin", "drill 3 begins")
    day.wait_event("drill-03", "fault_proven")
    execute(db["credentials"]["admin"], f"ALTER ROLE {role} CONNECTION LIMIT 50")
    since = len(day.text)
    day.type("clear", "clear: done")
    assert wait_until(lambda: "type keep" in day.text[since:], 120), day.text[-2000:]
    day.type("keep", "keep: done")
    day.wait_for("drill 3 is over")
    assert limit(db) == 50
    (ending,) = [one for one in day.history("drill-03") if one["event"] == "undo_verified"]
    assert ending["kept"] is True and not ending.get("moot"), "it is not gone: it was kept"
    day.type("end", "end: done")
    day.wait_for("code=0\r")
    assert "Traceback" not in day.text, day.text[-3000:]
    assert not state_folders(day.state)

    folder = next((day.cwd / "runs").glob("*-gameday"))
    record = json.loads((folder / "gameday.json").read_text())
    first, second, third = record["drills"]
    assert first["proven"] is True and first["mended_s"] is not None and first["undone"] is True
    assert second["undone"] is True and third["undone"] is True and third["mended_s"] is None
    kinds = [act["kind"] for act in entries(folder, "people.jsonl") if act["kind"] in ("restore", "keep")]
    assert kinds == ["restore", "keep"]
