"""The user that a locustfile subclasses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from locust.exception import StopTest
from locust.user import User
from locust.user.users import RestMixin

from harness.load.lean.session import LeanSession
from harness.load.lean.tls import ContextFactory


class LeanHttpUser(User, RestMixin):  # type: ignore[misc]
    """A Locust user whose `self.client` is a LeanSession. To be set in a subclass:

    timeout              seconds in all for a request, from sending to the last byte; the harness's --request-timeout
                         may end it earlier. A pair (to connect, to read) is its sum, None no limit of its own
    resend_any           True: a request that meets a stale connection is sent again also when its method (POST, PATCH)
                         does not allow to do things twice
    insecure             True: do not hold https servers to their certificates
    default_headers      for every request
    ssl_context_factory  makes the ssl.SSLContext of a user, in place of the default one
    """

    abstract = True
    timeout: float | tuple[float | None, float | None] | None = 60.0
    resend_any: bool = False
    insecure: bool = False
    default_headers: Mapping[str, str] | None = None
    ssl_context_factory: ContextFactory | None = None

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        if self.host is None:
            raise StopTest("no host: name it on the command line (--host), or in the user class")
        own_context = type(self).context is not User.context
        self.client = LeanSession(
            self.host,
            environment.events.request,
            timeout_s=self.timeout,
            verify=not self.insecure,
            default_headers=self.default_headers,
            # As an attribute of the class it may be a plain function, which would be bound to the user.
            ssl_context_factory=type(self).__dict__.get("ssl_context_factory", type(self).ssl_context_factory),
            context=self.context if own_context else None,
            resend_any=self.resend_any,
        )
