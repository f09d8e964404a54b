"""The keeper's end of the lease: silence is what has not been sent, not what has not been read."""

from __future__ import annotations

import socket
import time

from harness.adapters.keeper import protocol
from harness.safety.journal.entries import boottime
from harness.safety.keeper.lease import Lease


def test_what_lies_unread_is_read_before_silence_is_judged() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        lease = Lease(theirs.detach(), 0.3)
        time.sleep(0.5)  # the keeper is held up: its loop reads nothing, while the run goes on sending
        ours.send(protocol.STAMP.pack(boottime()))
        assert lease.silent_s() is None
        assert ours.recv(10) == protocol.ACK
        time.sleep(0.5)
        silent = lease.silent_s()
        assert silent is not None and silent >= 0.5
        lease.close()


def test_a_stamp_counts_from_when_it_was_written_and_never_from_the_future() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        lease = Lease(theirs.detach(), 0.3)
        ours.send(protocol.STAMP.pack(boottime() + 1e6))
        assert lease.silent_s() is None
        time.sleep(0.5)
        assert lease.silent_s() is not None
        ours.send(protocol.STAMP.pack(boottime() - 10.0))
        assert lease.silent_s() is not None, "an old word read late is no sign of life"
        half = protocol.STAMP.pack(boottime())
        ours.send(half[:3])
        assert lease.silent_s() is not None
        ours.send(half[3:])
        assert lease.silent_s() is None
        lease.close()
