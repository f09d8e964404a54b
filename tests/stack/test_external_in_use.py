"""A look at the user's own system while another run is at it: what is broken there is that run's doing."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from harness.adapters.toxiproxy.lock import LOCK, LockHolder
from harness.dependencies.configuration import load
from harness.model.clock import wall
from harness.stack.external.check import look
from tests.safety.conftest import proxy
from tests.safety.world import Proxy, call

__all__ = ["proxy"]

pytestmark = pytest.mark.stack

BREAKS = ["disabled", "toxic"]


def broken(proxy: Proxy, how: str) -> None:
    if how == "disabled":
        call("POST", proxy.url, {"enabled": False})
    else:
        body = {"name": "harness-redis-latency-ab-downstream", "type": "latency", "attributes": {"latency": 1}}
        call("POST", f"{proxy.url}/toxics", body)


def told(proxy: Proxy, folder: Path, holder: LockHolder | None) -> str:
    """What a look says of the dependency while this run holds the Toxiproxy."""
    file = folder / "harness.toml"
    file.write_text(
        f'[target]\nurl = "http://127.0.0.1:1"\n[toxiproxy]\nurl = "{proxy.api}"\n'
        f'[dependencies.redis]\nkind = "redis"\nproxy = "{proxy.name}"\ndirect = "{proxy.upstream}"\n'
    )
    if holder is not None:
        body = {"name": LOCK, "listen": "127.0.0.1:0", "upstream": holder.text(), "enabled": False}
        call("POST", f"{proxy.api}/proxies", body)
    try:
        found = look(load(file), "http://127.0.0.1:1", allow_hosts=())
    finally:
        call("DELETE", f"{proxy.api}/proxies/{LOCK}")
    trouble = {part.name: part.trouble for part in found.parts}
    assert trouble["redis"] is not None
    if holder is not None and holder.alive():
        # The target does not answer either: that may be the other run's doing as well.
        assert "in use by run run-a" in str(trouble["target"].hint if trouble.get("target") else trouble["api"].hint)  # type: ignore[union-attr]
    return f"{trouble['redis']} {trouble['redis'].hint}"


def held_by(pid: int, host: str | None = None) -> LockHolder:
    return LockHolder(owner="run-a", host=host or socket.gethostname(), pid=pid, keeper=0, since=wall())


@pytest.mark.parametrize("how", BREAKS)
def test_a_living_run_is_named_and_nothing_that_would_sabotage_it(proxy: Proxy, tmp_path: Path, how: str) -> None:
    broken(proxy, how)
    said = told(proxy, tmp_path, held_by(os.getpid()))
    assert "is in use by run run-a" in said and f"pid {os.getpid()}" in said
    assert "heal" not in said and "curl" not in said and "steal" not in said


@pytest.mark.parametrize("how", BREAKS)
def test_a_dead_run_is_to_be_healed(proxy: Proxy, tmp_path: Path, how: str) -> None:
    broken(proxy, how)
    for holder in (held_by(2**31 - 2), None):
        said = told(proxy, tmp_path, holder)
        assert "curl" in said and "in use" not in said


def test_of_a_run_on_another_machine_nobody_knows(proxy: Proxy, tmp_path: Path) -> None:
    broken(proxy, "toxic")
    said = told(proxy, tmp_path, held_by(1, host="elsewhere"))
    assert "in use by run run-a (host elsewhere" in said and "if it has died" in said and "curl" not in said
