"""What is said to a keeper: one request and one reply a connection, JSON lines, on a unix socket that is only ours.

Everything that a run, a stack, a fault and the keeper say to each other is declared here and nowhere else.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import tempfile
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from harness.adapters.processes.identity import ProcessId
from harness.model.clock import wall
from harness.model.errors import HarnessError, Refused, SetupError, UsageError
from harness.model.records.faults import HealReport
from harness.model.records.process import ServerProcess, ServerSpec

_T = TypeVar("_T")

SOCKET = "keeper.sock"
KEEPER_LOG = "keeper.log"
KEEPER_JOURNAL = "keeper.jsonl"
LONGEST = 100
"""Bytes of a path that every system takes as a unix socket's name (108 on Linux, 104 on macOS)."""

READY = b"R"
ACK = b"A"
STOPPING = b"S"
"""Bytes from the keeper on the lease's socket: it serves; it has seen renewals; it was told to stop."""


STAMP = struct.Struct("<d")
"""A renewal of the lease: the run's CLOCK_BOOTTIME in seconds when it wrote it."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Given by the client as one JSON argument. lease_fd: our end of the socket pair. run_pidfd: -1 = none."""

    state_dir: str
    lease_fd: int
    run: ProcessId
    run_pidfd: int = -1
    lock_fds: tuple[int, ...] = ()
    lease_s: float = 10.0
    detached: bool = False


class KeeperOpened(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="entry", tag="keeper"):
    """The line of keeper.jsonl with which a keeper (or a `heal`) begins. socket: where it listens. run: whom it looks
    after. version, harness: of the journal, see safety's journal/version.py."""

    at: str = msgspec.field(default_factory=wall)
    keeper: ProcessId
    host: str
    detached: bool = False
    socket: str | None = None
    run: ProcessId | None = None
    version: int = 0
    harness: str = ""


class Launch(msgspec.Struct, frozen=True, tag=True):
    spec: ServerSpec


class ExitCodeOf(msgspec.Struct, frozen=True, tag=True):
    name: str


class StopServer(msgspec.Struct, frozen=True, tag=True):
    name: str


class RestartServer(msgspec.Struct, frozen=True, tag=True):
    name: str


class Adopt(msgspec.Struct, frozen=True, tag=True):
    name: str
    pid: int
    start_time: float


class RemoveAtEnd(msgspec.Struct, frozen=True, tag=True):
    path: str


class OwnProject(msgspec.Struct, frozen=True, tag=True):
    """Journal a Compose project that does not exist yet; from then on it is removed at the end, whoever dies."""

    engine: str
    project: str


class DropProject(msgspec.Struct, frozen=True, tag=True):
    """Remove it now."""

    engine: str
    project: str


class Armed(msgspec.Struct, frozen=True, tag=True):
    """Is everything that healing needs imported; and, with an id, does the keeper itself read that record?"""

    record_id: str | None = None


class HoldProxy(msgspec.Struct, frozen=True, tag=True):
    """Journal the lock of a Toxiproxy, make it, and remove it when everything is undone. See journal's ProxyLock."""

    url: str
    text: str


class HoldDatabase(msgspec.Struct, frozen=True, tag=True):
    """Hold the advisory lock of a database of this kind until the keeper ends. See safety's locks.remote.Wanted."""

    admin: str
    password_env: str
    name: str
    owner: str
    kind: str = "postgres"


class Finish(msgspec.Struct, frozen=True, tag=True):
    pass


class Status(msgspec.Struct, frozen=True, tag=True):
    pass


class InputOf(msgspec.Struct, frozen=True, tag=True):
    """What a server was given to read (ServerSpec.stdin), for runs that use a stack kept up. Its socket is ours."""

    name: str


Request = (
    Launch
    | ExitCodeOf
    | StopServer
    | RestartServer
    | Adopt
    | RemoveAtEnd
    | OwnProject
    | DropProject
    | Armed
    | HoldProxy
    | HoldDatabase
    | Finish
    | Status
    | InputOf
)


class Reply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """error and its kind, or the answer's own field."""

    error: str | None = None
    kind: Literal["refused", "usage", "setup"] = "setup"
    hint: str | None = None
    process: ServerProcess | None = None
    servers: tuple[ServerProcess, ...] = ()
    code: int | None = None
    report: HealReport | None = None
    phase: str = ""
    input: str | None = None


def failure(error: BaseException) -> Reply:
    if isinstance(error, HarnessError):
        kind: Literal["refused", "usage", "setup"] = "setup"
        if isinstance(error, Refused):
            kind = "refused"
        elif isinstance(error, UsageError):
            kind = "usage"
        return Reply(error=str(error), kind=kind, hint=error.hint)
    return Reply(error=f"the keeper failed: {type(error).__name__}: {error}")


def raise_for(reply: Reply) -> Reply:
    """The reply, or the error it carries."""
    if reply.error is None:
        return reply
    kind = {"refused": Refused, "usage": UsageError, "setup": SetupError}[reply.kind]
    raise kind(reply.error, hint=reply.hint)


def listen(folder: Path) -> tuple[socket.socket, Path]:
    """A listening socket in the keeper's folder, whatever the length of its path: nothing of it lies anywhere else.

    Changes the working directory for a moment, so it is for a process that has just begun. Raises OSError.
    """
    path = folder / SOCKET
    path.unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = Path.cwd()
    os.chdir(folder)
    try:
        server.bind(SOCKET)
        Path(SOCKET).chmod(0o600)
    finally:
        os.chdir(before)
    server.listen(64)
    return server, path


def held(path: Path) -> Path:
    """The same socket by a name that still leads to it after the folder was deleted (Linux)."""
    if sys.platform != "linux":
        return path
    # Never closed: it lives as long as this process may have something to ask.
    return Path(f"/proc/self/fd/{os.open(path, os.O_PATH | os.O_CLOEXEC)}")


def connect(path: str, limit_s: float) -> socket.socket:
    """A connection to a unix socket, also one whose path is too long for a socket's name. limit_s: of each wait on it.

    Raises OSError.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(limit_s)
        _connect(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(connection: socket.socket, path: str) -> None:
    if len(os.fsencode(path)) <= LONGEST:
        connection.connect(path)
    elif sys.platform == "linux":
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            connection.connect(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)
    else:
        with tempfile.TemporaryDirectory(prefix="harness-", dir="/tmp") as short:
            link = Path(short) / "to"
            link.symlink_to(Path(path).parent)
            connection.connect(str(link / Path(path).name))


def send(connection: socket.socket, message: Request | Reply) -> None:
    """One line. Raises OSError, UnicodeEncodeError for what is no text."""
    connection.sendall(msgspec.json.encode(message) + b"\n")


def receive(connection: socket.socket, kind: type[_T] | Any) -> _T:
    """The line that comes, decoded. Raises ConnectionError when the other side closes before its end, OSError,
    MsgspecError."""
    parts = []
    while True:
        part = connection.recv(65536)
        if not part:
            raise ConnectionError("closed without a complete line")
        parts.append(part)
        if part.endswith(b"\n"):
            found: _T = msgspec.json.decode(b"".join(parts), type=kind)
            return found


def exchange(connection: socket.socket, request: Request) -> Reply:
    """One request and its reply, which may be an error. Raises as `send` and `receive` do."""
    send(connection, request)
    return receive(connection, Reply)
