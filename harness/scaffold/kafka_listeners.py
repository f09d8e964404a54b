"""Kafka's advertised listeners: a broker answers its clients with addresses, and they go on there."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.scaffold.compose_services import Service


def _listed(text: str) -> dict[str, tuple[str, int]]:
    """`NAME://host:port,...` or `host:port`: listener -> (host, port)."""
    found = {}
    for item in text.split(","):
        match = re.fullmatch(r"(?:(?P<name>[\w.-]+)://)?(?P<host>[^:/\s]*):(?P<port>\d+)", item.strip().strip("'\""))
        if match is not None:
            found[match["name"] or ""] = (match["host"], int(match["port"]))
    return found


def _said(store: Service, setting: str, option: str) -> dict[str, tuple[str, int]]:
    for key, value in store.environment.items():
        if re.fullmatch(rf"(KAFKA_|KAFKA_CFG_|REDPANDA_)?{setting}", key):
            return _listed(value)
    given = re.search(rf"--{option}[= ]\s*(\S+)", store.command)
    return _listed(given[1]) if given is not None else {}


def after_bootstrap(
    store: Service, ports: Sequence[int | None], others: Sequence[int] = ()
) -> tuple[list[int], str | None]:
    """Where clients of these ports are sent on to: ports of the same broker, or why that is past its proxy. others:
    ports of the same server that speak something else, as a schema registry's."""
    advertised = _said(store, "ADVERTISED_LISTENERS", "advertise-kafka-addr")
    bound = _said(store, "LISTENERS", "kafka-addr")
    host = store.environment.get("KAFKA_ADVERTISED_HOST_NAME")
    if not advertised and host:
        said = store.environment.get("KAFKA_ADVERTISED_PORT", "9092")
        advertised = {"": (host, int(said) if said.isdigit() else 9092)}
    if not advertised:
        return [], f"{store.name} does not show where it sends its clients (advertised.listeners)"
    more = []
    for asked in ports:
        port = asked or 9092
        if port in others and port not in {inside for _, inside in (*bound.values(), *advertised.values())}:
            continue
        names = [name for name, (_, inside) in bound.items() if inside == port] or [
            name for name, (_, outside) in advertised.items() if outside == port
        ]
        found = [advertised[name] for name in names if name in advertised]
        if not found and len(advertised) == 1:
            found = list(advertised.values())
        if not found:
            return [], f"{store.name} advertises nothing for its port {port}"
        for to, outside in found:
            if to not in store.names:
                return [], f"{store.name} sends it on to {to}:{outside} (advertised.listeners), past any link"
            more.append(outside)
    return more, None
