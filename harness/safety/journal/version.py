"""Which version a journal is of: its first line says so, with the harness that wrote it.

A journal is an instruction, and half of one that is understood is a wrong one: by one of another version nothing is
done. In every version the first line is a JSON object with `version` and `harness` that ends with its checksum.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

import harness
from harness.model.errors import UndoUnverified
from harness.safety.journal.entries import intact

VERSION = 2
"""Goes up with every change that an older harness would heal wrongly; a new field with a default is none."""


class _FirstLine(msgspec.Struct, frozen=True):
    version: Any = 0
    harness: Any = ""


def check_version(path: Path, content: bytes) -> None:
    """Raises UndoUnverified for a file of another version. One without is older than versions, and read; what is no
    whole first line is damage, and told elsewhere."""
    line = intact(content.partition(b"\n")[0])
    try:
        first = msgspec.json.decode(line, type=_FirstLine) if line is not None else _FirstLine()
    except (msgspec.MsgspecError, RecursionError):
        return
    if first.version in (0, VERSION) and not isinstance(first.version, bool):
        return
    told = str(first.harness)
    wrote = f"harness {told}" if re.fullmatch(r"[0-9A-Za-z.+-]{1,40}", told) else "another harness"
    raise UndoUnverified(
        f"{path} was written by {wrote}, whose journals harness {harness.__version__} does not read: nothing was done",
        f"run `harness heal` of {wrote}",
    )
