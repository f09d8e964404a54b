"""Bodies that came compressed."""

from __future__ import annotations

import zlib
from importlib.util import find_spec

from geventhttpclient._parser import HTTPParseError

_GZIP, _ZLIB, _RAW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS


def accepted() -> str:
    """For Accept-Encoding."""
    return "gzip, deflate, br" if find_spec("brotli") is not None else "gzip, deflate"


def unpack(body: bytes, encodings: str) -> bytes:
    """encodings: of a Content-Encoding line. Raises HTTPParseError when the body is damaged, cut or of another kind."""
    for encoding in reversed(encodings.lower().split(",")):
        body = _unpack(body, encoding.strip()) if body else body
    return body


def _unpack(body: bytes, encoding: str) -> bytes:
    try:
        if encoding in ("gzip", "x-gzip"):
            return _inflate(body, _GZIP)
        if encoding == "deflate":
            # RFC 9110 8.4.1.2 means zlib's format; some servers send the bare stream.
            try:
                return _inflate(body, _ZLIB)
            except zlib.error:
                return _inflate(body, _RAW)
        if encoding == "br":
            import brotli

            return bytes(brotli.decompress(body))
        if encoding in ("", "identity"):
            return body
    except Exception as error:
        raise HTTPParseError(f"the body cannot be unpacked ({encoding}): {error}") from error
    raise HTTPParseError(f"the body cannot be unpacked: it is {encoding}")


def _inflate(body: bytes, window: int) -> bytes:
    parts: list[bytes] = []
    while body:
        stream = zlib.decompressobj(window)
        parts.append(stream.decompress(body))
        if not stream.eof:
            raise zlib.error("it is cut off")
        # A gzip file may have several members.
        body = stream.unused_data if window == _GZIP else b""
    return b"".join(parts)
