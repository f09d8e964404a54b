"""A container: what `docker pause`, `docker kill` and `docker stop` and `start` do.

A container that was killed or stopped through the engine is not brought back by its restart policy; one whose policy
does so all the same is seen running by the next proof.
"""

from __future__ import annotations

import shlex

import msgspec

from faults.containers import network_ends as ends
from faults.containers.container import (
    container_id,
    container_record,
    engine_of,
    fit,
    label,
    name_in,
    path_of_target,
    planned_container,
    refuse_removed,
    refuse_shared,
    refuse_wandering_port,
    replaced,
    resources,
    runs_again,
    to_change,
    wait_ready,
)
from faults.path.evidence import control_shows
from faults.runtime.runtime import Words
from harness.adapters.docker import network as docker_network
from harness.adapters.docker.engine import Engine
from harness.adapters.docker.records import Container
from harness.model.clock import monotonic
from harness.model.errors import Gone, Rejected, UndoUnverified
from harness.model.records.faults import Applied, Change, Dependency, Evidence, UndoRecord


class Containers:
    noun = "container"

    def words(self, dependency: Dependency) -> Words:
        it = label(dependency)
        return Words(
            server=it,
            pause=f"pauses {it}",
            paused="the engine shows it paused",
            unpause=f"unpauses {it}, if it still is paused",
            kill=f"kills {it} with SIGKILL",
            gone="the engine shows that it has ended",
            stop=f"stops {it} with its own stop signal",
            replaced="the engine shows a later start than before",
            again="",
        )

    def refuse(self, kind: str, dependency: Dependency) -> None:
        planned_container(kind, dependency)

    def resources(self, dependency: Dependency) -> tuple[str, ...]:
        return resources(dependency)

    def capture(self, change: Change, record_id: str, *, deadline_s: float | None) -> UndoRecord:
        dependency = change.dependency
        with engine_of(dependency) as engine:
            found = fit(change.kind, dependency, engine)
            if change.kind == "pause":
                return container_record(
                    change, record_id, found, original={"state": "running"}, ours={"state": "paused"}
                )
            refuse_shared(change.kind, dependency, found, engine)
            networks = docker_network.ends(engine, found)
        refuse_removed(change.kind, dependency, found)
        refuse_wandering_port(change.kind, dependency, found, "its next start")
        return container_record(
            change,
            record_id,
            found,
            original={"state": "running", "ends": msgspec.json.encode(networks).decode()},
            ours={"state": "not running"},
            deadline_s=deadline_s,
        )

    def pause(self, record: UndoRecord) -> Applied:
        with engine_of(record.dependency) as engine:
            to_change(record, engine)
            return engine.pause(container_id(record))

    def unpause(self, record: UndoRecord) -> Applied:
        sent = monotonic()
        with engine_of(record.dependency) as engine:
            try:
                found = engine.container(container_id(record))
                if found.state.paused:
                    return engine.unpause(found.id)
            except Gone:
                raise replaced(record, engine, "paused") from None
            except Rejected:
                found = engine.container(container_id(record))
                if found.state.paused:
                    raise
                # Somebody was faster: it is unpaused already.
            if not found.state.running and not found.state.restarting:
                raise UndoUnverified(
                    f"container {found.name} was paused by this run and is {found.condition} now: somebody ended it",
                    f"docker start {found.name}",
                )
        return Applied(sent, monotonic())

    def kill(self, record: UndoRecord) -> Applied:
        with engine_of(record.dependency) as engine:
            to_change(record, engine)
            return engine.kill(container_id(record))

    def stop(self, record: UndoRecord, grace_s: float) -> tuple[Applied, str]:
        with engine_of(record.dependency) as engine:
            to_change(record, engine)
            return engine.stop(container_id(record), grace_s=grace_s), ""

    def start(self, record: UndoRecord) -> None:
        """Raises UndoUnverified as well where somebody paused it."""
        with engine_of(record.dependency) as engine:
            try:
                found = engine.container(container_id(record))
                if found.state.paused:
                    raise UndoUnverified(
                        f"container {found.name} was to be killed by this run (before that it ran), and is paused now:"
                        " somebody paused it, and it is left alone",
                        f"docker unpause {found.name}",
                    )
                _networks_again(record, engine, found)
                if not found.state.running:
                    engine.start(found.id)
                wait_ready(record, engine)
            except Gone:
                raise replaced(record, engine, "killed" if record.kind == "kill" else "stopped") from None

    def life(self, record: UndoRecord) -> str:
        with engine_of(record.dependency) as engine:
            found = engine.container(container_id(record))
        return f"container {found.name} of {found.state.started_at}"

    def is_paused(self, record: UndoRecord) -> tuple[Evidence, ...]:
        found = _look(record)
        held = found is not None and found.state.paused
        return _seen(record, found, f"container {name_in(record)} is paused", held)

    def is_gone(self, record: UndoRecord) -> tuple[Evidence, ...]:
        found = _look(record)
        held = found is not None and not found.state.running and not found.state.restarting
        return _seen(record, found, f"container {name_in(record)} has ended and stays so", held)

    def is_replaced(self, record: UndoRecord) -> tuple[Evidence, ...]:
        found = _look(record)
        before = str(record.where.get("started_at"))
        held = found is not None and found.serves and found.state.started_at != before
        return _seen(record, found, f"container {name_in(record)} was started later than {before}", held)

    def runs_again(self, record: UndoRecord) -> tuple[Evidence, ...]:
        with engine_of(record.dependency) as engine:
            return runs_again(record, engine)

    def by_hand(self, record: UndoRecord) -> str:
        return f"docker {'unpause' if record.kind == 'pause' else 'start'} {shlex.quote(name_in(record))}"


def _networks_again(record: UndoRecord, engine: Engine, found: Container) -> None:
    """On newer engines a start that fails, because somebody has its port, say, takes a container off all of its
    networks, and the next start gives it none. One that is on no network at all, and was, is put back on each.

    Raises Gone, UndoUnverified where a network is gone or an address is taken.
    """
    if found.networks or "ends" not in record.original:
        return
    for end in ends.every(record):
        if end.network not in docker_network.UNCONNECTABLE:
            ends.restore(record, engine, found, end)


def _look(record: UndoRecord) -> Container | None:
    with engine_of(record.dependency) as engine:
        try:
            return engine.container(container_id(record))
        except Gone:
            return None


def _seen(record: UndoRecord, found: Container | None, expected: str, held: bool) -> tuple[Evidence, ...]:
    observed = "it does not exist any more"
    if found is not None:
        observed = found.condition + (f" since {found.state.started_at}" if found.serves else "")
    control = control_shows(expected=expected, observed=observed, held=held)
    return control, *(path_of_target(record, found) if found is not None else ())
