"""The stack that `harness stack up` keeps up: one file, read by every later run."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import msgspec

from harness.model.errors import AdapterError, SetupError
from harness.model.paths import state_dir
from harness.model.stack import StackUp

HINT = "harness stack down; then, if you want it back: harness stack up"


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """since: UTC, ISO 8601. keeper: pid of the process that owns the servers, with its start time (seconds since
    the epoch), which tells it from a later process with the same pid. state: the keeper's folder.

    up: None while it is starting.
    """

    since: str
    keeper: int
    keeper_start: float
    state: str
    up: StackUp | None = None


def folder() -> Path:
    return state_dir() / "stacks"


def file() -> Path:
    return folder() / "embedded.json"


def write(kept: Kept) -> None:
    """Record it: mode 0600, never seen half written. Raises SetupError."""
    try:
        folder().mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".embedded.", dir=folder())  # mode 0600
        with os.fdopen(handle, "wb") as out:
            out.write(msgspec.json.format(msgspec.json.encode(kept)) + b"\n")
            out.flush()
            os.fsync(out.fileno())
        Path(temporary).replace(file())
    except OSError as error:
        raise SetupError(f"cannot write {file()}: {error.strerror or error}") from error


def read() -> Kept | None:
    """What is recorded, alive or not, with the pids that its keeper knows now: a server may have been started again.

    Raises SetupError for a file that is not ours or not readable.
    """
    kept = _recorded()
    if kept is None or kept.up is None or not keeper_alive(kept):
        return kept
    return msgspec.structs.replace(kept, up=renewed(kept.up, kept.state))


def renewed(up: StackUp, keeper: str) -> StackUp:
    """The same stack with its processes as they are now; as recorded where the keeper does not answer or knows none.

    keeper: the state folder of the keeper that owns the servers.
    """
    from harness.adapters.keeper import KeeperDoor

    try:
        now = KeeperDoor(keeper).status().servers
    except AdapterError:
        return up
    dependencies = []
    for dependency in up.dependencies:
        found = now.get(dependency.server or "")
        proxy = now.get("toxiproxy") if dependency.proxy_pid is not None else None
        dependency = msgspec.structs.replace(
            dependency,
            pid=found.pid if found is not None else dependency.pid,
            proxy_pid=proxy.pid if proxy is not None else dependency.proxy_pid,
        )
        dependencies.append(dependency)
    target = now.get("api")
    return msgspec.structs.replace(
        up,
        dependencies=tuple(dependencies),
        target=msgspec.structs.replace(up.target, pid=target.pid if target is not None else up.target.pid),
    )


def _recorded() -> Kept | None:
    path = file()
    try:
        status = path.lstat()
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise SetupError(f"{path} is not only yours to write", hint=f"look into it, then: rm {path}")
        return msgspec.json.decode(path.read_bytes(), type=Kept)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SetupError(f"cannot read {path}: {error.strerror or error}") from error
    except msgspec.MsgspecError as error:
        raise SetupError(f"{path} is damaged: {error}", hint=f"stop what it named, then: rm {path}") from error


def forget() -> None:
    file().unlink(missing_ok=True)


def running() -> StackUp | None:
    """The stack that is up, for a run to use. None when there is none (or only what is left of a dead one).

    Raises SetupError when its keeper lives but one of its servers does not, or it is still starting: a run on a
    stack of its own instead would hide that.
    """
    kept = read()
    if kept is None or not keeper_alive(kept):
        return None
    if kept.up is None:
        raise SetupError("the stack of `harness stack up` is not ready yet", hint="see: harness stack status")
    dead = [name for name, pid in pids(kept.up).items() if not _alive(pid)]
    if dead:
        raise SetupError(f"the stack of `harness stack up` is broken: {', '.join(dead)} ended", hint=HINT)
    return kept.up


def keeper_alive(kept: Kept) -> bool:
    import psutil

    try:
        process = psutil.Process(kept.keeper)
        # psutil rounds to clock ticks, and the boot time it adds may be corrected by a second.
        return abs(process.create_time() - kept.keeper_start) < 2.0 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def pids(up: StackUp) -> dict[str, int]:
    """Server -> root of its process tree, in the order they are shown."""
    servers = {"redis": "valkey", "kafka": "kafka", "db": "postgres"}
    found: dict[str, int] = {}
    for dependency in up.dependencies:
        if dependency.proxy_pid is not None:
            found["toxiproxy"] = dependency.proxy_pid
        if dependency.pid is not None:
            found[servers.get(dependency.name, dependency.name)] = dependency.pid
    if up.target.pid is not None:
        found["api"] = up.target.pid
    return found


def _alive(pid: int) -> bool:
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
