"""`harness doctor` on real servers: what is said, when it is not said, and the exit code."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.api import Experiment
from harness.dependencies.configuration import load
from harness.doctor.diagnosis import Diagnosis, DiagnosisLine
from harness.doctor.examine import examine
from harness.doctor.terminal import text
from harness.model.records.faults import Address, Dependency
from harness.model.records.process import ServerProcess
from harness.stack.starting.ports import Ports
from tests.support.command import command
from tests.support.servers.proxied import outside, proxied
from tests.support.servers.real import PostgresServer, ValkeyServer

pytestmark = pytest.mark.stack

LOCUSTFILE = """
from locust import HttpUser, task


class Visitor(HttpUser):
    @task(4)
    def look(self):
        self.client.get("/items/1", name="GET /items")

    @task
    def buy(self):
        self.client.post("/orders", json={"item": 1}, name="POST /orders")
"""


@pytest.fixture
def cache(toxiproxy_server: str, toxiproxy_process: ServerProcess, valkey_server: ValkeyServer) -> Iterator[Dependency]:
    with proxied(toxiproxy_server, toxiproxy_process, valkey_server) as dependency:
        yield dependency


@pytest.fixture
def db(
    toxiproxy_server: str, toxiproxy_process: ServerProcess, postgres_server: PostgresServer
) -> Iterator[Dependency]:
    with proxied(toxiproxy_server, toxiproxy_process, postgres_server) as dependency:
        yield dependency


class Shop:
    """The service, its harness.toml and its locustfile, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "requests.log"
        self.log.touch()
        with Ports() as ports:
            self.port = ports.take()
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "locustfile.py").write_text(LOCUSTFILE)

    def start(self, **settings: Any) -> None:
        file = self.folder / "shop.json"
        file.write_text(json.dumps({"port": self.port, "log": str(self.log), **settings}))
        self._process = subprocess.Popen([sys.executable, str(Path(__file__).with_name("shop.py")), str(file)])
        end = time.monotonic() + 30
        while time.monotonic() < end:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        raise AssertionError("the shop does not answer")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def declare(self, *tables: str) -> Path:
        path = self.folder / "harness.toml"
        target = f'[target]\nname = "shop"\nurl = "http://127.0.0.1:{self.port}"\nhealth = "/health"\n'
        run = '[run]\nlocustfile = "locustfile.py"\nrate = 20\n'
        path.write_text("\n".join([target, *tables, run]))
        return path

    def examine(self, *faults: str, **more: Any) -> Diagnosis:
        experiment = Experiment(
            host=f"http://127.0.0.1:{self.port}",
            stack="external",
            rate=20.0,
            faults=faults,
            locustfile=str(self.folder / "locustfile.py"),
        )
        return examine(experiment, load(self.folder / "harness.toml"), **more)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    shop = Shop(tmp_path)
    yield shop
    shop.stop()


def proxy(dependency: Dependency) -> str:
    return f'[toxiproxy]\nurl = "{dependency.proxy.url}"\n'


def redis(dependency: Dependency, *, direct: Address | None = None, kind: str = "redis", more: str = "") -> str:
    return (
        f'[dependencies.redis]\nkind = "{kind}"\nproxy = "{dependency.proxy.name}"\n'
        f'direct = "{direct or dependency.direct}"\n{more}'
    )


def lines(found: Diagnosis, about: str, state: str | None = None) -> list[DiagnosisLine]:
    return [line for line in found.lines if line.about == about and state in (None, line.state)]


def fails(found: Diagnosis) -> list[DiagnosisLine]:
    return [line for line in found.lines if line.state == "fail"]


def test_a_system_that_is_well(shop: Shop, cache: Dependency, db: Dependency) -> None:
    login = f"{db.credentials.login} host={db.path.host} port={db.path.port}"  # type: ignore[union-attr]
    shop.start(redis=[str(cache.path)], db=[login])
    database = (
        f'[dependencies.db]\nkind = "postgres"\nproxy = "{db.proxy.name}"\ndirect = "{db.direct}"\n'
        f'login = "{db.credentials.login}"\nadmin = "{db.credentials.admin}"\n'
        f'probe_login = "{db.credentials.probe_login}"\n'
    )
    shop.declare(proxy(cache), redis(cache), database)
    before = outside(cache), outside(db)
    found = shop.examine()
    assert (outside(cache), outside(db)) == before
    assert found.exit_code == 0 and fails(found) == [], text(found)
    for name in ("redis", "db"):
        facts = [line.fact for line in lines(found, name, "ok")]
        assert "it answers directly and through its proxy" in facts
        assert "the application's connections are on the proxy, and only there" in facts
        assert any(
            "down" in line.evidence and "faults of its kind can be had" in line.fact for line in lines(found, name)
        )
    (answered,) = lines(found, "requests", "ok")
    assert "GET /items 200" in answered.evidence
    (held,) = lines(found, "requests", "warn")
    assert "POST /orders (POST)" in held.fact
    assert "POST" not in shop.log.read_text(), "what may change something was not sent"
    assert next(line.fact for line in lines(found, "suite")).startswith("the standard suite: ")
    # Other tests may keep it busy.
    assert {line.state for line in lines(found, "this machine") if "more wants to run" not in line.fact} == {"ok"}
    shown = text(found, width=80)
    assert shown.splitlines()[0].endswith(", declared in harness.toml")
    assert max(map(len, shown.splitlines())) <= 80
    assert shown.splitlines()[-1].endswith("(exit code 0).")


def test_all_requests_are_sent_where_that_is_asked_for(shop: Shop) -> None:
    shop.start()
    shop.declare()
    found = shop.examine(every=True)
    assert "POST /orders" in shop.log.read_text()
    (line,) = fails(found)
    assert line.fact == "POST /orders fails: 1 of 1, answered 1 x 404" and found.exit_code == 3


def test_connections_past_the_proxy_are_named(shop: Shop, cache: Dependency) -> None:
    shop.start(redis=[str(cache.path), str(cache.direct)])
    shop.declare(proxy(cache), redis(cache))
    found = shop.examine()
    (line,) = fails(found)
    assert found.exit_code == 3
    assert line.fact == "the target reaches redis past the proxy as well"
    assert "python" in line.evidence and "pid" in line.evidence
    assert str(cache.path) in line.remedy


def test_connections_past_the_proxy_of_a_server_that_cannot_be_asked(shop: Shop, cache: Dependency) -> None:
    shop.start(redis=[str(cache.direct)])
    shop.declare(proxy(cache), redis(cache, kind="tcp", more='probe_send = "PING\\r\\n"\n'))
    found = shop.examine()
    (line,) = fails(found)
    assert line.fact == "the target reaches redis past the proxy"
    assert f"1 connection to {cache.direct} (python" in line.evidence


def test_nobody_connected(shop: Shop, cache: Dependency) -> None:
    shop.start()
    shop.declare(proxy(cache), redis(cache))
    found = shop.examine()
    (line,) = fails(found)
    assert found.exit_code == 3 and line.fact == "the target does not use redis through the proxy"
    assert "0 connections through the proxy" in line.evidence and "while the requests were sent" in line.evidence
    assert shop.log.read_text().count("GET /items/1") == 2, "sent once more, and no oftener"


def test_a_target_that_is_down(shop: Shop, cache: Dependency) -> None:
    shop.declare(proxy(cache), redis(cache))
    found = shop.examine()
    (line,) = fails(found)
    assert found.exit_code == 2 and line.about == "shop" and "refused" in line.fact.lower()
    assert lines(found, "requests") == [], "nothing is said of requests that were not sent"
    assert any("faults of its kind can be had" in line.fact for line in lines(found, "redis"))


def test_requests_that_are_not_found(shop: Shop, cache: Dependency) -> None:
    shop.start(redis=[str(cache.path)])
    shop.declare(proxy(cache), redis(cache))
    file = shop.folder / "locustfile.py"
    file.write_text(file.read_text() + '\n    @task\n    def wrong(self):\n        self.client.get("/itmes")\n')
    found = shop.examine()
    (line,) = fails(found)
    assert found.exit_code == 3
    assert line.about == "requests" and line.fact == "/itmes fails: 1 of 1, answered 1 x 404"


def test_a_missing_administrator_says_what_is_off(shop: Shop, db: Dependency) -> None:
    login = f"{db.credentials.login} host={db.path.host} port={db.path.port}"  # type: ignore[union-attr]
    shop.start(db=[login])
    database = (
        f'[dependencies.db]\nkind = "postgres"\nproxy = "{db.proxy.name}"\ndirect = "{db.direct}"\n'
        f'login = "{db.credentials.login}"\n'
    )
    shop.declare(proxy(db), database)
    found = shop.examine()
    assert fails(found) == [] and found.exit_code == 0
    (note,) = [line for line in lines(found, "db", "warn") if "admin" in line.fact]
    assert "connection-limit and connection-hog are off" in note.fact
    off = [line for line in lines(found, "db", "off") if line.fact.startswith("connection-")]
    assert {line.fact for line in off} == {"connection-limit", "connection-hog"}
    assert all("`admin`" in line.remedy for line in off), off
    asked = shop.examine("db-connection-limit")
    assert asked.exit_code == 2 and "a login that may alter the role is not declared" in fails(asked)[0].fact


def test_the_command_and_run_and_status_say_the_same(shop: Shop, cache: Dependency) -> None:
    shop.start()
    shop.declare(proxy(cache), redis(cache, direct=cache.path))
    done = command("doctor", "--json", cwd=shop.folder)
    answer = json.loads(done.stdout)
    assert done.returncode == answer["exit_code"] == 2
    (line,) = [one for one in answer["lines"] if one["state"] == "fail"]
    status = command("stack", "status", cwd=shop.folder)
    run = command("run", "--fault", "redis-down", cwd=shop.folder)
    assert status.returncode == 4 and run.returncode == 2
    assert line["fact"] in status.stdout and line["fact"] in run.stderr
    assert line["remedy"] in status.stdout and line["remedy"] in run.stderr


def test_without_a_locustfile_nothing_is_sent(shop: Shop, cache: Dependency) -> None:
    shop.start(redis=[str(cache.path)])
    path = shop.declare(proxy(cache), redis(cache))
    path.write_text(path.read_text().partition("[run]")[0])
    done = command("doctor", cwd=shop.folder)
    assert done.returncode == 2 and "no --locustfile: the requests would be those of the sample API" in " ".join(
        done.stdout.split()
    )
    assert "whether the application uses it is not known" in done.stdout, "an idle application is not accused"
    assert "predict" not in shop.log.read_text()
    assert command("run", "--fault", "redis-down", cwd=shop.folder).stderr.startswith("error: no --locustfile: ")


def test_without_a_system_of_ones_own_there_is_nothing_to_look_at(tmp_path: Path) -> None:
    done = command("doctor", cwd=tmp_path)
    assert done.returncode == 2 and "none is declared" in done.stderr


def test_text_from_outside_is_cleaned_and_lines_are_as_narrow_as_the_terminal() -> None:
    line = DiagnosisLine(
        about="requests", state="fail", fact="\x1b[2J GET /x fails " + "word " * 40, evidence="a\u202eb", exit_code=3
    )
    found = Diagnosis(target="http://127.0.0.1:1", config=None, lines=(line,))
    shown = text(found, width=40)
    assert "\x1b" not in shown and "\\x1b[2J" in shown and "\u202e" not in shown
    assert max(map(len, shown.splitlines())) <= 40
    assert "fail" in shown and "(exit code 3)" in " ".join(shown.split())
    assert msgspec.json.decode(msgspec.json.encode(found), type=Diagnosis) == found
