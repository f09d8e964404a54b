"""What a stack asks of the process launcher (the keeper), so that stacks need not know the keeper."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

import msgspec


class ServerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A server to start. env is the complete environment. user: name to run as, None = ours. stdin: a short text that
    it reads at its start; like env it is in no journal and in no process table.

    stop_signal is sent first, SIGKILL to its whole process group and every process whose working
    directory or session is the server's follows after stop_grace_s.
    """

    name: str
    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: str
    log: str
    user: str | None = None
    stdin: str | None = None
    stop_signal: str = "SIGTERM"
    stop_grace_s: float = 3.0


class ServerProcess(msgspec.Struct, frozen=True, kw_only=True):
    """A started server. start_time: psutil's create_time, guards against pid reuse."""

    name: str
    pid: int
    start_time: float


class Launcher(Protocol):
    """Starts processes that outlive neither the run nor its keeper."""

    def launch(self, spec: ServerSpec) -> ServerProcess:
        """Start it, journaled. Raises SetupError with the end of the log when exec fails."""
        ...

    def exit_code(self, name: str) -> int | None:
        """None while it runs."""
        ...

    def stop(self, name: str) -> None:
        """Stop it and everything it started; returns when gone."""
        ...

    def remove_at_end(self, path: str) -> None:
        """Journal a private temporary folder: removed after the servers are stopped."""
        ...


@runtime_checkable
class OwnsProjects(Protocol):
    """A launcher that also answers for Docker Compose projects. engine: base URL of the Docker engine."""

    def own_project(self, engine: str, project: str) -> None:
        """Journal it before anything of it is made. Raises Refused when the engine has something of that name,
        AdapterError, SetupError."""
        ...

    def drop_project(self, engine: str, project: str) -> None:
        """Remove its containers, networks and volumes now. Raises AdapterError, SetupError."""
        ...


@runtime_checkable
class Keeps(Protocol):
    """A launcher that can be asked from elsewhere to start a server again, also when this process is gone."""

    state_dir: Path
    """Its folder, by which it is found."""
