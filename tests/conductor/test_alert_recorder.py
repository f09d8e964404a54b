"""alerts.jsonl: every change once, on the run's clock, whatever the sources answer. They are imitated here; the real
ones are in tests/e2e/test_detection.py."""

from __future__ import annotations

import http.server
import json
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from harness.adapters.alerts.listener import listen
from harness.adapters.alerts.told import Active, Told
from harness.conductor.recording.alerts import MAX_CHANGES, AlertRecorder, _Book
from harness.conductor.recording.unresolved import Unresolved
from harness.model.clock import monotonic
from harness.model.jsonl import read_lines
from harness.model.records.alerts import AlertRow, AlertRule, AlertsPlan, Changed, Looked, RuleSeen


class Prometheus(http.server.ThreadingHTTPServer):
    """Answers with what is in `active` (series -> state), or with `instead`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.active: dict[str, str] = {}
        self.instead: bytes | None = None
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self) -> bytes:
        if self.instead is not None:
            return self.instead
        now = datetime.now(UTC).isoformat()
        alerts = [
            {"labels": {"alertname": "Down", "job": job}, "state": state, "activeAt": now}
            for job, state in self.active.items()
        ]
        rule = {"name": "Down", "type": "alerting", "duration": 5, "lastEvaluation": now, "alerts": alerts}
        return json.dumps({"status": "success", "data": {"groups": [{"interval": 1, "rules": [rule]}]}}).encode()


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Prometheus

    def do_GET(self) -> None:
        data = self.server.answer()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def prometheus() -> Iterator[Prometheus]:
    server = Prometheus()
    yield server
    server.shutdown()
    server.server_close()


def rows(out: Path) -> list[AlertRow]:
    return list(read_lines(out, AlertRow)) if out.exists() else []


def states(out: Path) -> list[tuple[str, str]]:
    return [(row.labels, row.state) for row in rows(out) if isinstance(row, Changed)]


def wait(until: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not until():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_each_change_is_a_row_and_another_experiment_begins_with_what_is_active(
    prometheus: Prometheus, tmp_path: Path
) -> None:
    out, other, said = tmp_path / "a.jsonl", tmp_path / "b.jsonl", []
    recorder = AlertRecorder(AlertsPlan(prometheus=prometheus.url), said.append, interval_s=0.05)
    recorder.start(monotonic() - 100.0, out)
    wait(lambda: len(rows(out)) > 3)
    for state in ("pending", "firing"):
        prometheus.active["a"] = state
        wait(lambda state=state: ("job=a", state) in states(out))
    prometheus.active["b"] = "pending"
    wait(lambda: ("job=b", "pending") in states(out))
    recorder.turn_to(monotonic() - 5.0, other)
    wait(lambda: len(states(other)) == 2)
    prometheus.active.clear()
    wait(lambda: len(states(other)) == 4)
    recorder.stop()
    assert states(out) == [("job=a", "pending"), ("job=a", "firing"), ("job=b", "pending")]
    assert sorted(states(other)) == [
        ("job=a", "firing"),
        ("job=a", "resolved"),
        ("job=b", "lapsed"),
        ("job=b", "pending"),
    ]
    first = next(row for row in rows(other) if isinstance(row, Changed))
    assert first.not_before is None and 4.9 < first.at < 30
    changed = next(row for row in rows(out) if isinstance(row, Changed))
    assert changed.clock == "seen" and changed.not_before is not None and 99 < changed.not_before <= changed.at < 130
    for path in (out, other):
        assert [row.rule for row in rows(path) if isinstance(row, RuleSeen)] == [
            AlertRule(alert="Down", for_s=5.0, interval_s=1.0)
        ]
    assert not said


def test_a_source_that_does_not_answer_or_answers_nonsense_is_said_once_and_resolves_nothing(
    prometheus: Prometheus, tmp_path: Path
) -> None:
    out, said = tmp_path / "a.jsonl", []
    prometheus.active["a"] = "firing"
    recorder = AlertRecorder(AlertsPlan(prometheus=prometheus.url), said.append, interval_s=0.05)
    recorder.start(monotonic(), out)
    wait(lambda: bool(states(out)))
    prometheus.instead = b'{"status": NaN}'
    wait(lambda: sum(isinstance(row, Looked) and bool(row.trouble) for row in rows(out)) > 3)
    prometheus.instead = None
    wait(lambda: len(said) == 2)
    recorder.stop()
    assert states(out) == [("job=a", "firing")]
    assert said[0].startswith("alerts are not seen: ") and said[1] == "prometheus answers again: alerts are looked at"


def test_a_refused_host_or_a_port_that_is_taken_fails_no_run(prometheus: Prometheus, tmp_path: Path) -> None:
    for plan in (
        AlertsPlan(prometheus="http://8.8.8.8:9090"),
        AlertsPlan(webhook=prometheus.url.removeprefix("http://")),
    ):
        said: list[str] = []
        recorder = AlertRecorder(plan, said.append)
        recorder.start(monotonic(), tmp_path / "a.jsonl")
        recorder.stop()
        assert len(said) == 1 and said[0].startswith("alerts are not looked at: ")
    assert rows(tmp_path / "a.jsonl") == []


def test_a_run_reads_from_the_listener_that_has_its_port_and_leaves_it_there(tmp_path: Path) -> None:
    said: list[str] = []
    receiver = listen("127.0.0.1", 0, lambda _: None, said.append)
    out = tmp_path / "a.jsonl"
    try:
        recorder = AlertRecorder(AlertsPlan(webhook=f"127.0.0.1:{receiver.port}"), said.append, interval_s=0.05)
        recorder.start(monotonic(), out)
        for status, state in (("firing", "notified"), ("resolved", "resolved")):
            body = {"version": "4", "alerts": [{"status": status, "labels": {"alertname": "Down", "job": "a"}}]}
            request = urllib.request.Request(
                f"http://127.0.0.1:{receiver.port}/", json.dumps(body).encode(), {"Content-Type": "application/json"}
            )
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=5) as reply:
                assert reply.status == 200
            wait(lambda state=state: states(out)[-1:] == [("job=a", state)])  # type: ignore[misc]
        recorder.stop()
        assert {row.source for row in rows(out) if isinstance(row, Changed)} == {"webhook"} and not said
        other = AlertRecorder(AlertsPlan(webhook=f"127.0.0.1:{receiver.port}"), said.append, interval_s=0.05)
        other.start(monotonic(), tmp_path / "b.jsonl")
        wait(lambda: bool(rows(tmp_path / "b.jsonl")))
        receiver.close()
        wait(lambda: any(isinstance(row, Looked) and row.trouble for row in rows(tmp_path / "b.jsonl")))
        other.stop()
        assert said[0].startswith("alerts are not seen: ")
    finally:
        receiver.close()


def active(series: str, state: str = "firing", since: float | None = None) -> Active:
    return Active(alert="A", series=series, labels="", state=state, since=since)  # type: ignore[arg-type]


def test_the_sources_own_instant_counts_only_between_two_looks() -> None:
    def second(our_clock: bool, ago_s: float) -> Changed:
        book, now = _Book("prometheus", our_clock), monotonic()
        book.compared(Told(active=()), now - 1.0, now - 1.0, now - 50.0)
        found = book.compared(Told(active=(active("a", since=time.time() - ago_s),)), now, now, now - 50.0)
        (row,) = [row for row in found if isinstance(row, Changed)]
        return row

    own = second(True, 0.4)
    assert own.clock == "own" and own.at == pytest.approx(49.6, abs=0.1) and own.not_before == pytest.approx(49.0)
    for row in (second(False, 0.4), second(True, 30.0), second(True, -30.0)):
        assert row.clock == "seen" and row.at == pytest.approx(50.0, abs=0.01)


def test_labels_that_are_new_at_each_look_do_not_fill_the_disk() -> None:
    book, now, written = _Book("prometheus", False), monotonic(), 0
    for look in range(MAX_CHANGES // 1_000):
        told = Told(active=tuple(active(f"{look}-{n}") for n in range(1_000)))
        found = book.compared(told, now, now, now)
        written += sum(isinstance(row, Changed) for row in found)
    assert written <= MAX_CHANGES
    (last,) = [row for row in found if isinstance(row, Looked)]
    assert "are not recorded any more" in last.trouble


def test_an_alert_of_before_is_waited_for_until_it_is_inactive(prometheus: Prometheus, tmp_path: Path) -> None:
    recorder = AlertRecorder(AlertsPlan(prometheus=prometheus.url, expected=("Down",)), [].append, interval_s=0.05)
    said: list[str] = []
    assert recorder.active(EXPECTED) == {}
    prometheus.active = {"a": "firing"}
    recorder.start(monotonic(), tmp_path / "a.jsonl")
    try:
        wait(lambda: recorder.active(EXPECTED) == {"Down": 5.0 + 1.0 + 15.0})
        asked = Unresolved(recorder, EXPECTED, said.append)
        assert asked(100.0) == "alert 'Down' is still active, at most 21s" == asked(120.9)
        assert said == ["alert 'Down' is still active: no baseline before it is over, or 21s"]
        assert asked(121.0) == "" and said[1:] == ["alert 'Down' is still active after 21s: it is carried over"]
        assert asked(122.0) == "" and len(said) == 2
        prometheus.active = {"a": "pending"}
        time.sleep(0.2)
        assert recorder.active(EXPECTED) == {"Down": 21.0}, "one that is about to fire is not inactive"
        prometheus.active = {}
        wait(lambda: recorder.active(EXPECTED) == {})
        assert Unresolved(recorder, EXPECTED, said.append)(0.0) == ""
        prometheus.active, prometheus.instead = {"a": "firing"}, b"no"
        wait(lambda: recorder.active(EXPECTED) == {})
        assert Unresolved(recorder, EXPECTED, said.append)(0.0) == "", "nothing is waited for that nobody can see"
    finally:
        recorder.stop()


EXPECTED = ("Down",)


def test_an_alert_that_nobody_expects_is_not_waited_for(prometheus: Prometheus, tmp_path: Path) -> None:
    prometheus.active = {"a": "firing"}
    recorder = AlertRecorder(AlertsPlan(prometheus=prometheus.url), [].append, interval_s=0.05)
    recorder.start(monotonic(), tmp_path / "a.jsonl")
    wait(lambda: bool(recorder.active(EXPECTED)))
    recorder.stop()
    assert recorder.active(("Other",)) == {}
    assert Unresolved(recorder, (), [].append)(0.0) == "" == Unresolved(None, EXPECTED, [].append)(0.0)


def test_how_long_is_waited_is_what_its_rule_needs_within_a_limit() -> None:
    rule = AlertRule(alert="A", for_s=60.0, interval_s=15.0, query="sum_over_time(x[2m:1s]) > rate(y[30s])")
    assert rule.wait_s == 60.0 + 120.0 + 15.0 + 15.0
    assert replace(rule, keep_s=100.0).wait_s == rule.wait_s + 100.0
    assert replace(rule, query="x[1d]").wait_s == 600.0
