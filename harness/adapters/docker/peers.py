"""Who is connected to a container, as the kernel of this machine knows it: for servers that do not tell themselves."""

from __future__ import annotations

import sys
from pathlib import Path

from harness.adapters.docker.engine import connect
from harness.adapters.docker.records import Container
from harness.adapters.processes import sockets
from harness.model.errors import Gone
from harness.model.records.faults import Address


def peers(engine_url: str, container_id: str, *, port: int | None = None) -> frozenset[Address] | None:
    """The other ends of all established connections in the container's own network; port: of those to one port of it.

    Without its own (health checks, controllers) and without what comes from the network's gateway: that is where the
    engine's port forwarder connects from, for the harness and for everybody else on this machine. None where it
    cannot be told: the engine or the container's process is not on this machine, or the network is not its own.
    Raises Gone when the container does not run, and what an engine raises.
    """
    if not engine_url.startswith("unix://") or not sys.platform.startswith("linux"):
        return None
    with connect(engine_url) as engine:
        container = engine.container(container_id)
    mode = container.host_config.network_mode
    if mode == "host" or mode.startswith("container:"):
        return None
    pid = container.state.pid
    if not pid:
        raise Gone(f"container {container.name} does not run")
    if not _is_of(pid, container):
        return None
    found = sockets.in_network(pid)
    ends = container.networks.values()
    left_out = {end.gateway for end in ends} | {own.host for own, _ in found}
    return frozenset(peer for own, peer in found if peer.host not in left_out and (port is None or own.port == port))


def _is_of(pid: int, container: Container) -> bool:
    """The pid is the engine's: on another machine, or seen from within a container, it is somebody else's. The
    kernel's control groups of a container's processes carry its ID."""
    try:
        return container.id in Path(f"/proc/{pid}/cgroup").read_text("utf-8")
    except OSError:
        return False
