"""resilience-known.toml: weaknesses that somebody owns until a date. Here it is only read."""

from __future__ import annotations

import tomllib
from datetime import date
from pathlib import Path

import msgspec

from harness.model.errors import UsageError
from harness.model.files import read_limited
from harness.model.jsonl import decoding_error

KNOWN = "resilience-known.toml"
MAX_BYTES = 1_000_000


class KnownWeakness(msgspec.Struct, frozen=True, kw_only=True):
    """One [[known]]. request, target, at_most: of what in the experiment, where it is not all of it."""

    experiment: str
    owner: str
    until: date
    reason: str = ""
    ticket: str = ""
    request: str = ""
    target: str = ""
    at_most: float | str | None = None


class _File(msgspec.Struct):
    known: tuple[KnownWeakness, ...] = ()


def read_known(path: Path) -> tuple[KnownWeakness, ...]:
    """Raises UsageError when it is damaged, FileNotFoundError when there is none."""
    data = read_limited(path, MAX_BYTES)
    try:
        return msgspec.convert(tomllib.loads(data.decode()), _File, strict=False).known
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path} is damaged: {decoding_error(error)}") from error
