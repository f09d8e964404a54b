"""From the arguments of a call to the bytes of a request."""

from __future__ import annotations

import json as standard_json
import math
import re
from base64 import b64encode
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote_plus, unquote, urlencode, urlsplit

import msgspec
from requests.utils import requote_uri
from urllib3.util import parse_url

from harness.load.lean.content_encoding import accepted

AGENT = "resilience-harness"
_PLAIN = re.compile(
    # What requests sends as it is: a path and a query of characters that need no quotes, and quoted ones that do.
    r"/[\w.~!$&'()*+,;=:@/-]*(?:\?(?:[\w.~!$&'()*+,;=:@/?-]|%(?:[0189A-F][0-9A-F]|2[0-9A-CF]|3[A-F]|40|5[B-E]|60|7[B-DF]))+)?",
    re.ASCII,
)
_WORD = re.compile(r"[\w.~-]*", re.ASCII)
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_BROKEN = re.compile(r"^\s|[\r\n\0]")
_JSON = (("Content-Type", "application/json"), ("Accept", "application/json"))
_FORM = (("Content-Type", "application/x-www-form-urlencoded"),)
_OTHERS = frozenset({"cert", "cookies", "files", "hooks", "proxies", "stream"})
"""Options of HttpUser's that this client does not have."""
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})

Lines = tuple[tuple[str, str | bytes | None], ...]


class Origin:
    """A server as a URL names it, and the header lines that every request to it has."""

    __slots__ = ("base", "host", "lines", "own", "path", "port", "secure")

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
        self.own = default
        self.lines: Lines = (*lines.items(), *default)


@lru_cache(maxsize=1024)
def origin_of(url: str, default: Lines = ()) -> Origin:
    """The same one for all users. url: with what every path begins with. default: lines that every request has.

    Raises ValueError when it is no http or https URL.
    """
    return Origin(url, default)


def basic(user: object, password: object) -> str:
    """The value of an Authorization line, RFC 7617. In Latin-1 as the other clients, what it has not in UTF-8."""
    both = (part if isinstance(part, bytes) else _bytes_of(str(part)) for part in (user, password))
    return "Basic " + b64encode(b":".join(both)).decode("ascii")


def total_of(timeout: Any) -> float:
    """Seconds in all, from what requests takes: a number, or (to connect, to read), where None is no limit.

    Raises ValueError and TypeError for anything else, and for what is not above 0.
    """
    if timeout is None:
        return math.inf
    if isinstance(timeout, (tuple, list)):
        if len(timeout) != 2:
            raise ValueError(f"timeout is seconds or (seconds to connect, seconds to read), not {timeout!r}")
        return sum(total_of(part) for part in timeout)
    if isinstance(timeout, (bool, str, bytes)):
        raise TypeError(f"timeout is a number of seconds, not {timeout!r}")
    try:
        seconds = float(timeout)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"timeout is a number of seconds, not {timeout!r}") from None
    if not seconds > 0:
        raise ValueError(f"timeout must be above 0, not {timeout!r}")
    return seconds


def refuse(options: Mapping[str, Any]) -> None:
    """Options that the client does not have; what says that it is off anyway (stream=False) does no harm."""
    for name, value in options.items():
        if value or name not in _OTHERS:
            raise TypeError(f"{name}= is no option of LeanHttpUser: docs/load.md has them, HttpUser has more")


def header_lines(headers: Mapping[Any, Any] | None) -> Lines:
    """With their values as text, so that those that differ are not equal (1 and True are)."""
    return tuple((_text(name), None if value is None else _text(value)) for name, value in (headers or {}).items())


def body_of(data: Any, json: Any) -> tuple[bytes, Lines]:
    """The body and the header lines that say what it is. Raises TypeError when it is none of the kinds supported, and
    ValueError for numbers that JSON does not have."""
    if not data:
        if json is None:
            return b"", ()
        try:
            encoded = msgspec.json.encode(json)
        except (TypeError, ValueError, msgspec.MsgspecError):
            return standard_json.dumps(json, allow_nan=False).encode("utf-8"), _JSON
        if b"null" in encoded and not _finite(json):
            raise ValueError("not a number, or infinite: JSON has no such values")
        return encoded, _JSON
    if isinstance(data, str):
        return data.encode("utf-8"), ()
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data), ()
    if isinstance(data, (Mapping, list, tuple)):
        return _form(data).encode("ascii"), _FORM
    if hasattr(data, "read"):
        return _joined([data.read()]), ()
    if isinstance(data, Iterable):
        return _joined(data), ()
    raise TypeError(f"data is text, bytes, the fields of a form or an iterable of bytes, not {type(data).__name__}")


def with_params(target: str, params: Any) -> str:
    """params: a mapping, pairs, or a query that is ready."""
    target = target.partition("#")[0] or "/"
    if isinstance(params, (str, bytes)):
        query = params if isinstance(params, str) else params.decode("ascii")
    else:
        query = _form(params)
    if not _PLAIN.fullmatch(target):
        # By itself: a percent sign of its own must not change how those of the query are read.
        target = quoted(target)
    return f"{target}{'&' if '?' in target else '?'}{query}" if query else target


def quoted(target: str) -> str:
    """As requests and urllib3 would send it: what is not allowed is percent-encoded, what need not be is not, and the
    path has no dots to climb by."""
    # Of a host's URL, because a path alone may begin like one ("//").
    whole = parse_url(f"http://h{target}")
    return requote_uri(f"{whole.path or '/'}{'?' + whole.query if whole.query else ''}")


def _form(fields: Any) -> str:
    """As a query. Values of None, also in lists, are left out."""
    pairs = fields.items() if isinstance(fields, Mapping) else fields
    if not isinstance(pairs, Iterable):
        raise TypeError(f"fields are a mapping or pairs, not {type(fields).__name__}")
    found: list[str] = []
    for pair in pairs:
        if isinstance(pair, (str, bytes)) or len(pair) != 2:
            raise ValueError(f"a field is a name and a value, not {pair!r}")
        name, value = pair
        if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
            if value is not None:
                found.append(f"{_word(name)}={_word(value)}")
            continue
        for one in value:
            if isinstance(one, (str, bytes)) or not hasattr(one, "__iter__"):
                if one is not None:
                    found.append(f"{_word(name)}={_word(one)}")
            else:
                found.append(urlencode([(name, one)], doseq=True))
    return "&".join(found)


def _word(part: Any) -> str:
    text = part if isinstance(part, (str, bytes)) else str(part)
    return text if isinstance(text, str) and _WORD.fullmatch(text) else quote_plus(text)


def _joined(pieces: Iterable[Any]) -> bytes:
    """Sent with a length: a server sees the same body as in chunks."""
    parts: list[bytes] = []
    for piece in pieces:
        if not isinstance(piece, (str, bytes, bytearray, memoryview)):
            raise TypeError(f"a piece of a body is text or bytes, not {type(piece).__name__}")
        parts.append(piece.encode("utf-8") if isinstance(piece, str) else bytes(piece))
    return b"".join(parts)


def _finite(json: Any) -> bool:
    """msgspec writes null for what is no number."""
    try:
        standard_json.dumps(json, allow_nan=False)
    except ValueError:
        return False
    except TypeError:
        # Of a kind that only msgspec knows.
        return True
    return True


def _bytes_of(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8")


def _text(part: Any) -> str:
    return part.decode("latin-1") if isinstance(part, (bytes, bytearray)) else str(part)


def assemble(
    origin: Origin,
    method: str,
    target: str,
    own: Lines,
    of_body: Lines,
    cookie: str | None,
    body: bytes,
    more: bytes = b"",
) -> bytes:
    """The whole request. own: the call's header lines, which replace those of the same name that are there anyway; a
    value of None leaves the line out. more: header lines that differ from request to request, ready to be sent.

    Raises ValueError when a name or value would break the head.
    """
    try:
        head = _head(origin, method, target, own, of_body)
    except TypeError:
        # A value that is neither text nor bytes, or cannot even be looked up.
        head = _head(origin, method, target, header_lines(dict(own)), of_body)
    head += more
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
    if "#" in target:
        target = target.partition("#")[0] or "/"
    if not _PLAIN.fullmatch(target) or "/." in target:
        target = quoted(target)
    lines: dict[str, tuple[str, str]] = {}
    for name, value in (*origin.lines, *of_body, *own):
        if value is None:
            lines.pop(name.lower(), None)
            continue
        if not isinstance(name, str) or not isinstance(value, (str, bytes)):
            raise TypeError(f"not a header line: {name!r}: {value!r}")
        text = value.decode("latin-1") if isinstance(value, bytes) else value
        if not _TOKEN.fullmatch(name) or _BROKEN.search(text):
            raise ValueError(f"not a header line: {name!r}: {text!r}")
        lines[name.lower()] = (name, text)
    if "transfer-encoding" in lines:
        raise ValueError("Transfer-Encoding: bodies are sent with their length only")
    # Counted here, not by the caller.
    lines.pop("content-length", None)
    text = "".join(f"{name}: {value}\r\n" for name, value in lines.values())
    return f"{method} {target} HTTP/1.1\r\n{text}".encode("latin-1")
