"""From containers to dependencies: everything is read from what runs, nothing from what was meant to run."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from harness.adapters.allowed_hosts import ENVOY_PORT
from harness.adapters.clients.envoy_configuration import Upstream
from harness.adapters.docker.records import Container
from harness.adapters.toxiproxy.client import ProxyState, Toxiproxy
from harness.model.errors import AdapterError
from harness.model.records.faults import (
    Address,
    Credentials,
    Dependency,
    DependencyContainer,
    DependencyFront,
    DependencyProxy,
    ProxyRuntime,
)
from harness.model.records.stack import TargetInfo
from harness.stack.embedded import envoy
from harness.stack.starting.ready import NotReady

HOST = "127.0.0.1"
REDIS, KAFKA, DB, RISK, ENVOY, TOXIPROXY, API = "redis", "kafka", "db", "risk", "envoy", "toxiproxy", "api"
GRAFANA = "grafana"
PROXIED = (REDIS, KAFKA, DB, RISK)
SERVICES = (*PROXIED, ENVOY, TOXIPROXY, API)
API_PORT, TOXIPROXY_PORT, GRAFANA_PORT = 8000, 8474, 3000
FRONTS = (Upstream(name=RISK, listen=Address("0.0.0.0", 8000), upstream=Address(RISK, 8000)),)
"""What Envoy stands in front of; compose/envoy/envoy.json is its configuration."""
_PORTS = {REDIS: 6379, DB: 5432, RISK: 8000}
PROBE_ROLE = "harness_probe"
ROLE = "anomaly_api"
SUPERUSER = "harness"
DATABASE = "anomalies"


def declared() -> tuple[Dependency, ...]:
    """The dependencies with no addresses and no containers."""
    container: dict[str, Any] = {"runtime": "container", "startable": True}
    return (
        Dependency(
            name=REDIS,
            kind="redis",
            proxy=DependencyProxy(name=REDIS),
            container=DependencyContainer(service=REDIS),
            proxied=True,
            **container,
        ),
        Dependency(
            name=KAFKA,
            kind="kafka",
            proxy=DependencyProxy(name=KAFKA),
            container=DependencyContainer(service=KAFKA),
            proxied=True,
            **container,
        ),
        Dependency(
            name=DB,
            kind="postgres",
            proxy=DependencyProxy(name=DB),
            container=DependencyContainer(service=DB),
            credentials=Credentials(
                role=ROLE, login=f"user={ROLE} dbname={DATABASE}", probe_login=f"user={PROBE_ROLE} dbname={DATABASE}"
            ),
            proxied=True,
            **container,
        ),
        Dependency(
            name=RISK,
            kind="http",
            proxy=DependencyProxy(name=RISK),
            front=DependencyFront(name=RISK),
            container=DependencyContainer(service=RISK),
            proxied=True,
            **container,
        ),
        Dependency(name="api", kind="http", container=DependencyContainer(service=API), target=True, **container),
    )


def environment(container: Container) -> dict[str, str]:
    """The variables that a container was started with."""
    return dict(item.split("=", 1) for item in container.config.env or () if "=" in item)


def published(container: Container, port: int) -> Address:
    """Where one of its ports is reached on this machine. Raises NotReady."""
    for one in container.host_ports(port):
        if one.host in (HOST, "0.0.0.0", ""):
            return Address(HOST, one.port)
    raise NotReady(
        f"port {port} of {container.service} is not published on {HOST}: the container is"
        f" {container.condition_and_health}"
    )


def control(containers: Mapping[str, Container]) -> Address:
    return published(containers[TOXIPROXY], TOXIPROXY_PORT)


def proxies(containers: Mapping[str, Container]) -> dict[str, ProxyState]:
    """Toxiproxy's proxies, one for each dependency, enabled. Raises NotReady."""
    try:
        found = Toxiproxy(f"http://{control(containers)}", timeout_s=2.0).proxies()
    except AdapterError as error:
        raise NotReady(str(error)) from error
    for name in PROXIED:
        if name not in found or not found[name].enabled:
            raise NotReady(f"proxy {name} is not there yet" if name not in found else f"proxy {name} is disabled")
    return found


def fronts(containers: Mapping[str, Container]) -> dict[str, DependencyFront]:
    """What a dependency declares of its front. Raises NotReady."""
    return envoy.fronts(FRONTS, published(containers[ENVOY], ENVOY_PORT))


def paths(containers: Mapping[str, Container], found: Mapping[str, ProxyState]) -> dict[str, Address]:
    """Dependency -> its proxy's listener as published on this machine. Raises NotReady."""
    return {name: published(containers[TOXIPROXY], int(found[name].listen.rpartition(":")[2])) for name in PROXIED}


def direct(containers: Mapping[str, Container], name: str) -> Address:
    """A server's own port on this machine; Kafka's is the only one it has published. Raises NotReady."""
    container = containers[name]
    if name in _PORTS:
        return published(container, _PORTS[name])
    for one in container.published:
        if one.host in (HOST, "0.0.0.0", ""):
            return Address(HOST, one.port)
    raise NotReady(f"no port of {name} is published on {HOST}: the container is {container.condition_and_health}")


def dependencies(containers: Mapping[str, Container], engine: str) -> tuple[Dependency, ...]:
    """Every dependency with its addresses and containers. Raises NotReady."""
    listeners = paths(containers, proxies(containers))
    bound = []
    for one in declared():
        container = containers[one.container.service or ""]
        at = direct(containers, one.name) if one.proxied else published(container, API_PORT)
        one = one.but(
            path=listeners[one.name] if one.proxied else at,
            direct=at,
            container={"engine": engine, "id": container.id, "name": container.name, "project": container.project},
        )
        if one.proxied:
            seen = tuple(sorted(set(containers[TOXIPROXY].seen_by(container))))
            one = one.but(proxy={"url": f"http://{control(containers)}", "seen_as": seen})
        if one.kind == "http":
            one = one.but(url=f"http://{one.path}/health")
        if one.name == RISK:
            # Who uses it nobody can be asked, so connections to its proxy are looked at, in the proxy's own network.
            runtime = ProxyRuntime(engine=engine, container=containers[TOXIPROXY].id)
            one = one.but(proxy={"runtime": runtime, "port": _PORTS[RISK]}, front=fronts(containers)[RISK])
        if one.name == DB:
            admin = f"host={at.host} port={at.port} user={SUPERUSER} dbname={DATABASE}"
            one = one.but(credentials={"admin": admin})
        bound.append(one)
    return tuple(bound)


def target(containers: Mapping[str, Container], engine: str, version: str | None) -> TargetInfo:
    """Raises NotReady."""
    container = containers[API]
    workers = environment(container).get("API_WORKERS", "").strip()
    address = published(container, API_PORT)
    return TargetInfo(
        url=f"http://{address}",
        metrics_url=f"http://{address}/metrics",
        engine=engine,
        containers=(container.id,),
        workers=max(1, int(workers)) if workers.isdecimal() else 1,
        version=version,
        health="/health",
    )


def grafana(containers: Mapping[str, Container]) -> str | None:
    """The URL of the profile's Grafana; None where it is not started, or not reachable from here."""
    try:
        return f"http://{published(containers[GRAFANA], GRAFANA_PORT)}"
    except (KeyError, NotReady):
        return None


def by_service(containers: Collection[Container]) -> dict[str, Container]:
    """The newest container of each service: Compose makes one, a person may have made another."""
    return {one.service: one for one in sorted(containers, key=lambda one: one.created) if one.service is not None}
