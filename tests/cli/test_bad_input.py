"""Bad input: exit code 2, one clear line, and nothing touched.

A case of BAD is the command's own main function in this process, without the half second that Python takes to start;
one of each command, and all others here, are real processes.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.command import command
from tests.support.servers.ports import free_port

HARNESS = Path(sys.executable).parent / "harness"


def harness(*args: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(HARNESS), *args],
        cwd=cwd,
        env={**os.environ, "XDG_STATE_HOME": str(cwd / "state"), **env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


BAD: list[tuple[list[str], str]] = [
    (["run", "--fault", "redis-dwon"], "did you mean 'redis-down'"),
    (["run", "--fault", "mysql-down"], "unknown fault 'mysql-down'"),
    (["run", "--scenario", "targt"], "did you mean 'target'"),
    (["run", "--fault", "redis-latency:latncy=1s"], "did you mean 'latency'"),
    (["run", "--fault", "redis-latency:latency=300"], "300"),
    (["run", "--fault", "redis-latency:latency=-300ms"], "latency"),
    (["run", "--fault", "kafka-connection-limit"], "PostgreSQL"),
    (["run", "--fault", "redis-down", "--fault", "redis-down"], "both set"),
    (["run", "--baseline", "20"], "--baseline"),
    (["run", "--baseline", "1s"], "at least 15s"),
    (["run", "--fault-for", "-20s"], "--fault-for"),
    (["run", "--scale", "7"], "--scale"),
    (["run", "--rate", "nan"], "--rate"),
    (["run", "--users", "-3"], "--users"),
    (["run", "--target", "p95 <"], "p95"),
    (["run", "--target", "p59 < 200ms"], "p95"),
    (["run", "--target", "p95 < 200"], "200"),
    (["run", "--abort-if", "errors > 50%"], "error_rate"),
    (["run", "--host", "http://127.0.0.1:9", "--stack", "embedded"], "--stack embedded"),
    (["run", "--host", "http://127.0.0.1:9", "--fault", "redis-down"], "declares no dependency"),
    (["run", "--host", "ftp://127.0.0.1"], "http"),
    (["run", "--locustfile", "nowhere.py"], "no such file"),
    (["run", "--allow-host", "0.0.0.0/0"], "--allow-host: 0.0.0.0/0 is 4,294,967,296 addresses"),
    (["heal", "--toxiproxy", "http://10.0.0.1", "--allow-host", "::/0"], "name the host"),
    (["plan", "--locustfile", "."], "no Locust file is in this folder"),
    (["plan", "--locustfile", "a.py,b.py"], "a.py: no such file"),
    (["plan", "--locustfile", "http://127.0.0.1/a.py"], "an address"),
    (["rnu"], "did you mean 'run'"),
    (["faults", "redis-dwon"], "did you mean 'redis-down'"),
    (["scenarios", "targt"], "did you mean 'target'"),
    (["analyze", "no-such-folder"], "no-such-folder"),
    (["report", "no-such-folder", "--format", "md"], "no-such-folder"),
    (["check", "no-such.csv"], "no-such.csv"),
]


FIRST = {args[0]: " ".join(args) for args, _ in reversed(BAD)}


def refused(done: subprocess.CompletedProcess[str], says: str, folder: Path) -> None:
    assert done.returncode == 2, done.stderr
    assert says in done.stderr, done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2 and "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not (folder / "runs").exists(), "no run directory was made"


@pytest.mark.parametrize(("args", "says"), BAD, ids=[" ".join(args) for args, _ in BAD])
def test_bad_input_is_one_clear_line_and_touches_nothing(args: list[str], says: str, tmp_path: Path) -> None:
    refused(command(*args, cwd=tmp_path), says, tmp_path)
    if FIRST[args[0]] == " ".join(args):
        refused(harness(*args, cwd=tmp_path), says, tmp_path)


def test_a_locustfile_that_does_not_import_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text("import locust\nraise RuntimeError('no database here')\n")
    done = harness("run", "--locustfile", str(file), cwd=tmp_path)
    assert done.returncode == 2
    assert "no database here" in done.stderr and "broken.py:2" in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2


def test_a_locustfile_without_users_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "empty.py"
    file.write_text("x = 1\n")
    done = harness("plan", "--locustfile", str(file), cwd=tmp_path)
    assert done.returncode == 2 and "user class" in done.stderr.lower()


def test_a_host_that_answers_nothing_is_refused(tmp_path: Path) -> None:
    done = harness("run", "--host", f"http://127.0.0.1:{free_port()}", "--scale", "0.02", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "127.0.0.1" in done.stderr and len(done.stderr.strip().splitlines()) <= 2
    assert not (tmp_path / "runs").exists()


def test_the_sample_apis_requests_are_sent_to_no_service_unasked(tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        done = harness("run", "--host", url, "--fault", "none", cwd=tmp_path)
        planned = harness("plan", "--host", url, "--fault", "none", cwd=tmp_path)
        server.shutdown()
    assert done.returncode == 2, done.stderr
    assert "sample API" in done.stderr and "10,000 a second" in done.stderr and "--locustfile" in done.stderr
    assert not (tmp_path / "runs").exists()
    shown = " ".join(planned.stdout.split())
    assert "those of the sample API" in shown and "10,000 task starts/s" in shown


BASED = """
from locust import HttpUser, LoadTestShape, task
class Base(HttpUser):
    pass
class Shop(Base):
    host = "http://127.0.0.1:1"
    fixed_count = 1
    @task
    def buy(self): self.client.get("/buy")
class Steps(LoadTestShape):
    def tick(self): return None
"""


def test_a_base_class_without_tasks_is_left_out_by_choosing(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(BASED)
    (tmp_path / "locust.conf").write_text("users = 5\n")
    done = harness("plan", "--locustfile", "shop.py", cwd=tmp_path)
    assert done.returncode == 2
    assert "Base has no tasks" in done.stderr and "--user-class" in done.stderr
    chosen = harness("plan", "--locustfile", "shop.py", "--user-class", "Shop", cwd=tmp_path)
    assert chosen.returncode == 0, chosen.stderr
    said = " ".join(chosen.stdout.split())
    for part in ("load shape Steps is ignored", "fixed_count = 1 of Shop", "http://127.0.0.1:1 of Shop is ignored"):
        assert part in said
    assert "locust.conf is not read" in said
    assert f"those of {tmp_path / 'shop.py'}" in said or "shop.py" in said


def test_a_host_that_is_not_loopback_needs_leave(tmp_path: Path) -> None:
    done = harness("run", "--host", "http://192.0.2.1", cwd=tmp_path)
    assert done.returncode == 2 and "--allow-host" in done.stderr


def test_an_unwritable_run_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file, not a folder")
    done = harness("run", "--out", "taken", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "taken" in done.stderr and len(done.stderr.strip().splitlines()) <= 2


def test_plan_touches_nothing_and_says_what_it_would_do(tmp_path: Path) -> None:
    done = harness("plan", "--fault", "redis-down", "--fault", "kafka-latency:latency=500ms@5s+20s", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for words in ("Timeline", "redis-down", "kafka-latency", "undo", "proof", "p95 < 200ms", "Expected mix"):
        assert words in done.stdout, words
    assert list(tmp_path.iterdir()) in ([], [tmp_path / "state"])


def test_plan_says_that_run_will_refuse_the_target_in_the_same_words(tmp_path: Path) -> None:
    (tmp_path / "harness.toml").write_text('[target]\nurl = "http://192.0.2.1"\n')
    for args in (["--fault", "none", "--host", "http://192.0.2.9"], ["--fault", "none"]):
        planned = harness("plan", *args, cwd=tmp_path)
        refused = harness("run", *args, cwd=tmp_path)
        assert planned.returncode == 0 and refused.returncode == 2
        words = re.search(r"\S+ is neither loopback nor a private address", refused.stderr)
        assert words is not None
        assert f"run will refuse this: {refused.stderr.split()[1]}" in " ".join(planned.stdout.split())
        assert words[0] in " ".join(planned.stdout.split())
        assert "run will refuse" not in harness("plan", *args, "--allow-host", "192.0.2.0/24", cwd=tmp_path).stdout


def test_help_of_every_command_is_complete(tmp_path: Path) -> None:
    text = harness("--help", cwd=tmp_path).stdout
    for code in ("0", "1", "2", "3", "4", "5", "130"):
        assert f" {code}  " in text
    for name in ("run", "plan", "faults", "scenarios", "analyze", "report", "check", "heal", "stack"):
        assert f"  {name} " in text
        done = harness(name, "--help", cwd=tmp_path)
        assert done.returncode == 0 and "Usage: harness" in done.stdout, name
