"""Each container of a project that is up: what it is, where it is reached, and whether it answers there."""

from __future__ import annotations

import msgspec

from harness.adapters.docker.engine import connect
from harness.adapters.docker.project import belongings
from harness.adapters.docker.records import Container
from harness.dependencies.probe import path_probe
from harness.model.records.faults import Dependency
from harness.model.records.stack import StackUp
from harness.stack.compose import bind

PROBE_S = 3.0


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One line of `harness stack status`. health: as the container's own check says. trouble: None = it answers."""

    name: str
    container: str
    id: str
    address: str
    path: str | None = None
    health: str = "-"
    state: str = ""
    trouble: str | None = None


def where(up: StackUp) -> tuple[str, str]:
    """(engine, project) of a compose stack."""
    first = up.dependencies[0]
    return str(first.container.engine), str(first.container.project)


def containers(up: StackUp) -> dict[str, Container]:
    """Service -> container, as they are now. Raises AdapterError."""
    url, project = where(up)
    with connect(url) as engine:
        return bind.by_service(belongings(engine, project).containers)


def parts(up: StackUp) -> list[Part]:
    """Every service, in a fixed order, the stack's own first. Raises AdapterError when the engine is away."""
    found = containers(up)
    declared = {one.container.service: one for one in up.dependencies if one.container.service is not None}
    names = [*bind.SERVICES, *sorted(set(found) - set(bind.SERVICES))]
    return [_part(name, found.get(name), declared.get(name)) for name in names]


def _part(name: str, container: Container | None, dependency: Dependency | None) -> Part:
    if container is None:
        return Part(name=name, container="-", id="-", address="-", state="gone", trouble="it has no container")
    listed = ", ".join(f"{one.host}:{one.port}" for one in container.published) or "-"
    address = str(dependency.direct) if dependency is not None else listed
    trouble = None if container.serves else container.condition
    if dependency is not None and dependency.container.id != container.id:
        trouble = "another container has its place"
    elif trouble is None and dependency is not None:
        trouble = _silent(dependency)
    return Part(
        name=name,
        container=container.name,
        id=container.id,
        address=address,
        path=str(dependency.path) if dependency is not None and dependency.proxied else None,
        health=container.state.health.status if container.state.health is not None else "-",
        state=container.condition,
        trouble=trouble,
    )


def _silent(dependency: Dependency) -> str | None:
    """Why it does not answer, past its proxy and through it; None when it does."""
    for words, address in (("", dependency.direct), (" through its proxy", dependency.path)):
        result = path_probe(msgspec.structs.replace(dependency, path=address, direct=None))(PROBE_S)
        if not result.ok:
            return f"does not answer{words}: {result.detail}"
    return None
