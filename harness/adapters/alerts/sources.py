"""The declared sources of alerts: whether they may be spoken to, and whose clock they go by."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit, urlunsplit

import msgspec

from harness.adapters.alerts import listener, prometheus
from harness.adapters.alerts.webhook import Receiver
from harness.adapters.allowed_hosts import check_url, url_address
from harness.adapters.processes.listeners import command_of
from harness.adapters.processes.listeners import listener as process_at
from harness.adapters.wire.http import Client
from harness.model.errors import AdapterError, UsageError
from harness.model.records.alerts import AlertRule, AlertsPlan
from harness.model.records.faults import Address

_PROGRAMS = ("prometheus", "alertmanager")
"""How the names of their processes begin; Debian's Alertmanager is prometheus-alertmanager."""


def pinned(alerts: AlertsPlan, allow_hosts: Collection[str]) -> AlertsPlan:
    """With addresses instead of names (an https URL keeps its name, which its certificate is for). harness.toml names
    both, so they may be private. Raises UsageError, and Refused for a host that must not be spoken to."""
    return msgspec.structs.replace(
        alerts,
        prometheus=_pinned(alerts.prometheus, "prometheus", allow_hosts),
        alertmanager=_pinned(alerts.alertmanager, "alertmanager", allow_hosts),
    )


def _pinned(url: str | None, key: str, allow_hosts: Collection[str]) -> str | None:
    if url is None:
        return None
    host, port = url_address(url)
    try:
        address = check_url(url, (host,), allow_hosts=allow_hosts)[0]
    except UsageError as error:
        raise type(error)(f"alerts.{key}: {error}", hint=error.hint) from error
    if urlsplit(url).scheme != "http":
        return url
    return urlunsplit(urlsplit(url)._replace(netloc=str(Address(address, port))))


def rules_of(alerts: AlertsPlan, allow_hosts: Collection[str]) -> tuple[AlertRule, ...]:
    """The rules of the declared Prometheus as they are now; none where none is declared. Raises AdapterError, and what
    `pinned` raises."""
    url = pinned(alerts, allow_hosts).prometheus
    if url is None:
        return ()
    with Client() as client:
        return prometheus.read(client, url).rules


def check_sources(alerts: AlertsPlan | None, allow_hosts: Collection[str]) -> None:
    """Before anything is touched. Raises what `pinned` raises, and UsageError where the webhook's port is taken."""
    if alerts is None:
        return
    pinned(alerts, allow_hosts)
    if alerts.webhook is not None:
        try:
            Receiver(*listening(alerts.webhook), lambda _: None, lambda _: None).close()
        except AdapterError as error:
            if listener.answers(alerts.webhook):
                return
            raise UsageError(f"alerts.webhook: {error}", hint="name another port, or end what listens there") from error


def listening(webhook: str) -> tuple[str, int]:
    """Host and port of HOST:PORT, as harness.toml was checked for."""
    host, _, port = webhook.rpartition(":")
    return host.strip("[]"), int(port)


def has_our_clock(url: str) -> bool:
    """It is a process of this machine for sure: what listens there is no tunnel or forwarder to another one."""
    host, port = url_address(url)
    try:
        if not ip_address(host).is_loopback:
            return False
        pid = process_at(port)
        return pid is not None and command_of(pid).startswith(_PROGRAMS)
    except (AdapterError, ValueError):
        return False
