"""Single lines of the doctor: each sentence where it is true, and not where it is not."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from harness.adapters.toxiproxy.client import ProxyState, ToxicState
from harness.adapters.toxiproxy.lock import LOCK
from harness.dependencies.configuration import load
from harness.doctor import machine
from harness.doctor.diagnosis import Diagnosis, DiagnosisLine
from harness.doctor.parts import docker_lines, part_lines
from harness.doctor.requests import lines_of, taken_out
from harness.load.ipc.try_protocol import HeldBack, Tried, TriedRequest
from harness.model.records.load import LoadPlan, Remote
from harness.scaffold.openapi.operations import Operation
from harness.scaffold.starter_locustfile import starter
from harness.scaffold.written_files import write
from harness.stack.external.check import Look, Part


def told(tried: Tried) -> list[tuple[str, str, int]]:
    return [(line.state, line.fact, line.exit_code) for line in lines_of(tried)]


def test_a_request_that_fails_now_and_then_keeps_no_run_from_meaning_something() -> None:
    one = TriedRequest(name="GET /x", sent=2, failed=1, answers={"200": 1, "503": 1}, example="status: 503")
    assert told(Tried(requests=(one,))) == [("warn", "GET /x fails: 1 of 2, answered 1 x 200, 1 x 503", 0)]


def test_a_request_without_an_answer_says_so() -> None:
    one = TriedRequest(name="GET /x", sent=1, failed=1, example="timeout: no complete answer within 5 s")
    assert told(Tried(requests=(one,))) == [("fail", "GET /x fails: 1 of 1, without an answer", 3)]


def test_what_was_held_back_is_no_failure() -> None:
    held = (
        HeldBack(name="/login", method="POST", user="Buyer", prepares=True),
        HeldBack(name="POST /orders", method="POST", user="Visitor"),
    )
    found = told(Tried(held_back=held))
    assert {state for state, _, _ in found} == {"warn"} and len(found) == 2
    assert any(fact.startswith("Buyer begins with /login (POST), which was not sent") for _, fact, _ in found)


def test_a_file_that_sends_nothing_is_told() -> None:
    assert told(Tried()) == [("fail", "the locustfile sent no request", 3)]
    assert "its requests" in told(Tried(unasked=("Grpc",)))[0][1], "unless it was not let"


def load_plan(*, users: int, rate: float | None = None, remote: Remote | None = None) -> LoadPlan:
    return LoadPlan(
        model="open",
        host="http://127.0.0.1:1",
        locustfile="f.py",
        classes=(),
        seed=1,
        users=users,
        spawn_rate=1,
        ramp_s=1,
        rate=rate,
        workers=2 if remote is not None else 1,
        remote=remote,
    )


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with 1,000 descriptors a process and 500 local ports."""
    ports = tmp_path / "ports"
    ports.write_text("1000\t1499\n")
    monkeypatch.setattr(machine, "PORTS", ports)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1000, 1000))
    monkeypatch.setattr(os, "getloadavg", lambda: (0.5, 0.5, 0.5))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("users", "rate", "states"),
    [(400, 5.0, ["ok", "ok"]), (400, 50.0, ["ok", "warn"]), (600, 5.0, ["ok", "fail"]), (950, 5.0, ["fail", "fail"])],
)
def test_what_this_machine_has_for_the_load(users: int, rate: float, states: list[str]) -> None:
    assert [line.state for line in machine.machine_lines(load_plan(users=users, rate=rate))] == states


@pytest.mark.parametrize(("average", "busy"), [(0.2, False), (1.0, False), (1.1, True)])
def test_a_machine_that_is_busy_with_something_else_is_told_of(
    average: float, busy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cores = os.cpu_count() or 1
    monkeypatch.setattr(os, "getloadavg", lambda: (average * cores, 0.0, 0.0))
    said = [line for line in machine.machine_lines(load_plan(users=5)) if "more wants to run" in line.fact]
    assert [line.state for line in said] == ["warn"] * busy


def test_clocks_are_spoken_of_only_where_there_are_remote_workers() -> None:
    said = [line.fact for line in machine.machine_lines(load_plan(users=5))]
    assert not any("clock" in fact for fact in said)
    remote = Remote(workers=1)
    assert any(
        "clocks of the 1 remote" in line.fact for line in machine.machine_lines(load_plan(users=5, remote=remote))
    )


def toxiproxy(**proxies: ProxyState) -> list[DiagnosisLine]:
    url = "http://127.0.0.1:8474"
    found = Look(
        parts=(Part(name="toxiproxy", address=url),),
        target=None,
        dependencies=(),
        versions={"toxiproxy": "2.12.0"},
        toxiproxy=url,
        proxies={state.name: state for state in proxies.values()},
    )
    return list(part_lines(found, None, "api"))


@pytest.mark.parametrize("contained", [False, True])
def test_the_engine_is_asked_only_where_something_is_in_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, contained: bool
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    file = tmp_path / "harness.toml"
    file.write_text('[target]\nurl = "http://127.0.0.1:1"\n' + ('container = "app"\n' if contained else ""))
    found = list(docker_lines(load(file), ()))
    assert [line.exit_code for line in found] == [2] * contained
    assert all("no Docker engine answers" in line.fact and line.remedy for line in found)


def state(name: str, upstream: str = "127.0.0.1:2", *toxics: ToxicState) -> ProxyState:
    return ProxyState(name=name, listen="127.0.0.1:1", upstream=upstream, enabled=True, toxics=toxics)


def test_who_else_uses_toxiproxy() -> None:
    (alone,) = toxiproxy()
    assert alone.evidence == "http://127.0.0.1:8474; version 2.12.0"
    left = ToxicState(name="harness-1-down", type="latency", stream="downstream", attributes={})
    ours, others, toxic = toxiproxy(a=state("mail", "127.0.0.1:2", left))
    assert ours == alone and "1 more proxy" in others.fact and "mail" in others.evidence
    assert toxic.state == "warn" and "harness-1-down of another run" in toxic.fact


def test_a_lock_of_another_run_forbids_a_run() -> None:
    words = "run r1 host elsewhere pid 1 keeper 2 since 2026-01-01T00:00:00Z token ab"
    lock = toxiproxy(lock=state(LOCK, words))[1]
    assert lock.exit_code == 2 and "is in use by run r1 (host elsewhere" in lock.fact and "--steal" in lock.remedy


def test_what_forbids_a_run_counts_more_than_what_makes_it_meaningless() -> None:
    lines = [DiagnosisLine(about="a", state="fail", fact="f", exit_code=code) for code in (3, 2)]
    assert Diagnosis(target="t", config=None, lines=tuple(lines)).exit_code == 2
    assert Diagnosis(target="t", config=None, lines=()).exit_code == 0


def test_refused_requests_become_comments_only_where_init_wrote_the_file(tmp_path: Path) -> None:
    found = (
        Operation(method="get", template="/items", path="/items"),
        Operation(method="get", template="/account", path="/account"),
        Operation(method="get", template="/slow", path="/slow"),
    )
    write(tmp_path, {"locustfile.py": starter(found, "openapi.json")})
    file = tmp_path / "locustfile.py"
    tried = Tried(
        requests=(
            TriedRequest(name="GET /items", sent=1, failed=0, answers={"200": 1}),
            TriedRequest(name="GET /account", sent=2, failed=2, answers={"401": 2}),
            TriedRequest(name="GET /slow", sent=1, failed=1),
        )
    )
    (line,) = taken_out(tried, str(file))
    assert line.state == "ok" and "GET /account" in line.fact
    text = file.read_text()
    assert "# Not switched on: answered 401." in text and "#     self.client.get('/account'" in text
    assert "        self.client.get('/items', name='GET /items')" in text
    assert "        self.client.get('/slow', name='GET /slow')" in text, "without an answer it may be the service"
    assert list(taken_out(tried, str(file))) == []
    mine = tmp_path / "mine.py"
    mine.write_text(text + "\n# mine\n")
    (line,) = taken_out(tried, str(mine))
    assert line.state == "warn" and mine.read_text().endswith("# mine\n")
