"""A commented harness.toml to begin with: empty, or for the services of a compose project."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from harness.dependencies.kind import DependencyKind
from harness.scaffold.compose_services import Project, Service
from harness.scaffold.one_line import joined
from harness.scaffold.proxy_override import SERVICE, Front

EMPTY = """\
# Your own system, and your defaults for `harness run`. docs/configuration.md and its examples say more.

[target]                                  # the service under test
url = "http://127.0.0.1:8000"
health = "/health"                        # must answer below 400 before a run

# [toxiproxy]                             # yours; its proxies stand before your dependencies
# url = "http://127.0.0.1:8474"

# [dependencies.redis]                    # the name is what faults call it: redis-down
# kind = "redis"                          # redis, postgres, mysql, kafka, memcached, tcp or http
# proxy = "redis"                         # its name in Toxiproxy
# direct = "127.0.0.1:6379"               # the server itself: asked who is connected, for proof
# password_env = "REDIS_PASSWORD"         # never the password itself

[run]
scenario = "target"
scale = 0.1
"""


def for_project(project: Project, front: Front | None, target: str | None) -> str:
    """harness.toml for a compose project. front: what is behind a proxy. target: the service under test; None = the
    first user of a fronted service, or the first service with a published port."""
    fronted = {one.service.name: one for one in front.fronted} if front is not None else {}
    found = project.services[target] if target is not None else _target(project, front)
    lines = [
        "# The compose project, as `harness init` understood it. Check every line; a run checks them as well:",
        "#   harness stack status",
        "# Nothing of it is built, started or removed by the harness, and stopped by faults only.",
        "",
        "[compose]",
        f"file = {_files(project.files)}",
        "",
    ]
    if found is not None:
        lines += _target_table(found)
    else:
        lines += ["[target]                  # no service publishes a port: say which one is tested", 'url = ""', ""]
    if front is not None:
        lines += ["[toxiproxy]", f"service = {json.dumps(SERVICE)}", ""]
    for service in project.services.values():
        one = fronted.get(service.name)
        kind = one.kind if one is not None else service.guess()[0]
        if one is not None or (kind.images is not None and service is not found):
            lines += _dependency(service, kind, proxied=one is not None, port=one.port if one is not None else None)
    lines += ["[run]", 'scenario = "baseline"', "scale = 0.02", ""]
    return joined(lines)


def _target(project: Project, front: Front | None) -> Service | None:
    users = [project.services[name] for name in front.users] if front is not None else []
    with_ports = [
        one for one in (*users, *project.services.values()) if one.published and one.guess()[0].images is None
    ]
    return with_ports[0] if with_ports else None


def _target_table(service: Service) -> list[str]:
    port = next(iter(service.published.values()), None)
    url = f"http://127.0.0.1:{port}" if port is not None else "http://127.0.0.1:8000"
    return [
        "[target]",
        f"url = {json.dumps(url)}" + ("" if port is not None else "   # no fixed port is published: write it here"),
        f"name = {json.dumps(_name(service.name))}",
        f"service = {json.dumps(service.name)}",
        '# health = "/health"      # a page that answers below 400 when it is well',
        "",
    ]


def _dependency(service: Service, kind: DependencyKind, *, proxied: bool, port: int | None) -> list[str]:
    lines = [
        f"[dependencies.{_name(service.name)}]",
        f"kind = {json.dumps(kind.name)}",
        f"service = {json.dumps(service.name)}",
    ]
    if proxied:
        lines.append(f"proxy = {json.dumps(service.name)}")
    lines += kind.table_lines(service.environment, _variable(service.name), None if proxied else port)
    return [*lines, ""]


def _files(files: Sequence[str]) -> str:
    return json.dumps(files[0]) if len(files) == 1 else json.dumps(list(files))


def _name(service: str) -> str:
    """A service's name as faults may call it: they take small letters, digits, and single - and _ between them."""
    return re.sub(r"[^a-z0-9]+", "-", service.lower()).strip("-") or "service"


def _variable(service: str) -> str:
    return re.sub(r"[^A-Z0-9]+", "_", service.upper()).strip("_") or "SERVICE"
