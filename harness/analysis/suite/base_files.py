"""resilience-base.json and resilience-known.toml: read as anybody's, written whole and always in the same order."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import msgspec

from harness.analysis.suite.accept import check_until
from harness.analysis.suite.age import since_of, until_of
from harness.model.errors import UsageError
from harness.model.files import read_limited, replace_file
from harness.model.jsonl import decodes, decoding_error, encode
from harness.model.records.many_runs.gate import SCHEMA, Base, Known

BASE = "resilience-base.json"
MAX_BASE = 100_000
"""Bytes of the base: a file that people look at in a pull request."""
MAX_KNOWN = 1_000_000

_HEAD = """\
# Known weaknesses: what is broken, who owns it, and until when. Written by `harness suite accept`.
schema = 1
"""


class _Schema(msgspec.Struct):
    schema: int = SCHEMA


class _KnownFile(msgspec.Struct, forbid_unknown_fields=True):
    schema: int = SCHEMA
    known: tuple[Known, ...] = ()


def known_file(base: Path) -> Path:
    """Beside the base: resilience-known.toml of resilience-base.json, x-known.toml of x.json."""
    return base.with_name(f"{base.stem.removesuffix('-base')}-known.toml")


def read_base(path: Path) -> Base | None:
    """None where there is none. Raises UsageError for one that is damaged."""
    try:
        data = read_limited(path, MAX_BASE)
    except FileNotFoundError:
        return None
    with decodes(path):
        _check_schema(path, msgspec.json.decode(data, type=_Schema).schema)
        return msgspec.json.decode(data, type=Base)


def read_known(path: Path, today: date) -> tuple[Known, ...]:
    """Empty where there is no such file. People may have changed it: raises UsageError for what it must not say."""
    try:
        data = read_limited(path, MAX_KNOWN)
    except FileNotFoundError:
        return ()
    try:
        tables = tomllib.loads(data.decode("utf-8"))
    except RecursionError as error:
        raise UsageError(f"{path}: not TOML: nested too deeply") from error
    except ValueError as error:
        raise UsageError(f"{path}: not TOML: {error}") from error
    try:
        found = msgspec.convert(msgspec.to_builtins(tables), _KnownFile)  # a date of TOML is text, too
    except msgspec.ValidationError as error:
        raise UsageError(f"{path} is damaged: {decoding_error(error)}") from error
    _check_schema(path, found.schema)
    seen = set()
    for number, one in enumerate(found.known, 1):
        where = f"{path}: known weakness {number}"
        try:
            check_until(until_of(one) if until_of(one) >= today else None, today)
            since = since_of(one)
        except UsageError as error:
            raise UsageError(f"{where}: {error}", hint=error.hint) from error
        if not one.owner.strip() or not one.reason.strip():
            raise UsageError(f"{where}: owner and reason must not be empty")
        if one.at_most is not None and not 0 <= one.at_most < math.inf:
            raise UsageError(f"{where}: at_most = {one.at_most} is neither a share nor a number of seconds")
        if since is not None and since > today:
            raise UsageError(f"{where}: since {since.isoformat()}: that day is yet to come")
        key = (one.experiment, one.request, "" if one.request else one.target)
        if key in seen:
            raise UsageError(f"{where}: {one.experiment[:60]!r} has the same weakness twice")
        seen.add(key)
    return found.known


def write_accepted(path: Path, base: Base, known: Sequence[Known]) -> tuple[Path, Path]:
    """Both files; the known weaknesses first, so that what is broken is owned whenever the base is there. Returns their
    paths. Raises UsageError for a base that is too large or files that cannot be written."""
    data = msgspec.json.format(encode(base), indent=1) + b"\n"
    if len(data) > MAX_BASE:
        raise UsageError(
            f"{path} would have {len(data) / 1000:.0f} KB, and {MAX_BASE // 1000} are the most",
            hint="group request names in the locustfile: one name a kind of request, no identifiers in it",
        )
    owned = known_file(path)
    for file, text in ((owned, _toml(known).encode("utf-8", "replace")), (path, data)):
        try:
            replace_file(file, text)
        except OSError as error:
            raise UsageError(f"{file} cannot be written: {error.strerror or error}") from error
    return path, owned


def _check_schema(path: Path, schema: int) -> None:
    if schema != SCHEMA:
        raise UsageError(
            f"{path} is of schema {str(schema)[:20]}, and this version of the harness reads schema {SCHEMA}",
            hint="read it with the version that wrote it",
        )


def _toml(known: Sequence[Known]) -> str:
    blocks = [_HEAD]
    for one in known:
        rows = ((field, getattr(one, field)) for field in one.__struct_fields__)
        lines = [f"{field} = {_value(value)}" for field, value in rows if value not in ("", None)]
        blocks.append("\n".join(("[[known]]", *lines, "")))
    return "\n".join(blocks)


def _value(value: str | float) -> str:
    """A basic string is written as JSON's, which leaves one control character as it is (TOML 1.0, "String")."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
