"""The kind of a failed request, from the exception that Locust reports."""

from __future__ import annotations

import errno
import http.client
import socket
import zlib
from ssl import SSLError
from typing import Any

import gevent
import requests.exceptions
import urllib3.exceptions
from geventhttpclient.response import HTTPConnectionClosed, HTTPParseError
from locust.exception import CatchResponseError, ResponseError

# The generator's own limits are no act of the target's: of files, of local ports, of memory.
_OURS = {errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM}
_UNREACHABLE = {errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN}
_RESET = {errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED, errno.ESHUTDOWN, errno.ENOTCONN}


def failure_kind(exception: object, response: Any) -> tuple[str | None, str]:
    """(kind of harness.model.records.windows.FAILURE_KINDS or None when ok, text for people).

    exception: as the `request` event carries it. As Locust counts it, whatever is true in itself is a failure, also a
    text or a number, and what is not is none. check is a complaint of the locustfile about a good reply; where the
    reply was bad in itself (an error status, no reply at all), that is the kind, however the locustfile put it.
    """
    if not exception:
        return None, ""
    if not isinstance(exception, BaseException):
        kind, text = _of_reply(response)
        # Without a reply of ours to look at, nobody knows whether the target answered.
        unknown = "exception" if response is None else "check"
        return kind or unknown, _text(exception) + (f" ({text})" if text else "")
    text = told(exception)
    if isinstance(exception, (CatchResponseError, ResponseError, AssertionError)):
        underlying = _transport_error(response)
        if underlying is not None:
            return _kind(underlying), f"{text} ({type(underlying).__name__})"
        return ("status" if _status(response) >= 400 else "check"), text
    return _kind(exception), text


def outcome_of(response: Any, error: BaseException | None) -> tuple[str | None, str]:
    """As failure_kind, of a reply whose outcome the task was to decide and did not. error: what its task ended with,
    other than what Locust ends tasks with itself."""
    kind, text = _of_reply(response)
    if kind is None and error is not None:
        return "exception", told(error)
    return kind, text


def told(error: BaseException) -> str:
    """An exception for people."""
    text = _text(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _of_reply(response: Any) -> tuple[str | None, str]:
    """What was bad about the reply in itself."""
    error = getattr(response, "error", None)
    if isinstance(error, BaseException):
        return failure_kind(error, response)
    status = _status(response)
    return ("status", f"HTTP status {status}") if status >= 400 else (None, "")


def _status(response: Any) -> int:
    status = getattr(response, "status_code", None)
    return status if isinstance(status, int) else 0


def _text(value: object) -> str:
    """str() of something that a locustfile made, which may be anything."""
    try:
        return str(value)
    except Exception:
        return f"a {type(value).__name__} that cannot be shown"


def own_limit(exception: object, response: Any) -> bool:
    """Whether a request failed for want of something on this machine, where no other generator would have failed."""
    error = exception if response is None else _transport_error(response) or exception
    if not isinstance(error, BaseException):
        return False
    return any(isinstance(one, OSError) and one.errno in _OURS for one in _chain(error))


def _transport_error(response: Any) -> BaseException | None:
    """What stopped the reply, where there was none."""
    error = getattr(response, "error", None)
    if isinstance(error, BaseException) and not getattr(response, "status_code", 0):
        return error
    return None


def _kind(exception: BaseException) -> str:
    if _is_status(exception):
        return "status"
    for error in _chain(exception):
        kind = _kind_of_one(error)
        if kind is not None:
            return kind
    return "exception"


def _kind_of_one(error: BaseException) -> str | None:
    if isinstance(error, (gevent.Timeout, TimeoutError, socket.timeout, requests.exceptions.Timeout)):
        return "timeout"
    if isinstance(error, urllib3.exceptions.TimeoutError):
        return "timeout"
    if _is_status(error):
        return "status"
    if isinstance(error, (HTTPConnectionClosed, http.client.RemoteDisconnected)):
        return "reset"
    if isinstance(error, socket.gaierror):
        return "refused"
    if isinstance(error, SSLError):
        return "protocol"
    if isinstance(error, OSError) and error.errno is not None:
        if error.errno in _OURS:
            return "exception"
        if error.errno in _UNREACHABLE:
            return "refused"
        if error.errno in _RESET:
            return "reset"
        return "timeout" if error.errno == errno.ETIMEDOUT else None
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, ConnectionError):
        return "reset"
    return "protocol" if isinstance(error, _PROTOCOL) else None


def _is_status(error: BaseException) -> bool:
    """requests' HTTPError, or FastHttpUser's bad status, which carries it as `code`."""
    return isinstance(error, requests.exceptions.HTTPError) or isinstance(getattr(error, "code", None), int)


_PROTOCOL = (
    HTTPParseError,
    http.client.HTTPException,
    zlib.error,
    urllib3.exceptions.ProtocolError,
    urllib3.exceptions.DecodeError,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
    requests.exceptions.TooManyRedirects,
)


def _chain(exception: BaseException) -> list[BaseException]:
    """The exception and what it wraps, innermost first: clients wrap the cause in layers of their own."""
    found: list[BaseException] = []
    todo = [exception]
    while todo and len(found) < 20:
        error = todo.pop(0)
        if error in found:
            continue
        found.append(error)
        wrapped = [getattr(error, "original", None), getattr(error, "reason", None), error.__cause__, error.__context__]
        todo += [w for w in (*wrapped, *error.args) if isinstance(w, BaseException)]
    return found[::-1]
