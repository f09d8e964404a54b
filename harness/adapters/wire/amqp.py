"""AMQP 0-9-1 by hand: log in, open a virtual host, publish to nobody, close in order.

A client library would hide what proofs need: how a connection ended, and that all of it kept to one deadline. A message
goes to the default exchange as `mandatory`, under a key that no queue has, so it comes back whole and stays nowhere.
"""

from __future__ import annotations

import os
import struct
from typing import Any, Self

import msgspec

from harness.adapters.wire.exchange import ErrorKind, Exchange, ProbeError
from harness.model.records.faults import Address, Tls

_HEADER = b"AMQP\x00\x00\x09\x01"
_METHOD, _CONTENT, _BODY, _HEARTBEAT, _END = 1, 2, 3, 8, 0xCE
_START, _START_OK, _SECURE, _TUNE, _TUNE_OK = (10, 10), (10, 11), (10, 20), (10, 30), (10, 31)
_OPEN, _OPEN_OK, _CLOSE, _CLOSE_OK, _BLOCKED, _UNBLOCKED = (10, 40), (10, 41), (10, 50), (10, 51), (10, 60), (10, 61)
_CHANNEL_OPEN, _CHANNEL_OPEN_OK, _CHANNEL_CLOSE, _CHANNEL_CLOSE_OK = (20, 10), (20, 11), (20, 40), (20, 41)
_PUBLISH, _RETURN = (60, 40), (60, 50)
_FRAME_MAX = 131072
_MOST_FRAME = 2**20
"""No server sends a larger one before a size is agreed on."""
_DEEPEST = 8
_ACCESS_REFUSED, _NOT_ALLOWED, _NO_ROUTE = 403, 530, 312
_FIXED = {"t": ">?", "b": ">b", "B": ">B", "s": ">h", "U": ">h", "u": ">H", "I": ">i", "i": ">I", "l": ">q", "L": ">q",
          "f": ">f", "d": ">d", "D": ">Bi", "T": ">Q"}  # fmt: skip


class Login(msgspec.Struct, frozen=True, kw_only=True):
    user: str
    password: str
    vhost: str = "/"


class Session:
    """A connection with its virtual host open; as a context manager it is closed in order where nothing went wrong.

    server: what it said about itself. blocked: why it takes nothing from publishers now, once it has said so.
    """

    def __init__(self, address: Address, login: Login, *, name: str, deadline: float, tls: Tls | None = None) -> None:
        self.blocked: str | None = None
        self._unread = False
        self._exchange = Exchange(address, deadline=deadline, tls=tls)
        try:
            self._exchange.send(_HEADER)
            start = self._method(_START)
            self.server = start.after(2).table()
            self._send(0, _START_OK, _table(_client(name)) + _short("PLAIN") + _long(_plain(login)) + _short("en_US"))
            tune = self._method(_TUNE)
            channels, frame, _ = struct.unpack(">HIH", tune.take(8))
            self._frame_max = min(frame or _FRAME_MAX, _FRAME_MAX)
            self._send(0, _TUNE_OK, struct.pack(">HIH", channels, self._frame_max, 0))
            self._send(0, _OPEN, _short(login.vhost) + _short("") + b"\0")
            self._method(_OPEN_OK)
        except BaseException:
            self._exchange.__exit__()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._close()
        finally:
            self._exchange.__exit__()

    @property
    def received(self) -> int:
        return self._exchange.received

    def returned(self, size: int) -> None:
        """A message of so many bytes is taken and comes back whole."""
        self._open_channel()
        self._publish(size)
        code = struct.unpack(">H", self._method(_RETURN).take(2))[0]
        if code != _NO_ROUTE:
            raise ProbeError("protocol", f"a message to nobody came back with {code}", connected=True)
        came, announced = 0, struct.unpack(">Q", self._frame(_CONTENT).after(4).take(8))[0]
        while came < min(size, announced):
            came += len(self._frame(_BODY).data)
        if announced != size or came != size:
            raise ProbeError("protocol", f"{came} bytes came back of {size}", connected=True)
        self._close_channel()

    def takes_messages(self) -> bool:
        """Whether a message is taken and the connection read on. False once the server says that it is blocked, which
        it is only by sending a message with a body; then it is to be kept until the server reads again, and left."""
        self._open_channel()
        self._publish(1)
        self._send(1, _CHANNEL_CLOSE, _goodbye())
        while self.blocked is None:
            if self._next().method == _CHANNEL_CLOSE_OK:
                return True
        self._unread = True
        return False

    def still_blocked(self, deadline: float) -> bool:
        """Whether it was not told otherwise until then. Raises ProbeError for a connection that has ended."""
        self._exchange.deadline = deadline
        try:
            while self.blocked is not None:
                self._next()
        except ProbeError as error:
            if error.kind != "timeout":
                raise
        return self.blocked is not None

    def leave(self, deadline: float) -> None:
        """Close in order once the server reads again; what is not in order by then is closed all the same."""
        try:
            if not self.still_blocked(deadline):
                while self._unread:
                    self._unread = self._next().method != _CHANNEL_CLOSE_OK
                self._close()
        except ProbeError:
            pass  # it is gone, as its server may be
        finally:
            self._exchange.__exit__()

    def _close(self) -> None:
        self._send(0, _CLOSE, _goodbye())
        self._method(_CLOSE_OK)
        self._exchange.goodbye(b"")

    def _open_channel(self) -> None:
        self._send(1, _CHANNEL_OPEN, _short(""))
        self._method(_CHANNEL_OPEN_OK)

    def _close_channel(self) -> None:
        self._send(1, _CHANNEL_CLOSE, _goodbye())
        self._method(_CHANNEL_CLOSE_OK)

    def _publish(self, size: int) -> None:
        key = f"harness-probe-{os.urandom(8).hex()}"
        self._send(1, _PUBLISH, struct.pack(">H", 0) + _short("") + _short(key) + b"\1")
        frames = _frame(_CONTENT, 1, struct.pack(">HHQH", 60, 0, size, 0))
        step = self._frame_max - 8
        frames += b"".join(_frame(_BODY, 1, b"x" * min(step, size - at)) for at in range(0, size, step))
        self._exchange.send(frames)

    def _send(self, channel: int, method: tuple[int, int], arguments: bytes) -> None:
        self._exchange.send(_frame(_METHOD, channel, struct.pack(">HH", *method) + arguments))

    def _method(self, wanted: tuple[int, int]) -> _Reader:
        """The next frame of that method, whatever is told meanwhile about blocking; and a message on its way back."""
        while True:
            frame = self._next()
            if frame.method == wanted:
                return frame
            if frame.method == _SECURE:
                raise ProbeError("auth", "it asks for more than a user and a password (PLAIN)", connected=True)
            if frame.method not in (_BLOCKED, _UNBLOCKED):
                raise ProbeError("protocol", "it was not answered as AMQP 0-9-1 has it", connected=True)

    def _frame(self, wanted: int) -> _Reader:
        frame = self._next()
        while frame.method in (_BLOCKED, _UNBLOCKED):
            frame = self._next()
        if frame.kind != wanted:
            raise ProbeError("protocol", "a message did not come back as AMQP 0-9-1 has it", connected=True)
        return frame

    def _next(self) -> _Reader:
        """The next frame that is no heartbeat. Raises ProbeError where the server closes channel or connection."""
        while True:
            kind, channel, size = struct.unpack(">BHI", self._head())
            if size > _MOST_FRAME or kind not in (_METHOD, _CONTENT, _BODY, _HEARTBEAT):
                raise ProbeError("protocol", "it was not answered in AMQP 0-9-1", connected=True)
            data = self._exchange.exactly(size + 1)
            if data[-1] != _END:
                raise ProbeError("protocol", "a frame of AMQP without its end was answered", connected=True)
            if kind != _HEARTBEAT:
                break
        frame = _Reader(kind, data[:-1])
        if frame.method == _BLOCKED:
            self.blocked = frame.text()
        elif frame.method == _UNBLOCKED:
            self.blocked = None
        elif frame.method in (_CLOSE, _CHANNEL_CLOSE):
            code, said = struct.unpack(">H", frame.take(2))[0], frame.text()
            if frame.method == _CLOSE:
                self._send(0, _CLOSE_OK, b"")
                self._exchange.goodbye(b"")
            else:
                self._send(channel, _CHANNEL_CLOSE_OK, b"")
                self._close()
            raise ProbeError(_kind_of(code, said), said[:200] or f"closed with {code}", connected=True)
        return frame

    def _head(self) -> bytes:
        head = self._exchange.exactly(7)
        if head[:4] == b"AMQP":
            raise ProbeError("protocol", "it speaks another version of AMQP than 0-9-1", connected=True)
        return head


class _Reader:
    """One frame's payload, read from its beginning. What is not as it should be is a ProbeError."""

    def __init__(self, kind: int, data: bytes) -> None:
        self.kind, self.data, self._at = kind, data, 0
        self.method = struct.unpack(">HH", self.take(4)) if kind == _METHOD else None

    def take(self, size: int) -> bytes:
        found = self.data[self._at : self._at + size]
        if len(found) != size:
            raise ProbeError("protocol", "a frame of AMQP that is cut short was answered", connected=True)
        self._at += size
        return found

    def after(self, size: int) -> Self:
        self.take(size)
        return self

    def text(self) -> str:
        return self.take(self.take(1)[0]).decode("utf-8", "replace")

    def long(self) -> bytes:
        return self.take(struct.unpack(">I", self.take(4))[0])

    def table(self, depth: int = 0) -> dict[str, Any]:
        inner, found = _Reader(_BODY, self.long()), {}
        while inner._at < len(inner.data):
            name = inner.text()
            found[name] = inner._value(depth + 1)
        return found

    def _value(self, depth: int) -> Any:
        if depth > _DEEPEST:
            raise ProbeError("protocol", "a table nested too deeply was answered", connected=True)
        tag = chr(self.take(1)[0])
        if tag in _FIXED:
            return struct.unpack(_FIXED[tag], self.take(struct.calcsize(_FIXED[tag])))[0]
        if tag in "Sx":
            return self.long().decode("utf-8", "replace")
        if tag == "F":
            return self.table(depth)
        if tag == "A":
            inner, found = _Reader(_BODY, self.long()), []
            while inner._at < len(inner.data):
                found.append(inner._value(depth + 1))
            return found
        if tag == "V":
            return None
        raise ProbeError("protocol", "a table of AMQP of no known form was answered", connected=True)


def _kind_of(code: int, said: str) -> ErrorKind:
    if "connection limit" in said:
        return "limit"
    return "auth" if code in (_ACCESS_REFUSED, _NOT_ALLOWED) else "protocol"


def _client(name: str) -> dict[str, object]:
    """Named, so that nobody takes us for a client of the application. A wrong login is answered instead of hung up on,
    and a blocked connection is told so, only where the client asks for it."""
    return {
        "product": "harness",
        "connection_name": name,
        "capabilities": {"authentication_failure_close": True, "connection.blocked": True},
    }


def _plain(login: Login) -> bytes:
    return f"\0{login.user}\0{login.password}".encode()


def _goodbye() -> bytes:
    return struct.pack(">H", 200) + _short("") + struct.pack(">HH", 0, 0)


def _frame(kind: int, channel: int, payload: bytes) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + bytes([_END])


def _short(text: str) -> bytes:
    data = text.encode()
    if len(data) > 255:
        raise ProbeError("protocol", "a name of more than 255 bytes cannot be said in AMQP", connected=False)
    return bytes([len(data)]) + data


def _long(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _table(values: dict[str, Any]) -> bytes:
    """Of texts, truths and tables."""
    found = b""
    for name, value in values.items():
        if isinstance(value, dict):
            found += _short(name) + b"F" + _table(value)
        elif isinstance(value, bool):
            found += _short(name) + b"t" + bytes([value])
        else:
            found += _short(name) + b"S" + _long(str(value).encode())
    return _long(found)
