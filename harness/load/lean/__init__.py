"""A fast HTTP client for Locust users: `from harness.load.lean import LeanHttpUser`.

    class Buyer(LeanHttpUser):
        @task
        def buy(self):
            self.client.post("/orders", json={"sku": 7})

The calls are those of Locust's FastHttpUser. It costs a fraction of it, because it does less: HTTP/1.1 only, no
proxies, no uploads of files, no streaming of bodies; redirects are followed when a request asks for it. docs/load.md
has the differences. It works under plain Locust as well as under the harness.

    user         LeanHttpUser: what a locustfile subclasses
    session      `self.client`: from the arguments of a call to the bytes of a request, and its outcome to Locust
    request      those bytes, as requests would send them
    onward       where a redirect leads, and what is sent there
    response     what a call returns
    connection   one connection: a reply is read and parsed by the event loop itself, without a greenlet
    parser       the reply's head and body from geventhttpclient's C parser
    unpack       bodies that came compressed
    limits       how much of a reply is kept
    tls          the same over TLS
    dial         name to address to connected socket
    deadlines    the total time-out of every request, by one timer
    cookies      the standard library's cookie jar
"""

from harness.load.lean.response import BadStatus, LeanResponse
from harness.load.lean.session import LeanSession
from harness.load.lean.user import LeanHttpUser

__all__ = ["BadStatus", "LeanHttpUser", "LeanResponse", "LeanSession"]
