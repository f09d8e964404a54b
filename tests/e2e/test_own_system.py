"""A system of the user's own, declared in harness.toml: faults on it are proven and undone, the rest stays as it is."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.dependencies.configuration import load
from harness.model.errors import UsageError
from harness.stack.external.stack import ExternalStack
from tests.e2e.observe import HARNESS, Run, family
from tests.e2e.own_system import PASSWORD, OwnSystem

pytestmark = [pytest.mark.stack, pytest.mark.slow]

RUN = """
rate = 40
spawn-rate = 100000
warmup = "2s"
baseline = "5s"
fault-for = "14s"
recovery-limit = "60s"
hold = "5s"
request-timeout = "5s"
fault = [
  "redis-down@0s+5s", "db-connection-limit@0s+5s", "payments-down@0s+5s", "redis-kill@9s+4s",
  "payments-latency:latency=200ms@9s+4s",
]

[targets]
primary = [
  "p95 < 9s", "error_rate < 99%", "recovery < 60s", "baseline: rps >= 1% of plan", "after: rps >= 1% of plan",
]
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnSystem]:
    system = OwnSystem(tmp_path_factory.mktemp("own"))
    yield system
    system.close()


def harness(own: OwnSystem, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(HARNESS), *args],
        cwd=own.folder,
        env={**os.environ, "XDG_STATE_HOME": str(own.folder / "state"), **own.env, **env},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def told_to_strangers(run: Run, own: OwnSystem) -> list[str]:
    """Where the password stands that others may read: records, journals, logs, what was printed, command lines."""
    places = [path for folder in (run.dir, own.folder / "state") for path in folder.rglob("*") if path.is_file()]
    places += [run.cwd / "stderr.txt", run.cwd / "stdout.txt"]
    places += [Path(f"/proc/{pid}/cmdline") for pid in family(run.process.pid)]
    found = []
    for path in places:
        try:
            if PASSWORD.encode() in path.read_bytes():
                found.append(str(path))
        except OSError:
            continue  # a process or a journal that has ended meanwhile
    return found


@pytest.mark.timeout(400)
def test_faults_on_an_own_system_are_proven_and_undone_and_nothing_else_is_touched(own: OwnSystem) -> None:
    own.write_config(RUN)
    before, redis = own.snapshot(), own.redis_pid()
    run = Run(own.folder, env=own.env, shortened=True)
    try:
        run.wait_proven()
        assert not told_to_strangers(run, own), "while faults are on"
        # 3 as well: a machine that is too busy for its load must say so. The proofs below hold either way.
        assert run.end(300) in (0, 3), run.text()
    finally:
        run.kill_group()
    result = run.result()
    faults = {fault["name"]: fault for fault in result["faults"]}
    assert set(faults) == {"redis-down", "db-connection-limit", "payments-down", "redis-kill", "payments-latency"}
    for name, fault in faults.items():
        assert fault["proven"] is True and fault["undo_verified"] is True, (name, fault, run.text())
        sources = {evidence["source"] for evidence in fault["proof"]}
        # Nobody can ask an unknown TCP service who is connected to it.
        assert sources >= ({"control", "probe"} if name.startswith("payments") else {"control", "probe", "path"}), name
    plan = json.loads((run.dir / "plan.json").read_text())
    assert plan["stack"] == "external" and plan["load"]["host"] == own.url
    versions = plan["provenance"]["versions"]
    assert versions["toxiproxy"].startswith("2.") and versions["redis"] and versions["db"].startswith("18")

    assert own.snapshot() == before
    # The one that runs now was started by the undo, belongs to nobody, and outlived the run and its keeper.
    assert own.redis_pid() != redis
    assert not told_to_strangers(run, own), "afterwards"


def test_status_is_a_doctor(own: OwnSystem) -> None:
    own.write_config()
    well = harness(own, "stack", "status")
    assert well.returncode == 0, well.stdout + well.stderr
    table, _, hint = well.stdout.partition("\n\n")
    assert "harness doctor" in hint or "harness doctor" in well.stderr
    rows = {line.split()[0]: line.split() for line in table.splitlines()[2:] if line}
    assert set(rows) == {"toxiproxy", "redis", "db", "payments", "shop"}
    assert rows["toxiproxy"][1] == str(own.toxiproxy_process.pid) and rows["redis"][1] == str(own.redis_pid())
    assert rows["db"][3] == str(own.paths["orders-db"]) and all(row[-1] == "ok" for row in rows.values())

    config = own.write_config()
    config.write_text(config.read_text().replace('proxy = "cache"', 'proxy = "cash"').replace("api.pid", "no.pid"))
    ill = harness(own, "stack", "status")
    assert ill.returncode == 4
    assert "has no proxy 'cash' (it has: cache, orders-db, payments)" in ill.stdout
    assert f"curl -X POST {own.toxiproxy}/proxies -d" in ill.stdout
    assert "target: pid file" in ill.stdout and "No such file" in ill.stdout


def test_logs_are_those_that_the_file_names(own: OwnSystem) -> None:
    own.write_config()
    assert "Ready to accept connections" in harness(own, "stack", "logs", "redis").stdout
    assert harness(own, "stack", "logs").stdout.count("== ") == 2
    none = harness(own, "stack", "logs", "db")
    assert none.returncode == 2 and "dependencies.db.log" in none.stderr
    wrong = harness(own, "stack", "logs", "rdis")
    assert wrong.returncode == 2 and "did you mean 'redis'" in wrong.stderr


def wrong(own: OwnSystem) -> Iterator[tuple[str, str, str]]:
    """(what is replaced, by what, what is told)"""
    yield 'proxy = "cache"', 'proxy = "cash"', "has no proxy 'cash'"
    yield 'proxy = "cache"', 'proxy = "off"', "proxy off is disabled"
    yield 'proxy = "cache"', 'proxy = "ill"', "carries the toxic harness-x of another run"
    yield 'proxy = "cache"', 'proxy = "astray"', "two different servers"
    yield f'direct = "{own.redis}"', 'direct = "127.0.0.1:1"', "dependencies.redis: redis does not answer directly at"
    yield f'direct = "{own.redis}"', 'direct = "10.9.8.7:6379"', "does not answer directly at 10.9.8.7:6379"
    yield f'direct = "{own.redis}"', 'direct = "93.184.216.34:6379"', "neither loopback nor a private address"
    yield f'password_env = "{next(iter(own.env))}"', 'password_env = "NOT_SET_4711"', "NOT_SET_4711, and it is not set"
    yield f'password_env = "{next(iter(own.env))}"', "", "NOAUTH"
    yield f'password_env = "{next(iter(own.env))}"', 'password_env = "WRONG"', "WRONGPASS"
    speaks_http = f'proxy = "cache"\npath = "127.0.0.1:{own.api_port}"'
    yield 'proxy = "cache"', speaks_http, "redis does not answer through its proxy cache at"
    yield own.toxiproxy, "http://127.0.0.1:1", "toxiproxy.url: no Toxiproxy answers at http://127.0.0.1:1"
    yield own.toxiproxy, own.url, "toxiproxy.url: "
    yield f'url = "{own.url}"', 'url = "http://127.0.0.1:1"', "target.url: http://127.0.0.1:1/ could not be reached"
    yield f'url = "{own.url}"', f'url = "{own.url}"\nhealth = "/nowhere"', "target.health: "
    yield 'pid_file = "api.pid"', 'pid_file = "valkey.pid"', "does not listen on port"
    yield 'pid_file = "api.pid"', 'pid_file = "junk.pid"', "holds no pid"
    yield 'pid_file = "api.pid"', 'pid_file = "dead.pid"', "is not running"
    yield 'pid_file = "api.pid"', 'pid_file = "ours.pid"', "a parent of this run"
    yield f'admin = "{own.postgres.admin}"', f'admin = "{own.postgres.login}"', "the application's own role"
    yield f'admin = "{own.postgres.admin}"', 'admin = "service=x user=y"', "service file"
    yield f'admin = "{own.postgres.admin}"', 'admin = "host=/nowhere user=y"', "dependencies.db.admin: "
    yield f'probe_login = "{own.postgres.probe_login}"', f'probe_login = "{own.postgres.login}"', "take its slots"
    yield f'probe_login = "{own.postgres.probe_login}"', 'probe_login = "user=nobody"', "dependencies.db.probe_login: "
    yield 'login = "user=', 'login = "host=x user=nobody_', "dependencies.db: db does not answer directly"


def test_what_cannot_be_right_is_one_line_and_nothing_is_touched(
    own: OwnSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    own.make_proxy("off", own.free(), own.redis)
    own.toxiproxy_call("POST", "/proxies/off", {"enabled": False})
    own.make_proxy("ill", own.free(), own.redis)
    own.toxiproxy_call(
        "POST",
        "/proxies/ill/toxics",
        {"name": "harness-x", "type": "latency", "attributes": {"latency": 1}},
    )
    other = own.second_redis()
    own.make_proxy("astray", own.free(), other)
    (own.folder / "junk.pid").write_text("none\n")
    (own.folder / "dead.pid").write_text(f"{2**22 - 3}\n")
    (own.folder / "ours.pid").write_text(f"{os.getpid()}\n")
    before = own.snapshot()
    good = own.write_config("warmup = '2s'\n").read_text()
    monkeypatch.chdir(own.folder)
    for name, value in (*own.env.items(), ("WRONG", "open-barley")):
        monkeypatch.setenv(name, value)
    for what, by, says in wrong(own):
        assert what in good
        (own.folder / "harness.toml").write_text(good.replace(what, by, 1))
        with pytest.raises(UsageError) as raised:
            found = load(own.folder / "harness.toml")
            assert found.target is not None
            ExternalStack(found.target.url, configuration=found).check()
        told = f"{raised.value} {raised.value.hint}"
        assert told.startswith("harness.toml: ") and says in told, (by, told)
        assert "\n" not in told and "open-sesame" not in told and "open-barley" not in told, told
    # The last of them with the real command: nothing was made for a run that cannot be.
    done = harness(own, "run", "--fault", "redis-down", "--out", "none")
    assert done.returncode == 2 and done.stderr.startswith("error: harness.toml: "), done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2 and not (own.folder / "none").exists()
    assert list((own.folder / "state").rglob("journal.jsonl")) == []
    (own.folder / "harness.toml").write_text(good)
    assert own.snapshot() == before
    for name in ("off", "ill", "astray"):
        own.toxiproxy_call("DELETE", f"/proxies/{name}")
