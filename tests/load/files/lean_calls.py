"""Calls LeanSession as a locustfile would, in a process of its own (Locust patches sockets), and prints what came.

python lean_calls.py URL NAME        runs the function of that name, prints its events and its answer as JSON
"""

import io
import json
import sys
import time
import tracemalloc

import gevent
from locust.event import EventHook

from harness.load.lean import LeanSession
from harness.load.record.failures import failure_kind

URL, NAME = sys.argv[1:]
EVENTS = []
HOOK = EventHook()


@HOOK.add_listener
def on_request(
    request_type, name, response, exception, response_length, response_time, context, url, start_time, **rest
):
    assert not rest, rest
    kind, _ = failure_kind(exception, response)
    EVENTS.append([request_type, name, kind, response_length])
    assert response_time >= 0 and abs(time.time() - start_time) < 60 and url.startswith("http")


def session(**options):
    return LeanSession(URL, HOOK, **options)


def told(reply):
    """What a test wants to know of a reply."""
    return [reply.status_code, reply.text, repr(reply.error) if reply.error else None]


def verbs():
    client = session(default_headers={"X-Default": "d"})
    client.get("/a", params={"q": "x y", "n": [1, 2]}, headers={"X-Own": "1", "user-agent": "me"}, name="named")
    client.post("/a", json={"k": [1, None, "ü"]})
    client.put("/a", data="text ü")
    client.patch("/a", data=b"\x00\xff")
    client.post("/a", data={"f": "a b", "g": "&"})
    client.delete("/a", auth=("me", "secret"))
    client.options("/a", headers={"X-Default": None})
    client.post("/a")
    client.request("PURGE", "relative")
    return [told(client.head("/head")), client.get("/a?x=ü y#frag").url]


def replies():
    client = session()
    return {name: told(client.get(f"/{name}")) for name in sys.stdin.read().split()}


def repeats():
    client = session()
    return [told(client.get(f"/{name}")) for name in sys.stdin.read().split()]


def headers():
    reply = session().get("/headers")
    return [reply.headers["X-One"], reply.headers.get("x-EMPTY"), reply.headers["x-two"], reply.ok, reply.json()]


def failures():
    """Each on a fresh connection."""
    found = {}
    for name in sys.stdin.read().split():
        reply = session(timeout_s=0.5).get(f"/{name}")
        found[name] = [reply.status_code, failure_kind(reply.error, reply)[0], reply.ok, reply.content]
        try:
            reply.json()
        except ValueError:
            found[name].append("no JSON")
    return found


def kept():
    """GET /fine, then the given requests on the same connection."""
    found = []
    for name in sys.stdin.read().split():
        client = session(timeout_s=1)
        client.get("/fine")
        gevent.sleep(0.2 if name.endswith("later") else 0)
        reply = client.post(f"/{name}", data="x")
        found.append([name, reply.status_code, failure_kind(reply.error, reply)[0]])
    return found


def race():
    """The server closes while the client is busy with something else, so that it finds out when it has sent."""
    client = session(timeout_s=2)
    client.get("/then-close")
    time.sleep(0.3)
    return told(client.post("/fine", data="x"))


def timeouts():
    client, found = session(timeout_s=30), []
    for path, limit in (("/hang", 0.3), ("/drip", 0.4), ("/hang", 0.2)):
        start = time.monotonic()
        reply = client.get(path, timeout=limit)
        found.append([told(reply), failure_kind(reply.error, reply)[0], time.monotonic() - start])
    start = time.monotonic()
    waiting = [gevent.spawn(client.get, "/hang", timeout=limit) for limit in (0.6, 0.2, 0.4)]
    gevent.joinall(waiting)
    found.append([[failure_kind(g.value.error, g.value)[0] for g in waiting], time.monotonic() - start])
    with gevent.Timeout(0.2, False):
        client.get("/hang")
    found.append([told(client.get("/fine")), 0])
    return found


def abandoned():
    """By its time-out, and by a user that is stopped."""
    client = session()
    reply = client.get("/hang", timeout=0.3)
    waiting = gevent.spawn(client.get, "/hang")
    gevent.sleep(0.2)
    waiting.kill()
    return [failure_kind(reply.error, reply)[0], told(client.get("/fine"))]


def killed():
    """A user that is stopped during a request: its connection is gone, and the next one is as good as new."""
    client = session()
    waiting = gevent.spawn(client.get, "/hang")
    gevent.sleep(0.2)
    waiting.kill()
    return told(client.get("/fine"))


def big():
    client = session()
    sent = client.post("/echo", data="ü" * 3_000_000)
    return [len(sent.content), told(client.post("/too-big", data="x" * 20_000_000)), told(client.get("/fine"))]


def redirects():
    client = session()
    unfollowed = client.get("/to-fine")
    found = {"not followed": [unfollowed.status_code, unfollowed.ok, unfollowed.headers["location"]]}
    for name in sys.stdin.read().split():
        reply = client.post(f"/{name}", data="x", headers={"Authorization": "a"}, allow_redirects=True)
        found[name] = [reply.status_code, failure_kind(reply.error, reply)[0], len(reply.history), reply.url]
    return found


def cookies():
    client = session()
    for path in ("/before", "/log-in", "/after", "/other", "/log-out", "/end"):
        client.get(path)


def catching():
    client, found = session(), []
    with client.get("/fine", catch_response=True) as reply:
        reply.failure("not good enough")
    with client.get("/status", catch_response=True) as reply:
        reply.success()
    with client.get("/status", catch_response=True):
        pass
    with client.get("/fine", catch_response=True, name="by hand"):
        pass
    try:
        with client.get("/fine", catch_response=True):
            raise KeyError("mine")
    except KeyError:
        found.append("raised")
    for wrong in (lambda: client.get("/fine").success(), lambda: client.get("/fine").__enter__()):
        try:
            wrong()
        except Exception as error:
            found.append(type(error).__name__)
    with client.rename_request("grouped"):
        client.get("/fine")
    return found


def refusals():
    """What no request can be made of is the caller's mistake, and raised."""
    client, found = session(), []
    for options in (
        {"headers": {"X-Bad": "two\nlines"}},
        {"headers": {"Bad name": "x"}},
        {"headers": {"Transfer-Encoding": "chunked"}},
        {"data": object()},
        {"json": object()},
        {"stream": True},
    ):
        try:
            client.post("/fine", **options)
            found.append(None)
        except (TypeError, ValueError) as error:
            found.append(type(error).__name__)
    return found


class Watch:
    """As the harness watches: it must hear of the end of each request that it heard the beginning of."""

    timeout_s = 60

    def __init__(self):
        self.open = 0

    def begin(self, name):
        assert isinstance(name, str)
        self.open += 1

    def trace(self, call, host, own):
        return b""

    def broke(self, call, error):
        self.open -= 1

    def undecided(self, call, response):
        self.open -= 1

    def on_request(self, *_, **__):
        self.open -= 1


def odd_arguments():
    """Whatever a call is given, the harness hears the end of it."""
    client, found = session(context=lambda: {"k": 1}), {}
    LeanSession.observer = watch = Watch()
    for name, options in {
        "pair of timeouts": {"timeout": (3, 10)},
        "long": {"timeout": 1e300},
        "open": {"timeout": (None, None)},
        "no timeout": {"timeout": 0},
        "text as timeout": {"timeout": "3"},
        "not a number": {"timeout": float("nan")},
        "three timeouts": {"timeout": (1, 2, 3)},
        "a list of contexts": {"context": ["x"]},
        "auth of one": {"auth": ("me",)},
        "auth object": {"auth": object()},
        "auth of numbers": {"auth": (1, 2)},
        "number as header": {"headers": {"X-N": 1}},
        "yes as header": {"headers": {"X-N": True}},
        "list as header": {"headers": {"X-N": [1]}},
        "params of one": {"params": 5},
        "params of text": {"params": ["ab"]},
        "generator": {"data": (piece for piece in (b"a", "b", bytearray(b"c")))},
        "file": {"data": io.BytesIO(b"file")},
        "generator of numbers": {"data": iter([1])},
        "files": {"files": {"f": b"x"}},
        "no files": {"files": None, "stream": False, "cookies": None, "proxies": {}},
        "stream": {"stream": True},
        "verify": {"verify": False},
        "misspelt": {"jsn": None},
        "NaN": {"json": {"a": float("nan")}},
        "null": {"json": {"a": None, "b": "null"}},
        "name": {"name": ["a", "list"]},
    }.items():
        try:
            found[name] = told(client.post("/echo", **options))[1]
        except (TypeError, ValueError) as error:
            found[name] = type(error).__name__
        assert watch.open == 0, name
    for url in (None, b"/bytes", 7, "http://[", "http:///x", "http://127.0.0.1:x/"):
        try:
            client.get(url)
            found[repr(url)] = None
        except (TypeError, ValueError) as error:
            found[repr(url)] = type(error).__name__
        assert watch.open == 0, url
    return found


def stale():
    """METHOD /path, on a connection that was used before: what came, and how often something was sent again."""
    found = []
    for line in sys.stdin.read().splitlines():
        method, path, *more = line.split()
        client = session(timeout_s=1.5, resend_any="any" in more)
        if "fresh" not in more:
            client.get("/fine")
        start = time.monotonic()
        reply = client.request(method, path, data="x" if method in ("POST", "PUT") else None)
        kind = failure_kind(reply.error, reply)[0]
        found.append([kind, reply.stale, client.stale, time.monotonic() - start])
    return found


def limits():
    """Each reply: what is said of it, and the most memory that its request took."""
    found = {}
    for line in sys.stdin.read().splitlines():
        name, seconds = line.split()
        tracemalloc.start()
        reply = session().get(f"/{name}", timeout=float(seconds))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        kept = len(reply.content) if reply.content is not None else None
        found[name] = [failure_kind(reply.error, reply)[0], kept, reply.truncated, peak, str(reply.error)]
        reply = None
    return found


def redirected():
    """Where each path leads."""
    client, found = session(default_headers={"Authorization": "class"}), {}
    for name in sys.stdin.read().split():
        reply = client.get(f"/{name}", allow_redirects=True)
        found[name] = [reply.status_code, failure_kind(reply.error, reply)[0], len(reply.history)]
    return found


def parallel():
    """One user, several requests at once, as its helpers may make them; then the connections are used again."""
    client = session()
    for _ in range(2):
        gevent.joinall([gevent.spawn(client.get, "/slow") for _ in range(5)])
        gevent.sleep(0.05)


def tls():
    reply = session().get("/fine")
    careless = session(verify=False).get("/fine")
    again = session(verify=False)
    return [told(reply), told(careless), [told(again.post("/echo", data="x" * n))[0] for n in (1, 100_000, 5_000_000)]]


answer = globals()[NAME]()
print(json.dumps({"answer": answer, "events": EVENTS}, default=lambda b: b.decode("latin-1")))
