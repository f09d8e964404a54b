"""Locust's clients, told to report to the tracker.

HttpUser and FastHttpUser are hooked around `request` of their sessions, LeanHttpUser asks for its observer itself;
other clients are seen through Locust's `request` event, and those that measure with `events.request.measure` get the
total time-out too. The clients' own time-outs are per socket operation: a server that drips a byte now and then never
meets them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from select import POLLIN
from typing import Any

import gevent

from harness.load.allowed_hosts.rule import host_of
from harness.load.allowed_hosts.traceparent import Tracer
from harness.load.generator.tracker import Tracker
from harness.load.lean.deadlines import RequestTimeout
from harness.load.lean.session import LeanSession
from harness.load.record.in_flight import Call


def hook_clients(tracker: Tracker, environment: Any) -> None:
    """Once per process, after the locustfile was imported."""
    # First in line: the request is over before any listener of the user's runs.
    environment.events.request._handlers.insert(0, tracker.on_request)
    LeanSession.observer = tracker
    _hook_fast(tracker)
    _hook_requests(tracker)
    _hook_measure(tracker, environment.events.request)


def _hook_fast(tracker: Tracker) -> None:
    from locust.contrib.fasthttp import FastHttpSession

    original = FastHttpSession.request

    def request(session: Any, method: str, url: str, name: str | None = None, *rest: Any, **options: Any) -> Any:
        call = _begin(tracker, name or session.request_name or url)
        try:
            response = original(session, method, url, name, *rest, **options)
        except BaseException as error:
            tracker.broke(call, error)
            raise
        finally:
            call.greenlet.harness_call = None
            # A socket that is interrupted while it is written to keeps its place in the user's own pool for
            # ever. A pool that users share is theirs to look after.
            if call.timed_out and (session.user is None or session.user.client_pool is None):
                session.client.clientpool.clients.clear()
        if not call.done:
            _carry(call, getattr(response, "request_meta", {}).get("response"))
        tracker.undecided(call, response)
        return response

    FastHttpSession.request = request

    check_idle_sockets_with_poll()


def _hook_requests(tracker: Tracker) -> None:
    from locust.clients import HttpSession, ResponseContextManager
    from requests.exceptions import ReadTimeout

    original, send = HttpSession.request, HttpSession._send_request_safe_mode

    def request(session: Any, method: str, url: str, name: str | None = None, *rest: Any, **options: Any) -> Any:
        call = _begin(tracker, name or session.request_name or str(url))
        try:
            response = original(session, method, url, name, *rest, **options)
        except BaseException as error:
            tracker.broke(call, error)
            raise
        finally:
            call.greenlet.harness_call = None
        if not call.done:
            _carry(call, response)
        tracker.undecided(call, response)
        return response

    def send_request(session: Any, method: str, url: str, **options: Any) -> Any:
        try:
            return send(session, method, url, **options)
        except RequestTimeout:
            return ResponseContextManager(ReadTimeout(f"no complete answer within {tracker.timeout_s:g} s"))

    HttpSession.request = request
    HttpSession._send_request_safe_mode = send_request


def hook_headers(tracer: Tracer) -> None:
    """FastHttpUser and HttpUser, where a request and each redirect of it are sent. Once per process."""
    from locust.clients import HttpSession
    from locust.contrib.fasthttp import LocustUserAgent

    send, open_url = HttpSession.send, LocustUserAgent._urlopen

    def send_stamped(session: Any, request: Any, **options: Any) -> Any:
        call: Call | None = getattr(gevent.getcurrent(), "harness_call", None)
        if call is not None:
            tracer.stamp(call, host_of(str(request.url)), request.headers)
        return send(session, request, **options)

    def open_stamped(agent: Any, request: Any) -> Any:
        call: Call | None = getattr(gevent.getcurrent(), "harness_call", None)
        if call is not None:
            tracer.stamp(call, str(request.url_split.host), request.headers)
        return open_url(agent, request)

    HttpSession.send = send_stamped
    LocustUserAgent._urlopen = open_stamped


def _hook_measure(tracker: Tracker, hook: Any) -> None:
    original = hook.measure

    @contextmanager
    def measure(request_type: str, name: str, *rest: Any, **options: Any) -> Iterator[dict[str, Any]]:
        call = _begin(tracker, name)
        try:
            with original(request_type, name, *rest, **options) as meta:
                try:
                    yield meta
                except RequestTimeout as error:
                    raise TimeoutError(f"no complete answer within {tracker.timeout_s:g} s") from error
                except gevent.GreenletExit as error:
                    # Locust would fire the event without an exception: a stopped user is no success.
                    tracker.broke(call, error)
                    raise
        finally:
            tracker.returned(call)
            call.greenlet.harness_call = None

    hook.measure = measure


def _begin(tracker: Tracker, name: str) -> Call:
    """The event that the client fires carries no sign of ours, so the call is found by its greenlet."""
    call = tracker.begin(name)
    call.greenlet.harness_call = call
    return call


def _carry(call: Call, carrier: Any) -> None:
    """catch_response: the event comes later, with `carrier` as its response."""
    if carrier is not None and call.state is not None:
        carrier._harness_call = call


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
