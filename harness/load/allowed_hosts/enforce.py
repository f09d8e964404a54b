"""The host rule, put in force in a load process: Locust's clients ask rule.py before they send.

Imported after locust, whose clients it changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import requests
from locust.clients import HttpSession
from locust.contrib.fasthttp import LocustUserAgent

from harness.load.allowed_hosts import rule
from harness.load.allowed_hosts.pinned import pin
from harness.load.allowed_hosts.redirects import keep_on_host


def hold_to(url: str, addresses: Sequence[str], allowed: Iterable[str]) -> None:
    """From now on this process sends load to these hosts alone. Once per process."""
    hosts = rule.Hosts(url, addresses, allowed)
    rule.set_hosts(hosts)
    pin(hosts.pinned)
    _hook_clients()
    keep_on_host()


def _hook_clients() -> None:
    """LeanHttpUser asks by itself, where it connects."""

    class NotAllowedHttp(requests.exceptions.RequestException):
        """HttpUser's client reports it as a failed request."""

    send, open_url = HttpSession.send, LocustUserAgent._urlopen

    def send_checked(session: Any, request: Any, **options: Any) -> Any:
        why = rule.refuses(rule.host_of(str(request.url)))
        if why is not None:
            raise NotAllowedHttp(why)
        return send(session, request, **options)

    def open_checked(agent: Any, request: Any) -> Any:
        rule.check(str(request.url_split.host))
        return open_url(agent, request)

    HttpSession.send = send_checked
    LocustUserAgent._urlopen = open_checked
