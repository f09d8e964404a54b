"""`harness alerts listen`, with the real command: what comes is printed, harmless, until it is stopped."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

from tests.cli.test_bad_input import harness
from tests.support.servers.ports import free_port

HARNESS = Path(sys.executable).parent / "harness"
HOSTILE = "Down\x1b[2J\n::error::x"


def post(port: int, body: object) -> None:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=5) as reply:
        assert reply.status == 200


def test_what_comes_is_printed_and_a_second_listener_is_refused() -> None:
    port = free_port()
    command = [str(HARNESS), "alerts", "listen", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        listened(process, port)


def listened(process: subprocess.Popen[str], port: int) -> None:
    try:
        assert process.stdout is not None and process.stderr is not None
        assert f"listening on http://127.0.0.1:{port}/" in process.stderr.readline()
        post(port, {"version": "4", "alerts": [{"status": "firing", "labels": {"alertname": HOSTILE, "job": "shop"}}]})
        line = process.stdout.readline()
        assert "notified  Down\\x1b[2J\\n" in line and "job=shop" in line and "\x1b" not in line
        other = harness("alerts", "listen", "--port", str(port), cwd=Path.cwd())
        assert other.returncode == 2 and "the webhook cannot listen on 127.0.0.1" in other.stderr
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
        assert process.returncode == 0 and out == "" and err == ""
    finally:
        process.kill()
