"""Start, command and watch the load process. Imports neither locust nor gevent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

import msgspec
import psutil

from harness.load.ipc.locustfiles import files_of
from harness.load.ipc.protocol import Command, Described, Drained, Failed, LoadMessage, Start, Wanted
from harness.load.ipc.try_protocol import Tried, TryStart
from harness.model.errors import LoadError, UsageError
from harness.model.jsonl import encode_line
from harness.model.records.load import LoadPlan, Locustfile

# -P: a folder named harness in the working directory must not shadow the package; -u: what a locustfile prints
# reaches the log even when the process is killed.
_MODULE = ("-P", "-u", "-m", "harness.load")


def describe(
    path: str | Path,
    *,
    locust_args: tuple[str, ...] = (),
    tags: tuple[str, ...] = (),
    exclude_tags: tuple[str, ...] = (),
    python: str = sys.executable,
    timeout_s: float = 30.0,
) -> Locustfile:
    """Import Locust files in a child process and say what is in them. path: as `--locustfile` takes it.

    Raises UsageError with one line when one does not exist, does not import (with its own exception and line
    number), when there is no user class, or two of the same name, or it takes longer than timeout_s.
    """
    file = str(path)
    files = tuple(map(str, files_of(file)))
    wanted = Wanted(files=files, locust_args=locust_args, tags=tags, exclude_tags=exclude_tags)
    child = subprocess.Popen(
        [python, *_MODULE, "describe", msgspec.json.encode(wanted).decode()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        out, err = child.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise UsageError(
            f"locustfile {file}: did not finish importing within {timeout_s:g} s",
            hint="a locustfile should only define classes when it is imported; move work into test_start or on_start",
        ) from None
    finally:
        _kill_group(child)
        for stream in (child.stdout, child.stderr):
            if stream is not None:
                stream.close()
    try:
        described = msgspec.json.decode(out.strip().rpartition(b"\n")[2], type=Described)
    except msgspec.MsgspecError:
        last = err.decode(errors="replace").strip().rpartition("\n")[2]
        raise UsageError(
            f"locustfile {file}: importing it ended the process (exit code {child.returncode})"
            + (f": {last}" if last else "")
        ) from None
    if described.locustfile is None:
        last = err.decode(errors="replace").strip().rpartition("\n")[2] if described.exited else ""
        raise UsageError(f"locustfile {described.error}" + (f": {last}" if last else ""))
    return described.locustfile


def try_requests(plan: LoadPlan, *, every: bool = False, timeout_s: float = 60.0) -> Tried:
    """Each request of the mix once or a few times, sent by a child process that ends with this one; see
    before_load/try_requests.py. Raises LoadError when it did not come to an end."""
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(
            [sys.executable, *_MODULE, "try-requests"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
        assert child.stdin is not None and child.stdout is not None
        timer = threading.Timer(timeout_s, _kill_group, [child])
        timer.start()
        try:
            # Its stdin stays open: its end is the child's.
            child.stdin.write(encode_line(TryStart(plan=plan, every=every)))
            child.stdin.flush()
            return msgspec.json.decode(child.stdout.readline(), type=Tried)
        except (OSError, msgspec.MsgspecError):
            child.wait()
            log.seek(0)
            last = log.read().decode(errors="replace").strip().rpartition("\n")[2][-300:]
            raise LoadError("trying the requests ended early" + (f": {last}" if last else "")) from None
        finally:
            timer.cancel()
            _kill_group(child)
            for pipe in (child.stdin, child.stdout):
                with suppress(OSError):
                    pipe.close()


class LoadProcess:
    """A running load process, in its own session. Made by `start`; all methods are thread-safe.

    pid: of the load process. start_time: psutil's create_time, which guards against pid reuse.
    """

    def __init__(
        self,
        popen: subprocess.Popen[bytes],
        start_time: float,
        on_message: Callable[[LoadMessage], None],
        on_exit: Callable[[int], None],
    ) -> None:
        self._popen = popen
        self.pid = popen.pid
        self.start_time = start_time
        self._on_message = on_message
        self._on_exit = on_exit
        self._writing = threading.Lock()
        self._stdin = popen.stdin
        self._ended_well = False
        self._reader = threading.Thread(target=self._read, name="load-messages", daemon=True)

    @classmethod
    def start(
        cls,
        plan: LoadPlan,
        *,
        windows: Path,
        log: Path,
        on_message: Callable[[LoadMessage], None],
        on_exit: Callable[[int], None],
    ) -> LoadProcess:
        """Start it; `Ready` (or `Failed`) arrives later as a message.

        on_message and on_exit are called from a reader thread; on_exit once, last, with the exit code (0 after
        `Drained`; negative: signal). Raises LoadError when the process cannot be started.
        """
        windows.parent.mkdir(parents=True, exist_ok=True)
        log.parent.mkdir(parents=True, exist_ok=True)
        try:
            with log.open("ab") as log_file:
                popen = subprocess.Popen(
                    [sys.executable, *_MODULE],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log_file,
                    start_new_session=True,
                    close_fds=True,
                )
        except OSError as error:
            raise LoadError(f"the load process could not be started: {error}") from error
        try:
            start_time = psutil.Process(popen.pid).create_time()
        except psutil.Error:
            start_time = 0.0
        process = cls(popen, start_time, on_message, on_exit)
        process._reader.start()
        process.send(Start(plan=plan, windows=str(windows.resolve())))
        return process

    def send(self, command: Command) -> None:
        """Not of a load that has died: that is reported by on_exit, not by whoever happens to speak to it next.

        After Stop come the drain, the message Drained and exit 0; a second Stop before that replaces the first.
        """
        with self._writing, suppress(OSError, ValueError):
            if self._stdin is not None:
                self._stdin.write(encode_line(command))
                self._stdin.flush()

    def kill(self) -> None:
        """End it and its local workers now. Does nothing when it has ended."""
        _kill_group(self._popen)
        self._close_stdin()

    def wait(self, timeout_s: float | None = None) -> int | None:
        """The exit code once on_exit has returned; None when that takes longer than timeout_s."""
        self._reader.join(timeout_s)
        return None if self._reader.is_alive() else self._popen.returncode

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    def _close_stdin(self) -> None:
        with self._writing, suppress(OSError):
            if self._stdin is not None:
                self._stdin.close()
                self._stdin = None

    def _read(self) -> None:
        out = self._popen.stdout
        assert out is not None
        try:
            self._read_messages(out)
        finally:
            code = self._popen.wait()
            # The load leads its own session: workers that it left behind go with it.
            _kill_group(self._popen)
            self._close_stdin()
            out.close()
            self._on_exit(code)

    def _read_messages(self, out: IO[bytes]) -> None:
        decoder = msgspec.json.Decoder(LoadMessage)
        for line in out:
            try:
                message: LoadMessage = decoder.decode(line)
            except msgspec.MsgspecError:
                message = Failed(text=f"the load process said something unknown: {line[:200]!r}")
            self._ended_well = self._ended_well or isinstance(message, Drained)
            self._on_message(message)


def _kill_group(child: subprocess.Popen[bytes]) -> None:
    """SIGKILL the child's whole session group, then reap the child."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        child.wait(5)
