"""The real Prometheus and Alertmanager of PATH, with a programmable exporter, for tests of alerts."""

from __future__ import annotations

import http.server
import os
import shutil
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.servers.ports import free_port

READY_S = 30.0


class Exporter(http.server.ThreadingHTTPServer):
    """Serves what is in `metrics` on /metrics."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Page)
        self.metrics: dict[str, float] = {}
        threading.Thread(target=self.serve_forever, args=(0.1,), daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A scrape that took too long on a busy machine."""


class _Page(http.server.BaseHTTPRequestHandler):
    server: Exporter

    def do_GET(self) -> None:
        data = "".join(f"{name} {value}\n" for name, value in dict(self.server.metrics).items()).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def programs() -> tuple[str, str]:
    """Paths of Prometheus and Alertmanager; skips the test without them, unless HARNESS_REQUIRE_PROMETHEUS=1 makes that
    a failure."""
    prometheus = shutil.which("prometheus")
    alertmanager = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if prometheus is None or alertmanager is None:
        if os.environ.get("HARNESS_REQUIRE_PROMETHEUS") == "1":
            pytest.fail("HARNESS_REQUIRE_PROMETHEUS=1, and prometheus and prometheus-alertmanager are not on PATH")
        pytest.skip("needs prometheus and prometheus-alertmanager on PATH")
    return prometheus, alertmanager


@contextmanager
def alerting(
    folder: Path, rules: str, exporter: Exporter, webhook: str, inhibit: str = "[]"
) -> Iterator[tuple[str, str]]:
    """URLs of a Prometheus that scrapes the exporter twice a second and evaluates `rules`, and of its Alertmanager."""
    prometheus, alertmanager = programs()
    one, other = free_port(), free_port()
    (folder / "rules.yml").write_text(rules)
    (folder / "prometheus.yml").write_text(f"""
global: {{scrape_interval: 500ms, scrape_timeout: 400ms, evaluation_interval: 1s}}
rule_files: [rules.yml]
alerting: {{alertmanagers: [{{static_configs: [{{targets: ["127.0.0.1:{other}"]}}]}}]}}
scrape_configs: [{{job_name: shop, static_configs: [{{targets: ["{exporter.address}"]}}]}}]
""")
    (folder / "alertmanager.yml").write_text(f"""
route: {{receiver: harness, group_by: [alertname], group_wait: 100ms, group_interval: 1s, repeat_interval: 1h}}
receivers: [{{name: harness, webhook_configs: [{{url: "http://{webhook}/", send_resolved: true}}]}}]
inhibit_rules: {inhibit}
""")
    commands = (
        [
            prometheus,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{one}",
            "--rules.alert.resend-delay=1s",
        ],
        [
            alertmanager,
            f"--config.file={folder / 'alertmanager.yml'}",
            f"--storage.path={folder / 'alertmanager'}",
            f"--web.listen-address=127.0.0.1:{other}",
            "--cluster.listen-address=",
        ],
    )
    started = []
    with (folder / "servers.log").open("wb") as log:
        try:
            for command in reversed(commands):
                started.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=folder))
            for port in (one, other):
                _wait(f"http://127.0.0.1:{port}/-/ready", folder / "servers.log")
            yield f"http://127.0.0.1:{one}", f"http://127.0.0.1:{other}"
        finally:
            for process in started:
                process.terminate()
            for process in started:
                process.wait(10)


def _wait(url: str, log: Path) -> None:
    until = time.monotonic() + READY_S
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < until:
        try:
            with opener.open(url, timeout=1) as reply:
                if reply.status == 200:
                    return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"{url} was not ready: {log.read_text()[-2000:]}")
