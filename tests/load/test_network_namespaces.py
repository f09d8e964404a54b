"""Workers with networks (and a clock) of their own, joined by a bridge: as near to other machines as one gets."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from load_run import Run, named
from load_target import Target
from remote_run import Worker, remote_plan, warned
from test_clocks import time_namespace
from test_remote_workers import assert_as_scheduled

from harness.load.ipc.protocol import ClockDoubt, WorkerLost
from tests.support.networks import NET, NET6, Networks, ip
from tests.support.networks import networks as joined

PATHS = Path(__file__).parent / "files" / "paths.py"


@pytest.fixture
def networks() -> Iterator[Networks]:
    with joined(2) as found:
        yield found


@pytest.fixture
def target(networks: Networks) -> Iterator[Target]:
    server = Target(host=f"{NET}.1").start()
    yield server
    server.stop()


def test_two_machines_and_this_one_make_the_schedule(networks: Networks, target: Target, tmp_path: Path) -> None:
    """One of the two also has a clock 5,000 s ahead, where the kernel can do that."""
    plan = remote_plan(PATHS, target.url, local=1, remote=2, bind=f"{NET}.1", classes=named("Right", "Left"))
    ahead = ("unshare", "--time", "--monotonic", "5000", "--fork", "--kill-child") if time_namespace() else ()
    with (
        Run(plan, tmp_path) as run,
        Worker(plan, tmp_path, host=f"{NET}.1", prefix=networks.inside(0)) as first,
        Worker(
            plan, tmp_path, host=f"{NET}.1", prefix=networks.inside(1, *ahead), number=plan.local_workers + 1
        ) as second,
    ):
        run.go(3)
        assert first.end() == second.end() == 0
        assert_as_scheduled(run, 30)
        told = {m.worker: m for m in run.messages if isinstance(m, ClockDoubt)}
        counts = run.classes()
    assert set(told) == {"w1", "w2"}
    assert sorted(round(m.offset_s) for m in told.values()) == ([0, 5000] if ahead else [0, 0])
    assert all(m.seconds < 0.1 for m in told.values())
    assert all(c.planned == c.ended == c.replied for c in counts.values())


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this kernel has no IPv6")
@pytest.mark.parametrize("listens", [f"{NET6}::1", "::"], ids=["own", "any"])
def test_a_master_on_ipv6(networks: Networks, target: Target, tmp_path: Path, listens: str) -> None:
    networks.speak_ipv6()
    plan = remote_plan(PATHS, target.url, local=1, remote=1, bind=listens, classes=named("Right", "Left"))
    # As people write it where a port follows; `::` takes those of IPv4 as well.
    host = f"[{NET6}::1]" if listens != "::" else f"{NET}.1"
    with Run(plan, tmp_path) as run, Worker(plan, tmp_path, host=host, prefix=networks.inside(0)) as worker:
        assert f"on [{listens}]:" in warned(run, "waiting for")
        run.go(2)
        assert worker.end() == 0, worker.text
        assert_as_scheduled(run, 20)
        counts = run.classes()
    assert all(c.planned == c.ended == c.replied for c in counts.values())


def test_a_worker_whose_network_is_cut_stops_and_is_told_as_lost(
    networks: Networks, target: Target, tmp_path: Path
) -> None:
    plan = remote_plan(PATHS, target.url, local=1, bind=f"{NET}.1", classes=named("Right"))
    with (
        Run(plan, tmp_path) as run,
        Worker(plan, tmp_path, host=f"{NET}.1", prefix=networks.inside(0)) as worker,
    ):
        run.begin().at(1)
        ip("link", "set", networks.cable(0), "down")
        cut = time.monotonic()
        assert worker.end(30) == 4, worker.text
        assert "nothing was heard from the run" in worker.text
        assert 1.5 < time.monotonic() - cut < 12
        lost = run.message(WorkerLost, 30)
        assert lost.worker == "w1" and "for 5 s" in lost.reason
        run.finish(round((time.monotonic() - run.t0) * 10) + 5)
        assert [mark.worker for mark in run.marks() if mark.final] == ["w0"]
