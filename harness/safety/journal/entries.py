"""What stands in journal.jsonl (written by the run) and keeper.jsonl (written by the keeper and by `heal`).

One JSON object a line; the tag is the field `entry`. Every line ends with its checksum, the CRC-32 of the object
without it: `{..., "crc": "0f1e2d3c"}`. `at` is wall time, UTC; `boot_s` is CLOCK_BOOTTIME in seconds.
"""

from __future__ import annotations

import json
import time
import zlib
from typing import Any, Literal

import msgspec

from harness.adapters.keeper.protocol import KeeperOpened
from harness.adapters.processes.family import Root
from harness.adapters.processes.identity import ProcessId
from harness.model.clock import wall
from harness.model.records.faults import UndoRecord

Action = Literal["inject", "undo"]


def boottime() -> float:
    """Seconds on CLOCK_BOOTTIME, which goes on in a suspend; CLOCK_MONOTONIC where there is none (macOS)."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class _Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="entry"):
    at: str = msgspec.field(default_factory=wall)


class Opened(_Entry, frozen=True, kw_only=True, omit_defaults=True, tag="opened"):
    """First line of the run's journal. run_dir: where both files are copied to at the end.

    allowed: hosts that undo may reach besides loopback. version, harness: see version.py.
    """

    run: ProcessId
    host: str
    owner: str
    run_dir: str | None = None
    allowed: tuple[str, ...] = ()
    version: int = 0
    harness: str = ""


class Recorded(_Entry, frozen=True, kw_only=True, omit_defaults=True, tag="record"):
    record: UndoRecord


class Intent(_Entry, frozen=True, kw_only=True, omit_defaults=True, tag="intent"):
    """About to inject or undo."""

    id: str
    action: Action
    boot_s: float


class Outcome(_Entry, frozen=True, kw_only=True, omit_defaults=True, tag="outcome"):
    """How it went. state: injected, not_injected (provably nothing was changed), verified, moot, unverified."""

    id: str
    state: str
    left: str | None = None
    mend: str | None = None


class Process(_Entry, frozen=True, kw_only=True, omit_defaults=True, tag="process"):
    """A process that must not outlive the run. server: started by the keeper (False: by the run, as the load)."""

    root: Root
    server: bool = False


class ProcessGone(_Entry, frozen=True, kw_only=True, omit_defaults=True, tag="process_gone"):
    """It and everything it started has ended. code: its exit status, negative = signal, None = unknown."""

    name: str
    pid: int
    code: int | None = None


class Folder(_Entry, frozen=True, kw_only=True, omit_defaults=True, tag="folder"):
    """A private temporary folder, removed after the servers have stopped. device and inode say which one."""

    path: str
    device: int
    inode: int


class FolderGone(_Entry, frozen=True, kw_only=True, omit_defaults=True, tag="folder_gone"):
    path: str


class Project(_Entry, frozen=True, kw_only=True, omit_defaults=True, tag="project"):
    """A Docker Compose project that is about to be made on this engine: all that carries its label is removed.

    It did not exist when this was written.
    """

    engine: str
    project: str


class ProjectGone(_Entry, frozen=True, kw_only=True, omit_defaults=True, tag="project_gone"):
    engine: str
    project: str


class ProxyLock(msgspec.Struct, frozen=True):
    """The lock of a Toxiproxy: its API's URL, and the words that make it this run's lock."""

    url: str
    text: str


class Locking(_Entry, frozen=True, kw_only=True, omit_defaults=True, tag="locking"):
    """About to lock a Toxiproxy that others may use too; whoever heals removes that lock, last of all."""

    lock: ProxyLock


class Unlocked(_Entry, frozen=True, kw_only=True, omit_defaults=True, tag="unlocked"):
    """That lock is gone, or was never made."""

    lock: ProxyLock


class Healing(_Entry, frozen=True, kw_only=True, omit_defaults=True, tag="healing"):
    """Healing begins: why."""

    why: str


class Closed(_Entry, frozen=True, kw_only=True, omit_defaults=True, tag="closed"):
    """The end. clean: nothing is left."""

    clean: bool = True
    left: tuple[str, ...] = ()


Entry = (
    Opened
    | Recorded
    | Intent
    | Outcome
    | Process
    | ProcessGone
    | Folder
    | FolderGone
    | Project
    | ProjectGone
    | Locking
    | Unlocked
    | KeeperOpened
    | Healing
    | Closed
)

_decoder: msgspec.json.Decoder[Entry] = msgspec.json.Decoder(Entry)
_CRC = b',"crc":"%08x"}'
_CRC_LENGTH = len(_CRC % 0)


def encode(entry: Entry) -> bytes:
    """One line with its checksum, newline included."""
    try:
        body = msgspec.json.encode(entry)
    except UnicodeEncodeError:  # an operating system's file names need not be text; what is written always is
        body = json.dumps(_text(msgspec.to_builtins(entry)), separators=(",", ":")).encode()
    return body[:-1] + _CRC % zlib.crc32(body) + b"\n"


def decode(line: bytes) -> Entry:
    """The opposite, without the newline. Raises ValueError when checksum or content are wrong.

    A checksum shows damage, not good will: a number that can be no process is refused here, since a pid of 0 or -1
    would mean whole groups of processes to the kernel.
    """
    body = intact(line)
    if body is None:
        raise ValueError("wrong checksum")
    try:
        entry = _decoder.decode(body)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(str(error)) from error
    for process in _processes(entry):
        if not 1 < process.pid < 2**31:
            raise ValueError(f"{process.pid} is no pid")
    return entry


def intact(line: bytes) -> bytes | None:
    """The line without its checksum; None when that is wrong."""
    body = line[:-_CRC_LENGTH] + b"}"
    return body if line[-_CRC_LENGTH:] == _CRC % zlib.crc32(body) else None


def _processes(entry: Entry) -> tuple[ProcessId, ...]:
    match entry:
        case Process(root=root):
            return (root.process,)
        case Opened(run=run):
            return (run,)
        case KeeperOpened(keeper=keeper, run=run):
            return (keeper,) if run is None else (keeper, run)
        case _:
            return ()


def _text(value: Any) -> Any:
    """JSON with every string made text: what is not becomes `\\udcff`, spelt out."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_text(key): _text(item) for key, item in value.items()}
    return [_text(item) for item in value] if isinstance(value, (list, tuple)) else value
