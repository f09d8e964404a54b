"""The embedded stack as a run sees it: two of them come up at the same time, on real servers, and go again."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import os
import shutil
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import psutil
import psycopg
import pytest
import redis

from harness.adapters.clients.envoy import Envoy
from harness.fault import registered
from harness.model.errors import Refused, SetupError
from harness.model.paths import cache_dir
from harness.model.records.faults import Address, Dependency
from harness.model.records.process import ServerProcess, ServerSpec
from harness.model.records.stack import StackUp
from harness.stack import health, registry
from harness.stack.embedded import EmbeddedStack, envoy, valkey
from harness.stack.starting.ports import ephemeral_range
from harness.stack.starting.ready import Interrupted
from tests.support.servers.real import SubprocessLauncher, wait_until

pytestmark = pytest.mark.stack

TRANSACTION = {
    "hash": f"0x{7:064x}",
    "from_address": f"0x{8:040x}",
    "to_address": f"0x{9:040x}",
    "value": 1.5,
    "gas": 21_000,
    "gas_price": 10**9,
    "block_number": 21_500_000,
    "timestamp": "2025-01-01T00:00:00Z",
}

Running = tuple[EmbeddedStack, StackUp, SubprocessLauncher]


@pytest.fixture(scope="module")
def two_stacks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Running]]:
    """Started at the same moment; the first with its logs in a run's folder."""
    logs = tmp_path_factory.mktemp("run") / "logs"
    launchers = SubprocessLauncher(), SubprocessLauncher()
    stacks = EmbeddedStack(logs=logs), EmbeddedStack()
    try:
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            jobs = [pool.submit(s.up, launcher, print) for s, launcher in zip(stacks, launchers, strict=True)]
            ups = [job.result() for job in jobs]
        yield (stacks[0], ups[0], launchers[0]), (stacks[1], ups[1], launchers[1])
    finally:
        for launcher in launchers:
            launcher.close()


@pytest.fixture
def running(two_stacks: tuple[Running, Running]) -> Running:
    return two_stacks[0]


def dependency(up: StackUp, name: str) -> Dependency:
    return next(d for d in up.dependencies if d.name == name)


def address(found: Address | None) -> Address:
    assert found is not None
    return found


def ask(url: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def addresses(up: StackUp) -> set[int]:
    found = {int(up.target.url.rpartition(":")[2])}
    for each in up.dependencies:
        found |= {address(each.path).port, address(each.direct).port}
        if each.proxy.url is not None:
            found.add(int(each.proxy.url.rpartition(":")[2]))
    return found


def test_two_at_once_share_nothing(two_stacks: tuple[Running, Running]) -> None:
    (_, one, _), (_, two, _) = two_stacks
    assert len(addresses(one)) == len(addresses(two)) == 10
    assert not addresses(one) & addresses(two)
    assert one.folder != two.folder
    with redis.Redis(port=address(dependency(one, "redis").path).port, password=valkey.password()) as first:
        first.set("only", "here")
    with redis.Redis(port=address(dependency(two, "redis").path).port, password=valkey.password()) as second:
        assert second.get("only") is None


def test_every_port_is_outside_the_ephemeral_range(running: Running) -> None:
    low, high = ephemeral_range()
    assert not [port for port in addresses(running[1]) if low <= port <= high]


def test_what_was_declared_is_what_came_up(running: Running) -> None:
    stack, up, _ = running
    declared = {
        (d.name, d.kind, d.proxied, d.runtime, d.proxy.name, d.credentials.role, d.credentials.login)
        for d in stack.describe()
    }
    assert declared == {
        (d.name, d.kind, d.proxied, d.runtime, d.proxy.name, d.credentials.role, d.credentials.login)
        for d in up.dependencies
    }
    assert all(d.path is None and d.process.pid is None for d in EmbeddedStack().describe())


def test_the_pids_are_those_of_the_servers(running: Running) -> None:
    _, up, _ = running
    words = {"toxiproxy": "toxiproxy-server", "valkey": "valkey", "kafka": "kafka.Kafka", "postgres": "postgres"}
    words["risk"] = "risk_score"
    pids = registry.pids(up)
    assert list(pids) == ["toxiproxy", "valkey", "kafka", "postgres", "risk", "api"]
    for name, word in words.items():
        assert word in " ".join(psutil.Process(pids[name]).cmdline())
    assert "anomaly_api" in psutil.Process(pids["api"]).cmdline()
    if os.geteuid() == 0:
        assert psutil.Process(pids["postgres"]).uids().real != 0


def test_every_server_listens_on_loopback_only(running: Running) -> None:
    for name, pid in registry.pids(running[1]).items():
        listening = [c for c in psutil.Process(pid).net_connections("inet") if c.status == psutil.CONN_LISTEN]
        assert listening
        assert {c.laddr.ip.removeprefix("::ffff:") for c in listening} == {"127.0.0.1"}, name


def test_valkey_lets_nobody_in_without_its_password_which_stands_nowhere(running: Running) -> None:
    _, up, _ = running
    found = dependency(up, "redis")
    for where in (found.direct, found.path):
        with (
            redis.Redis(port=address(where).port) as stranger,
            pytest.raises(redis.AuthenticationError, match="authenticated"),
        ):
            stranger.flushall()
    secret = valkey.password()
    assert found.credentials.password_env == valkey.PASSWORD_ENV and os.environ[valkey.PASSWORD_ENV] == secret
    told = msgspec.json.encode(up).decode()
    for pid in registry.pids(up).values():
        told += " ".join(psutil.Process(pid).cmdline())
    assert running[0]._logs is not None
    files = [*Path(str(up.folder)).rglob("*"), *running[0]._logs.iterdir()]
    told += "".join(path.read_text("utf-8", "replace") for path in files if path.is_file())
    assert secret not in told


def test_the_api_predicts_and_keeps_what_it_predicted(running: Running) -> None:
    _, up, _ = running
    assert ask(f"{up.target.url}/health")["status"] == "ok"
    found = ask(f"{up.target.url}/openapi.json")
    assert "/api/v1/predict" in found["paths"]
    with urllib.request.urlopen(up.target.metrics_url or "", timeout=30) as answer:
        assert b"http_requests_total" in answer.read()


def test_the_application_meets_its_dependencies_through_the_proxies_only(running: Running) -> None:
    _, up, _ = running
    target = psutil.Process(up.target.pid)
    peers = {
        connection.raddr.port
        for process in [target, *target.children(recursive=True)]
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_ESTABLISHED and connection.raddr and connection.raddr.ip == "127.0.0.1"
    }
    for each in (dependency for dependency in up.dependencies if not dependency.target):
        assert address(each.path).port in peers, each.name
        assert address(each.direct).port not in peers, each.name


def test_kafka_sends_the_proxys_clients_back_to_the_proxy(running: Running) -> None:
    from aiokafka import AIOKafkaProducer

    async def brokers(bootstrap: Address) -> set[Address]:
        producer = AIOKafkaProducer(bootstrap_servers=str(bootstrap))
        await producer.start()
        try:
            await producer.send_and_wait("test-embedded", b"1")
            return {Address(broker.host, broker.port) for broker in producer.client.cluster.brokers()}
        finally:
            await producer.stop()

    kafka = dependency(running[1], "kafka")
    for bootstrap in (address(kafka.path), address(kafka.direct)):
        assert asyncio.run(brokers(bootstrap)) == {bootstrap}


def test_a_disabled_proxy_cuts_the_path_and_leaves_the_server(running: Running) -> None:
    found = dependency(running[1], "redis")
    url = f"{found.proxy.url}/proxies/{found.proxy.name}"
    ask(url, {"enabled": False})
    try:
        with (
            redis.Redis(port=address(found.path).port, password=valkey.password()) as through,
            pytest.raises(redis.ConnectionError),
        ):
            through.ping()
        with redis.Redis(port=address(found.direct).port, password=valkey.password()) as direct:
            assert direct.ping()
    finally:
        ask(url, {"enabled": True})


def test_the_role_that_a_fault_limits_is_the_applications_and_admin_can_limit_it(running: Running) -> None:
    db = dependency(running[1], "db")
    assert db.credentials.admin is not None
    with psycopg.connect(db.credentials.admin, autocommit=True) as admin:
        row = admin.execute(
            "select rolconnlimit, rolsuper from pg_roles where rolname = %s", [db.credentials.role]
        ).fetchone()
        assert row == (-1, False)
        used = admin.execute(
            "select count(*) from pg_stat_activity where usename = %s", [db.credentials.role]
        ).fetchone()
        assert used is not None
        assert used[0] > 0
    where = f"host=127.0.0.1 port={address(db.path).port}"
    with psycopg.connect(f"{where} {db.credentials.probe_login}") as probe:
        assert probe.execute("select 1").fetchone() == (1,)


def test_logs_lie_where_the_run_wants_them(two_stacks: tuple[Running, Running]) -> None:
    (one, _, _), (_, two, _) = two_stacks
    names = {f"{one}.log" for one in ("toxiproxy", "valkey", "postgres", "kafka", "risk", "envoy", "api")}
    assert one._logs is not None
    assert {p.name for p in one._logs.iterdir()} == names
    assert {p.name for p in (Path(two.folder or "") / "logs").iterdir()} == names


def test_nobody_else_can_look_into_the_private_folder(running: Running) -> None:
    folder = Path(running[1].folder or "")
    assert folder.stat().st_mode & 0o066 == 0
    for part in folder.iterdir():
        assert part.stat().st_mode & 0o077 == 0, part


def test_health_names_the_part_that_does_not_answer(running: Running) -> None:
    _, up, _ = running
    assert [part.trouble for part in health.parts(up)] == [None] * 7
    valkey = psutil.Process(dependency(up, "redis").process.pid)
    valkey.suspend()
    try:
        trouble = {part.name: part.trouble for part in health.parts(up)}
    finally:
        valkey.resume()
    assert "does not answer" in (trouble["valkey"] or "")
    assert trouble["postgres"] is None


def test_a_wedged_toxiproxy_is_restarted_with_its_proxies_and_without_toxics(running: Running) -> None:
    stack, up, launcher = running
    found = dependency(up, "redis")
    toxic = {"name": "wedge", "type": "latency", "attributes": {"latency": 1}}
    ask(f"{found.proxy.url}/proxies/redis/toxics", toxic)
    psutil.Process(found.proxy.pid).suspend()
    assert stack.restart_toxiproxy(launcher)
    proxies = ask(f"{found.proxy.url}/proxies")
    assert {name: (p["enabled"], p["toxics"]) for name, p in proxies.items()} == {
        "redis": (True, []),
        "kafka": (True, []),
        "db": (True, []),
        "risk": (True, []),
    }
    wait_until("the API has found its way back", lambda: ask(f"{up.target.url}/health")["status"] == "ok")


def scored(up: StackUp, number: int) -> tuple[dict[str, object], object]:
    """A transaction, and the risk score that its prediction came with."""
    transaction = {**TRANSACTION, "hash": f"0x{number:064x}"}
    return transaction, ask(f"{up.target.url}/api/v1/predict", {"transaction": transaction})["risk_score"]


def test_the_risk_service_is_asked_through_the_proxy_and_then_envoy(running: Running) -> None:
    _, up, _ = running
    risk, new = dependency(up, "risk"), count(1000)
    assert risk.front is not None and up.versions["envoy"] and risk.path != risk.direct
    before = Envoy(risk.front).counts()
    wait_until("a score", lambda: scored(up, next(new))[1] is not None)
    after = Envoy(risk.front).counts()
    assert after.application > before.application and after.probes == before.probes

    def known() -> bool:
        again = ask(f"{up.target.url}/api/v1/predict", {"transaction": {**TRANSACTION, "hash": f"0x{1000:064x}"}})
        assert again["risk_score"] is None or not again["from_cache"], "a prediction that was known comes without"
        return bool(again["from_cache"])

    wait_until("the prediction to be cached", known)
    assert ask(f"http://{risk.direct}/stats")["scores"] >= 1


def test_without_envoy_it_comes_up_and_says_what_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envoy, "installed", lambda: False)
    launcher, said = SubprocessLauncher(), list[str]()
    try:
        up = EmbeddedStack().up(launcher, said.append)
        assert "Envoy: not installed, so risk has no status, delay and slow-body" in said
        risk = dependency(up, "risk")
        assert risk.front is None and "envoy" not in up.versions
        new = count(1)
        wait_until("a score", lambda: scored(up, next(new))[1] is not None)
        with pytest.raises(Refused, match="risk-status needs an Envoy"):
            registered()["status"].plan(risk, {"status": 503, "share": 1.0})
    finally:
        launcher.close()


def test_a_stack_that_was_not_started_here_restarts_nothing() -> None:
    assert not EmbeddedStack().restart_toxiproxy(SubprocessLauncher())


class Sabotage(SubprocessLauncher):
    """Starts every server as asked, but one of them with an option that it does not know."""

    def launch(self, spec: ServerSpec) -> ServerProcess:
        if spec.name == "valkey":
            spec = msgspec.structs.replace(spec, argv=(*spec.argv, "--no-such-option", "1"))
        return super().launch(spec)


def test_a_server_that_dies_is_reported_with_its_last_words_and_the_rest_is_stopped() -> None:
    launcher = Sabotage()
    try:
        with pytest.raises(SetupError, match=r"Valkey ended with exit code 1 while it was starting") as error:
            EmbeddedStack().up(launcher, print)
        assert "no-such-option" in str(error.value)
        assert launcher.names() == []
    finally:
        launcher.close()


class Announcing(SubprocessLauncher):
    def __init__(self) -> None:
        super().__init__()
        self.first = threading.Event()

    def launch(self, spec: ServerSpec) -> ServerProcess:
        process = super().launch(spec)
        self.first.set()
        return process


def test_down_ends_a_start_that_is_under_way() -> None:
    launcher, stack = Announcing(), EmbeddedStack()
    try:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            job = pool.submit(stack.up, launcher, print)
            assert launcher.first.wait(120)
            stack.down()
            with pytest.raises(Interrupted):
                job.result(timeout=60)
        assert launcher.names() == []
    finally:
        launcher.close()


PLAIN = """
import os, sys
sys.path.insert(0, sys.argv[1])
from tests.support.servers.real import SubprocessLauncher
from harness.stack.embedded import EmbeddedStack
launcher = SubprocessLauncher()
try:
    up = EmbeddedStack().up(launcher, lambda line: print(line, file=sys.stderr))
    print(os.geteuid(), up.target.url)
finally:
    launcher.close()
"""


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="becomes another user, as root on Linux")
def test_an_ordinary_user_brings_it_up_too_from_a_cache_that_it_can_only_read(running: Running) -> None:
    # The one right kept is to read files, for a Python, a checkout and a cache below root's home.
    become = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    become += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    if shutil.which("setpriv") is None or subprocess.run([*become, "true"], capture_output=True).returncode != 0:
        pytest.skip("setpriv cannot do that here")
    done = subprocess.run(
        [*become, sys.executable, "-c", PLAIN, str(Path(__file__).parent.parent)],
        env={"HOME": "/nonexistent", "XDG_CACHE_HOME": str(cache_dir().parent), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("65534 http://127.0.0.1:")
