"""Journals that lost their end: what they know nothing of any more is found on the Toxiproxy before it is unlocked."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.adapters.toxiproxy.lock import LOCK
from harness.safety.healing.dead_run import heal_all
from harness.safety.journal.entries import ProxyLock, decode
from harness.safety.journal.log import JOURNAL
from harness.safety.locks.remote import drop_proxy, hold_proxy
from harness.safety.state_folders import find_active
from tests.safety.world import Proxy, Run, call, gone, stop, wait_for

pytestmark = pytest.mark.stack

LATENCY = ["latency", {"latency": 0.2, "jitter": 0.0, "direction": "down"}]
DOWN = ["down", {}]


@pytest.fixture
def unlock(toxiproxy_server: str) -> Iterator[None]:
    """Whatever a test has left: the shared Toxiproxy is free for the next one."""
    yield
    call("DELETE", f"{toxiproxy_server}/proxies/{LOCK}")


def locked(api: str) -> bool:
    return call("GET", f"{api}/proxies/{LOCK}") is not None


def killed_with(proxy: Proxy, start_run: Callable[..., Run], fault: list[Any], **more: Any) -> Run:
    """A run with its fault on, killed with its keeper."""
    dependency = msgspec.to_builtins(proxy.dependency())
    run = start_run(dependency=dependency, faults=[fault], shared=[{"toxiproxy": proxy.api}], **more)
    run.wait("injected")
    stop(run.said["keeper"])
    run.kill()
    os.kill(run.said["keeper"], 9)
    wait_for("both dead", lambda: gone(run.said["keeper"]) and run.process.poll() is not None)
    wait_for("its journal closed", find_active)
    return run


def cut_before(run: Run, entry: str) -> None:
    """The journal as a crash of the disk may leave it: its lines from the first of that kind on are gone."""
    path = run.state / JOURNAL
    lines = path.read_bytes().splitlines(keepends=True)
    kept = next(n for n, line in enumerate(lines) if type(decode(line[:-1])).__struct_config__.tag == entry)
    path.write_bytes(b"".join(lines[:kept]))


def command_heal() -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from harness.cli import main; main()", "heal", "--all"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("entry", ["intent", "record"])
def test_a_toxic_that_no_journal_knows_keeps_the_lock_and_is_named(
    proxy: Proxy, start_run: Any, unlock: None, entry: str
) -> None:
    run = killed_with(proxy, start_run, LATENCY)
    cut_before(run, entry)
    (toxic,) = proxy.toxics()
    for _ in range(2):
        done = command_heal()
        assert done.returncode == 5, done.stdout + done.stderr
        assert toxic in done.stdout and f"curl -X DELETE {proxy.url}/toxics/{toxic}" in done.stdout
        assert locked(proxy.api) and proxy.toxics() == [toxic]
    # The command that it prints is all that is needed.
    told = done.stdout[done.stdout.index("curl ") :].split(" ;")[0]
    subprocess.run([*shlex.split(told), "-sS"], check=True, timeout=60)
    assert command_heal().returncode == 0
    assert not locked(proxy.api) and proxy.clean() and not run.state.exists()


def test_a_proxy_that_the_dead_run_meant_to_disable_keeps_the_lock_too(
    proxy: Proxy, start_run: Any, unlock: None
) -> None:
    run = killed_with(proxy, start_run, DOWN, disables=[proxy.name])
    cut_before(run, "intent")
    (healed,) = heal_all(lambda _: None)
    assert len(healed.left) == 1 and f"proxy {proxy.name} is disabled" in healed.left[0]
    assert locked(proxy.api) and not proxy.state()["enabled"]
    call("POST", proxy.url, {"enabled": True})
    (healed,) = heal_all(lambda _: None)
    assert healed.left == () and not locked(proxy.api) and not run.state.exists()


def test_the_keeper_looks_as_well_before_it_unlocks(proxy: Proxy, start_run: Any, unlock: None) -> None:
    """The run says that it is done, and something that nobody has recorded is on its Toxiproxy."""
    dependency = msgspec.to_builtins(proxy.dependency())
    run = start_run(dependency=dependency, faults=[LATENCY], shared=[{"toxiproxy": proxy.api}])
    run.wait("injected")
    body = {"name": "harness-of-nobody", "type": "latency", "attributes": {"latency": 1}}
    call("POST", f"{proxy.url}/toxics", body)
    run.kill(15)
    (left,) = run.wait("finished")["left"]
    assert "harness-of-nobody" in left and proxy.toxics() == ["harness-of-nobody"] and locked(proxy.api)


def test_what_another_journal_answers_for_and_what_is_not_ours_hinders_nobody(
    proxy: Proxy, toxiproxy_server: str, unlock: None
) -> None:
    lock = ProxyLock(url=toxiproxy_server, text="run x host y pid 1 keeper 2 since z token ab")
    hold_proxy(lock)
    for name in ("of-the-user", "harness-a-downstream"):
        call("POST", f"{proxy.url}/toxics", {"name": name, "type": "latency", "attributes": {"latency": 1}})
    assert "harness-a-downstream" in str(drop_proxy(lock)) and locked(toxiproxy_server)
    assert drop_proxy(lock, known=["harness-a"]) is None and not locked(toxiproxy_server)
    # A lock that has gone is no reason to say that all is well, one that somebody else has by now is theirs.
    assert "harness-a-downstream" in str(drop_proxy(lock))
    hold_proxy(ProxyLock(url=toxiproxy_server, text="run z host y pid 1 keeper 2 since z token cd"))
    assert drop_proxy(lock) is None and locked(toxiproxy_server)


def test_a_record_of_another_run_is_that_runs_to_undo(
    proxy: Proxy, start_run: Any, unlock: None, state_home: Path
) -> None:
    run = killed_with(proxy, start_run, LATENCY)
    # Somebody has taken the lock away by force, and a second run has come and gone.
    call("DELETE", f"{proxy.api}/proxies/{LOCK}")
    second = start_run(name="run-2", shared=[{"toxiproxy": proxy.api}])
    second.wait("injected")
    second.kill(15)
    assert second.wait("finished")["left"] == []
    assert not locked(proxy.api) and len(proxy.toxics()) == 1
    assert run.state.exists()
