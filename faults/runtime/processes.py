"""Faults on a server's own processes: stopped (`pause`), ended (`kill`), ended and started once (`restart`).

The server may be a dependency's or the target itself. Its whole process tree is meant: PostgreSQL's live backends would
answer on without their postmaster, and one left alive blocks the next start.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from faults.common.application_path import asked_at, number_of, seen
from faults.common.probe_spacing import may_ask
from faults.common.proxy import path_again
from faults.common.server_processes import (
    OUTAGE_PROBE_S,
    READY_LIMIT_S,
    address_of,
    at_the_path,
    both,
    capture_server,
    current,
    is_silent,
    mend,
    path_of_target,
    planned_process,
    port_is_open,
    recorded,
    resources,
    run_state,
    runs_again,
    states,
    to_change,
    wait_ready,
    who_answers,
)
from harness.adapters.processes import control as process_control
from harness.adapters.processes import starter
from harness.adapters.processes.identity import alive, same
from harness.fault import ParamInfo, Stage
from harness.model.clock import monotonic
from harness.model.errors import Gone, HarnessError, OutcomeUnknown, Rejected, UndoUnverified
from harness.model.records.faults import Applied, Change, Dependency, Evidence, UndoRecord

SILENCE_S = 1.0
REPLACED_LIMIT_S = 3.0
"""How long somebody else (a supervisor) may take to start what ended while it was paused."""


class Pause:
    """SIGSTOP of the whole tree: it keeps its connections and answers nothing."""

    kind = "pause"
    summary = "the server stands still: connections are accepted, nothing is answered"
    undo_summary = "every process that is stopped goes on; those that run already are left as they are"
    proof_summary = "every process of it is stopped, a probe is accepted and gets no answer within 1 s"
    needs: Literal["runtime"] = "runtime"
    one_shot = False
    params: tuple[ParamInfo, ...] = ()

    def plan(self, dependency: Dependency, params: Mapping[str, Any]) -> Change:
        planned_process(self.kind, dependency, starts=False)
        return Change(
            kind=self.kind,
            dependency=dependency,
            params=dict(params),
            does=f"stops every process of {dependency.name} with SIGSTOP: it keeps its connections and answers nothing",
            undoes=f"lets every process of {dependency.name} go on with SIGCONT",
            proves="every process of it is stopped; a probe gets no answer within 1 s",
            property=run_state(dependency),
            resources=resources(dependency),
            hides_path=True,
        )

    def capture(self, change: Change, record_id: str) -> UndoRecord:
        return capture_server(change, record_id)

    def inject(self, record: UndoRecord) -> Applied:
        server = to_change(record)
        sent = monotonic()
        process_control.stop(server)
        return Applied(sent, monotonic())

    def prove(self, record: UndoRecord, stage: Stage) -> tuple[Evidence, ...]:
        server = current(record)
        rows = process_control.members(server) if server is not None else []
        control = Evidence(
            source="control",
            expected=f"every process of {record.dependency.name} is stopped",
            observed=states(rows),
            held=bool(rows) and all(row.stopped for row in rows),
            at=monotonic(),
        )
        if stage == "held" and not may_ask(record):
            return control, *path_of_target(record, server)
        result = at_the_path(record.dependency, SILENCE_S)
        probe = Evidence(
            source="probe",
            expected=f"the connection is accepted, then no answer within {SILENCE_S:g} s",
            observed=seen(result),
            # With its queue of connections full a stopped server does not even accept: still no answer in time.
            held=result.error_kind == "timeout",
            at=result.ended,
        )
        return control, *path_of_target(record, server), probe

    def undo(self, record: UndoRecord) -> Applied:
        """Whatever is stopped goes on. Raises Gone when the process has ended and another one serves in its place,
        UndoUnverified when none does."""
        sent = monotonic()
        woken = sum(process_control.go_on(server) for server in both(record))
        if woken or alive(recorded(record).first):
            return Applied(sent, monotonic())
        address, pid = address_of(record.dependency), recorded(record).first.pid
        end = time.monotonic() + REPLACED_LIMIT_S
        while address is not None and time.monotonic() < end:
            if port_is_open(address):
                raise Gone(f"process {pid} has ended; {who_answers(address)} serves in its place")
            time.sleep(0.1)
        raise UndoUnverified(
            f"{record.dependency.name} is not running: its process {pid} ended while it was paused",
            mend(record.dependency),
        )

    def verify_undone(self, record: UndoRecord) -> tuple[Evidence, ...]:
        return runs_again(record), path_again(record)


class Kill:
    """SIGKILL of the whole tree; the undo starts the server again and waits until it answers."""

    kind = "kill"
    summary = "the server is killed: connections are cut, new ones are refused until it is started again"
    undo_summary = "the server is started again and answers, unless somebody did that already"
    proof_summary = "no process of it is left, its port is closed, a probe is refused or cut"
    needs: Literal["runtime"] = "runtime"
    one_shot = False
    params: tuple[ParamInfo, ...] = ()

    def plan(self, dependency: Dependency, params: Mapping[str, Any]) -> Change:
        planned_process(self.kind, dependency, starts=True)
        return Change(
            kind=self.kind,
            dependency=dependency,
            params=dict(params),
            does=f"kills every process of {dependency.name} with SIGKILL",
            undoes=f"starts {dependency.name} again ({_how(dependency)}) and waits until it answers",
            proves="no process of it is left and its port is closed; a probe is refused or cut",
            property=run_state(dependency),
            resources=resources(dependency),
            blind_probe=_blind(dependency),
            hides_path=True,
        )

    def capture(self, change: Change, record_id: str) -> UndoRecord:
        return capture_server(change, record_id)

    def inject(self, record: UndoRecord) -> Applied:
        server = to_change(record)
        sent = monotonic()
        process_control.kill(server)
        return Applied(sent, monotonic())

    def prove(self, record: UndoRecord, stage: Stage) -> tuple[Evidence, ...]:
        server = current(record)
        left = process_control.members(recorded(record)) + (process_control.members(server) if server else [])
        address = address_of(record.dependency)
        closed = address is not None and not port_is_open(address)
        control = Evidence(
            source="control",
            expected=f"no process of {record.dependency.name} is left, nobody listens on {address}",
            observed=f"{'no process' if not left else f'process {left[0].id.pid} runs'}, the port is"
            f" {'closed' if closed else 'open'}",
            held=not left and closed,
            at=monotonic(),
        )
        result = at_the_path(_seen_at(record.dependency), SILENCE_S)
        probe = Evidence(
            source="probe",
            # A proxy accepts, fails to connect onwards, and hangs up.
            expected=f"connections to {asked_at(_seen_at(record.dependency))} are refused, or cut at once",
            observed=seen(result),
            held=not result.ok and result.error_kind in ("refused", "reset", "closed"),
            at=result.ended,
        )
        return control, *path_of_target(record, server), probe

    def undo(self, record: UndoRecord) -> Applied:
        sent = monotonic()
        start_again(record)
        return Applied(sent, monotonic())

    def verify_undone(self, record: UndoRecord) -> tuple[Evidence, ...]:
        return runs_again(record), path_again(record)


class Restart(Kill):
    """Ended as its administrator would end it, and started again: an event, over when the server answers."""

    kind = "restart"
    summary = "the server is stopped and started again, once"
    undo_summary = "there is nothing to undo once it is back; if it did not come back it is started again"
    proof_summary = "another process serves than before, and a probe in between was refused or cut"
    one_shot = True
    params = (
        ParamInfo(
            name="grace",
            unit="duration",
            default="10s",
            help="from asking it to end to SIGKILL",
            low=0,
            high=300,
        ),
    )

    def plan(self, dependency: Dependency, params: Mapping[str, Any]) -> Change:
        planned_process(self.kind, dependency, starts=True)
        grace_s = number_of(params["grace"], default=10.0)
        return Change(
            kind=self.kind,
            dependency=dependency,
            params=dict(params),
            does=f"asks {dependency.name} to end ({_stop_signal(dependency).name}), kills after {grace_s:g} s what has"
            f" not, and starts it again ({_how(dependency)})",
            undoes=f"starts {dependency.name} if it did not come back",
            proves="another process serves than before; a probe in between was refused or cut",
            property=run_state(dependency),
            resources=resources(dependency),
            one_shot=True,
            blind_probe=_blind(dependency),
            hides_path=True,
        )

    def capture(self, change: Change, record_id: str) -> UndoRecord:
        grace_s = number_of(change.params.get("grace"), default=10.0)
        # The event itself takes its time; nobody must begin to heal in the middle of it.
        return capture_server(change, record_id, deadline_s=grace_s + READY_LIMIT_S)

    def inject(self, record: UndoRecord) -> Applied:
        """Raises OutcomeUnknown when it was ended and did not come back: the undo then starts it again."""
        dependency = record.dependency
        before = to_change(record)
        why = starter.may_start(dependency)
        if why is not None:
            raise Rejected(f"{dependency.name} could not be started again: {why}")
        sent = monotonic()
        grace_s = number_of(record.params.get("grace"), default=10.0)
        hard = process_control.ask_to_end(before, _stop_signal(dependency), grace_s)
        outage = at_the_path(_seen_at(dependency), OUTAGE_PROBE_S)
        try:
            starter.start(dependency)
            now = wait_ready(record)
        except HarnessError as error:
            raise OutcomeUnknown(f"{dependency.name} was stopped and did not come back: {error}") from error
        replied = monotonic()
        ended = f"process {before.first.pid} ended" + (f" (by SIGKILL after {grace_s:g} s)" if hard else "")
        return Applied(
            sent,
            replied,
            evidence=(
                Evidence(
                    source="probe",
                    expected=f"while it was down, connections to {asked_at(_seen_at(dependency))} were refused or cut",
                    observed=seen(outage),
                    held=not outage.ok and outage.error_kind in ("refused", "reset", "closed"),
                    at=outage.ended,
                ),
                Evidence(
                    source="control",
                    expected=f"the process of {dependency.name} ends and another one takes its place",
                    observed=f"{ended}, process {now.pid if now else '?'} answered {replied - sent:.1f} s after it was"
                    " asked to end",
                    held=now is not None and not same(now, before.first) and not alive(before.first),
                    at=replied,
                ),
            ),
        )

    def prove(self, record: UndoRecord, stage: Stage) -> tuple[Evidence, ...]:
        server, past = current(record), recorded(record)
        replaced = server is not None and not same(server.first, past.first) and not alive(past.first)
        control = Evidence(
            source="control",
            expected=f"process {past.first.pid} of {record.dependency.name} is gone, another one serves in its place",
            observed=f"process {server.first.pid} serves" if server is not None else "no process of it runs",
            held=replaced,
            at=monotonic(),
        )
        return control, *path_of_target(record, server)


def start_again(record: UndoRecord) -> None:
    """Start the server unless it runs, and wait until it answers.

    Compare and set: ours is "not running". Raises UndoUnverified when somebody else's process has its port, when
    nobody may start it, or when it does not come up; AdapterError when its keeper does not answer just now.
    """
    dependency, past = record.dependency, recorded(record)
    server = current(record)
    if server is not None:
        # Never killed, or started already. A run that died between stopping and killing it left it stopped.
        for group in both(record):
            process_control.go_on(group)
        wait_ready(record)
        return
    address = address_of(dependency)
    # What is left of it first: it may hold the port, and a backend of PostgreSQL blocks the next start.
    process_control.kill(past)
    if address is not None and port_is_open(address):
        raise UndoUnverified(
            f"{dependency.name} was killed, and {who_answers(address)} answers at {address} now, which is not the one"
            " that is known as its process: somebody started it, and it is left alone",
            f"if that is as it should be, nothing is left to do; else end that process and {mend(dependency)}",
        )
    why = starter.may_start(dependency)
    if why is not None:
        raise UndoUnverified(f"{dependency.name} was killed and cannot be started again: {why}", mend(dependency))
    try:
        starter.start(dependency)
    except Rejected as error:
        raise UndoUnverified(
            f"{dependency.name} was killed and could not be started again: {error}", mend(dependency)
        ) from error
    wait_ready(record)


def _how(dependency: Dependency) -> str:
    return "by its start command in harness.toml" if dependency.start_config is not None else "by the stack's keeper"


def _stop_signal(dependency: Dependency) -> signal.Signals:
    # PostgreSQL takes SIGTERM as "wait until every session has ended".
    return signal.SIGINT if dependency.kind == "postgres" else signal.SIGTERM


def _blind(dependency: Dependency) -> bool:
    """A proxy accepts connections whether or not the server behind it lives, and nothing more can be asked."""
    return is_silent(dependency) and dependency.proxied


def _seen_at(dependency: Dependency) -> Dependency:
    """Where the probe can see it: for plain TCP behind a proxy, at the server itself."""
    if _blind(dependency) and dependency.direct is not None:
        return msgspec.structs.replace(dependency, path=dependency.direct)
    return dependency


PAUSE = Pause()
KILL = Kill()
RESTART = Restart()
