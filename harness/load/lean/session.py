"""`self.client`: requests of one user, their connections and cookies, and the event that tells Locust about each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.cookiejar import CookieJar
from typing import Any, ClassVar, Protocol
from urllib.parse import urljoin, urlsplit

import gevent
from gevent import getcurrent
from geventhttpclient._parser import HTTPParseError
from geventhttpclient.response import HTTPConnectionClosed

from harness.load.hosts import check
from harness.load.lean.connection import Connection
from harness.load.lean.cookies import cookie_header, remember
from harness.load.lean.deadlines import Deadlines, RequestTimeout
from harness.load.lean.dial import dial
from harness.load.lean.parser import Head
from harness.load.lean.request import Lines, Origin, assemble, basic, body_of, origin_of, with_params
from harness.load.lean.response import BadStatus, LeanResponse
from harness.load.lean.tls import ContextFactory, TlsConnection, default_context
from harness.load.lean.unpack import unpack
from harness.load.redirects import leaves

FAILURES = (OSError, HTTPParseError, gevent.Timeout)
"""What ends a request without a reply; everything else is the caller's mistake, and raised."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 20
_OF_BODY = frozenset({"content-type", "content-encoding", "content-language", "content-length"})
_DEADLINES = Deadlines()
_NO_REPLY = Head(0, (), (), 0)


class Observer(Protocol):
    """What the harness wants to know of every request, beside Locust's event.

    timeout_s: the total time-out that it sees to.
    """

    timeout_s: float

    def begin(self, name: str) -> Any: ...

    def broke(self, call: Any, error: BaseException) -> None: ...

    def undecided(self, call: Any, response: LeanResponse) -> None: ...

    def on_request(
        self,
        request_type: str,
        name: str,
        response_time: float | None,
        response_length: int | None = 0,
        response: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """A listener of Locust's request event, its first."""


class LeanSession:
    """base_url: what paths are added to. request_event: Locust's. timeout_s: total, of each request.

    verify: hold https servers to the system's certificates. context: adds to the context of every event.
    """

    observer: ClassVar[Observer | None] = None

    def __init__(
        self,
        base_url: str,
        request_event: Any,
        *,
        timeout_s: float = 60.0,
        verify: bool = True,
        default_headers: Mapping[str, str] | None = None,
        ssl_context_factory: ContextFactory | None = None,
        context: Callable[[], dict[str, Any]] | None = None,
    ) -> None:
        self.request_name: str | None = None
        self.cookiejar = CookieJar()
        self.timeout_s = timeout_s
        self._event = request_event
        self._verify = verify
        self._default = tuple(default_headers.items()) if default_headers else ()
        self._context_factory = ssl_context_factory
        self._tls_context: Any = None
        self._context = context
        self._has_cookies = False
        self._base = origin_of(base_url, self._default)
        self._origins = {self._base.base: self._base}
        self._idle: dict[Origin, list[Connection]] = {self._base: []}

    def request(
        self,
        method: str,
        url: str,
        name: str | None = None,
        data: Any = None,
        catch_response: bool = False,
        *,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        params: Any = None,
        auth: tuple[str | bytes, str | bytes] | None = None,
        allow_redirects: bool = False,
        timeout: float | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> LeanResponse:
        """One request. Never raises for what the network or the server does: see `error` of the response.

        url: a path, added to the host, or a whole URL. data: text, bytes or the fields of a form. json: the body,
        unless there is data. timeout: seconds in all, from now to the last byte. Raises ValueError and TypeError for
        arguments that make no request.
        """
        label = name or self.request_name or url
        observer = self.observer
        call = observer.begin(label) if observer is not None else None
        limit = timeout or self.timeout_s
        greenlet = None
        if observer is None or limit < observer.timeout_s:
            greenlet = getcurrent()
            _DEADLINES.add(greenlet, limit)
        wall, start = time.time(), time.monotonic()
        try:
            own = tuple(headers.items()) if headers else ()
            if auth is not None:
                own = (*own, ("Authorization", basic(*auth)))
            body, of_body = body_of(data, json)
            origin, target = self._where(url)
            if params:
                target = with_params(target, params)
            if allow_redirects:
                response = self._follow(origin, method, target, own, of_body, body)
            else:
                response = self._ask(origin, method, target, own, of_body, body)
        except BaseException as error:
            if observer is not None:
                observer.broke(call, error)
            raise
        finally:
            if greenlet is not None:
                _DEADLINES.take_away(greenlet, limit)
        response.took_s = took = time.monotonic() - start
        response._harness_call = call
        length = len(response.content) if response.content else 0
        if observer is not None and not catch_response and len(self._event._handlers) == 1:
            # Nobody else listens: the event with all that it carries would cost a twentieth of the request.
            observer.on_request(method, label, took * 1000, length, response, response.error)
            return response
        meta = {
            "request_type": method,
            "name": label,
            "context": self._contexts(context) if context or self._context else {},
            "response": response,
            "exception": response.error,
            "start_time": wall,
            "url": f"{origin.base}{target}",
            "response_length": length,
            "response_time": took * 1000,
        }
        if catch_response:
            response._catch = True
            response._request_event = self._event
            response.request_meta = meta
            if observer is not None:
                observer.undecided(call, response)
        else:
            self._event.fire(**meta)
        return response

    def get(self, url: str, **options: Any) -> LeanResponse:
        return self.request("GET", url, **options)

    def post(self, url: str, data: Any = None, json: Any = None, **options: Any) -> LeanResponse:
        return self.request("POST", url, data=data, json=json, **options)

    def put(self, url: str, data: Any = None, **options: Any) -> LeanResponse:
        return self.request("PUT", url, data=data, **options)

    def patch(self, url: str, data: Any = None, **options: Any) -> LeanResponse:
        return self.request("PATCH", url, data=data, **options)

    def delete(self, url: str, **options: Any) -> LeanResponse:
        return self.request("DELETE", url, **options)

    def head(self, url: str, **options: Any) -> LeanResponse:
        return self.request("HEAD", url, **options)

    def options(self, url: str, **options: Any) -> LeanResponse:
        return self.request("OPTIONS", url, **options)

    @contextmanager
    def rename_request(self, name: str) -> Iterator[None]:
        """Requests inside are reported under this name, unless they bring one."""
        self.request_name = name
        try:
            yield
        finally:
            self.request_name = None

    def close(self) -> None:
        """Close the idle connections."""
        for idle in self._idle.values():
            while idle:
                idle.pop().close()

    def __del__(self) -> None:
        # The event loop holds on to a connection that it watches.
        if hasattr(self, "_idle"):
            self.close()

    def _contexts(self, context: Mapping[str, Any] | None) -> dict[str, Any]:
        return {**(self._context() if self._context else {}), **(context or {})}

    def _where(self, url: str) -> tuple[Origin, str]:
        """The server, and the target of the request line."""
        if url[:1] == "/":
            return self._base, self._base.path + url if self._base.path else url
        if url[:7].lower() not in ("http://", "https:/"):
            return self._base, f"{self._base.path}/{url}"
        parts = urlsplit(url)
        base = f"{parts.scheme}://{parts.netloc}"
        origin = self._origins.get(base)
        if origin is None:
            origin = self._origins[base] = origin_of(base, self._default)
            self._idle.setdefault(origin, [])
        return origin, f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"

    def _follow(
        self, origin: Origin, method: str, target: str, own: Lines, of_body: Lines, body: bytes
    ) -> LeanResponse:
        """The reply at the end of the redirects."""
        history: tuple[LeanResponse, ...] = ()
        while True:
            response = self._ask(origin, method, target, own, of_body, body)
            response.history = history
            location = response.headers.get("location") if response.status_code in _REDIRECTS else None
            if not isinstance(location, str):
                return response
            host = leaves(response.url, location)
            if host is not None:
                response.error = HTTPParseError(f"redirected to another host ({host}); not followed")
                return response
            if len(history) == _MAX_REDIRECTS:
                response.error = HTTPParseError(f"more than {_MAX_REDIRECTS} redirects")
                return response
            history = (*history, response)
            if response.status_code == 303 or (response.status_code in (301, 302) and method == "POST"):
                method = "HEAD" if method == "HEAD" else "GET"
                body, of_body = b"", ()
                own = tuple(line for line in own if line[0].lower() not in _OF_BODY)
            before, (origin, target) = origin, self._where(urljoin(response.url, location))
            if origin is not before:
                own = tuple(line for line in own if line[0].lower() != "authorization")

    def _ask(self, origin: Origin, method: str, target: str, own: Lines, of_body: Lines, body: bytes) -> LeanResponse:
        """One request and its reply, or why there is none."""
        url = f"{origin.base}{target}"
        cookie = cookie_header(self.cookiejar, url) if self._has_cookies else None
        request = assemble(origin, method, target, own, of_body, cookie, body)
        try:
            connection = self._exchange(origin, request, method == "HEAD")
            head, content = connection.parser.head, connection.parser.body
            response = LeanResponse(url, head, content)
            if not connection.closed:
                self._idle[origin].append(connection)
            if head.special:
                self._look_closer(url, head, response)
        except FAILURES as error:
            response = LeanResponse(url, _NO_REPLY, None)
            response.error = error
            if isinstance(error, RequestTimeout):
                response.error = TimeoutError(f"no complete answer within {error.seconds:g} s")
            return response
        if response.status_code >= 400:
            response.error = BadStatus(response.status_code)
        return response

    def _look_closer(self, url: str, head: Head, response: LeanResponse) -> None:
        """Cookies, and a body that is compressed."""
        if "set-cookie" in head.said:
            self._has_cookies = True
            remember(self.cookiejar, url, head.names, head.values)
        encoding = response.headers.get("content-encoding")
        if encoding and response.content:
            response.content = unpack(response.content, encoding if isinstance(encoding, str) else ",".join(encoding))

    def _exchange(self, origin: Origin, request: bytes, bodyless: bool) -> Connection:
        idle = self._idle[origin]
        while idle:
            connection = idle.pop()
            if connection.closed:
                continue
            try:
                connection.exchange(request, bodyless)
                return connection
            except HTTPConnectionClosed:
                # The server closed the idle connection while our request was on its way, and got nothing of it: sent
                # once more, on a new connection. Anything else is a failure of the request, not to be hidden.
                if not connection.unseen:
                    raise
                break
        connection = self._connect(origin)
        connection.exchange(request, bodyless)
        return connection

    def _connect(self, origin: Origin) -> Connection:
        check(origin.host)
        sock = dial(origin.host, origin.port)
        if not origin.secure:
            return Connection(sock)
        if self._tls_context is None:
            factory = self._context_factory
            self._tls_context = factory() if factory is not None else default_context(self._verify)
        return TlsConnection(sock, self._tls_context, origin.host)
