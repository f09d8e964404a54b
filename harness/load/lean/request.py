"""From the arguments of a call to the bytes of a request."""

from __future__ import annotations

import json as standard_json
import re
from base64 import b64encode
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

import msgspec

from harness.load.lean.unpack import accepted

AGENT = "resilience-harness"
_PLAIN = re.compile(r"[!-~]+")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_BROKEN = re.compile(r"[\r\n\0]")
_SAFE = "!#$%&'()*+,/:;=?@[]~"
_JSON = (("Content-Type", "application/json"), ("Accept", "application/json"))
_FORM = (("Content-Type", "application/x-www-form-urlencoded"),)
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})

Lines = tuple[tuple[str, str | bytes | None], ...]


class Origin:
    """A server as a URL names it, and the header lines that every request to it has."""

    __slots__ = ("base", "host", "lines", "path", "port", "secure")

    def __init__(self, url: str, default: Lines) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not a URL of HTTP: {url}")
        self.secure = parts.scheme == "https"
        self.host = parts.hostname
        self.port = parts.port or (443 if self.secure else 80)
        self.path = parts.path.rstrip("/")
        name = f"[{self.host}]" if ":" in self.host else self.host.encode("idna").decode("ascii")
        if self.port != (443 if self.secure else 80):
            name = f"{name}:{self.port}"
        self.base = f"{parts.scheme}://{name}"
        lines = {"Host": name, "User-Agent": AGENT, "Accept-Encoding": accepted(), "Accept": "*/*"}
        if parts.username is not None:
            lines["Authorization"] = basic(unquote(parts.username), unquote(parts.password or ""))
        self.lines: Lines = (*lines.items(), *default)


@lru_cache(maxsize=1024)
def origin_of(url: str, default: Lines = ()) -> Origin:
    """The same one for all users. url: with what every path begins with. default: lines that every request has.

    Raises ValueError when it is no http or https URL.
    """
    return Origin(url, default)


def basic(user: str | bytes, password: str | bytes) -> str:
    """The value of an Authorization line, RFC 7617."""
    both = (part if isinstance(part, bytes) else part.encode("utf-8") for part in (user, password))
    return "Basic " + b64encode(b":".join(both)).decode("ascii")


def body_of(data: Any, json: Any) -> tuple[bytes, Lines]:
    """The body and the header lines that say what it is. Raises TypeError when it is none of the kinds supported."""
    if not data:
        if json is None:
            return b"", ()
        try:
            return msgspec.json.encode(json), _JSON
        except (TypeError, ValueError, msgspec.MsgspecError):
            return standard_json.dumps(json).encode("utf-8"), _JSON
    if isinstance(data, str):
        return data.encode("utf-8"), ()
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data), ()
    if isinstance(data, (Mapping, list, tuple)):
        return urlencode(data, doseq=True).encode("ascii"), _FORM
    raise TypeError(f"data is text, bytes or the fields of a form, not {type(data).__name__}")


def with_params(target: str, params: Any) -> str:
    """params: a mapping, pairs, or a query that is ready."""
    query = params if isinstance(params, str) else urlencode(params, doseq=True)
    return f"{target}{'&' if '?' in target else '?'}{query}" if query else target


def assemble(
    origin: Origin, method: str, target: str, own: Lines, of_body: Lines, cookie: str | None, body: bytes
) -> bytes:
    """The whole request. own: the call's header lines, which replace those of the same name that are there anyway; a
    value of None leaves the line out.

    Raises ValueError when a name or value would break the head.
    """
    head = _head(origin, method, target, own, of_body)
    if cookie is not None:
        head += b"Cookie: %b\r\n" % cookie.encode("latin-1")
    if body or method in _WITH_BODY:
        return b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)
    return head + b"\r\n"


@lru_cache(maxsize=4096)
def _head(origin: Origin, method: str, target: str, own: Lines, of_body: Lines) -> bytes:
    """Cached, because most requests of a load test have a head that was sent before."""
    if not _TOKEN.fullmatch(method):
        raise ValueError(f"not a method: {method!r}")
    target = target.partition("#")[0] or "/"
    if not _PLAIN.fullmatch(target):
        target = quote(target, safe=_SAFE)
    lines: dict[str, tuple[str, str]] = {}
    for name, value in (*origin.lines, *of_body, *own):
        if value is None:
            lines.pop(name.lower(), None)
            continue
        text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
        if not _TOKEN.fullmatch(name) or _BROKEN.search(text):
            raise ValueError(f"not a header line: {name!r}: {text!r}")
        lines[name.lower()] = (name, text)
    if "transfer-encoding" in lines:
        raise ValueError("Transfer-Encoding: bodies are sent with their length only")
    # Counted here, not by the caller.
    lines.pop("content-length", None)
    text = "".join(f"{name}: {value}\r\n" for name, value in lines.values())
    return f"{method} {target} HTTP/1.1\r\n{text}".encode("latin-1")
