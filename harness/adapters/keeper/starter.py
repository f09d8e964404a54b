"""Which process serves a dependency now, and starting it again by whoever may.

The owner knows: the keeper of the stack, or the file in which the process writes its pid. What is started by a
harness.toml's command is not ours afterwards: it belongs to nobody that could take it along when it ends.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.adapters.keeper.client import KeeperClient
from harness.adapters.processes.identity import ProcessId, look
from harness.adapters.processes.pid_file import running_now
from harness.adapters.processes.start_command import StartCommand, start_command
from harness.model.errors import Gone, Rejected, Unreachable, UsageError
from harness.model.records.faults import Dependency

SPAWN_LIMIT_S = 30.0
_DETACH = str(Path(__file__).with_name("detach.py"))
_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37
_spawning = threading.Lock()


def serving(dependency: Dependency) -> ProcessId | None:
    """The first process of the server as its owner knows it now; None when it does not run. Raises AdapterError."""
    if dependency.process.keeper is not None and dependency.process.server is not None:
        try:
            return KeeperClient(dependency.process.keeper).status().servers.get(dependency.process.server)
        except Gone:
            return None
    if dependency.process.pid_file is not None:
        return running_now(dependency.process.pid_file)
    seen = look(dependency.process.pid) if dependency.process.pid is not None else None
    return seen.id if seen is not None and not seen.zombie else None


def may_start(dependency: Dependency) -> str | None:
    """None when it could be started again, else why not: one clause. Starts nothing."""
    if dependency.process.keeper is not None and dependency.process.server is not None:
        try:
            return None if KeeperClient(dependency.process.keeper).status().serving else "its stack is being taken down"
        except (Gone, Unreachable, Rejected) as error:
            return str(error)
    if dependency.process.start_config is None or dependency.process.start_sha256 is None:
        return "no start command is declared for it"
    try:
        start_command(dependency.process.start_config, dependency.process.start_sha256, dependency.name)
    except UsageError as error:
        return f"{error} ({error.hint})" if error.hint else str(error)
    return None


def start(dependency: Dependency) -> None:
    """Start it again. Returns when it runs, not yet ready.

    Raises Rejected when nobody may start it or it cannot be started, Gone when its keeper is dead, Unreachable or
    OutcomeUnknown when the keeper does not answer.
    """
    if dependency.process.keeper is not None and dependency.process.server is not None:
        KeeperClient(dependency.process.keeper).restart(dependency.process.server)
        return
    if dependency.process.start_config is None or dependency.process.start_sha256 is None:
        raise Rejected(f"no start command is declared for {dependency.name}")
    try:
        command = start_command(dependency.process.start_config, dependency.process.start_sha256, dependency.name)
    except UsageError as error:
        raise Rejected(str(error), hint=error.hint) from error
    spawn_detached(command)


def spawn_detached(command: StartCommand) -> None:
    """Run a command that outlives this process and all of its family. Raises Rejected when it cannot be started."""
    # The environment is the harness's own: what a server needs from it (a password) is not written down anywhere.
    env = {name: value for name, value in os.environ.items() if not name.startswith("RESILIENCE_HARNESS_")}
    order = {"argv": list(command.argv), "cwd": command.cwd, "log": command.log, "env": env}
    try:
        with _spawning, _orphans_go_to_init():
            done = subprocess.run(
                [sys.executable, "-I", "-S", _DETACH],
                input=json.dumps(order).encode(),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=SPAWN_LIMIT_S,
                check=False,
            )
    except (OSError, subprocess.SubprocessError) as error:
        raise Rejected(f"{command.argv[0]} could not be started: {error}") from error
    if done.returncode != 0 or done.stdout:
        problem = done.stdout.decode("utf-8", "replace") or f"exit code {done.returncode}"
        raise Rejected(f"{command.argv[0]} could not be started in {command.cwd}: {problem}")


@contextmanager
def _orphans_go_to_init() -> Iterator[None]:
    """A keeper adopts the orphans of its servers and ends them with itself; the user's server is to be spared that."""
    if sys.platform != "linux":
        yield
        return
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    adopts = ctypes.c_int(0)
    libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(adopts), 0, 0, 0)
    if adopts.value:
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    try:
        yield
    finally:
        if adopts.value:
            libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
