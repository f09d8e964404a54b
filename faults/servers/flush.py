"""flush: FLUSHALL, a cold cache. An event that cannot be undone: the keys are gone, and only the application can fill
them in again.

That it was this server and this event is proven although the load refills the cache at once: the keys are counted in
the same transaction, the server's own count of FLUSHALL commands rises, and a key of ours that was set through the
application's path right before is gone there.
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
from harness.adapters.clients import redis_admin
from harness.dependencies.result import secret
from harness.fault import ParamInfo, Stage
from harness.model.errors import AdapterError, Refused
from harness.model.records.faults import Address, Applied, Change, Dependency, Evidence, Trait, UndoRecord

_MARK_LASTS_S = 60


class Flush:
    kind = "flush"
    summary = "every key is deleted, once: a cold cache"
    undo_summary = "none: the keys are gone for good; the server is asked whether it answers"
    proof_summary = "FLUSHALL is answered, the server counts one more, a key set just before is gone"
    needs: Literal["server"] = "server"
    traits: tuple[Trait, ...] = ("loses_data",)
    one_shot = True
    params: tuple[ParamInfo, ...] = ()

    def plan(self, dependency: Dependency, params: Mapping[str, Any]) -> Change:
        name = f"{dependency.name}-{self.kind}"
        if dependency.kind != "redis":
            raise Refused(
                f"{name} needs a Redis dependency; {dependency.name} is of kind {dependency.kind}",
                hint="use it on the cache, for example redis-flush",
            )
        if dependency.external and not dependency.allow_flush:
            raise Refused(
                f"{name} would delete every key of {dependency.name}, which the harness did not start, for good",
                hint=f"where that is meant, set allow_flush = true for {dependency.name} in harness.toml",
            )
        return Change(
            kind=self.kind,
            traits=self.traits,
            dependency=dependency,
            params=dict(params),
            does=f"FLUSHALL on {dependency.name}: deletes every key in all of its databases, for good",
            undoes="cannot be undone: the keys are gone, and the application fills its cache again",
            proves="FLUSHALL is answered, the server counts one more, a key set just before through the"
            " application's path is gone",
            resources=(f"redis {dependency.name} keys",),
            one_shot=True,
            blind_probe=True,
        )

    def capture(self, change: Change, record_id: str) -> UndoRecord:
        dependency = change.dependency
        password = secret(dependency.credentials.password_env)
        found = redis_admin.keyspace(_server(dependency), password=password)
        if found.replica:
            raise Refused(
                f"{dependency.name} at {_server(dependency)} is a replica: it cannot be emptied by itself",
                hint="name the primary as its direct address",
            )
        if not redis_admin.has_command(_server(dependency), "flushall", password=password):
            raise Refused(f"{dependency.name} has no command FLUSHALL: its configuration has taken it away")
        behind = redis_admin.keyspace(_path(dependency), password=password)
        if behind.run_id != found.run_id:
            raise Refused(
                f"the application's path {_path(dependency)} does not lead to the Redis at {_server(dependency)}:"
                " another server answers there",
                hint="correct the addresses in the configuration",
            )
        return record_of(
            change,
            record_id,
            healthy(dependency),
            where={"run_id": found.run_id, "server": str(_server(dependency))},
            original={"keys": found.keys, "flushes": found.flushes},
            # It expires by itself, should nobody come to delete it.
            ours={"marker": f"{redis_admin.NAME}-flush-{secrets.token_hex(8)}"},
        )

    def inject(self, record: UndoRecord) -> Applied:
        dependency = record.dependency
        password = secret(dependency.credentials.password_env)
        marker = str(record.ours["marker"])
        redis_admin.mark(_path(dependency), marker, lasts_s=_MARK_LASTS_S, password=password)
        set_first = redis_admin.marked(_server(dependency), marker, password=password)
        done = redis_admin.flush_all(_server(dependency), password=password)
        seen = Evidence(
            source="control",
            expected=f"a key set through {_path(dependency)} is there; then FLUSHALL leaves none",
            observed=f"{'it was there' if set_first else 'it was not there'};"
            f" {done.before} keys before FLUSHALL, {done.after} after it",
            held=set_first and done.after == 0,
            at=done.applied.replied,
        )
        return msgspec.structs.replace(done.applied, evidence=(seen,))

    def prove(self, record: UndoRecord, stage: Stage) -> tuple[Evidence, ...]:
        dependency, before = record.dependency, record.original["flushes"]
        password = secret(dependency.credentials.password_env)
        found = redis_admin.keyspace(_server(dependency), password=password)
        same = found.run_id == record.where["run_id"]
        control = control_shows(
            expected=f"the same server has carried out more FLUSHALL commands than {before}",
            observed=f"{found.flushes}; {found.keys} keys now, {record.original['keys']} before"
            if same
            else "another server answers",
            held=same and isinstance(before, int) and found.flushes > before,
        )
        left = redis_admin.marked(_path(dependency), str(record.ours["marker"]), password=password)
        return control, probe_shows(
            expected=f"the key that was set through {_path(dependency)} is gone there",
            observed="it is still there" if left else "it is gone",
            held=not left,
        )

    def undo(self, record: UndoRecord) -> Applied:
        """Nothing brings the keys back. What is ours is deleted, in case the flush itself never came."""
        dependency = record.dependency
        return redis_admin.unmark(
            _server(dependency), str(record.ours["marker"]), password=secret(dependency.credentials.password_env)
        )

    def verify_undone(self, record: UndoRecord) -> tuple[Evidence, ...]:
        dependency = record.dependency
        try:
            left = redis_admin.marked(
                _server(dependency), str(record.ours["marker"]), password=secret(dependency.credentials.password_env)
            )
            observed = "it is there" if left else "it answers, and it is not"
        except AdapterError as error:
            left, observed = True, str(error)
        control = undo_shows(
            expected=f"{dependency.name} answers, and the key of this fault is not there (other keys never come back)",
            observed=observed,
            held=not left,
        )
        return control, path_again(record)


def _server(dependency: Dependency) -> Address:
    return _known(dependency, dependency.direct or dependency.path)


def _path(dependency: Dependency) -> Address:
    return _known(dependency, dependency.path or dependency.direct)


def _known(dependency: Dependency, address: Address | None) -> Address:
    if address is None:
        raise Refused(f"{dependency.name} has no address: is the stack up?")
    return address


FLUSH = Flush()
