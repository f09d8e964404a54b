"""A kind of fault that is one toxic on a Toxiproxy proxy, in one or both directions.

Undo writes even when the read-back already looks clean: a DELETE may be repeated, it queues behind an injection whose
answer was lost, and its answer shows that the control plane is not wedged on that proxy.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from faults.path.evidence import control_shows, undo_shows
from faults.path.health import healthy
from faults.path.probe_spacing import may_ask
from faults.path.probes import is_silent
from faults.proxy.proxy import (
    by_hand,
    capture_proxy,
    make_again,
    normal_again,
    other_fault,
    our_toxics,
    planned_proxy,
    proxy_name,
    proxy_record,
    resources,
    same_proxy,
    server_of,
    toxic_text,
)
from harness.adapters.toxiproxy.client import Stream, same_toxic
from harness.adapters.toxiproxy.commands import remove_toxic
from harness.adapters.toxiproxy.lock import OURS
from harness.dependencies.registry import kind_of, kinds
from harness.fault import ParamInfo, Stage
from harness.model.clock import monotonic
from harness.model.errors import Gone, Refused, UndoUnverified
from harness.model.records.faults import Applied, Change, Dependency, Evidence, Scalar, UndoRecord

STREAMS: Mapping[str, tuple[Stream, ...]] = {
    "down": ("downstream",),
    "up": ("upstream",),
    "both": ("downstream", "upstream"),
}
_DIRECTIONS = {"down": "to the application", "up": "to the dependency", "both": "in both directions"}

DIRECTION = ParamInfo(
    name="direction",
    unit="choice",
    default="down",
    help="down: answers on their way to the application; up: requests to the dependency; both",
    choices=("down", "up", "both"),
)


class ToxicFault(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of fault that is one Toxiproxy toxic in one or both directions.

    attributes: the toxic's, from the decoded parameters. sees: probe evidence that it is on. ready: what more must be
    so before the fault, raises Refused; says what it measured. again: more evidence that it is off.
    moves_bytes: shown by exchanges of many bytes only, which not every kind of dependency has. delays_s: how much later
    each answer comes, where that is what it does.
    needs_answer: shown by answers only, so a plain TCP dependency must declare how it is made to answer.
    slowdown_s: what it adds to a probe at least, None where it does not slow. check: raises Refused.
    blind: the protocol probe is answered all the same, so recovery's zero is the undo's reply.
    hides_path: nothing gets through while it is on.
    """

    kind: str
    toxic: str
    summary: str
    proof_summary: str
    does: Callable[[Mapping[str, Scalar]], str]
    attributes: Callable[[Mapping[str, Scalar]], dict[str, int]]
    sees: Callable[[UndoRecord, Stage], Evidence]
    params: tuple[ParamInfo, ...]
    ready: Callable[[Change], dict[str, Scalar]] = lambda _: {}
    again: Callable[[UndoRecord], Evidence] | None = None
    needs_answer: bool = False
    slowdown_s: Callable[[Mapping[str, Scalar]], float | None] = lambda _: None
    check: Callable[[Mapping[str, Scalar]], None] = lambda _: None
    blind: bool = False
    hides_path: bool = False
    undo_summary: str = "the toxic, which has a name of its own, is removed"
    needs: Literal["proxy"] = "proxy"
    one_shot: bool = False
    moves_bytes: bool = False
    delays_s: Callable[[Mapping[str, Scalar]], float | None] = lambda _: None

    def plan(self, dependency: Dependency, params: Mapping[str, Any]) -> Change:
        proxy = planned_proxy(self.kind, dependency)
        if self.moves_bytes and not kind_of(dependency).moves_bytes:
            able = ", ".join(name for name, kind in kinds().items() if kind.moves_bytes)
            raise Refused(
                f"{dependency.name}-{self.kind}: nothing would show this fault on a dependency of kind"
                f" {dependency.kind}",
                hint=f"it works for {able}; {dependency.name}-down works here",
            )
        if is_silent(dependency) and self.needs_answer:
            raise Refused(
                f"{dependency.name}-{self.kind}: nothing would show this fault, because nothing is known that makes"
                f" {dependency.name} answer, and a proxy accepts connections whatever its toxics do",
                hint='declare probe_send for it: a harmless request, or "" where the server speaks first;'
                " down, reset and slow-close work without",
            )
        self.check(params)
        if dependency.probe_send == "" and self.needs_answer and params["direction"] != "down":
            raise Refused(
                f"{dependency.name}-{self.kind}: {dependency.name} speaks first, so nothing would show what happens to"
                " requests",
                hint="leave direction at down, or declare a request as its probe_send",
            )
        attributes = ", ".join(f"{name} {value}" for name, value in self.attributes(params).items())
        direction = _DIRECTIONS[str(params["direction"])]
        return Change(
            kind=self.kind,
            dependency=dependency,
            params=dict(params),
            does=f"{self.does(params)} {direction}: toxic {self.toxic} ({attributes}) on the Toxiproxy proxy {proxy}",
            undoes=f"removes that toxic from the proxy {proxy}",
            proves=f"the toxic reads back as asked; {self.proof_summary}",
            resources=resources(dependency),
            blind_probe=self.blind or is_silent(dependency),
            hides_path=self.hides_path,
            delays_s=self.delays_s(params),
        )

    def capture(self, change: Change, record_id: str) -> UndoRecord:
        state = capture_proxy(change.dependency)
        found = healthy(change.dependency, slowdown_s=self.slowdown_s(change.params))
        measured = self.ready(change)
        ours: dict[str, Scalar] = {
            # The token tells this run's toxic from an older run's with the same record id.
            "toxic": f"{OURS}{re.sub(r'[^A-Za-z0-9_.-]', '-', record_id)}-{secrets.token_hex(4)}",
            "type": self.toxic,
            "streams": ",".join(STREAMS[str(change.params["direction"])]),
            "attributes": json.dumps(self.attributes(change.params)),
        }
        record = proxy_record(change, record_id, state, found, original={}, ours=ours)
        return msgspec.structs.replace(record, healthy={**record.healthy, **measured})

    def inject(self, record: UndoRecord) -> Applied:
        server, bounds = server_of(record), []
        for toxic in our_toxics(record):
            stream: Stream = "upstream" if toxic.stream == "upstream" else "downstream"
            bounds.append(
                server.add_toxic(
                    proxy_name(record), name=toxic.name, type=toxic.type, stream=stream, attributes=toxic.attributes
                )
            )
        return Applied(bounds[0].sent, bounds[-1].replied)

    def prove(self, record: UndoRecord, stage: Stage) -> tuple[Evidence, ...]:
        state = server_of(record).proxy(proxy_name(record))
        wanted = our_toxics(record)
        found = [state.toxic(toxic.name) for toxic in wanted]
        control = control_shows(
            expected="; ".join(map(toxic_text, wanted)),
            observed="; ".join("missing" if toxic is None else toxic_text(toxic) for toxic in found),
            held=all(have is not None and same_toxic(have, want) for have, want in zip(found, wanted, strict=True)),
        )
        if stage == "held" and not may_ask(record, unanswered=self.hides_path or self.toxic == "limit_data"):
            return (control,)
        return control, self.sees(record, stage)

    def undo(self, record: UndoRecord) -> Applied:
        name, server = proxy_name(record), server_of(record, undoing=True)
        sent = replied = monotonic()
        try:
            state = server.proxy(name)
            for toxic in our_toxics(record):
                found = state.toxic(toxic.name)
                mend = _removal(record, toxic.name)
                same_proxy(record, state, f"given the toxic {toxic.name}", mend, only_if=found is not None)
                if found is not None and not same_toxic(found, toxic):
                    raise UndoUnverified(
                        f"somebody changed the toxic {toxic.name} on proxy {name}: it is {toxic_text(found)},"
                        f" the harness had set {toxic_text(toxic)}",
                        mend,
                    )
            for toxic in our_toxics(record):
                try:
                    replied = server.remove_toxic(name, toxic.name).replied
                except Gone:
                    # Answered: it is not there. Which of the two is missing, proxy or toxic, the next line tells.
                    server.proxy(name)
                    replied = monotonic()
        except Gone:
            return make_again(record, server)
        return Applied(sent, replied)

    def by_hand(self, record: UndoRecord) -> str:
        return by_hand(record, *(_removal(record, toxic.name) for toxic in our_toxics(record)))

    def verify_undone(self, record: UndoRecord) -> tuple[Evidence, ...]:
        name = proxy_name(record)
        state = server_of(record, undoing=True).proxy(name)
        left = [toxic.name for toxic in our_toxics(record) if state.toxic(toxic.name) is not None]
        control = undo_shows(
            expected=f"proxy {name} has no toxic of this fault",
            observed=f"still there: {', '.join(left)}" if left else "none",
            held=not left,
        )
        if self.again is None or other_fault(record, state) is not None:
            return control, normal_again(record, state)
        return control, normal_again(record, state), self.again(record)


def _removal(record: UndoRecord, toxic: str) -> str:
    return remove_toxic(server_of(record).url, proxy_name(record), toxic)
