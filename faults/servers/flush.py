"""flush: one command deletes everything that a server holds (FLUSHALL, flush_all): a cold cache. An event that cannot
be undone: the keys are gone, and only the application can fill them in again.

That it was this server and this event is proven although the load refills the cache at once: the server's own count of
such commands rises, and a key of ours that was set through the application's path right before is gone there.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from faults.path.evidence import control_shows, probe_shows, undo_shows
from faults.path.health import healthy
from faults.path.record import record_of
from faults.proxy.proxy import path_again
from harness.dependencies.kind import Store
from harness.dependencies.registry import kind_of, kinds
from harness.fault import ParamInfo, Stage
from harness.model.errors import AdapterError, OtherKind, Refused
from harness.model.records.faults import Address, Applied, Change, Dependency, Evidence, Trait, UndoRecord

_MARK_LASTS_S = 60


class Flush:
    kind = "flush"
    summary = "every key is deleted, once: a cold cache"
    undo_summary = "none: the keys are gone for good; the server is asked whether it answers"
    proof_summary = "FLUSHALL or flush_all is answered, the server counts one more, a key set just before is gone"
    needs: Literal["server"] = "server"
    traits: tuple[Trait, ...] = ("loses_data",)
    one_shot = True
    params: tuple[ParamInfo, ...] = ()

    def plan(self, dependency: Dependency, params: Mapping[str, Any]) -> Change:
        command = _store(dependency).command
        return Change(
            kind=self.kind,
            traits=self.traits,
            dependency=dependency,
            params=dict(params),
            does=f"{command} on {dependency.name}: deletes every key that it holds, for good",
            undoes="cannot be undone: the keys are gone, and the application fills its cache again",
            proves=f"{command} is answered, the server counts one more, a key set just before through the"
            " application's path is gone",
            resources=(f"{dependency.kind} {dependency.name} keys",),
            one_shot=True,
            blind_probe=True,
        )

    def capture(self, change: Change, record_id: str) -> UndoRecord:
        dependency, store = change.dependency, _store(change.dependency)
        store.ready(_server(dependency))
        found = store.held(_server(dependency))
        if store.held(_path(dependency)).identity != found.identity:
            raise Refused(
                f"the application's path {_path(dependency)} does not lead to the server at {_server(dependency)}:"
                " another one answers there",
                hint="correct the addresses in the configuration",
            )
        return record_of(
            change,
            record_id,
            healthy(dependency),
            where={"identity": found.identity, "server": str(_server(dependency))},
            original={"keys": found.keys, "flushes": found.flushes},
            # It expires by itself, should nobody come to delete it.
            ours={"marker": f"harness-flush-{secrets.token_hex(8)}"},
        )

    def inject(self, record: UndoRecord) -> Applied:
        dependency, store = record.dependency, _store(record.dependency)
        marker = str(record.ours["marker"])
        store.mark(_path(dependency), marker, lasts_s=_MARK_LASTS_S)
        set_first = store.marked(_server(dependency), marker)
        done = store.empty(_server(dependency))
        seen = Evidence(
            source="control",
            expected=f"a key set through {_path(dependency)} is there; then {store.command} leaves none",
            observed=f"{'it was there' if set_first else 'it was not there'}; {done.said}",
            held=set_first and done.empty,
            at=done.applied.replied,
        )
        return msgspec.structs.replace(done.applied, evidence=(seen,))

    def prove(self, record: UndoRecord, stage: Stage) -> tuple[Evidence, ...]:
        dependency, before, store = record.dependency, record.original["flushes"], _store(record.dependency)
        found = store.held(_server(dependency))
        same = found.identity == record.where["identity"]
        control = control_shows(
            expected=f"the same server has carried out more {store.command} commands than {before}",
            observed=f"{found.flushes}; it counts {found.keys} keys now, {record.original['keys']} before"
            if same
            else "another server answers",
            held=same and isinstance(before, int) and found.flushes > before,
        )
        left = store.marked(_path(dependency), str(record.ours["marker"]))
        return control, probe_shows(
            expected=f"the key that was set through {_path(dependency)} is gone there",
            observed="it is still there" if left else "it is gone",
            held=not left,
        )

    def undo(self, record: UndoRecord) -> Applied:
        """Nothing brings the keys back. What is ours is deleted, in case the flush itself never came."""
        return _store(record.dependency).unmark(_server(record.dependency), str(record.ours["marker"]))

    def verify_undone(self, record: UndoRecord) -> tuple[Evidence, ...]:
        dependency = record.dependency
        try:
            left = _store(dependency).marked(_server(dependency), str(record.ours["marker"]))
            observed = "it is there" if left else "it answers, and it is not"
        except AdapterError as error:
            left, observed = True, str(error)
        control = undo_shows(
            expected=f"{dependency.name} answers, and the key of this fault is not there (other keys never come back)",
            observed=observed,
            held=not left,
        )
        return control, path_again(record)


def _store(dependency: Dependency) -> Store:
    store = kind_of(dependency).store(dependency)
    if store is None:
        can = sorted(name for name, kind in kinds().items() if kind.can_be_emptied)
        raise OtherKind(
            f"{dependency.name}-{Flush.kind} needs a {' or '.join(can)} dependency; {dependency.name} is of kind"
            f" {dependency.kind}",
            hint=f"use it on the cache, for example {can[0] if can else 'redis'}-flush",
        )
    return store


def _server(dependency: Dependency) -> Address:
    return _known(dependency, dependency.direct or dependency.path)


def _path(dependency: Dependency) -> Address:
    return _known(dependency, dependency.path or dependency.direct)


def _known(dependency: Dependency, address: Address | None) -> Address:
    if address is None:
        raise Refused(f"{dependency.name} has no address: is the stack up?")
    return address


FLUSH = Flush()
