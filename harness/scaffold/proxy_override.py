"""A compose override that puts Toxiproxy in front of stores, and Toxiproxy's list of proxies.

How traffic is led through the proxy: the application gets a *link*, a name that only its own containers see. `links:
["harness-toxiproxy:redis"]` makes `redis` mean Toxiproxy for the application alone; for everybody else, Toxiproxy too,
it goes on meaning Redis. So nothing of the store is changed, none of the application's settings either, and both
generations of Compose know it. (A network alias cannot do that: Compose gives every service its own name as an alias,
an override cannot take it away, and two containers with one alias are used in turn.)

Two stores on one port need two addresses, and the harness speaks to one Toxiproxy. So a second container lends its
address and hands all on to the first one, where faults are.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from harness.adapters.allowed_hosts import ENVOY_PORT
from harness.adapters.clients.envoy_configuration import configuration
from harness.model.records.faults import Address
from harness.scaffold import http_front
from harness.scaffold.compose_config import OVERRIDE
from harness.scaffold.compose_services import ENVOY, OURS, Service
from harness.scaffold.front import API_PORT, Front, says
from harness.scaffold.one_line import joined

PROXIES = "harness.toxiproxy.json"
FRONTS = "harness.envoy.json"
IMAGE = "ghcr.io/shopify/toxiproxy:2.12.0"


def beside_compose(front: Front, name: str) -> str:
    """Where a file lies that belongs to the compose files: Compose takes paths from the folder of the first one."""
    folder = Path(front.project.composed.files[0]).parent
    return name if str(folder) == "." else f"{folder}/{name}"


def compose_command(front: Front, *words: str, override: bool = True) -> str:
    """With every file and profile that Compose used."""
    composed = front.project.composed
    argv = composed.asked.argv if composed.asked is not None else ("docker", "compose")
    more = ("-f", beside_compose(front, OVERRIDE)) if override else ()
    return shlex.join([*argv, *composed.words, *more, *words])


def override(front: Front, command: str) -> str:
    """The override file. command: of the harness that printed it, for its comments."""
    stores = ", ".join(one.service.name for one in front.fronted)
    lines = [
        f"# Toxiproxy in front of {stores}, for: {', '.join(front.users)}.",
        "#",
        "# How it works: the application's containers get a link, a name that only they see. To them",
        *(
            f"# {one.service.name!r} means Toxiproxy, which forwards to the real one"
            f" ({', '.join(str(proxy.port) for proxy in one.proxies)})."
            for one in front.fronted
        ),
        "# Other ports of theirs are not reached by these names.",
        "# For everybody else the names mean what they meant. The stores are not touched, nor is any setting.",
        f"# What changes: Compose makes {', '.join(front.links)} anew with links,"
        f" and adds {', '.join((*front.addresses, *([ENVOY] if front.http else [])))}.",
        *_about_envoy(front),
        *(
            f"# {address} only lends its address to another store on the same port and hands all on to {OURS}:"
            " behind it a connection that is refused or reset looks closed."
            for address in front.addresses[1:]
        ),
        "#",
        "# Apply it (read it first; nothing was started by making it):",
        f"#   {compose_command(front, 'up', '-d')}",
        *(
            f"# Beside it lies {beside_compose(front, name)} ({command} --print {what}), which it mounts."
            for name, what in ((PROXIES, "proxies"), *(((FRONTS, "envoy"),) if front.http else ()))
        ),
        "# Undo it:",
        f"#   {compose_command(front, 'up', '-d', '--remove-orphans', override=False)}",
        "#",
        *(f"# {text}." for text in says(front)),
    ]
    if front.project.composed.version is not None:
        lines.append(f"version: {json.dumps(front.project.composed.version)}")
    lines.append("services:")
    for name, links in front.links.items():
        lines += _client(front, front.project.services[name], links)
    for address in front.addresses:
        lines += _toxiproxy(front, address)
    lines += _envoy(front) if front.http else []
    used = {*_networks(front, OURS), *(_networks_of_envoy(front) if front.http else ())}
    if used - {network for one in front.project.services.values() for network in one.networks}:
        lines += ["networks:", f"  {OURS}: {{}}       # so that its ports can be published: the others are internal"]
    for number, address in enumerate(front.addresses[1:]):
        rows = [
            _row(proxy.name, proxy.port, f"{OURS}:{proxy.listen}")
            for one in front.fronted
            if one.address == address
            for proxy in one.proxies
        ]
        lines += ["configs:"] if number == 0 else []
        lines += [f"  {address}:", f"    content: {json.dumps(json.dumps(rows))}"]
    return joined(lines) + "\n"


def _about_envoy(front: Front) -> list[str]:
    if not front.http:
        return []
    return [
        f"# Behind Toxiproxy stands {ENVOY}, for faults of HTTP on {', '.join(one.name for one in front.http)}.",
        "# Its admin interface has no password: whoever is on the same networks reaches it.",
    ]


def _client(front: Front, service: Service, links: dict[str, str]) -> list[str]:
    asked = front.project.composed.asked
    taken = [(one, alias) for one, alias in service.links if alias in links]
    anew = bool(taken) and asked is not None and asked.overrides
    every = [f"{to}:{name}" for name, to in links.items()]
    if anew:
        every = [f"{one}:{alias}" for one, alias in service.links if alias not in links] + every
    lines = [f"  {_key(service.name)}:", "    links:" + (" !override" if anew else "")]
    lines += [f"      - {json.dumps(text)}" for text in every]
    # A link is a dependency as well, and one that was replaced would start its store later.
    late = [one for one, _ in taken if one not in service.depends_on]
    if late:
        lines += ["    depends_on:", *(f"      - {json.dumps(one)}" for one in dict.fromkeys(late))]
    if any(name in links for name in service.pinned):
        kept = [f"{name}:{address}" for name, address in service.pinned.items() if name not in links]
        lines += [f"    extra_hosts: !override {json.dumps(kept)}"]
    return lines


def _toxiproxy(front: Front, address: str) -> list[str]:
    lines = [
        f"  {address}:",
        f"    image: ${{TOXIPROXY_IMAGE:-{IMAGE}}}",
        f'    command: ["-host=0.0.0.0", "-config=/{PROXIES}"]',
    ]
    if address == OURS:
        lines += [
            *_mounted(PROXIES),
            "    ports:                        # on this machine only, on any free port: for the harness",
            f'      - "127.0.0.1::{API_PORT}"',
            *(f'      - "127.0.0.1::{proxy.listen}"' for one in front.fronted for proxy in one.proxies if proxy.wanted),
        ]
    else:
        lines += ["    configs:", f"      - source: {address}", f"        target: /{PROXIES}"]
        lines += ["    depends_on:", f"      - {OURS}"]
    if address == OURS and front.http:
        lines += ["    depends_on:", f"      - {ENVOY}"]
    return lines + _on(_networks(front, address))


def _envoy(front: Front) -> list[str]:
    return [
        f"  {ENVOY}:",
        f"    image: ${{HARNESS_ENVOY_IMAGE:-{http_front.IMAGE}}}",
        f'    command: ["envoy", "-c", "/{FRONTS}", "-l", "warning"]',
        '    environment: {ENVOY_UID: "0"}    # so that it can read its file whatever your umask is',
        *_mounted(FRONTS),
        "    ports:                        # its admin interface: on this machine only, for the harness",
        f'      - "127.0.0.1::{ENVOY_PORT}"',
        *_on(_networks_of_envoy(front)),
    ]


def _networks_of_envoy(front: Front) -> tuple[str, ...]:
    """Those of what it stands in front of, on which the first Toxiproxy is, too."""
    upstreams = {one.upstream.host for one in front.http}
    found = dict.fromkeys(n for one in front.fronted if one.service.name in upstreams for n in one.service.networks)
    if set(found) <= front.project.internal:
        found[OURS] = None
    return tuple(found)


def _on(networks: tuple[str, ...]) -> list[str]:
    if networks == ("default",):
        return []
    return ["    networks:", *(f"      - {json.dumps(network)}" for network in networks)]


def _mounted(name: str) -> list[str]:
    return [
        "    volumes:",
        "      - type: bind                # so that a missing file is an error, and not made as a folder",
        f"        source: ./{name}",
        f"        target: /{name}",
        "        read_only: true",
    ]


def _networks(front: Front, address: str) -> tuple[str, ...]:
    """Where a Toxiproxy must be: on the networks of what is in front of and behind it."""
    found: dict[str, None] = {}
    for one in front.fronted:
        if address not in (OURS, one.address):
            continue
        found |= dict.fromkeys(one.service.networks)
        for user in one.users:
            owner = front.project.owner(front.project.services[user])
            found |= dict.fromkeys(owner.networks if owner is not None else ())
    if address == OURS and found and set(found) <= front.project.internal:
        found[OURS] = None
    return tuple(found)


def proxies(front: Front) -> str:
    """Toxiproxy's -config file: a proxy for each port of a store."""
    through = {one.name: f"{ENVOY}:{one.listen.port}" for one in front.http}
    rows = [
        _row(proxy.name, proxy.listen, through.get(proxy.front or "", f"{one.service.name}:{proxy.port}"))
        for one in front.fronted
        for proxy in one.proxies
    ]
    return json.dumps(rows, indent=2) + "\n"


def fronts(front: Front) -> str:
    """Envoy's configuration. It listens on all addresses of its container."""
    return configuration(front.http, Address("0.0.0.0", ENVOY_PORT))


def _row(name: str, listen: int, upstream: str) -> dict[str, object]:
    return {"name": name, "listen": f"0.0.0.0:{listen}", "upstream": upstream, "enabled": True}


def _key(name: str) -> str:
    return name if name.replace("-", "").replace("_", "").isalnum() and not name.isdigit() else json.dumps(name)
