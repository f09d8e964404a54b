"""Who uses which store, by which name and port: read of settings, commands, mounted files, links and `depends_on`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from harness.scaffold.compose_services import Project, Service
from harness.scaffold.roles import What, primary_port

_NO_HOST = re.compile(
    r"(TYPE|ENGINE|DRIVER|ADAPTER|DIALECT|BACKEND|PROVIDER|CLIENT|KIND|STORE|CONNECTION|USER|USERNAME|PASSWORD|PASS|DB"
    r"|DATABASE|NAME|SCHEMA|TOPIC|QUEUE|BUCKET|PREFIX|SECRET|KEY|TOKEN|ROLE|LEVEL|MODE"
    r"|ACTIVE|PROFILES?|FEATURES?|SERVICES?|COMPONENTS?|EXTENSIONS?|PLUGINS?|MODULES?)$",
    re.IGNORECASE,
)
"""Settings whose value is a word and no host, though a store may be called so. A HOSTNAME is one."""
_HOST_KEY = re.compile(
    r"(host(name)?|server|addr(ess)?|url|uri|dsn|endpoint|broker|node|seed|contact\w*|bootstrap[\w.]*)s?$",
    re.IGNORECASE,
)
_USERINFO = re.compile(r"(?<=://)[^/\s\"']*@")
_SCHEME = re.compile(r"([A-Za-z][\w+.-]*)://$")
_USUAL = {"http": 80, "https": 443}
"""Ports that a URL means where it says none."""
_BEFORE = r"(?:^|(?<=[\s\"'=,;(@\[{|>])|(?<=//)|(?<=@tcp\())"
_AFTER = r"(?::(?P<port>\d{2,5})(?!\d)|(?=[/,?;)\]}\"'\s|]|$))"


DEPENDS = "it depends on it"
"""The reason where there is no other."""


class Mention(NamedTuple):
    """A place that names a host. port: None = not said. scheme: of the URL in which it stands."""

    where: str
    name: str
    port: int | None
    scheme: str | None


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """One connection: a client's name for a store and the port it says; None = the store's own. scheme: of the URL that
    says so. why: for people."""

    client: str
    store: str
    name: str
    port: int | None
    why: str
    scheme: str | None = None


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """A connection that is not led through a proxy, and why: a clause about the client."""

    client: str
    store: str
    why: str


def uses_of(project: Project, client: Service, store: Service, what: What) -> list[Use]:
    """The connections of one service to another, strong evidence first. () = nothing says that there are any."""
    found = [
        Use(
            client=client.name,
            store=store.name,
            name=one.name,
            port=one.port,
            why=f"{one.where} names it",
            scheme=one.scheme,
        )
        for one in mentions(client, (*store.names, *store.made))
    ]
    for linked, alias in client.links:
        if linked == store.name:
            found.append(Use(client=client.name, store=store.name, name=alias, port=None, why="it has a link to it"))
            found += [
                Use(
                    client=client.name,
                    store=store.name,
                    name=alias,
                    port=one.port,
                    why=f"{one.where} names its link",
                    scheme=one.scheme,
                )
                for one in mentions(client, (alias,))
            ]
    if not found and store.name in client.depends_on:
        found.append(Use(client=client.name, store=store.name, name=store.name, port=None, why=DEPENDS))
    return list(dict.fromkeys(found))


def mentions(client: Service, names: tuple[str, ...]) -> Iterator[Mention]:
    """Every place that names one of these as a host."""
    every = re.compile(
        rf"{_BEFORE}(?P<name>{'|'.join(re.escape(name) for name in sorted(names, key=len, reverse=True))}){_AFTER}"
    )
    for where, text in client.texts:
        plain = _USERINFO.sub("", text)
        for match in every.finditer(plain):
            url = _SCHEME.search(plain, 0, match.start())
            scheme = url[1].lower() if url is not None else None
            port = int(match["port"]) if match["port"] else _beside_it(client.environment, where)
            if match["port"] or _is_host(client, where, plain, match):
                place = where if where not in client.environment else f"its setting {where}"
                yield Mention(place, match["name"], port or _USUAL.get(scheme or ""), scheme)


def _is_host(client: Service, where: str, text: str, match: re.Match[str]) -> bool:
    """Whether a name without a port is one of a host there, and no user, database or kind of driver."""
    before = text[: match.start()]
    if before.endswith(("//", "tcp(")):
        return True
    if where in client.environment and not re.search(r"[\s=/]", text):
        return not _NO_HOST.search(where) or _HOST_KEY.search(where) is not None
    key = re.search(r"([\w.-]+)[\"']?\s*(?:[=:]|\s)\s*[\"'\[]*$", before)
    if key is not None and (
        _HOST_KEY.search(key[1]) or (where == "its command" and key[1].startswith("--") and not _NO_HOST.search(key[1]))
    ):
        return True
    return re.search(r"(^|\s)-h\s*$", before) is not None


def _beside_it(environment: Mapping[str, str], where: str) -> int | None:
    """The port that another setting says for the host of this one: DB_PORT for DB_HOST."""
    key = re.sub(r"(HOST(NAME)?|ADDR(ESS)?|SERVER)$", "PORT", where, flags=re.IGNORECASE)
    found = environment.get(key if key != where else f"{where}_PORT")
    return int(found) if found is not None and re.fullmatch(r"\d{2,5}", found) else None


def refusal(project: Project, client: Service, store: Service, what: What) -> str | None:
    """Why a client's way to a store cannot be led through a proxy, as a clause about the client; None: it can."""
    owner, holder = project.owner(client), project.owner(store)
    if holder is None or store.network_mode is not None:
        return f"{store.name} has network_mode {store.network_mode}, so its name is not its own"
    if owner is None:
        return f"it has network_mode {client.network_mode}, where a link of the project has no effect"
    if not project.shared(owner, store):
        return "it shares no network with it"
    if what.family is not None and what.family.follows is not None:
        return what.family.follows
    if what.kind.name == "redis" and ("--cluster-enabled" in store.command or "-cluster" in store.base):
        return "clients of a Redis Cluster go on to the addresses that its nodes tell them"
    if what.family is not None and what.family.name == "nats" and re.search(r"-cluster\b|-routes\b", store.command):
        return "servers of a NATS cluster tell their clients of each other's addresses"
    advertised = store.environment.get("MONGODB_ADVERTISED_HOSTNAME")
    member_of_set = "--replSet" in store.command or "MONGODB_REPLICA_SET_MODE" in store.environment
    if what.family is not None and what.family.name == "mongo" and member_of_set and advertised not in store.names:
        told = (
            text
            for other in project.services.values()
            for text in (other.command, other.health, *dict(other.files).values())
        )
        member = re.compile(rf"(?<![\w.-])({'|'.join(map(re.escape, store.names))}):\d")
        direct = any("directConnection=true" in text for _, text in client.texts)
        if not direct and not any(re.search(r"initiate|rs\.add", text, re.I) and member.search(text) for text in told):
            return "it goes on to the members of a replica set, whose names the project does not show"
    return None


def way_past(project: Project, client: Service, store: Service, what: What, *, named: bool) -> str | None:
    """How a client reaches a store past all names: a clause; None: no sign of it. named: it names the store, too."""
    owner, holder = project.owner(client), project.owner(store)
    if owner is not None and holder is not None and owner.name == holder.name:
        return f"it shares one network namespace with {store.name}, and reaches it without leaving it"
    port = primary_port(store, what, store.environment)
    for where, text in client.texts:
        shown = f"its setting {where}" if where in client.environment else where
        for address in store.addresses:
            if re.search(rf"(?<![\d.]){re.escape(address)}(?![\d.])", text):
                return f"{shown} has {store.name}'s address {address}, which leads past any name"
        outside = {host for inside, host in store.published.items() if inside == port}
        for host in outside:
            local = (
                r"(localhost|127\.0\.0\.1)"
                if client.network_mode == "host"
                else r"(host\.docker\.internal|172\.17\.0\.1)"
            )
            if re.search(rf"{local}:{host}(?!\d)", text) or (
                re.search(rf"^{local}$", text) and (_beside_it(client.environment, where) or port) == host
            ):
                return f"{shown} leads to {store.name}'s published port {host}, past any name"
    for target, source in client.mounts.items():
        if source not in store.mounts.values():
            continue
        said = [text for _, text in client.texts if f"{target.rstrip('/')}/" in text or text == target.rstrip("/")]
        run = re.search(r"(^|/)(run|sock\w*)(/|$)", target)
        if any(".sock" in text for text in said) or (run and (said or not named)):
            return f"it speaks to {store.name} over a Unix socket in {target}"
    return None


def sentinel_of(project: Project, roles: Mapping[str, What], client: Service) -> str | None:
    """The Sentinel that a client asks for its Redis, by name."""
    for name, what in roles.items():
        service = project.services[name]
        sentinel = what.role == "beside" and "entinel" in f"{what.why} {service.image} {service.command}"
        if sentinel and next(mentions(client, service.names), None) is not None:
            return name
    return None
