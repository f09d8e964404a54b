"""pause, kill and restart of a container: what `docker pause`, `docker kill` and `docker stop` and `start` do.

A container that was killed or stopped through the engine is not brought back by its restart policy; one whose policy
does so all the same is seen running by the next proof.
"""

from __future__ import annotations

import shlex
from typing import Any

import msgspec

from faults.common import network_ends as ends
from faults.common.application_path import asked_at, number_of, seen
from faults.common.container import (
    container_id,
    engine_of,
    fit,
    label,
    name_in,
    path_of_target,
    planned_container,
    record_of,
    refuse_shared,
    refuse_silent,
    replaced,
    resources,
    runs_again,
    to_change,
    wait_ready,
)
from faults.common.probe_spacing import may_ask
from faults.common.server_processes import OUTAGE_PROBE_S, READY_LIMIT_S, address_of, at_the_path, is_silent
from harness.adapters.docker import network as docker_network
from harness.adapters.docker.engine import Engine
from harness.adapters.docker.records import Container
from harness.dependencies.result import ProbeResult
from harness.fault import Stage
from harness.model.clock import monotonic
from harness.model.errors import Gone, HarnessError, OutcomeUnknown, Refused, Rejected, UndoUnverified
from harness.model.records.faults import Applied, Change, Dependency, Evidence, UndoRecord

SILENCE_S = 1.0


def run_state(dependency: Dependency) -> str:
    """The property that each of the three sets."""
    return f"container of {dependency.name}: run state"


class ContainerPause:
    def plan(self, dependency: Dependency, params: dict[str, Any]) -> Change:
        refuse_silent("pause", dependency)
        planned_container("pause", dependency)
        return Change(
            kind="pause",
            dependency=dependency,
            params=params,
            does=f"pauses {label(dependency)}: it keeps its connections and answers nothing",
            undoes=f"unpauses {label(dependency)}, if it still is paused",
            proves="the engine shows it paused; a probe gets no answer within 1 s",
            property=run_state(dependency),
            resources=resources(dependency),
            hides_path=True,
        )

    def capture(self, change: Change, record_id: str) -> UndoRecord:
        with engine_of(change.dependency) as engine:
            found = fit("pause", change.dependency, engine)
        return record_of(change, record_id, found, original={"state": "running"}, ours={"state": "paused"})

    def inject(self, record: UndoRecord) -> Applied:
        with engine_of(record.dependency) as engine:
            to_change(record, engine)
            return engine.pause(container_id(record))

    def prove(self, record: UndoRecord, stage: Stage) -> tuple[Evidence, ...]:
        with engine_of(record.dependency) as engine:
            found = _seen(record, engine)
        control = Evidence(
            source="control",
            expected=f"container {name_in(record)} is paused",
            observed=_said(found),
            held=found is not None and found.state.paused,
            at=monotonic(),
        )
        if stage == "held" and not may_ask(record):
            return control, *(path_of_target(record, found) if found is not None else ())
        result = at_the_path(record.dependency, SILENCE_S)
        probe = Evidence(
            source="probe",
            expected=f"the connection is accepted, then no answer within {SILENCE_S:g} s",
            observed=seen(result),
            held=result.error_kind == "timeout",
            at=result.ended,
        )
        return control, *(path_of_target(record, found) if found is not None else ()), probe

    def undo(self, record: UndoRecord) -> Applied:
        """Raises Gone when it was removed and another one serves in its place, UndoUnverified when it has ended."""
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

    def verify_undone(self, record: UndoRecord) -> tuple[Evidence, ...]:
        with engine_of(record.dependency) as engine:
            return runs_again(record, engine)

    def by_hand(self, record: UndoRecord) -> str:
        return f"docker unpause {shlex.quote(name_in(record))}"


class ContainerKill:
    def plan(self, dependency: Dependency, params: dict[str, Any]) -> Change:
        planned_container("kill", dependency)
        return Change(
            kind="kill",
            dependency=dependency,
            params=params,
            does=f"kills {label(dependency)} with SIGKILL",
            undoes=f"starts {label(dependency)} again and waits until it answers",
            proves="the engine shows that it has ended; a probe is refused or cut",
            property=run_state(dependency),
            resources=resources(dependency),
            blind_probe=is_silent(dependency) and dependency.proxied,
            hides_path=True,
        )

    def capture(self, change: Change, record_id: str) -> UndoRecord:
        return _capture(change, record_id)

    def inject(self, record: UndoRecord) -> Applied:
        with engine_of(record.dependency) as engine:
            to_change(record, engine)
            return engine.kill(container_id(record))

    def prove(self, record: UndoRecord, stage: Stage) -> tuple[Evidence, ...]:
        with engine_of(record.dependency) as engine:
            found = _seen(record, engine)
        control = Evidence(
            source="control",
            expected=f"container {name_in(record)} has ended and stays so",
            observed=_said(found),
            held=found is not None and not found.state.running and not found.state.restarting,
            at=monotonic(),
        )
        result = at_the_path(_seen_at(record.dependency), SILENCE_S)
        probe = Evidence(
            source="probe",
            expected=f"connections to {asked_at(_seen_at(record.dependency))} are {_outage_words(record.dependency)}",
            observed=seen(result),
            held=_is_outage(record.dependency, result),
            at=result.ended,
        )
        return control, *(path_of_target(record, found) if found is not None else ()), probe

    def undo(self, record: UndoRecord) -> Applied:
        """Start it unless it runs, and wait until it answers. Raises Gone as `pause` does, UndoUnverified when
        somebody paused it or it does not come up."""
        sent = monotonic()
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
        return Applied(sent, monotonic())

    def verify_undone(self, record: UndoRecord) -> tuple[Evidence, ...]:
        with engine_of(record.dependency) as engine:
            return runs_again(record, engine)

    def by_hand(self, record: UndoRecord) -> str:
        return f"docker start {shlex.quote(name_in(record))}"


class ContainerRestart(ContainerKill):
    def plan(self, dependency: Dependency, params: dict[str, Any]) -> Change:
        planned_container("restart", dependency)
        grace_s = number_of(params.get("grace"), default=10.0)
        planned = super().plan(dependency, params)
        return msgspec.structs.replace(
            planned,
            kind="restart",
            does=f"stops {label(dependency)} with its own stop signal, kills after {grace_s:g} s what has not ended,"
            " and starts it again",
            undoes=f"starts {label(dependency)} if it did not come back",
            proves="the engine shows a later start than before; a probe in between was refused or cut",
            one_shot=True,
        )

    def capture(self, change: Change, record_id: str) -> UndoRecord:
        grace_s = number_of(change.params.get("grace"), default=10.0)
        # The event itself takes its time; nobody must begin to heal in the middle of it.
        return _capture(change, record_id, deadline_s=grace_s + READY_LIMIT_S)

    def inject(self, record: UndoRecord) -> Applied:
        """Raises OutcomeUnknown when it was stopped and did not come back: the undo then starts it again."""
        dependency = record.dependency
        grace_s = number_of(record.params.get("grace"), default=10.0)
        with engine_of(dependency) as engine:
            before = to_change(record, engine)
            sent = engine.stop(before.id, grace_s=grace_s).sent
            try:
                ended = engine.container(before.id)
                outage = at_the_path(_seen_at(dependency), OUTAGE_PROBE_S)
                engine.start(before.id)
                now = wait_ready(record, engine)
            except HarnessError as error:
                raise OutcomeUnknown(f"{dependency.name} was stopped and did not come back: {error}") from error
        replied = monotonic()
        return Applied(
            sent,
            replied,
            evidence=(
                Evidence(
                    source="probe",
                    expected=f"while it was down, connections to {asked_at(_seen_at(dependency))} were"
                    f" {_outage_words(dependency)}",
                    observed=seen(outage),
                    held=_is_outage(dependency, outage),
                    at=outage.ended,
                ),
                Evidence(
                    source="control",
                    expected=f"container {before.name} ends and is started again",
                    observed=f"it {ended.condition}, was started again and answered {replied - sent:.1f} s after it was"
                    " asked to end",
                    held=not ended.state.running and now.state.started_at != before.state.started_at,
                    at=replied,
                ),
            ),
        )

    def prove(self, record: UndoRecord, stage: Stage) -> tuple[Evidence, ...]:
        with engine_of(record.dependency) as engine:
            found = _seen(record, engine)
        before = str(record.where.get("started_at"))
        control = Evidence(
            source="control",
            expected=f"container {name_in(record)} was started later than {before}",
            observed=f"{_said(found)}, started {found.state.started_at}" if found is not None else _said(found),
            held=found is not None and found.serves and found.state.started_at != before,
            at=monotonic(),
        )
        return control, *(path_of_target(record, found) if found is not None else ())


def _capture(change: Change, record_id: str, *, deadline_s: float | None = None) -> UndoRecord:
    dependency = change.dependency
    name = f"{dependency.name}-{change.kind}"
    with engine_of(dependency) as engine:
        found = fit(change.kind, dependency, engine)
        refuse_shared(change.kind, dependency, found, engine)
        networks = docker_network.ends(engine, found)
    if found.host_config.auto_remove:
        raise Refused(
            f"{name}: container {found.name} was started with --rm: the engine removes it when it ends, and nothing"
            " could start it again",
            hint="start it without --rm",
        )
    address = address_of(dependency)
    at_ours = [one for one in found.published if address is not None and one.port == address.port]
    if dependency.target and any(found.chosen_by_engine(one) for one in at_ours):
        raise Refused(
            f"{name}: the engine chose port {address.port if address else '?'} of container {found.name} and chooses"
            " another one at its next start, where the load would not follow",
            hint='publish a fixed port, for example "127.0.0.1:8000:8000"',
        )
    return record_of(
        change,
        record_id,
        found,
        original={"state": "running", "ends": msgspec.json.encode(networks).decode()},
        ours={"state": "not running"},
        deadline_s=deadline_s,
    )


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


def _seen(record: UndoRecord, engine: Engine) -> Container | None:
    try:
        return engine.container(container_id(record))
    except Gone:
        return None


def _said(container: Container | None) -> str:
    if container is None:
        return "it does not exist any more"
    return container.condition + (f" since {container.state.started_at}" if container.serves else "")


def _seen_at(dependency: Dependency) -> Dependency:
    """Where the probe can see it: for plain TCP behind a proxy, at the server itself."""
    if is_silent(dependency) and dependency.proxied and dependency.direct is not None:
        return msgspec.structs.replace(dependency, path=dependency.direct)
    return dependency


def _outage_words(dependency: Dependency) -> str:
    return "refused, cut or not answered" if _may_hang(dependency) else "refused or cut"


def _is_outage(dependency: Dependency, result: ProbeResult) -> bool:
    kinds = ("refused", "reset", "closed", *(("timeout", "unreachable") if _may_hang(dependency) else ()))
    return not result.ok and result.error_kind in kinds


def _may_hang(dependency: Dependency) -> bool:
    """A proxy in a container finds no address for the one that has ended, and that may take its resolver a while. At a
    container's own address nobody refuses either: there is no host any more."""
    return dependency.proxied or dependency.container_network is not None
