"""The operations of an OpenAPI document as requests: path and query filled in, and a body, as far as the document has
examples. Where it has none nothing is made up: the place stays to be filled by a person."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

from harness.scaffold.openapi.document import resolved

METHODS = ("get", "head", "options", "post", "put", "patch", "delete")
HEALTH = ("/health", "/healthz", "/health/live", "/livez", "/health/ready", "/readyz", "/ready", "/ping")
MAX_OPERATIONS = 1_000
MAX_VALUES = 300
MAX_DEPTH = 8
_BY_TYPE: dict[str, Any] = {"string": "string", "integer": 1, "number": 1.0, "boolean": True}


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """template: its path as the document has it, below the server's; it groups requests. path: with values filled in.

    body: JSON, None where it has none. inactive: why it is not to be sent as it is; None = it needs nothing and changes
    nothing.
    """

    method: str
    template: str
    path: str
    summary: str = ""
    body: Any = None
    inactive: str | None = None


def operations(document: dict[str, Any]) -> tuple[Operation, ...]:
    """In the document's order; at most MAX_OPERATIONS."""
    found: list[Operation] = []
    base = _base(document)
    paths = document.get("paths")
    for template, written in paths.items() if isinstance(paths, dict) else ():
        item, _ = resolved(document, written)
        if not isinstance(item, dict) or not str(template).startswith("/"):
            continue
        for method in METHODS:
            operation, _ = resolved(document, item.get(method))
            if isinstance(operation, dict) and len(found) < MAX_OPERATIONS:
                found.append(_operation(document, base, str(template), method, item, operation))
    return tuple(found)


def health(found: tuple[Operation, ...]) -> str | None:
    """The path of a health check that the document has."""
    usable = [one.template for one in found if one.method == "get" and one.inactive is None]
    return next((path for name in HEALTH for path in usable if path.rstrip("/").endswith(name)), None)


def _operation(
    document: dict[str, Any], base: str, template: str, method: str, item: dict[str, Any], operation: dict[str, Any]
) -> Operation:
    parameters = _parameters(document, item, operation)
    needed = [one for one in parameters if one.get("required") or one.get("in") == "path"]
    path, missing = _filled(document, base + template, needed)
    body, wanted = _body(document, operation, parameters)
    return Operation(
        method=method,
        template=base + template,
        path=path,
        summary=str(operation.get("summary") or operation.get("operationId") or "")[:100].strip(),
        body=body,
        inactive=_inactive(method, operation, missing, needs=bool(needed) or wanted),
    )


def _inactive(method: str, operation: dict[str, Any], missing: list[str], *, needs: bool) -> str | None:
    """needs: whether it has to have a parameter or a body."""
    if method != "get":
        return "it may change something" if method not in ("head", "options") else "it is no GET"
    if missing:
        return f"it needs {', '.join(missing)}"
    if needs:
        return "it needs parameters, and these are the document's examples"
    if "text/event-stream" in str(operation.get("produces")) + str(_dict(_dict(operation.get("responses")).get("200"))):
        return "its answer is a stream, which has no end"
    return None


def _base(document: dict[str, Any]) -> str:
    """The path below which the operations are. Of a server's URL its path only: the load goes to the target."""
    if "swagger" in document:
        text = str(document.get("basePath") or "")
    else:
        servers = document.get("servers")
        server = _dict(servers[0]) if isinstance(servers, list) and servers else {}
        text = str(server.get("url") or "")
        for name, variable in _dict(server.get("variables")).items():
            text = text.replace(f"{{{name}}}", str(_dict(variable).get("default", "")))
    try:
        path = urlsplit(text).path.strip("/")
    except ValueError:
        path = ""
    return f"/{quote(path, safe='/%{}', errors='replace')}" if path else ""


def _parameters(document: dict[str, Any], item: dict[str, Any], operation: dict[str, Any]) -> list[dict[str, Any]]:
    """Those of the path, and those of the operation, which win."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for written in (*_list(item.get("parameters")), *_list(operation.get("parameters"))):
        one, _ = resolved(document, written)
        if not isinstance(one, dict) and isinstance(written, dict):
            # Whether it has to be there nobody can say.
            one = {"name": str(written.get("$ref"))[:100], "in": "not in the document", "required": True}
        if isinstance(one, dict):
            found[str(one.get("in")), str(one.get("name"))] = one
    return list(found.values())


def _filled(document: dict[str, Any], template: str, needed: list[dict[str, Any]]) -> tuple[str, list[str]]:
    """The path with its query, and what has no example. Headers and cookies are not filled in."""
    query: list[str] = []
    missing: list[str] = []
    values: dict[str, str] = {}
    for one in needed:
        name, where = str(one.get("name")), one.get("in")
        value = _text(_example_of(document, one))
        if where == "path" and value:
            values[name] = quote(value, safe="", errors="replace")
        elif where == "query" and value is not None:
            query.append(f"{quote(name, safe='', errors='replace')}={quote(value, safe='', errors='replace')}")
        elif where not in ("body", "formData"):
            missing.append(f"{name} ({where})")
    # In one pass: a value that looks like another place is none.
    path = re.sub(r"\{([^{}]*)\}", lambda place: values.get(place[1], place[0]), template)
    missing += [f"{name} (path)" for name in re.findall(r"\{([^{}]*)\}", path) if f"{name} (path)" not in missing]
    return path + ("?" + "&".join(query) if query else ""), missing


def _body(document: dict[str, Any], operation: dict[str, Any], parameters: list[dict[str, Any]]) -> tuple[Any, bool]:
    """A JSON body, and whether the operation has to have any."""
    for one in parameters:  # Swagger 2.0
        if one.get("in") == "body":
            return _Example(document).of(one.get("schema")), bool(one.get("required"))
        if one.get("in") == "formData":
            return None, bool(one.get("required"))
    body, _ = resolved(document, operation.get("requestBody"))
    content = _dict(_dict(body).get("content"))
    for name, written in content.items():
        if "json" in str(name):
            media, _ = resolved(document, written)
            value = _example_of(document, _dict(media))
            made = value if value is not None else _Example(document).of(_dict(media).get("schema"))
            return made, bool(_dict(body).get("required"))
    return None, bool(_dict(body).get("required"))


def _example_of(document: dict[str, Any], holder: dict[str, Any]) -> Any:
    """The example that a parameter, a media type or its schema has; None where it has none."""
    schema, _ = resolved(document, holder.get("schema"))
    return next((value for one in (holder, _dict(schema)) for value in _examples(document, one)), None)


def _examples(document: dict[str, Any], one: dict[str, Any]) -> Iterator[Any]:
    if one.get("example") is not None:
        yield one["example"]
    if one.get("x-example") is not None:
        yield one["x-example"]
    examples = one.get("examples")
    if isinstance(examples, dict):  # of a parameter or a media type; a schema has a list
        for each in examples.values():
            found, _ = resolved(document, each)
            if isinstance(found, dict) and found.get("value") is not None:
                yield found["value"]
    elif isinstance(examples, list):
        yield from (each for each in examples if each is not None)
    for key in ("const", "default"):
        if one.get(key) is not None:
            yield one[key]
    yield from (each for each in _list(one.get("enum")) if each is not None)


class _Example:
    """A value that a schema describes. With a limit: schemas contain themselves, and ten lines can be a billion."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._left = MAX_VALUES

    def of(self, written: Any, depth: int = 0, within: tuple[str, ...] = ()) -> Any:
        self._left -= 1
        schema, refs = resolved(self._document, written)
        if not isinstance(schema, dict) or depth > MAX_DEPTH or self._left < 0 or set(refs) & set(within):
            return None
        for value in _examples(self._document, schema):
            return value
        within += refs
        for key in ("oneOf", "anyOf"):
            choices = [each for each in _list(schema.get(key)) if _dict(each).get("type") != "null"]
            if choices:
                return self.of(choices[0], depth + 1, within)
        parts = [self.of(part, depth + 1, within) for part in _list(schema.get("allOf"))[:MAX_VALUES]]
        merged = {key: value for part in parts if isinstance(part, dict) for key, value in part.items()}
        kind = schema.get("type")
        kind = next((each for each in kind if each != "null"), None) if isinstance(kind, list) else kind
        if isinstance(schema.get("properties"), dict) or kind == "object":
            for name, each in _dict(schema.get("properties")).items():
                if self._left > 0 and not _dict(each).get("readOnly"):
                    merged[str(name)] = self.of(each, depth + 1, within)
            return merged
        if kind == "array":
            inner = self.of(schema.get("items"), depth + 1, within)
            return [] if inner is None else [inner]
        if parts:
            return merged or parts[0]
        return _BY_TYPE.get(str(kind))


def _text(value: Any) -> str | None:
    """A value as it stands in a URL; None for what has no plain text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (str, int, float)) else None


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
