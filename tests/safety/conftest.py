"""A state directory of a test's own, a proxy in front of the real Valkey, and runs in miniature, ended afterwards."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.safety.world import Proxy, Run
from tests.support.servers.real import ValkeyServer

_numbers = itertools.count(1)


@pytest.fixture
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory of the test's own, for this process and the runs it starts."""
    home = tmp_path / "state"
    home.mkdir()
    monkeypatch.setenv("XDG_STATE_HOME", str(home))
    return home


@pytest.fixture
def proxy(toxiproxy_server: str, valkey_server: ValkeyServer) -> Iterator[Proxy]:
    """A fresh proxy in front of the real Valkey."""
    made = Proxy(toxiproxy_server, f"safety-{next(_numbers)}", valkey_server.address)
    yield made
    made.remove()


@pytest.fixture
def start_run(state_home: Path) -> Iterator[Any]:
    """Starts runs in miniature; ends what the test has left of them."""
    runs: list[Run] = []

    def start(**config: Any) -> Run:
        runs.append(Run(state_home, **config))
        return runs[-1]

    yield start
    for run in runs:
        run.end()
