"""One reply from the bytes of a connection, by geventhttpclient's C parser (llhttp).

The parser calls a method for every piece. Where only the piece is wanted the method is a list's own `append`, so that
no Python code runs for the header lines of a reply whose headers nobody looks at. And most replies of a load test have
a head that came before, byte by byte (its Date changes once a second): what the parser made of it is remembered.
"""

from __future__ import annotations

from geventhttpclient._parser import HTTPParseError, HTTPResponseParser

from harness.load.lean import limits

_MAX_KNOWN = 256
_START = b"HTTP/"


class Head:
    """Of a reply. names, values: its header lines. length: of the body. special: it sets cookies or is compressed."""

    __slots__ = ("length", "names", "special", "status", "values")

    def __init__(self, status: int, names: tuple[str, ...], values: tuple[str, ...], length: int) -> None:
        self.status = status
        self.names = names
        self.values = values
        self.length = length
        said = self.said
        self.special = "set-cookie" in said or "content-encoding" in said

    @property
    def said(self) -> str:
        """The names, in lower case."""
        return " ".join(self.names).lower()


_KNOWN: dict[bytes, Head] = {}
"""Heads of complete replies with a Content-Length that kept their connection: the same bytes mean the same again."""


class ReplyParser(HTTPResponseParser):  # type: ignore[misc]
    """head, body: of the present reply, once it is complete. dropped: bytes of the body beyond what is kept.

    `expect` before each reply, then `receive` what comes; `complete` when all of it is there. `surplus`: more came than
    the reply, so the connection is out of step.
    """

    head: Head

    def __init__(self) -> None:
        super().__init__()
        self._names: list[str] = []
        self._values: list[str] = []
        self._chunks: list[bytearray] = []
        self.complete = self.surplus = False
        self.body = b""
        self._lines = 0
        self._remembered = self._bodyless = False
        self._begun = 0
        self._in_head = True
        self._held = b""
        self.dropped = self._quiet = self._whole = 0
        self._interim = self._unusual = False
        # Called by the C code; `get` of an empty dict takes the reason phrase and does nothing with it.
        self._on_status = dict[str, str]().get
        self._on_header_field = self._names.append
        self._on_header_value = self._values.append
        self._on_body = self._chunks.append

    def expect(self, bodyless: bool) -> None:
        """A reply is to come. bodyless: to a HEAD request, so without a body whatever its head says."""
        self._names.clear()
        self._values.clear()
        self._chunks.clear()
        self.complete = self.surplus = self._remembered = False
        self._bodyless = bodyless
        self._begun = 0
        self._in_head = True
        self._held = b""
        if self._unusual:
            self.dropped = self._quiet = self._whole = 0
            self._interim = self._unusual = False
            self._on_body = self._chunks.append

    def receive(self, data: bytes) -> None:
        """Raises HTTPParseError when it is no HTTP."""
        end, received = 0, len(data)
        if self._in_head:
            if not self._held and not self._bodyless:
                end = data.find(b"\r\n\r\n") + 4
                known = _KNOWN.get(data[:end])
                if known is not None and len(data) - end == known.length:
                    self.head = known
                    self.body = data[end:]
                    self.complete = self._remembered = True
                    return
            # Fed as a whole: a header line that comes in two pieces would be two calls that nobody can tell from two
            # lines.
            data = self._held + data if self._held else data
            if data[9:10] == b"1":
                data, end = _after_interim(data), 0
                self._interim = self._unusual = True
            if b"\r\n\r\n" not in data and b"\n\n" not in data and _may_go_on(data):
                if len(data) > limits.HEAD:
                    raise HTTPParseError(f"the head of the reply has no end after {len(data)} bytes")
                self._held = data
                return
            self._in_head = False
            self._held = data
            received = 0
        try:
            self.feed(data)
        except HTTPParseError:
            if not self.complete:
                raise
            self.surplus = True
        if not self.complete:
            self._bound(received)
        if self._begun > 1:
            self.surplus = True
        elif self.complete and end > 4:
            self._remember(data, end)

    def finish(self) -> None:
        """The connection was closed: the end of a body without a length. Raises HTTPParseError anywhere else."""
        if self._in_head and self._held:
            raise HTTPParseError("the connection was closed within the head of the reply")
        self.feed(b"")
        if not self.complete:
            raise HTTPParseError("the connection was closed before the end of the reply")

    @property
    def started(self) -> bool:
        """Any byte of the reply has come, or of an interim one before it."""
        return self._interim or bool(self._held)

    @property
    def reusable(self) -> bool:
        """Another request may be sent on this connection."""
        return self._remembered or (not self.surplus and bool(self.should_keep_alive()))

    def _on_message_begin(self) -> None:
        self._begun += 1

    def _on_headers_complete(self) -> bool:
        if self._begun == 1:
            if self.get_code() < 100:
                raise HTTPParseError(f"{self.get_code():03} is no status")
            self._lines = len(self._names)
            if self._lines > limits.HEAD_LINES:
                raise HTTPParseError(f"the head of the reply has {self._lines} lines")
        return self._bodyless

    def _on_message_complete(self) -> None:
        # What comes after the reply must not change it.
        if not self.complete:
            self.complete = True
            self.body = b"".join(self._chunks)
            if len(self.body) > limits.BODY:
                self.dropped += len(self.body) - limits.BODY
                self.body = self.body[: limits.BODY]
                self._unusual = True
            names, values = tuple(self._names[: self._lines]), tuple(self._values[: self._lines])
            self.head = Head(self.get_code(), names, values, len(self.body))

    def _bound(self, received: int) -> None:
        """Hold a reply that is not complete to the limits, after each piece of it. received: bytes after its head."""
        self._unusual = True
        chunks = self._chunks
        if len(chunks) == self._whole:
            self._quiet += received
            if self._quiet > limits.QUIET:
                raise HTTPParseError(f"the reply has {self._quiet} bytes that are nothing of its body")
            return
        # In one piece: of a body of single bytes the objects would be many times the bytes.
        chunks[0] += b"".join(chunks[1:])
        del chunks[1:]
        self._whole, self._quiet = 1, 0
        if len(chunks[0]) >= limits.BODY:
            self.dropped += len(chunks[0]) - limits.BODY
            del chunks[0][limits.BODY :]
            self._on_body = self._drop

    def _drop(self, piece: bytearray) -> None:
        self.dropped += len(piece)
        self._quiet = 0

    def _remember(self, data: bytes, end: int) -> None:
        """The reply was all of `data`, and its head ended there."""
        said = self.head.said
        if "content-length" not in said or "transfer-encoding" in said or len(data) - end != self.head.length:
            return
        if self.surplus or not self.should_keep_alive():
            return
        if len(_KNOWN) >= _MAX_KNOWN:
            _KNOWN.clear()
        _KNOWN[data[:end]] = self.head


def _after_interim(data: bytes) -> bytes:
    """Without the interim replies (1xx but 101) that it begins with; what is cut off within one is kept."""
    while data[:7] == b"HTTP/1." and data[9:10] == b"1" and data[9:12] != b"101":
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return data
        data = data[end + 4 :]
    return data


def _may_go_on(data: bytes) -> bool:
    """It may be the beginning of a head."""
    return data[:5] == _START or _START.startswith(data)
