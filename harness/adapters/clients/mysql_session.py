"""MySQL and MariaDB: one session, as probes and administrators have it. The only place that imports PyMySQL.

A server counts connections that end before their login (Aborted_connects), and after max_connect_errors of them in a
row it blocks the host that they came from, which behind a proxy is the application's as well. So a session logs in, or
fails because of what the network does; and it ends with the protocol's own last word.

Connection options are written as PostgreSQL's are: user, dbname; of an admin login host and port, or host=/socket/file;
sslmode (disable, prefer, require, verify-ca, verify-full) and sslrootcert, and host as the name in the certificate.
"""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import closing, suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self

from harness.adapters.clients.postgres_admin import one_line, options_of
from harness.adapters.wire.exchange import ErrorKind, ProbeError
from harness.model.clock import monotonic
from harness.model.errors import UsageError
from harness.model.records.faults import Address

if TYPE_CHECKING:
    from pymysql.connections import Connection

KNOWN = ("user", "dbname", "host", "hostaddr", "port", "sslmode", "sslrootcert")
SSL_MODES = ("disable", "prefer", "require", "verify-ca", "verify-full")
OVER_LIMIT = {"1226", "1203"}
"""ER_USER_LIMIT_REACHED, ER_TOO_MANY_USER_CONNECTIONS: of one account, the server has room."""
MUST_WAIT = "1205"
"""ER_LOCK_WAIT_TIMEOUT."""
_KINDS: dict[str, ErrorKind] = {
    **dict.fromkeys(("1040", *sorted(OVER_LIMIT)), "limit"),
    **dict.fromkeys(("1044", "1045", "1049", "1130", "1131", "1132", "1698", "1820", "1862", "3118", "4151"), "auth"),
}
_BROKEN = {"0", "2003", "2006", "2013", "2014", "2055", "1053", "1927"}
_END_S = 0.05
_PORT = 3306
_CLIENT_SSL = 1 << 11

_ours: dict[tuple[str, int], float] = {}
"""Connection ids, as the server has them, of the sessions of this process, and until when (CLOCK_MONOTONIC) they are
that: what a server lists about its clients has no name for a session by which it could be told from the application's
with the same login. A server that was started again counts from 1, so none is kept longer than it may be listed."""
_LISTED_S = 1.0


def is_ours(server: str, connection: int) -> bool:
    """server: the dependency's name."""
    return _ours.get((server, connection), 0.0) > monotonic()


class Session:
    """A fresh login; use as a context manager. Raises ProbeError, whose `code` is the server's error number; UsageError
    for options that do not parse.

    server: the dependency's name. address: where to, None = as the options say. deadline: CLOCK_MONOTONIC second by
    which everything must be done, None = each answer within timeout_s.
    """

    def __init__(
        self,
        options: str,
        address: Address | None,
        *,
        password: str | None,
        server: str,
        timeout_s: float = 5.0,
        deadline: float | None = None,
    ) -> None:
        import pymysql

        values = options_of(options)
        mode = values.get("sslmode", "prefer")
        self._deadline = deadline
        self._guard: threading.Timer | None = None
        self._twin: socket.socket | None = None
        left = timeout_s if deadline is None else deadline - monotonic()
        if left <= 0:
            raise ProbeError("timeout", "no time is left for a connection", connected=False)
        self._raw: socket.socket | None = None
        try:
            self._raw = _connected(values, address, left)
            self._raw.settimeout(left)
            self._watch(self._raw)
            self._connection: Connection[Any] = pymysql.Connection(
                user=values.get("user", ""),
                password=password or "",
                database=values.get("dbname"),
                host=values.get("host") or (address.host if address is not None else "localhost"),
                charset="utf8mb4",
                autocommit=True,
                read_timeout=left,
                write_timeout=left,
                defer_connect=True,
                program_name="harness",
                **({"ssl_disabled": True} if mode == "disable" else {"ssl": _context(mode, values.get("sslrootcert"))}),
            )
            if mode == "prefer":  # without TLS where the server has none
                self._connection._ssl_required = False  # type: ignore[attr-defined]
                self._connection.client_flag &= ~_CLIENT_SSL
            self._connection.connect(self._raw)
            self.id = int(self._connection.thread_id())  # type: ignore[no-untyped-call]
        except (OSError, pymysql.Error, ssl.SSLError) as error:
            self._end()
            raise _translated(error, self._raw is not None, deadline, password) from error
        except BaseException:
            self._end()
            raise
        self._told = str(self._connection.get_server_info())  # type: ignore[no-untyped-call]
        self._key = (server, self.id)
        _ours[self._key] = float("inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of a statement; values stand for its %s."""
        import pymysql

        try:
            with closing(self._connection.cursor()) as cursor:
                cursor.execute(statement, values or None)
                return list(cursor.fetchall())
        except (OSError, pymysql.Error) as error:
            raise _translated(error, True, self._deadline, None) from error

    @property
    def mariadb(self) -> bool:
        return "mariadb" in self._told.lower()

    @property
    def version(self) -> str:
        """ "10.11.19" of 5.5.5-10.11.19-MariaDB."""
        return self._told.removeprefix("5.5.5-").split("-")[0]

    def stays(self) -> None:
        """It may outlive its server, with a login that is not the application's: no need to know it from others."""
        _ours.pop(self._key, None)

    def close(self) -> None:
        """COM_QUIT, then a moment for the server to close. May be called again."""
        self._bye(_END_S)
        self._end()

    def close_and_wait(self) -> None:
        """The same, and waits for the other side to close. Raises ProbeError: reset, timeout."""
        assert self._deadline is not None
        try:
            self._bye(max(0.001, self._deadline - monotonic()), strict=True)
        except OSError as error:
            raise _translated(error, True, self._deadline, None) from error
        finally:
            self._end()
        if monotonic() >= self._deadline:
            raise ProbeError("timeout", "the other side did not close in time", connected=True)

    def _bye(self, wait_s: float, *, strict: bool = False) -> None:
        sock = self._connection._sock  # type: ignore[attr-defined]
        if sock is None:
            return
        try:
            sock.settimeout(wait_s)
            sock.sendall(b"\x01\0\0\0\x01")
            while sock.recv(65536):
                pass
        except OSError:
            if strict:
                raise

    def _watch(self, sock: socket.socket) -> None:
        """A socket's own time-out is per operation, so a peer that drips bytes could hold a probe for ever."""
        if self._deadline is None:
            return
        twin = self._twin = sock.dup()

        def cut() -> None:
            with suppress(OSError):
                twin.shutdown(socket.SHUT_RDWR)

        self._guard = threading.Timer(max(0.0, self._deadline - monotonic()), cut)
        self._guard.daemon = True
        self._guard.start()

    def _end(self) -> None:
        if self._guard is not None:
            self._guard.cancel()
        now = monotonic()
        if getattr(self, "_key", None) in _ours:
            _ours[self._key] = now + _LISTED_S
        for key in [key for key, until in list(_ours.items()) if until < now]:
            _ours.pop(key, None)
        connection = getattr(self, "_connection", None)
        if connection is not None:
            connection._force_close()
        for one in (self._twin, self._raw):
            if one is not None:
                one.close()


def _connected(values: dict[str, str], address: Address | None, left: float) -> socket.socket:
    host = values.get("hostaddr") or values.get("host", "localhost")
    if address is None and host.startswith("/"):
        found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            found.settimeout(left)
            found.connect(host)
        except BaseException:
            found.close()
            raise
        return found
    address = address or Address(host, int(values.get("port", _PORT)))
    found = socket.create_connection((address.host, address.port), left)
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return found


def check_options(options: str) -> dict[str, str]:
    """The options by name. Raises UsageError for what is not known here; none of their values is repeated."""
    values = options_of(options)
    for name in values:
        if name not in KNOWN:
            raise UsageError(f"{name} is no connection option of MySQL", hint=f"known are {', '.join(KNOWN)}")
    mode = values.get("sslmode", "prefer")
    if mode not in SSL_MODES:
        raise UsageError(f"sslmode {mode} is not known", hint=f"one of {', '.join(SSL_MODES)}")
    if mode.startswith("verify") and "sslrootcert" not in values:
        raise UsageError(f"sslmode {mode} needs sslrootcert", hint="the file with the certificate of the authority")
    return values


@lru_cache(maxsize=20)
def _context(mode: str, authority: str | None) -> ssl.SSLContext:
    """Made once: to read the authorities of the system takes longer than a probe."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if authority is not None:
        context.load_verify_locations(authority)
    # Certificates that MySQL makes for itself keep no more than the old rules.
    context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
    context.check_hostname = mode == "verify-full"
    context.verify_mode = ssl.CERT_NONE if authority is None else ssl.CERT_REQUIRED
    return context


def _translated(error: Exception, connected: bool, deadline: float | None, password: str | None) -> ProbeError:
    """PyMySQL keeps the network's own error behind its numbers."""
    chain: BaseException | None = error
    network: OSError | None = None
    while chain is not None and network is None:
        network = chain if isinstance(chain, OSError) else None
        chain = chain.__cause__ or chain.__context__
    code = (
        str(error.args[0]) if error.args and isinstance(error.args[0], int) and not isinstance(error, OSError) else ""
    )
    if isinstance(network, ssl.SSLError):
        return ProbeError("protocol", f"TLS failed: {one_line(str(network), password)}", connected=True)
    if isinstance(network, TimeoutError) or (deadline is not None and monotonic() >= deadline and code in _BROKEN):
        return ProbeError("timeout", "no answer in time", connected=connected)
    if isinstance(network, ConnectionRefusedError):
        return ProbeError("refused", "connection refused", connected=False)
    if isinstance(network, ConnectionResetError | BrokenPipeError):
        return ProbeError("reset", "connection reset", connected=True)
    if network is not None:
        return ProbeError("unreachable", one_line(network.strerror or str(network), password), connected=connected)
    if code in _BROKEN:
        return ProbeError("closed", "the connection was closed without an answer", connected=True)
    text = one_line(str(error.args[1]) if len(error.args) > 1 else str(error), password)
    return ProbeError(_KINDS.get(code, "protocol"), f"({code}) {text}" if code else text, connected=True, code=code)


def preload() -> None:
    """Import what the first call would, so that an urgent one (healing) does not wait for it."""
    import pymysql  # noqa: F401
