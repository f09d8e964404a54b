"""Whom a name means to a container, by the model that Compose makes: /etc/hosts, its own links, then its networks."""

from __future__ import annotations

from collections.abc import Mapping

from harness.scaffold.compose_services import Service


def meant(services: Mapping[str, Service], owner: Service, name: str) -> frozenset[str]:
    """The services, or the address, that a name leads to; several are used in turn. owner: of the network namespace."""
    if name in owner.pinned:
        return frozenset({owner.pinned[name]})
    linked = frozenset(service for service, alias in owner.links if alias == name)
    if linked:
        return linked
    found = set()
    for other in services.values():
        for network, aliases in other.networks.items():
            everywhere = {*other.names, *other.made} - {alias for many in other.networks.values() for alias in many}
            if network in owner.networks and name in {*everywhere, *aliases}:
                found.add(other.name)
    return frozenset(found)
