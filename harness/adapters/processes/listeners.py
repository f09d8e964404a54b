"""Who listens on a TCP port of this machine."""

from __future__ import annotations

from collections.abc import Iterable

from harness.adapters.processes.sockets import held
from harness.model.errors import Gone, Rejected


def listens(pids: Iterable[int], port: int) -> bool:
    """Whether one of these processes listens on the port. Stops at the first that does; ended ones are passed over.

    Raises Rejected when none of those that may be looked at does, and others may not be looked at by this user.
    """
    import psutil

    hidden: list[int] = []
    for pid in pids:
        try:
            found = psutil.Process(pid).net_connections("tcp")
        except psutil.NoSuchProcess:
            continue
        except psutil.AccessDenied:
            hidden.append(pid)
            continue
        if any(one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port for one in found):
            return True
    if hidden:
        raise Rejected(f"what process {hidden[0]} listens on may not be looked at by this user")
    return False


def listener(port: int) -> int | None:
    """The pid that listens on the port; None when nobody does, or it cannot be told (another user's process)."""
    try:
        every = held()
    except Rejected:
        return None  # macOS tells everybody's connections to root only
    pids = [one.pid for one in every if one.remote is None and one.own.port == port and one.pid is not None]
    return min(pids, default=None)


def command_of(pid: int) -> str:
    """What a process is called, for people: the name of its program. Raises Gone."""
    import psutil

    try:
        return str(psutil.Process(pid).name())
    except psutil.NoSuchProcess as error:
        raise Gone(f"process {pid} is not running") from error
    except psutil.AccessDenied:
        return "another user's process"
