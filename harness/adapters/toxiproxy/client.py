"""Toxiproxy's control plane: the only place that imports toxiproxy-python.

Writes go through toxiproxy-python, reads are raw. The library has no time-outs, keeps host and port on a class, sends
names unquoted and takes a 500 for success; so each of its calls runs alone, under a lock, with host and port set right
before it and with its HTTP calls sent through `_Transport`. After every write the state is read back, because the
server ignores unknown attributes silently. `/reset` and `/populate` are never used: they touch what is not ours.

Errors: Unreachable (nothing listens, nothing was done), OutcomeUnknown (a write without an answer, or a 5xx: it may
still happen), Rejected (the server said no), Gone (that proxy or toxic does not exist).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlsplit

import msgspec

from harness.adapters.wire import http
from harness.model.clock import monotonic
from harness.model.errors import Gone, OutcomeUnknown, Rejected, Silent, Unreachable, UsageError
from harness.model.records.faults import Applied

if TYPE_CHECKING:
    import requests

Stream = Literal["downstream", "upstream"]

TOXICS: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "latency": {"latency": 0, "jitter": 0},
        # 1 and not 0: rate 0 means "no limit" to Toxiproxy, and a negative one panics it.
        "bandwidth": {"rate": 1},
        "slow_close": {"delay": 0},
        "timeout": {"timeout": 0},
        "reset_peer": {"timeout": 0},
        # 1 and not 0: with a variation of 0 the first data that it slices panics the whole server.
        "slicer": {"average_size": 2, "size_variation": 1, "delay": 0},
        "limit_data": {"bytes": 0},
    }
)
"""The toxics of Toxiproxy 2.12: type -> attribute -> its lowest sensible value. All attributes are whole numbers."""

_HIGHEST = 2**31 - 1

# toxiproxy-python keeps its address on a class: only one thread may be inside it.
_LIBRARY = threading.Lock()


class ToxicState(msgspec.Struct, frozen=True, kw_only=True):
    """A toxic as the server reports it."""

    name: str
    type: str
    stream: str
    toxicity: float = 1.0
    attributes: dict[str, Any] = {}


class ProxyState(msgspec.Struct, frozen=True, kw_only=True):
    """A proxy as the server reports it. listen and upstream are HOST:PORT."""

    name: str
    listen: str
    upstream: str
    enabled: bool
    toxics: tuple[ToxicState, ...] = ()

    def toxic(self, name: str) -> ToxicState | None:
        return next((toxic for toxic in self.toxics if toxic.name == name), None)


class Toxiproxy:
    """One Toxiproxy server. url: `http://HOST:PORT`. timeout_s: for each answer; connecting gets at most 2 s of it.

    Raises UsageError when the URL is not one toxiproxy-python can speak to.
    """

    def __init__(self, url: str, *, timeout_s: float = 5.0) -> None:
        parts = urlsplit(url)
        try:
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if parts.scheme != "http" or not host or parts.path.strip("/") or parts.query or parts.username:
            raise UsageError(f"Toxiproxy URL {url!r} is not understood", hint="write it as http://HOST:PORT")
        self._host = f"[{host}]" if ":" in host else host
        self._port = port or 8474
        self.url = f"http://{self._host}:{self._port}"
        self._transport = _Transport(self.url, timeout_s)

    def version(self) -> str:
        """The server's version ("2.12.0"; "git" when it was built without one)."""
        body = self._read("/version")
        return str(body.get("version", "")) if isinstance(body, dict) else ""

    def proxies(self) -> dict[str, ProxyState]:
        """Every proxy by name. Raises Unreachable, Rejected."""
        found: dict[str, ProxyState] = _decode(self._read("/proxies"), dict[str, ProxyState])
        return found

    def proxy(self, name: str) -> ProxyState:
        """One proxy with its toxics. Raises Gone when there is none, Unreachable, Rejected."""
        found: ProxyState = _decode(self._read(f"/proxies/{_path(name)}"), ProxyState)
        return found

    def set_enabled(self, name: str, enabled: bool) -> Applied:
        """Open or close a proxy's listener; closing cuts every connection. Setting it twice is harmless.

        Raises Gone, Rejected (it could not be opened: the port is taken), OutcomeUnknown, Unreachable.
        """
        with self._library() as library:
            proxy = library.Proxy(name=_path(name), listen="", upstream="", enabled=not enabled)
            sent = monotonic()
            proxy.enable() if enabled else proxy.disable()
            replied = monotonic()
        found = self._read_back(name)
        if found.enabled is not enabled:
            raise Rejected(f"proxy {name!r} reads back as {_word(found.enabled)} after it was set {_word(enabled)}")
        return Applied(sent, replied)

    def add_toxic(
        self, proxy: str, *, name: str, type: str, stream: Stream, attributes: Mapping[str, int], toxicity: float = 1.0
    ) -> Applied:
        """Add a toxic; it reaches live connections before this returns.

        Raises Rejected when an attribute is wrong, when the name exists, or when it reads back differently;
        Gone (no such proxy), OutcomeUnknown, Unreachable.
        """
        check_attributes(type, attributes)
        wanted = ToxicState(name=name, type=type, stream=stream, toxicity=float(toxicity), attributes=dict(attributes))
        _path(name)
        with self._library() as library:
            handle = library.Proxy(name=_path(proxy), listen="", upstream="", enabled=True)
            sent = monotonic()
            handle.add_toxic(name=name, type=type, stream=stream, toxicity=float(toxicity), attributes=dict(attributes))
            replied = monotonic()
        found = self._read_back(proxy).toxic(name)
        if found is None:
            raise OutcomeUnknown(f"toxic {name!r} was accepted but is not on proxy {proxy!r}")
        if not same_toxic(found, wanted):
            raise Rejected(f"toxic {name!r} reads back as {_text(found)}, asked was {_text(wanted)}")
        return Applied(sent, replied)

    def remove_toxic(self, proxy: str, name: str) -> Applied:
        """Remove a toxic. Raises Gone when it (or the proxy) does not exist: the server *answered* that.

        Raises OutcomeUnknown when there is no answer in time: under load a latency toxic can hang here for 25 s and
        end in a 503. It may be gone later or not: call again until it is answered, and read back.
        """
        with self._library() as library:
            handle = library.Proxy(name=_path(proxy), listen="", upstream="", enabled=True)
            sent = monotonic()
            handle.destroy_toxic(_path(name))
            replied = monotonic()
        if self._read_back(proxy).toxic(name) is not None:
            raise OutcomeUnknown(f"toxic {name!r} is still on proxy {proxy!r} after it was removed")
        return Applied(sent, replied)

    def create(self, name: str, *, listen: str, upstream: str, enabled: bool = True) -> Applied:
        """Make a proxy that does not exist. Raises Rejected when it does, OutcomeUnknown, Unreachable."""
        _path(name)
        with self._library() as library:
            sent = monotonic()
            library.Toxiproxy().create(upstream=upstream, name=name, listen=listen, enabled=enabled)
            replied = monotonic()
        found = self._read_back(name)
        if (found.listen, found.upstream, found.enabled) != (listen, upstream, enabled):
            raise Rejected(f"proxy {name!r} reads back as {_text(found)}")
        return Applied(sent, replied)

    def remove(self, name: str) -> Applied:
        """Remove a proxy of ours. Raises Gone when there is none, OutcomeUnknown, Unreachable."""
        with self._library() as library:
            sent = monotonic()
            library.Proxy(name=_path(name), listen="", upstream="", enabled=False).destroy()
            replied = monotonic()
        if name in self.proxies():
            raise OutcomeUnknown(f"proxy {name!r} is still there after it was removed")
        return Applied(sent, replied)

    @contextmanager
    def _library(self) -> Iterator[Any]:
        """toxiproxy-python, pointed at this server, for one call, its errors translated."""
        import toxiproxy
        import toxiproxy.api
        from toxiproxy import exceptions

        with _LIBRARY:
            original = toxiproxy.api.requests
            toxiproxy.Toxiproxy().update_api_consumer(self._host, self._port)
            toxiproxy.api.requests = self._transport
            try:
                yield toxiproxy
            except exceptions.NotFound as error:
                raise _not_found(error.args[0]) from None
            except (exceptions.ProxyExists, exceptions.InvalidToxic) as error:
                raise Rejected(f"Toxiproxy says: {_message(error.args[0])}") from None
            except ValueError as error:
                raise OutcomeUnknown(f"Toxiproxy at {self.url} answered something that is not JSON") from error
            finally:
                toxiproxy.api.requests = original

    def _read(self, path: str) -> Any:
        try:
            response = self._transport.send("GET", self.url + path)
        except OutcomeUnknown as error:
            # Reading changes nothing: without an answer there is only "no answer".
            raise (Silent if _timed_out(error) else Unreachable)(str(error)) from error
        if response.status_code == 404:
            raise _not_found(response.content)
        if response.status_code != 200:
            raise Rejected(f"Toxiproxy answered {response.status_code} to GET {path}")
        try:
            return json.loads(response.content)
        except ValueError as error:
            raise Rejected(f"{self.url} does not answer like Toxiproxy") from error

    def _read_back(self, proxy: str) -> ProxyState:
        """The state after a write. No answer now means that the write's outcome is not known."""
        try:
            return self.proxy(proxy)
        except (Unreachable, Rejected) as error:
            raise OutcomeUnknown(f"the change could not be read back: {error}") from error


class _Transport:
    """Stands where toxiproxy-python looks for the `requests` module: time-outs, no proxies, 5xx is an error."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self._url = url
        self._timeout = (min(2.0, timeout_s), timeout_s)

    def get(self, url: str, **arguments: Any) -> requests.Response:
        return self.send("GET", url, **arguments)

    def post(self, url: str, **arguments: Any) -> requests.Response:
        return self.send("POST", url, **arguments)

    def delete(self, url: str, **arguments: Any) -> requests.Response:
        return self.send("DELETE", url, **arguments)

    def send(self, method: str, url: str, **arguments: Any) -> requests.Response:
        import requests

        deadline = http.Deadline()
        try:
            # A session of its own each time: nothing is shared between threads, no stale connection is reused.
            with http.session(deadline) as session, deadline.within(sum(self._timeout)):
                response = session.request(
                    method, url, timeout=self._timeout, allow_redirects=False, stream=True, **arguments
                )
                # Read here, where there is a limit and an end; toxiproxy-python asks for it later.
                response._content = http.body_of(response)
        except Rejected as error:
            raise OutcomeUnknown(str(error)) from None
        except requests.RequestException as error:
            if _never_connected(error):
                raise Unreachable(f"no Toxiproxy answers at {self._url}") from error
            raise OutcomeUnknown(
                f"Toxiproxy at {self._url} gave no answer to {method} {url[len(self._url) :]}"
            ) from error
        if response.status_code >= 500:
            text = f"Toxiproxy answered {response.status_code}: {_message(response.content)}"
            # A listener on a taken port is refused with a 500 at once: that is a plain no.
            raise Rejected(text) if ": bind: " in text else OutcomeUnknown(text)
        if response.is_redirect:
            raise Rejected(f"{self._url} redirects elsewhere; that is not Toxiproxy")
        return response


def check_attributes(type: str, attributes: Mapping[str, int]) -> None:
    """Raise Rejected for what Toxiproxy would take silently: unknown or missing names, wrong types, bad ranges."""
    known = TOXICS.get(type)
    if known is None:
        raise Rejected(f"there is no toxic {type!r}; Toxiproxy has {', '.join(TOXICS)}")
    if set(attributes) != set(known):
        raise Rejected(f"toxic {type} takes {', '.join(known)}; got {', '.join(attributes) or 'nothing'}")
    for name, value in attributes.items():
        if isinstance(value, bool) or not isinstance(value, int) or not known[name] <= value <= _HIGHEST:
            raise Rejected(
                f"toxic {type}: {name} must be a whole number from {known[name]} to {_HIGHEST}, not {value!r}"
            )
    if type == "slicer" and attributes["size_variation"] >= attributes["average_size"]:
        raise Rejected("toxic slicer: size_variation must be below average_size")


def same_toxic(found: ToxicState, wanted: ToxicState) -> bool:
    return (found.name, found.type, found.stream) == (wanted.name, wanted.type, wanted.stream) and (
        abs(found.toxicity - wanted.toxicity) < 1e-6 and found.attributes == wanted.attributes
    )


def _path(name: str) -> str:
    """A name as a URL path segment. The server splits on an encoded slash too, so such names cannot be addressed."""
    if not name or "/" in name or name in (".", ".."):
        raise Rejected(f"the name {name!r} cannot be addressed through Toxiproxy's API")
    return quote(name, safe="")


def _decode(body: Any, type_: Any) -> Any:
    try:
        return msgspec.convert(body, type_)
    except msgspec.ValidationError as error:
        raise Rejected(f"Toxiproxy's answer is not understood: {error}") from error


def _message(content: Any) -> str:
    """The server's own words, on one line, not endless."""
    text = content.decode("utf-8", "replace") if isinstance(content, bytes) else str(content)
    try:
        body = json.loads(text)
        text = str(body["error"])
    except (ValueError, TypeError, KeyError):
        pass
    return " ".join(text.split())[:300]


def _not_found(content: Any) -> Gone | Rejected:
    """Gone only in Toxiproxy's own words: another server's 404 proves nothing."""
    message = _message(content)
    if message in ("proxy not found", "toxic not found"):
        return Gone(message)
    return Rejected(f"not Toxiproxy's answer: 404 {message}")


def _never_connected(error: Exception) -> bool:
    import requests
    from urllib3.exceptions import MaxRetryError, NewConnectionError

    if isinstance(error, requests.ConnectTimeout):
        return True
    cause = error.args[0] if error.args else None
    return isinstance(cause, MaxRetryError) and isinstance(cause.reason, NewConnectionError)


def _timed_out(error: BaseException) -> bool:
    """It was connected to and let us wait; a connection that was cut is another matter."""
    import requests

    return isinstance(error.__cause__, requests.ReadTimeout)


def _word(enabled: bool) -> str:
    return "enabled" if enabled else "disabled"


def _text(state: ProxyState | ToxicState) -> str:
    return msgspec.json.encode(state).decode()


def preload() -> None:
    """Import what the first call would, so that an urgent one (healing) does not wait for it."""
    import requests  # noqa: F401
    import toxiproxy.api  # noqa: F401
