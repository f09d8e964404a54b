"""Commands for people to paste when an undo could not be verified: quoted for the shell, complete, harmless to repeat.

Names of proxies and toxics come from a server, so they are quoted for the URL and for the shell.
"""

from __future__ import annotations

import json
import shlex
from typing import Any
from urllib.parse import quote


def toxiproxy(method: str, base: str, *path: str, body: dict[str, Any] | None = None) -> str:
    """One request to Toxiproxy's API as a curl command. path: unquoted segments after /proxies."""
    address = "/".join([f"{base.rstrip('/')}/proxies", *(quote(name, safe="") for name in path)])
    words = ["curl", "-X", method]
    if "[" in address:
        words.append("-g")  # else curl takes the brackets of an IPv6 address for a pattern
    words.append(address)
    if body is not None:
        words += ["-d", json.dumps(body)]
    return shlex.join(words)


def enable_proxy(base: str, name: str) -> str:
    return toxiproxy("POST", base, name, body={"enabled": True})


def remove_proxy(base: str, name: str) -> str:
    return toxiproxy("DELETE", base, name)


def remove_toxic(base: str, proxy: str, toxic: str) -> str:
    return toxiproxy("DELETE", base, proxy, "toxics", toxic)


def create_proxy(base: str, name: str, *, listen: str, upstream: str) -> str:
    return toxiproxy("POST", base, body={"name": name, "listen": listen, "upstream": upstream, "enabled": True})
