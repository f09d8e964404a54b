"""An advisory lock on a PostgreSQL cluster, held by a session that lives as long as the lock is needed.

Advisory locks are local to a database, so every harness takes them in the cluster's oldest database that is no
template (a session in one would block CREATE DATABASE), whatever database the admin login names. A session that breaks
takes its lock with it: it is opened and locked again as soon as the server answers.
"""

from __future__ import annotations

import contextlib
import threading

from harness.adapters.clients.administration import AdminSession
from harness.adapters.clients.postgres_admin import Admin, conninfo
from harness.model.errors import AdapterError, Refused, Unreachable

KEYS = {"run": 1, "keeper": 2}
"""Run and keeper hold one each, so that neither's death leaves the cluster unlocked. A newcomer needs both."""
_CLASS = 0x68726E73
"""First half of the key: "hrns" in ASCII, so that it is told from other programs' locks in pg_locks."""
_DATABASES = """SELECT current_database()::text, (SELECT datname::text FROM pg_database
WHERE datallowconn AND NOT datistemplate AND has_database_privilege(oid, 'CONNECT') ORDER BY oid LIMIT 1)"""
CHECK_S = 1.0
_WORD = "harness-lock "


class AdvisoryLock:
    """Taken when the constructor returns. who: "run" or "keeper". text: who holds it, for those it refuses.

    Raises Refused naming the holder, Unreachable and Rejected when PostgreSQL cannot be asked.
    """

    def __init__(self, admin: str, *, password: str | None, who: str, text: str) -> None:
        self._options = admin
        self._password = password
        self._who, self._key = who, KEYS[who]
        self._text = text
        self._done = threading.Event()
        self._session: AdminSession = self._open()
        try:
            self._take(self._session)
        except BaseException:
            self._session.close()
            raise
        self._thread = threading.Thread(target=self._keep, name="advisory-lock", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """End the session, and the lock with it. Never raises; may be called again."""
        self._done.set()
        self._thread.join(2 * CHECK_S)
        if not self._thread.is_alive():  # else the server hangs: the session ends with this process
            self._session.close()

    def _open(self) -> AdminSession:
        session = Admin(self._options, password=self._password)
        try:
            here, oldest = session.ask(_DATABASES)[0]
            if oldest is not None and oldest != here:
                # Where access rules keep the login out of it, its own database has to do.
                with contextlib.suppress(Unreachable):
                    other = Admin(conninfo(self._options, dbname=str(oldest)), password=self._password)
                    session.close()
                    session = other
            self._prepare(session)
        except BaseException:
            session.close()
            raise
        return session

    def _prepare(self, session: Admin) -> None:
        # The server must not end a session that waits, and people see in pg_stat_activity what it is for.
        session.ask("SELECT set_config('application_name', %s, false)", _WORD + self._text[:48])
        with contextlib.suppress(AdapterError):  # PostgreSQL 13 has no such setting
            session.ask("SELECT set_config('idle_session_timeout', '0', false)")

    def _take(self, session: AdminSession) -> None:
        if not session.ask("SELECT pg_try_advisory_lock(%s, %s)", _CLASS, self._key)[0][0]:
            raise Refused(_holder(session, self._key))

    def _keep(self) -> None:
        """Ask now and then, so that a broken session is noticed and made again."""
        while not self._done.wait(CHECK_S):
            try:
                self._session.ask("SELECT 1")
            except AdapterError:
                self._again()

    def _again(self) -> None:
        session: AdminSession | None = None
        with contextlib.suppress(AdapterError, Refused):
            session = self._open()
            self._take(session)
            self._session.close()
            self._session, session = session, None
        if session is not None:
            session.close()


def _holder(session: AdminSession, key: int) -> str:
    """The words of whoever holds it, as far as this login may see them."""
    rows = session.ask(
        "SELECT coalesce(a.application_name, ''), coalesce(host(a.client_addr), ''), a.backend_start::text"
        " FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)"
        " WHERE l.locktype = 'advisory' AND l.classid = %s::oid AND l.objid = %s::oid AND l.granted",
        _CLASS,
        key,
    )
    name, host, since = rows[0] if rows else ("", "", "")
    said = str(name).removeprefix(_WORD) or "another run"
    return said + (f", connected from {host}" if host else "") + (f" since {since}" if since else "")
