"""PostgreSQL as an ordinary client sees it: logins of probes, with a hard deadline.

They drive libpq's non-blocking connect themselves: psycopg's `connect_timeout` is never under two seconds, and a probe
must end when its time is over.
"""

from __future__ import annotations

import select
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from harness.adapters.clients.postgres_admin import APPLICATION, conninfo, one_line
from harness.adapters.wire.exchange import ErrorKind, Exchange, ProbeError
from harness.model.clock import monotonic
from harness.model.records.faults import Address, Tls

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn, PGresult


class Login:
    """One fresh login as an ordinary client; use as a context manager. Raises ProbeError.

    deadline: CLOCK_MONOTONIC second by which the login, and later each query, must be done.
    """

    def __init__(
        self,
        options: str,
        address: Address,
        *,
        password: str | None,
        deadline: float,
        application: str = f"{APPLICATION}-probe",
    ) -> None:
        from psycopg import pq

        text = conninfo(options, address=address, password=password, application_name=application, gssencmode="disable")
        self._deadline = deadline
        self._connection: PGconn = pq.PGconn.connect_start(text.encode())
        try:
            self._connect()
        except BaseException:
            self._connection.finish()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def extend(self, deadline: float) -> None:
        """Of what follows."""
        self._deadline = deadline

    def close(self) -> None:
        self._connection.finish()

    def select(self, statement: bytes) -> int:
        """Answered in full; says how many bytes the first column of the first row had. Raises ProbeError."""
        return sum(len(result.get_value(0, 0) or b"") for result in self._results(statement) if result.ntuples)

    def rows(self, statement: bytes) -> list[Mapping[str, str]]:
        """The rows by the columns' names, as text; what is NULL is "". Raises ProbeError."""

        def text(value: bytes | None) -> str:
            return (value or b"").decode("utf-8", "replace")

        return [
            {text(one.fname(column)): text(one.get_value(row, column)) for column in range(one.nfields)}
            for one in self._results(statement)
            for row in range(one.ntuples)
        ]

    def _results(self, statement: bytes) -> Iterator[PGresult]:
        import psycopg
        from psycopg import pq

        connection = self._connection
        connection.nonblocking = 1
        try:
            connection.send_query(statement)
            while connection.flush():
                # Read as well: the server may answer or hang up before it has everything.
                self._wait(write=True)
                connection.consume_input()
            while True:
                connection.consume_input()
                if not connection.is_busy():
                    result = connection.get_result()
                    if result is None:
                        return
                    if result.status not in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
                        error = _login_error(result.error_message.decode("utf-8", "replace"), connected=True)
                        error.code = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode("ascii", "replace")
                        raise error
                    yield result
                    continue
                self._wait(write=False)
        except psycopg.Error as error:
            raise _login_error(str(error), connected=True) from error

    def _connect(self) -> None:
        from psycopg import pq

        connection = self._connection
        # libpq starts as if it had answered POLL_WRITING (documentation of PQconnectPoll).
        polled: int = pq.PollingStatus.WRITING
        while polled != pq.PollingStatus.OK:
            if connection.status == pq.ConnStatus.BAD or polled == pq.PollingStatus.FAILED:
                raise _login_error(connection.get_error_message("utf-8"), connected=False)
            self._wait(write=polled == pq.PollingStatus.WRITING)
            polled = connection.connect_poll()

    def _wait(self, *, write: bool) -> None:
        from psycopg import pq

        left = self._deadline - monotonic()
        socket = self._connection.socket
        # poll, not select: a process with many files open has descriptors above select's 1024.
        waiter = select.poll()
        waiter.register(socket, select.POLLOUT if write else select.POLLIN)
        if left <= 0 or not waiter.poll(left * 1000):
            connected = self._connection.status not in (pq.ConnStatus.STARTED, pq.ConnStatus.BAD)
            raise ProbeError("timeout", "no answer in time while logging in", connected=connected)


def select_one(options: str, address: Address, *, password: str | None, deadline: float) -> str:
    """A fresh login and `SELECT 1`. Raises ProbeError."""
    with Login(options, address, password=password, deadline=deadline) as login:
        login.select(b"SELECT 1")
    return "login and SELECT 1"


def ssl_request(address: Address, deadline: float) -> str:
    """The first exchange of every connection, raw: SSLRequest, answered S or N. Raises ProbeError."""
    with Exchange(address, deadline=deadline) as exchange:
        exchange.send(struct.pack(">ii", 8, 80877103))
        answer = exchange.exactly(1)
        if answer not in (b"S", b"N"):
            raise ProbeError("protocol", "SSLRequest was answered with something else", connected=True)
        if answer == b"S":
            # A server that said yes waits for TLS and logs an error where it does not come. Nothing is sent over it
            # that a certificate would have to protect.
            with suppress(ProbeError):
                exchange.secure(Tls(), verified=False)
    return "SSLRequest answered"


_LOGIN_ERRORS: tuple[tuple[str, ErrorKind], ...] = (
    # libpq hands over no SQLSTATE for a failed login, only words; 53300 is worded in these three ways.
    ("too many connections", "limit"),
    ("too many clients", "limit"),
    ("remaining connection slots", "limit"),
    ("no more connections allowed", "limit"),  # PgBouncer
    ("Connection refused", "refused"),
    ("Connection reset", "reset"),
    ("Broken pipe", "reset"),
    ("server closed the connection", "closed"),
    ("EOF detected", "closed"),  # in the middle of TLS
    ("unexpected eof", "closed"),
    ("not allowed", "auth"),  # PgBouncer's console
    ("certificate", "protocol"),
    ("authentication", "auth"),
    ("no password supplied", "auth"),
    ("timeout", "timeout"),
)


def _login_error(text: str, *, connected: bool) -> ProbeError:
    # libpq: `connection to server at "H", port N failed: WHY`, then advice on further lines.
    line = one_line((text.strip().splitlines() or ["login failed"])[0], None).split(" failed: ", 1)[-1]
    kind = next((kind for words, kind in _LOGIN_ERRORS if words in line), None)
    if kind is None:
        kind = "protocol" if "FATAL" in line else "unreachable"
    return ProbeError(kind, line, connected=connected or kind in ("limit", "auth", "closed", "reset", "protocol"))
