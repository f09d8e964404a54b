"""The admin interface of an Envoy that stands in front of HTTP upstreams: runtime keys, counters, who it is.

Its answers are believed only as far as they are read back: `runtime_modify` answers OK to whatever it is given, and to
an Envoy whose configuration has no admin layer it is the one call that tells. A key that is set to nothing is gone.

Errors: Unreachable (nothing was done), OutcomeUnknown (a change without an answer), Rejected (it said no, or this is no
such Envoy), Gone (it has no front of that name).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar
from urllib.parse import quote

import msgspec

from harness.adapters.clients.envoy_configuration import keys_of, prefix
from harness.adapters.wire.http import Client, Response
from harness.model.clock import monotonic
from harness.model.errors import Gone, OutcomeUnknown, Rejected, Silent, Unreachable
from harness.model.records.faults import Applied, DependencyFront

S = TypeVar("S", bound=msgspec.Struct)

LIMIT_S = 5.0
MAX_ANSWER = 4 * 2**20


class _Entry(msgspec.Struct):
    final_value: str = ""


class _Runtime(msgspec.Struct):
    entries: dict[str, _Entry] = {}


class _Stat(msgspec.Struct):
    name: str = ""
    value: int = 0


class _Stats(msgspec.Struct):
    stats: list[_Stat]


class _Server(msgspec.Struct):
    version: str
    state: str


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """What a front has counted since its Envoy started. application: requests of others than our probes, whatever
    became of them. aborts, delays, slowed: requests that got a fault, probes among them. upstream: requests that went
    on. connections: opened to it, and open: of those that still are; probes' among them."""

    application: int
    probes: int
    aborts: int
    delays: int
    slowed: int
    upstream: int
    connections: int
    open: int


class Envoy:
    """The admin interface at a front's URL, and that front. timeout_s: for each answer."""

    def __init__(self, front: DependencyFront, *, timeout_s: float = LIMIT_S) -> None:
        self.url, self.name = front.url or "", front.name
        self._timeout_s = timeout_s

    def version(self) -> str:
        """ "1.40.0". Raises Unreachable, Rejected; Rejected also for one that is starting or draining."""
        found = self._decoded("/server_info", _Server)
        if found.state != "LIVE":
            raise Rejected(f"Envoy at {self.url} is {found.state[:40]!r}, not LIVE")
        parts = found.version.split("/")
        return (parts[1] if len(parts) > 1 else found.version)[:40]

    def runtime(self) -> dict[str, str]:
        """The keys of this front that are set, with their values. Raises Unreachable, Rejected."""
        entries = self._decoded("/runtime", _Runtime).entries
        return {key: entries[key].final_value for key in keys_of(self.name) if key in entries}

    def set(self, values: Mapping[str, str]) -> Applied:
        """Set runtime keys; "" takes one away. Does not read back. Raises OutcomeUnknown, Unreachable, Rejected."""
        query = "&".join(f"{quote(key, safe='')}={quote(value, safe='')}" for key, value in values.items())
        url = f"{self.url}/runtime_modify?{query}"
        sent = monotonic()
        try:
            with Client() as client:
                answer = client.send("POST", url, b"", self._timeout_s)
        except Rejected as error:
            raise OutcomeUnknown(str(error)) from error
        if answer.status >= 500 and b"admin layer" not in answer.body.lower():
            raise OutcomeUnknown(f"Envoy at {self.url} answered {answer.status} to a change of its runtime")
        if answer.status != 200:
            raise Rejected(
                f"Envoy at {self.url} answered {answer.status} to a change of its runtime: {_shown(answer)}",
            )
        return Applied(sent, monotonic())

    def counts(self) -> Counts:
        """Raises Gone where it has no front of that name, Unreachable, Rejected."""
        of = prefix(self.name)
        pattern = (
            rf"^(http\.{of}\.(downstream_(rq_total|cx_total|cx_active)|rbac\.harness\.shadow_(allowed|denied)"
            rf"|fault\.(aborts_injected|delays_injected|response_rl_injected))|cluster\.{of}\.upstream_rq_total)$"
        )
        found = {one.name: one.value for one in self._stats(pattern)}
        http = f"http.{of}."
        if http + "rbac.harness.shadow_allowed" not in found:
            fronts = ", ".join(self.fronts()) or "none"
            raise Gone(f"Envoy at {self.url} has no front {self.name!r} that the harness wrote (it has: {fronts})")
        return Counts(
            application=found[http + "rbac.harness.shadow_allowed"],
            probes=found.get(http + "rbac.harness.shadow_denied", 0),
            aborts=found.get(http + "fault.aborts_injected", 0),
            delays=found.get(http + "fault.delays_injected", 0),
            slowed=found.get(http + "fault.response_rl_injected", 0),
            upstream=found.get(f"cluster.{of}.upstream_rq_total", 0),
            connections=found.get(http + "downstream_cx_total", 0),
            open=found.get(http + "downstream_cx_active", 0),
        )

    def fronts(self) -> list[str]:
        """Names of the fronts it has, twenty at most."""
        head, tail = "http.harness_", ".downstream_rq_total"
        found = self._stats(r"^http\.harness_.*\.downstream_rq_total$")
        names = (one.name.removeprefix(head).removesuffix(tail) for one in found)
        return sorted("".join(c for c in name if c.isprintable())[:60] for name in names)[:20]

    def _stats(self, pattern: str) -> list[_Stat]:
        # What has a name and no number is a histogram's.
        return [one for one in self._decoded(f"/stats?format=json&filter={quote(pattern)}", _Stats).stats if one.name]

    def _decoded(self, page: str, kind: type[S]) -> S:
        try:
            with Client() as client:
                answer = client.get(self.url + page, self._timeout_s)
        except OutcomeUnknown as error:
            raise Silent(f"no whole answer of Envoy: {error}") from error
        except Unreachable as error:
            raise Unreachable(f"no Envoy answers at {self.url}") from error
        if answer.status != 200 or len(answer.body) > MAX_ANSWER:
            raise Rejected(f"{self.url}{page.partition('?')[0]} does not answer like Envoy: {answer.status}")
        try:
            return msgspec.json.decode(answer.body, type=kind)
        except (msgspec.DecodeError, msgspec.ValidationError, RecursionError) as error:
            raise Rejected(f"{self.url}{page.partition('?')[0]} does not answer like Envoy") from error


def set_by_hand(url: str, values: Mapping[str, str]) -> str:
    """The command that sets runtime keys, or takes them away ("")."""
    query = "&".join(f"{key}={value}" for key, value in values.items())
    return f"curl --noproxy '*' -X POST '{url}/runtime_modify?{query}'"


def _shown(answer: Response) -> str:
    return "".join(c if c.isprintable() else " " for c in answer.text[:200]).strip() or "nothing"
