"""An advisory lock on a MySQL server (GET_LOCK, which is the whole server's), held as PostgreSQL's is: by a session
that lives as long as the lock is needed."""

from __future__ import annotations

from harness.adapters.clients.administration import AdminSession
from harness.adapters.clients.mysql_admin import Admin
from harness.adapters.clients.postgres_advisory_lock import AdvisoryLock
from harness.model.errors import Refused


class NamedLock(AdvisoryLock):
    def _open(self) -> Admin:
        session = Admin(self._options, password=self._password, server="")
        session.kept_as("")
        return session

    def _take(self, session: AdminSession) -> None:
        name = f"harness-lock-{self._who}"
        if session.ask("SELECT GET_LOCK(%s, 0)", name)[0][0] != 1:
            rows = session.ask(
                "SELECT ID, USER, HOST FROM information_schema.PROCESSLIST WHERE ID = IS_USED_LOCK(%s)", name
            )
            said = "session {} of {} at {}".format(*rows[0]) if rows else "another session"
            raise Refused(f"{said} has the lock {name}")
