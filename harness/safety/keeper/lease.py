"""The keeper's end of the lease: the socket on which the run says, twice a second, that it is alive."""

from __future__ import annotations

import socket

from harness.adapters.keeper import protocol
from harness.safety.journal.entries import boottime


class Lease:
    """limit_s: how long the run may be silent, on CLOCK_BOOTTIME, so that a suspended machine counts as silence."""

    def __init__(self, fd: int, limit_s: float) -> None:
        self.socket = socket.socket(fileno=fd)
        self.socket.setblocking(False)
        self._limit_s = limit_s
        self._renewed = boottime()
        self._partial = b""

    def read(self) -> bool:
        """Take in what the run has sent, and acknowledge it. False when the run has closed its end."""
        data = self._partial
        try:
            while chunk := self.socket.recv(65536):
                data += chunk
            ended = True
        except BlockingIOError:
            ended = False
        except OSError:
            ended = True
        whole = len(data) - len(data) % protocol.STAMP.size
        for (stamp,) in protocol.STAMP.iter_unpack(data[:whole]):
            self._renewed = max(self._renewed, min(stamp, boottime()))
        self._partial = data[whole:]
        if whole:
            self.tell(protocol.ACK)
        return not ended

    def silent_s(self) -> float | None:
        """Seconds since the last sign of life when that is longer than the limit, else None.

        Reads first: a keeper that was itself held up must not take what it has not yet read for silence.
        """
        self.read()
        silent = boottime() - self._renewed
        return silent if silent > self._limit_s else None

    def tell(self, what: bytes) -> None:
        try:
            self.socket.send(what)
        except OSError:
            pass  # it is gone, or not reading

    def close(self) -> None:
        self.socket.close()
