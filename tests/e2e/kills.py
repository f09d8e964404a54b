"""SIGKILL of the console's process, of the operator's browser and of the conductor, each in every sort of drill that a
game day has: what is healed after how long, seen from outside, and what the day's record says of it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import msgspec
import psutil
from playwright.sync_api import Browser, Page, Playwright, expect

from harness.adapters.toxiproxy.lock import LOCK
from harness.dependencies.probe import path_probe
from harness.model.records.faults import Dependency
from tests.e2e.observe import HARNESS, SHORTENED, family, still_alive, wait_until
from tests.e2e.standing import StandingStack
from tests.e2e.test_game_day_console import WAIT_MS, Day, closing_day, come_in, press
from tests.e2e.test_suite import OPTIONS
from tests.report.browser import find

Victim = Literal["console", "browser", "conductor"]
Sort = Literal["normal", "blind", "aborted afterwards", "aborted before", "never fires"]

Cases = tuple[tuple[Sort, Victim], ...]

HEAD = """
title: killed
roles: {operator: [Ada], responder: [Bo]}
pause: 1s
drills:
"""
_NEVER = "expected_alerts: [SampleApiDown, KafkaDown]"
DRILLS: dict[Sort, str] = {
    "normal": "{name: no cache, faults: [redis-down], hypothesis: it holds, fault_for: FORs}",
    "blind": "{name: slow events, faults: [kafka-latency], hypothesis: it holds, blind: true, fault_for: FORs}",
    "aborted afterwards": '{name: slow store, faults: ["db-latency:latency=200ms"], fault_for: 120s}',
    "aborted before": '{name: slow store too, faults: ["db-latency:latency=200ms"], fault_for: 120s}',
    "never fires": f"{{name: paused, faults: [api-pause], {_NEVER}, fault_for: FORs}}",
}
"""Of those that are aborted: by people after the kill, or before it, with the undo not begun yet. While the API is
paused nobody says anything of Kafka, so that KafkaDown cannot fire."""
CALM = (
    OPTIONS.replace("rate: 50", "rate: 2").replace("request_timeout: 2s", "request_timeout: 20s").replace("9s", "19s")
)
PATIENT = (
    "from harness.plan import phases; phases.sharing.__defaults__ = (600.0,); "
    "from harness.conductor import loop, orders; loop.SILENT_AFTER_S = orders.ANSWER_S = 60.0; "
    "from harness.console import link; link.START_S = 60.0; "
    "from harness.safety.keeper.client import Keeper; Keeper.start.__func__.__kwdefaults__['lease_s'] = 60.0; "
) + SHORTENED.replace("HOLD_ARRIVALS = 50", "HOLD_ARRIVALS = 5")
"""What is looked at is what becomes of a fault, which a busy machine must not end before its time."""
LONG_S, SHORT_S = 120, 10
"""Of a fault that only an end of the drill may undo; of one that is to end by itself."""
PROVEN_S = 600.0
"""With the wait for a target at rest in it."""
HEAL_S = 60.0
PROBE_S = 2.0


class Killed(msgspec.Struct, frozen=True, kw_only=True):
    """One case: seconds from the kill until the undo was verified, as whoever undid it has written down, and until the
    dependency was well again, as seen from outside; of a killed browser, until the drill's own end or its abort. What
    the record says of the drill, and of the day."""

    sort: Sort
    victim: Victim
    verified_s: float
    healed_s: float
    drill: dict[str, Any]
    said: str
    cautions: str


class Looks:
    """At a standing stack, from outside."""

    def __init__(self, stack: StandingStack) -> None:
        self.stack, self.before = stack, stack.snapshot()
        self.dependencies: dict[str, Dependency] = {
            one["name"]: msgspec.convert(one, Dependency) for one in stack.info["dependencies"]
        }
        self.password = {str(self.dependencies["redis"].credentials.password_env): stack.password()}
        self.toxiproxy = stack.server("toxiproxy")
        self.api = int(stack.info["target"]["pid"])

    def well(self, sort: Sort) -> bool:
        """As before, read back at Toxiproxy, and answering through the application's path."""
        if sort == "never fires":
            return not self._stopped() and self._answers()
        name = {"normal": "redis", "blind": "kafka"}.get(sort, "db")
        now = self.stack.snapshot()
        now["proxies"].pop(LOCK, None)  # the day's own, as long as it goes on
        if now != self.before:
            return False
        with patch.dict(os.environ, self.password):
            return path_probe(self.dependencies[name])(PROBE_S).ok

    def _stopped(self) -> bool:
        root = psutil.Process(self.api)
        return any(one.status() == psutil.STATUS_STOPPED for one in (root, *root.children(recursive=True)))

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.stack.info['target']['url']}/health", timeout=1.0):
                return True
        except OSError:
            return False


class Seat:
    """The operator's browser: a Chromium of its own, and all its processes."""

    def __init__(self, playwright: Playwright, link: str) -> None:
        before = set(family(os.getpid()))
        self.browser: Browser = playwright.chromium.launch(
            executable_path=find(), args=["--no-sandbox", "--disable-gpu"]
        )
        started = family(os.getpid())
        self._roots = [pid for pid in started if pid not in before and "--type=" not in started[pid]]
        self.complaints: list[str] = []
        self.page: Page = come_in(self.browser, link, self.complaints)

    def kill(self) -> None:
        members = {pid: label for root in self._roots for pid, label in family(root).items()}
        assert len(members) > 2, members
        for pid in members:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert wait_until(lambda: not still_alive(members), 10), still_alive(members)

    def close(self) -> None:
        with suppress(Exception):  # one that was killed has nothing to close
            self.browser.close()


def plan(cases: Cases) -> str:
    """One more than is begun: the day can be gone on with."""
    drills = [DRILLS[sort].replace("FOR", str(SHORT_S if who == "browser" else LONG_S)) for sort, who in cases]
    return HEAD + "".join(f"  - {drill}\n" for drill in [*drills, "{name: left over, faults: [redis-hang]}"])


@contextmanager
def day_of(folder: Path, stack: StandingStack, cases: Cases) -> Iterator[Day]:
    folder.mkdir()
    args = ("--with-alerts",) if "never fires" in dict(cases) else ()
    opened = Day(folder, plan(cases), *args, state=stack.state, options=CALM, program=PATIENT)
    try:
        with closing_day(opened) as day:
            yield day
    finally:
        if opened.process.poll() is None:
            opened.process.send_signal(signal.SIGINT)
            opened.process.wait(120)


class Case:
    """One drill of a day: begun, its fault on, somebody killed, healed."""

    def __init__(self, day: Day, looks: Looks, playwright: Playwright, number: int, sort: Sort, victim: Victim) -> None:
        self.day, self.looks, self.playwright = day, looks, playwright
        self.number, self.sort, self.victim = number, sort, victim
        self.name = f"drill-{number:02d}"

    def carry_out(self, seat: Seat) -> tuple[float, float, Seat]:
        """When somebody was killed (the time of day), seconds until it was healed as seen from outside, and the seat
        that the operator has by then."""
        page = seat.page
        expect(page.locator("#do-begin")).to_be_enabled(timeout=WAIT_MS)
        press(page, "b", "Begin the next drill: done")
        self.day.wait_event(self.name, "fault_proven", PROVEN_S)
        assert not self.looks.well(self.sort), "nothing is broken"
        if self.sort == "aborted before":
            killed = self._kill_before_the_undo(seat)
        else:
            killed = self._kill(seat)
        at = time.time() - (time.monotonic() - killed)
        if self.victim == "conductor":
            return at, self._healed(killed), seat
        if self.victim == "browser":
            seat.close()
            seat = Seat(self.playwright, self._link_again())
        else:
            self.day.wait_said("the console has died and was started again")
        if self.sort == "aborted afterwards" and self.victim == "browser":
            assert not self.looks.well(self.sort), "a browser's death has changed something"
            press(seat.page, "a", "Abort everything: done")
        healed = self._healed(killed)
        self.day.wait_said(f"drill {self.number} is over", PROVEN_S)
        return at, healed, seat

    def _kill(self, seat: Seat) -> float:
        now = time.monotonic()
        if self.victim == "browser":
            seat.kill()
        else:
            os.kill(self._pid(), signal.SIGKILL)
        return now

    def _kill_before_the_undo(self, seat: Seat) -> float:
        """A Toxiproxy that hangs keeps the undo from going on until the kill has been."""
        os.kill(self.looks.toxiproxy, signal.SIGSTOP)
        try:
            seat.page.keyboard.press("a")
            assert wait_until(lambda: any(one["event"] == "stopped" for one in self.day.history(self.name)), 10)
            killed = self._kill(seat)
            assert not self._event("undone")
        finally:
            os.kill(self.looks.toxiproxy, signal.SIGCONT)
        return killed

    def _event(self, event: str) -> bool:
        return any(one["event"] == event for one in self.day.history(self.name))

    def _pid(self) -> int:
        if self.victim == "conductor":
            return self.day.process.pid
        members = family(self.day.process.pid)
        return next(pid for pid, label in members.items() if "harness.console.process" in label)

    def _link_again(self) -> str:
        return self.day.invite("Ada", "--role", "operator")

    def _healed(self, killed: float) -> float:
        limit = HEAL_S + (SHORT_S if self.victim == "browser" else 0)
        assert wait_until(lambda: self.looks.well(self.sort), limit), self.day.text[-3000:]
        return time.monotonic() - killed


def remade(day: Day) -> None:
    done = subprocess.run(
        [str(HARNESS), "gameday", "report", str(day.dir)], env=day.env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def told(day: Day, number: int) -> tuple[dict[str, Any], str, str]:
    """What gameday.json and record.md say of a drill, and of the whole day before it."""
    record = json.loads((day.dir / "gameday.json").read_text())
    text = (day.dir / "record.md").read_text()
    drill = record["drills"][number - 1]
    head = f"### {number}. {drill['plan']['name']}"
    said = text[text.index(head) :].removeprefix(head).partition("\n#")[0].strip() if head in text else ""
    return drill, said, text.partition("## Facts")[0]


def verified(day: Day, drill: dict[str, Any]) -> float:
    """Time of day of the verified undo: of the drill's own history, or of a record that says who healed it."""
    walls = [one["wall"] for one in day.history(drill["directory"]) if one["event"] == "undo_verified"]
    walls += re.findall(r"verified it at (\S+Z)\.", " ".join(drill["reasons"]))
    return datetime.fromisoformat(walls[-1]).timestamp() if walls else float("nan")


def untrue(one: Killed) -> list[str]:
    """What the record should say of such a case and does not, or says and should not."""
    drill = one.drill
    if one.victim == "conductor":
        status, why = "cut_off", "the run was killed, or lost, while it was on"
    elif one.victim == "console":
        status, why = "aborted", "aborted by the harness: console lost"
    else:
        status, why = "done", ""
    if one.sort == "aborted before" or (one.sort, one.victim) == ("aborted afterwards", "browser"):
        status = "aborted"
        why = f"aborted by Ada; {why}" if one.victim == "conductor" else "aborted by Ada"
    checks = {
        f"status {status}": drill["status"] == status,
        f"why {why!r}": drill["why"] == why,
        "proven, undone": drill["proven"] is True and drill["undone"] is True,
        "no undo is doubted": "Undo not verified" not in one.cautions,
        "no verdict of what was cut off": one.victim != "conductor" or drill["verdict"] is None,
        "no pass of what was aborted": drill["status"] == "done" or drill["verdict"] != "pass",
        "who undid it": ("The keeper undid what it had changed and verified it at" in one.said)
        is (one.victim == "conductor"),
        # Whether anybody was hurt so slowly is the targets' affair; without that no alert is asked for.
        "the alert": (one.sort, one.victim) != ("never fires", "browser")
        or bool({"KafkaDown: never fired", "KafkaDown: not judged"} & {*drill["alerts"]}),
    }
    return [said for said, holds in checks.items() if not holds]


def kill_each(
    folder: Path,
    stack: StandingStack,
    playwright: Playwright,
    cases: Cases,
    tell: Callable[[str], None] = lambda line: None,
) -> list[Killed]:
    """One day, with a drill for each case; only the last may kill the conductor."""
    looks, last = Looks(stack), cases[-1][1]
    found: list[Killed] = []
    healed: list[tuple[float, float]] = []
    with day_of(folder, stack, cases) as day:
        members = family(day.process.pid)
        seat = Seat(playwright, day.link())
        try:
            for number, (sort, victim) in enumerate(cases, start=1):
                members |= family(day.process.pid)
                at, seconds, seat = Case(day, looks, playwright, number, sort, victim).carry_out(seat)
                healed.append((at, seconds))
                tell(f"{sort}, {victim}: {seconds:.2f} s")
            if last == "conductor":
                day.process.wait(10)
                expect(seat.page.locator("#said")).to_contain_text("the run was lost", timeout=WAIT_MS)
            else:
                members |= family(day.process.pid)
                expect(seat.page.locator("#do-begin")).to_be_enabled(timeout=WAIT_MS)
                press(seat.page, "s", "Skip it: done")
                seat.page.locator("#do-end").click()
                assert day.process.wait(120) == 0, day.text[-3000:]
        finally:
            seat.close()
        assert wait_until(lambda: not still_alive(members), 60), still_alive(members)
        assert wait_until(lambda: not list((stack.state / "harness" / "active").glob("[!.]*")), 30)
        assert stack.snapshot() == looks.before
        if last == "conductor":
            remade(day)
        for number, ((sort, victim), (at, seconds)) in enumerate(zip(cases, healed, strict=True), start=1):
            drill, said, cautions = told(day, number)
            assert ("not closed in order" in cautions) is (last == "conductor"), cautions
            found.append(
                Killed(
                    sort=sort,
                    victim=victim,
                    verified_s=verified(day, drill) - at,
                    healed_s=seconds,
                    drill=drill,
                    said=said,
                    cautions=cautions,
                )
            )
    return found
