"""One reply from the bytes of a connection, by geventhttpclient's C parser (llhttp).

The parser calls a method for every piece. Where only the piece is wanted the method is a list's own `append`, so that
no Python code runs for the header lines of a reply whose headers nobody looks at.
"""

from __future__ import annotations

from geventhttpclient._parser import HTTPParseError, HTTPResponseParser

_MAX_HEAD = 256 * 1024
_START = b"HTTP/"


class ReplyParser(HTTPResponseParser):
    """names, values: header lines of the present reply, trailers after the first `head` of them. status, body: once
    it is complete.

    `expect` before each reply, then `receive` what comes; `complete` when all of it is there. `surplus`: more came than
    the reply, so the connection is out of step.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.values: list[str] = []
        self._chunks: list[bytearray] = []
        self.complete = self.surplus = False
        self.head = self.status = 0
        self.body = b""
        self._bodyless = False
        self._begun = 0
        self._in_head = True
        self._held = b""
        # Called by the C code; `get` of an empty dict takes the reason phrase and does nothing with it.
        self._on_status = dict[str, str]().get
        self._on_header_field = self.names.append
        self._on_header_value = self.values.append
        self._on_body = self._chunks.append

    def expect(self, bodyless: bool) -> None:
        """A reply is to come. bodyless: to a HEAD request, so without a body whatever its head says."""
        self.names.clear()
        self.values.clear()
        self._chunks.clear()
        self.complete = self.surplus = False
        self.head = 0
        self._bodyless = bodyless
        self._begun = 0
        self._in_head = True
        self._held = b""

    def receive(self, data: bytes) -> None:
        """Raises HTTPParseError when it is no HTTP."""
        if self._in_head:
            # Fed as a whole: a header line that comes in two pieces would be two calls that nobody can tell from two
            # lines.
            data = self._held + data if self._held else data
            if data[9:10] == b"1":
                data = _after_interim(data)
            if b"\r\n\r\n" not in data and b"\n\n" not in data and _may_go_on(data):
                self._held = data
                return
            self._in_head = False
            self._held = data
        try:
            self.feed(data)
        except HTTPParseError:
            if not self.complete:
                raise
            self.surplus = True
        if self._begun > 1:
            self.surplus = True

    def finish(self) -> None:
        """The connection was closed: the end of a body without a length. Raises HTTPParseError anywhere else."""
        if self._in_head and self._held:
            raise HTTPParseError("the connection was closed within the head of the reply")
        self.feed(b"")
        if not self.complete:
            raise HTTPParseError("the connection was closed before the end of the reply")

    @property
    def started(self) -> bool:
        """Any byte of the reply has come."""
        return bool(self._held)

    @property
    def reusable(self) -> bool:
        """Another request may be sent on this connection."""
        return not self.surplus and bool(self.should_keep_alive())

    def _on_message_begin(self) -> None:
        self._begun += 1

    def _on_headers_complete(self) -> bool:
        if self._begun == 1:
            self.head = len(self.names)
        return self._bodyless

    def _on_message_complete(self) -> None:
        # What comes after the reply must not change it.
        if not self.complete:
            self.complete = True
            self.status = self.get_code()
            self.body = b"".join(self._chunks)


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
    return len(data) < _MAX_HEAD and (data[:5] == _START or _START.startswith(data))
