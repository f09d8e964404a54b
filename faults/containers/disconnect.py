"""`disconnect`: a container is taken off its networks, as `docker network disconnect` does it, and put back as it was.

The container runs on and nobody reaches it any more. What each end of a network is made of, and what an engine gives
back by itself, is in harness/adapters/docker/network.py; how an end is compared and restored in
faults/containers/network_ends.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from faults.containers import network_ends as ends
from faults.containers.container import (
    container_id,
    container_record,
    engine_of,
    fit,
    label,
    name_in,
    planned_container,
    refuse_wandering_port,
    replaced,
    resources,
    runs_again,
)
from faults.path.address import address_of, nobody_in_its_place
from faults.path.evidence import control_shows
from faults.path.probes import is_blind, outage
from harness.adapters.docker import network as docker_network
from harness.adapters.docker.engine import Engine
from harness.adapters.docker.network import NetworkEnd
from harness.adapters.docker.records import Container
from harness.fault import ParamInfo, Stage
from harness.model.clock import monotonic
from harness.model.errors import AdapterError, Gone, OutcomeUnknown, Refused, UndoUnverified, unknown
from harness.model.records.faults import Applied, Change, Dependency, Evidence, UndoRecord

ALL = "all"


class Disconnect:
    """Off every network, or off one. New connections are refused or lead nowhere; open ones fall silent."""

    kind = "disconnect"
    summary = "the container is taken off its networks: it runs on, and nobody reaches it"
    undo_summary = (
        "it is put back on each network with its aliases, addresses, links and options; fixed ports come back"
    )
    proof_summary = "neither the container nor the network lists the other; a probe is refused, cut or not answered"
    needs: Literal["container"] = "container"
    one_shot = False
    params: tuple[ParamInfo, ...] = (
        ParamInfo(
            name="network",
            unit="name",
            default=ALL,
            help="the exact name of one of its networks, or all",
        ),
    )

    def plan(self, dependency: Dependency, params: Mapping[str, Any]) -> Change:
        planned_container(self.kind, dependency)
        _refuse_mode(dependency, dependency.container.network_mode)
        chosen = str(params["network"])
        which = "every network that it is on" if chosen == ALL else f"network {chosen}"
        return Change(
            kind=self.kind,
            dependency=dependency,
            params=dict(params),
            does=f"takes {label(dependency)} off {which}: it runs on, and nobody reaches it",
            undoes=f"puts {label(dependency)} back with the aliases, addresses, links and options that it had there",
            proves="neither the container nor the network lists the other; a probe is refused, cut or not answered"
            " within 1 s",
            property=f"container of {dependency.name}: networks",
            resources=resources(dependency),
            blind_probe=is_blind(dependency),
            hides_path=True,
        )

    def capture(self, change: Change, record_id: str) -> UndoRecord:
        dependency = change.dependency
        with engine_of(dependency) as engine:
            try:
                _refuse_mode(dependency, engine.container(str(dependency.container.id)).host_config.network_mode)
            except Gone:
                pass  # told below, with what to do
            container = fit(self.kind, dependency, engine)
            found = docker_network.ends(engine, container)
            chosen = _choose(dependency, found, str(change.params.get("network", ALL)))
            _refuse_lost_mac(dependency, engine, container, chosen)
        refuse_wandering_port(self.kind, dependency, container, "every reconnect")
        names = ", ".join(end.network for end in chosen)
        return container_record(
            change,
            record_id,
            container,
            original={"connected": names, "ends": msgspec.json.encode(found).decode()},
            ours={"disconnected": names, "network_ids": ",".join(end.network_id for end in chosen)},
        )

    def inject(self, record: UndoRecord) -> Applied:
        """Raises Rejected when it is no longer as it was recorded; OutcomeUnknown when only a part was done."""
        with engine_of(record.dependency) as engine:
            container = engine.container(container_id(record))
            ends.check_unchanged(record, engine, container)
            sent = monotonic()
            done: list[str] = []
            for end in ends.recorded(record):
                try:
                    docker_network.disconnect(engine, end.network_id, container.id)
                except AdapterError as error:
                    # A repeat is answered 500, so what the engine says about an error decides nothing.
                    if isinstance(error, OutcomeUnknown) or not done:
                        raise
                    raise OutcomeUnknown(
                        f"container {container.name} was taken off {', '.join(done)}, but not off {end.network}:"
                        f" {error}"
                    ) from error
                done.append(end.network)
        return Applied(sent, monotonic())

    def prove(self, record: UndoRecord, stage: Stage) -> tuple[Evidence, ...]:
        with engine_of(record.dependency) as engine:
            control = _absent(record, engine)
        dependency = record.dependency
        address = address_of(dependency)
        path = (
            (nobody_in_its_place(address, f"container {name_in(record)}"),)
            if dependency.target and address is not None
            else ()
        )
        return control, *path, outage(dependency, may_hang=True)

    def undo(self, record: UndoRecord) -> Applied:
        """Every end that is missing is made again; one that is there is somebody's, and compared.

        Raises Gone when the container was removed and another one serves in its place; UndoUnverified when a network
        is gone, an address is taken, or somebody connected it in another way.
        """
        sent = monotonic()
        with engine_of(record.dependency) as engine:
            try:
                container = engine.container(container_id(record))
            except Gone:
                raise replaced(record, engine, "disconnected") from None
            troubles: list[UndoUnverified] = []
            for end in ends.recorded(record):
                try:
                    ends.restore(record, engine, container, end)
                except UndoUnverified as error:
                    troubles.append(error)  # the other networks first
            if troubles:
                raise UndoUnverified(
                    "; ".join(error.left for error in troubles), "; then ".join(error.mend for error in troubles)
                )
        return Applied(sent, monotonic())

    def verify_undone(self, record: UndoRecord) -> tuple[Evidence, ...]:
        with engine_of(record.dependency) as engine:
            try:
                container = engine.container(container_id(record))
            except Gone:
                return runs_again(record, engine)
            return ends.back(record, engine, container)

    def by_hand(self, record: UndoRecord) -> str:
        return " ; ".join(ends.command(record, end) for end in ends.recorded(record))


def _refuse_mode(dependency: Dependency, mode: str | None) -> None:
    """Raises Refused for a container that has no network of its own."""
    name = f"{dependency.name}-disconnect"
    what = label(dependency)
    hint = f"{dependency.name}-pause works there"
    if mode == "host":
        raise Refused(
            f"{name}: {what} uses the network of its host (network_mode: host), and nobody can be taken off that",
            hint=hint,
        )
    if mode is not None and mode.startswith(("container:", "service:")):
        raise Refused(
            f"{name}: {what} shares the network of another one (network_mode: {mode[:40]}), which would be cut off too",
            hint=f"{hint}; or declare the other one as a dependency",
        )
    if mode == "none":
        raise Refused(f"{name}: {what} has no network (network_mode: none)", hint=hint)


def _choose(dependency: Dependency, found: tuple[NetworkEnd, ...], name: str) -> tuple[NetworkEnd, ...]:
    chosen = found if name == ALL else tuple(end for end in found if end.network == name)
    if not found:
        raise Refused(f"{dependency.name}-disconnect: {label(dependency)} is on no network")
    if not chosen:
        error = unknown("network", name, [end.network for end in found])
        raise Refused(
            f"{dependency.name}-disconnect: {label(dependency)} is not on a network {name!r}",
            hint=error.hint or f"it is on: {', '.join(end.network for end in found)}",
        )
    return chosen


def _refuse_lost_mac(
    dependency: Dependency, engine: Engine, container: Container, chosen: tuple[NetworkEnd, ...]
) -> None:
    for end in chosen:
        if docker_network.loses_mac(engine, end):
            version = engine.version
            raise Refused(
                f"{dependency.name}-disconnect: somebody gave container {container.name} the MAC address {end.mac} on"
                f" network {end.network}, and Docker {version.version} (API {version.api_version}) cannot give it back"
                " at a reconnect",
                hint=f"{dependency.name}-pause works there; an engine with API 1.54 or later gives it back",
            )


def _absent(record: UndoRecord, engine: Engine) -> Evidence:
    """Read from both sides: the container's own list, and each network's."""
    name = name_in(record)
    chosen = ends.recorded(record)
    there: list[str] = []
    try:
        container: Container | None = engine.container(container_id(record))
    except Gone:
        container = None
    if container is not None:
        now = {end.network_id for end in docker_network.ends(engine, container)}
        there = [
            end.network
            for end in chosen
            if end.network_id in now or docker_network.on_network(engine, end.network_id, container.id)
        ]
    observed = f"it is {container.condition}, " if container is not None else "it does not exist any more"
    if container is not None:
        observed += f"and on {', '.join(there)}" if there else "and not listed by any of them, nor lists them"
    return control_shows(
        expected=f"container {name} is not on {', '.join(end.network for end in chosen)}",
        observed=observed,
        held=container is not None and not there,
    )


DISCONNECT = Disconnect()
