"""The run's side of the keeper: start it, have it start servers, renew the lease, know when it is lost."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from harness.adapters.keeper import protocol
from harness.adapters.keeper.client import ASK_LIMIT_S, KeeperClient
from harness.adapters.keeper.protocol import STAMP, KeeperOpened, Options
from harness.adapters.processes.identity import ProcessId, alive, identify, open_pidfd, send, wait_gone
from harness.model.errors import HarnessError, SetupError
from harness.model.records.faults import HealReport
from harness.model.records.process import ServerProcess, ServerSpec
from harness.safety.journal.entries import ProxyLock, boottime
from harness.safety.journal.private import open_private, private_folder
from harness.safety.journal.view import read_journal
from harness.safety.locks.local import Locks
from harness.safety.state_folders import check_known, homes

READY_LIMIT_S = 30.0
FINISH_LIMIT_S = 120.0
RENEW_EVERY_S = 0.5


class Keeper(KeeperClient):
    """A started keeper (a Launcher). `renew` belongs to the main loop; all else may be called from any thread."""

    def __init__(self, state_dir: Path, opened: KeeperOpened, *, lease_s: float) -> None:
        """Not called directly: see `start` and `connect`."""
        assert opened.socket is not None
        super().__init__(state_dir)
        self.pid = opened.keeper.pid
        self._id: ProcessId = opened.keeper
        self._socket = protocol.held(Path(opened.socket))
        self._lease_s = lease_s
        self._lease: socket.socket | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._last_renewal = 0.0
        self._unanswered_since: float | None = None
        self._lost: str | None = None

    @classmethod
    def start(
        cls, state_dir: Path, *, detached: bool = False, lease_s: float = 10.0, locks: Locks | None = None
    ) -> Keeper:
        """Start a keeper and wait until it serves. Call it from the run's own process, before anything else.

        state_dir: the run's state folder, made where missing. detached: no lease; it stays when this process goes,
        until `finish` or SIGTERM. lease_s: without a renewal for so long the keeper ends the run and heals.
        locks: held by the keeper too. Raises SetupError with the end of its log, Refused.
        """
        private_folder(state_dir)
        if state_dir.parent in homes():
            check_known(state_dir)  # now, and not when something has to be undone
        me = identify(os.getpid())
        if me is None:
            raise SetupError("cannot read this process's own start time")
        ours, theirs = socket.socketpair()
        pidfd = open_pidfd(me) if not detached else None
        log_path = state_dir / protocol.KEEPER_LOG
        try:
            log = open_private(log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            options = Options(
                state_dir=str(state_dir.absolute()),
                lease_fd=theirs.fileno(),
                run=me,
                run_pidfd=-1 if pidfd is None else pidfd,
                lock_fds=locks.fds if locks is not None else (),
                lease_s=lease_s,
                detached=detached,
            )
            passed = [options.lease_fd, *options.lock_fds] + ([pidfd] if pidfd is not None else [])
            try:
                child = subprocess.Popen(
                    [sys.executable, "-P", "-m", "harness.safety.keeper.keeper", msgspec.json.encode(options).decode()],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd="/",
                    start_new_session=True,
                    pass_fds=passed,
                )
            finally:
                os.close(log)
        except OSError as error:
            ours.close()
            raise SetupError(f"the keeper cannot be started: {error}") from error
        finally:
            theirs.close()
            if pidfd is not None:
                os.close(pidfd)
        try:
            _wait_ready(ours, child, log_path)
            opened = read_journal(state_dir).keeper
            if opened is None or opened.keeper.pid != child.pid:
                raise SetupError("the keeper did not journal itself")
        except BaseException:
            child.kill()
            child.wait()
            ours.close()
            raise
        keeper = cls(state_dir, opened, lease_s=lease_s)
        keeper._child = child
        if detached:
            ours.close()
            child.returncode = 0  # it outlives us on purpose: no warning about a child left behind
        else:
            ours.setblocking(False)
            keeper._lease = ours
            keeper.renew()
        return keeper

    @classmethod
    def connect(cls, state_dir: Path) -> Keeper:
        """Attach to the living keeper of a stack that was brought up to stay. Raises SetupError when there is none."""
        try:
            opened = read_journal(state_dir).keeper
        except OSError as error:
            raise SetupError(f"no keeper in {state_dir}: {error.strerror or error}") from error
        if opened is None or opened.socket is None or not alive(opened.keeper):
            raise SetupError(f"no keeper is running for {state_dir}")
        return cls(state_dir, opened, lease_s=0.0)

    # -- Launcher

    def launch(self, spec: ServerSpec) -> ServerProcess:
        # The keeper has a working directory of its own: what is relative here would be another file there.
        spec = msgspec.structs.replace(spec, log=str(Path(spec.log).absolute()))
        process = self.ask(protocol.Launch(spec)).process
        assert process is not None
        return process

    def exit_code(self, name: str) -> int | None:
        return self.ask(protocol.ExitCodeOf(name)).code

    def stop(self, name: str) -> None:
        self.ask(protocol.StopServer(name))

    def remove_at_end(self, path: str) -> None:
        self.ask(protocol.RemoveAtEnd(path))

    def own_project(self, engine: str, project: str) -> None:
        """A Compose project about to be made: the keeper removes it at the end. Raises Refused, SetupError."""
        self.ask(protocol.OwnProject(engine, project))

    def drop_project(self, engine: str, project: str) -> None:
        """Remove it now; returns when it is gone. Raises SetupError."""
        self.ask(protocol.DropProject(engine, project), FINISH_LIMIT_S)

    def adopt(self, name: str, pid: int, start_time: float) -> None:
        """A process this run started itself (the load): the keeper ends what remains of it."""
        self.ask(protocol.Adopt(name, pid, start_time))

    def hold_proxy(self, lock: ProxyLock) -> None:
        """Lock a Toxiproxy; the keeper removes the lock when everything is undone. Raises Refused, SetupError."""
        self.ask(protocol.HoldProxy(lock.url, lock.text))

    def hold_database(self, admin: str, password_env: str, name: str, owner: str, kind: str) -> None:
        """Hold a database's advisory lock until the keeper ends. Raises Refused, SetupError."""
        self.ask(protocol.HoldDatabase(admin, password_env, name, owner, kind))

    # -- watching

    def armed(self, record_id: str | None = None) -> None:
        """Wait until the keeper can undo; with an id, until it has itself read that record from the journal.

        Call it right before an injection. Raises SetupError or Refused: then do not inject.
        """
        self.ask(protocol.Armed(record_id))

    def renew(self) -> None:
        """Renew the lease; cheap (it writes at most twice a second). Never blocks, never raises."""
        now = boottime()
        if self._lease is None or now - self._last_renewal < RENEW_EVERY_S:
            return
        self._last_renewal = now
        try:
            self._lease.send(STAMP.pack(now))
            if self._unanswered_since is None:
                self._unanswered_since = now
        except BlockingIOError:
            pass  # thousands are waiting unread: the check below speaks of it
        except OSError:
            self._lost = self._lost or "the keeper died"
        self._listen()

    @property
    def lost(self) -> bool:
        """True once the keeper is dead, silent for longer than the lease, or was told to stop.

        The run then undoes everything itself, calls `finish`, and ends.
        """
        return self.why_lost is not None

    @property
    def why_lost(self) -> str | None:
        """A clause for people, or None."""
        if self._lost is None:
            self._listen()
        if self._lost is None and not self._alive():
            self._lost = "the keeper died"
        if self._lost is None and self._unanswered_since is not None:
            silent = boottime() - self._unanswered_since
            if self._lease_s and silent > self._lease_s:
                # A stopped keeper could wake up and heal against us: end it. Its servers go with it.
                self._lost = f"the keeper has been silent for {silent:.0f} s"
                self._end_keeper()
        return self._lost

    def _alive(self) -> bool:
        if self._child is not None and self._lease is not None:
            return self._child.poll() is None
        return alive(self._id)

    def _listen(self) -> None:
        try:
            said = self._lease.recv(65536) if self._lease is not None else b""
        except BlockingIOError:
            return
        except OSError:
            said = b""
        if self._lease is None:
            return
        if not said:
            self._lost = self._lost or "the keeper died"
        if protocol.ACK in said:
            self._unanswered_since = None
        if protocol.STOPPING in said:
            self._lost = self._lost or "the keeper was told to stop"

    # -- the end

    def finish(self, stop_servers: bool = True) -> HealReport:
        """The run has undone everything: servers stopped, folders removed, keeper exited when it returns.

        stop_servers=False on a stack that stays up only lets go of it. With the keeper dead the same is done here.
        May be called again.
        """
        if self._lease is None and not stop_servers:
            return HealReport()
        report: HealReport | None = None
        if self._alive():
            try:
                report = self.ask(protocol.Finish(), FINISH_LIMIT_S).report
            except HarnessError:
                pass  # it is healing already, or hangs: give it time, then do without it
            if wait_gone([self._id], 30.0):
                self._end_keeper()
        if report is None:
            report = self._finish_alone()
        if self._lease is not None:
            self._lease.close()
            self._lease = None
        if self._child is not None:
            self._child.returncode = None  # a detached one is ours to collect after all
            self._child.wait()
        self._lost = self._lost or "finished"
        return report

    def _finish_alone(self) -> HealReport:
        from harness.safety.healing.dead_run import heal_run

        if not self.state_dir.is_dir():
            return HealReport()
        return heal_run(self.state_dir, lambda _: None, retire_clean=False)

    def _end_keeper(self) -> None:
        if self._child is not None and self._lease is not None:
            self._child.kill()
            self._child.wait()
        else:
            send(self._id, 9)
            wait_gone([self._id], 10.0)

    def ask(self, request: protocol.Request, limit_s: float = ASK_LIMIT_S) -> protocol.Reply:
        """Raises Refused, UsageError or SetupError as the keeper says, SetupError when it does not answer."""
        try:
            with protocol.connect(os.fspath(self._socket), limit_s) as connection:
                return protocol.raise_for(protocol.exchange(connection, request))
        except UnicodeEncodeError as error:
            raise SetupError(f"not text that can be sent to the keeper: {error}") from error
        except (OSError, msgspec.MsgspecError) as error:
            if isinstance(error, TimeoutError):
                what = f"did not answer in {limit_s:g} s"
            else:
                what = "is gone" if not self._alive() else f"does not answer: {error}"
            raise SetupError(f"the keeper (pid {self.pid}) {what}", hint=f"see {self.state_dir}/keeper.log") from error

    def _keeper(self) -> ProcessId:
        return self._id


def _wait_ready(ours: socket.socket, child: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + READY_LIMIT_S
    ready, _, _ = select.select([ours], [], [], max(0.0, end - time.monotonic()))
    if ready and ours.recv(1) == protocol.READY:
        return
    text = ""
    try:
        text = log.read_text(errors="replace").strip()[-2000:]
    except OSError:
        pass
    child.kill()
    code = child.wait()
    raise SetupError(
        f"the keeper did not start (exit status {code})"
        if ready
        else f"the keeper was not ready in {READY_LIMIT_S:g} s",
        hint=text or None,
    )
