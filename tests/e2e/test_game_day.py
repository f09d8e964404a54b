"""A game day that people type into a real terminal, on the embedded stack, and the ends that it may have."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.life import entries, state_folders
from tests.e2e.observe import SHORTENED, family, still_alive, wait_until
from tests.e2e.terminal import Terminal
from tests.e2e.test_suite import OPTIONS, command, result

pytestmark = [
    pytest.mark.stack,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="NOT TESTED HERE: setsid --ctty is Linux's"),
]

PLAN = """
title: typed
roles: {operator: [Ada], observer: [Grace], responder: [Bo]}
prerequisites: [somebody can say stop]
pause: 1s
drills:
  - {name: no cache, faults: [redis-down], hypothesis: it holds, expect: misses rise}
  - {name: slow events, faults: [kafka-latency], hypothesis: it holds, blind: true}
  - {name: slow database, faults: ["db-latency:latency=50ms"], fault_for: 60s}
  - {name: left out, faults: [redis-hang]}
"""
CALM = OPTIONS.replace("rate: 50", "rate: 20").replace("request_timeout: 2s", "request_timeout: 8s")
"""What is looked at is what people do: a load that a busy machine carries as well."""
RECORD = ("gameday.json", "record.md", "actions.csv", "actions.md")


class Day:
    """`harness gameday` in a shell of somebody's terminal."""

    def __init__(self, cwd: Path, plan: str = PLAN) -> None:
        self.cwd, self.state = cwd, cwd / "state"
        (cwd / "day.yaml").write_text(CALM + plan)
        self.terminal = Terminal(cwd, {"XDG_STATE_HOME": str(self.state)})
        words = [sys.executable, "-c", SHORTENED, "gameday", "day.yaml", "--no-web"]
        self.terminal.type(shlex.join(words) + '; echo "code=$?"\n')
        self.wait_for("next is drill 1")

    @property
    def dir(self) -> Path:
        return next(iter((self.cwd / "runs").glob("*-gameday")))

    @property
    def text(self) -> str:
        return self.terminal.text

    def wait_for(self, said: str, limit_s: float = 200) -> None:
        self.terminal.wait_text(said, limit_s)

    def type(self, line: str, answer: str) -> None:
        """And wait for what is answered to it."""
        since = len(self.text)
        self.terminal.type(f"{line}\n")
        assert wait_until(lambda: answer in self.text[since:], 30), self.text[-3000:]

    def history(self, name: str) -> list[dict[str, Any]]:
        return entries(self.dir / name, "history.jsonl")

    def wait_event(self, name: str, event: str) -> None:
        def seen() -> bool:
            return any(one["event"] == event for one in self.history(name))

        over = f"drill {int(name[-2:])} is over"
        assert wait_until(lambda: seen() or over in self.text, 200) and seen(), self.text[-3000:]

    def pid(self) -> int:
        members = family(self.terminal.shell.pid)
        return next(pid for pid, label in members.items() if "MIN_BASELINE_S" in label)


@pytest.fixture
def day(tmp_path: Path) -> Iterator[Day]:
    opened = Day(tmp_path)
    members = family(opened.terminal.shell.pid)
    yield opened
    opened.terminal.end()  # a window that is closed ends the day, and undoes everything
    assert wait_until(lambda: not still_alive(members), 60), still_alive(members)


def at(history: list[dict[str, Any]], event: str, **more: Any) -> float:
    return float(next(e["at"] for e in history if e["event"] == event and more.items() <= e.items()))


def test_a_game_day_is_typed_and_its_record_says_what_its_histories_say(day: Day) -> None:
    day.type("tick 1", "tick: done")
    day.type("abort", "abort: done")
    day.type("begin", "drill 1 begins")
    day.wait_event("drill-01", "fault_injected")
    day.type("begin", "not done: drill 1 is on")
    day.type("as Bo inject redis-down", "not done: inject is for the operator")
    day.type("as Grace observed misses rise", "observed: done")
    day.wait_for("drill 1 is over")

    since = len(day.text)
    day.type("begin", "drill 2 begins")
    day.wait_event("drill-02", "fault_injected")
    day.type("as Bo see the consumer is late", "see: done")
    day.type("status", "drill 2 is on (blind)")
    day.type("as Bo think it is the db", "think: done")
    day.type("reveal", "not done: wait for the end of the drill")
    day.wait_for("drill 2 is over")
    assert wait_until(lambda: (day.dir / "drill-02" / "result.json").exists(), 60)
    day.type("status", "between drills; 2 of 4 left")
    hidden = day.text[since:].lower()
    assert not [word for word in ("kafka", "latency", "slow events") if word in hidden], hidden
    day.type("reveal", "drill 2 was slow events: kafka-latency")

    day.type("begin", "drill 3 begins")
    day.wait_event("drill-03", "fault_injected")
    day.type("abort", "abort: done")
    day.wait_for("drill 3 is over")
    day.type("action look at the pool owner=Bo severity=high", "action: done")
    day.type("skip", "skip: done")
    day.type("begin", "not done: no drill is left")
    day.type("inject redis-dwn", "not done: ")
    day.type("inject redis-latency", "drill 5 begins")
    day.wait_for("drill 5 is over")
    day.type("end", "end: done")
    day.wait_for("\ncode=")
    assert "\ncode=0\r" in day.text and "Traceback" not in day.text, day.text[-3000:]
    assert not state_folders(day.state)

    assert_record(day.dir)
    before = [(day.dir / name).read_bytes() for name in RECORD]
    again = command("gameday", "report", day.dir, cwd=day.cwd)
    assert again.returncode == 0 and [(day.dir / name).read_bytes() for name in RECORD] == before, again.stderr


def assert_record(folder: Path) -> None:
    """Each fact of the record is that of the drill's own history and result, or of what people did."""
    record = json.loads((folder / "gameday.json").read_text())
    acts = entries(folder, "people.jsonl")
    assert record["complete"] and record["abort_tried"] == next(a["at"] for a in acts if a["kind"] == "abort")
    assert record["prerequisites"][0]["ticked_by"] == "Ada"
    assert [drill["status"] for drill in record["drills"]] == ["done", "done", "aborted", "skipped", "done"]
    for drill in record["drills"]:
        if drill["status"] == "skipped":
            continue
        own, history = result(folder / drill["directory"]), entries(folder / drill["directory"], "history.jsonl")
        assert drill["verdict"] == own["verdict"] and drill["reasons"] == own["reasons"]
        if own["faults"][0]["injected_s"] is None:
            assert drill["plan"]["number"] == 5, "it is known of the others, and a starved machine may fail the last"
            continue
        assert drill["undone"] is own["faults"][0]["undo_verified"] is True, own
        assert at(history, "fault_injected") == pytest.approx(own["faults"][0]["injected_s"], abs=0.01)
        started, over = (
            next(a for a in acts if a["kind"] == kind and a.get("drill") == drill["plan"]["number"])
            for kind in ("started", "over")
        )
        assert (drill["begun"], drill["ended"]) == (started["at"], over["at"])
        # The drill's own clock counts from `seconds` of the day: what is in its history lies between the two.
        assert started["at"] - 1 < over["seconds"] + at(history, "fault_injected") < over["at"] + 1
    aborted = entries(folder / "drill-03", "history.jsonl")
    assert at(aborted, "undone") - at(aborted, "ordered", order="abort", who="Ada") < 5, "within 2 s, on a calm machine"
    typed = next(a["at"] for a in acts if a["kind"] == "abort" and a.get("drill") == 3)
    assert record["drills"][2]["why"] == "aborted by Ada" and typed < record["drills"][2]["ended"]
    second = record["drills"][1]["responders"]
    assert [(one["who"], one["right"]) for one in second["said"]] == [("Bo", None), ("Bo", False)]
    assert record["actions"][0]["owner"] == "Bo" and record["drills"][0]["observed"][0]["who"] == "Grace"


def test_ctrl_c_in_a_drill_undoes_it_and_the_record_is_made(day: Day) -> None:
    day.type("begin", "drill 1 begins")
    day.wait_event("drill-01", "fault_injected")
    day.terminal.type("\x03")
    day.wait_for("code=130")
    record = json.loads((day.dir / "gameday.json").read_text())
    assert [drill["status"] for drill in record["drills"]] == ["done", "not_run", "not_run", "not_run"]
    assert record["drills"][0]["undone"] is True and record["drills"][0]["verdict"] == "inconclusive"
    assert "The abort was not tried before the first drill." in (day.dir / "record.md").read_text()
    assert not state_folders(day.state)


def test_what_a_killed_game_day_has_broken_is_healed_and_its_record_says_that_it_was_not_closed(day: Day) -> None:
    day.type("begin", "drill 1 begins")
    day.wait_event("drill-01", "fault_injected")
    pid = day.pid()
    members = family(pid)
    os.kill(pid, signal.SIGKILL)
    day.wait_for("code=137")
    assert wait_until(lambda: not still_alive(members), 60), still_alive(members)
    assert wait_until(lambda: not state_folders(day.state), 30)
    made = command("gameday", "report", day.dir, cwd=day.cwd)
    assert made.returncode == 0, made.stderr
    assert "not closed in order" in (day.dir / "record.md").read_text()
    assert json.loads((day.dir / "gameday.json").read_text())["drills"][0]["verdict"] is None
