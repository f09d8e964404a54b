"""`self.client`: requests of one user, their connections and cookies, and the event that tells Locust about each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.cookiejar import CookieJar
from typing import Any, ClassVar, Protocol
from urllib.parse import urlsplit

import gevent
from gevent import getcurrent
from geventhttpclient._parser import HTTPParseError
from geventhttpclient.response import HTTPConnectionClosed

from harness.load.allowed_hosts.rule import check
from harness.load.lean.connection import Connection
from harness.load.lean.content_encoding import unpack
from harness.load.lean.cookies import cookie_header, remember
from harness.load.lean.deadlines import Deadlines, RequestTimeout
from harness.load.lean.dial import dial
from harness.load.lean.onward import name_of, onward, what
from harness.load.lean.parser import Head
from harness.load.lean.request import (
    Lines,
    Origin,
    assemble,
    basic,
    body_of,
    header_lines,
    origin_of,
    refuse,
    total_of,
    with_params,
)
from harness.load.lean.response import BadStatus, LeanResponse
from harness.load.lean.tls import ContextFactory, TlsConnection, default_context

FAILURES = (OSError, HTTPParseError, gevent.Timeout)
"""What ends a request without a reply; everything else is the caller's mistake, and raised."""
_CLOSED = (HTTPConnectionClosed, ConnectionError)
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})
"""RFC 9110 9.2.2: twice is as good as once."""
_DEADLINES = Deadlines()
_NO_REPLY = Head(0, (), (), 0)


class Observer(Protocol):
    """What the harness wants to know of every request, beside Locust's event.

    timeout_s: the total time-out that it sees to.
    """

    timeout_s: float

    def begin(self, name: str) -> Any: ...

    def trace(self, call: Any, host: str, own: Lines) -> bytes:
        """Further header lines of a request to this host. own: those that the locustfile has for it."""

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
    """base_url: what paths are added to. request_event: Locust's. timeout_s: total, of each request; None is no limit.

    verify: hold https servers to the system's certificates. context: adds to the context of every event. resend_any:
    what meets a stale connection is sent again whatever its method.

    stale: how many requests were sent again so far, each of which met a kept connection that was closed and had
    brought nothing of a reply.
    """

    observer: ClassVar[Observer | None] = None

    def __init__(
        self,
        base_url: str,
        request_event: Any,
        *,
        timeout_s: Any = 60.0,
        verify: bool = True,
        default_headers: Mapping[str, str] | None = None,
        ssl_context_factory: ContextFactory | None = None,
        context: Callable[[], dict[str, Any]] | None = None,
        resend_any: bool = False,
    ) -> None:
        self.request_name: str | None = None
        self.cookiejar = CookieJar()
        self.timeout_s = total_of(timeout_s)
        self.resend_any = resend_any
        self.stale = 0
        self._event = request_event
        self._verify = verify
        self._default = header_lines(default_headers)
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
        timeout: float | tuple[float | None, float | None] | None = None,
        context: Mapping[str, Any] | None = None,
        **unsupported: Any,
    ) -> LeanResponse:
        """One request. Never raises for what the network or the server does: see `error` of the response.

        url: a path, added to the host, or a whole URL. data: text, bytes or the fields of a form. json: the body,
        unless there is data. timeout: seconds in all, from now to the last byte; of a pair (to connect, to read) their
        sum; None is the session's. Raises ValueError and TypeError for arguments that make no request.
        """
        label: Any = name or self.request_name or url
        if not isinstance(label, str):
            label = str(label)
        observer = self.observer
        call = observer.begin(label) if observer is not None else None
        greenlet = None
        wall, start = time.time(), time.monotonic()
        # Whatever is wrong with an argument, the observer hears that the request is over: its time-out would come
        # upon the user somewhere else.
        try:
            limit = self.timeout_s if timeout is None else total_of(timeout)
            if observer is None or limit < observer.timeout_s:
                greenlet = getcurrent()
                _DEADLINES.add(greenlet, limit)
            if unsupported:
                refuse(unsupported)
            if not method.isupper():
                method = method.upper()
            contexts = self._contexts(context) if context or self._context else {}
            own = tuple(headers.items()) if headers else ()
            if auth:
                own = (*own, ("Authorization", basic(*auth)))
            body, of_body = body_of(data, json)
            origin, target = self._where(url)
            if params:
                target = with_params(target, params)
            if allow_redirects:
                response = self._follow(call, origin, method, target, own, of_body, body)
            else:
                response = self._ask(call, origin, method, target, own, of_body, body)
        except BaseException as error:
            if observer is not None:
                observer.broke(call, error)
            raise
        finally:
            if greenlet is not None:
                _DEADLINES.take_away(greenlet, limit)
        response.took_s = took = time.monotonic() - start
        response._harness_call = call
        length = len(response.content) + response.truncated if response.content else 0
        if observer is not None and not catch_response and len(self._event._handlers) == 1:
            # Nobody else listens: the event with all that it carries would cost a twentieth of the request.
            observer.on_request(method, label, took * 1000, length, response, response.error)
            return response
        meta = {
            "request_type": method,
            "name": label,
            "context": contexts,
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
        if not isinstance(url, str):
            raise TypeError(f"a URL is text, not {type(url).__name__}")
        if url[:7].lower() not in ("http://", "https:/"):
            between = "" if self._base.path and url[:1] in ("", "?", "#") else "/"
            return self._base, f"{self._base.path}{between}{url}"
        parts = urlsplit(url)
        base = f"{parts.scheme}://{parts.netloc}"
        origin = self._origins.get(base)
        if origin is None:
            origin = self._origins[base] = origin_of(base, self._default)
            self._idle.setdefault(origin, [])
        return origin, f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"

    def _follow(
        self, call: Any, origin: Origin, method: str, target: str, own: Lines, of_body: Lines, body: bytes
    ) -> LeanResponse:
        """The reply at the end of the redirects."""
        history: tuple[LeanResponse, ...] = ()
        stale = 0
        while True:
            response = self._ask(call, origin, method, target, own, of_body, body)
            response.history = history
            stale += response.stale
            if stale:
                response.stale = stale
            try:
                url = onward(response)
                if url is None:
                    return response
                before, (origin, target) = origin, self._where(url)
            except HTTPParseError as error:
                response.error = error
                return response
            except ValueError as error:
                response.error = HTTPParseError(f"redirected to what is no URL: {error}")
                return response
            history = (*history, response)
            method, own, of_body, body = what(response.status_code, method, own, of_body, body, same=origin is before)

    def _ask(
        self, call: Any, origin: Origin, method: str, target: str, own: Lines, of_body: Lines, body: bytes
    ) -> LeanResponse:
        """One request and its reply, or why there is none."""
        url = f"{origin.base}{target}"
        cookie = self._cookie(url, origin, own) if self._has_cookies else None
        observer = self.observer
        more = b""
        if observer is not None:
            more = observer.trace(call, origin.host, (*origin.own, *own) if origin.own or own else ())
        request = assemble(origin, method, target, own, of_body, cookie, body, more)
        kept = self._kept(origin)
        stale = False
        while True:
            try:
                connection = kept or self._connect(origin)
                connection.exchange(request, method == "HEAD")
                head, content = connection.parser.head, connection.parser.body
                response = LeanResponse(url, head, content)
                if connection.parser.dropped:
                    response.truncated = connection.parser.dropped
                if not connection.closed:
                    self._idle[origin].append(connection)
                if head.special:
                    self._look_closer(url, head, response)
            except FAILURES as error:
                if kept is not None and isinstance(error, _CLOSED) and self._may_resend(kept, method):
                    kept, stale = None, True
                    self.stale += 1
                    continue
                response = LeanResponse(url, _NO_REPLY, None)
                response.error = error
                if isinstance(error, RequestTimeout):
                    response.error = TimeoutError(f"no complete answer within {error.seconds:g} s")
                if stale:
                    response.stale = 1
                return response
            break
        if stale:
            response.stale = 1
        if response.status_code >= 400:
            response.error = BadStatus(response.status_code)
        return response

    def _kept(self, origin: Origin) -> Connection | None:
        idle = self._idle[origin]
        while idle:
            connection = idle.pop()
            if not connection.closed:
                return connection
        return None

    def _may_resend(self, connection: Connection, method: str) -> bool:
        """A kept connection was closed without a byte of a reply: the server had let go of it, as it may at any time,
        and the request has failed by no act of the target's. Where the server certainly got nothing of the request, it
        may be sent again in any case."""
        if connection.parser.started:
            return False
        return connection.unseen or method in _IDEMPOTENT or self.resend_any

    def _cookie(self, url: str, origin: Origin, own: Lines) -> str | None:
        """One that the call or the class brings takes the place of those of the jar."""
        if any(name_of(line) == "cookie" for line in (*origin.lines, *own)):
            return None
        return cookie_header(self.cookiejar, url)

    def _look_closer(self, url: str, head: Head, response: LeanResponse) -> None:
        """Cookies, and a body that is compressed."""
        if "set-cookie" in head.said:
            self._has_cookies = True
            remember(self.cookiejar, url, head.names, head.values)
        encoding = response.headers.get("content-encoding")
        if encoding and response.content:
            named = encoding if isinstance(encoding, str) else ",".join(encoding)
            response.content, dropped = unpack(response.content, named, cut=response.truncated > 0)
            if dropped:
                response.truncated += dropped

    def _connect(self, origin: Origin) -> Connection:
        check(origin.host)
        sock = dial(origin.host, origin.port)
        if not origin.secure:
            return Connection(sock)
        if self._tls_context is None:
            factory = self._context_factory
            self._tls_context = factory() if factory is not None else default_context(self._verify)
        return TlsConnection(sock, self._tls_context, origin.host)
