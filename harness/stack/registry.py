"""The stacks that `harness stack up` keeps up: one file each, read by every later run."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

import msgspec

from harness.model.errors import AdapterError, Gone, SetupError
from harness.model.paths import state_dir
from harness.model.records.faults import Dependency
from harness.model.records.stack import StackName, StackUp


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """since: UTC, ISO 8601. keeper: pid of the process that owns the servers, with its start time (seconds since
    the epoch), which tells it from a later process with the same pid, and the id of its boot (Linux), which nothing
    outlives. state: the keeper's folder.

    up: None while it is starting.
    """

    since: str
    keeper: int
    keeper_start: float
    boot: str | None = None
    state: str
    up: StackUp | None = None


def folder() -> Path:
    return state_dir() / "stacks"


def file(name: StackName = "embedded") -> Path:
    return folder() / f"{name}.json"


def write(kept: Kept, name: StackName = "embedded") -> None:
    """Record it: mode 0600, never seen half written. Raises SetupError."""
    try:
        folder().mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=folder())  # mode 0600
        with os.fdopen(handle, "wb") as out:
            out.write(msgspec.json.format(msgspec.json.encode(kept)) + b"\n")
            out.flush()
            os.fsync(out.fileno())
        Path(temporary).replace(file(name))
    except OSError as error:
        raise SetupError(f"cannot write {file(name)}: {error.strerror or error}") from error


def read(name: StackName = "embedded") -> Kept | None:
    """What is recorded, alive or not, with the pids that its keeper knows now: a server may have been started again.

    Raises SetupError for a file that is not ours or not readable.
    """
    kept = _recorded(name)
    if name != "embedded" or kept is None or kept.up is None or not keeper_alive(kept):
        return kept
    _learn_password(kept.state)
    return msgspec.structs.replace(kept, up=renewed(kept.up))


def _learn_password(keeper: str) -> None:
    """Have the password of its Valkey in this process's environment. Where its keeper does not tell it, whoever needs
    it says that it is missing."""
    from harness.adapters.keeper.client import KeeperClient
    from harness.stack.embedded import valkey

    with contextlib.suppress(AdapterError):
        valkey.learn_password(KeeperClient(keeper).input_of(valkey.NAME))


def renewed(up: StackUp) -> StackUp:
    """The same stack with its processes as their owners know them now: one that was killed was started again as
    another. As recorded where an owner does not answer or knows none."""
    from harness.adapters.keeper.client import KeeperClient
    from harness.adapters.keeper.starter import serving

    def pid_of(dependency: Dependency) -> int | None:
        with contextlib.suppress(AdapterError):
            if (found := serving(dependency)) is not None:
                return found.pid
        return dependency.process.pid

    keeper = next((one.process.keeper for one in up.dependencies if one.process.keeper is not None), None)
    proxy = None
    if keeper is not None:
        with contextlib.suppress(AdapterError):
            proxy = KeeperClient(keeper).status().servers.get("toxiproxy")
    dependencies = [
        one.but(
            process={"pid": pid_of(one)},
            proxy={"pid": proxy.pid if proxy is not None and one.proxy.pid is not None else one.proxy.pid},
        )
        for one in up.dependencies
    ]
    target = next((one.process.pid for one in dependencies if one.target), up.target.pid)
    return msgspec.structs.replace(
        up,
        dependencies=tuple(dependencies),
        target=msgspec.structs.replace(up.target, pid=target if up.target.pid is not None else None),
    )


def _recorded(name: StackName) -> Kept | None:
    path = file(name)
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


def forget(name: StackName = "embedded") -> None:
    file(name).unlink(missing_ok=True)


def running(name: StackName = "embedded") -> StackUp | None:
    """The stack that is up, for a run to use. None when there is none (or only what is left of a dead one).

    Raises SetupError when its keeper lives but one of its servers or containers does not, or it is still
    starting: a run on a stack of its own instead would hide that.
    """
    option = "" if name == "embedded" else f" --stack {name}"
    kept = read(name)
    if kept is None or not keeper_alive(kept):
        return None
    if kept.up is None:
        raise SetupError("the stack of `harness stack up` is not ready yet", hint=f"see: harness stack status{option}")
    if name == "compose":
        dead = ended_containers(kept.up)
    else:
        dead = [server for server, pid in pids(kept.up).items() if not _alive(pid)]
    if dead:
        raise SetupError(
            f"the stack of `harness stack up` is broken: {', '.join(dead)} ended",
            hint=f"harness stack down{option}; then, if you want it back: harness stack up{option}",
        )
    return kept.up


def keeper_alive(kept: Kept) -> bool:
    import psutil

    from harness.adapters.processes.identity import boot_id

    if kept.boot is not None and kept.boot != boot_id():
        return False
    try:
        process = psutil.Process(kept.keeper)
        # psutil rounds to clock ticks, and the boot time it adds may be corrected by a second.
        return abs(process.create_time() - kept.keeper_start) < 2.0 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def ended_containers(up: StackUp) -> list[str]:
    """Names of the services whose very container no longer runs. Raises AdapterError when the engine is away, Refused
    for one on another machine, where no compose stack of ours can be."""
    from harness.adapters.docker.engine import connect

    dead = []
    for dependency in up.dependencies:
        if dependency.container.engine is None or dependency.container.id is None:
            continue
        with connect(dependency.container.engine) as engine:
            try:
                if not engine.container(dependency.container.id).state.running:
                    dead.append(dependency.name)
            except Gone:
                dead.append(dependency.name)
    return dead


def pids(up: StackUp) -> dict[str, int]:
    """Server -> root of its process tree, in the order they are shown."""
    servers = {"redis": "valkey", "kafka": "kafka", "db": "postgres"}
    found: dict[str, int] = {}
    for dependency in up.dependencies:
        if dependency.proxy.pid is not None:
            found["toxiproxy"] = dependency.proxy.pid
        if dependency.process.pid is not None:
            found[servers.get(dependency.name, dependency.name)] = dependency.process.pid
    if up.target.pid is not None:
        found["api"] = up.target.pid
    return found


def _alive(pid: int) -> bool:
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
