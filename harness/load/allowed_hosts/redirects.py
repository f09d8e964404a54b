"""A redirect that leaves the run's hosts is a failed request: load never goes to a stranger because a reply says so.

Both of Locust's HTTP clients follow redirects by default. Which hosts are the run's is for rule.py to say; here a
redirect elsewhere gets a name of its own.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urljoin

import requests
from geventhttpclient.response import HTTPParseError
from geventhttpclient.useragent import CompatRequest
from locust.clients import HttpSession

from harness.load.allowed_hosts import rule

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class LeftFast(HTTPParseError):  # type: ignore[misc]
    """FastHttpUser's client reports it as a failed request, as it does with any reply it cannot use."""


class LeftHttp(requests.exceptions.TooManyRedirects):
    """HttpUser's client reports it as a failed request."""


def leaves(url: str, location: str) -> str | None:
    """The host that a redirect leads to when it may not be followed there; None when it may."""
    try:
        here, there = rule.host_of(url), rule.host_of(urljoin(url, location))
    except ValueError:
        return location
    if rule.held():
        return None if rule.refuses(there) is None else there or location
    # Under plain Locust: another path, port or scheme on the same host is followed.
    if here == there or {here, there} <= _LOOPBACK:
        return None
    return there or location


def keep_on_host() -> None:
    """Hook both clients; once per process."""
    follow, target = CompatRequest.redirect, HttpSession.get_redirect_target

    def redirect(request: Any, code: int, location: str) -> None:
        host = leaves(str(request.url), str(location))
        if host is not None:
            raise LeftFast(f"redirected to another host ({host}); not followed")
        follow(request, code, location)

    def get_redirect_target(session: Any, reply: Any) -> Any:
        location = target(session, reply)
        host = leaves(str(reply.url), location) if location else None
        if host is not None:
            raise LeftHttp(f"redirected to another host ({host}); not followed")
        return location

    CompatRequest.redirect = redirect
    HttpSession.get_redirect_target = get_redirect_target
