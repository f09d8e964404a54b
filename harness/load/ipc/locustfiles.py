"""Which files a `--locustfile` is, as Locust's own `-f` takes it: a file, a folder, or several with commas."""

from __future__ import annotations

import hashlib
from pathlib import Path

from harness.model.errors import UsageError


def files_of(text: str) -> tuple[Path, ...]:
    """In the order given; of a folder every .py file below it whose name begins with no underscore, by path.

    Raises UsageError for what is not there.
    """
    if Path(text).is_file():  # a comma may be part of its name
        return (Path(text).resolve(),)
    found = [file for part in text.split(",") for file in _files(part.strip())]
    return tuple(dict.fromkeys(found))


def joined(files: tuple[Path, ...]) -> str:
    """As `files_of` reads it."""
    return ",".join(map(str, files))


def digest(files: tuple[Path, ...]) -> str:
    """SHA-256 of what is in them."""
    if len(files) == 1:
        return hashlib.sha256(files[0].read_bytes()).hexdigest()
    each = "".join(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
    return hashlib.sha256(each.encode()).hexdigest()


def _files(text: str) -> list[Path]:
    file = Path(text)
    if text.startswith(("http:/", "https:/")):
        raise UsageError(
            f"{text}: an address, and files are needed", hint="download it, and read it first", field="locustfile"
        )
    if not text or not file.exists():
        raise UsageError(f"{text or 'an empty name'}: no such file", field="locustfile")
    if file.is_file():
        return [file.resolve()]
    if not file.is_dir():
        raise UsageError(f"{text}: no file, but a device or a pipe", field="locustfile")
    inside = sorted(one.resolve() for one in file.rglob("*.py") if one.is_file() and not one.name.startswith("_"))
    if not inside:
        raise UsageError(f"{text}: no Locust file is in this folder", field="locustfile")
    return inside
