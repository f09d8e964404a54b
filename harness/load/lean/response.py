"""What a call of the client returns, and how its outcome gets to Locust."""

from __future__ import annotations

import json
from datetime import timedelta
from types import TracebackType
from typing import Any

import msgspec
from geventhttpclient.header import Headers
from locust.exception import CatchResponseError, LocustError, ResponseError

from harness.load.lean.parser import Head


class BadStatus(ConnectionError):
    """The server answered with an error status. code: which."""

    def __init__(self, code: int) -> None:
        super().__init__(f"HTTP status {code}")
        self.code = code


class LeanResponse:
    """A reply, or why there is none: then status_code is 0, content None and error the reason.

    url: that was asked for last. content: unpacked. error: also BadStatus, where the status is one (400 and above).
    history: the redirects that were followed, oldest first. truncated: bytes of the body (unpacked) that came and were
    not kept, because it is longer than 64 MiB. stale: how often a request of this call was sent again, because the
    kept connection it went out on turned out to be closed.
    """

    # Of the class, as long as they say nothing: a request pays for what it sets.
    truncated: int = 0
    stale: int = 0

    __slots__ = (
        "__dict__",
        "_catch",
        "_entered",
        "_harness_call",
        "_head",
        "_headers",
        "_request_event",
        "_result",
        "content",
        "encoding",
        "error",
        "history",
        "request_meta",
        "status_code",
        "took_s",
        "url",
    )

    content: bytes | None
    request_meta: dict[str, Any]
    _request_event: Any

    def __init__(self, url: str, head: Head, content: bytes | None) -> None:
        self.url = url
        self.status_code = head.status
        self.content = content
        self.error: BaseException | None = None
        self.history: tuple[LeanResponse, ...] = ()
        self.encoding: str | None = None
        self.took_s = 0.0
        self._head = head
        self._headers: Headers | None = None
        self._catch = self._entered = False
        self._result: Exception | bool | None = None
        self._harness_call: Any = None

    @property
    def headers(self) -> Headers:
        """Case-insensitive; empty without a reply."""
        if self._headers is None:
            self._headers = Headers(zip(self._head.names, self._head.values, strict=True))
        return self._headers

    @property
    def ok(self) -> bool:
        """A status below 400."""
        return 0 < self.status_code < 400

    @property
    def elapsed(self) -> timedelta:
        """From sending to the last byte, redirects included."""
        return timedelta(seconds=self.took_s)

    @property
    def text(self) -> str | None:
        """In the reply's own charset, UTF-8 where it names none; `encoding`, when it was set before, comes first."""
        if self.content is None:
            return None
        try:
            return self.content.decode(self.encoding or self._charset(), "replace")
        except LookupError:
            return self.content.decode("utf-8", "replace")

    def json(self) -> Any:
        """Raises ValueError (json.JSONDecodeError) when it is none, or there is no reply."""
        if self.content is None:
            raise json.JSONDecodeError("there is no reply", "", 0)
        try:
            return msgspec.json.decode(self.content)
        except (msgspec.DecodeError, UnicodeDecodeError):
            # Another encoding, NaN, or a good error message.
            return json.loads(self.content)

    def raise_for_status(self) -> None:
        """Raises the error, if there is one."""
        if self._result is True:
            return
        error = self._result or self.error
        if error:
            raise error

    # With catch_response=True

    def __enter__(self) -> LeanResponse:
        if not self._catch:
            raise LocustError("a with-block for a request needs catch_response=True")
        self._entered = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        meta = self.request_meta
        if self._result is not None:
            meta["exception"] = None if self._result is True else self._result
        elif error is None:
            meta["exception"] = self.error
        elif isinstance(error, ResponseError):
            meta["exception"] = error
        else:
            return False
        self._request_event.fire(**meta)
        # A reply that knows itself would wait for the garbage collector, thousands of them at a time.
        del meta["response"]
        return error is None or self._result is None

    def success(self) -> None:
        """Inside the with-block: it counts as a success, whatever the status."""
        self._decide(True)

    def failure(self, reason: object) -> None:
        """Inside the with-block: it counts as a failure, for this reason (text, or an exception)."""
        self._decide(reason if isinstance(reason, Exception) else CatchResponseError(reason))

    def _decide(self, result: Exception | bool) -> None:
        if not self._entered:
            raise LocustError("success() and failure() belong into a with-block of a call with catch_response=True")
        self._result = result

    def _charset(self) -> str:
        kind = self.headers.get("content-type")
        if isinstance(kind, str):
            for part in kind.split(";")[1:]:
                key, _, value = part.partition("=")
                if key.strip().lower() == "charset":
                    return value.strip(" \"'") or "utf-8"
        return "utf-8"

    def __repr__(self) -> str:
        return f"<LeanResponse {self.status_code or self.error!r} {self.url}>"
