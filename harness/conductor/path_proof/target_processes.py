"""Which processes of this machine are the target's, so that a connection can be held against them.

    declared    the process of its pid_file, or of a stack of ours, and all below it
    found       whoever listens at its address here, and all below it

Not known (None) is an answer: a target in a container or on another machine, processes that this user may not look at,
and a listener that passes on what it gets (a forwarder, a proxy in front), for then the application is somebody else.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from harness.adapters.allowed_hosts import own_addresses, url_address
from harness.adapters.keeper import starter
from harness.adapters.processes.listeners import command_of
from harness.adapters.processes.sockets import Held
from harness.adapters.processes.usage import Processes
from harness.model.errors import AdapterError, UsageError
from harness.model.records.faults import Dependency
from harness.model.records.stack import TargetInfo

_FORWARDERS = frozenset(
    {"docker-proxy", "rootlessport", "conmon", "pasta", "slirp4netns", "kubectl", "ssh", "sshd", "socat", "systemd"}
)
"""They listen for somebody else, and may have no connection to him just now. systemd holds the sockets of others."""


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """shown: its first process, for people."""

    pids: frozenset[int]
    shown: str


def family(target: TargetInfo, dependencies: Sequence[Dependency], held: Sequence[Held]) -> Family | None:
    """held: the machine's connections and listeners, looked at just now."""
    declared = target.pid is not None
    roots = _declared(target, dependencies) if declared else _listeners(target, held)
    if not roots:
        return None
    pids = _below(roots)
    if os.getpid() in pids:
        # Whoever serves the target has started the harness, too: in a test, say.
        pids -= _below({os.getpid()})
    if not all(map(_may_be_looked_at, pids)):
        return None
    if not declared and (any(_name(pid) in _FORWARDERS for pid in roots) or _passes_on(pids, dependencies, held)):
        return None
    return Family(pids=pids, shown=f"{_name(min(roots))} (pid {min(roots)})")


def _declared(target: TargetInfo, dependencies: Sequence[Dependency]) -> frozenset[int]:
    """It may have been started again since the stack was looked at: whoever owns it is asked."""
    itself = next((one for one in dependencies if one.target and one.runtime == "process"), None)
    try:
        found = starter.serving(itself) if itself is not None else None
    except AdapterError:
        return frozenset()
    pid = found.pid if found is not None else target.pid if itself is None else None
    return frozenset() if pid is None else frozenset({pid})


def _listeners(target: TargetInfo, held: Sequence[Held]) -> frozenset[int]:
    if target.containers:
        return frozenset()
    try:
        host, port = url_address(target.url)
    except UsageError:
        return frozenset()
    here = {"127.0.0.1", "::1"} | own_addresses()
    wanted = {"127.0.0.1" if one == "localhost" else one for one in target.addresses or (host,)}
    if not wanted <= here:
        return frozenset()
    found = {one.pid for one in held if one.remote is None and one.own.port == port and one.own.host in _bound(wanted)}
    return frozenset() if None in found else frozenset(pid for pid in found if pid is not None)


def _bound(addresses: Iterable[str]) -> frozenset[str]:
    return frozenset({"0.0.0.0", "::", *addresses})


def _below(roots: Iterable[int]) -> frozenset[int]:
    children = Processes().children
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting.extend(children.get(pid, ()))
    return frozenset(found)


def _may_be_looked_at(pid: int) -> bool:
    """Its sockets are in the table that was read: they are this user's to see, and of this network."""
    if not sys.platform.startswith("linux"):
        return True  # what is seen at all is seen of everybody
    folder, network = Path(f"/proc/{pid}"), Path("/proc/self/ns/net")
    try:
        return os.access(folder / "fd", os.R_OK) and (folder / "ns/net").readlink() == network.readlink()
    except FileNotFoundError:
        return True  # it has ended, and has no sockets any more
    except OSError:
        return False


def _passes_on(pids: frozenset[int], dependencies: Sequence[Dependency], held: Sequence[Held]) -> bool:
    """It is connected to something that is no declared dependency: that may be the application itself."""
    mine = [one for one in held if one.pid in pids]
    listening = {one.own.port for one in mine if one.remote is None}
    ends = {one.own for one in mine}
    known = {address.port for one in dependencies for address in (one.path, one.direct) if address is not None}
    return any(
        one.remote is not None
        and one.own.port not in listening
        and one.remote.port not in known
        and one.remote not in ends
        and one.remote.port not in listening
        for one in mine
    )


def _name(pid: int) -> str:
    try:
        return command_of(pid)
    except AdapterError:
        return "a process that has ended"
