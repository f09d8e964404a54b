"""A remote worker's own line to the master, kept by a real thread: joining, pings, and the end when they cease.

A gevent loop that user code keeps busy would answer late and notice a lost master too late: the thread answers, and
ends the process itself. Make the `Channel` before gevent patches anything (before locust is imported).
"""

from __future__ import annotations

import _thread
import os
import socket
import time
from collections import deque
from contextlib import suppress
from typing import Any
from uuid import uuid4

import msgpack
import msgspec
import zmq
from zmq.utils.monitor import parse_monitor_message

import harness
from harness.load.ipc.keys import WorkerKey
from harness.load.ipc.protocol import ABANDONED_S, BYE, HELLO, PING, PONG, REFUSED, WELCOME, Bye, Hello, WorkerStart
from harness.model.clock import monotonic
from harness.model.records.faults import Address

_POLL_MS = 20
_ASK_EVERY_S = 0.5
_KEPT_OUT = 3
"""Connections that ended before they began, for want of the right key."""
_OWN_STALL_S = 0.5
"""A look that took so much longer than its poll: this process did not run."""


class Channel:
    """Joins the run on host:port. After `wait_for_place` the process ends, with its code and a line on stderr, when the
    master says so or says nothing for ABANDONED_S (longer where its last ping has said so).

    Exit codes of the process: 0 the run has ended, 2 refused, 4 the run or the way to it failed.
    """

    def __init__(self, host: str, port: int, locustfile_sha256: str, key: WorkerKey) -> None:
        self._host = host
        self._key = key
        self.where = str(Address(host, port))
        self._identity = f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex}"
        self._hello = Hello(
            version=harness.__version__,
            locustfile_sha256=locustfile_sha256,
            machine=socket.gethostname(),
            pid=os.getpid(),
        )
        self._out: deque[tuple[str, Any]] = deque()
        self._start: WorkerStart | None = None
        self._ended: Bye | None = None
        self._leaving = False
        self._patience_s = ABANDONED_S
        self._flushed = False
        self._kept_out = 0
        _thread.start_new_thread(self._run, ())

    def wait_for_place(self, limit_s: float) -> WorkerStart | Bye:
        """What the master says to this worker; Bye with code 4 when none was found within the limit."""
        deadline = monotonic() + limit_s
        while monotonic() < deadline:
            if self._start is not None:
                return self._start
            if self._ended is not None:
                return self._ended
            if self._kept_out >= _KEPT_OUT:
                return Bye(text=f"{self.where} does not admit this key: every run has keys of its own", code=2)
            time.sleep(0.01)
        return Bye(text=f"no run was found on {self.where} within {limit_s:g} s", code=4)

    @property
    def ended(self) -> Bye | None:
        """What the master said at the end, if it did."""
        return self._ended

    def leave(self, why: str) -> None:
        """Tell the master that this worker goes; waits 0.5 s at most for that to be sent. For signal handlers, too."""
        self._leaving = True
        self._out.append((BYE, msgspec.json.encode(Bye(text=why))))
        deadline = monotonic() + 0.5
        while not self._flushed and monotonic() < deadline:
            # time.sleep is gevent's by now, and a signal handler may run in its hub.
            os.sched_yield()

    # The thread

    def _run(self) -> None:
        context = zmq.Context()
        dealer = context.socket(zmq.DEALER)
        dealer.setsockopt(zmq.IDENTITY, self._identity.encode())
        # Nothing is kept for a master that is not there: a question is asked again instead.
        dealer.setsockopt(zmq.IMMEDIATE, 1)
        dealer.setsockopt(zmq.LINGER, 500)
        if _has_ipv6(self._host):
            dealer.setsockopt(zmq.IPV6, 1)
        self._key.put_on(dealer)
        failures = dealer.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
        )
        dealer.connect(f"tcp://{self.where}")
        asked = heard = 0.0
        looked, spared = monotonic(), False
        while True:
            if dealer.poll(_POLL_MS):
                while dealer.poll(0):
                    arrived = monotonic()
                    data = dealer.recv()
                    # What makes no sense is no reason to stop listening.
                    with suppress(ValueError, TypeError, KeyError):
                        self._on_message(dealer, data, arrived)
                    heard, spared = arrived, False
            while self._start is None and failures.poll(0):
                event = parse_monitor_message(failures.recv_multipart())["event"]
                # Of one that is told so it is certain; a connection may also break for other reasons.
                self._kept_out += _KEPT_OUT if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH else 1
            while self._out:
                self._send(dealer, *self._out.popleft())
            if self._leaving:
                dealer.disable_monitor()
                dealer.close()
                context.term()
                self._flushed = True
                return
            now = monotonic()
            stood_still, looked = now - looked > _OWN_STALL_S, now
            if self._start is None and self._ended is None and now - asked > _ASK_EVERY_S:
                asked = now
                self._send(dealer, HELLO, msgspec.json.encode(self._hello))
            elif self._start is not None and now - heard > self._patience_s:
                if stood_still and not spared:
                    # This process was stopped, and zmq's own thread with it: what came meanwhile is heard in a moment.
                    spared = True
                    heard = now - self._patience_s + _OWN_STALL_S
                    continue
                end = self._ended or Bye(
                    text=f"nothing was heard from the run on {self.where} for {self._patience_s:g} s", code=4
                )
                say(end.text)
                os._exit(end.code)

    def _on_message(self, dealer: Any, data: bytes, arrived: float) -> None:
        kind, body, _ = msgpack.loads(data, raw=False)
        if kind == PING:
            self._patience_s = float(body.get("patience_s", ABANDONED_S))
            self._send(dealer, PONG, {"sent": body["sent"], "arrived": arrived, "answered": monotonic()})
        elif kind == WELCOME:
            self._start = msgspec.json.decode(body, type=WorkerStart)
        elif kind in (REFUSED, BYE):
            self._ended = msgspec.json.decode(body, type=Bye)

    def _send(self, dealer: Any, kind: str, body: Any) -> None:
        with suppress(zmq.Again):
            dealer.send(msgpack.dumps((kind, body, self._identity)), zmq.NOBLOCK)


def _has_ipv6(host: str) -> bool:
    """As Locust decides for its own connection."""
    with suppress(OSError):
        families = {family for family, *_ in socket.getaddrinfo(host, None, proto=socket.IPPROTO_TCP)}
        return socket.AF_INET6 in families and socket.has_dualstack_ipv6()
    return False


def say(text: str) -> None:
    """One line on stderr, whatever patched or holds Python's own streams."""
    with suppress(OSError):
        os.write(2, f"harness worker: {text}\n".encode(errors="replace"))
