"""`down`: a Toxiproxy proxy is disabled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from faults.path.evidence import control_shows, undo_shows
from faults.path.health import healthy
from faults.path.probes import SILENCE_S, is_cut, probe_path, probed
from faults.proxy.proxy import (
    by_hand,
    capture_proxy,
    make_again,
    normal_again,
    planned_proxy,
    proxy_name,
    proxy_record,
    resources,
    same_proxy,
    server_of,
)
from harness.adapters.toxiproxy.commands import enable_proxy
from harness.fault import ParamInfo, Stage
from harness.model.errors import Gone
from harness.model.records.faults import Applied, Change, Dependency, Evidence, Trait, UndoRecord


class Down:
    """The proxy is disabled: its listener is closed and every connection through it is cut."""

    kind = "down"
    summary = "the dependency is gone: connections are cut, new ones are refused"
    undo_summary = "the proxy is enabled again, if it is still the proxy that was disabled"
    proof_summary = "the proxy reads back disabled, and a probe through it is refused"
    needs: Literal["proxy"] = "proxy"
    traits: tuple[Trait, ...] = ("disables_proxy",)
    one_shot = False
    params: tuple[ParamInfo, ...] = ()

    def plan(self, dependency: Dependency, params: Mapping[str, Any]) -> Change:
        proxy = planned_proxy(self.kind, dependency)
        return Change(
            kind=self.kind,
            traits=self.traits,
            dependency=dependency,
            params=dict(params),
            does=f"disables the Toxiproxy proxy {proxy}: its connections are cut, new ones are refused",
            undoes=f"enables the proxy {proxy} again",
            proves=f"the proxy {proxy} reads back disabled; a probe through it is refused",
            property=f"proxy {proxy}: enabled",
            hides_path=True,
            resources=resources(dependency),
        )

    def capture(self, change: Change, record_id: str) -> UndoRecord:
        state = capture_proxy(change.dependency)
        found = healthy(change.dependency)
        return proxy_record(change, record_id, state, found, original={"enabled": True}, ours={"enabled": False})

    def inject(self, record: UndoRecord) -> Applied:
        return server_of(record).set_enabled(proxy_name(record), False)

    def prove(self, record: UndoRecord, stage: Stage) -> tuple[Evidence, ...]:
        name = proxy_name(record)
        state = server_of(record).proxy(name)
        control = control_shows(
            expected=f"proxy {name} is disabled",
            observed="disabled" if not state.enabled else "enabled",
            held=not state.enabled,
        )
        result = probe_path(record.dependency, SILENCE_S)
        return control, probed(result, f"connections to {record.dependency.path} are refused", is_cut(result))

    def undo(self, record: UndoRecord) -> Applied:
        """Also sets what is enabled already: that queues behind an injection whose answer was lost."""
        name, server = proxy_name(record), server_of(record, undoing=True)
        try:
            same_proxy(record, server.proxy(name), "disabled", _enable(record))
            return server.set_enabled(name, True)
        except Gone:
            return make_again(record, server)

    def by_hand(self, record: UndoRecord) -> str:
        return by_hand(record, _enable(record))

    def verify_undone(self, record: UndoRecord) -> tuple[Evidence, ...]:
        name = proxy_name(record)
        state = server_of(record, undoing=True).proxy(name)
        where = (record.where["listen"], record.where["upstream"])
        control = undo_shows(
            expected=f"proxy {name} is enabled, {where[0]} to {where[1]}",
            observed=f"{'enabled' if state.enabled else 'disabled'}, {state.listen} to {state.upstream}",
            held=state.enabled and (state.listen, state.upstream) == where,
        )
        return control, normal_again(record, state)


def _enable(record: UndoRecord) -> str:
    return enable_proxy(server_of(record).url, proxy_name(record))


DOWN = Down()
