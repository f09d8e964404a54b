"""A system that is declared in code: the same tables as in harness.toml, written to one and read by the same rules."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.dependencies.configuration import load, parse
from harness.model.errors import UsageError
from harness.model.files import replace_file
from harness.stack.external.stack import ExternalStack


def declared(tables: Mapping[str, Any], path: Path) -> Path:
    """Raises UsageError, also for what no harness.toml may say."""
    data = ("\n".join(_table(tables, ())) + "\n").encode()
    parse(data, path)
    replace_file(path, data, mode=0o600)
    return path


def _table(table: Mapping[str, Any], at: tuple[str, ...]) -> Iterator[str]:
    if at:
        yield f"[{'.'.join(map(_text, at))}]"
    inner = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            inner[key] = value
        elif value is not None:
            yield f"{_text(key)} = {_value(value, (*at, key))}"
    for key, value in inner.items():
        yield from _table(value, (*at, key))


def _value(value: Any, at: tuple[str, ...]) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return repr(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(one, at) for one in value)}]"
    raise UsageError(f"{'.'.join(map(str, at))}: {type(value).__name__} is nothing that harness.toml may hold")


def _text(text: object) -> str:
    """A basic string of TOML is one of JSON, but for DEL."""
    return json.dumps(str(text)).replace("\x7f", "\\u007f")


def looked_at(path: Path) -> tuple[str, ...]:
    """The names of its dependencies, all of which are well. Raises UsageError, Refused."""
    configuration = load(path)
    if configuration.target is None:
        raise UsageError(f"{configuration.shown}: there is no target", hint="[target] with the url of your service")
    ExternalStack(configuration.target.url, configuration=configuration).check()
    return tuple(configuration.dependencies)
