"""Cookies, by the standard library's jar. It is asked only once a server has set one."""

from __future__ import annotations

from collections.abc import Sequence
from email.message import Message
from http.cookiejar import CookieJar
from urllib.request import Request


class _Reply:
    def __init__(self, names: Sequence[str], values: Sequence[str]) -> None:
        self._message = Message()
        for name, value in zip(names, values, strict=True):
            if name.lower() == "set-cookie":
                self._message["Set-Cookie"] = value

    def info(self) -> Message:
        return self._message


def remember(jar: CookieJar, url: str, names: Sequence[str], values: Sequence[str]) -> None:
    """What the reply's header lines set."""
    jar.extract_cookies(_Reply(names, values), Request(url))  # type: ignore[arg-type]


def cookie_header(jar: CookieJar, url: str) -> str | None:
    """What to send to this URL."""
    request = Request(url)
    jar.add_cookie_header(request)
    return request.get_header("Cookie")
