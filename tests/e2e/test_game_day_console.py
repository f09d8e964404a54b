"""A game day driven in a real Chromium: by keys and clicks, with a responder who is to find out, and a hostile page."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.e2e.life import entries, state_folders
from tests.e2e.observe import HARNESS, SHORTENED, family, still_alive, wait_until
from tests.e2e.test_suite import OPTIONS, result
from tests.report.browser import find

pytestmark = [pytest.mark.stack, pytest.mark.slow]

PLAN = """
title: by hand
roles: {operator: [Ada], responder: [Bo]}
prerequisites: [somebody can say stop]
pause: 1s
drills:
  - {name: no cache, faults: [redis-down], hypothesis: it holds, expect: misses rise, fault_for: 6s}
  - {name: slow events, faults: [kafka-latency], hypothesis: it holds, blind: true, fault_for: 6s}
  - {name: slow store, faults: ["db-latency:latency=50ms"], fault_for: 120s}
  - {name: left out, faults: [redis-hang]}
"""
WAIT_MS = 60_000
EVIL = "<img src=x onerror=\"document.title='broken'\">"


class Day:
    """`harness gameday` with a console and a listener for guests."""

    def __init__(self, cwd: Path) -> None:
        self.cwd, self.state = cwd, cwd / "state"
        (cwd / "day.yaml").write_text(OPTIONS + PLAN)
        self.log = (cwd / "said.txt").open("wb")
        self.env = {**os.environ, "XDG_STATE_HOME": str(self.state)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", SHORTENED, "gameday", "day.yaml", "--guests", "127.0.0.1:0"],
            cwd=cwd,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )
        assert wait_until(lambda: "next is drill 1" in self.text or self.process.poll() is not None, 120), self.text

    @property
    def text(self) -> str:
        return (self.cwd / "said.txt").read_text(errors="replace")

    @property
    def dir(self) -> Path:
        return next(iter((self.cwd / "runs").glob("*-gameday")))

    def link(self) -> str:
        found = re.search(r"the console: (\S+)", self.text)
        assert found is not None, self.text
        return found[1]

    def invite(self, *args: str) -> str:
        done = subprocess.run(
            [str(HARNESS), "gameday", "invite", *args], env=self.env, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def history(self, name: str) -> list[dict[str, Any]]:
        return entries(self.dir / name, "history.jsonl")

    def wait_event(self, name: str, event: str) -> None:
        seen = wait_until(lambda: any(one["event"] == event for one in self.history(name)), 200)
        assert seen, self.text[-3000:]

    def wait_said(self, said: str, limit_s: float = 200) -> None:
        assert wait_until(lambda: said in self.text, limit_s), self.text[-3000:]


@pytest.fixture
def day(tmp_path: Path) -> Iterator[Day]:
    opened = Day(tmp_path)
    members = family(opened.process.pid)
    yield opened
    if opened.process.poll() is None:
        opened.process.send_signal(signal.SIGINT)
        opened.process.wait(90)
    opened.log.close()
    assert wait_until(lambda: not still_alive(members), 60), still_alive(members)
    assert not state_folders(opened.state)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=find(), args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


def come_in(browser: Browser, link: str, complaints: list[str]) -> Page:
    page = browser.new_context(ignore_https_errors=True, viewport={"width": 1280, "height": 900}).new_page()
    page.set_default_timeout(WAIT_MS)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(link)
    page.get_by_role("button", name="Come in").click()
    page.wait_for_selector("#abort")
    # The script has run, and the first board has come.
    page.wait_for_load_state("load")
    expect(page.locator("#clock")).not_to_be_empty(timeout=WAIT_MS)
    return page


def said(page: Page, text: str) -> None:
    expect(page.locator("#said")).to_contain_text(text, timeout=WAIT_MS)


def press(page: Page, key: str, answer: str) -> None:
    page.keyboard.press(key)
    said(page, answer)


def test_a_game_day_is_driven_in_a_browser_and_its_record_says_what_its_histories_say(
    day: Day, browser: Browser
) -> None:
    complaints: list[str] = []
    operator = come_in(browser, day.link(), complaints)
    responder = come_in(browser, day.invite("Bo", "--role", "responder"), complaints)

    # By keys alone: the abort tried, a note, the first drill, a mark.
    press(operator, "a", "Abort everything: done")
    expect(operator.locator("#clock")).not_to_contain_text("not tried", timeout=WAIT_MS)
    operator.keyboard.press("n")
    operator.keyboard.type(f"a note {EVIL}")
    press(operator, "Enter", "Write down: done")
    operator.keyboard.press("Escape")
    press(operator, "b", "Begin the next drill: done")
    day.wait_event("drill-01", "fault_injected")
    press(operator, "m", "Mark this moment: done")
    operator.get_by_role("button", name="somebody can say stop").click()
    operator.wait_for_selector("text=☑ somebody can say stop")
    day.wait_said("drill 1 is over")

    # Blind: the responder sees the service, and no word of what was broken.
    expect(operator.locator("#do-begin")).to_be_enabled(timeout=WAIT_MS)
    operator.locator("#do-begin").click()
    day.wait_event("drill-02", "fault_injected")
    expect(responder.locator("#clock")).to_contain_text("drill 2 is on: blind", timeout=WAIT_MS)
    responder.get_by_label("What do you see?").fill(EVIL)
    responder.get_by_role("button", name="We see something").click()
    said(responder, "We see something: done")
    responder.get_by_label("What do you think it is?").fill("the kafka")
    responder.get_by_role("button", name="We think it is this").click()
    said(responder, "We think it is this: done")
    shown = responder.inner_text("body").replace("the kafka", "")
    assert "kafka-latency" in operator.inner_text("#faults")
    for word in ("kafka", "slow events"):
        assert word not in shown, word
    day.wait_said("drill 2 is over")
    expect(operator.locator("#do-begin")).to_be_enabled(timeout=WAIT_MS)
    operator.locator("#do-reveal").click()
    said(operator, "Reveal blind drills: done")
    expect(responder.locator("#drills")).to_contain_text("slow events", timeout=WAIT_MS)

    # The third is aborted by the responder, while its fault is on.
    operator.locator("#do-begin").click()
    day.wait_event("drill-03", "fault_proven")
    press(responder, "a", "Abort everything: done")
    day.wait_said("drill 3 is over")
    expect(operator.locator("#do-skip")).to_be_enabled(timeout=WAIT_MS)
    operator.locator("#do-skip").click()
    said(operator, "Skip it: done")
    operator.get_by_role("button", name="End the day").click()
    assert day.process.wait(120) == 0, day.text[-3000:]
    for page in (operator, responder):
        expect(page.locator("#said")).to_have_text("the game day is over")
        expect(page.locator("#abort")).to_be_disabled()
    assert operator.title() == "by hand" and responder.title() == "by hand", "what people wrote has run as a script"
    assert [text for text in complaints if "ERR_" not in text and "Failed to load" not in text] == []

    record = json.loads((day.dir / "gameday.json").read_text())
    assert record["complete"] and record["abort_tried"] is not None
    assert record["prerequisites"][0]["ticked_by"] == "Ada" and record["people"]["Bo"] == "responder"
    assert [drill["status"] for drill in record["drills"]] == ["done", "done", "aborted", "skipped"]
    assert record["drills"][2]["why"] == "aborted by Bo"
    for drill in record["drills"][:3]:
        own, history = result(day.dir / drill["directory"]), day.history(drill["directory"])
        assert drill["verdict"] == own["verdict"] and drill["reasons"] == own["reasons"]
        assert drill["undone"] is own["faults"][0]["undo_verified"] is True
        injected = next(e["at"] for e in history if e["event"] == "fault_injected")
        assert injected == pytest.approx(own["faults"][0]["injected_s"], abs=0.01)
    aborted = day.history("drill-03")
    stopped = next(e for e in aborted if e["event"] == "stopped")
    verified = next(e for e in aborted if e["event"] == "undo_verified")
    assert stopped["why"] == "by_hand" and verified["at"] - stopped["at"] < 10, "undone at once"
    guesses = {one["text"]: one["right"] for one in record["drills"][1]["responders"]["said"]}
    assert guesses["the kafka"] is True


def test_a_page_of_somebody_else_s_in_the_same_browser_changes_nothing(day: Day, browser: Browser) -> None:
    complaints: list[str] = []
    operator = come_in(browser, day.link(), complaints)
    own = operator.url.rstrip("/")
    hostile = operator.context.new_page()
    hostile.route(
        "http://evil.test/**",
        lambda route: route.fulfill(
            content_type="text/html",
            body=f"""<form method="post" action="{own}/do/begin"><button>x</button></form><img src="{own}/do/begin">
            <iframe src="{own}/"></iframe><script>
            fetch("{own}/do/begin", {{method: "POST", mode: "no-cors", credentials: "include"}}).catch(() => 0);
            navigator.sendBeacon("{own}/do/begin", new URLSearchParams({{a: 1}}));
            fetch("{own}/stream", {{credentials: "include"}}).then(() => document.title = "read", () => 0);
            </script>""",
        ),
    )
    hostile.goto("http://evil.test/")
    hostile.wait_for_timeout(1_000)
    hostile.locator("button").click()
    hostile.wait_for_timeout(1_000)
    assert hostile.title() != "read"
    assert [act for act in entries(day.dir, "people.jsonl") if act["role"] != "harness"] == []
    press(operator, "a", "Abort everything: done")


def test_a_run_that_is_killed_takes_its_console_along_and_is_healed(day: Day, browser: Browser) -> None:
    operator = come_in(browser, day.link(), [])
    expect(operator.locator("#do-begin")).to_be_enabled(timeout=WAIT_MS)
    press(operator, "b", "Begin the next drill: done")
    day.wait_event("drill-01", "fault_injected")
    members = family(day.process.pid)
    day.process.kill()
    day.process.wait(10)
    assert wait_until(lambda: not still_alive(members), 60), still_alive(members)
    assert wait_until(lambda: not state_folders(day.state), 60)
    made = subprocess.run(
        [str(HARNESS), "gameday", "report", str(day.dir)], env=day.env, capture_output=True, text=True, timeout=60
    )
    assert made.returncode == 0, made.stderr
    assert "not closed in order" in (day.dir / "record.md").read_text()
    expect(operator.locator("#said")).to_contain_text("the run was lost", timeout=WAIT_MS)
