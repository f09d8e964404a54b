"""An OpenAPI 3 or Swagger 2.0 document: fetched or read with limits, and made into plain values.

It comes from outside. JSON and strict YAML, no numbers that JSON does not have, `$ref` within the document only.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from harness.model.errors import AdapterError, Refused, UsageError
from harness.model.files import read_limited
from harness.plan.files.strict_yaml import Limits, Mapping, Node, Text, parse

MAX_BYTES = 16_000_000
TIMEOUT_S = 10.0
MAX_HOPS = 20
_LIMITS = Limits(depth=60, nodes=200_000, what="OpenAPI document")
_PLAIN = re.compile(r"true|false|null|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
"""What of YAML's plain texts is no text, by the rules of OpenAPI: YAML 1.2 as JSON has it."""


def read(source: str, *, named: Collection[str], allow_hosts: Collection[str]) -> dict[str, Any]:
    """The document of a URL or a file. named: hosts that harness.toml names. Raises UsageError, one line."""
    content = _fetched(source, named, allow_hosts) if is_url(source) else _of_file(source)
    found = _values(content, source)
    if not isinstance(found, dict) or not (
        str(found.get("openapi", "")).startswith("3.") or str(found.get("swagger", "")) == "2.0"
    ):
        raise UsageError(
            f"{source}: neither OpenAPI 3 nor Swagger 2.0", hint="FastAPI serves it at /openapi.json, for example"
        )
    return found


def is_url(source: str) -> bool:
    return source.lower().startswith(("http://", "https://"))


def resolved(document: dict[str, Any], value: Any) -> tuple[Any, tuple[str, ...]]:
    """What a value is once its `$ref`s are followed, and which they were. None for what leads nowhere or round."""
    seen: list[str] = []
    while isinstance(value, dict) and isinstance(value.get("$ref"), str):
        ref = value["$ref"]
        if not ref.startswith("#/") or ref in seen or len(seen) >= MAX_HOPS:
            return None, tuple(seen)
        seen.append(ref)
        value = document
        for part in ref[2:].split("/"):
            key = unquote(part).replace("~1", "/").replace("~0", "~")
            value = value.get(key) if isinstance(value, dict) else None
    return value, tuple(seen)


def _fetched(url: str, named: Collection[str], allow_hosts: Collection[str]) -> bytes:
    from harness.adapters.allowed_hosts import check_url
    from harness.adapters.wire.http import get
    from harness.model.errors import Unreachable

    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        raise UsageError(
            "--openapi: a URL with a login in it is not fetched", hint="save the document, and name the file"
        )
    try:
        addresses = check_url(url, named, allow_hosts=allow_hosts)
    except Refused as error:
        raise Refused(
            f"--openapi: {error}", hint=f"to fetch the document from there: --allow-host {parts.hostname}"
        ) from error
    reply = None
    for number, address in enumerate(addresses, 1):
        shown = f"[{address}]" if ":" in address else address
        port = "" if parts.port is None else f":{parts.port}"
        # As elsewhere: an https name stays, its certificate is for it.
        pinned = url if parts.scheme == "https" else urlunsplit(parts._replace(netloc=shown + port))
        try:
            reply = get(pinned, TIMEOUT_S)
            break
        except Unreachable as error:
            if number == len(addresses):
                raise UsageError(f"--openapi: {error}", hint="is the service up?") from error
        except AdapterError as error:
            raise UsageError(f"--openapi: {error}") from error
    assert reply is not None, "a name has an address, or check_url says so"
    if reply.status != 200:
        raise UsageError(f"--openapi: {url} answered {reply.status}, and no document")
    return reply.body


def _of_file(name: str) -> bytes:
    try:
        return read_limited(Path(name), MAX_BYTES)
    except FileNotFoundError as error:
        raise UsageError(f"{name}: no such file") from error


def _values(content: bytes, name: str) -> Any:
    if not content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[")):
        try:
            return _plain(parse(content, name, _LIMITS))
        except RecursionError as error:
            raise UsageError(f"{name}: not YAML: nested too deeply") from error
    try:
        return _json(content.decode("utf-8-sig"))
    except RecursionError as error:
        raise UsageError(f"{name}: not JSON: nested too deeply") from error
    except ValueError as error:
        raise UsageError(f"{name}: not JSON: {error}") from error


def _json(text: str) -> Any:
    return json.loads(text, parse_constant=_number, parse_float=_number)


def _number(text: str) -> float:
    """JSON has no NaN and no infinity, and Python no text for them that could stand in a Locust file."""
    if not math.isfinite(found := float(text)):
        raise ValueError(f"{text[:40]} is no number that JSON has")
    return found


def _plain(node: Node) -> Any:
    if isinstance(node, Mapping):
        return {key: _plain(value) for key, value in node.values.items()}
    if isinstance(node, Text):
        if node.empty:
            return None
        try:
            return _json(node.text) if not node.quoted and _PLAIN.fullmatch(node.text) else node.text
        except ValueError:  # a number that nobody can hold
            return node.text
    return [_plain(item) for item in node.items]
