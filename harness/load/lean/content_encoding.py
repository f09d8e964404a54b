"""Bodies that came compressed, unpacked no further than they are kept."""

from __future__ import annotations

import zlib
from importlib.util import find_spec
from typing import Any, Protocol

import gevent
from geventhttpclient._parser import HTTPParseError

from harness.load.lean import limits

_GZIP, _ZLIB, _RAW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS
_MEMBER = b"\x1f\x8b\x08"
_STEP = 1024 * 1024
_SLICE = 16 * 1024
_STEPS_AT_ONCE = 16
"""Between two looks at the event loop, to which other users and the request's own time-out belong."""


class _Cut(ValueError):
    """The body ends before its packing does."""


class _Stream(Protocol):
    """more: the next piece of it; an empty one when there is no more. ended: the packing has come to its own end."""

    @property
    def ended(self) -> bool: ...

    def more(self, size: int) -> bytes: ...


def accepted() -> str:
    """For Accept-Encoding."""
    return "gzip, deflate, br" if find_spec("brotli") is not None else "gzip, deflate"


def unpack(body: bytes, encodings: str, cut: bool = False) -> tuple[bytes, int]:
    """The first limits.BODY bytes, and how many more there are; may let other greenlets run.

    encodings: of a Content-Encoding line. cut: the end of the body was not kept, so it is no mistake of the server's
    that it is missing. Raises HTTPParseError when the body is damaged, cut off or of another kind.
    """
    named = encodings.lower().split(",")
    if len(named) > limits.PACKINGS:
        raise HTTPParseError(f"the body cannot be unpacked: it was packed {len(named)} times")
    dropped = 0
    for encoding in reversed(named):
        if body:
            body, dropped = _unpack(body, encoding.strip(), cut)
            cut = cut or dropped > 0
    return body, dropped


def _unpack(body: bytes, encoding: str, cut: bool) -> tuple[bytes, int]:
    try:
        if encoding in ("gzip", "x-gzip"):
            return _keep(_Members(body), cut)
        if encoding == "deflate":
            # RFC 9110 8.4.1.2 means zlib's format; some servers send the bare stream.
            try:
                return _keep(_Inflated(body, _ZLIB), cut)
            except zlib.error:
                return _keep(_Inflated(body, _RAW), cut)
        if encoding == "br":
            return _keep(_Brotli(body), cut)
        if encoding in ("", "identity"):
            return body, 0
    except Exception as error:
        raise HTTPParseError(f"the body cannot be unpacked ({encoding}): {error}") from error
    raise HTTPParseError(f"the body cannot be unpacked: it is {encoding}")


def _keep(stream: _Stream, cut: bool) -> tuple[bytes, int]:
    kept = bytearray()
    dropped = steps = 0
    while piece := stream.more(_STEP):
        room = limits.BODY - len(kept)
        kept += piece[:room]
        dropped += max(0, len(piece) - room)
        steps += 1
        if steps % _STEPS_AT_ONCE == 0:
            gevent.sleep(0)
    if not (stream.ended or cut):
        raise _Cut("it is cut off")
    return bytes(kept), dropped


class _Inflated:
    """One stream of zlib's kinds, from there on in the body. at: where it has ended."""

    def __init__(self, body: bytes, window: int, at: int = 0) -> None:
        self._stream = zlib.decompressobj(window)
        self._body = memoryview(body)
        self._fed = at
        self._tail = b""

    @property
    def ended(self) -> bool:
        return self._stream.eof

    @property
    def at(self) -> int:
        return self._fed - len(self._stream.unused_data)

    def more(self, size: int) -> bytes:
        while not self._stream.eof:
            # In slices: what a stream does not take, the whole rest of the body perhaps, is copied each time.
            fed = self._tail or self._body[self._fed : self._fed + _SLICE]
            if not self._tail:
                self._fed += len(fed)
            piece = self._stream.decompress(fed, size)
            self._tail = self._stream.unconsumed_tail
            if piece or not fed:
                return piece
        return b""


class _Members:
    """A gzip file, which may have several members. What follows the last and is none is ignored, as other clients do
    (padding, mostly)."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._member = _Inflated(body, _GZIP)
        self._count = 1
        self.ended = False

    def more(self, size: int) -> bytes:
        while not self.ended:
            try:
                piece = self._member.more(size)
            except zlib.error:
                if self._count == 1:
                    raise
                self.ended = True
                return b""
            if piece or not self._member.ended:
                return piece
            at = self._member.at
            if not self._body.startswith(_MEMBER, at):
                self.ended = True
                return b""
            self._member = _Inflated(self._body, _GZIP, at)
            self._count += 1
            if self._count % _STEPS_AT_ONCE == 0:
                gevent.sleep(0)
        return b""


class _Brotli:
    def __init__(self, body: bytes) -> None:
        import brotli

        self._stream: Any = brotli.Decompressor()
        self._packed = body

    @property
    def ended(self) -> bool:
        return bool(self._stream.is_finished())

    def more(self, size: int) -> bytes:
        if self._stream.is_finished():
            return b""
        piece = bytes(self._stream.process(self._packed, output_buffer_limit=size))
        self._packed = b""
        return piece
