"""The TCP connections of a process, as the kernel knows them."""

from __future__ import annotations

from harness.model.errors import Gone, Rejected
from harness.model.faults import Address


def connections(pid: int) -> tuple[tuple[Address, Address], ...]:
    """Established connections of one process: (its own end, the other end).

    Raises Gone when there is no such process, Rejected when this user may not look at it.
    """
    import psutil

    try:
        found = psutil.Process(pid).net_connections(kind="tcp")
    except psutil.NoSuchProcess as error:
        raise Gone(f"process {pid} no longer exists") from error
    except psutil.AccessDenied as error:
        raise Rejected(f"the connections of process {pid} may not be looked at by this user") from error
    return tuple(
        (_address(one.laddr), _address(one.raddr))
        for one in found
        if one.status == psutil.CONN_ESTABLISHED and one.raddr
    )


def _address(end: tuple[str, int]) -> Address:
    # A dual-stack socket shows an IPv4 peer as ::ffff:1.2.3.4, and its peer does not.
    return Address(end[0].removeprefix("::ffff:"), end[1])
