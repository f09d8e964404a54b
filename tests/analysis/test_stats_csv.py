"""The gate for CSV files that the installed Locust writes: a real headless run, then the file's edge cases."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from harness.analysis.locust_csv import check_stats_csv
from harness.model.errors import UsageError
from harness.plan.scenarios import SCENARIOS

LOCUSTFILE = """
import gevent
from locust import HttpUser, constant, events, task

@events.request.add_listener
def enough(**_):
    # A busy machine decides how long it takes; Locust writes the file once a second.
    runner = Visitor.runner
    if runner is not None and runner.stats.total.num_requests >= 400:
        Visitor.runner = None
        gevent.spawn_later(3, runner.quit)

@events.init.add_listener
def begin(environment, **_):
    Visitor.runner = environment.runner

class Visitor(HttpUser):
    runner = None
    wait_time = constant(0.01)

    @task(3)
    def good(self):
        self.client.get("/good")

    @task(1)
    def bad(self):
        self.client.get("/bad")

    @task(1)
    def post(self):
        self.client.post("/good", data="x")
"""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(500 if self.path == "/bad" else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """NAME_stats.csv of a few seconds of plain Locust against a server on loopback."""
    folder = tmp_path_factory.mktemp("locust")
    (folder / "file.py").write_text(LOCUSTFILE)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        subprocess.run(
            [
                *(sys.executable, "-m", "locust", "-f", "file.py", "--headless", "-u", "8", "-r", "8", "-t", "100s"),
                *("--csv", "out", "--host", f"http://127.0.0.1:{server.server_port}", "--exit-code-on-error", "0"),
            ],
            cwd=folder,
            check=True,
            capture_output=True,
            timeout=150,
        )
        yield folder / "out_stats.csv"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def test_a_file_of_the_installed_locust(written: Path) -> None:
    check = check_stats_csv(written)
    assert check.name == "Aggregated" and check.requests > 100
    assert check.error_rate == pytest.approx(0.2, abs=0.1)
    assert (check.verdict, check.exit_code) == ("fail", 1)
    outcomes = {t.target: t.outcome for t in check.targets}
    assert outcomes["error_rate < 1%"] == "broken" and outcomes["rps"] == "not_judged"
    assert any("error_rate < 1%" in reason for reason in check.reasons)


def test_one_row_by_name(written: Path) -> None:
    good = check_stats_csv(written, ["p95 < 10s", "error_rate <= 0%"], name="GET /good")
    assert (good.verdict, good.name, good.failures) == ("pass", "/good", 0)
    assert check_stats_csv(written, ["p95 < 10s"], name="/bad").verdict == "fail"
    named = check_stats_csv(written, ["error_rate{/bad} > 99%", "error_rate < 50%", "p95 < 10s"])
    assert {t.target for t in named.targets if t.outcome == "held"} >= {"error_rate{/bad} > 99%", "error_rate < 50%"}
    with pytest.raises(UsageError, match="GET /good, POST /good"):
        check_stats_csv(written, name="/good")
    with pytest.raises(UsageError, match="did you mean '/bad'"):
        check_stats_csv(written, name="/bda")


def test_the_history_file_is_recognised(written: Path) -> None:
    with pytest.raises(UsageError, match="history file"):
        check_stats_csv(written.with_name("out_stats_history.csv"))
    with pytest.raises(UsageError, match="not a Locust"):
        check_stats_csv(written.with_name("out_failures.csv"))


HEADER = (
    "Type,Name,Request Count,Failure Count,Median Response Time,Average Response Time,Min Response Time,"
    "Max Response Time,Average Content Size,Requests/s,Failures/s,50%,66%,75%,80%,90%,95%,98%,99%,99.9%,99.99%,100%\n"
)


def made(tmp_path: Path, requests: int, failures: int, p95: int = 120, rps: float = 196.0) -> Path:
    path = tmp_path / "made_stats.csv"
    values = f"{p95},{p95},{p95},{p95},{p95},{p95},{p95}"
    path.write_text(
        HEADER + f",Aggregated,{requests},{failures},40,45.5,1,800,10,{rps},0.1,40,50,60,70,{values}\n", "utf-8"
    )
    return path


def test_the_row_is_compared_literally(tmp_path: Path) -> None:
    assert check_stats_csv(made(tmp_path, 1000, 9)).exit_code == 0
    assert check_stats_csv(made(tmp_path, 1000, 10)).exit_code == 1
    assert check_stats_csv(made(tmp_path, 1000, 10), ["error_rate <= 1%"]).exit_code == 0
    assert check_stats_csv(made(tmp_path, 1000, 0, p95=200)).exit_code == 1
    assert check_stats_csv(made(tmp_path, 1000, 0, p95=200), ["p95 <= 200ms"]).exit_code == 0
    assert check_stats_csv(made(tmp_path, 1000, 0), ["max < 500ms"]).exit_code == 1
    assert check_stats_csv(made(tmp_path, 1000, 0), ["~max < 500ms"]).exit_code == 0


def test_rps_needs_a_scenario_or_a_number(tmp_path: Path) -> None:
    path = made(tmp_path, 1000, 0)
    assert check_stats_csv(path, scenario=SCENARIOS["target"], scale=0.02).exit_code == 0
    short = made(tmp_path, 1000, 0, rps=189.0)
    check = check_stats_csv(short, scenario=SCENARIOS["target"], scale=0.02)
    assert check.exit_code == 1 and check.targets[0].limit == pytest.approx(190)
    assert "189" in check.reasons[0]
    assert check_stats_csv(short, ["rps >= 180"], scenario=SCENARIOS["target"]).exit_code == 0
    assert check_stats_csv(path, scenario=SCENARIOS["stress"]).targets[0].outcome == "not_judged"


def test_too_few_requests_are_undecided(tmp_path: Path) -> None:
    check = check_stats_csv(made(tmp_path, 40, 0))
    assert (check.verdict, check.exit_code) == ("inconclusive", 3)
    assert any("59 are needed" in reason for reason in check.reasons)
    assert check_stats_csv(made(tmp_path, 40, 20)).exit_code == 1


def test_no_requests_at_all_never_pass(tmp_path: Path) -> None:
    path = tmp_path / "x_stats.csv"
    path.write_text(HEADER + ",Aggregated,0,0,0,0.0,0,0,0,0.0,0.0" + ",N/A" * 11 + "\n")
    check = check_stats_csv(path)
    assert check.exit_code == 3 and check.p95_ms is None and check.error_rate is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("fault: p95 < 1s", "no phases"),
        ("p95 < 2x baseline", "no baseline"),
        ("rps >= 95% of plan", "no plan"),
        ("recovery < 30s", "not in a Locust CSV"),
        ("p95 < 1", "unit"),
    ],
)
def test_targets_that_cannot_apply_are_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        check_stats_csv(made(tmp_path, 1000, 0), [text])


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"a,b\n1,2\n", HEADER.encode(), b'"unclosed\n' * 3])
def test_other_files_are_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd_stats.csv"
    path.write_bytes(content)
    with pytest.raises(UsageError) as refused:
        check_stats_csv(path)
    assert "\n" not in str(refused.value)
    with pytest.raises(UsageError, match="no such file"):
        check_stats_csv(tmp_path / "nothing.csv")


def test_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    path = made(tmp_path, 1000, 0)
    path.write_text(path.read_text().replace("1000", "many"))
    with pytest.raises(UsageError, match="not a number"):
        check_stats_csv(path)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("1000,0,", "1000,2000,", "has 2,000 failures of 1,000 requests"),
        ("1000,0,", "-1000,0,", "'-1000', not a number"),
        ("1000,0,", "nan,0,", "'nan', not a number"),
        ("1000,0,", "1e400,0,", "'1e400', not a number"),
        ("1000,0,", "10.5,0,", "not a whole number"),
    ],
)
def test_counts_that_cannot_be_are_refused(tmp_path: Path, old: str, new: str, says: str) -> None:
    path = made(tmp_path, 1000, 0)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(UsageError, match=re.escape(says)):
        check_stats_csv(path)


@pytest.mark.parametrize("name", ["Aggregated", "/x"])
@pytest.mark.parametrize(("rows", "says"), [(0, "no row called 'Aggregated'"), (2, "2 rows called 'Aggregated'")])
def test_a_file_that_is_not_of_one_whole_run_is_refused(tmp_path: Path, rows: int, says: str, name: str) -> None:
    path = made(tmp_path, 1000, 0)
    total = path.read_text().splitlines(keepends=True)[1]
    path.write_text(HEADER + total.replace(",Aggregated", "GET,/x") + total * rows)
    with pytest.raises(UsageError, match=says) as refused:
        check_stats_csv(path, name=name)
    assert "\n" not in str(refused.value) and refused.value.exit_code == 2


def test_a_request_that_is_called_as_the_total_is_not_taken_for_it(tmp_path: Path) -> None:
    path = made(tmp_path, 1000, 500)
    total = path.read_text().splitlines(keepends=True)[1]
    request = total.replace(",Aggregated,1000,500", "GET,Aggregated,1000,0")
    path.write_text(HEADER + request + total)
    assert check_stats_csv(path).failures == 500
    assert check_stats_csv(path, name="GET Aggregated").failures == 0
    path.write_text(HEADER + request)
    with pytest.raises(UsageError, match="no row called 'Aggregated'"):
        check_stats_csv(path)
