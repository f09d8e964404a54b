"""A client that Locust does not have: XML-RPC of the standard library. `measure` fires the `request` event.

So measured, a call is bounded by `--request-timeout` and seen while it is open. A client that fires the event itself
when it is done works as well, but cannot be ended.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit
from xmlrpc.client import Fault, ServerProxy

from locust import User, task


class RpcClient:
    def __init__(self, host: str, environment: Any) -> None:
        self._server = ServerProxy(f"{host}/RPC2")
        self._events = environment.events

    def call(self, method: str, *words: Any) -> Any:
        with self._events.request.measure("xmlrpc", method) as request:
            try:
                return getattr(self._server, method)(*words)
            except Fault as error:
                # An answer, and a bad one; what else goes wrong `measure` notes by itself.
                request["exception"] = error


class Caller(User):
    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        assert urlsplit(self.host).scheme == "http"
        self.client = RpcClient(self.host, environment)

    @task
    def add(self) -> None:
        self.client.call("add", 2, 3)
