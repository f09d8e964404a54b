"""The processes a keeper owns: started, watched, stopped with everything they started, their folders removed.

A generic launcher: it knows argv, environment, directory, user and log file, nothing about any server.
"""

from __future__ import annotations

import marshal
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from harness.adapters.processes.family import MARKER, Root, ask_family, members, stop_family
from harness.adapters.processes.identity import ProcessId, descendants, identify, link, table, wait_gone
from harness.adapters.processes.identity import send as send_signal
from harness.model.errors import HarnessError, Refused, SetupError
from harness.model.records.process import ServerProcess, ServerSpec
from harness.safety.healing.compose_projects import Projects
from harness.safety.journal.entries import Entry, Folder, FolderGone, Process, ProcessGone
from harness.safety.journal.folders import describe, remove

EXEC_LIMIT_S = 30.0
PIPE_BYTES = 4096
"""What every system's pipe takes without a reader."""
_WRAPPER = str(Path(__file__).with_name("exec_server.py"))

Fork = Callable[[Callable[[], Any]], Any]
"""Runs a function on the keeper's main thread and returns its result: the parent-death signal wants that."""


class _Owned:
    def __init__(self, root: Root, spec: ServerSpec | None, child: subprocess.Popen[bytes] | None) -> None:
        self.root = root
        self.spec = spec
        self.child = child
        self.gone = False


class Servers:
    """Thread-safe. write: appends to keeper.jsonl, raises OSError. say: the keeper's log."""

    def __init__(
        self, token: str, *, write: Callable[[Entry], None], say: Callable[[str], None], on_main: Fork
    ) -> None:
        self._token = token
        self._write = write
        self._say = say
        self._on_main = on_main
        self._mutex = threading.RLock()
        self._owned: dict[str, _Owned] = {}
        self._folders: list[Folder] = []
        self._count = 0
        self.projects = Projects(write, say)
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    # -- starting

    def launch(self, spec: ServerSpec) -> ServerProcess:
        """Start it. Raises SetupError with the end of the log when exec fails, Refused when the name is taken."""
        if not spec.argv or not hasattr(signal, spec.stop_signal):
            raise Refused(f"{spec.name}: no command, or no signal called {spec.stop_signal}")
        with self._mutex:
            old = self._owned.get(spec.name)
            if old is not None and not old.gone and self.exit_code(spec.name) is None:
                raise Refused(f"a server called {spec.name} is already running (pid {old.root.process.pid})")
            if old is not None and not old.gone:
                self.stop(spec.name)
            self._count += 1
            marker = f"{self._token}/{spec.name}/{self._count}"
        child, process, answer = self._fork(spec, marker)
        try:
            problem = _read_answer(answer)
        finally:
            os.close(answer)
        if problem is not None or process is None:
            child.kill()
            child.wait()
            raise SetupError(f"{spec.name}: cannot start {spec.argv[0]}: {problem}{_tail(spec.log)}")
        root = Root(name=spec.name, process=process, cwd=spec.cwd, exe=link(child.pid, "exe"), marker=marker)
        with self._mutex:
            self._owned[spec.name] = _Owned(root, spec, child)
        try:
            self._journal(Process(root=root, server=True), spec.name)
        except SetupError:
            self.stop(spec.name)
            raise
        self._say(f"started {spec.name}, pid {child.pid}")
        return ServerProcess(name=spec.name, pid=child.pid, start_time=process.start_time)

    def _fork(self, spec: ServerSpec, marker: str) -> tuple[subprocess.Popen[bytes], ProcessId | None, int]:
        """Fork the wrapper; returns the child, its identity, and the descriptor on which it reports an error."""
        user = _user(spec)
        order_in, order_out = os.pipe()
        answer_in, answer_out = os.pipe()
        try:
            try:
                Path(spec.log).parent.mkdir(parents=True, exist_ok=True)
                log: IO[bytes] = Path(spec.log).open("ab")  # noqa: SIM115 - closed right after the fork
            except OSError as error:
                raise SetupError(f"{spec.name}: cannot write its log {spec.log}: {error.strerror}") from error
            order = {
                "argv": list(spec.argv),
                "env": {**spec.env, MARKER: marker},
                "cwd": spec.cwd,
                "keeper": os.getpid(),
                **user,
            }

            def fork() -> tuple[subprocess.Popen[bytes], ProcessId | None]:
                with log, _standard_input(spec) as stdin:
                    child = subprocess.Popen(
                        [sys.executable, "-I", "-S", _WRAPPER, str(order_in), str(answer_out)],
                        stdin=stdin,
                        stdout=log,
                        stderr=log,
                        env={},
                        cwd="/",
                        pass_fds=(order_in, answer_out),
                    )
                self._children[child.pid] = child
                # Here, because even a child that ends at once is not collected before this thread comes to it.
                return child, identify(child.pid)

            child, process = self._on_main(fork)
            # Our copies of its ends: while we held them, a dead wrapper would look like a silent one.
            os.close(order_in)
            os.close(answer_out)
            order_in = answer_out = -1
            try:
                with os.fdopen(order_out, "wb") as file:
                    order_out = -1
                    marshal.dump(order, file)
            except BrokenPipeError:
                pass  # it died already; what it had to say is on the other pipe
            return child, process, os.dup(answer_in)
        except OSError as error:
            raise SetupError(f"{spec.name}: cannot start a process: {error.strerror or error}") from error
        finally:
            for fd in (order_in, order_out, answer_in, answer_out):
                if fd >= 0:
                    os.close(fd)

    def adopt(self, name: str, pid: int, start_time: float) -> None:
        """A process the run started itself; it is ended with the rest. One that is gone already is no error."""
        process = identify(pid, start_time)
        if process is None:
            return
        root = Root(name=name, process=process)
        with self._mutex:
            self._owned[name] = _Owned(root, None, None)
        self._journal(Process(root=root), name)

    def remove_at_end(self, path: str) -> None:
        """Raises Refused when it cannot be a temporary folder of ours, SetupError when it cannot be journaled."""
        folder = describe(path)
        self._journal(folder, path)
        with self._mutex:
            self._folders.append(folder)

    # -- looking

    def input_of(self, name: str) -> str | None:
        """Raises Refused when there is no such server."""
        spec = self._get(name).spec
        return spec.stdin if spec is not None else None

    def roots(self) -> list[Root]:
        with self._mutex:
            return [owned.root for owned in self._owned.values() if not owned.gone]

    def running(self) -> list[ServerProcess]:
        """The servers (not what was adopted) that have not been stopped."""
        with self._mutex:
            return [
                ServerProcess(name=name, pid=owned.root.process.pid, start_time=owned.root.process.start_time)
                for name, owned in self._owned.items()
                if owned.spec is not None and not owned.gone
            ]

    def exit_code(self, name: str) -> int | None:
        """None while it runs; negative = ended by that signal. Raises Refused for an unknown name."""
        owned = self._get(name)
        return owned.child.poll() if owned.child is not None else None

    def reap(self) -> None:
        """Collect what has ended, orphans of servers too (the keeper is their reaper). Main thread only: there the
        forks happen too, so no child is unknown here."""
        for pid, child in list(self._children.items()):
            if child.poll() is not None:
                del self._children[pid]
        while sys.platform == "linux":
            try:
                dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if dead is None:
                    return
                if (known := self._children.pop(dead.si_pid, None)) is not None:
                    known.poll()
                else:
                    os.waitpid(dead.si_pid, os.WNOHANG)
            except ChildProcessError:
                return

    # -- ending

    def stop(self, name: str, known: Iterable[ProcessId] = ()) -> bool:
        """Stop it and everything it started; returns when gone. True when SIGKILL was needed.

        A name that was never started is gone already. Raises SetupError when something outlives SIGKILL.
        """
        with self._mutex:
            owned = self._owned.get(name)
        if owned is None or owned.gone:
            return False
        number = int(getattr(signal, owned.spec.stop_signal)) if owned.spec is not None else None
        grace = owned.spec.stop_grace_s if owned.spec is not None else 0.0
        others = [root for root in self.roots() if root.process != owned.root.process]
        try:
            hard = stop_family(
                owned.root,
                number=number,
                grace_s=grace,
                others=others,
                private=[folder.path for folder in self._folders],
                known=known,
            )
        except TimeoutError as error:
            raise SetupError(str(error)) from error
        owned.gone = True
        self._note(ProcessGone(name=name, pid=owned.root.process.pid, code=self.exit_code(name)))
        self._say(f"stopped {name}" + (" with SIGKILL" if hard else ""))
        return hard

    def restart(self, name: str) -> ServerProcess:
        """Stop it and start it again as it was."""
        owned = self._get(name)
        if owned.spec is None:
            raise Refused(f"{name} was not started here")
        self.stop(name)
        return self.launch(owned.spec)

    def end(self) -> tuple[list[str], list[str], list[str]]:
        """Stop everything, newest first but all at once, and remove the folders.

        Returns what was stopped, which of it needed SIGKILL, and sentences for what is left. Never raises.
        """
        with self._mutex:
            todo = [(name, owned) for name, owned in self._owned.items() if not owned.gone][::-1]
        seen = {name: members(owned.root) for name, owned in todo}
        for _, owned in todo:
            if owned.spec is not None:
                ask_family(owned.root, int(getattr(signal, owned.spec.stop_signal)), others=())
        stopped: list[str] = []
        hard: list[str] = []
        left: list[str] = []

        def stop(name: str) -> None:
            try:
                if self.stop(name, seen[name]):
                    hard.append(name)
                stopped.append(name)
            except HarnessError as error:
                left.append(str(error))
            except Exception as error:
                left.append(f"{name} could not be stopped: {error}")

        threads = [threading.Thread(target=stop, args=(name,)) for name, _ in todo]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        left += self._end_strays()
        removed, still = self.projects.end()  # after the process that makes one
        left += still
        with self._mutex:
            folders, self._folders = self._folders, []
        for folder in folders:
            problem = remove(folder)
            if problem is not None:
                left.append(problem)
            else:
                self._note(FolderGone(path=folder.path))
        order = [name for name, _ in todo]
        return sorted(stopped, key=order.index) + removed, sorted(hard, key=order.index), left

    def _end_strays(self) -> list[str]:
        """Whatever still descends from the keeper got away from every server: end it."""
        end = time.monotonic() + 5.0
        while True:
            rows = table()
            strays: list[ProcessId] = [rows[pid].id for pid in descendants([os.getpid()], rows) if not rows[pid].zombie]
            if not strays:
                return []
            if time.monotonic() > end:
                return ["still running: pid " + ", ".join(str(process.pid) for process in strays)]
            for process in strays:
                try:
                    send_signal(process, signal.SIGKILL)
                except PermissionError:
                    pass
            wait_gone(strays, 0.5)

    def _get(self, name: str) -> _Owned:
        with self._mutex:
            owned = self._owned.get(name)
        if owned is None:
            raise Refused(f"there is no server called {name} here")
        return owned

    def _journal(self, entry: Entry, what: str) -> None:
        try:
            self._write(entry)
        except OSError as error:
            raise SetupError(f"{what}: cannot be journaled: {error.strerror or error}") from error

    def _note(self, entry: Entry) -> None:
        try:
            self._write(entry)
        except OSError as error:
            self._say(f"cannot write to the journal: {error}")


@contextmanager
def _standard_input(spec: ServerSpec) -> Iterator[int]:
    """What the server reads as its standard input: its text, which fits into a pipe, or nothing."""
    if spec.stdin is None:
        yield subprocess.DEVNULL
        return
    reading, writing = os.pipe()
    try:
        with os.fdopen(writing, "wb") as file:
            file.write(spec.stdin.encode()[:PIPE_BYTES])
        yield reading
    finally:
        os.close(reading)


def _user(spec: ServerSpec) -> dict[str, Any]:
    if spec.user is None:
        return {"uid": None, "gid": None, "groups": None}
    import pwd

    try:
        entry = pwd.getpwnam(spec.user)
    except KeyError:
        raise SetupError(f"{spec.name}: there is no user {spec.user} on this machine") from None
    groups = os.getgrouplist(spec.user, entry.pw_gid)
    return {"uid": entry.pw_uid, "gid": entry.pw_gid, "groups": groups}


def _read_answer(fd: int) -> str | None:
    """None when the exec succeeded (the descriptor closed without a word), else what went wrong."""
    end = time.monotonic() + EXEC_LIMIT_S
    said = b""
    while True:
        ready, _, _ = select.select([fd], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            return f"it was not running after {EXEC_LIMIT_S:g} s"
        chunk = os.read(fd, 4096)
        if not chunk:
            return said.decode("utf-8", "replace") or None
        said += chunk


def _tail(log: str, size: int = 2000) -> str:
    """The end of a log, to go behind an error."""
    try:
        with Path(log).open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - size))
            text = file.read().decode("utf-8", "replace").strip()
    except OSError:
        return ""
    return f"; the end of {log}:\n{text}" if text else ""
