"""A system behind a tunnel: who goes through the proxy is told by where the server sees the connections come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.behind_tunnel import System, behind_tunnel
from tests.e2e.observe import Run, proxies
from tests.support.command import command

pytestmark = [pytest.mark.stack, pytest.mark.slow]

LOCUST = """
from locust import FastHttpUser, task

class Shopper(FastHttpUser):
    @task
    def basket(self):
        self.client.get("/basket")
"""
RUN = """
[run]
locustfile = "locustfile.py"
rate = 30
[targets]
primary = ["p95 < 9s", "error_rate < 1%", "recovery < 60s", "baseline: rps >= 1% of plan", "after: rps >= 1% of plan"]
"""
PHASES = ("--warmup", "1s", "--baseline", "4s", "--fault-for", "5s", "--hold", "2s", "--spawn-rate", "100000")


def run(system: System, folder: Path, seen_as: str | None) -> Run:
    (folder / "locustfile.py").write_text(LOCUST)
    system.declare(seen_as, RUN)
    before = proxies(system.toxiproxy)
    found = Run(folder, "--fault", "redis-down", *PHASES, shortened=True)
    try:
        found.end(200)
    finally:
        found.kill_group()
    assert proxies(system.toxiproxy) == before
    return found


def test_where_the_proxy_is_seen_is_looked_at(tmp_path: Path) -> None:
    with behind_tunnel(tmp_path, past=False) as system:
        system.declare("10.214.82.1")  # as the service sees it
        wrong = command("stack", "status", cwd=tmp_path)
        system.declare(None)
        unsaid = command("stack", "status", cwd=tmp_path)
        system.declare(system.seen_as)
        right = command("stack", "status", cwd=tmp_path)
    said = " ".join(wrong.stdout.split())
    assert wrong.returncode == 4 and f"come from {system.seen_as}, not from 10.214.82.1" in said, said
    assert f'seen_as = ["{system.seen_as}"]: as the dependencies see Toxiproxy' in said
    advice = f'seen_as = ["{system.seen_as}"] in [toxiproxy] lets the path be proven'
    assert unsaid.returncode == 0 and advice in " ".join((unsaid.stdout + unsaid.stderr).split())
    assert right.returncode == 0 and "seen_as" not in right.stdout + right.stderr


@pytest.mark.timeout(300)
def test_through_the_proxy_a_fault_is_proven_on_the_path(tmp_path: Path) -> None:
    with behind_tunnel(tmp_path, past=False) as system:
        done = run(system, tmp_path, system.seen_as)
        doctor = command("doctor", cwd=tmp_path)
    (fault,) = done.result()["faults"]
    assert fault["proven"] and fault["undo_verified"], done.text()
    path = [evidence["observed"] for evidence in fault["proof"] if evidence["source"] == "path"]
    assert path[0].endswith("s") and "commands in" in path[0] and "beside" not in path[0], path
    # It has no fallback; a machine that is too busy for its load must say so instead.
    assert done.process.returncode in (1, 3), done.text()
    assert "the application's connections are on the proxy, and only there" in doctor.stdout, doctor.stdout


@pytest.mark.timeout(300)
@pytest.mark.parametrize("past", [True, False])
def test_past_it_or_not_told_how_it_is_seen_nothing_is_claimed(tmp_path: Path, past: bool) -> None:
    with behind_tunnel(tmp_path, past=past) as system:
        done = run(system, tmp_path, system.seen_as if past else None)
    assert done.process.returncode == 3, done.text()
    (fault,) = done.result()["faults"]
    assert not fault["proven"] and fault["undo_verified"], done.text()
    goes_past = "the target reaches redis past the proxy"
    unknown = "it cannot be told whether the target uses redis through the proxy"
    assert fault["missing"].startswith(goes_past if past else unknown), fault["missing"]
    assert ("seen_as" in fault["missing"]) is not past
