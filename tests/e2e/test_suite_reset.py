"""A suite on a service that is the user's: what is declared brings it back where it stays dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e.observe import wait_until
from tests.e2e.test_suite import Suite, command, result
from tests.support.servers.ports import free_port

pytestmark = [pytest.mark.slow]

SERVICE = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "2"); self.end_headers(); self.wfile.write(b"ok")
    def log_message(self, *_): pass
class Server(http.server.ThreadingHTTPServer):
    allow_reuse_address = True
server = Server(("127.0.0.1", int(sys.argv[1])), Handler)
open("service.pid", "w").write(str(os.getpid()))
server.serve_forever()
"""
RESET = """
import os, signal, subprocess, sys, time
pid = int(open("service.pid").read())
try: os.kill(pid, signal.SIGKILL)
except ProcessLookupError: pass
time.sleep(0.3)
print("starting it again", flush=True)
subprocess.Popen([sys.executable, "service.py", sys.argv[1]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                 start_new_session=True)
"""
SETTINGS = """
locustfile: users.py
"""


class OwnService:
    """In a folder with a harness.toml and a suite.yaml of two control runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        (folder / "service.py").write_text(SERVICE)
        (folder / "reset.py").write_text(RESET)
        (folder / "users.py").write_bytes((Path(__file__).parent / "locustfile_simple.py").read_bytes())
        self._process = subprocess.Popen([sys.executable, "service.py", str(self.port)], cwd=folder)
        assert wait_until(self.answers), "the service did not start"

    def declare(self, reset: str) -> None:
        text = f'[target]\nurl = "http://127.0.0.1:{self.port}"\nmetrics = ""\n'
        (self.folder / "harness.toml").write_text(text + (f"[suite]\nreset = {reset}\n" if reset else ""))

    def answers(self) -> bool:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=1) as answer:
            return bool(answer.status == 200)
        return False

    @property
    def pid(self) -> int:
        return int((self.folder / "service.pid").read_text())

    def close(self) -> None:
        for pid in {self.pid, self._process.pid}:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[OwnService]:
    found = OwnService(tmp_path)
    yield found
    found.close()


def hung(service: OwnService) -> tuple[Suite, int]:
    """A suite whose service hangs in its first experiment, until it has ended; its exit code."""
    experiments = "experiments:\n- {name: one, faults: [none]}\n- {name: two, faults: [none]}\n" + SETTINGS
    suite = Suite(service.folder, experiments=experiments)
    try:
        assert wait_until(lambda: any(e.get("phase") == "fault" for e in suite.history("01-one")), 100), suite.text()
        time.sleep(0.5)
        os.kill(service.pid, signal.SIGSTOP)
        return suite, suite.end()
    finally:
        suite.kill_group()


@pytest.mark.thorough
def test_a_hanging_service_of_the_user_s_is_brought_back_by_the_declared_command(service: OwnService) -> None:
    service.declare(f'["{sys.executable}", "reset.py", "{service.port}"]')
    before = service.pid
    suite, code = hung(service)
    first, second = suite.suite()["experiments"]
    assert first["outcome"] == "broken" and "reset.py" in first["attempts"][0]["reset"], suite.text()
    assert second["outcome"] == "held" and result(suite.dir / "02-two")["verdict"] == "pass", suite.text()
    assert "starting it again" in (suite.dir / "logs" / "reset.log").read_text()
    assert service.pid != before and service.answers(), "what it started outlives the suite"
    assert code == 1


@pytest.mark.thorough
def test_without_a_declared_command_the_rest_is_not_run(service: OwnService) -> None:
    service.declare("")
    suite, code = hung(service)
    first, second = suite.suite()["experiments"]
    assert first["outcome"] == "broken" and not first["attempts"][0]["reset"], (
        suite.text(),
        result(suite.dir / "01-one"),
    )
    assert second["outcome"] == "not_run" and "it is not ours to start again" in second["why"], suite.text()
    assert code == 1


@pytest.mark.parametrize(
    ("reset", "said"),
    [
        ("[]", "a program and its arguments are wanted"),
        ('["./bring-back", "--password", "hunter2"]', "a password does not belong in this file"),
        ('"./bring-back"', "suite.reset"),
    ],
)
def test_a_wrong_reset_is_refused(service: OwnService, reset: str, said: str) -> None:
    service.declare(reset)
    (service.folder / "suite.yaml").write_text("experiments: [none]\n" + SETTINGS)
    done = command("suite", "suite.yaml", "--rate", "20", cwd=service.folder)
    assert done.returncode == 2 and said in done.stderr and not (service.folder / "runs").exists(), done.stderr


def test_a_file_that_others_may_write_brings_nothing_back(service: OwnService) -> None:
    service.declare('["./bring-back"]')
    (service.folder / "harness.toml").chmod(0o664)
    (service.folder / "suite.yaml").write_text("experiments: [none]\n" + SETTINGS)
    done = command("suite", "suite.yaml", "--rate", "20", cwd=service.folder)
    assert done.returncode == 2 and "may be written by others" in done.stderr, done.stderr
    assert not (service.folder / "runs").exists()
    told = command("plan", "suite.yaml", "--rate", "20", cwd=service.folder)
    assert "run will refuse this" in told.stdout, told.stdout
