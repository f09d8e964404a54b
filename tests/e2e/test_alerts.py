"""A whole run beside the real Prometheus: its alert is in the record, judged, and in the report."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.analysis.run_directory import analyze, read_result
from tests.e2e.observe import Run, wait_until
from tests.support.servers.alerting import Exporter, alerting
from tests.support.servers.ports import free_port

pytestmark = [pytest.mark.slow, pytest.mark.calm, pytest.mark.thorough]

SERVICE = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
open("port", "w").write(str(server.server_address[1]))
open("service.pid", "w").write(str(os.getpid()))
server.serve_forever()
"""

RULES = """
groups:
- name: api
  interval: 1s
  rules:
  - {alert: ApiDown, expr: app_up == 0, for: 2s}
"""
LOCUSTFILE = """
from locust import HttpUser, task
class Reader(HttpUser):
    @task
    def read(self):
        self.client.get("/")
"""
ARGS = (
    *("--locustfile", "locustfile.py", "--rate", "20", "--spawn-rate", "5000", "--warmup", "3s"),
    *("--target", "p95 < 4s", "--target", "baseline: rps >= 50% of plan", "--target", "after: rps >= 50% of plan"),
    *("--request-timeout", "5s", "--baseline", "5s", "--fault", "api-pause", "--fault-for", "8s", "--hold", "4s"),
    *("--recovery-limit", "30s", "--target", "detect{ApiDown} < 15s", "--target", "false_alarms < 1"),
)


@contextmanager
def service(folder: Path) -> Iterator[str]:
    """A service of our own in a process that can be paused; its port."""
    process = subprocess.Popen([sys.executable, "-c", SERVICE], cwd=folder)
    try:
        assert wait_until(lambda: (folder / "service.pid").exists() and bool((folder / "port").read_text()), 30)
        yield (folder / "port").read_text()
    finally:
        process.kill()
        process.wait()


def test_an_alert_that_fires_with_the_fault_is_detected(tmp_path: Path) -> None:
    for attempt in range(3):
        (tmp_path / f"try{attempt}").mkdir()
        run = one_run(tmp_path / f"try{attempt}")
        if run.count("fault_injected"):
            break  # else the machine was too busy for a baseline, and the run has said so
    result = read_result(run.dir)
    assert result.detection is not None, run.text()
    (one,) = result.detection.alerts
    assert one.outcome == "detected" and one.seconds is not None and 0.0 < one.seconds < 8.0, (one, run.text())
    assert one.notified_s is not None and one.least_s == 3.0 and one.false_alarms == 0
    recovered = result.recovery is not None and result.recovery.outcome == "recovered"
    assert (one.resolved_after_s is not None) == recovered or "still fired" in one.why
    judged = {each.target: each.outcome for each in result.targets}
    assert (judged["detect{ApiDown} < 15s"], judged["false_alarms < 1"]) == ("held", "held")
    assert analyze(run.dir).detection == result.detection
    for name in ("report.html", "report.md"):
        assert "ApiDown" in (run.dir / name).read_text()
    assert "alert ApiDown: detected" in run.text()


def one_run(folder: Path) -> Run:
    exporter, webhook = Exporter(), f"127.0.0.1:{free_port()}"
    exporter.metrics = {"app_up": 1.0}
    (folder / "servers").mkdir()
    (folder / "locustfile.py").write_text(LOCUSTFILE)
    with service(folder) as port, alerting(folder / "servers", RULES, exporter, webhook) as (prometheus, _):
        (folder / "harness.toml").write_text(
            f'[target]\nurl = "http://127.0.0.1:{port}"\nmetrics = ""\npid_file = "service.pid"\n'
            f'[alerts]\nprometheus = "{prometheus}"\nwebhook = "{webhook}"\n'
        )
        run = Run(folder, *ARGS, shortened=True)
        try:
            # The exporter tells of the service what somebody beside it would have seen.
            while not run.ended():
                exporter.metrics = {"app_up": float(run.count("fault_injected") == run.count("undone"))}
                time.sleep(0.1)
        finally:
            run.kill_group()
    return run
