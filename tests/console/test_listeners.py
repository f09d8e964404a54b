"""Both listeners of a real console: who comes in, who may what, and what changes nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.console.invitations import Wanted
from harness.console.protocol import Listen
from harness.gameday.commands import ALLOWED
from harness.gameday.terminal import status
from harness.model.clock import monotonic
from harness.model.jsonl import encode_line
from tests.console.seats import EVIL, Browser, Day, Stream, day, live
from tests.e2e.observe import wait_until

OPERATORS_ALONE = sorted(ALLOWED["operator"] - ALLOWED["observer"] - ALLOWED["responder"])


@pytest.fixture
def open_day(tmp_path: Path) -> Iterator[Day]:
    with day(tmp_path) as found:
        yield found


def operator(found: Day) -> Browser:
    browser = Browser(found.console.port)
    assert browser.enter(found.link()) == 303
    return browser


def guest(found: Day, role: str = "observer", name: str = "Grace") -> Browser:
    browser = Browser(found.console.guests_port, tls=True)
    assert browser.enter(found.console.doors.invite(name, role)) == 303  # type: ignore[arg-type]
    return browser


def test_a_link_lets_one_browser_in_once_and_looking_at_it_does_not_use_it_up(open_day: Day) -> None:
    token, nobody = open_day.link(), Browser(open_day.console.port)
    assert nobody.ask("GET", "/")[0] == 403 and nobody.ask("GET", "/stream")[0] == 403
    assert nobody.do("note", text="x")[0] == 404
    for _ in range(3):
        assert nobody.ask("GET", f"/enter/{token}")[0] == 200
    browser = operator(open_day)
    code, page, headers = browser.ask("GET", "/")
    assert code == 200 and "Ada (operator)" in page and "default-src 'none'" in headers["content-security-policy"]
    assert Browser(open_day.console.port).enter(token) == 403
    assert Browser(open_day.console.port).enter("x" * 90) == 403


def test_the_cookie_is_for_this_site_and_no_script(open_day: Day) -> None:
    _, _, headers = Browser(open_day.console.port).ask("POST", f"/enter/{open_day.link()}")
    cookie = headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie and "secure" not in cookie
    token = open_day.console.doors.invite("Grace", "observer")
    _, _, headers = Browser(open_day.console.guests_port, tls=True).ask("POST", f"/enter/{token}")
    assert "secure" in headers["set-cookie"].lower()


def test_an_operator_whose_browser_was_lost_comes_in_again_and_takes_the_seat_along(
    open_day: Day, tmp_path: Path
) -> None:
    def asked(name: str) -> str:
        return open_day.invite(Wanted(name=name, role="operator"))

    lost = operator(open_day)
    unused, link = asked("Ada"), asked("Grace")
    assert link.startswith(open_day.console.address)
    assert lost.ask("GET", "/")[0] == 200, "a link that nobody opens takes nothing away"
    again = Browser(open_day.console.port)
    assert again.enter(unused.rpartition("/")[2]) == 403, "the newest one is good"
    assert again.enter(link.rpartition("/")[2]) == 303 and again.do("note", text="back")[0] == 200
    assert wait_until(lambda: lost.ask("GET", "/")[0] == 403, 5), "there is one operator"
    assert [(act.who, act.role) for act in open_day.desk.acts] == [("Grace", "operator")]
    # On no page: whoever has the seat is no matter of the console's.
    assert json.loads(again.ask("POST", "/invite", {"name": "Eve", "role": "operator"})[1])["why_not"]
    assert open_day.console._invite("Eve", "operator", revoke=False) == ""


def test_a_link_is_good_at_its_own_listener_alone(open_day: Day) -> None:
    doors = open_day.console.doors
    assert Browser(open_day.console.guests_port, tls=True).enter(open_day.link()) == 403
    assert Browser(open_day.console.port).enter(doors.invite("Grace", "observer")) == 403
    own = operator(open_day)
    there = Browser(open_day.console.guests_port, tls=True, cookie=own.cookie)
    assert there.ask("GET", "/")[0] == 403


def test_the_operator_s_orders_reach_the_loop_and_are_written_down(open_day: Day) -> None:
    browser = operator(open_day)
    assert browser.do("note", text=EVIL) == (200, '{"why_not":""}')
    assert browser.do("tick", what="1") == (200, '{"why_not":""}')
    assert json.loads(browser.do("tick", what="9")[1])["why_not"]
    assert json.loads(browser.do("extend", by="30 parsecs")[1])["why_not"]
    assert browser.do("begin") == (200, '{"why_not":""}')
    assert open_day.taken == ["proceed"]
    kinds = [(act.who, act.kind) for act in open_day.desk.acts]
    assert kinds == [("Ada", "note"), ("Ada", "tick"), ("Ada", "begin")]


def test_a_fault_is_injected_by_a_form_with_its_parameters(open_day: Day) -> None:
    browser = operator(open_day)
    assert json.loads(browser.do("inject", fault="kafka-down")[1])["why_not"] == "unknown fault 'kafka-down'"
    fields = {"fault": "redis-latency", "param-latency": "1s"}
    assert browser.ask("POST", "/do/inject", fields)[1] == '{"why_not":""}'
    begun = open_day.desk.begins()
    assert begun is not None and begun.drill.faults == ("redis-latency:latency=1s",)


@pytest.mark.parametrize("role", ["observer", "responder"])
def test_a_guest_finds_nothing_that_breaks(open_day: Day, role: str) -> None:
    browser = guest(open_day, role)
    code, page, _ = browser.ask("GET", "/")
    assert code == 200 and f"Grace ({role})" in page and "/do/begin" not in page and "/do/inject" not in page
    for kind in OPERATORS_ALONE:
        code, body, _ = browser.ask("POST", f"/do/{kind}", {"fault": "redis-latency", "by": "30s"})
        assert (code, body) == (404, "not found"), kind
    assert browser.ask("POST", "/invite", {"name": "Eve", "role": "observer"})[0] == 404
    assert open_day.taken == [] and open_day.desk.acts == []
    assert browser.do("abort") == (200, '{"why_not":""}') and open_day.taken == ["abort"]


def test_roles_among_guests(open_day: Day) -> None:
    observer, responder = guest(open_day), guest(open_day, "responder", "Bo")
    assert observer.do("see", text="x")[0] == 404 and responder.do("tick", what="1")[0] == 404
    assert observer.do("tick", what="1")[0] == 200 and responder.do("think", text="the db")[0] == 200
    assert [(act.who, act.role, act.kind) for act in open_day.desk.acts] == [
        ("Grace", "observer", "tick"),
        ("Bo", "responder", "think"),
    ]


def test_a_seat_that_was_taken_away_is_none(open_day: Day) -> None:
    browser, own = guest(open_day), operator(open_day)
    fields = {"name": "Grace", "role": "observer", "revoke": "1"}
    assert own.ask("POST", "/invite", fields)[1] == '{"why_not":""}'
    assert wait_until(lambda: browser.ask("GET", "/")[0] == 403, 5)
    assert browser.do("note", text="x")[0] == 404
    assert json.loads(own.ask("POST", "/invite", fields)[1])["why_not"]


def test_what_comes_from_elsewhere_changes_nothing(open_day: Day) -> None:
    browser = operator(open_day)
    own = f"127.0.0.1:{open_day.console.port}"
    for headers, code in (
        ({"Host": "evil.example"}, 421),
        ({"Host": f"evil.example:{open_day.console.port}"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": f"https://{own}"}, 403),
        ({"Origin": ""}, 403),
    ):
        assert browser.ask("POST", "/do/begin", {}, **headers)[0] == code, headers
    assert browser.ask("PUT", "/do/begin")[0] == 405 and browser.ask("GET", "/do/begin")[0] == 404
    assert browser.ask("POST", "/do/note", {"text": "x" * 20_000})[0] == 413
    assert json.loads(browser.do("note", text="x" * 600)[1])["why_not"]
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/enter/", "/../../etc/passwd", "/do/", "/do/started"):
        code, body, _ = browser.ask("GET", path)
        assert code == 404 and "import" not in body and "root:" not in body, path
    assert open_day.taken == [] and open_day.desk.acts == []


def test_nothing_from_outside_is_markup(open_day: Day) -> None:
    browser = operator(open_day)
    browser.do("note", text=EVIL)
    browser.ask("POST", "/do/action", {"text": EVIL, "owner": EVIL[:50], "severity": "high"})
    open_day.desk.shows(live("fault", EVIL), {EVIL: "firing"}, {"redis": {EVIL: 3.0, "at": 1.0}})
    assert wait_until(lambda: "proven" in browser.ask("GET", "/")[1], 10)
    _, page, _ = browser.ask("GET", "/")
    assert page.count(">3</td>") == 1 and page.count('class="alert firing"') == 1
    assert page.count("<script") == 1 and "&lt;script&gt;" in page


def test_what_a_blind_drill_breaks_is_on_no_page_and_in_no_stream_of_a_guest(open_day: Day) -> None:
    own, responder, observer = operator(open_day), guest(open_day, "responder", "Bo"), guest(open_day)
    own.do("skip")
    own.do("begin")
    begun = open_day.desk.begins()
    assert begun is not None
    streams = [Stream(one) for one in (responder, observer)]
    open_day.desk.starts(begun, "drill-02", open_day.orders)
    alerts = {"ApiSlow": "firing", "DbDown": "inactive", "DbSlow": "not seen"}
    open_day.desk.shows(live("fault", "db-latency"), alerts, {"db": {"connections": 7.0}})
    assert wait_until(lambda: "db-latency" in own.ask("GET", "/")[1] and "DbDown" in own.ask("GET", "/")[1], 10)
    told = [one.ask("GET", "/")[1] for one in (responder, observer)]
    assert all("drill 2 is on: blind" in page and "ApiSlow" in page for page in told)
    told.append(encode_line(open_day.desk.board(hidden=True)).decode())
    open_day.desk.judged(2, "broken by db")
    # Over, and the wait has not shown itself yet: what the drill showed last is still there.
    open_day.desk.over(2, 0.0)
    open_day.desk._question = "db: the limit is 7"
    told += [encode_line(open_day.desk.board(hidden=True)).decode(), *status(open_day.desk)]
    assert wait_until(lambda: "between drills" in responder.ask("GET", "/")[1], 10)
    told += [one.ask("GET", "/")[1] for one in (responder, observer)]
    open_day.desk.waits(open_day.orders)
    open_day.desk._question = ""
    for one in streams:
        assert one.says("between drills") and "drill 2 is on: blind" in one.text()
    words = re.compile(r"\bdb|latency|slow store|proven|connections|\bfault\b", re.I)
    for outlet in (*told, *(one.text() for one in streams)):
        outlet = outlet.replace("Clear the fault", "")  # the name of a button
        found = words.search(outlet)
        assert found is None, outlet[found.start() - 100 : found.end() + 100]
    own.do("reveal")
    assert wait_until(lambda: "slow store" in responder.ask("GET", "/")[1], 10)
    assert all(one.says("slow store") for one in streams)


def test_a_console_that_is_killed_ends_what_is_on_and_comes_back_with_everybody_s_seats(open_day: Day) -> None:
    own = operator(open_day)
    own.do("begin")
    begun = open_day.desk.begins()
    assert begun is not None
    open_day.desk.starts(begun, "drill-01", open_day.orders)
    open_day.taken.clear()
    before = open_day.console.pid
    os.kill(before, signal.SIGKILL)
    assert wait_until(lambda: open_day.taken == ["abort"], 5)
    assert wait_until(lambda: open_day.console.pid != before and _answers(own), 20)
    assert own.do("note", text="still here")[0] == 200
    assert any("what was on was aborted" in line for line in open_day.said)
    lost = next(act for act in open_day.desk.acts if act.kind == "abort")
    assert (lost.who, lost.text, lost.drill) == ("harness", "console lost", 1)


def test_a_console_that_is_killed_between_drills_says_nothing_of_an_abort(open_day: Day) -> None:
    before = open_day.console.pid
    os.kill(before, signal.SIGKILL)
    assert wait_until(lambda: any("was started again" in line for line in open_day.said), 20)
    assert not any("aborted" in line for line in open_day.said) and open_day.taken == []


def _answers(browser: Browser) -> bool:
    try:
        return browser.ask("GET", "/")[0] == 200
    except OSError:
        return False


def test_whoever_asks_too_often_is_told_so_and_an_abort_still_goes_through(open_day: Day) -> None:
    own, stranger = operator(open_day), Browser(open_day.console.port)
    codes: list[int] = []

    def flood() -> None:
        for _ in range(150):
            codes.append(stranger.ask("POST", "/do/begin")[0])

    threads = [threading.Thread(target=flood) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert own.do("abort")[0] == 200
    for thread in threads:
        thread.join()
    assert set(codes) <= {404, 429} and 429 in codes and open_day.taken == ["abort"]


def test_a_console_ends_with_its_run(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "harness.console.process"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdin is not None and child.stdout is not None
    child.stdin.write(encode_line(Listen(port=0)))
    child.stdin.flush()
    assert b"Listening" in child.stdout.readline()
    child.stdin.close()
    assert child.wait(20) == 0
    child.stdout.close()


def test_a_console_that_hangs_does_not_keep_the_run_from_its_end(tmp_path: Path) -> None:
    with day(tmp_path) as found:
        os.kill(found.console.pid, signal.SIGSTOP)
        idle = deque([True] * 20, maxlen=20)
        assert wait_until(lambda: idle.append(found.console.idle) or not any(idle), 30), "the pipe never filled"
        begun = monotonic()
    assert monotonic() - begun < 30
