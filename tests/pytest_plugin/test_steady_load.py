"""What a steady load says: what was seen, no more than that, and of whom."""

from __future__ import annotations

import threading
import time
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from harness import api
from harness.api import LoadResult


def result(*, ok: int = 0, failed: int = 0, ms: float = 10.0, own_ms: float | None = None) -> LoadResult:
    return LoadResult(
        planned=ok + failed,
        ok=ok,
        failed=failed,
        seconds=10.0,
        errors={"status 500": failed} if failed else {},
        latencies_ms=(ms,) * ok,
        answered_ms=(ms if own_ms is None else own_ms,) * ok,
    )


def test_a_target_that_provably_holds_says_nothing() -> None:
    assert result(ok=100).broken(["error_rate < 5%", "p95 < 200ms"]) == ()


def test_a_broken_target_is_a_sentence_with_its_numbers() -> None:
    assert result(ok=50, failed=50).broken(["error_rate < 5%"]) == (
        "50 of 100 requests failed (50 of them: status 500), which breaks `error_rate < 5%`",
    )
    (said,) = result(ok=100, ms=300.0).broken(["p95 < 200ms"])
    assert said == "p95 was 300ms over 100 successful requests, which breaks `p95 < 200ms`"


def test_too_few_requests_hold_nothing_and_break_nothing() -> None:
    (said,) = result(ok=20).broken(["error_rate < 5%"])
    assert "too few to say that `error_rate < 5%` holds (at least 59, none of them bad)" in said
    assert "breaks" not in said
    (said,) = result().broken(["error_rate < 5%"])
    assert "0 of 0 requests" in said and "too few" in said


def test_what_this_machine_was_late_with_is_not_the_services() -> None:
    (said,) = result(ok=100, ms=300.0, own_ms=10.0).broken(["p95 < 200ms"])
    assert "this machine was too late" in said and "which breaks" not in said


@pytest.mark.parametrize("text", ["recovery < 3s", "fault: error_rate < 1%", "p95 < 2x baseline", "cpu < 50%"])
def test_targets_of_a_run_are_refused(text: str) -> None:
    with pytest.raises(api.UsageError, match="of a run, not of a steady load"):
        result(ok=1).broken([text])


def test_a_function_is_called_at_the_rate_and_its_failures_are_counted() -> None:
    calls = []

    def call() -> None:
        calls.append(1)
        if len(calls) % 2:
            raise ConnectionError("gone")

    load = api.steady_load(call, rate=50)
    time.sleep(1)
    seen = load.stop()
    assert seen.planned == len(calls) == seen.ok + seen.failed
    assert abs(seen.planned - 50 * seen.seconds) <= 2, "due is due, however busy the machine is"
    assert abs(seen.failed - seen.ok) <= 1 and seen.errors == {"ConnectionError: gone": seen.failed}
    assert load.stop() is seen


def test_what_is_due_while_all_wait_has_failed() -> None:
    from harness.conductor.scripts.steady import SteadyCalls

    gate = threading.Event()
    load = SteadyCalls(lambda: gate.wait(30), 50, at_most=2)
    time.sleep(0.5)
    gate.set()
    seen = load.stop()
    assert seen.failed > 0 and list(seen.errors) == ["not sent: 2 were still waiting for their answers"]
    assert seen.planned == seen.ok + seen.failed


def test_a_status_of_400_or_more_is_a_failure_and_strangers_get_no_load() -> None:
    class Answer:
        status_code = 503

    load = api.steady_load(Answer, rate=50)
    time.sleep(0.2)
    assert load.stop().errors.keys() == {"status 503"}
    with pytest.raises(api.UsageError, match="neither loopback nor"):
        api.steady_load("http://192.0.2.1:80/", rate=1)
    with pytest.raises(api.UsageError, match="below which target"):
        api.steady_load("/prices", rate=1)
    with pytest.raises(api.UsageError, match="of one thing"):
        api.steady_load(rate=1)
    with pytest.raises(api.UsageError, match="cannot be sent steadily"):
        api.steady_load(Answer, rate=0)


def test_what_was_due_before_the_stop_is_sent_however_late(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.conductor.scripts import steady

    read, behind = steady.monotonic, threading.Event()

    def starved() -> float:
        if threading.current_thread().name == "steady-load" and not behind.is_set():
            behind.wait(30)  # its thread gets no time
        return read()

    monkeypatch.setattr(steady, "monotonic", starved)
    load = steady.SteadyCalls(lambda: None, 50)
    time.sleep(0.3)
    threading.Timer(0.2, behind.set).start()
    seen = load.stop()
    assert seen.planned == seen.ok and abs(seen.planned - 50 * seen.seconds) <= 2, seen


def test_tables_in_code_are_held_to_the_rules_of_the_file(tmp_path: Path) -> None:
    tables = {
        "target": {"url": "http://127.0.0.1:8000", "name": "shop"},
        "toxiproxy": {"url": "http://127.0.0.1:8474"},
        "dependencies": {"redis": {"kind": "redis", "proxy": 'r"\n\\x', "direct": "127.0.0.1:6379"}},
    }
    path = api.declare(tables, tmp_path / "harness.toml")
    assert tomllib.loads(path.read_text()) == tables
    with pytest.raises(api.UsageError, match="'urll'"):
        api.declare({"target": {"urll": "x"}}, tmp_path / "other.toml")
    with pytest.raises(api.UsageError, match="object is nothing"):
        api.declare({"target": {"url": object()}}, tmp_path / "other.toml")
    assert not (tmp_path / "other.toml").exists()


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(500 if self.path == "/bad" else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Path]:
    """A harness.toml whose target is a server of this test."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        yield api.declare({"target": {"url": url}}, tmp_path / "harness.toml")
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("path", "failed"), [("/", False), ("/bad", True)])
def test_a_path_is_below_the_target(config: Path, path: str, failed: bool) -> None:
    with api.steady_load(path, rate=40, config=config) as load:
        time.sleep(0.5)
    seen = load.stop()
    assert seen.planned > 0 and seen.failed == (seen.planned if failed else 0)
    assert set(seen.errors) == ({"status 500"} if failed else set())
    if not failed:
        median = seen.percentile_ms(50)
        assert median is not None and 0 < median <= seen.latencies_ms[-1]


def test_a_locust_file_sends_its_own_requests(config: Path, tmp_path: Path) -> None:
    file = tmp_path / "locustfile.py"
    file.write_text(
        "import time\nfrom locust import HttpUser, task\nclass U(HttpUser):\n    @task\n    def t(self):\n"
        "        self.client.get('/')\n        time.sleep(0.7)  # so that some come after the stop\n"
        "        self.client.get('/bad')\n"
    )
    with api.steady_load(locustfile=file, rate=20, config=config) as load:
        time.sleep(2)
    seen = load.stop()
    assert seen.ok > 20 and seen.planned == seen.ok + seen.failed == 2 * seen.ok, seen
    assert len(seen.latencies_ms) == seen.ok and seen.error_rate == 0.5
    assert seen.errors == {"/bad: status": seen.failed}
