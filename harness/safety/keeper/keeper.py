"""The keeper: `python -m harness.safety.keeper.keeper`, a process of its own that outlives the run to undo what it did.

It owns the stack's servers, listens on a unix socket, and watches the run: its end (pidfd and lease socket), its lease
and the deadlines of its records. Whatever of these comes first, it ends the run for good, undoes what the journal
lists, stops the servers, removes their folders and exits. What healing needs is imported after the keeper has said
that it is ready, in the background; `Armed` waits for it.

Exit codes: 0 nothing left, 5 something left (the state folder stays and says what), 4 it could not start.
"""

from __future__ import annotations

import os
import queue
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import msgspec

import harness
from harness.adapters.keeper import protocol
from harness.adapters.keeper.protocol import KeeperOpened
from harness.adapters.processes.identity import alive, identify
from harness.model.errors import HarnessError, Refused, SetupError
from harness.safety.journal.entries import boottime
from harness.safety.journal.log import JOURNAL, KEEPER, Log
from harness.safety.journal.version import VERSION
from harness.safety.keeper.healer import IMPORT_LIMIT_S, Healer, Slot, next_deadline
from harness.safety.keeper.lease import Lease
from harness.safety.keeper.servers import Servers
from harness.safety.locks.local import clear

TICK_S = 0.25
GRACE_AT_END_S = 0.05
"""A run that closes its end is usually exiting: let it have its own exit status."""
UNUSED_LIMIT_S = 30.0
STOPPING_LIMIT_S = 120.0
"""A run whose keeper was told to stop has this long to undo everything itself."""


class Keeper:
    """Everything on the main thread but the answers to requests and the healing, which call back with `on_main`."""

    def __init__(self, options: protocol.Options) -> None:
        self._options = options
        self._folder = Path(options.state_dir)
        self._log = Log(self._folder / KEEPER)
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._wake_out, self._wake_in = os.pipe()
        os.set_blocking(self._wake_out, False)
        os.set_blocking(self._wake_in, False)
        self._servers = Servers(
            f"{self._folder.name}-{os.getpid()}-{time.time_ns():x}",
            write=self._log.append,
            say=self._say,
            on_main=self.on_main,
        )
        self._mutex = threading.Lock()
        self._phase = "serving"
        self._used = boottime()
        self._told_to_stop: float | None = None
        self._healer = Healer(self._folder, self._log, self._servers, self._say)
        self._journal_size = -1
        self._deadline: tuple[float, str] | None = None
        self._exit: int | None = None

    # -- life

    def run(self) -> int:
        me = identify(os.getpid())
        if me is None:
            raise SetupError("cannot read the keeper's own start time")
        _become_subreaper()
        self._handle_signals()
        listener, path = protocol.listen(self._folder)
        lease = self._lease = Lease(self._options.lease_fd, self._options.lease_s)
        for fd in (self._options.lease_fd, self._options.run_pidfd, *self._options.lock_fds):
            if fd >= 0:
                os.set_inheritable(fd, False)
        self._log.append(
            KeeperOpened(
                keeper=me,
                host=socket.gethostname(),
                detached=self._options.detached,
                socket=str(path),
                run=None if self._options.detached else self._options.run,
                version=VERSION,
                harness=harness.__version__,
            ),
            durable=True,
        )
        selector = selectors.DefaultSelector()
        selector.register(self._wake_out, selectors.EVENT_READ, self._on_wake)
        selector.register(listener, selectors.EVENT_READ, lambda: self._on_connection(listener))
        lease.tell(protocol.READY)
        if self._options.detached:
            lease.close()
        else:
            selector.register(lease.socket, selectors.EVENT_READ, lambda: self._on_lease(selector))
            if self._options.run_pidfd >= 0:
                selector.register(self._options.run_pidfd, selectors.EVENT_READ, lambda: self._on_run_gone(selector))
        threading.Thread(target=self._healer.import_all, name="imports", daemon=True).start()
        while self._exit is None:
            try:
                for key, _ in selector.select(TICK_S):
                    key.data()
                self._tick()
            except Exception as error:  # a bug here must not end the healing that other threads are at
                self._say(f"the keeper's loop: {type(error).__name__}: {error}")
                time.sleep(TICK_S)
        listener.close()
        path.unlink(missing_ok=True)
        self._say(f"exit {self._exit}")
        if self._exit == 0:
            clear(self._options.lock_fds)
        self._log.close()
        return self._exit

    def on_main(self, function: Callable[[], Any]) -> Any:
        """Run it on the main thread, wait, and return what it returned or raise what it raised."""
        if threading.current_thread() is threading.main_thread():
            return function()
        slot = Slot()
        self._post(lambda: slot.fill(function))
        return slot.result()

    def _post(self, call: Callable[[], None]) -> None:
        self._calls.put(call)
        try:
            os.write(self._wake_in, b"\0")
        except OSError:
            pass  # full: it will wake up anyway

    def _handle_signals(self) -> None:
        # The handlers do nothing: the number arrives on the wake-up pipe, in order, on the main thread.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        for number in (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        signal.set_wakeup_fd(self._wake_in, warn_on_full_buffer=False)

    def _on_wake(self) -> None:
        try:
            numbers = set(os.read(self._wake_out, 4096))
        except BlockingIOError:
            return
        if numbers & {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}:
            self._on_stop_signal()
        self._servers.reap()
        while not self._calls.empty():
            self._calls.get()()

    def _tick(self) -> None:
        self._servers.reap()
        while not self._calls.empty():
            self._calls.get()()
        if self._phase != "serving":
            return
        now = boottime()
        if self._options.detached:
            self._end_when_unused(now)
            return
        silent_s = self._lease.silent_s()
        if silent_s is not None:
            self._start_healing(f"the run's lease was not renewed for {silent_s:.1f} s")
            return
        if self._told_to_stop is not None and now - self._told_to_stop > STOPPING_LIMIT_S:
            self._start_healing(f"the run did not end within {STOPPING_LIMIT_S:g} s of the keeper's SIGTERM")
            return
        self._watch_deadlines(now)

    def _end_when_unused(self, now: float) -> None:
        """A `stack up` that was killed before it started a server leaves a keeper that nobody needs."""
        if self._servers.running() or self._servers.projects or alive(self._options.run):
            self._used = now
        elif now - self._used > UNUSED_LIMIT_S:
            self._say("nobody has needed this keeper: it ends")
            self._on_stop_signal()

    def _watch_deadlines(self, now: float) -> None:
        try:
            size = (self._folder / JOURNAL).stat().st_size
        except OSError:
            return
        if size != self._journal_size:
            self._journal_size = size
            try:
                self._deadline = next_deadline(self._healer.view())
            except (HarnessError, OSError) as error:
                self._say(f"cannot read the journal: {error}")
                return
        if self._deadline is not None and now > self._deadline[0]:
            self._start_healing(f"{self._deadline[1]} is past its deadline")

    # -- the run

    def _on_lease(self, selector: selectors.BaseSelector) -> None:
        if not self._lease.read():
            selector.unregister(self._lease.socket)
            if self._phase == "serving":
                self._start_healing("the run closed its end", grace_s=GRACE_AT_END_S)

    def _on_run_gone(self, selector: selectors.BaseSelector) -> None:
        selector.unregister(self._options.run_pidfd)
        if self._phase == "serving":
            self._start_healing("the run died")

    def _on_stop_signal(self) -> None:
        if self._options.detached:
            if self._phase == "serving":
                self._phase = "finishing"
                threading.Thread(target=self._end_detached, daemon=True).start()
        elif self._told_to_stop is None and self._phase == "serving":
            # The run is the one that knows how to end well: it undoes while the servers still answer.
            self._told_to_stop = boottime()
            self._say("told to stop: the run is asked to undo everything")
            self._lease.tell(protocol.STOPPING)

    def _end_detached(self) -> None:
        code = 5
        try:
            code = 5 if self._healer.finish().left else 0
        finally:
            self._end(code)

    # -- healing

    def _start_healing(self, why: str, grace_s: float = 0.0) -> None:
        with self._mutex:
            if self._phase != "serving":
                return
            self._phase = "healing"
        self._say(f"healing: {why}")

        def heal() -> None:
            code = 5
            try:
                if not self._healer.heal_dead_run(self._options.run, why, grace_s).left:
                    self._healer.retire()
                    code = 0
            except Exception as error:
                self._say(f"healing broke off: {type(error).__name__}: {error}")
            self._end(code)

        threading.Thread(target=heal, name="heal", daemon=True).start()

    def _end(self, code: int) -> None:
        self._post(lambda: setattr(self, "_exit", code))

    # -- requests

    def _on_connection(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        after: Callable[[], None] | None = None
        with connection:
            try:
                connection.settimeout(30.0)
                request: protocol.Request = protocol.receive(connection, protocol.Request)
                try:
                    reply, after = self._answer(request)
                except Exception as error:
                    reply = protocol.failure(error)
                connection.settimeout(30.0)
                protocol.send(connection, reply)
            except (OSError, msgspec.MsgspecError) as error:
                self._say(f"a request failed: {error}")
        if after is not None:
            after()

    def _answer(self, request: protocol.Request) -> tuple[protocol.Reply, Callable[[], None] | None]:
        """The reply, and what to do once it has been sent."""
        adds = (protocol.Launch, protocol.Adopt, protocol.OwnProject, protocol.HoldProxy, protocol.HoldDatabase)
        if isinstance(request, adds):
            self._only_while_serving()
        reply = protocol.Reply()
        match request:
            case protocol.Launch(spec=spec):
                reply = protocol.Reply(process=self._servers.launch(spec))
            case protocol.ExitCodeOf(name=name):
                reply = protocol.Reply(code=self._servers.exit_code(name))
            case protocol.StopServer(name=name):
                self._servers.stop(name)
            case protocol.RestartServer(name=name):
                reply = protocol.Reply(process=self._servers.restart(name))
            case protocol.Adopt(name=name, pid=pid, start_time=start_time):
                self._servers.adopt(name, pid, start_time)
            case protocol.RemoveAtEnd(path=path):
                self._servers.remove_at_end(path)
            case protocol.OwnProject(engine=engine, project=project):
                self._servers.projects.own(engine, project)
            case protocol.DropProject(engine=engine, project=project):
                self._servers.projects.drop(engine, project)
            case protocol.HoldProxy() | protocol.HoldDatabase():
                self._healer.hold(request)
            case protocol.Armed(record_id=record_id):
                reply = self._armed(record_id)
            case protocol.Finish():
                with self._mutex:
                    self._only_while_serving()
                    self._phase = "finishing"
                report = self._healer.finish()
                return protocol.Reply(report=report), lambda: self._end(5 if report.left else 0)
            case protocol.InputOf(name=name):
                reply = protocol.Reply(input=self._servers.input_of(name))
            case protocol.Status():
                reply = protocol.Reply(servers=tuple(self._servers.running()), phase=self._phase)
        return reply, None

    def _only_while_serving(self) -> None:
        if self._phase != "serving":
            raise Refused(f"the keeper is {self._phase}")

    def _armed(self, record_id: str | None) -> protocol.Reply:
        self._only_while_serving()
        if self._told_to_stop is not None:
            raise Refused("the keeper has begun to end: nothing may be injected any more")
        if not self._healer.warm.wait(IMPORT_LIMIT_S):
            raise SetupError(f"the keeper has not imported what an undo needs within {IMPORT_LIMIT_S:g} s")
        try:
            self._healer.warm.result()
        except Exception as error:
            raise SetupError(f"the keeper cannot undo: {type(error).__name__}: {error}") from error
        if record_id is not None:
            from harness.fault import registered

            record = next((r for r in self._healer.view().records if r.id == record_id), None)
            if record is None:
                raise SetupError(f"the keeper does not find the undo record of {record_id} in {self._folder}")
            if record.kind not in registered():
                raise SetupError(f"the keeper knows no fault called {record.kind}")
        return protocol.Reply()

    # -- small things

    def _say(self, text: str) -> None:
        try:
            print(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {text}", file=sys.stderr, flush=True)
        except (OSError, ValueError):
            pass  # a full disk must not stop an undo


def _become_subreaper() -> None:
    """Orphans of our servers become our children (Linux), so that none gets away."""
    if sys.platform == "linux":
        import ctypes

        pr_set_child_subreaper = 36
        ctypes.CDLL(None, use_errno=True).prctl(pr_set_child_subreaper, 1, 0, 0, 0)


def main() -> NoReturn:
    options = msgspec.json.decode(sys.argv[1], type=protocol.Options)
    try:
        code = Keeper(options).run()
    except (HarnessError, OSError) as error:
        print(f"the keeper cannot start: {error}", file=sys.stderr, flush=True)
        code = 4
    os._exit(code)  # threads that wait for something must not hold it up


if __name__ == "__main__":
    main()
