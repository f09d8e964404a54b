"""Which stores get a proxy, for whom, and on which address: one proxy for each port of a store, because a client's name
for it leads all its ports to Toxiproxy; and a second address where two stores listen on one port.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from harness.adapters.clients.envoy_configuration import Upstream
from harness.dependencies.kind import DependencyKind
from harness.model.errors import UsageError, unknown
from harness.model.records.faults import Address
from harness.scaffold.compose_services import OURS, Project, Service, name_of
from harness.scaffold.connections import DEPENDS, Refused, Use, refusal, sentinel_of, uses_of, way_past
from harness.scaffold.kafka_listeners import after_bootstrap
from harness.scaffold.roles import What, family_of, primary_port, roles

API_PORT = 8474
OTLP_PORT = 4317
"""Of OpenTelemetry's collectors: gRPC, though its URLs begin with http."""
NAMED = "you named it"
LONGEST = 50
"""Of the name of a front, which faults and their records repeat."""
FIRST_LISTEN = 18_080
"""Where an Envoy listens for Toxiproxy: as an Envoy without a compose project does."""
_FIRST_FREE = 20_000
"""Where the harness's Toxiproxy listens for what comes from a second address."""


class Proxy(msgspec.Struct, frozen=True, kw_only=True):
    """name: in Toxiproxy. port: of the store, and of the address that clients use. listen: on the harness's Toxiproxy.
    wanted: a client is known to use it. front: what the Envoy behind it calls it, None = there is none."""

    name: str
    port: int
    listen: int
    wanted: bool
    front: str | None = None


class Fronted(msgspec.Struct, frozen=True, kw_only=True):
    """A store behind a proxy. proxies: that of its clients' port first. address: the service that stands in its place.
    users: client -> (why, its names for the store)."""

    service: Service
    what: What
    proxies: tuple[Proxy, ...]
    address: str
    users: dict[str, tuple[str, tuple[str, ...]]]

    @property
    def kind(self) -> DependencyKind:
        return self.what.kind


class Front(msgspec.Struct, frozen=True, kw_only=True):
    """roles: of every service. beside: who goes past, and why. own: a Toxiproxy that the project has already, so that
    none is added; own_proxies: store -> its proxy there, as far as its file shows."""

    project: Project
    roles: dict[str, What]
    fronted: tuple[Fronted, ...]
    refused: tuple[Refused, ...]
    beside: tuple[str, ...]
    own: str | None = None
    own_proxies: dict[str, str] = {}
    named: bool = False
    """Which stores get a proxy was said."""
    over_http: dict[str, str] = {}
    """Service of the application that gets no proxy -> who asks it in URLs of plain HTTP."""

    @property
    def users(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(user for one in self.fronted for user in one.users))

    @property
    def http(self) -> tuple[Upstream, ...]:
        """What an Envoy stands in front of: ports that are asked over HTTP."""
        found = [
            (proxy.front, Address(one.service.name, proxy.port))
            for one in self.fronted
            for proxy in one.proxies
            if proxy.front is not None
        ]
        return tuple(
            Upstream(name=name, listen=Address("0.0.0.0", FIRST_LISTEN + number), upstream=upstream)
            for number, (name, upstream) in enumerate(found)
        )

    @property
    def links(self) -> dict[str, dict[str, str]]:
        """Service whose names change -> name -> the service that it then means. A namespace has the names of its
        owner."""
        found: dict[str, dict[str, str]] = {}
        for one in self.fronted:
            for user, (_, names) in one.users.items():
                owner = self.project.owner(self.project.services[user])
                assert owner is not None
                found.setdefault(owner.name, {}).update(dict.fromkeys(names, one.address))
        return found

    @property
    def addresses(self) -> tuple[str, ...]:
        """The Toxiproxies: the harness's own, then those that only lend it another address."""
        return tuple(dict.fromkeys((OURS, *(one.address for one in self.fronted))))


def plan_front(project: Project, chosen: Sequence[str] = (), apps: Sequence[str] = ()) -> Front:
    """chosen: `NAME` or `NAME:PORT`; () = every store that the application uses. apps: whose traffic is led through; ()
    = whoever seems to use it and is neither a store nor beside. Raises UsageError for what was named and cannot be."""
    known = roles(project)
    for app in apps:
        if app not in project.services:
            raise unknown("service", app, project.services, where="--app: ")
    named = dict(_chosen(project, text) for text in dict.fromkeys(chosen))
    own = next((one for one in project.services.values() if one.base == "toxiproxy"), None)
    if own is not None and not named:
        return Front(
            project=project,
            roles=known,
            fronted=(),
            refused=(),
            beside=(f"{own.name} is a Toxiproxy already, so none is added",),
            own=own.name,
            own_proxies=_own_proxies(project, own),
        )
    candidates = list(named) if named else [name for name, what in known.items() if what.role == "store"]
    # Kafka's clients compare the port that a broker advertises, so that one keeps its own on the harness's Toxiproxy.
    candidates.sort(key=lambda name: known[name].kind.name != "kafka")
    fronted: list[Fronted] = []
    refused: list[Refused] = []
    beside: list[str] = []
    taken: dict[str, set[int]] = {}
    for name in candidates:
        store, what = project.services[name], known[name]
        if what.role != "store":
            what = What(role="store", why=NAMED, family=family_of(project, store)[0])
        users, ports, over_http = _users(project, known, store, what, apps, refused, beside)
        # What has a protocol of its own, or was not asked for, gets no Envoy.
        http = over_http if name in named and what.kind.name == "tcp" else ()
        port = named.get(name) or (http[0] if http and what.family is None else None)
        port = port or primary_port(store, what, store.environment) or next(filter(None, ports), None)
        if port is None:
            raise UsageError(f"--front {name}: on which port does it listen?", hint=f"--front {name}:7000")
        if not users:
            if named and not any(one.store == name for one in refused):
                raise UsageError(
                    f"--front {name}: no service names it in its settings or depends on it", hint="--app NAME"
                )
            continue
        said = [one for one in ports if one is not None and one != port]
        if None in ports and not named.get(name) and what.family is not None and what.family.either is not None:
            said.append(what.family.either)
        wanted = said if said and not {None, port} & {*ports} and not named.get(name) else [port, *said]
        one = _placed(project, store, what, users, wanted, http, taken, refused, fronted)
        if one is not None:
            fronted.append(one)
    if named and not fronted and refused:
        raise UsageError(f"--front {refused[0].store}: {refused[0].client}: {refused[0].why}")
    return Front(
        project=project,
        roles=known,
        fronted=tuple(fronted),
        refused=tuple(dict.fromkeys(refused)),
        beside=tuple(dict.fromkeys(beside)),
        named=bool(named),
        over_http={} if named else _asked_over_http(project, known),
    )


def _asked_over_http(project: Project, known: Mapping[str, What]) -> dict[str, str]:
    application = [one for one in project.services.values() if known[one.name].role == "application"]
    return {
        one.name: client.name
        for one in application
        for client in application
        if client.name != one.name
        and _over_http(used := uses_of(project, client, one, known[one.name]))
        and way_past(project, client, one, known[one.name], named=True) is None
        and (refusal(project, client, one, known[one.name]) or _kept(project, client, one, used)) is None
    }


def _own_proxies(project: Project, own: Service) -> dict[str, str]:
    """Of its -config file, where that is mounted from the project."""
    found: dict[str, str] = {}
    for _, text in own.files:
        try:
            rows = msgspec.json.decode(text.encode(), type=list[dict[str, object]])
        except msgspec.MsgspecError:
            continue
        for row in rows:
            host = str(row.get("upstream") or "").rpartition(":")[0]
            for one in project.services.values():
                if host in one.names and one.name != own.name and row.get("name"):
                    found.setdefault(one.name, str(row["name"]))
    return found


def _chosen(project: Project, text: str) -> tuple[str, int | None]:
    name, colon, written = text.partition(":")
    if name not in project.services:
        raise unknown("service", name, project.services, where="--front: ")
    if colon and not (written.isdigit() and 0 < int(written) < 65536):
        raise UsageError(f"--front {text}: {written!r} is no port", hint=f"for example {name}:6379")
    return name, int(written) if colon else None


def _users(
    project: Project,
    known: Mapping[str, What],
    store: Service,
    what: What,
    apps: Sequence[str],
    refused: list[Refused],
    beside: list[str],
) -> tuple[dict[str, tuple[str, tuple[str, ...]]], list[int | None], tuple[int, ...]]:
    """Whose traffic to this store is led through its proxy, by which names, the ports that they say, and which of those
    they ask over HTTP."""
    users: dict[str, tuple[str, tuple[str, ...]]] = {}
    led: list[Use] = []
    ports: list[int | None] = []
    for client in project.services.values():
        if client.name == store.name or (apps and client.name not in apps):
            continue
        used = uses_of(project, client, store, what)
        if not used and what.kind.name == "kafka":
            used = _of_its_cluster(project, known, client, store)
        if not apps and known[client.name].role != "application":
            if used and known[client.name].role != "store":
                beside.append(f"{client.name} goes to {store.name} directly: it is {known[client.name].why}")
            continue
        if apps and not used:
            used = [Use(client=client.name, store=store.name, name=store.name, port=None, why=NAMED)]
        led_off = {one.name: _elsewhere(project, client, store, one.name) for one in used}
        if used and None not in led_off.values():
            away = next(iter(led_off.values()))
            # By an address of the host a published port leads to the store all the same.
            if away is not None and "extra_hosts" in away and store.published:
                refused.append(Refused(client=client.name, store=store.name, why=f"{away}, past any link"))
            else:
                beside.append(f"{client.name} does not mean {store.name} by {next(iter(led_off))}: {away}")
            continue
        used = [one for one in used if led_off[one.name] is None]
        why = way_past(project, client, store, what, named=any(one.why != DEPENDS for one in used))
        if why is None and what.kind.name == "redis" and (sentinel := sentinel_of(project, known, client)) is not None:
            why = f"it asks the Sentinel {sentinel}, which sends it to the address of {store.name}"
        owner = project.owner(client)
        apart = owner is not None and not project.shared(owner, store)
        if why is None and used and apart and all(one.why == DEPENDS for one in used):
            continue
        if why is None and not used:
            word = next((key for key, value in client.environment.items() if value == store.name), None)
            if word is not None:
                beside.append(f"{client.name} may use {store.name}, for its setting {word} is that word: left alone")
            continue
        why = why or refusal(project, client, store, what) or _kept(project, client, store, used)
        more: list[int] = []
        if why is None and what.kind.name == "kafka":
            more, why = after_bootstrap(
                store, [one.port for one in used], what.family.ports[1:] if what.family is not None else ()
            )
        if why is not None:
            refused.append(Refused(client=client.name, store=store.name, why=why))
            continue
        names = dict.fromkeys((*(one.name for one in used), *_own_names(project, client, store)))
        users[client.name] = (used[0].why, tuple(names))
        ports += [*(one.port for one in used), *more]
        led += used
    return users, list(dict.fromkeys(ports)), _over_http(led)


def _over_http(led: Sequence[Use]) -> tuple[int, ...]:
    """Ports that are asked in URLs of plain HTTP, and in none of another scheme."""
    schemes: dict[int, set[str]] = {}
    for use in led:
        if use.port is not None:
            schemes.setdefault(use.port, set()).update({use.scheme} if use.scheme is not None else ())
    return tuple(port for port, found in schemes.items() if found == {"http"} and port != OTLP_PORT)


def _of_its_cluster(project: Project, known: Mapping[str, What], client: Service, store: Service) -> list[Use]:
    """Kafka's clients go on to every broker of a cluster, whichever they were told of."""
    brokers = [
        one
        for one in project.services.values()
        if known[one.name].role == "store" and known[one.name].kind.name == "kafka" and project.shared(one, store)
    ]
    for broker in brokers:
        for use in uses_of(project, client, broker, known[broker.name]):
            why = f"it uses {broker.name}, which sends its clients to all brokers"
            return [Use(client=client.name, store=store.name, name=store.name, port=use.port, why=why)]
    return []


def _own_names(project: Project, client: Service, store: Service) -> list[str]:
    """All names of a store that mean nobody else to a client."""
    return [
        name
        for name in store.names
        if not _others(project, client, store, name) and _elsewhere(project, client, store, name) is None
    ]


def _others(project: Project, client: Service, store: Service, name: str) -> list[str]:
    owner = project.owner(client) or client
    return [
        one.name
        for one in project.services.values()
        if one.name != store.name and name in (*one.names, *one.made) and project.shared(owner, one)
    ]


def _elsewhere(project: Project, client: Service, store: Service, name: str) -> str | None:
    """What makes a store's name mean something else to this client: a clause; None: nothing does."""
    owner = project.owner(client) or client
    address = owner.pinned.get(name)
    if address is not None and address not in store.addresses:
        return f"its extra_hosts send {name} to {address}"
    for linked, alias in owner.links:
        if alias == name and linked != store.name:
            return f"its link {linked}:{alias} takes the name"
    for link in owner.external_links:
        if link.rpartition(":")[2] == name:
            return f"its external link {link} takes the name"
    return None


def _kept(project: Project, client: Service, store: Service, used: Sequence[Use]) -> str | None:
    """Why the names that a client uses cannot be led elsewhere: a clause; None: they can."""
    owner = project.owner(client) or client
    asked = project.composed.asked
    for use in used:
        others = _others(project, client, store, use.name)
        if others and (store.name, use.name) not in owner.links:
            return f"its name {use.name} means {' and '.join(sorted((store.name, *others)))} in turn"
    for linked, alias in owner.links:
        # The first Compose merges links by their alias; the second adds them up unless it is told otherwise.
        if linked == store.name and (asked is None or not (asked.overrides or asked.version < (2,))):
            return f"its link {linked}:{alias} can be replaced by Compose 2.24.4 or later only"
    for name, address in owner.pinned.items():
        if name in store.names and address in store.addresses and (asked is None or not asked.overrides):
            return f"its extra_hosts send {name} to {address}, which Compose 2.24.4 or later only can take away"
    return None


def _placed(
    project: Project,
    store: Service,
    what: What,
    users: dict[str, tuple[str, tuple[str, ...]]],
    wanted: Sequence[int],
    http: Sequence[int],
    taken: dict[str, set[int]],
    refused: list[Refused],
    others: Sequence[Fronted],
) -> Fronted | None:
    """The store on the first address whose ports are free. Its other ports go with it where they are free, too."""
    names = {proxy.name for one in others for proxy in one.proxies}
    fronts = {proxy.front for one in others for proxy in one.proxies}
    needed = list(dict.fromkeys((*wanted, *store.ports)))
    known = what.family.ports if what.family is not None else ()
    asked = project.composed.asked
    number = 1
    while True:
        address = OURS if number == 1 else f"{OURS}-{number}"
        ports = taken.setdefault(address, {API_PORT})
        if not set(needed) & ports:
            break
        number += 1
        if API_PORT in needed or asked is None or not asked.contents:
            why = f"port {API_PORT} is that of Toxiproxy's API"
            if API_PORT not in needed:
                both = min(set(needed) & ports)
                why = f"port {both} has another store in front already, and a second address takes Compose 2.23.1"
            refused += [Refused(client=client, store=store.name, why=why) for client in users]
            return None
    every = [*needed, *(port for port in known if port not in ports and port not in needed)]
    ports.update(every)
    proxies = []
    for port in every:
        listen = port
        if number > 1:
            listen = next(free for free in range(_FIRST_FREE, 60_000) if free not in taken[OURS])
            taken[OURS].add(listen)
        name = _free(store.name if port == every[0] else f"{store.name}-{port}", names)
        front = _free(name_of(name)[:LONGEST], fronts) if port in http and port in wanted else None
        proxies.append(Proxy(name=name, port=port, listen=listen, wanted=port in wanted, front=front))
    return Fronted(service=store, what=what, proxies=tuple(proxies), address=address, users=users)


def _free(name: str, taken: set[str] | set[str | None]) -> str:
    """The name, or that with a number behind it; it is taken afterwards."""
    found = next(one for one in (name, *(f"{name}-p{number}" for number in range(2, 10_000))) if one not in taken)
    taken.add(found)
    return found


def _and_envoy(one: Fronted) -> str:
    """Behind which ports there is one: the rest of a clause."""
    asked = [proxy for proxy in one.proxies if proxy.wanted]
    through = [str(proxy.port) for proxy in asked if proxy.front is not None]
    if not through:
        return ""
    return " and Envoy" if len(through) == len(asked) else f", {', '.join(through)} through Envoy as well"


def says(front: Front) -> list[str]:
    """Who goes through the proxy, who does not, and why."""
    told = [
        f"{user} {'would reach' if why == DEPENDS else 'reaches'} {one.service.name}"
        f" ({', '.join(str(proxy.port) for proxy in one.proxies if proxy.wanted)}) through"
        f" Toxiproxy{_and_envoy(one)}: {why}" + (", and no setting shows how it uses it" if why == DEPENDS else "")
        for one in front.fronted
        for user, (why, _) in one.users.items()
    ]
    told += [
        f"{one.service.name} gets Toxiproxy alone, and no Envoy: no setting asks it in URLs of plain HTTP alone"
        for one in front.fronted
        if one.what.why == NAMED and not any(proxy.front for proxy in one.proxies)
    ]
    told += [f"{one.client} is not led through a proxy to {one.store}: {one.why}" for one in front.refused]
    told += [
        f"{one.service.name} has a second address, because another store listens on its port: there a connection that a"
        " fault refuses or resets looks closed"
        for one in front.fronted
        if one.address != OURS
    ]
    told += front.beside
    told += [f"{name} is behind its proxy {proxy}" for name, proxy in front.own_proxies.items()]
    reached = {one.service.name for one in front.fronted} | {one.store for one in front.refused} | {*front.own_proxies}
    for name, what in front.roles.items():
        if what.role == "store" and name not in reached:
            told.append(
                f"{front.own} shows no proxy for {name}"
                if front.own is not None
                else f"--front does not name {name}, so no proxy is put in front of it"
                if front.named
                else f"nothing shows that the application uses {name}, so no proxy is put in front of it"
            )
    told += [
        f"{client} asks {name} over HTTP: --front with its name, beside those of the stores, puts Toxiproxy and an"
        " Envoy there"
        for name, client in front.over_http.items()
    ]
    for name, profiles in front.project.composed.inactive.items():
        told.append(f"{name} is not looked at: it is in profile {' and '.join(profiles)}, which is not on")
    told += [f"not resolved without Compose: {what}" for what in front.project.composed.unresolved]
    return told
