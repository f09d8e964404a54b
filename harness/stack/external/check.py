"""Look at the user's own system, part by part, as a doctor would. Everything is read, nothing is changed.

The same look serves `run`, which needs all of it to be well, and `harness stack status` and `harness doctor`, which
show every part.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Collection
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from harness.adapters.allowed_hosts import ENVOY_PORT, check_url, pinned, url_address
from harness.adapters.clients.prometheus_text import look_for_signals
from harness.adapters.docker.address import bound
from harness.adapters.docker.records import Container
from harness.adapters.processes.listeners import listener
from harness.adapters.processes.pid_file import process_of
from harness.adapters.processes.usage import identify, listening_ports, worker_count
from harness.adapters.toxiproxy import commands as by_hand
from harness.adapters.toxiproxy.client import ProxyState, Toxiproxy
from harness.adapters.toxiproxy.lock import LOCK, OURS, in_use
from harness.adapters.wire.http import Client
from harness.config.file import Configuration, TargetTable, ToxiproxyTable
from harness.dependencies.registry import kind_of
from harness.model.errors import AdapterError, HarnessError, Refused, UsageError
from harness.model.records.faults import Address, Dependency, ProxyRuntime
from harness.model.records.stack import TargetInfo
from harness.stack.external import containers, declared

ANSWER_LIMIT_S = 3.0


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One part as found. path: where the application reaches it. front: the admin interface of an Envoy before it.
    container: its name and, as condition, its state and health, where it is one. trouble: None = all is well."""

    name: str
    address: str
    path: str | None = None
    front: str | None = None
    pid: int | None = None
    container: str | None = None
    condition: str | None = None
    trouble: UsageError | None = None


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """parts: every one, in the order of the file. target and dependencies: those that are well. notes: no hindrance.
    proxies: all that the Toxiproxy at that address has, by name."""

    parts: tuple[Part, ...]
    target: TargetInfo | None
    dependencies: tuple[Dependency, ...]
    versions: dict[str, str]
    notes: tuple[str, ...] = ()
    toxiproxy: str | None = None
    proxies: dict[str, ProxyState] = {}


def look(config: Configuration, url: str, *, allow_hosts: Collection[str]) -> Look:
    """Look at everything. url: the target's."""
    looking = _Looking(config, url, allow_hosts)
    try:
        return looking.look()
    finally:
        looking.close()


class _Looking:
    def __init__(self, config: Configuration, url: str, allow_hosts: Collection[str]) -> None:
        self._config = config
        self._url = url
        self._allow = allow_hosts
        self._file = config.shown
        self._named = declared.named_hosts(config, url)
        self._parts: list[Part] = []
        self._notes: list[str] = []
        self._versions: dict[str, str] = {}
        self._proxies: dict[str, ProxyState] = {}
        self._toxiproxy: str | None = None
        self._proxy_pid: int | None = None
        self._in_use: Refused | None = None
        """Another run is at it: what is broken is its doing, and not to be mended by whoever looks."""
        self._containers = containers.Containers(config, allow_hosts=allow_hosts)
        self._toxiproxy_container: Container | None = None

    def close(self) -> None:
        self._containers.close()

    def look(self) -> Look:
        target, dependencies = None, []
        wanted = declared.dependencies(self._config, self._url)
        if self._config.toxiproxy is not None:
            self._look_at_toxiproxy(self._config.toxiproxy)
        for dependency in wanted:
            if not dependency.target:
                found = self._look_at_dependency(dependency)
                if found is not None:
                    dependencies.append(found)
        dependencies = self._together(dependencies)
        if self._config.target is not None:
            target, itself = self._look_at_target(self._config.target, next(d for d in wanted if d.target))
            if itself is not None:
                dependencies.append(itself)
        return Look(
            parts=tuple(self._parts),
            target=target,
            dependencies=tuple(dependencies),
            versions=self._versions,
            notes=tuple(dict.fromkeys([*self._containers.notes, *self._notes])),
            toxiproxy=self._toxiproxy,
            proxies=self._proxies,
        )

    def _reached(self, container: Container, port: int, where: str) -> Address:
        """Where a container's port is reached. What the engine says of a declared container is declared with it."""
        found = self._containers.reached(container, port, where)
        if found.note is not None:
            self._notes.append(f"{where.partition(': ')[2]}: {found.note}")
        self._named = (*self._named, found.address.host)
        return found.address

    def _look_at_toxiproxy(self, table: ToxiproxyTable) -> None:
        where = f"{self._file}: toxiproxy" + ("" if table.contained and table.url is None else ".url")
        pid: int | None = None
        container: Container | None = None
        url = table.url
        try:
            if table.contained:
                container = self._toxiproxy_container = self._containers.find(table, f"{self._file}: toxiproxy")
            if url is None:
                assert container is not None
                url = f"http://{self._reached(container, table.port or containers.TOXIPROXY_PORT, where)}"
            host, port = url_address(url, containers.TOXIPROXY_PORT)
            address = check_url(f"http://{Address(host, port)}", self._named, allow_hosts=self._allow)[0]
            server = Toxiproxy(f"http://{Address(address, port)}", timeout_s=ANSWER_LIMIT_S)
            self._versions["toxiproxy"] = server.version()
            self._proxies = server.proxies()
            self._toxiproxy = server.url
            self._in_use = in_use(server.url, self._proxies)
            pid = self._proxy_pid = _toxiproxy_pid(port, self._proxies) if _is_loopback(address) else None
            if table.pid_file is not None:
                process_of(table.pid_file, port=port)
            trouble = None
        except HarnessError as error:
            trouble = self._trouble(where, error, "start it, or correct the URL")
        self._parts.append(Part(name="toxiproxy", address=url or "-", pid=pid, trouble=trouble, **_shown(container)))

    def _look_at_dependency(self, wanted: Dependency) -> Dependency | None:
        where = f"{self._file}: dependencies.{wanted.name}"
        found = wanted
        trouble = None
        container = None
        table = self._config.dependencies[wanted.name]
        try:
            listener_port: int | None = None
            if table.contained:
                container = self._containers.find(table, where)
                found = self._containers.declared(found, container)
            if wanted.proxied:
                if self._toxiproxy is None:
                    raise UsageError("its Toxiproxy does not answer")
                listen, listener_port = self._proxy(wanted, where)
                found = found.but(
                    proxy={
                        "url": self._toxiproxy,
                        # Who says where it is seen runs it elsewhere: what listens here is a tunnel to it.
                        "pid": None if found.proxy.seen_as else self._proxy_pid,
                        "seen_as": found.proxy.seen_as or self._seen_as(container),
                        "runtime": self._proxy_runtime(),
                        "port": listener_port,
                    },
                    path=found.path or listen,
                )
            if container is not None and found.direct is None:
                # Behind a proxy may stand its front, whose port is none of the container's.
                proxy = wanted.proxy.name if found.front is None else None
                upstream = self._proxies[proxy].upstream if proxy is not None else None
                inside = containers.port_of(container, kind_of(wanted), table.port, upstream, where)
                found = msgspec.structs.replace(found, direct=self._reached(container, inside, where))
            if table.front_container is not None:
                envoy = self._containers.find(table.front_container, where, key="front_service")
                at = self._reached(envoy, ENVOY_PORT, f"{where}.front_service")
                found = found.but(front={"url": f"http://{at}"})
            if not wanted.proxied:
                found = msgspec.structs.replace(found, path=found.path or found.direct)
            found = table.located(found)
            found = pinned(found, (*self._named, *self._host_of(found)), allow_hosts=self._allow)
            found = bound(found, container) if container is not None else found
            if wanted.path_assumed:
                self._notes.append(f"{wanted.name}: that the application uses its proxy is assumed, not proven")
            if wanted.proxied:
                self._not_the_proxy(found, listen, where)
            found, version = self._checked(found, where, listener_port)
            if version:
                self._versions[wanted.name] = version
            if found.process.pid_file is not None:
                port = found.direct.port if found.direct is not None else None
                process = process_of(found.process.pid_file, port=port)
                found = found.but(process={"pid": process.first.pid})
        except HarnessError as error:
            trouble = self._trouble(where, error)
        self._parts.append(
            Part(
                name=wanted.name,
                address=str(wanted.direct or found.direct or "-"),
                path=str(found.path) if (wanted.proxied or found.front) and found.path is not None else None,
                front=found.front.url if found.front is not None else None,
                pid=found.process.pid,
                trouble=trouble,
                **_shown(container),
            )
        )
        return found if trouble is None else None

    def _together(self, found: list[Dependency]) -> list[Dependency]:
        """Those that are well also beside the others of their kind."""
        well = []
        for name in dict.fromkeys(kind_of(one).name for one in found):
            alike = [one for one in found if kind_of(one).name == name]
            for one, trouble in kind_of(alike[0]).check_together(alike):
                if trouble is None:
                    well.append(one)
                    continue
                told = self._trouble(f"{self._file}: dependencies.{one.name}", trouble)
                self._parts = [
                    msgspec.structs.replace(part, trouble=told) if part.name == one.name else part
                    for part in self._parts
                ]
        order = [one.name for one in found]
        return sorted(well, key=lambda one: order.index(one.name))

    def _checked(self, found: Dependency, where: str, listener_port: int | None) -> tuple[Dependency, str | None]:
        """As faults and proofs will use it, and its server's version. Raises UsageError, Refused."""
        for key in ("password_env", "admin_password_env", "probe_password_env", "pooler_password_env"):
            variable = getattr(found.credentials, key)
            if variable is not None and variable not in os.environ:
                raise UsageError(
                    f"{where}.{key} names the environment variable {variable}, and it is not set",
                    hint="it is to hold the password; of a file .env: set -a; . ./.env; set +a",
                )
        return kind_of(found).check(found, where, listener_port, self._notes.append)

    def _not_the_proxy(self, found: Dependency, listen: Address, where: str) -> None:
        """`direct` is to be the server itself: what is asked past the proxy would go through it, and prove nothing."""
        if found.direct is not None and found.direct in (listen, found.path):
            state = self._proxies[found.proxy.name or found.name]
            raise UsageError(
                f"{where}.direct: {found.direct} is where the proxy {state.name} itself listens, not the server",
                hint=f"its upstream is {state.upstream}: direct = that address, as it is reached from here",
            )

    def _trouble(self, where: str, error: HarnessError, hint: str | None = None) -> UsageError:
        """The error with the key path in front, once."""
        text, hint = str(error), error.hint or hint
        if self._in_use is not None and error is not self._in_use:
            hint = f"{self._in_use}; {self._in_use.hint}"
        kind = type(error) if isinstance(error, UsageError) else UsageError
        return kind(text if text.startswith(where) else f"{where}: {text}", hint=hint)

    def _proxy_runtime(self) -> ProxyRuntime | None:
        """What may restart Toxiproxy, where the file tells."""
        table, container = self._config.toxiproxy, self._toxiproxy_container
        if container is not None:
            return ProxyRuntime(engine=self._containers.engine.url, container=container.id)
        if table is None or table.pid_file is None or table.start is None:
            return None
        return ProxyRuntime(pid_file=table.pid_file, start_config=self._config.path, start_sha256=self._config.sha256)

    def _seen_as(self, container: Container | None) -> tuple[str, ...]:
        """From which addresses a dependency sees the connections of a Toxiproxy in a container."""
        proxy = self._toxiproxy_container
        if proxy is None:
            return ()
        return containers.addresses(proxy) if container is None else proxy.seen_by(container)

    def _proxy(self, wanted: Dependency, where: str) -> tuple[Address, int]:
        """Where the proxy listens, as it can be reached from here, and on which port of its own. Raises Refused for
        one that is in use or unfit."""
        assert wanted.proxy.name is not None and self._toxiproxy is not None
        state = self._proxies.get(wanted.proxy.name)
        if state is None:
            others = ", ".join(sorted(name for name in self._proxies if not name.startswith(OURS)))
            upstream = str(wanted.direct or "HOST:PORT")
            make = by_hand.create_proxy(self._toxiproxy, wanted.proxy.name, listen="127.0.0.1:PORT", upstream=upstream)
            raise Refused(
                f"{where}.proxy: Toxiproxy at {self._toxiproxy} has no proxy {wanted.proxy.name!r}"
                f" (it has: {others or 'none'})",
                hint=f"make it: {make}",
            )
        foreign = [toxic.name for toxic in state.toxics if toxic.name.startswith(OURS)]
        if self._in_use is not None and (foreign or not state.enabled):
            raise self._in_use
        if not state.enabled:
            raise Refused(
                f"{where}.proxy: proxy {state.name} is disabled: that cannot be recorded as its original state",
                hint=(
                    "run `harness heal --all`, for a run has left its lock there; or " if LOCK in self._proxies else ""
                )
                + f"enable it: {by_hand.enable_proxy(self._toxiproxy, state.name)}",
            )
        if foreign:
            raise Refused(
                f"{where}.proxy: proxy {state.name} carries the toxic {foreign[0]} of another run",
                hint="run `harness heal --all`, or remove it: "
                + by_hand.remove_toxic(self._toxiproxy, state.name, foreign[0]),
            )
        if state.toxics:
            self._notes.append(f"proxy {state.name} carries toxics of yours ({state.toxics[0].name}): they stay on")
        return self._reachable(state, wanted, where), int(state.listen.rpartition(":")[2])

    def _reachable(self, state: ProxyState, wanted: Dependency, where: str) -> Address:
        host, _, port = state.listen.rpartition(":")
        host = host.strip("[]")
        proxy = self._toxiproxy_container
        if proxy is not None and wanted.path is None and proxy.host_config.network_mode != "host":
            if host and _is_loopback(host):
                raise UsageError(
                    f"{where}: proxy {state.name} listens on {state.listen} inside its container, where nobody else"
                    " reaches it",
                    hint=f"let it listen on 0.0.0.0:{port}",
                )
            return self._reached(proxy, int(port), where)
        server = urlsplit(self._toxiproxy or "").hostname or "127.0.0.1"
        if host in ("", "0.0.0.0", "::"):
            return Address(server, int(port))
        if _is_loopback(host) and not _is_loopback(server) and wanted.path is None:
            raise UsageError(
                f"{where}: proxy {state.name} listens on {state.listen} of {server}, which cannot be reached from here",
                hint=f'say where the application connects: path = "HOST:{port}"',
            )
        return Address(host, int(port))

    def _host_of(self, found: Dependency) -> tuple[str, ...]:
        # Where the proxy of a declared Toxiproxy listens is declared with it.
        return (found.path.host,) if found.path is not None else ()

    def _look_at_target(self, table: TargetTable, itself: Dependency) -> tuple[TargetInfo | None, Dependency | None]:
        where = f"{self._file}: target"
        info = TargetInfo(url=self._url, workers=table.workers or 1, health=table.health)
        trouble, container = None, None
        try:
            if table.contained:
                container = self._containers.find(table, where)
                itself = self._containers.declared(itself, container)
                info = msgspec.structs.replace(info, engine=itself.container.engine, containers=(container.id,))
            addresses = check_url(self._url, self._named, allow_hosts=self._allow)
            info = msgspec.structs.replace(info, addresses=tuple(addresses))
            with Client() as client:
                version = _answers(client, self._url, table, where)
                metrics = self._metrics(client, table)
            host, port = url_address(self._url)
            itself = pinned(
                msgspec.structs.replace(itself, path=Address(host, port), direct=Address(host, port)),
                self._named,
                allow_hosts=self._allow,
            )
            if itself.process.pid_file is not None:
                pid = process_of(itself.process.pid_file, port=port).first.pid
                itself = itself.but(process={"pid": pid})
                workers = table.workers or worker_count(identify(pid), port)
                info = msgspec.structs.replace(info, pid=pid, workers=workers)
            info = msgspec.structs.replace(info, metrics_url=metrics, version=version)
        except HarnessError as error:
            trouble = self._trouble(where, error)
        self._parts.append(Part(name=table.name, address=self._url, pid=info.pid, trouble=trouble, **_shown(container)))
        return (info, itself) if trouble is None else (None, None)

    def _metrics(self, client: Client, table: TargetTable) -> str | None:
        if not table.metrics:
            return None
        url = self._url + table.metrics
        try:
            look_for_signals(client, url, ANSWER_LIMIT_S)
        except AdapterError as error:
            self._notes.append(f"no signals of the target: {error}")
            return None
        return url


def _answers(client: Client, url: str, table: TargetTable, where: str) -> str | None:
    """The target answers; its version, where its health page is JSON that has one."""
    at = url + (table.health or "/")
    try:
        reply = client.get(at, ANSWER_LIMIT_S)
    except AdapterError as error:
        raise UsageError(f"{where}.url: {error}", hint="start the target first, or correct the URL") from error
    # Without a health page any status will do: a service may well have nothing at its root.
    if table.health is not None and reply.status >= 400:
        raise UsageError(
            f"{where}.health: {at} answers {reply.status}",
            hint="a service that is not well before the run proves nothing",
        )
    try:
        body = json.loads(reply.body)
    except ValueError:
        return None
    version = body.get("version") if isinstance(body, dict) else None
    return version[:100] if isinstance(version, str) else None


def _toxiproxy_pid(port: int, proxies: dict[str, ProxyState]) -> int | None:
    """The process of a Toxiproxy on this machine: it listens on the API's port and on its proxies' as well.

    What listens for a container's published port holds one port only, and a tunnel holds all of them; the connections
    of neither are the proxy's.
    """
    pid = listener(port)
    listening = {int(state.listen.rpartition(":")[2]) for state in proxies.values() if state.enabled}
    if pid is None or not listening:
        return None
    try:
        return pid if listening <= listening_ports(identify(pid)) and _is_toxiproxy(pid) else None
    except (AdapterError, OSError):
        return None


def _is_toxiproxy(pid: int) -> bool:
    """By its program, which holds the path of the module that it was built from. Raises OSError."""
    with Path(f"/proc/{pid}/exe").open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as program:
        return any(program.find(owner + b"/toxiproxy") >= 0 for owner in (b"/Shopify", b"/shopify"))


def _shown(container: Container | None) -> dict[str, str]:
    """What a part tells of its container."""
    return {} if container is None else {"container": container.name, "condition": container.condition_and_health}


def _is_loopback(host: str) -> bool:
    return host.startswith("127.") or host in ("::1", "localhost")
