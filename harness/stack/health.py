"""Whether each part of a running stack answers, asked where its users ask."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from harness.model.records.faults import Address, Dependency
from harness.model.records.stack import StackUp
from harness.stack.embedded import kafka, postgres, risk, valkey
from harness.stack.registry import pids
from harness.stack.starting.ready import NotReady, fetched

_PROBES: dict[str, Callable[[Address], None]] = {
    "redis": valkey.probe,
    "kafka": lambda address: kafka.probe(address, ()),
    "db": postgres.probe,
    "risk": risk.probe,
}


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One line of `harness stack status`. path: what a proxied server's clients use. trouble: None = it answers."""

    name: str
    pid: int | None
    address: str
    path: str | None = None
    trouble: str | None = None


def parts(up: StackUp) -> list[Part]:
    """Every part, probed directly and, where it is proxied, through its proxy. Takes no longer than its time-outs."""
    running = pids(up)
    found = []
    control = next((d.proxy.url for d in up.dependencies if d.proxy.url is not None), None)
    if control is not None:
        trouble = _http(f"{control}/version")
        found.append(Part(name="toxiproxy", pid=running.get("toxiproxy"), address=control, trouble=trouble))
    for dependency, name in zip(up.dependencies, ("valkey", "kafka", "postgres", "risk"), strict=False):
        found.append(
            Part(
                name=name,
                pid=dependency.process.pid,
                address=str(dependency.direct),
                path=str(dependency.path),
                trouble=_trouble(dependency),
            )
        )
        if dependency.front is not None and dependency.front.url is not None:
            url = dependency.front.url
            found.append(Part(name="envoy", pid=None, address=url, trouble=_http(f"{url}/ready")))
    url = up.target.url
    found.append(Part(name="api", pid=up.target.pid, address=url, trouble=_http(f"{url}/health")))
    seen = (("prometheus", up.alerts.prometheus), ("alertmanager", up.alerts.alertmanager)) if up.alerts else ()
    found += [
        Part(name=name, pid=None, address=url, trouble=_http(f"{url}/-/ready")) for name, url in seen if url is not None
    ]
    return found


def _trouble(dependency: Dependency) -> str | None:
    for where, address in (("", dependency.direct), (" through its proxy", dependency.path)):
        if address is not None:
            try:
                _PROBES[dependency.name](address)
            except NotReady as error:
                return f"does not answer{where}: {error}"
    return None


def _http(url: str) -> str | None:
    try:
        fetched(url)
        return None
    except NotReady as error:
        return f"does not answer: {error}"
