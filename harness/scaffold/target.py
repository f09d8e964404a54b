"""Which service people call: one that publishes a port, by its name, its health check, its use of the stores."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from harness.scaffold.compose_services import Service
from harness.scaffold.connections import mentions
from harness.scaffold.front import Front

_CALLED = re.compile(r"(^|[-_])(api|web|app|server|backend|gateway|site|www|http)($|[-_\d])")
_SELDOM = re.compile(
    r"(^|[-_])(admin|docs?|front(end)?|ui|static|assets|mock|debug|worker|config|discovery|eureka|registry|test|playwright)($|[-_\d])"
)
_DOCUMENTS = ("openapi.json", "openapi.yaml", "openapi.yml", "swagger.json", "swagger.yaml", "swagger.yml")
_CLEAR = 2
"""By so many points one is ahead of what is as likely."""
_TLS_PORTS = {443, 8443, 9443}
_OTHER_PORTS = {22, 25, 143, 389, 465, 587, 993, 1025, 1433, 1521, 3306, 5432, 5672, 6379, 9042, 9092, 11211, 27017}
"""Of protocols that are not HTTP."""
_HTTP_PORTS = {80, 443, 3000, 4000, 5000, 8000, 8080, 8081, 8888, 9000}


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """service: the target; None = two are as likely, or none publishes a port. others: those that are as likely."""

    service: Service | None
    others: tuple[Service, ...] = ()


def choose(front: Front) -> Choice:
    """Never a store, nor what stands beside the application."""
    behind = {one.service.name for one in front.fronted}
    points = {
        one.name: _points(front, one)
        for one in front.project.services.values()
        if one.published.keys() - _OTHER_PORTS
        and front.roles[one.name].role == "application"
        and one.name not in behind
    }
    best = [front.project.services[name] for name, count in points.items() if count > max(points.values()) - _CLEAR]
    if len(best) == 1:
        return Choice(service=best[0])
    return Choice(service=None, others=tuple(best))


def _points(front: Front, service: Service) -> int:
    name = service.name.lower()
    folder = Path(front.project.composed.files[0]).parent / (service.build or "")
    found = 3 if service.name in front.users else 0
    if any(_asks(service, front.project.services[user]) for user in front.users if user != service.name):
        found = 4  # it stands before those that use the stores
    applications = (one for one in front.project.services.values() if front.roles[one.name].role == "application")
    found += 1 if any(one.published and _asks(service, one) for one in applications if one.name != service.name) else 0
    found += 2 if _CALLED.search(name) else 0
    found -= 1 if _SELDOM.search(name) else 0
    found += 1 if health_path(service) is not None else 0
    found += 1 if _HTTP_PORTS & set(service.published) else 0
    if service.build is not None and any((folder / document).is_file() for document in _DOCUMENTS):
        found += 2
    return found


def _asks(service: Service, other: Service) -> bool:
    return other.name in service.depends_on or next(mentions(service, other.names), None) is not None


def url_of(service: Service) -> str | None:
    """By its published port: one that is usual for HTTP, else another, else that of HTTPS."""

    def order(inside: int) -> tuple[bool, bool, bool]:
        return inside in _OTHER_PORTS, inside in _TLS_PORTS, inside not in _HTTP_PORTS

    if not service.published:
        return None
    inside = min(service.published, key=order)
    return f"{'https' if inside in _TLS_PORTS else 'http'}://127.0.0.1:{service.published[inside]}"


def health_path(service: Service, port: int | None = None) -> str | None:
    """The page that its own health check asks for over HTTP. port: on that one, without TLS."""
    for text in re.findall(r"https?://(?:localhost|127\.0\.0\.1|0\.0\.0\.0)[^\s\"'|;&)]*", service.health):
        found = urlsplit(text)
        if port is not None and (found.scheme, found.netloc.partition(":")[2] or "80") != ("http", str(port)):
            continue
        if re.fullmatch(r"/[\w./~-]+", found.path):
            return str(found.path)
    return None
