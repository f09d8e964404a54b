"""Who may speak to the load's main process: its own workers, each known by its key, and nobody else.

Locust's sockets know no passwords. CURVE is set on them from outside, and a handler of zmq's authentication (ZAP, RFC
27) says which public keys are let in: without one, CURVE admits every pair that knows the server's public key. What is
received carries the number of the worker whose key it came with.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import gevent
import zmq.green as zmq
from locust.rpc import Message
from zmq.utils import z85

from harness.load.ipc.keys import WorkerKey, make_keys

_ZAP = "inproc://zeromq.zap.01"
_DOMAIN = b"harness"
_LARGEST = 64 * 2**20
"""Bytes of one message. Rows of 100 ms are kilobytes."""


class Door:
    """say: one line for people, once for each sort of trouble."""

    def __init__(self, workers: int, say: Callable[[str], None]) -> None:
        self._secret, self.keys = make_keys(workers)
        self._numbers = {key.public.encode(): key.worker for key in self.keys}
        self._say = say
        self._told: set[tuple[str, str]] = set()
        on_sockets(self._guard)

    def receive(self, socket: Any) -> tuple[str, Any, int] | None:
        """(routing id, Locust's message, number of the worker whose key it came with); None: dropped, and said."""
        try:
            frames = socket.recv_multipart(copy=False)
        except zmq.ZMQError:
            gevent.sleep(0.1)
            return None
        try:
            number = int(frames[-1].get("User-Id"))
        except (zmq.ZMQError, ValueError, TypeError):
            self.dropped(None, "it came with no key")
            return None
        try:
            routing, content = (bytes(frame.buffer) for frame in frames)
            message = Message.unserialize(content)
            node = routing.decode()
        except Exception as error:  # of msgpack and Locust, about bytes that anything may have made
            self.dropped(number, f"it is none of Locust's ({type(error).__name__})")
            return None
        if not isinstance(message.type, str) or message.node_id != node:
            self.dropped(number, "it does not say whose it is")
            return None
        return node, message, number

    def dropped(self, number: int | None, why: str) -> None:
        """A message is not used."""
        who = "a stranger" if number is None else f"load worker w{number}"
        if (who, why) not in self._told:
            self._told.add((who, why))
            self._say(f"a message from {who} was dropped: {why}")

    def _guard(self, socket: Any) -> None:
        """Before it is bound. The handler must be in the socket's own context."""
        socket.curve_server = 1
        socket.curve_secretkey = self._secret
        socket.zap_domain = _DOMAIN
        # Without a handler nobody is let in.
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        socket.setsockopt(zmq.MAXMSGSIZE, _LARGEST)
        asked = socket.context.socket(zmq.REP)
        asked.setsockopt(zmq.LINGER, 0)
        asked.bind(_ZAP)
        gevent.spawn(self._answer, asked)

    def _answer(self, asked: Any) -> None:
        while True:
            try:
                version, request, domain, _address, _identity, mechanism, *credentials = asked.recv_multipart()
            except zmq.ZMQError:
                return
            number = None
            if domain == _DOMAIN and mechanism == b"CURVE" and len(credentials) == 1:
                number = self._numbers.get(z85.encode(credentials[0]))
            if number is None:
                status, text, user = b"400", b"not a key of this run", b""
                self._tell_of_stranger()
            else:
                status, text, user = b"200", b"", str(number).encode()
            with suppress(zmq.ZMQError):
                asked.send_multipart([version, request, status, text, user, b""])

    def _tell_of_stranger(self) -> None:
        if ("", "") not in self._told:
            self._told.add(("", ""))
            self._say("somebody without a key of this run tried to join its load processes, and was kept out")


def hold_key(key: WorkerKey) -> None:
    """Locust's connection of this process speaks with this key."""
    on_sockets(key.put_on)


def on_sockets(secure: Callable[[Any], None]) -> None:
    """Whatever socket Locust makes from now on goes through `secure` before it is bound or connected."""
    from locust.rpc.zmqrpc import BaseSocket

    original = BaseSocket.__init__

    def init(self: Any, sock_type: Any, ipv4_only: Any) -> None:
        original(self, sock_type, ipv4_only)
        secure(self.socket)

    BaseSocket.__init__ = init
