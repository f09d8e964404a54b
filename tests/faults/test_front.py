"""status, delay and slow-body at a real Envoy, in front of an upstream of the test's own."""

from __future__ import annotations

import http.client
import http.server
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from faults.front import kinds
from faults.front.requests import Asked
from harness.adapters.clients.envoy import Envoy
from harness.dependencies.counters import Counters
from harness.dependencies.probe import path_probe
from harness.dependencies.registry import kind_of
from harness.dependencies.result import ProbeResult
from harness.fault import Fault, registered
from harness.model.errors import OutcomeUnknown, Refused, Rejected, UndoUnverified, Unreachable, UsageError
from harness.model.records.faults import Address, Dependency, DependencyFront, DependencyProxy, Tls, UndoRecord
from harness.model.records.process import ServerProcess
from harness.safety.healing.undo import Patience, undo_record
from harness.safety.locks.names import declared_names
from harness.stack.starting.ports import Ports
from harness.testing import (
    FaultContract,
    assert_fault_contract,
    assert_held,
    assert_planned,
    assert_refused,
    change_for,
    held,
)
from harness.testing.fault_contract import undo_elsewhere
from tests.support.servers.caches import certificates
from tests.support.servers.envoy import HttpUpstream, answered, fronted, runtime, set_runtime, upstream
from tests.support.servers.proxied import raw, record_like
from tests.support.servers.real import SubprocessLauncher

KINDS = ("status", "delay", "slow-body")
UP_FRONT = Dependency(name="risk", kind="http", front=DependencyFront(url="http://127.0.0.1:9901", name="risk"))


@pytest.fixture(scope="module")
def backend() -> Iterator[HttpUpstream]:
    with upstream() as server:
        yield server


@pytest.fixture(scope="module")
def front(_launcher: SubprocessLauncher, backend: HttpUpstream) -> Iterator[tuple[Dependency, ServerProcess]]:
    with fronted(_launcher, backend.address, backend.address) as found:
        yield found


@pytest.fixture
def dependency(front: tuple[Dependency, ServerProcess]) -> Iterator[Dependency]:
    assert runtime(front[0]) == {}
    yield front[0]
    left = runtime(front[0])
    set_runtime(front[0], "&".join(f"{name}=" for name in left))


def url(dependency: Dependency, page: str = "/pay") -> str:
    return f"http://{dependency.path}{page}"


def put_on(fault: Fault, dependency: Dependency, **params: str) -> UndoRecord:
    record = fault.capture(change_for(fault, dependency, **params), "risk-fault#1")
    fault.inject(record)
    return record


@pytest.mark.stack
class TestContract(FaultContract):
    fault = registered()["status"]

    @pytest.fixture
    def dependency(self, dependency: Dependency) -> Dependency:
        return dependency

    def look(self, dependency: Dependency) -> object:
        return runtime(dependency), answered(url(dependency))[0]


@pytest.mark.stack
@pytest.mark.parametrize(
    ("kind", "params"),
    [
        ("status", {"status": "429", "share": "30%"}),
        ("delay", {}),
        ("delay", {"delay": "200ms", "share": "50%"}),
        ("slow-body", {"rate": "1"}),
        ("slow-body", {"rate": "8"}),
        ("slow-body", {"rate": "64", "share": "50%"}),
    ],
    ids=str,
)
def test_each_fault_keeps_the_contract(dependency: Dependency, kind: str, params: dict[str, str]) -> None:
    assert_fault_contract(registered()[kind], dependency, look=runtime, params=params)


@pytest.mark.stack
def test_a_status_is_answered_with_retry_after_and_does_not_reach_the_upstream(
    dependency: Dependency, backend: HttpUpstream
) -> None:
    fault = registered()["status"]
    record = put_on(fault, dependency, status="429")
    before = len(backend.seen)
    status, _, headers = answered(url(dependency))
    assert (status, headers["retry-after"]) == (429, "1")
    assert len(backend.seen) == before
    fault.undo(record)
    assert answered(url(dependency))[0] == 200


@pytest.mark.stack
def test_a_fault_stays_at_its_own_front(_launcher: SubprocessLauncher, backend: HttpUpstream) -> None:
    with upstream() as second, fronted(_launcher, backend.address, second.address) as (first, _):
        fault = registered()["status"]
        record = put_on(fault, first)
        assert first.front is not None
        other = msgspec.structs.replace(
            first, front=DependencyFront(url=first.front.url, name="risk-2"), path=listener(first, "harness_risk-2")
        )
        assert answered(url(other))[0] == 200
        assert answered(url(first))[0] == 503
        fault.undo(record)


def listener(dependency: Dependency, name: str) -> Address:
    assert dependency.front is not None
    found = json.loads(answered(f"{dependency.front.url}/listeners?format=json")[1])["listener_statuses"]
    at = next(one for one in found if one["name"] == name)["local_address"]["socket_address"]
    return Address(at["address"], at["port_value"])


@pytest.mark.stack
def test_an_answer_drips_for_the_application_as_for_the_probe(dependency: Dependency) -> None:
    page = "/" + "x" * 1500  # it comes back in the answer, which is then of 1.6 KiB
    record = put_on(registered()["slow-body"], dependency, rate="1")
    began = time.monotonic()
    answered(url(dependency, page))
    took = time.monotonic() - began
    registered()["slow-body"].undo(record)
    assert took > 1.2
    began = time.monotonic()
    answered(url(dependency, page))
    assert time.monotonic() - began < took


@pytest.mark.stack
def test_while_no_fault_is_on_requests_pass_as_they_are(dependency: Dependency, backend: HttpUpstream) -> None:
    """Header names as written, nothing added but x-forwarded-proto; an answer that takes its time; many at once."""
    assert dependency.path is not None
    connection = http.client.HTTPConnection(dependency.path.host, dependency.path.port, timeout=30)
    connection.request("GET", "/a//b/%2e%2e/c?d=%2F", headers={"User-Agent": "app", "X-MiXed": "Y"})
    answer = connection.getresponse()
    body = msgspec.json.decode(answer.read())
    assert body["path"] == "/a//b/%2e%2e/c?d=%2F"
    sent = {"Host": str(dependency.path), "Accept-Encoding": "identity", "User-Agent": "app", "X-MiXed": "Y"}
    assert dict(body["headers"]) == {**sent, "x-forwarded-proto": "http"}
    assert set(dict(answer.getheaders())) == {"Server", "Date", "X-Mixed-Case", "Content-Length"}
    assert "Python" in (answer.getheader("Server") or "")
    connection.close()


@pytest.mark.stack
@pytest.mark.slow
@pytest.mark.parametrize("many", [20, pytest.param(2000, marks=pytest.mark.thorough)])
def test_an_answer_may_take_as_long_as_it_does_and_many_may_wait(
    dependency: Dependency, backend: HttpUpstream, many: int
) -> None:
    """Longer than 15 s, the time-out that Envoy gives a route of which nothing is said; and more at once than the
    1024 at which its circuit breaker opens otherwise (which take ports that tests beside this one look at)."""
    assert dependency.path is not None
    host, port = dependency.path.host, dependency.path.port
    backend.slow_s = 16.0
    waiting = [http.client.HTTPConnection(host, port, timeout=60) for _ in range(many)]
    for one in waiting:
        one.request("GET", "/slow", headers={"User-Agent": "app"})
    statuses = [one.getresponse().status for one in waiting]
    for one in waiting:
        one.close()
    assert statuses == [200] * many


@pytest.mark.stack
def test_what_met_the_application_is_counted_without_our_probes(dependency: Dependency) -> None:
    fault = registered()["status"]
    record = put_on(fault, dependency, share="50%")
    assert_held(fault.prove(record, "injected"))
    (nobody,) = fault.undo(record).evidence
    assert not nobody.held and nobody.observed.startswith("0 requests")
    record = put_on(fault, dependency)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: answered(url(dependency)), range(7)))
    (met,) = fault.undo(record).evidence
    assert met.held and met.source == "path" and met.observed.startswith("7 requests")
    assert fault.undo(record).evidence == (), "it has been told"


@pytest.mark.stack
def test_the_total_of_the_path_proof_counts_the_application_alone(dependency: Dependency) -> None:
    kind = kind_of(dependency)
    before = kind.total(dependency)
    kind.check(dependency, "harness.toml: dependencies.risk", None, pytest.fail)
    assert kind.total(dependency) == before
    answered(url(dependency))
    assert kind.total(dependency) == (before or 0) + 1


@pytest.mark.stack
def test_the_counters_of_a_front_are_the_application_s_requests_and_all_connections(dependency: Dependency) -> None:
    with closing(Counters(dependency)) as counters:
        before = counters.read()
        for _ in range(3):
            assert answered(f"http://{dependency.path}/")[0] == 200
        assert path_probe(dependency)(5.0).ok
        after = counters.read()
    risen = {name: after[name] - before[name] for name in ("requests", "connections")}
    assert risen == {"requests": 3, "connections": 4} and after["clients"] >= 0


@pytest.mark.parametrize(("seconds", "held"), [(2.3, True), (1.99, True), (1.91, True), (1.85, False), (0.002, False)])
def test_a_delay_may_end_a_little_early(monkeypatch: pytest.MonkeyPatch, seconds: float, held: bool) -> None:
    result = ProbeResult(
        ok=True, started=0.0, ended=seconds, error_kind="", detail="GET / answered 200", connected=True
    )
    monkeypatch.setattr(kinds, "page", lambda *_: Asked(result=result, status=200))
    record = record_like(UP_FRONT, healthy_fastest_s=0.001)
    record = msgspec.structs.replace(record, params={"delay": 2.0, "share": 1.0})
    evidence = kinds.DELAY.sees(record, "held")
    assert evidence is not None and evidence.held is held


@pytest.mark.stack
def test_what_somebody_else_has_set_is_refused_before_and_left_alone_after(dependency: Dependency) -> None:
    fault = registered()["delay"]
    set_runtime(dependency, "harness.risk.status.percent=3")
    with pytest.raises(Refused, match=r"runtime keys set: harness\.risk\.status\.percent 3"):
        fault.capture(change_for(fault, dependency), "r")
    with pytest.raises(Refused, match="runtime keys set"):
        kind_of(dependency).check(dependency, "x", None, print)
    set_runtime(dependency, "harness.risk.status.percent=")
    record = put_on(fault, dependency)
    set_runtime(dependency, "harness.risk.delay.ms=40")
    assert not held(fault.prove(record, "held"))
    with pytest.raises(UndoUnverified, match=r"delay\.ms .* to 40; the harness had set 500") as error:
        fault.undo(record)
    assert "runtime_modify?harness.risk.delay.ms=&harness.risk.delay.percent=" in str(error.value.mend)
    assert runtime(dependency)["harness.risk.delay.ms"] == "40"
    outcome = undo_record(record)
    assert outcome.state == "unverified" and outcome.foreign


@pytest.mark.stack
def test_two_kinds_at_once_are_undone_each_by_itself(dependency: Dependency) -> None:
    delay, drip = registered()["delay"], registered()["slow-body"]
    records = [
        one.capture(change_for(one, dependency), f"risk-{one.kind}") for one in (delay, drip)
    ]  # captured before the first is on
    delay.inject(records[0])
    drip.inject(records[1])
    assert_held(undo_elsewhere(records[0], {}))
    assert set(runtime(dependency)) == {"harness.risk.slow-body-8.percent"}
    assert_held(undo_elsewhere(records[1], {}))
    assert runtime(dependency) == {}


@pytest.mark.stack
def test_an_address_that_does_not_lead_through_the_front_is_refused(
    dependency: Dependency, backend: HttpUpstream
) -> None:
    past = msgspec.structs.replace(dependency, path=backend.address)
    fault = registered()["status"]
    with pytest.raises(Refused, match="do not pass the front risk"):
        fault.capture(change_for(fault, past), "r")
    with pytest.raises(UsageError, match="do not pass the front risk"):
        kind_of(past).check(past, "x", None, print)
    assert dependency.front is not None
    stranger = msgspec.structs.replace(dependency, front=DependencyFront(url=dependency.front.url, name="mail"))
    with pytest.raises(Refused, match=r"no front 'mail' .*\(it has: risk, risk-2\)"):
        fault.capture(change_for(fault, stranger), "r")


@pytest.mark.stack
def test_an_envoy_that_dies_takes_its_keys_along_and_one_that_is_stopped_is_told(
    _launcher: SubprocessLauncher, backend: HttpUpstream
) -> None:
    with fronted(_launcher, backend.address) as (dependency, process):
        fault = registered()["status"]
        record = put_on(fault, dependency)
        os.kill(process.pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            with pytest.raises(Unreachable, match="gave no whole answer within 2 s"):
                fault.undo(record)
            assert time.monotonic() - began < 15
        finally:
            os.kill(process.pid, signal.SIGCONT)
        os.kill(process.pid, signal.SIGKILL)
        until = time.monotonic() + 30
        while _launcher.exit_code(process.name) is None and time.monotonic() < until:
            time.sleep(0.05)
        with pytest.raises(Unreachable, match="no Envoy answers"):
            fault.prove(record, "held")
        outcome = undo_record(record, patience=Patience(limit_s=1.0))
        assert outcome.state == "unverified", "unreachable is not gone"
        assert "runtime_modify?" in (outcome.mend or "") and "are gone with it" in (outcome.mend or "")
        _launcher.launch(_launcher._specs[process.name])
        assert undo_record(record).state == "verified", "one that was started again has no keys"


INJECT_AND_DIE = """
import os, sys, msgspec
from harness.fault import registered
from harness.model.records.faults import UndoRecord
record = msgspec.json.decode(sys.stdin.buffer.read(), type=UndoRecord)
registered()[record.kind].inject(record)
os.kill(os.getpid(), 9)
"""


@pytest.mark.stack
def test_what_a_killed_process_has_set_another_takes_away_from_the_record(dependency: Dependency) -> None:
    fault = registered()["status"]
    record = fault.capture(change_for(fault, dependency), "r")
    words = [sys.executable, "-c", INJECT_AND_DIE]
    died = subprocess.run(words, input=msgspec.json.encode(record), timeout=120, check=False)
    assert died.returncode == -signal.SIGKILL
    assert answered(url(dependency))[0] == 503
    assert_held(undo_elsewhere(record, {}))
    assert runtime(dependency) == {} and answered(url(dependency))[0] == 200


@pytest.mark.stack
@pytest.mark.parametrize("kind", ["status", "down", "latency"])
def test_toxiproxy_stands_before_the_front(
    dependency: Dependency, toxiproxy_server: str, toxiproxy_process: ServerProcess, kind: str
) -> None:
    """Application, Toxiproxy, Envoy, upstream: the faults of both are proven and undone on that path."""
    with Ports() as ports:
        listen = Address("127.0.0.1", ports.take())
        proxy = {"name": "risk-front", "listen": str(listen), "upstream": str(dependency.path)}
        raw(f"{toxiproxy_server}/proxies", "POST", proxy)
    try:
        whole = msgspec.structs.replace(
            dependency,
            path=listen,
            proxied=True,
            proxy=DependencyProxy(url=toxiproxy_server, name="risk-front", pid=toxiproxy_process.pid),
        )
        assert_fault_contract(
            registered()[kind],
            whole,
            look=lambda it: (runtime(it), raw(f"{toxiproxy_server}/proxies/risk-front")),
        )
    finally:
        raw(f"{toxiproxy_server}/proxies/risk-front", "DELETE")


@pytest.mark.stack
def test_tls_to_the_upstream_is_envoys(_launcher: SubprocessLauncher, tmp_path: Path) -> None:
    """The application speaks plain HTTP; a certificate for another name is not believed."""
    folder = certificates(tmp_path)
    with upstream() as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.pem", folder / "server.key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        for name, status in (("cache.test", 200), ("other.test", 503)):
            tls = Tls(ca=str(folder / "ca.pem"), name=name)
            with fronted(_launcher, server.address, tls=tls) as (dependency, _):
                found, body, _ = answered(url(dependency))
                assert found == status, body
                if status == 200:
                    assert dict(msgspec.json.decode(body)["headers"])["Host"] == name


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_front_it_is_refused_with_what_to_declare(kind: str) -> None:
    assert_refused(registered()[kind], msgspec.structs.replace(UP_FRONT, front=None))
    assert_refused(registered()[kind], Dependency(name="cache", kind="redis"))
    assert_planned(registered()[kind], UP_FRONT)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"share": "0%"}, "out of range"),
        ({"share": "50"}, "percent sign"),
        ({"share": "33.3%"}, "whole per cent"),
        ({"status": "200"}, "out of range"),
    ],
    ids=str,
)
def test_what_envoy_cannot_do_is_refused(params: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        change_for(registered()["status"], UP_FRONT, **params)


def test_an_envoy_that_answers_ok_and_changes_nothing_is_believed_by_nobody() -> None:
    """By an imitation of its admin interface: no real one does so."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(
                b'{"stats": [{"name": "http.harness_risk.rbac.harness.shadow_allowed", "value": 1}]}'
                if self.path.startswith("/stats")
                else b'{"entries": {}}'
            )

        def do_POST(self) -> None:
            self._answer(b"OK\n")

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as liar:
        threading.Thread(target=liar.serve_forever, args=(0.05,), daemon=True).start()
        address = f"http://127.0.0.1:{liar.server_address[1]}"
        dependency = msgspec.structs.replace(UP_FRONT, front=DependencyFront(url=address, name="risk"))
        fault = registered()["status"]
        keys = {"harness.risk.status.percent": "100", "harness.risk.status.code": "503"}
        record = UndoRecord(
            id="r",
            kind="status",
            dependency=dependency,
            params={"share": 1.0, "status": 503},
            where={"url": address, "front": "risk"},
            original=dict.fromkeys(keys, ""),
            ours=dict(keys),
        )
        with pytest.raises(OutcomeUnknown, match="answered OK, and its runtime reads back none"):
            fault.inject(record)
        with pytest.raises(Rejected, match="does not answer like Envoy"):
            Envoy(DependencyFront(url=address, name="risk")).version()
        liar.shutdown()


def test_before_its_envoy_is_up_a_front_is_planned_by_its_name() -> None:
    unbound = msgspec.structs.replace(UP_FRONT, front=DependencyFront(name="risk"))
    change = change_for(registered()["status"], unbound)
    assert change.property == "front risk of Envoy: status" and change.resources == ("envoy front risk",)
    assert not [name for name in declared_names("", [unbound]) if "envoy" in name]
