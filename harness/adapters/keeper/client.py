"""Asking the keeper that owns a server: which process is it now, and start it again.

A keeper runs nothing that is not its own: it is told a name, and starts what it had started under that name. So a
record that holds a name and the keeper's folder holds no command.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import msgspec

from harness.adapters.keeper import protocol
from harness.adapters.keeper.protocol import KeeperOpened
from harness.adapters.processes.identity import ProcessId, alive, look
from harness.model.errors import Gone, OutcomeUnknown, Rejected, Unreachable
from harness.model.records.process import ServerProcess

ASK_LIMIT_S = 60.0
"""A keeper that is told to restart a server first stops what remains of it: both have limits of their own."""
LOOK_LIMIT_S = 5.0


class KeeperStatus(msgspec.Struct, frozen=True, kw_only=True):
    """servers: name -> process that runs. serving: False once it has begun to end, its servers with it."""

    servers: dict[str, ProcessId]
    serving: bool


class KeeperClient:
    """state_dir: the keeper's state folder. Every method raises what `ask` raises."""

    def __init__(self, state_dir: str | Path) -> None:
        self.state_dir = Path(state_dir)

    def status(self) -> KeeperStatus:
        keeper = self._keeper().pid
        reply = self.ask(protocol.Status(), LOOK_LIMIT_S)
        servers = {}
        for server in reply.servers:
            seen = look(server.pid)
            # Its servers are its own children, so a pid that was used again is told from a server.
            if seen is not None and not seen.zombie and seen.parent == keeper:
                servers[server.name] = seen.id
        return KeeperStatus(servers=servers, serving=reply.phase == "serving")

    def restart(self, name: str) -> ServerProcess:
        """Have it stop what remains of the server and start it again. Returns when it is started, not yet ready."""
        process = self.ask(protocol.RestartServer(name)).process
        assert process is not None
        return process

    def input_of(self, name: str) -> str | None:
        """What the server was given to read when it was started. Refused when the keeper has none of that name."""
        return self.ask(protocol.InputOf(name), LOOK_LIMIT_S).input

    def ask(self, request: protocol.Request, limit_s: float = ASK_LIMIT_S) -> protocol.Reply:
        """Raises Gone when the keeper is dead, Unreachable when it does not answer, OutcomeUnknown when it was told to
        do something and did not answer, Rejected when it says no or when the folder is not only ours."""
        opened = _opened(self.state_dir)
        if opened.socket is None:
            raise Unreachable(f"the keeper in {self.state_dir} listens nowhere")
        unanswered: type[OutcomeUnknown | Unreachable] = Unreachable
        try:
            with protocol.connect(opened.socket, limit_s) as connection:
                if not isinstance(request, (protocol.Status, protocol.InputOf)):
                    unanswered = OutcomeUnknown
                reply = protocol.exchange(connection, request)
        except (OSError, msgspec.MsgspecError) as error:
            raise unanswered(f"the keeper (pid {opened.keeper.pid}) did not answer: {error}") from error
        if reply.error is not None:
            raise Rejected(f"the keeper refused: {reply.error}")
        return reply

    def _keeper(self) -> ProcessId:
        return _opened(self.state_dir).keeper


def _opened(folder: Path) -> KeeperOpened:
    path = folder / protocol.KEEPER_JOURNAL
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise Rejected(f"{path} is not only yours to write")
        lines = path.read_bytes().splitlines()
    except FileNotFoundError as error:
        raise Gone(f"there is no keeper in {folder} any more") from error
    except OSError as error:
        raise Unreachable(f"{path} cannot be read: {error.strerror or error}") from error
    found: KeeperOpened | None = None
    for line in lines:
        if b'"entry":"keeper"' in line:
            try:
                found = msgspec.json.decode(line, type=KeeperOpened)
            except msgspec.MsgspecError:
                continue
    if found is None or not alive(found.keeper):
        raise Gone(f"the keeper in {folder} is dead, and its servers with it")
    return found
