"""`harness plan SUITE.yaml`, with the real command."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.cli.test_bad_input import harness

FILE = """\
name: checkout
profile: quick
exclude: {kafka-kill: "the broker is shared"}
rate: 100
seed: 7
experiments:
  - redis-flush
  - name: slow database
    faults: [db-latency:latency=1s]
    targets: ["fault: p95 < 2s"]
    may_fail: [/api/v1/predict]
    must_hold: [/health, /nowhere]
    fault_for: 30s
    weight: 2
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "suite.yaml").write_text(FILE)
    return tmp_path


def test_every_experiment_what_is_left_out_and_what_may_stay_undecided(folder: Path) -> None:
    done = harness("plan", "suite.yaml", cwd=folder)
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    for words in (
        "checkout: 15 experiments, about",
        "seed 7",
        "1 redis-down 15s 20s 20s 1m",  # /health gets 5 a second
        "13 control",
        "15 slow database 15s 30s 20s",
        "targets fault: p95 < 2s, fault: error_rate{/health} < 5%, fault: p95{/health} < 2s",
        "may fail /api/v1/predict",
        "must hold /health, /nowhere",
        "weight 2",
        "Left out kafka-kill: the broker is shared",
        "AnomalyDetectionUser.health_check, 5% of the load: at most about 50 in redis-flush",
        "/nowhere: no task of the locustfile is named like it",
    ):
        assert words in said, words
    typed = harness("plan", "suite.yaml", "--rate", "2000", cwd=folder)
    assert "health_check, 5%" not in typed.stdout and "1 redis-down" in typed.stdout


def test_the_plans_as_json(folder: Path) -> None:
    (folder / "harness.toml").write_text('[requests."/api/v1/anomalies"]\nmay_fail_with = ["redis"]\n')
    done = harness("plan", "suite.yaml", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert (made["name"], made["profile"], len(made["experiments"])) == ("checkout", "quick", 15)
    assert made["left"] == [{"name": "kafka-kill", "why": "the broker is shared"}]
    last = made["experiments"][-1]
    assert last["plan"]["load"]["seed"] == 7 and last["plan"]["faults"][0]["id"] == "db-latency"
    # What is expected of this experiment, beside what harness.toml says of all.
    assert last["plan"]["may_fail_with"] == {"/api/v1/anomalies": ["redis"], "/api/v1/predict": ["db"]}
    assert made["experiments"][0]["plan"]["may_fail_with"] == {"/api/v1/anomalies": ["redis"]}
    assert made["seconds"] > sum(one["seconds"] for one in made["experiments"])


OURS_NOT = """\
[target]
url = "http://127.0.0.1:9"
[toxiproxy]
url = "http://127.0.0.1:9"
[dependencies.redis]
kind = "redis"
proxy = "redis"
direct = "127.0.0.1:9"
allow = ["flush"]
"""


@pytest.mark.parametrize(("allow", "runs"), [("", False), ("allow: [redis-flush]\n", False), ("allow: [wipe]\n", True)])
def test_what_loses_data_is_left_out_of_a_list_on_somebody_s_stack_unless_allowed(
    tmp_path: Path, allow: str, runs: bool
) -> None:
    (tmp_path / "harness.toml").write_text(OURS_NOT)
    other = "  - redis-flush\n" if "flush" in allow else "  - none\n"
    (tmp_path / "x.yaml").write_text(f"{allow}experiments:\n  - {{name: wipe, faults: [redis-flush]}}\n{other}")
    done = harness("plan", "x.yaml", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert ("wipe" in [one["name"] for one in made["experiments"]]) == runs
    assert made["left"] == ([] if runs else [{"name": "wipe", "why": "it cannot be undone, and the stack is not ours"}])
    said = harness("plan", "x.yaml", cwd=tmp_path).stdout
    assert ("wipe: it cannot be undone, and the stack is not ours" in " ".join(said.split())) == (not runs)
    assert "wipe" in harness("plan", "x.yaml", "--stack", "embedded", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    ("text", "words", "said"),
    [
        (FILE, ("--fault", "redis-down"), "--fault belongs to a single run"),
        ("experiments: []\n", (), "x.yaml:1: experiments: the suite is empty"),
        ("profile: fast\n", (), "no profile 'fast'"),
        ("experiments: [redis-down]\nfaults: [none]\n", (), "not a key of a suite file"),
        ("experiments:\n  - {faults: [redis-down], must_hold: {a: b}}\n", (), "x.yaml:2: experiments[0].must_hold"),
        ("experiments: [redis-dwon]\n", (), "x.yaml:1: experiments[0]: unknown fault"),
        (
            "experiments:\n  - {name: away, faults: [redis-down], fault_for: 2s}\n",
            (),
            "error: experiment away: fault_for 2s is too short",
        ),
        (
            "experiments:\n  - {name: away, faults: [redis-down]}\n",
            ("--fault-for", "2s"),
            "error: --fault-for 2s is too short to judge anything",
        ),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, text: str, words: tuple[str, ...], said: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    done = harness("plan", "x.yaml", *words, cwd=tmp_path)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert done.stdout == ""


def test_for_each_expected_alert_how_long_a_fault_has_to_be(tmp_path: Path) -> None:
    (tmp_path / "harness.toml").write_text('[alerts]\nprometheus = "http://127.0.0.1:9"\nexpected = ["All"]\n')
    (tmp_path / "suite.yaml").write_text(
        "experiments:\n  - redis-down\n  - {faults: [db-down], expected_alerts: [DatabaseDown]}\n"
    )
    done = harness("plan", "suite.yaml", "--stack", "embedded", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert "seen by Prometheus http://127.0.0.1:9, read each second" in said
    assert "the rules of the expected alerts were not read" in said and "once targets are broken" not in said
    assert said.count("alert All") == 2 and said.count("alert DatabaseDown") == 1
    with answering(RULES) as port:
        (tmp_path / "harness.toml").write_text(
            f'[alerts]\nprometheus = "http://127.0.0.1:{port}"\nexpected = ["All"]\n'
        )
        said = " ".join(harness("plan", "suite.yaml", "--stack", "embedded", cwd=tmp_path).stdout.split())
    assert "alert DatabaseDown: fires once targets are broken for 1m15s" in said
    assert "faults of 15s are too short: that it does not fire is not judged" in said
    assert said.count("alert All: Prometheus has no alerting rule of this name") == 2
    (tmp_path / "harness.toml").unlink()
    done = harness("plan", "suite.yaml", "--stack", "embedded", cwd=tmp_path)
    assert done.returncode == 2 and "experiment db-down: nobody looks at alerts" in done.stderr


RULES = {
    "status": "success",
    "data": {"groups": [{"interval": 15, "rules": [{"name": "DatabaseDown", "type": "alerting", "duration": 60}]}]},
}


@contextmanager
def answering(answer: object) -> Iterator[int]:
    """A server that gives this answer, as JSON, to every GET; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
