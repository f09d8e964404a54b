"""HTTP for probes, readiness, metrics and annotations: the harness's only control-side HTTP client.

Proxy variables and .netrc are ignored: a control request goes where its URL says. The time-out is the *total*,
from the first byte sent to the last one read; requests' own time-outs are per socket operation, so a server
that drips a byte at a time would hold its caller for ever.
"""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

import msgspec

from harness.model.errors import OutcomeUnknown, Rejected, Unreachable
from harness.model.records.faults import Tls

if TYPE_CHECKING:
    import requests

MAX_BODY = 16 * 1024 * 1024
MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Response(msgspec.Struct, frozen=True):
    """Any answer, whatever its status. body: decoded from its content encoding, at most MAX_BODY bytes."""

    status: int
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", errors="replace")


class Client:
    """Keeps its connections. Not for use by two threads at once.

    login: user and password for every request. tls: how an https server is known, but for its name: that is the URL's.
    """

    def __init__(self, *, login: tuple[str, str] | None = None, tls: Tls | None = None) -> None:
        self._deadline = Deadline()
        self._session = session(self._deadline)
        if login is not None:
            from requests.auth import HTTPBasicAuth

            # In UTF-8, where requests would take Latin-1 for a text.
            self._session.auth = HTTPBasicAuth(login[0].encode(), login[1].encode())
        if tls is not None:
            self._session.verify = tls.ca if tls.ca is not None else True
            self._session.cert = (tls.cert, tls.key) if tls.cert is not None and tls.key is not None else None

    def get(self, url: str, timeout_s: float) -> Response:
        """One GET, following redirects only where scheme, host and port stay the same.

        Raises Unreachable when nothing was reached (refused, no route, unknown name, no connection in time),
        OutcomeUnknown when the request was sent and no whole answer came in time, Rejected for a redirect that
        leaves, too many redirects, an answer over MAX_BODY or a URL that is none.
        """
        origin = _origin(url)
        with self._deadline.within(timeout_s) as left:
            for _ in range(MAX_REDIRECTS + 1):
                status, body, location = self._once("GET", url, None, timeout_s, left)
                if location is None:
                    return Response(status, body)
                following = urljoin(url, location)
                if _origin(following) != origin:
                    raise Rejected(f"{url} redirects to another host or port ({following})")
                url = following
        raise Rejected(f"{url} redirects more than {MAX_REDIRECTS} times")

    def send(self, method: str, url: str, body: bytes, timeout_s: float) -> Response:
        """One request with a JSON body. No redirect is followed: its status is the answer. Raises as `get` does."""
        _origin(url)
        with self._deadline.within(timeout_s) as left:
            status, answer, _ = self._once(method, url, body, timeout_s, left)
        return Response(status, answer)

    def close(self) -> None:
        self._session.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _once(
        self, method: str, url: str, sent: bytes | None, timeout_s: float, left: Any
    ) -> tuple[int, bytes, str | None]:
        import requests
        from urllib3.exceptions import HTTPError

        late = OutcomeUnknown(f"{url} gave no whole answer within {timeout_s:g} s")
        seconds = left()
        if seconds <= 0:
            raise late
        headers = {"Content-Type": "application/json"} if sent is not None else None
        try:
            with self._session.request(
                method, url, data=sent, headers=headers, timeout=seconds, allow_redirects=False, stream=True
            ) as reply:
                location = reply.headers.get("location") if reply.status_code in _REDIRECTS else None
                return reply.status_code, body_of(reply), location
        except requests.exceptions.ConnectTimeout as error:
            raise Unreachable(f"{url} could not be reached within {timeout_s:g} s") from error
        except requests.exceptions.ReadTimeout as error:
            raise late from error
        except (requests.exceptions.RequestException, HTTPError, OSError) as error:
            if left() <= 0:
                raise late from error
            if _never_connected(error):
                raise Unreachable(f"{url} could not be reached: {_cause(error)}") from error
            if isinstance(error, (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema)):
                raise Rejected(f"{url}: {_cause(error)}") from error
            raise OutcomeUnknown(f"{url} broke off its answer: {_cause(error)}") from error
        except ValueError as error:  # requests looks at the address of a redirect that it is not to follow
            raise Rejected(f"{url} redirects to what is no URL: {error}") from error


def body_of(reply: requests.Response) -> bytes:
    """The body of an answer that is read as it comes (`stream=True`), out of its content encoding. Raises Rejected for
    more than MAX_BODY, of which no more is read: some kilobytes of gzip can be gigabytes."""
    body = bytearray()
    for chunk in reply.iter_content(65536):
        body += chunk
        if len(body) > MAX_BODY:
            raise Rejected(f"{reply.url} answered more than {MAX_BODY // 2**20} MB")
    return bytes(body)


def get(url: str, timeout_s: float) -> Response:
    """One GET on a fresh connection; errors as in Client.get."""
    with Client() as client:
        return client.get(url, timeout_s)


def _origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port. Raises Rejected."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:  # an impossible port, a bracket too few
        raise Rejected(f"{url} is no URL: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Rejected(f"{url} is not an http or https URL")
    return parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80)


def _never_connected(error: BaseException) -> bool:
    from urllib3.exceptions import NewConnectionError

    found = _chain(error)
    return any(isinstance(one, (NewConnectionError, ConnectionRefusedError, socket.gaierror)) for one in found)


def _cause(error: BaseException) -> str:
    """The innermost error in words: requests wraps its causes three deep."""
    last = _chain(error)[-1]
    return str(getattr(last, "strerror", None) or last) or type(last).__name__


def _chain(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in found:
        found.append(following)
        inner = getattr(following, "reason", None) or (following.args[0] if following.args else None)
        following = inner if isinstance(inner, BaseException) else (following.__cause__ or following.__context__)
    return found


class Deadline:
    """Shuts the connections of a request down when its time is over, so that any blocking read in it ends."""

    def __init__(self) -> None:
        self._sockets: list[Any] = []

    def opened(self, sock: Any) -> None:
        self._sockets.append(sock)

    def within(self, seconds: float) -> _Running:
        return _Running(self, seconds)

    def cut(self) -> None:
        for sock in self._sockets:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # closed already

    def forget_closed(self) -> None:
        self._sockets = [sock for sock in self._sockets if sock.fileno() >= 0]


class _Running:
    def __init__(self, deadline: Deadline, seconds: float) -> None:
        self._deadline = deadline
        self._seconds = seconds
        self._timer = threading.Timer(seconds, deadline.cut)
        self._timer.daemon = True

    def __enter__(self) -> Any:
        end = time.monotonic() + self._seconds
        self._timer.start()
        return lambda: end - time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._timer.join()
        self._deadline.forget_closed()


def session(deadline: Deadline) -> requests.Session:
    """Without proxies and .netrc; what its requests read ends with the deadline."""
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

    class Plain(HTTPConnection):
        def connect(self) -> None:
            super().connect()
            deadline.opened(self.sock)

    class Secure(HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            deadline.opened(self.sock)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, **kwargs)
            self.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}

    made = requests.Session()
    made.trust_env = False
    made.mount("http://", Adapter())
    made.mount("https://", Adapter())
    return made
