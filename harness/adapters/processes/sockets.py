"""The TCP connections of processes, as the kernel knows them.

On Linux one reading of the kernel's table serves every process asked for: the table also lists thousands of closed
connections under load, and reading it costs a tenth of a second then. Elsewhere psutil asks for each process.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec

from harness.model.errors import Gone, Rejected
from harness.model.records.faults import Address

Connection = tuple[Address, Address]
"""(the process's own end, the other end)"""

_ESTABLISHED = "01"


def connections(*pids: int) -> Mapping[int, frozenset[Connection]]:
    """Established connections of each process. They must share a network (containers are asked one by one).

    Raises Gone when a process does not exist, Rejected when this user may not look at it.
    """
    return _linux(pids) if sys.platform.startswith("linux") else _portable(pids)


def in_network(pid: int) -> frozenset[Connection]:
    """Every established connection in the network of that process (a container's own), whosever it is. Linux only.

    Raises Gone.
    """
    if not Path(f"/proc/{pid}").exists():
        raise Gone(f"process {pid} no longer exists")
    rows = [row for table in ("tcp", "tcp6") for row in _rows(pid, table)]
    return frozenset((_decode(row[1]), _decode(row[2])) for row in rows if row[3] == _ESTABLISHED)


class Held(msgspec.Struct, frozen=True):
    """One TCP socket of this machine: an established connection, or (remote None) a listener.

    pid: who has it open; None = another user's, it cannot be told. Of several that share it, one.
    """

    own: Address
    remote: Address | None
    pid: int | None


def held() -> tuple[Held, ...]:
    """Every connection and listener of this machine's own network. Raises Rejected where only root may look."""
    import psutil

    try:
        every = psutil.net_connections(kind="tcp")
    except psutil.Error as error:
        raise Rejected("whose connections are whose may not be looked at by this user") from error
    return tuple(
        Held(_address(one.laddr), _address(one.raddr) if one.status == psutil.CONN_ESTABLISHED else None, one.pid)
        for one in every
        if (one.status == psutil.CONN_ESTABLISHED and one.laddr and one.raddr)
        or (one.status == psutil.CONN_LISTEN and one.laddr)
    )


def ends_of(pids: Collection[int]) -> frozenset[Address]:
    """Own ends of the connections that these processes have open; none where this user may not look."""
    try:
        return frozenset(one.own for one in held() if one.remote is not None and one.pid in pids)
    except Rejected:
        return frozenset()


def holders(ends: Collection[Address], port: int | None) -> Mapping[Address, str | None]:
    """Established connections of this machine by their own end, and who has each open: `python (pid 4711)`.

    port: of the server that they lead to most likely: the kernel gives one end to several connections that lead to
    different servers, of different processes. An end that no connection has is missing; None = it exists, whose it is
    cannot be told (another user's).
    """
    try:
        every = held()
    except Rejected:
        return dict.fromkeys(ends)  # macOS shows them to root only
    mine = [one for one in every if one.own in ends and one.remote is not None]
    mine.sort(key=lambda one: one.remote is not None and one.remote.port == port)  # what leads there has the last word
    return {one.own: called(one.pid) for one in mine}


def _address(end: Any) -> Address:
    return Address(_plain(end.ip), end.port)


def called(pid: int | None) -> str | None:
    """`python (pid 4711)`."""
    import psutil

    if pid is None:
        return None
    try:
        return f"{psutil.Process(pid).name()} (pid {pid})"
    except psutil.Error:
        return f"pid {pid}"


def _linux(pids: tuple[int, ...]) -> Mapping[int, frozenset[Connection]]:
    owners: dict[str, int] = {}
    found: dict[int, set[Connection]] = {pid: set() for pid in pids}
    for pid in found:
        for inode in _socket_inodes(pid):
            owners[inode] = pid
    for pid in list(found)[:1]:
        for table in ("tcp", "tcp6"):
            for row in _rows(pid, table):
                # 1 local, 2 remote, 3 state, 9 inode (proc_net_tcp of the kernel's documentation)
                owner = owners.get(row[9])
                if owner is not None and row[3] == _ESTABLISHED:
                    found[owner].add((_decode(row[1]), _decode(row[2])))
    return {pid: frozenset(pairs) for pid, pairs in found.items()}


def _socket_inodes(pid: int) -> list[str]:
    inodes = []
    try:
        with os.scandir(f"/proc/{pid}/fd") as entries:
            for entry in entries:
                try:
                    target = str(Path(entry.path).readlink())
                except FileNotFoundError:
                    continue  # closed since
                if target.startswith("socket:["):
                    inodes.append(target[len("socket:[") : -1])
    except (FileNotFoundError, ProcessLookupError) as error:
        raise Gone(f"process {pid} no longer exists") from error
    except PermissionError as error:
        raise Rejected(f"the connections of process {pid} may not be looked at by this user") from error
    return inodes


def _rows(pid: int, table: str) -> list[list[str]]:
    """The table of that process's own network; a kernel without IPv6 has no tcp6."""
    try:
        text = Path(f"/proc/{pid}/net/{table}").read_text("ascii")
    except OSError:
        return []
    return [line.split() for line in text.splitlines()[1:]]


def _decode(end: str) -> Address:
    """`0100007F:1F90`: 32-bit words in the machine's byte order, then the port in hexadecimal."""
    host, port = end.split(":")
    words = struct.pack(f"={len(host) // 8}I", *(int(host[at : at + 8], 16) for at in range(0, len(host), 8)))
    family = socket.AF_INET if len(words) == 4 else socket.AF_INET6
    return Address(_plain(socket.inet_ntop(family, words)), int(port, 16))


def _portable(pids: tuple[int, ...]) -> Mapping[int, frozenset[Connection]]:
    import psutil

    found = {}
    for pid in pids:
        try:
            every = psutil.Process(pid).net_connections(kind="tcp")
        except psutil.NoSuchProcess as error:
            raise Gone(f"process {pid} no longer exists") from error
        except psutil.AccessDenied as error:
            raise Rejected(f"the connections of process {pid} may not be looked at by this user") from error
        found[pid] = frozenset(
            (Address(_plain(one.laddr.ip), one.laddr.port), Address(_plain(one.raddr.ip), one.raddr.port))
            for one in every
            if one.status == psutil.CONN_ESTABLISHED and one.raddr
        )
    return found


def _plain(host: str) -> str:
    # A dual-stack socket shows an IPv4 peer as ::ffff:1.2.3.4, and its peer does not.
    return host.removeprefix("::ffff:")
