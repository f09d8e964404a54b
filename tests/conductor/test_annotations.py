"""Phases and faults as annotations. The Grafana here is an imitation of its two calls: the real one is under a licence
that keeps it out of this project's machines, so what it makes of them was not tried (docs/containers.md)."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.conductor.recording.annotations import Annotations
from harness.conductor.recording.history import History
from harness.model.clock import monotonic
from harness.model.records.events import FaultInjected, LoadEnded, PhaseStarted, Undone, UndoVerified


class Imitation(http.server.ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.made: list[dict[str, Any]] = []
        self.refuse = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Imitation

    def do_GET(self) -> None:
        self._answer(200, {"database": "ok"})

    def do_POST(self) -> None:
        body = self._body()
        if self.server.refuse:
            self._answer(403, {"message": "no"})
            return
        self.server.made.append(body)
        self._answer(200, {"id": len(self.server.made), "message": "Annotation added"})

    def do_PATCH(self) -> None:
        self.server.made[int(self.path.rpartition("/")[2]) - 1] |= self._body()
        self._answer(200, {"message": "Annotation patched"})

    def _body(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        return found

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def grafana() -> Iterator[Imitation]:
    with Imitation() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_phases_and_faults_are_stretches_at_their_recorded_times(grafana: Imitation, tmp_path: Path) -> None:
    history, said = History(tmp_path / "history.jsonl", "e", lambda _: None), list[str]()
    annotations = Annotations(grafana.url, "run-1", history, said.append)
    history.start(monotonic())
    epoch_ms = time.time() * 1000
    history.add(PhaseStarted, phase="baseline", start_s=1.0)
    history.add(PhaseStarted, phase="fault", start_s=16.0)
    history.add(FaultInjected, fault="redis-down", at=16.1, sent_s=16.09)
    history.add(Undone, fault="redis-down", at=26.2, sent_s=26.1)
    history.add(UndoVerified, fault="redis-down", at=26.4)
    history.add(LoadEnded, end_s=60.0)
    until = monotonic() + 20
    while len(grafana.made) < 3 or "timeEnd" not in grafana.made[1]:
        assert monotonic() < until, (grafana.made, said)
        time.sleep(0.01)
    annotations.close()
    seen = [(one["text"], one["tags"], one["time"] - epoch_ms, one["timeEnd"] - one["time"]) for one in grafana.made]
    assert [(text, tags) for text, tags, _, _ in seen] == [
        ("phase: baseline (run-1)", ["harness", "phase"]),
        ("phase: fault (run-1)", ["harness", "phase"]),
        ("fault: redis-down (run-1)", ["harness", "fault"]),
    ]
    assert [round(length) for *_, length in seen] == [15_000, 44_000, 10_100]
    assert [start for *_, start, _ in seen] == pytest.approx([1_000, 16_000, 16_100], abs=250)
    assert said == []


def test_a_grafana_that_refuses_is_told_once_and_stops_nothing(grafana: Imitation, tmp_path: Path) -> None:
    grafana.refuse = True
    history, said = History(tmp_path / "history.jsonl", "e", lambda _: None), list[str]()
    annotations = Annotations(grafana.url, "run-1", history, said.append)
    history.start(monotonic())
    for start in range(5):
        history.add(PhaseStarted, phase="baseline", start_s=float(start))
    until = monotonic() + 20
    while not said:
        assert monotonic() < until
        time.sleep(0.01)
    annotations.close()
    assert len(said) == 1 and "HTTP 403" in said[0], said


def test_a_grafana_that_never_comes_up_does_not_hold_the_end_up(tmp_path: Path) -> None:
    history, said = History(tmp_path / "history.jsonl", "e", lambda _: None), list[str]()
    annotations = Annotations("http://127.0.0.1:1", "run-1", history, said.append)
    history.start(monotonic())
    annotations.close()
    assert len(said) == 1 and "does not answer" in said[0], said
