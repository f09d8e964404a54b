"""Where a server itself listens, and who has its place."""

from __future__ import annotations

from urllib.parse import urlsplit

from faults.path.evidence import path_shows
from harness.adapters.processes.listeners import command_of, listener
from harness.adapters.wire.exchange import Exchange, ProbeError
from harness.model.clock import monotonic
from harness.model.errors import Gone
from harness.model.records.faults import Address, Dependency, Evidence


def address_of(dependency: Dependency) -> Address | None:
    """Where the server itself listens."""
    if dependency.direct is not None:
        return dependency.direct
    if not dependency.proxied and dependency.path is not None:
        return dependency.path
    if dependency.url is not None and not dependency.proxied:
        parts = urlsplit(dependency.url)
        return Address(parts.hostname or "", parts.port or 80)
    return None


def port_is_open(address: Address) -> bool:
    """Whether something accepts connections there (a stopped process's port does)."""
    try:
        with Exchange(address, deadline=monotonic() + 1.0):
            return True
    except ProbeError as error:
        return error.kind == "timeout"


def who_answers(address: Address) -> str:
    pid = listener(address.port)
    if pid is None:
        return "another process"
    try:
        return f"process {pid} ({command_of(pid)})"
    except Gone:
        return f"process {pid}"


def nobody_in_its_place(address: Address, server: str) -> Evidence:
    """For the target, which has no proxy: its own port is its path, and must be empty while it is away."""
    held = not port_is_open(address)
    return path_shows(
        expected=f"nobody serves {address} in the place of {server}, which did",
        observed="nobody does" if held else f"{who_answers(address)} does",
        held=held,
    )
