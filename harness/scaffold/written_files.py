"""Files that `harness init` writes, compares and takes back: never over another file, and never one that was changed.

The first line of each holds the hash of all that follows it, so a file says by itself whether somebody has changed it.
One that can have no comments (JSON) has its hash in the head of harness.toml, which names the others as well. Names in
that head may come from a stranger: only files of this folder are looked at, and only what the hashes prove is removed.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from harness.model.errors import UsageError
from harness.model.files import open_regular, read_limited, replace_file
from harness.scaffold.one_line import joined

TOML = "harness.toml"
MAX_BYTES = 16_000_000
_MARK = "# Written by harness init. sha256 of what follows: "
_WITH = re.compile(r"# Written with it: (?P<name>[^\n]+?)(?: \(sha256 (?P<sha256>[0-9a-f]{64})\))?\n")
_HASH = re.compile(r"[0-9a-f]{64}")


class Removal(msgspec.Struct, frozen=True):
    """kept: name -> why."""

    removed: tuple[str, ...]
    kept: dict[str, str]


def write(folder: Path, texts: Mapping[str, str]) -> None:
    """Write all of these files or none. Names are relative to the folder. Raises UsageError; nothing is overwritten."""
    for name in texts:
        _check_inside(folder, name)
        if os.path.lexists(folder / name):
            raise _is_there(name)
    done: list[Path] = []
    try:
        for name, content in _contents(texts).items():
            with os.fdopen(
                os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), "wb"
            ) as file:
                done.append(folder / name)
                file.write(content.encode("utf-8"))
    except OSError as error:
        for path in done:
            with contextlib.suppress(OSError):
                path.unlink()
        if isinstance(error, FileExistsError):
            raise _is_there(name) from error
        raise UsageError(
            f"{name} cannot be written: {error.strerror or error}", hint="nothing was; --print prints it instead"
        ) from error


def differences(folder: Path, texts: Mapping[str, str]) -> str:
    """A unified diff from what is there to what would be written; "" where they are the same. Raises UsageError."""
    found = ""
    for name, text in texts.items():
        _check_inside(folder, name)
        try:
            there = read_limited(folder / name, MAX_BYTES).decode("utf-8", "replace")
        except FileNotFoundError:
            there = None
        old = [] if there is None else _bare(there).splitlines()
        lines = difflib.unified_diff(
            old, text.splitlines(), "/dev/null" if there is None else name, f"{name} (as init writes it)", lineterm=""
        )
        found += "".join(f"{line}\n" for line in lines)
    return found


def remove(folder: Path, usual: tuple[str, ...]) -> Removal:
    """Remove what init wrote here and nobody has changed since. usual: names that it gives. Raises UsageError."""
    listed: dict[str, str | None] = {}
    with contextlib.suppress(FileNotFoundError, UsageError):
        listed = _listed(_read(folder / TOML))
    removed: list[str] = []
    kept: dict[str, str] = {}
    # harness.toml last: it holds what the others are known by, should this be interrupted.
    for name in dict.fromkeys([*listed, *(each for each in usual if each != TOML), TOML]):
        try:
            _check_inside(folder, name)
            why = _why_kept(folder / name, name, listed)
        except UsageError as error:
            kept[name] = str(error)
            continue
        except FileNotFoundError:
            continue
        if why is None:
            try:
                (folder / name).unlink()
            except OSError as error:
                raise UsageError(f"{name} cannot be removed: {error.strerror or error}") from error
            removed.append(name)
        elif why:
            kept[name] = why
    return Removal(tuple(removed), kept)


def rewrite(path: Path, change: Callable[[str], str]) -> None:
    """Change a file that init wrote and nobody has changed since; it counts as such afterwards. Raises UsageError."""
    try:
        content = _read(path)
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file") from error
    if not _unchanged(content):
        raise UsageError(
            f"{path} is not as `harness init` wrote it, so it is left alone", hint="change it by hand: it is yours"
        )
    mode = path.stat().st_mode & 0o777
    try:
        replace_file(path, _marked(change(content.partition("\n")[2])).encode("utf-8"), mode=mode)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}") from error


def _why_kept(path: Path, name: str, listed: Mapping[str, str | None]) -> str | None:
    """None: it may be removed. "": it is none of init's, so nothing is said of it. Raises FileNotFoundError."""
    with open_regular(path, links=False) as file:
        if os.fstat(file.fileno()).st_uid != os.geteuid():
            return "it belongs to another user"
    content = _read(path)
    if _takes_comments(name):
        if _unchanged(content):
            return None
        if content.startswith(_MARK):
            return "it was changed since init wrote it"
        return "it does not say that init wrote it" if name in listed or name == TOML else ""
    if listed.get(name) is None:
        return "nothing says that init wrote it"
    # Its name is from a file that may be a stranger's: it must be one of those that init gives.
    ours = Path(name).name.startswith("harness.") and _sha256(content) == listed[name]
    return None if ours else "it was changed since init wrote it"


def _contents(texts: Mapping[str, str]) -> dict[str, str]:
    """What the files hold, with their marks. harness.toml is the first: what it names can be taken back however many
    of them were written."""
    others = {name: _marked(text) if _takes_comments(name) else text for name, text in texts.items() if name != TOML}
    if TOML not in texts:
        return others
    head = "".join(
        f"# Written with it: {name}{'' if _takes_comments(name) else f' (sha256 {_sha256(content)})'}\n"
        for name, content in others.items()
    )
    return {TOML: _marked(head + texts[TOML]), **others}


def _marked(text: str) -> str:
    return f"{_MARK}{_sha256(text)}\n{text}"


def _unchanged(content: str) -> bool:
    first, _, rest = content.partition("\n")
    return first == _MARK + _sha256(rest)


def _listed(content: str) -> dict[str, str | None]:
    """Name -> hash, of the files that the head of this harness.toml names."""
    found: dict[str, str | None] = {}
    if content.startswith(_MARK):
        at = content.index("\n") + 1 if "\n" in content else len(content)
        while (match := _WITH.match(content, at)) is not None:
            found[match["name"]] = match["sha256"]
            at = match.end()
    return found


def _bare(content: str) -> str:
    """Without what init adds at its head."""
    if not content.startswith(_MARK) or not _HASH.fullmatch(content.partition("\n")[0].removeprefix(_MARK)):
        return content
    rest = content.partition("\n")[2]
    while (match := _WITH.match(rest)) is not None:
        rest = rest[match.end() :]
    return rest


def _takes_comments(name: str) -> bool:
    return not name.endswith(".json")


def _read(path: Path) -> str:
    return read_limited(path, MAX_BYTES, links=False).decode("utf-8", "surrogateescape")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _check_inside(folder: Path, name: str) -> None:
    if joined([name]) != name or not (folder / name).parent.resolve().is_relative_to(folder.resolve()):
        raise UsageError(
            f"{name} is not in this folder, and init writes and removes nothing elsewhere",
            hint="go to the compose file's folder, or --print what belongs there",
        )


def _is_there(name: str) -> UsageError:
    return UsageError(
        f"{name} is there already, so nothing was written",
        hint="--diff shows what would differ, --print prints it, --remove takes back what init wrote",
    )
