"""Every request of every client: whose it is, when it started, its total time-out, how it ended.

HttpUser and FastHttpUser are hooked around `request` of their sessions; other clients through Locust's `request`
event, and those that measure with `events.request.measure` get the total time-out too. The clients' own time-outs
are per socket operation: a server that drips a byte now and then never meets them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from select import POLLIN
from typing import Any

import gevent
from gevent import getcurrent

from harness.load.arrival import Arrival, UserState
from harness.load.calls import Call, owner_of
from harness.load.closed import Cycles
from harness.load.failures import failure_kind
from harness.load.recorder import Recorder
from harness.model.clock import monotonic

REAP_S = 0.02
"""How often open requests are compared with the time-out: one timer for all of them."""


class RequestTimeout(gevent.Timeout):  # type: ignore[misc]
    """Thrown into the greenlet whose request is open longer than the total time-out."""


class Tracker:
    """All requests of this process. cycles: closed model only, to add virtual arrivals."""

    def __init__(self, recorder: Recorder, timeout_s: float, cycles: Cycles | None = None) -> None:
        self._recorder = recorder
        self._timeout_s = timeout_s
        self._cycles = cycles
        self._open: dict[Call, None] = {}
        self._timer: Any = None

    def install(self, environment: Any) -> None:
        """Hook the clients and the event; once per process, after the locustfile was imported."""
        # First in line: the request is over before any listener of the user's runs.
        environment.events.request._handlers.insert(0, self._on_request)
        self._hook_fast()
        self._hook_requests()
        self._hook_measure(environment.events.request)
        self._timer = gevent.get_hub().loop.timer(REAP_S, REAP_S)
        self._timer.start(self._reap)

    def begin(self, name: str) -> Call:
        greenlet = getcurrent()
        call = Call(name, owner_of(greenlet), greenlet, monotonic())
        if call.arrival is not None:
            call.step = call.arrival.step if call.first else self._recorder.step(call.start)
            self._recorder.started(name, call.step)
        self._open[call] = None
        greenlet.harness_call = call
        return call

    def abandon(self, arrival: Arrival | None = None) -> None:
        """What is open now (of this arrival, or at all) is unfinished."""
        for call in [c for c in self._open if arrival is None or c.arrival is arrival]:
            self._returned(call)
            self._record(call, call.name, (monotonic() - call.start) * 1000, "unfinished", "open when the load ended")

    def task_ended(self, state: UserState, error: BaseException | None) -> None:
        """Requests whose outcome the task was to decide and did not: Locust forgets them, we do not."""
        for call in state.unreported:
            if call.done:
                continue
            kind: str | None
            if error is not None:
                kind, text = "exception", f"{type(error).__name__}: {error}"
            else:
                kind, text = failure_kind(getattr(call.response, "error", None), call.response)
            self._record(call, call.name, call.took_ms, kind, text)
        state.unreported.clear()

    def _returned(self, call: Call) -> None:
        if not call.active:
            return
        call.active = False
        self._open.pop(call, None)
        if call.arrival is not None:
            self._recorder.finished(call.name, call.step)

    def _broke(self, call: Call, error: BaseException) -> None:
        """The client raised, so Locust fires no event."""
        self._returned(call)
        if call.done:
            return
        took_ms = (monotonic() - call.start) * 1000
        if isinstance(error, gevent.GreenletExit):
            self._record(call, call.name, took_ms, "unfinished", "its user was stopped")
        else:
            kind, text = failure_kind(error, None)
            self._record(call, call.name, took_ms, kind or "exception", text)

    def _on_request(
        self,
        request_type: str,
        name: str,
        response_time: float | None,
        response_length: int | None = 0,
        response: Any = None,
        exception: BaseException | None = None,
        **_other: Any,
    ) -> None:
        took_ms = max(0.0, float(response_time or 0.0))
        call: Call | None = getattr(response, "_harness_call", None)
        if call is None:
            greenlet = getcurrent()
            call = getattr(greenlet, "harness_call", None)
            if call is None or call.done:
                # A client of another kind: all that is known is that it is over, and how long it took.
                call = Call(name, owner_of(greenlet), greenlet, monotonic() - took_ms / 1000)
                call.active = False
        self._returned(call)
        if call.done:
            return
        kind, text = failure_kind(exception, response)
        if kind is None and took_ms > self._timeout_s * 1000:
            kind, text = "timeout", f"took {took_ms / 1000:.1f} s"
        self._record(call, name, took_ms, kind, text)

    def _record(self, call: Call, name: str, took_ms: float, kind: str | None, text: str) -> None:
        call.done = True
        name = str(name)
        delay_ms = max(0.0, call.start - call.intended) * 1000
        if call.arrival is None:
            self._recorder.setup(name, call.start, took_ms, kind, text)
            return
        self._recorder.request(name, call.intended, delay_ms + took_ms, kind, text)
        if call.first:
            self._recorder.replied(call.arrival, kind)
        if self._cycles is not None:
            for intended, latency_ms, count in self._cycles.missed(call.arrival.class_name, call.start, took_ms):
                self._recorder.virtual(name, intended, latency_ms, kind, count)
            if kind is None:
                self._cycles.replied(call.arrival.class_name, took_ms)

    def _reap(self) -> None:
        """Runs in the hub, so a greenlet with an active call is certainly inside its client."""
        limit = monotonic() - self._timeout_s
        while self._open:
            # Oldest first: all have the same time-out.
            call = next(iter(self._open))
            if call.start > limit:
                return
            self._returned(call)
            call.timed_out = True
            if not call.greenlet.dead:
                call.greenlet.throw(RequestTimeout(self._timeout_s))

    def _hook_fast(self) -> None:
        from locust.contrib.fasthttp import FastHttpSession

        original = FastHttpSession.request

        def request(session: Any, method: str, url: str, name: str | None = None, *rest: Any, **options: Any) -> Any:
            call = self.begin(name or session.request_name or url)
            try:
                response = original(session, method, url, name, *rest, **options)
            except BaseException as error:
                self._broke(call, error)
                raise
            finally:
                call.greenlet.harness_call = None
                # A socket that is interrupted while it is written to keeps its place in the user's own pool for
                # ever. A pool that users share is theirs to look after.
                if call.timed_out and (session.user is None or session.user.client_pool is None):
                    session.client.clientpool.clients.clear()
            self._decided_later(call, response, getattr(response, "request_meta", {}).get("response"))
            return response

        FastHttpSession.request = request

        check_idle_sockets_with_poll()

    def _hook_requests(self) -> None:
        from locust.clients import HttpSession, ResponseContextManager
        from requests.exceptions import ReadTimeout

        original, send = HttpSession.request, HttpSession._send_request_safe_mode

        def request(session: Any, method: str, url: str, name: str | None = None, *rest: Any, **options: Any) -> Any:
            call = self.begin(name or session.request_name or str(url))
            try:
                response = original(session, method, url, name, *rest, **options)
            except BaseException as error:
                self._broke(call, error)
                raise
            finally:
                call.greenlet.harness_call = None
            self._decided_later(call, response, response)
            return response

        def send_request(session: Any, method: str, url: str, **options: Any) -> Any:
            try:
                return send(session, method, url, **options)
            except RequestTimeout:
                return ResponseContextManager(ReadTimeout(f"no complete answer within {self._timeout_s:g} s"))

        HttpSession.request = request
        HttpSession._send_request_safe_mode = send_request

    def _hook_measure(self, hook: Any) -> None:
        original = hook.measure

        @contextmanager
        def measure(request_type: str, name: str, *rest: Any, **options: Any) -> Iterator[dict[str, Any]]:
            call = self.begin(name)
            try:
                with original(request_type, name, *rest, **options) as meta:
                    try:
                        yield meta
                    except RequestTimeout as error:
                        raise TimeoutError(f"no complete answer within {self._timeout_s:g} s") from error
                    except gevent.GreenletExit as error:
                        # Locust would fire the event without an exception: a stopped user is no success.
                        self._broke(call, error)
                        raise
            finally:
                self._returned(call)
                call.greenlet.harness_call = None

        hook.measure = measure

    def _decided_later(self, call: Call, response: Any, carrier: Any) -> None:
        """catch_response: the event comes when the caller's with-block ends, with `carrier` as its response."""
        self._returned(call)
        if call.done or call.state is None:
            return
        call.took_ms = (monotonic() - call.start) * 1000
        call.response = response
        if carrier is not None:
            carrier._harness_call = call
        call.state.unreported.append(call)


def check_idle_sockets_with_poll() -> None:
    """geventhttpclient asks select() whether an idle connection is still open, which refuses descriptors from 1024
    on and so takes every connection of the thousandth user for dead: a new one for each request."""
    from gevent.monkey import get_original
    from geventhttpclient.connectionpool import ConnectionPool

    poll = get_original("select", "poll")

    def is_alive(_pool: Any, sock: Any) -> bool:
        if sock is None or sock.fileno() < 0:
            return False
        poller = poll()
        poller.register(sock.fileno(), POLLIN)
        # An idle connection has nothing to say: readable means closed, or out of step.
        return not poller.poll(0)

    ConnectionPool._is_socket_alive = is_alive
