"""A target of the user's own, known by its URL only: no dependencies, so no faults but `none`."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection
from urllib.parse import urlsplit

from harness.model.errors import AdapterError, Refused, UsageError
from harness.model.faults import Dependency
from harness.model.process import Launcher
from harness.model.stack import Progress, StackName, StackUp, TargetInfo

ANSWER_LIMIT_S = 3.0


class ExternalStack:
    """url: http or https, with an optional path that every request begins with.

    allow_hosts: host names, addresses or networks that may be tested besides loopback.
    """

    name: StackName = "external"

    def __init__(self, url: str, allow_hosts: Collection[str] = ()) -> None:
        """Raises UsageError for a URL that cannot be a target; resolves and connects to nothing."""
        self.url = target_url(url)
        self._allow = tuple(allow_hosts)

    def describe(self) -> tuple[Dependency, ...]:
        return ()

    def check(self) -> None:
        """Look whether it may be tested and whether it answers, before anything is made for a run.

        Raises Refused for an address that is neither loopback nor allowed, UsageError when nothing answers.
        """
        from harness.adapters.http import Client

        check_allowed(self.url, self._allow)
        try:
            # Any status will do: a service may well have nothing at its root.
            Client().get(self.url + "/", ANSWER_LIMIT_S)
        except AdapterError as error:
            raise UsageError(
                f"--host {self.url}: {error}", hint="start the target first, or correct the URL"
            ) from error

    def up(self, launcher: Launcher, progress: Progress) -> StackUp:
        """Raises what `check` raises."""
        progress(f"{self.url}: looking whether it answers")
        self.check()
        return StackUp(name=self.name, target=TargetInfo(url=self.url, metrics_url=f"{self.url}/metrics"))

    def down(self) -> None:
        """Nothing here is ours."""

    def restart_toxiproxy(self, launcher: Launcher) -> bool:
        """There is none of ours."""
        return False


def target_url(text: str) -> str:
    """The URL without a slash at its end. Raises UsageError in one line for what is no target's URL."""
    url = text.strip()
    where = f"--host {text}: "
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"{where}{error}", hint="for example: --host http://127.0.0.1:8000") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{where}an http or https URL is wanted", hint="for example: --host http://127.0.0.1:8000")
    if parts.username is not None or parts.password is not None:
        raise UsageError(f"{where[:7]}: a URL with a password in it would end up in reports", hint="use a header")
    if parts.query or parts.fragment:
        raise UsageError(f"{where}a target has no query and no fragment")
    if port == 0:
        raise UsageError(f"{where}port 0 is no port")
    return url.rstrip("/")


def check_allowed(url: str, allow_hosts: Collection[str]) -> None:
    """Every address of the host must be loopback, unless the host, address or network is in `allow_hosts`.

    Raises Refused, and UsageError when the name does not resolve.
    """
    host = urlsplit(url).hostname or ""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UsageError(f"--host {url}: the name {host} does not resolve") from error
    for address in dict.fromkeys(str(item[4][0]) for item in found):
        ip = ipaddress.ip_address(address.partition("%")[0])
        if not ip.is_loopback and not _named(host, ip, allow_hosts):
            raise Refused(
                f"--host {url}: {host} is {address}, which is not this machine",
                hint=f"a load test hits hard; if this is meant: --allow-host {host}",
            )


def _named(host: str, ip: ipaddress.IPv4Address | ipaddress.IPv6Address, names: Collection[str]) -> bool:
    for name in names:
        bare = name.strip().strip("[]").lower()
        if bare == host.lower().rstrip("."):
            return True
        try:
            if ip in ipaddress.ip_network(bare, strict=False):
                return True
        except (ValueError, TypeError):  # not an address; or the other family
            continue
    return False
