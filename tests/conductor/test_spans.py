"""Spans over OTLP, with opentelemetry's own exporter. The receiver stands in for a collector: it decodes what arrives
by opentelemetry-proto, as one does, and no more. A real one takes its place where there is one."""

from __future__ import annotations

import http.server
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from harness.conductor.recording.history import History
from harness.conductor.recording.spans import Spans
from harness.model.clock import monotonic
from harness.model.records import events as ev
from harness.model.records.plan import Plan
from tests.report.sample import plan_of
from tests.support.servers.ports import free_port

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


class Receiver(http.server.ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Traces)
        self.spans: list[Span] = []
        self.resources: list[dict[str, str]] = []
        self.status = 200

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Traces(http.server.BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.status == 200 and self.path == "/v1/traces":
            for group in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.server.resources.append({a.key: a.value.string_value for a in group.resource.attributes})
                self.server.spans += [span for scope in group.scope_spans for span in scope.spans]
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    with Receiver() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv(ENDPOINT, server.url)
        yield server
        server.shutdown()


def planned() -> Plan:
    plan = plan_of("fail")
    once = msgspec.structs.replace(plan.faults[0], id="redis-kill", for_s=None)
    load = msgspec.structs.replace(plan.load, run="20261123T160000.000Z")
    return msgspec.structs.replace(plan, load=load, faults=(*plan.faults, once))


def happen(history: History) -> None:
    history.start(monotonic())
    history.add(ev.PhaseStarted, phase="baseline", start_s=1.0)
    history.add(ev.PhaseStarted, phase="fault", start_s=16.0)
    history.add(ev.FaultInjected, fault="redis-kill", at=16.2, sent_s=16.1)
    history.add(ev.FaultInjected, fault="redis-down", at=16.1, sent_s=16.09)
    history.add(ev.Undone, fault="redis-down", at=26.2, sent_s=26.1)
    history.add(ev.UndoVerified, fault="redis-down", at=26.4)
    history.add(ev.FaultInjected, fault="db-pause", at=27.0, sent_s=26.9)
    history.add(ev.UndoNotVerified, fault="db-pause", at=40.0, left="db is paused", mend="resume it")
    history.add(ev.LoadEnded, end_s=60.0)
    history.add(ev.Note, text="the end", at=61.0)


def text(span: Span, key: str) -> str:
    return next((a.value.string_value for a in span.attributes if a.key == key), "")


def test_run_phases_and_faults_are_one_trace(receiver: Receiver, tmp_path: Path) -> None:
    said: list[str] = []
    history = History(tmp_path / "history.jsonl", "e", said.append)
    spans = Spans.wanted(said.append)
    assert spans is not None
    spans.follow(planned(), history)
    epoch = time.time()
    happen(history)
    spans.over()
    spans.close()
    assert said == []
    by_name = {span.name: span for span in receiver.spans}
    names = ("run", "phase baseline", "phase fault", "fault redis-down", "fault redis-kill", "fault db-pause")
    assert sorted(by_name) == sorted(names) and len(receiver.spans) == len(names)
    run = by_name["run"]
    assert not run.parent_span_id and text(run, "harness.experiment") == planned().experiment
    assert {span.trace_id for span in receiver.spans} == {run.trace_id} and run.trace_id.strip(b"\0")
    assert {span.parent_span_id for name, span in by_name.items() if name != "run"} == {run.span_id}
    assert len({span.span_id for span in receiver.spans}) == len(names)
    lasted = {name: round((s.end_time_unix_nano - s.start_time_unix_nano) / 1e9, 3) for name, s in by_name.items()}
    assert lasted == {
        "run": 61.0, "phase baseline": 15.0, "phase fault": 44.0, "fault redis-down": 10.1, "fault redis-kill": 0.1,
        "fault db-pause": 13.0,
    }  # fmt: skip
    assert by_name["fault redis-down"].start_time_unix_nano / 1e9 - epoch == pytest.approx(16.1, abs=0.5)
    assert text(by_name["fault redis-down"], "harness.undo") == "undone"
    assert by_name["fault db-pause"].status.code == 2 and by_name["fault redis-down"].status.code == 0
    assert all(r["harness.run"] == "20261123T160000.000Z" for r in receiver.resources)
    assert all(r["service.name"] == "resilience-harness" for r in receiver.resources)


def test_what_was_held_back_is_sent_afterwards(receiver: Receiver, tmp_path: Path) -> None:
    said: list[str] = []
    history = History(tmp_path / "history.jsonl", "e", said.append)
    happen(history)
    spans = Spans.wanted(said.append)
    assert spans is not None
    spans.over()  # of an experiment that was not followed
    spans.afterwards(planned(), history.events)
    spans.close()
    assert len(receiver.spans) == 6 and said == []


def failing(said: list[str], folder: Path) -> float:
    """A whole experiment; how long the end of it waits."""
    history = History(folder / "history.jsonl", "e", said.append)
    spans = Spans.wanted(said.append)
    assert spans is not None
    spans.follow(planned(), history)
    start = time.monotonic()
    happen(history)
    assert time.monotonic() - start < 5.0
    until = time.monotonic() + 20
    while not said and time.monotonic() < until:
        time.sleep(0.02)
    start = time.monotonic()
    for _ in range(3):
        spans.over()
    spans.close()
    return time.monotonic() - start


def test_a_collector_that_fails_is_told_once(receiver: Receiver, tmp_path: Path) -> None:
    receiver.status = 400
    said: list[str] = []
    assert failing(said, tmp_path) < 1.0
    assert len(said) == 1 and "the run's spans are not sent: the collector at 127.0.0.1:" in said[0]


def test_a_collector_that_hangs_costs_nothing_and_is_told_once(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        monkeypatch.setenv(ENDPOINT, f"http://me:secret@127.0.0.1:{mute.getsockname()[1]}")
        said: list[str] = []
        assert failing(said, tmp_path) < 1.0
    assert len(said) == 1 and "did not take them in 2 s" in said[0] and "secret" not in said[0]
    assert "opentelemetry" not in capfd.readouterr().err


def test_another_protocol_is_told_once(receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    said: list[str] = []
    failing(said, tmp_path)
    assert len(said) == 1 and "only http/protobuf is known, not 'grpc'" in said[0] and not receiver.spans


def test_without_the_extra_it_is_told_once(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['opentelemetry.sdk.trace.export'] = None\n"
        "from pathlib import Path\n"
        "from tests.conductor.test_spans import failing\n"
        "import opentelemetry.proto\n"
        f"said = []; failing(said, Path({str(tmp_path)!r})); print(said)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, ENDPOINT: "http://127.0.0.1:9", "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.count("not sent") == 1 and "pip install 'resilience-harness[otel]'" in done.stdout


def test_nobody_asked_means_none() -> None:
    assert Spans.wanted(print, {}) is None
    assert Spans.wanted(print, {ENDPOINT: ""}) is None
    assert Spans.wanted(print, {ENDPOINT: "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"}) is None


def test_a_real_collector_takes_them(receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where otelcol is on PATH, with the otlp receiver and the debug exporter:
    go.opentelemetry.io/collector/cmd/builder makes one in minutes."""
    program = shutil.which("otelcol")
    if program is None:
        pytest.skip("needs otelcol on PATH")
    port, config, log = free_port(), tmp_path / "otelcol.yaml", tmp_path / "otelcol.log"
    config.write_text(
        f'receivers: {{otlp: {{protocols: {{http: {{endpoint: "127.0.0.1:{port}"}}}}}}}}\n'
        "exporters: {debug: {verbosity: detailed}}\n"
        "service: {telemetry: {metrics: {level: none}}, pipelines: {traces: {receivers: [otlp], exporters: [debug]}}}\n"
    )
    monkeypatch.setenv(ENDPOINT, f"http://127.0.0.1:{port}")
    with log.open("wb") as out:
        collector = subprocess.Popen([program, f"--config={config}"], stdout=out, stderr=out)
        try:
            until = time.monotonic() + 30
            while "Everything is ready" not in log.read_text():
                assert collector.poll() is None and time.monotonic() < until, log.read_text()[-2000:]
                time.sleep(0.1)
            said: list[str] = []
            history = History(tmp_path / "history.jsonl", "e", said.append)
            spans = Spans.wanted(said.append)
            assert spans is not None
            happen(history)
            spans.afterwards(planned(), history.events)
            spans.close()
            assert said == []
            until = time.monotonic() + 10
            while log.read_text().count("Trace ID") < 6 and time.monotonic() < until:
                time.sleep(0.1)
        finally:
            collector.terminate()
            collector.wait(10)
    text = log.read_text()
    for name in ("run", "phase baseline", "phase fault", "fault redis-down", "fault redis-kill", "fault db-pause"):
        assert f": {name}\n" in text, text[-3000:]
    assert "-> harness.run: Str(20261123T160000.000Z)" in text and "-> harness.undo: Str(not verified)" in text
