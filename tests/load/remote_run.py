"""Real `harness worker` processes for a run of load_run.Run."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
from load_run import Run, make_plan

from harness.load.ipc.keys import WorkerKey, make_keys, write_key_file
from harness.load.ipc.protocol import Warned
from harness.model.records.load import LoadPlan, Remote
from tests.support.servers.ports import free_port

HARNESS = Path(sys.executable).parent / "harness"


def remote_plan(
    file: Path,
    url: str,
    *,
    remote: int = 1,
    local: int = 0,
    wait_s: float = 60.0,
    bind: str = "127.0.0.1",
    **changes: Any,
) -> LoadPlan:
    """A plan whose last `remote` workers come from elsewhere; the port is a free one."""
    import hashlib

    plan = make_plan(file, url, workers=remote + local, **changes)
    return msgspec.structs.replace(
        plan,
        remote=Remote(workers=remote, bind_host=bind, port=free_port(), wait_s=wait_s),
        locustfile_sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
    )


def key_of(folder: Path, number: int, limit_s: float = 60.0) -> Path:
    """A copy of the key that the run in that folder writes for this worker: the run takes its own away."""
    theirs = folder / "keys" / f"w{number}.key"
    deadline = time.monotonic() + limit_s
    while True:
        with contextlib.suppress(FileNotFoundError, msgspec.MsgspecError):
            key = msgspec.json.decode(theirs.read_bytes(), type=WorkerKey)
            break
        assert time.monotonic() < deadline, f"the run wrote no {theirs}"
        time.sleep(0.02)
    mine = folder / f"copied-w{number}-{time.monotonic_ns()}.key"
    write_key_file(mine, key)
    return mine


def key_of_no_run(folder: Path) -> Path:
    path = folder / "some.key"
    write_key_file(path, make_keys(1)[1][0])
    return path


class Worker:
    """One `harness worker`. prefix: a command to run it under. number: of the load worker whose key it gets, the first
    remote one by default, from the run in the same folder; key: another file. Use as a context manager: nothing is left
    behind.
    """

    def __init__(
        self,
        plan: LoadPlan,
        folder: Path,
        *options: str,
        host: str = "127.0.0.1",
        file: Path | None = None,
        prefix: tuple[str, ...] = (),
        env: dict[str, str] | None = None,
        number: int | None = None,
        key: Path | None = None,
    ) -> None:
        assert plan.remote is not None
        self.key = key or key_of(folder, plan.local_workers if number is None else number)
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / f"worker-{time.monotonic_ns()}.log"
        command = [str(HARNESS), "worker", "--master-host", host, "--master-port", str(plan.remote.port)]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *prefix,
                    *command,
                    "--key-file",
                    str(self.key),
                    "--locustfile",
                    str(file or plan.locustfile),
                    *options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **(env or {})},
            )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    @property
    def text(self) -> str:
        return self._log.read_text(errors="replace")

    def end(self, limit_s: float = 60.0) -> int:
        """Its exit code."""
        try:
            return self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the worker did not end within {limit_s:g} s:\n{self.text[-3000:]}") from None

    def wait_text(self, what: str, limit_s: float = 60.0) -> None:
        deadline = time.monotonic() + limit_s
        while what not in self.text:
            assert self.process.poll() is None or what in self.text, self.text
            assert time.monotonic() < deadline, f"not within {limit_s:g} s: {what!r}\n{self.text[-3000:]}"
            time.sleep(0.02)


def warned(run: Run, words: str, limit_s: float = 60.0) -> str:
    """The first warning of the load with these words in it."""

    def look() -> str | None:
        return next((m.text for m in run.messages if isinstance(m, Warned) and words in m.text), None)

    return str(run.wait(look, limit_s))
