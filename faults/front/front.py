"""A kind of fault that is a few runtime keys of an Envoy in front of an HTTP upstream.

A key that is absent leaves its filter neutral, so what is undone is gone: an undo takes the keys away, and nothing
else is ever set. It writes even when they read back absent: that queues behind an injection whose answer was lost.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from faults.front.requests import fill, tries
from faults.path.evidence import control_shows, path_shows, undo_shows
from faults.path.health import healthy
from faults.path.record import record_of
from faults.proxy.proxy import path_again
from harness.adapters.clients.envoy import Counts, Envoy, set_by_hand
from harness.adapters.clients.envoy_configuration import key
from harness.fault import ParamInfo, Stage
from harness.model.errors import AdapterError, Gone, OtherKind, OutcomeUnknown, Refused, UndoUnverified
from harness.model.records.faults import Applied, Change, Dependency, DependencyFront, Evidence, Scalar, UndoRecord

UNDO_LIMIT_S = 2.0
"""For each answer while undoing: an Envoy that is stopped is noticed soon."""
_FILL_BYTES, _FILL_LIMIT_S = 1024, 3.0

SHARE = ParamInfo(
    name="share", unit="share", default="100%", help="of the requests, each by itself at random", low=0.05, high=1
)


class _Began:
    """What the fronts had counted when faults were put on: known only to the process that did."""

    def __init__(self) -> None:
        self._counts: dict[str, Counts] = {}
        self._lock = threading.Lock()

    def keep(self, record: UndoRecord, counts: Counts) -> None:
        with self._lock:
            self._counts[_id(record)] = counts

    def of(self, record: UndoRecord) -> Counts | None:
        with self._lock:
            return self._counts.get(_id(record))

    def forget(self, record: UndoRecord) -> None:
        with self._lock:
            self._counts.pop(_id(record), None)


_BEGAN = _Began()


def _id(record: UndoRecord) -> str:
    return f"{record.id} {record.where['url']} {record.where['front']}"


class FrontFault(msgspec.Struct, frozen=True, kw_only=True):
    """keys: what it sets, from the decoded parameters: (filter, what) and its value.

    sees: evidence by requests of ours, None where the stage has none. injected: how many requests got it, of what the
    front has counted. blind: a probe of the path does not see it. hides: nothing gets through. delays_s: how much later
    each answer comes.
    """

    kind: str
    summary: str
    proof_summary: str
    params: tuple[ParamInfo, ...]
    does: Callable[[Mapping[str, Scalar]], str]
    keys: Callable[[Mapping[str, Scalar]], Mapping[tuple[str, str], int]]
    sees: Callable[[UndoRecord, Stage], Evidence | None]
    injected: Callable[[Counts], int]
    blind: Callable[[Mapping[str, Scalar]], bool]
    hides: Callable[[Mapping[str, Scalar]], bool] = lambda _: False
    delays_s: Callable[[Mapping[str, Scalar]], float | None] = lambda _: None
    undo_summary: str = "its runtime keys are taken away, if they are still as the fault set them"
    needs: Literal["front"] = "front"
    one_shot: bool = False

    def plan(self, dependency: Dependency, params: Mapping[str, Any]) -> Change:
        front = dependency.front
        if dependency.kind != "http":
            raise OtherKind(
                f"{dependency.name}-{self.kind} needs an HTTP dependency; {dependency.name} is of kind"
                f" {dependency.kind}",
                hint=f"use it on an HTTP upstream, for example payments-{self.kind}",
            )
        if front is None:
            raise Refused(
                f"{dependency.name}-{self.kind} needs an Envoy in front of {dependency.name}, and none is declared",
                hint=f"for an HTTP upstream: `harness init --http {dependency.name}=HOST:PORT` says what to declare",
            )
        if abs(share_of(params) * 100 - percent(params)) > 1e-6:
            raise Refused(
                f"{dependency.name}-{self.kind}: Envoy takes a share in whole per cent",
                hint=f"share={percent(params)}%",
            )
        at = f" {front.url}" if front.url is not None else ""
        keys = ", ".join(f"{name} {value}" for name, value in self._values(front, params).items())
        whom = "every request" if share_of(params) >= 1 else f"{percent(params)} % of the requests"
        return Change(
            kind=self.kind,
            dependency=dependency,
            params=dict(params),
            does=f"{self.does(params)}: {whom} at the front {front.name} of Envoy (runtime keys {keys})",
            undoes=f"takes those runtime keys away from the front {front.name}",
            proves=f"the keys read back as asked; {self.proof_summary}",
            property=f"front {front.name} of Envoy{at}: {self.kind}",
            resources=(f"envoy{at} front {front.name}",),
            blind_probe=self.blind(params) or share_of(params) < 1,
            hides_path=self.hides(params) and share_of(params) >= 1,
            delays_s=self.delays_s(params),
        )

    def capture(self, change: Change, record_id: str) -> UndoRecord:
        dependency, front = change.dependency, change.dependency.front
        if front is None or dependency.path is None:
            raise Refused(f"{dependency.name} has no front that runs: the stack is not up")
        server = Envoy(front)
        refuse_keys(server)
        try:
            before = server.counts()
        except Gone as error:
            raise Refused(str(error), hint="correct `front_name` in the configuration") from None
        slows = self.delays_s(change.params) if share_of(change.params) >= 1 else None
        found = healthy(dependency, slowdown_s=slows)
        own = fill(dependency, _FILL_BYTES, _FILL_LIMIT_S)
        if not own.ok or server.counts().probes <= before.probes:
            raise Refused(
                f"requests to {dependency.path} do not pass the front {front.name} of the Envoy at {front.url}"
                + ("" if own.ok else f": {own.detail}"),
                hint="path = where that front listens, or a proxy before it; front = that Envoy's admin interface",
            )
        ours = self._values(front, change.params)
        return record_of(
            change,
            record_id,
            found,
            where={"url": server.url, "front": front.name},
            original=dict.fromkeys(ours, ""),
            ours=dict(ours),
        )

    def inject(self, record: UndoRecord) -> Applied:
        server, wanted = envoy_of(record), ours_of(record)
        _BEGAN.keep(record, server.counts())
        applied = server.set(wanted)
        try:
            found = server.runtime()
        except AdapterError as error:
            raise OutcomeUnknown(f"the runtime keys could not be read back: {error}") from error
        if any(found.get(name) != value for name, value in wanted.items()):
            raise OutcomeUnknown(
                f"Envoy at {server.url} answered OK, and its runtime reads back {_text(found)}, not {_text(wanted)}"
            )
        return applied

    def prove(self, record: UndoRecord, stage: Stage) -> tuple[Evidence, ...]:
        wanted = ours_of(record)
        found = envoy_of(record).runtime()
        control = control_shows(
            expected=f"runtime keys {_text(wanted)}",
            observed=_text({name: found[name] for name in wanted if name in found}),
            held=all(found.get(name) == value for name, value in wanted.items()),
        )
        seen = self.sees(record, stage) if control.held else self.sees(record, "held")
        return (control,) if seen is None else (control, seen)

    def undo(self, record: UndoRecord) -> Applied:
        server, ours = envoy_of(record, undoing=True), ours_of(record)
        for name, value in server.runtime().items():
            if name in ours and value != ours[name]:
                raise UndoUnverified(
                    f"somebody set the runtime key {name} of Envoy at {server.url} to {_shown(value)}; the harness had"
                    f" set {ours[name]}",
                    _removal(record),
                )
        evidence = self._reached(record, server)
        applied = server.set(dict.fromkeys(ours, ""))
        _BEGAN.forget(record)
        return Applied(applied.sent, applied.replied, evidence)

    def by_hand(self, record: UndoRecord) -> str:
        return (
            f"if the Envoy at {record.where['url']} still runs: {_removal(record)} . If it ended, its runtime keys are"
            " gone with it: start it again with its configuration"
        )

    def verify_undone(self, record: UndoRecord) -> tuple[Evidence, ...]:
        found = envoy_of(record, undoing=True).runtime()
        left = [name for name in ours_of(record) if name in found]
        control = undo_shows(
            expected=f"the front {record.where['front']} has no runtime key of this fault",
            observed=f"still set: {', '.join(left)}" if left else "none",
            held=not left,
        )
        others = sorted(set(found) - set(left))
        if others:
            return control, undo_shows(
                expected=f"{record.dependency.name} answers, or another fault is still on its front",
                observed=f"not probed: {others[0]} is set",
                held=True,
            )
        return control, path_again(record)

    def _values(self, front: DependencyFront, params: Mapping[str, Scalar]) -> dict[str, str]:
        return {key(front.name, kind, what): str(value) for (kind, what), value in self.keys(params).items()}

    def _reached(self, record: UndoRecord, server: Envoy) -> tuple[Evidence, ...]:
        """Whether it met requests of the application while it was on: what the front has counted of others than probes.
        Nothing is said by a process that did not put it on, nor of one whose undo comes before it was."""
        began = _BEGAN.of(record)
        if began is None or record.dependency.path_assumed:
            return ()
        share = share_of(record.params)
        try:
            now = server.counts()
        except AdapterError as error:
            observed, held = f"the front could not be asked: {error}", False
        else:
            came = now.application - began.application
            # Each of our probes got it once at most, so the rest of those that got it were the application's.
            hit = min(came, self.injected(now) - self.injected(began) - (now.probes - began.probes))
            held = came >= 1 and (hit >= 1 or came >= tries(share))
            observed = f"{max(came, 0)} requests of others than the harness came to the front meanwhile"
            if share < 1:
                observed += f", {max(hit, 0)} of them at least got it"
        return (
            path_shows(expected="requests of the application met the fault at the front", observed=observed, held=held),
        )


def refuse_keys(server: Envoy) -> None:
    """Raises Refused where a fault of somebody else is on."""
    there = server.runtime()
    if there:
        raise Refused(
            f"the front {server.name} of Envoy at {server.url} has runtime keys set: {_text(there)}",
            hint="run `harness heal --all`, or take them away: " + set_by_hand(server.url, dict.fromkeys(there, "")),
        )


def envoy_of(record: UndoRecord, *, undoing: bool = False) -> Envoy:
    # The dependency's URL, because that is the one whose host is checked again before an undo from a file.
    front = record.dependency.front
    if front is None:
        raise UndoUnverified(f"the record {record.id} names no front", "harness heal --all")
    return Envoy(front, **({"timeout_s": UNDO_LIMIT_S} if undoing else {}))


def ours_of(record: UndoRecord) -> dict[str, str]:
    return {name: str(value) for name, value in record.ours.items()}


def share_of(params: Mapping[str, Scalar]) -> float:
    share = params.get("share")
    return float(share) if isinstance(share, (int, float)) else 1.0


def percent(params: Mapping[str, Scalar]) -> int:
    return round(share_of(params) * 100)


def _removal(record: UndoRecord) -> str:
    return set_by_hand(envoy_of(record).url, dict.fromkeys(ours_of(record), ""))


def _text(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {_shown(value)}" for name, value in sorted(values.items())) or "none"


def _shown(value: str) -> str:
    return value if value.isprintable() and len(value) < 60 else repr(value[:60])
