"""A game day driven in a real Chromium: an operator without a mouse, a responder who is to find out, guests who read
every outlet of a blind drill, the real Prometheus and Alertmanager, and a hostile page."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.conductor.test_annotations import Imitation
from tests.console import seats
from tests.console.keys import tab_to
from tests.e2e.life import entries, state_folders
from tests.e2e.observe import HARNESS, SHORTENED, family, still_alive, wait_until
from tests.e2e.test_suite import OPTIONS, result
from tests.report.browser import find
from tests.support.servers.alerting import programs

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
PAUSED = "  - {name: paused, faults: [api-pause], fault_for: 15s, expected_alerts: [SampleApiDown, KafkaDown]}\n"
WITH_ALERTS = PLAN.replace("blind: true,", "blind: true, expected_alerts: [KafkaDown],").replace(
    "  - {name: left out", f"{PAUSED}  - {{name: left out"
)
"""KafkaDown is about what the API says of Kafka: while the API is paused it can never fire."""
WITH_GRAFANA = (
    "import os; from msgspec.structs import replace; from harness.stack.embedded import EmbeddedStack; "
    "up = EmbeddedStack.up; "
    "EmbeddedStack.up = lambda *args: replace(up(*args), grafana=os.environ.get('HERE_IS_GRAFANA')); "
)
"""The embedded stack has none: what is told to it is an outlet of a blind drill all the same."""
WAIT_MS = 60_000
EVIL = "<img src=x onerror=\"document.title='broken'\">"


class Day:
    """`harness gameday` with a console and a listener for guests. state: of a stack that stands. options: of its load.
    program: the command, as Python."""

    def __init__(
        self,
        cwd: Path,
        plan: str = PLAN,
        *args: str,
        grafana: str | None = None,
        state: Path | None = None,
        options: str = OPTIONS.replace("rate: 50", "rate: 20"),
        program: str = SHORTENED,
    ) -> None:
        self.cwd, self.state = cwd, state or cwd / "state"
        (cwd / "day.yaml").write_text(options + plan)
        self.log = (cwd / "said.txt").open("wb")
        self.env = {**os.environ, "XDG_STATE_HOME": str(self.state)}
        if grafana is not None:
            self.env["HERE_IS_GRAFANA"], program = grafana, WITH_GRAFANA + program
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, "gameday", "day.yaml", "--guests", "127.0.0.1:0", *args],
            cwd=cwd,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )
        assert wait_until(lambda: "next is drill 1" in self.text or self.process.poll() is not None, 240), self.text

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

    def wait_event(self, name: str, event: str, limit_s: float = 200) -> None:
        seen = wait_until(lambda: any(one["event"] == event for one in self.history(name)), limit_s)
        assert seen, self.text[-3000:]

    def wait_said(self, said: str, limit_s: float = 200) -> None:
        assert wait_until(lambda: said in self.text, limit_s), self.text[-3000:]


@pytest.fixture
def day(tmp_path: Path) -> Iterator[Day]:
    with closing_day(Day(tmp_path)) as opened:
        yield opened


@pytest.fixture
def grafana() -> Iterator[Imitation]:
    with Imitation() as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


@contextmanager
def closing_day(opened: Day) -> Iterator[Day]:
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
    expect(page.get_by_role("button", name="Come in")).to_be_focused()
    page.keyboard.press("Enter")
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


class Guest:
    """Reads what the guests' listener tells: the page, as it is now, and the stream from here on."""

    def __init__(self, cookie: str, port: int) -> None:
        self._browser = seats.Browser(port, tls=True, cookie=cookie)
        self._stream = seats.Stream(self._browser)

    def heard(self) -> str:
        return self._browser.ask("GET", "/")[1] + self._stream.text()


class Outlets:
    """All that somebody who is not the operator can read of a blind drill, from now until it is revealed."""

    def __init__(self, day: Day, responder: Page, grafana: Imitation) -> None:
        self._day, self._grafana, self._responder = day, grafana, responder
        port = int(responder.url.rpartition(":")[2].strip("/"))
        (own,) = responder.context.cookies()
        observer = seats.Browser(port, tls=True)
        assert observer.enter(day.invite("Grace").rpartition("/")[2]) == 303
        self._guests = [Guest(f"{own['name']}={own['value']}", port), Guest(observer.cookie, port)]
        self._said, self._names = len(day.text), self._files()
        self._acts, self._marks = len(entries(day.dir, "people.jsonl")), len(grafana.made)

    def read(self) -> dict[str, str]:
        """By name; without what the responders have said themselves."""
        acts = entries(self._day.dir, "people.jsonl")[self._acts :]
        found = {
            "terminal": self._day.text[self._said :],
            "names of files": " ".join(self._files() - self._names),
            "acts": json.dumps([act for act in acts if act["role"] != "responder"]),
            "annotations": json.dumps(self._grafana.made[self._marks :]),
            "a responder's browser": self._responder.content(),
            **{f"guest {number}": guest.heard() for number, guest in enumerate(self._guests)},
        }
        return {name: text.replace("the kafka", "").lower() for name, text in found.items()}

    def _files(self) -> set[str]:
        return {str(one.relative_to(self._day.dir)) for one in self._day.dir.rglob("*")}


def mark(grafana: Imitation, text: str) -> dict[str, Any] | None:
    return next((one for one in list(grafana.made) if text in json.dumps(one)), None)


@pytest.mark.calm
def test_a_game_day_is_driven_without_a_mouse_and_its_record_says_what_its_histories_say(
    tmp_path: Path, browser: Browser, grafana: Imitation
) -> None:
    programs()
    with closing_day(Day(tmp_path, WITH_ALERTS, "--with-alerts", grafana=grafana.url)) as day:
        complaints: list[str] = []
        operator = come_in(browser, day.link(), complaints)
        responder = come_in(browser, day.invite("Bo", "--role", "responder"), complaints)
        drive(day, operator, responder, grafana)
        assert operator.title() == "by hand" and responder.title() == "by hand", "what people wrote has run as a script"
        assert [text for text in complaints if "ERR_" not in text and "Failed to load" not in text] == []
        assert_record(day)


def begin(day: Day, operator: Page, drill: str, event: str = "fault_injected") -> None:
    expect(operator.locator("#do-begin")).to_be_enabled(timeout=WAIT_MS)
    press(operator, "b", "Begin the next drill: done")
    day.wait_event(drill, event)


def drive(day: Day, operator: Page, responder: Page, grafana: Imitation) -> None:
    """The operator has a keyboard, the responder a mouse for one thing."""
    press(operator, "a", "Abort everything: done")
    expect(operator.locator("#clock")).not_to_contain_text("not tried", timeout=WAIT_MS)
    operator.keyboard.press("n")
    operator.keyboard.type(f"a note {EVIL}")
    press(operator, "Enter", "Write down: done")
    operator.keyboard.press("Escape")
    tab_to(operator, "#tick-1")
    operator.keyboard.press("Space")
    operator.wait_for_selector("text=☑ somebody can say stop")
    begin(day, operator, "drill-01")
    press(operator, "m", "Mark this moment: done")
    tab_to(operator, "form[action='/do/observed'] input")
    operator.keyboard.type("misses rise")
    press(operator, "Enter", "Write down: done")
    tab_to(operator, "#h-notes ~ details > summary")
    operator.keyboard.press("Enter")
    tab_to(operator, "form[action='/do/action'] input[name=text]")
    operator.keyboard.type("look at the pool")
    operator.keyboard.press("Tab")
    operator.keyboard.type("Bo")
    press(operator, "Enter", "Add: done")
    operator.keyboard.press("Escape")
    day.wait_said("drill 1 is over")

    # Blind: the responder sees the service, and no word of what was broken anywhere.
    expect(operator.locator("#do-begin")).to_be_enabled(timeout=WAIT_MS)
    outlets = Outlets(day, responder, grafana)
    begin(day, operator, "drill-02", "fault_proven")
    expect(responder.locator("#clock")).to_contain_text("drill 2 is on: blind", timeout=WAIT_MS)
    responder.get_by_label("What do you see?").fill(EVIL)
    responder.get_by_role("button", name="We see something").click()
    said(responder, "We see something: done")
    tab_to(responder, "form[action='/do/think'] input")
    responder.keyboard.type("the kafka")
    press(responder, "Enter", "We think it is this: done")
    responder.keyboard.press("Escape")
    assert "kafka-latency" in operator.inner_text("#faults") and "KafkaDown" in operator.inner_text("#signals")
    day.wait_said("drill 2 is over")
    assert wait_until(lambda: (day.dir / "drill-02" / "result.json").exists(), 60)
    expect(operator.locator("#do-begin")).to_be_enabled(timeout=WAIT_MS)
    told = outlets.read()
    assert all(
        "drill 2 is on: blind" in told[name] and "between drills" in told[name] for name in ("guest 0", "guest 1")
    )
    assert "drill-02/history.jsonl" in told["names of files"] and "drill 2 begins" in told["terminal"]
    leaks = [(name, word) for name, text in told.items() for word in ("kafka", "slow events") if word in text]
    assert not leaks, (leaks, [told[name] for name, _ in leaks])
    revealed_ms = 1_000 * time.time()
    tab_to(operator, "#do-reveal")
    press(operator, "Enter", "Reveal blind drills: done")
    expect(responder.locator("#drills")).to_contain_text("slow events", timeout=WAIT_MS)
    assert wait_until(lambda: mark(grafana, "fault: kafka-latency") is not None, 30)
    assert (mark(grafana, "fault: kafka-latency") or {})["time"] < revealed_ms - 2_000, "with its true time"

    # The third is aborted by the responder, while its fault is on.
    begin(day, operator, "drill-03", "fault_proven")
    press(responder, "a", "Abort everything: done")
    expect(operator.locator("#alarm")).to_contain_text("Bo aborts", timeout=WAIT_MS)
    day.wait_said("drill 3 is over")

    # In the fourth one alert fires, and one that is expected cannot.
    begin(day, operator, "drill-04")
    expect(operator.locator("#signals")).to_contain_text("SampleApiDown firing", timeout=WAIT_MS)
    expect(responder.locator("#signals")).to_contain_text("SampleApiDown firing", timeout=WAIT_MS)
    assert "KafkaDown inactive" in operator.inner_text("#signals")
    day.wait_said("drill 4 is over")
    expect(operator.locator("#do-skip")).to_be_enabled(timeout=WAIT_MS)
    press(operator, "s", "Skip it: done")
    tab_to(operator, "#do-end")
    operator.keyboard.press("Space")
    assert day.process.wait(120) == 0, day.text[-3000:]
    for page in (operator, responder):
        expect(page.locator("#said")).to_have_text("the game day is over")
        expect(page.locator("#abort")).to_be_disabled()


def assert_record(day: Day) -> None:
    record = json.loads((day.dir / "gameday.json").read_text())
    assert record["complete"] and record["abort_tried"] is not None
    assert record["prerequisites"][0]["ticked_by"] == "Ada" and record["people"]["Bo"] == "responder"
    assert record["drills"][0]["observed"][0]["text"] == "misses rise" and record["actions"][0]["owner"] == "Bo"
    assert [drill["status"] for drill in record["drills"]] == ["done", "done", "aborted", "done", "skipped"]
    assert record["drills"][2]["why"] == "aborted by Bo"
    page = (day.dir / "record.html").read_text()
    for drill in record["drills"][:4]:
        own, history = result(day.dir / drill["directory"]), day.history(drill["directory"])
        assert drill["verdict"] == own["verdict"] and drill["reasons"] == own["reasons"]
        assert drill["undone"] is own["faults"][0]["undo_verified"] is True
        injected = next(e["at"] for e in history if e["event"] == "fault_injected")
        assert injected == pytest.approx(own["faults"][0]["injected_s"], abs=0.01)
        alerts = [f"{one['alert']}: {one['outcome'].replace('_', ' ')}" for one in own["detection"]["alerts"]]
        assert drill["alerts"] == alerts and all(line in page for line in alerts)
    assert "KafkaDown: never fired" in record["drills"][3]["alerts"]
    rows = entries(day.dir / "drill-04", "alerts.jsonl")
    fired = {row["alert"] for row in rows if row["row"] == "state" and row["state"] == "firing"}
    assert "SampleApiDown" in fired and "KafkaDown" not in fired
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
