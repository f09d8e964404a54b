"""Where a redirect leads, and what is sent there: as requests has it, but never to another host."""

from __future__ import annotations

from typing import Any
from urllib.parse import urljoin

from geventhttpclient._parser import HTTPParseError

from harness.load.allowed_hosts.redirects import leaves
from harness.load.lean.request import Lines
from harness.load.lean.response import LeanResponse

MOST = 30
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_KEEP_BODY = frozenset({307, 308})
_OF_BODY = frozenset({"content-type", "content-encoding", "content-language", "content-length"})


def onward(response: LeanResponse) -> str | None:
    """The URL to ask next; None when this is the end.

    Raises HTTPParseError when it leads to another host, to another protocol or nowhere.
    """
    location = response.headers.get("location") if response.status_code in _REDIRECTS else None
    if not location or not isinstance(location, str):
        return None
    location = _readable(location)
    try:
        host = leaves(response.url, location)
        url = urljoin(response.url, location)
    except ValueError:
        raise HTTPParseError(f"redirected to what is no URL ({location[:200]!r})") from None
    if host is not None:
        raise HTTPParseError(f"redirected to another host ({host}); not followed")
    if not url.lower().startswith(("http://", "https://")):
        raise HTTPParseError(f"redirected to another protocol ({location[:200]!r}); not followed")
    if len(response.history) == MOST:
        raise HTTPParseError(f"more than {MOST} redirects")
    return url


def what(
    status: int, method: str, own: Lines, of_body: Lines, body: bytes, same: bool
) -> tuple[str, Lines, Lines, bytes]:
    """(method, the call's header lines, those of the body, the body) after a redirect. same: on the same server."""
    if method != "HEAD" and (status in (302, 303) or (status == 301 and method == "POST")):
        # As browsers do, whatever the standard says.
        method = "GET"
    # Cookies are those of the jar from here on.
    dropped = {"cookie"}
    if status not in _KEEP_BODY:
        body, of_body = b"", ()
        dropped |= _OF_BODY
    if not same:
        dropped.add("authorization")
    own = tuple(line for line in own if name_of(line) not in dropped)
    if not same:
        # Also that of the class, which every other request has.
        own = (*own, ("Authorization", None))
    return method, own, of_body, body


def name_of(line: tuple[Any, Any]) -> str:
    """Of a header line, in lower case."""
    name = line[0]
    return (name.decode("latin-1") if isinstance(name, bytes) else str(name)).lower()


def _readable(location: str) -> str:
    """Header lines are read as Latin-1; a URL that is not ASCII is in UTF-8, as good as always."""
    try:
        return location.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return location
