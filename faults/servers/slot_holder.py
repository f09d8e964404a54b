"""The sessions that connection-hog holds, and the thread that keeps their leases.

They live and die with the process that took them: its sockets close with it, and where even that is not noticed (a lost
machine, a cut network) the server ends each session when its lease runs out.
"""

from __future__ import annotations

import resource
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness.adapters.clients.postgres_admin import Admin, IdleSession
from harness.model.clock import monotonic
from harness.model.errors import AdapterError, Refused, Rejected

LEASE_S = 15.0
"""The server ends a session that was not touched for this long. Shorter than an undo keeps trying (30 s), so that an
undo that finds the server full gets in at last."""
_RENEW_S = 3.0
_LOOK_S = 0.25
"""How soon a slot that the application gives back is taken too."""
_AT_ONCE = 8
_TAKE_LIMIT_S = 30.0
_SPARE_FILES = 64
_JOIN_S = 1.0


class SlotHolder:
    """Takes slots until `leave` are free for ordinary roles, and keeps it so until release().

    admin: conninfo of the login that takes them. application: the name of every session, by which others find them.
    """

    def __init__(self, admin: str, *, password: str | None, application: str, leave: int) -> None:
        self._admin = admin
        self._password = password
        self._application = application
        self._leave = leave
        self._sessions: list[IdleSession] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._monitor: Admin | None = None

    def take(self) -> int:
        """Take them; says how many. Raises AdapterError, and then has released what it had."""
        try:
            self._monitor = Admin(self._admin, password=self._password)
            # It takes a slot as the others do, and must not outlive this process either.
            self._monitor.ask(
                "SELECT set_config('idle_session_timeout', %s, false), set_config('application_name', %s, false)",
                str(int(LEASE_S * 1000)),
                self._application,
            )
            self._fill(self._monitor)
        except BaseException:
            self.release()
            raise
        self._thread = threading.Thread(target=self._keep, name="slot-holder", daemon=True)
        self._thread.start()
        return len(self._sessions)

    def release(self) -> None:
        """Close every session. May be called again."""
        self._stop.set()
        if self._thread is not None:
            # A server that answers nobody can keep it waiting; closing its connection under it ends that.
            self._thread.join(_JOIN_S)
        sessions, self._sessions = self._sessions, []
        for session in sessions:
            session.close()
        if self._monitor is not None:
            self._monitor.close()

    def _fill(self, monitor: Admin) -> None:
        """Again and again, because the application opens and closes sessions meanwhile."""
        until = monotonic() + _TAKE_LIMIT_S
        while not self._stop.is_set():
            want = monitor.slots().free - self._leave
            if want <= 0:
                return
            if monotonic() > until:
                raise Rejected(f"{want} slots too many are still free after {_TAKE_LIMIT_S:g} s")
            with ThreadPoolExecutor(min(_AT_ONCE, want)) as pool:
                failed = [error for error in pool.map(lambda _: self._open(), range(want)) if error is not None]
            for error in failed:
                # A server that is full by now has been filled by others: then there is nothing left to take.
                if not isinstance(error, Rejected):
                    raise error
            if len(failed) == want:
                raise Rejected(f"the server gives no more sessions: {failed[0]}")

    def _open(self) -> AdapterError | None:
        try:
            session = IdleSession(self._admin, password=self._password, application=self._application, lease_s=LEASE_S)
        except AdapterError as error:
            return error
        self._sessions.append(session)
        return None

    def _keep(self) -> None:
        """Touch every session in time; take what the application gives back. Once a session was ended from outside
        nothing is taken again: somebody is repairing."""
        assert self._monitor is not None
        touched = monotonic()
        repaired = False
        while not self._stop.wait(_LOOK_S):
            try:
                freed = not repaired and self._monitor.slots().free > self._leave
                if freed or monotonic() - touched > _RENEW_S:
                    # Before anything is taken: the slots may be free because our own sessions were ended.
                    repaired = not self._touch_all() or repaired
                    touched = monotonic()
                if freed and not repaired:
                    self._fill(self._monitor)
            except AdapterError:
                # The monitor is one of the sessions that can be ended; the next proof tells what is missing.
                repaired = True

    def _touch_all(self) -> bool:
        """Are all of them still there? Those that are not are forgotten."""
        gone = [session for session in self._sessions if not session.touch()]
        for session in gone:
            session.close()
            self._sessions.remove(session)
        return not gone


def files_for(number: int) -> None:
    """Raise Refused when this process may not open so many more files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    folder = Path("/proc/self/fd")
    used = len(list(folder.iterdir())) if folder.exists() else _SPARE_FILES
    if soft != resource.RLIM_INFINITY and number + used + _SPARE_FILES > soft:
        raise Refused(
            f"{number} sessions would have to be held, and this process may open {soft} files",
            hint="raise the limit before the run: ulimit -n 8192",
        )
