"""From an OpenAPI document to a run: what `harness init` makes of a real service's own document is sent as it is."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from harness.cli.commands import init as command_module
from harness.scaffold.starter_locustfile import comment_out
from tests.e2e.observe import Run
from tests.support.command import command

pytestmark = pytest.mark.slow

TARGETS = """
[targets]
primary = [
  "p95 < 9s", "error_rate < 99%", "recovery < 60s", "baseline: rps >= 1% of plan", "after: rps >= 1% of plan",
]
"""
PHASES = ("--baseline", "4s", "--fault-for", "4s", "--hold", "2s", "--warmup", "1s", "--spawn-rate", "100000")


@pytest.mark.timeout(300)
def test_a_starter_locustfile_plans_and_runs_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Here, for every process of the suite would import FastAPI to collect the tests.
    from tests.support.servers.shop import shop

    monkeypatch.setattr(command_module, "_terminal", lambda: True)
    with shop() as url:
        done = command("init", "--openapi", f"{url}/openapi.json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        tables = tomllib.loads((tmp_path / "harness.toml").read_text())
        assert tables["target"] == {"url": url, "health": "/health"}
        assert tables["run"] == {"locustfile": "locustfile.py", "rate": 20, "scenario": "baseline"}
        planned = command("plan", "--fault", "none", cwd=tmp_path)
        assert planned.returncode == 0, planned.stderr
        tasks = ("Visitor.get_health", "Visitor.get_items", "Visitor.get_account")
        assert all(name in planned.stdout for name in tasks) and planned.stdout.count("Visitor.") == len(tasks)
        # As a look at each of them would find: this one wants a login.
        assert comment_out(tmp_path / "locustfile.py", {"GET /account": "answered 401"}) == ("GET /account",)
        with (tmp_path / "harness.toml").open("a") as file:
            file.write(TARGETS)
        run = Run(tmp_path, "--fault", "none", *PHASES, shortened=True)
        try:
            assert run.end(200) in (0, 3), run.text()
        finally:
            run.kill_group()
    rows = [json.loads(line) for line in (run.dir / "windows.jsonl").read_text().splitlines()]
    requests = [row["requests"] for row in rows if row["row"] == "delta" and "requests" in row]
    assert {name for each in requests for name in each} == {"GET /health", "GET /items"}
    assert all(any(each.get(name, {}).get("ok") for each in requests) for name in ("GET /health", "GET /items")), (
        run.text()
    )
    # A busy machine may leave one unanswered; none is refused.
    assert not [row for row in rows if row["row"] == "error" and row["kind"] == "status"]
