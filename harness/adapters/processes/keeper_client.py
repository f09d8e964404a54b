"""Asking the keeper that owns a server: which process is it now, and start it again.

A keeper runs nothing that is not its own: it is told a name, and starts what it had started under that name. So a
record that holds a name and the keeper's folder holds no command. The words are those of harness.safety.protocol, of
which this is the part that faults may use.
"""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import msgspec

from harness.adapters.processes.identity import ProcessId, alive, look
from harness.adapters.processes.json_line import connect, receive
from harness.model.errors import AdapterError, Gone, OutcomeUnknown, Rejected, Unreachable
from harness.model.records.process import ServerProcess

JOURNAL = "keeper.jsonl"
LOOK_LIMIT_S = 5.0
START_LIMIT_S = 60.0
"""A keeper first stops what remains of the server, then starts it: both have limits of their own."""


class _Status(msgspec.Struct, frozen=True, tag="Status"):
    pass


class _RestartServer(msgspec.Struct, frozen=True, tag="RestartServer"):
    name: str


class _InputOf(msgspec.Struct, frozen=True, tag="InputOf"):
    name: str


class _Reply(msgspec.Struct, frozen=True):
    error: str | None = None
    process: ServerProcess | None = None
    servers: tuple[ServerProcess, ...] = ()
    phase: str = ""
    input: str | None = None


class _Opened(msgspec.Struct, frozen=True, tag_field="entry", tag="keeper"):
    """The line of keeper.jsonl with which a keeper begins."""

    keeper: ProcessId
    socket: str | None = None


class KeeperStatus(msgspec.Struct, frozen=True, kw_only=True):
    """servers: name -> process that runs. serving: False once it has begun to end, its servers with it."""

    servers: dict[str, ProcessId]
    serving: bool


class KeeperDoor:
    """folder: the keeper's state folder. Every method raises Gone when that keeper is dead, Unreachable when it does
    not answer, Rejected when the folder is not only ours."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def status(self) -> KeeperStatus:
        opened = self._opened()
        reply = self._ask(opened, _Status(), LOOK_LIMIT_S)
        servers = {}
        for server in reply.servers:
            seen = look(server.pid)
            # Its servers are its own children, so a pid that was used again is told from a server.
            if seen is not None and not seen.zombie and seen.parent == opened.keeper.pid:
                servers[server.name] = seen.id
        return KeeperStatus(servers=servers, serving=reply.phase == "serving")

    def restart(self, name: str) -> None:
        """Have it stop what remains of the server and start it again. Returns when it is started, not yet ready.

        Raises OutcomeUnknown when it did not answer in time, Rejected when it says no.
        """
        self._ask(self._opened(), _RestartServer(name), START_LIMIT_S)

    def input_of(self, name: str) -> str | None:
        """What the server was given to read when it was started. Raises Rejected when it has none of that name."""
        return self._ask(self._opened(), _InputOf(name), LOOK_LIMIT_S).input

    def _opened(self) -> _Opened:
        path = self.folder / JOURNAL
        try:
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
                raise Rejected(f"{path} is not only yours to write")
            lines = path.read_bytes().splitlines()
        except FileNotFoundError as error:
            raise Gone(f"there is no keeper in {self.folder} any more") from error
        except OSError as error:
            raise Unreachable(f"{path} cannot be read: {error.strerror or error}") from error
        found: _Opened | None = None
        for line in lines:
            if b'"entry":"keeper"' in line:
                try:
                    found = msgspec.json.decode(line, type=_Opened)
                except msgspec.MsgspecError:
                    continue
        if found is None or not alive(found.keeper):
            raise Gone(f"the keeper in {self.folder} is dead, and its servers with it")
        return found

    def _ask(self, opened: _Opened, request: msgspec.Struct, limit_s: float) -> _Reply:
        if opened.socket is None:
            raise Unreachable(f"the keeper in {self.folder} listens nowhere")
        sent = False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(limit_s)
                connect(connection, opened.socket)
                sent = True
                connection.sendall(msgspec.json.encode(request) + b"\n")
                reply = msgspec.json.decode(receive(connection), type=_Reply)
        except (OSError, msgspec.MsgspecError) as error:
            what = f"the keeper (pid {opened.keeper.pid}) did not answer: {error}"
            if sent and isinstance(request, _RestartServer):
                raise OutcomeUnknown(what) from error
            raise Unreachable(what) from error
        if reply.error is not None:
            raise Rejected(f"the keeper refused: {reply.error}")
        return reply


__all__ = ["AdapterError", "KeeperDoor", "KeeperStatus"]
