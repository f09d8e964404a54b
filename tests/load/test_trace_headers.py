"""traceparent and baggage: on requests to the target, on no other, and the ids of what is worth a look are kept."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from load_run import CLOSED, Run, make_plan, named

from harness.load.allowed_hosts import rule
from harness.load.allowed_hosts.traceparent import Tracer
from harness.load.record.in_flight import Call
from harness.model.records.windows import DeltaRow, ErrorRow

PARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-01")
THEIRS = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-00"
FILE = """
from locust import FastHttpUser, HttpUser, constant, task
from harness.load.lean import LeanHttpUser
"""
USER = """
class NAME(KIND):
    wait_time = constant(0.05)

    @task
    def go(self):
        self.client.get("/plain-NAME", name="NAME")
        self.client.get("/away-NAME", name="NAME away", allow_redirects=True)
        self.client.get("/own-NAME", name="NAME own", headers={"traceparent": "THEIRS"})
        self.client.get("/bad-NAME", name="NAME bad")
"""
KINDS = {"Fast": "FastHttpUser", "Lean": "LeanHttpUser", "Plain": "HttpUser"}


class Server:
    """Keeps every head that it got; /away is a redirect to `elsewhere`, /bad a 503."""

    def __init__(self, host: str, elsewhere: str = "") -> None:
        self.heads: list[dict[str, str]] = []
        self._elsewhere = elsewhere
        self._socket = socket.create_server((host, 0))
        self.url = f"http://{host}:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def of(self, path: str) -> list[dict[str, str]]:
        return [head for head in self.heads if head[""].split()[1] == path]

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                first, *lines = connection.recv(65536).decode("latin-1").split("\r\n\r\n")[0].split("\r\n")
                head = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
                self.heads.append({"": first, **head})
                status = "503 No" if "/bad" in first else "200 OK"
                if "/away" in first and self._elsewhere:
                    status = f"302 Found\r\nLocation: {self._elsewhere}/there"
                connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok".encode())

    def close(self) -> None:
        self._socket.close()


@contextmanager
def server(host: str, elsewhere: str = "") -> Iterator[Server]:
    found = Server(host, elsewhere)
    try:
        yield found
    finally:
        found.close()


def test_each_client_sends_them_to_the_target_alone_and_keeps_the_ids(tmp_path: Path) -> None:
    file = tmp_path / "trace_file.py"
    users = (USER.replace("NAME", name).replace("KIND", kind) for name, kind in KINDS.items())
    file.write_text(FILE + "".join(users).replace("THEIRS", THEIRS))
    with server("127.0.0.2") as other, server("127.0.0.1", other.url) as target:
        plan = make_plan(
            file, target.url, classes=named(*KINDS), users=3, trace=True, run="20261130T100000Z",
            allow_hosts=("127.0.0.2",), **CLOSED,
        )  # fmt: skip
        with Run(plan, tmp_path) as run:
            run.begin()
            run.finish(15)
    rows = list(run.rows())
    deltas, errors = [r for r in rows if isinstance(r, DeltaRow)], [r for r in rows if isinstance(r, ErrorRow)]
    assert len(other.of("/there")) >= 3
    for head in other.heads:
        assert "traceparent" not in head and "baggage" not in head
    seen: set[str] = set()
    for name in KINDS:
        sent = [*target.of(f"/plain-{name}"), *target.of(f"/away-{name}"), *target.of(f"/bad-{name}")]
        assert len(sent) >= 3
        for head in sent:
            assert PARENT.fullmatch(head["traceparent"]), head
            assert head["baggage"] == "harness.run=20261130T100000Z"
        seen |= {head["traceparent"] for head in sent}
        assert {head["traceparent"] for head in target.of(f"/own-{name}")} == {THEIRS}
    assert len(seen) == sum(len(target.of(f"/{path}-{name}")) for name in KINDS for path in ("plain", "away", "bad"))
    ids = {path: {h["traceparent"][3:35] for h in target.of(path)} for path in {h[""].split()[1] for h in target.heads}}
    for name in KINDS:
        slowest = [row.requests[name].slowest for row in deltas if name in row.requests]
        assert slowest and set(slowest) - {""} <= ids[f"/plain-{name}"] and any(slowest)
        failed = [row.trace for row in errors if row.name == f"{name} bad"]
        assert failed and set(failed) <= ids[f"/bad-{name}"]
        own = [row.requests[f"{name} own"].slowest for row in deltas if f"{name} own" in row.requests]
        assert set(own) - {""} == {"ab" * 16}


def test_without_tracing_nothing_is_added(tmp_path: Path) -> None:
    file = tmp_path / "trace_file.py"
    file.write_text(FILE + USER.replace("NAME", "Lean").replace("KIND", "LeanHttpUser").replace("THEIRS", THEIRS))
    with server("127.0.0.1") as target:
        plan = make_plan(file, target.url, classes=named("Lean"), users=1, **CLOSED)
        with Run(plan, tmp_path) as run:
            run.begin()
            run.finish(5)
    deltas = [row for row in run.rows() if isinstance(row, DeltaRow)]
    assert target.of("/plain-Lean")
    assert not any("traceparent" in head for head in target.of("/plain-Lean"))
    assert not any(counts.slowest for row in deltas for counts in row.requests.values())


@pytest.fixture
def hosts() -> Iterator[None]:
    rule.set_hosts(rule.Hosts("http://shop.test:8000", ("10.0.0.9",), ("other.test",)))
    yield
    rule._hosts = None


@pytest.mark.parametrize(
    ("own", "parent", "baggage"),
    [
        ((), True, True),
        ((("TraceParent", THEIRS),), False, True),
        ((("traceparent", None),), False, True),
        ((("traceparent", "nonsense"),), False, True),
        ((("Baggage", "a=b"),), True, False),
        (((b"baggage", b"a=b"), ("traceparent", THEIRS)), False, False),
    ],
)
@pytest.mark.usefixtures("hosts")
def test_a_line_of_the_files_own_is_left_alone(
    own: tuple[tuple[str, str], ...], parent: bool, baggage: bool
) -> None:  # fmt: skip
    call = Call("x", None, None, 0.0)
    lines = Tracer("run 1").lines(call, "shop.test", own)
    assert (b"traceparent: 00-" in lines) == parent
    assert (b"baggage: harness.run=run%201\r\n" in lines) == baggage
    theirs = any(value == THEIRS for _, value in own)
    assert (call.parent == THEIRS) == theirs and bool(call.parent) == (parent or theirs)


@pytest.mark.usefixtures("hosts")
def test_which_hosts_are_the_targets() -> None:
    tracer = Tracer("1")
    for host, sent in (("shop.test", True), ("SHOP.test.", True), ("10.0.0.9", True), ("other.test", False)):
        assert bool(tracer.lines(Call("x", None, None, 0.0), host, ())) == sent, host
