"""The keeper: `python -m harness.safety.keeper`, a process of its own that outlives the run to undo what it did.

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
import struct
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from harness.model.errors import HarnessError, Refused, SetupError
from harness.model.faults import UndoOutcome
from harness.safety import protocol
from harness.safety.entries import Closed, Entry, Healing, KeeperOpened, boottime
from harness.safety.journal import JOURNAL, KEEPER, JournalView, Log, read_journal
from harness.safety.lock import clear
from harness.safety.processes import ProcessId, identify, send, wait_gone
from harness.safety.servers import Servers

STAMP = struct.Struct("<d")
"""A renewal of the lease: the run's CLOCK_BOOTTIME in seconds when it wrote it."""

TICK_S = 0.25
GRACE_AT_END_S = 0.05
"""A run that closes its end is usually exiting: let it have its own exit status."""
FENCE_LIMIT_S = 10.0
UNDO_LIMIT_S = 90.0
"""A run that has begun to undo has this long before the keeper takes over, whatever the record's deadline."""
STOPPING_LIMIT_S = 120.0
"""A run whose keeper was told to stop has this long to undo everything itself."""
OWN_STACK_LIMIT_S = 5.0
"""How long to try on a stack that is torn down right afterwards."""
AGAIN_AFTER_S = 5.0


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Given by the client as one JSON argument. lease_fd: our end of the socket pair. run_pidfd: -1 = none."""

    state_dir: str
    lease_fd: int
    run: ProcessId
    run_pidfd: int = -1
    lock_fds: tuple[int, ...] = ()
    lease_s: float = 10.0
    detached: bool = False


class Keeper:
    """Everything on the main thread but the answers to requests and the healing, which call back with `on_main`."""

    def __init__(self, options: Options) -> None:
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
        self._renewed = boottime()
        self._partial = b""
        self._told_to_stop: float | None = None
        self._handed_over = False
        self._warm: Future[None] = Future()
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
        lease = socket.socket(fileno=self._options.lease_fd)
        lease.setblocking(False)
        self._lease = lease
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
            ),
            durable=True,
        )
        selector = selectors.DefaultSelector()
        selector.register(self._wake_out, selectors.EVENT_READ, self._on_wake)
        selector.register(listener, selectors.EVENT_READ, lambda: self._on_connection(listener))
        self._tell(protocol.READY)
        if self._options.detached:
            lease.close()
        else:
            selector.register(lease, selectors.EVENT_READ, lambda: self._on_lease(selector))
            if self._options.run_pidfd >= 0:
                selector.register(self._options.run_pidfd, selectors.EVENT_READ, lambda: self._on_run_gone(selector))
        threading.Thread(target=self._import_adapters, name="imports", daemon=True).start()
        while self._exit is None:
            for key, _ in selector.select(TICK_S):
                key.data()
            self._tick()
        listener.close()
        path.unlink(missing_ok=True)
        if path.parent != self._folder:
            path.parent.rmdir()
        self._say(f"exit {self._exit}")
        if self._exit == 0:
            clear(self._options.lock_fds)
        self._log.close()
        return self._exit

    def on_main(self, function: Callable[[], Any]) -> Any:
        """Run it on the main thread, wait, and return what it returned or raise what it raised."""
        if threading.current_thread() is threading.main_thread():
            return function()
        future: Future[Any] = Future()

        def call() -> None:
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)

        self._post(call)
        return future.result()

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
        if self._options.detached or self._phase != "serving":
            return
        now = boottime()
        if now - self._renewed > self._options.lease_s:
            self._start_healing(f"the run's lease was not renewed for {now - self._renewed:.1f} s")
            return
        if self._told_to_stop is not None and now - self._told_to_stop > STOPPING_LIMIT_S:
            self._start_healing(f"the run did not end within {STOPPING_LIMIT_S:g} s of the keeper's SIGTERM")
            return
        self._watch_deadlines(now)

    def _watch_deadlines(self, now: float) -> None:
        try:
            size = (self._folder / JOURNAL).stat().st_size
        except OSError:
            return
        if size != self._journal_size:
            self._journal_size = size
            try:
                self._deadline = next_deadline(read_journal(self._folder))
            except (HarnessError, OSError) as error:
                self._say(f"cannot read the journal: {error}")
                return
        if self._deadline is not None and now > self._deadline[0]:
            self._start_healing(f"{self._deadline[1]} is past its deadline")

    # -- the run

    def _on_lease(self, selector: selectors.BaseSelector) -> None:
        data = self._partial
        try:
            while chunk := self._lease.recv(65536):
                data += chunk
            ended = True
        except BlockingIOError:
            ended = False
        except OSError:
            ended = True
        whole = len(data) - len(data) % STAMP.size
        for (stamp,) in STAMP.iter_unpack(data[:whole]):
            self._renewed = max(self._renewed, min(stamp, boottime()))
        self._partial = data[whole:]
        if whole:
            self._tell(protocol.ACK)
        if ended:
            selector.unregister(self._lease)
            if self._phase == "serving":
                self._start_healing("the run closed its end", grace_s=GRACE_AT_END_S)

    def _on_run_gone(self, selector: selectors.BaseSelector) -> None:
        selector.unregister(self._options.run_pidfd)
        if self._phase == "serving":
            self._start_healing("the run died")

    def _tell(self, what: bytes) -> None:
        try:
            self._lease.send(what)
        except OSError:
            pass  # it is gone, or not reading

    def _on_stop_signal(self) -> None:
        if self._options.detached:
            if self._phase == "serving":
                self._phase = "finishing"
                threading.Thread(target=self._end_detached, daemon=True).start()
        elif self._told_to_stop is None and self._phase == "serving":
            # The run is the one that knows how to end well: it undoes while the servers still answer.
            self._told_to_stop = boottime()
            self._say("told to stop: the run is asked to undo everything")
            self._tell(protocol.STOPPING)

    def _end_detached(self) -> None:
        _, _, left = self._servers.end()
        self._close(tuple(left))

    # -- healing

    def _start_healing(self, why: str, grace_s: float = 0.0) -> None:
        with self._mutex:
            if self._phase != "serving":
                return
            self._phase = "healing"
        self._say(f"healing: {why}")
        threading.Thread(target=self._heal_and_end, args=(why, grace_s), name="heal", daemon=True).start()

    def _heal_and_end(self, why: str, grace_s: float) -> None:
        left: list[str] = []
        try:
            self._fence(grace_s)
            self._note(Healing(why=why))
            wait([self._warm], timeout=60.0)
            view = read_journal(self._folder)
            outcomes = self._undo(view)
            if not view.had_servers and any(outcome.state == "unverified" for outcome in outcomes):
                time.sleep(AGAIN_AFTER_S)
                self._undo(read_journal(self._folder))
        except Exception as error:  # the servers must be stopped all the same
            self._say(f"healing failed: {type(error).__name__}: {error}")
            left.append(f"healing failed: {error}")
        _, _, still = self._servers.end()
        left += still
        left += self._settle()
        self._close(tuple(left))

    def _fence(self, grace_s: float) -> None:
        """Nobody else writes from here on: end the run, stopped or not, and wait until it has ended."""
        run = self._options.run
        if grace_s and not wait_gone([run], grace_s):
            return
        try:
            send(run, signal.SIGKILL)
        except PermissionError as error:
            self._say(f"the run (pid {run.pid}) cannot be ended: {error}")
        if wait_gone([run], FENCE_LIMIT_S):
            # It has SIGKILL pending, so no code of its own runs any more, wherever the kernel holds it.
            self._say(f"the run (pid {run.pid}) is still in the kernel after {FENCE_LIMIT_S:g} s")

    def _undo(self, view: JournalView) -> list[UndoOutcome]:
        from harness.safety.heal import heal_records

        return heal_records(
            view,
            self._note,
            say=self._say,
            restart_toxiproxy=self._restart_toxiproxy if self._has_toxiproxy() else None,
            limit_s=OWN_STACK_LIMIT_S if view.had_servers else None,
        )

    def _settle(self) -> list[str]:
        """After the servers have ended: what was on them is gone with them. Returns what is left, in sentences."""
        from harness.safety.heal import end_processes, heal_records, torn_down

        try:
            view = read_journal(self._folder)
            killed: list[str] = []
            left = end_processes(msgspec.structs.replace(view, servers=()), self._note, self._say, killed)
            gone = tuple(record for record in view.pending if torn_down(view, record) is not None)
            heal_records(msgspec.structs.replace(view, records=gone), self._note, say=self._say)
            view = read_journal(self._folder)
        except (HarnessError, OSError) as error:
            return [f"the journal in {self._folder} cannot be read: {error}"]
        for record in view.pending:
            outcome = view.outcomes.get(record.id)
            said = f"{outcome.left}; {outcome.mend}" if outcome is not None and outcome.left else "not undone"
            left.append(f"{record.id}: {said}")
        return left + [f"{line}: what it stood for cannot be told" for line in view.damage]

    def _has_toxiproxy(self) -> bool:
        return any("toxiproxy" in server.name for server in self._servers.running())

    def _restart_toxiproxy(self) -> bool:
        for server in self._servers.running():
            if "toxiproxy" in server.name:
                try:
                    self._servers.restart(server.name)
                except HarnessError as error:
                    self._say(f"Toxiproxy could not be restarted: {error}")
                    return False
                return True
        return False

    def _close(self, left: tuple[str, ...]) -> None:
        for line in left:
            self._say(f"left: {line}")
        self._note(Closed(clean=not left, left=left))
        try:
            if not left and not self._options.detached:
                from harness.safety.heal import active_dir, retire

                view = read_journal(self._folder)
                run_dir = Path(view.opened.run_dir) if view.opened is not None and view.opened.run_dir else None
                if self._folder.parent == active_dir():
                    retire(self._folder, run_dir)
        except Exception as error:
            self._say(f"the state folder stays: {error}")
        finally:
            self._end(5 if left else 0)

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
                request = msgspec.json.decode(protocol.receive(connection), type=protocol.Request)
                try:
                    reply, after = self._answer(request)
                except Exception as error:
                    reply = protocol.failure(error)
                connection.settimeout(30.0)
                connection.sendall(msgspec.json.encode(reply) + b"\n")
            except (OSError, msgspec.MsgspecError) as error:
                self._say(f"a request failed: {error}")
        if after is not None:
            after()

    def _answer(self, request: protocol.Request) -> tuple[protocol.Reply, Callable[[], None] | None]:
        """The reply, and what to do once it has been sent."""
        match request:
            case protocol.Launch(spec=spec):
                self._only_while_serving()
                return protocol.Reply(process=self._servers.launch(spec)), None
            case protocol.ExitCodeOf(name=name):
                return protocol.Reply(code=self._servers.exit_code(name)), None
            case protocol.StopServer(name=name):
                self._servers.stop(name)
                return protocol.Reply(), None
            case protocol.RestartServer(name=name):
                return protocol.Reply(process=self._servers.restart(name)), None
            case protocol.Adopt(name=name, pid=pid, start_time=start_time):
                self._only_while_serving()
                self._servers.adopt(name, pid, start_time)
                return protocol.Reply(), None
            case protocol.RemoveAtEnd(path=path):
                self._servers.remove_at_end(path)
                return protocol.Reply(), None
            case protocol.Armed(record_id=record_id):
                return self._armed(record_id), None
            case protocol.HealNow():
                return self._heal_now(), None
            case protocol.Finish():
                return self._finish()
            case protocol.Status():
                return protocol.Reply(servers=tuple(self._servers.running()), phase=self._phase), None

    def _only_while_serving(self) -> None:
        if self._phase != "serving":
            raise Refused(f"the keeper is {self._phase}")

    def _armed(self, record_id: str | None) -> protocol.Reply:
        self._only_while_serving()
        if self._handed_over or self._told_to_stop is not None:
            raise Refused("the keeper has begun to end: nothing may be injected any more")
        try:
            self._warm.result(timeout=60.0)
        except Exception as error:
            raise SetupError(f"the keeper cannot undo: {type(error).__name__}: {error}") from error
        if record_id is not None:
            from harness.fault import registered

            record = next((r for r in read_journal(self._folder).records if r.id == record_id), None)
            if record is None:
                raise SetupError(f"the keeper does not find the undo record of {record_id} in {self._folder}")
            if record.kind not in registered():
                raise SetupError(f"the keeper knows no fault called {record.kind}")
        return protocol.Reply()

    def _heal_now(self) -> protocol.Reply:
        self._only_while_serving()
        self._handed_over = True
        self._note(Healing(why="the run asked for it"))
        return protocol.Reply(outcomes=tuple(self._undo(read_journal(self._folder))))

    def _finish(self) -> tuple[protocol.Reply, Callable[[], None]]:
        with self._mutex:
            self._only_while_serving()
            self._phase = "finishing"
        outcomes: list[UndoOutcome] = []
        left: list[str] = []
        pending = False
        try:
            view = read_journal(self._folder)
            pending = bool(view.pending)
            # What the run has tried and could not verify is its own to report; what it forgot is undone here.
            forgotten = tuple(r for r in view.pending if view.states[r.id] != "unverified")
            if forgotten:
                outcomes = self._undo(msgspec.structs.replace(view, records=forgotten))
        except Exception as error:  # the servers must be stopped all the same
            left.append(f"the journal in {self._folder}: {error}")
        stopped, hard, still = self._servers.end()
        left += still
        if pending:
            left += self._settle()
        report = protocol.Report(stopped=tuple(stopped), hard=tuple(hard), outcomes=tuple(outcomes), left=tuple(left))
        self._note(Closed(clean=not left, left=report.left))
        return protocol.Reply(report=report), lambda: self._end(5 if left else 0)

    # -- small things

    def _import_adapters(self) -> None:
        """All that an undo will import, so that healing starts at once."""
        import importlib
        import pkgutil

        try:
            import tenacity  # noqa: F401

            import harness.adapters
            import harness.safety.heal
            import harness.safety.undo
            from harness.fault import registered

            registered()
            for module in pkgutil.iter_modules(harness.adapters.__path__):
                loaded = importlib.import_module(f"harness.adapters.{module.name}")
                getattr(loaded, "preload", lambda: None)()
        except BaseException as error:
            self._say(f"what healing needs cannot be imported: {type(error).__name__}: {error}")
            self._warm.set_exception(error)
        else:
            self._warm.set_result(None)

    def _note(self, entry: Entry) -> None:
        try:
            self._log.append(entry)
        except OSError as error:
            self._say(f"cannot write to keeper.jsonl: {error.strerror or error}; going on")

    def _say(self, text: str) -> None:
        try:
            print(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {text}", file=sys.stderr, flush=True)
        except (OSError, ValueError):
            pass  # a full disk must not stop an undo


def next_deadline(view: JournalView) -> tuple[float, str] | None:
    """When (CLOCK_BOOTTIME) the keeper undoes on its own, and which record is then overdue; None = never."""
    found: list[tuple[float, str]] = []
    for record in view.pending:
        injected = view.intents.get((record.id, "inject"))
        if record.deadline_s is None or injected is None or view.states[record.id] == "unverified":
            continue
        due = injected + record.deadline_s
        undoing = view.intents.get((record.id, "undo"))
        if undoing is not None:
            due = max(due, undoing + UNDO_LIMIT_S)
        found.append((due, record.id))
    return min(found, default=None)


def _become_subreaper() -> None:
    """Orphans of our servers become our children (Linux), so that none gets away."""
    if sys.platform == "linux":
        import ctypes

        pr_set_child_subreaper = 36
        ctypes.CDLL(None, use_errno=True).prctl(pr_set_child_subreaper, 1, 0, 0, 0)


def main() -> NoReturn:
    options = msgspec.json.decode(sys.argv[1], type=Options)
    try:
        code = Keeper(options).run()
    except (HarnessError, OSError) as error:
        print(f"the keeper cannot start: {error}", file=sys.stderr, flush=True)
        code = 4
    os._exit(code)  # threads that wait for something must not hold it up


if __name__ == "__main__":
    main()
