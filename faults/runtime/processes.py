"""A server's own processes: stopped, killed, or asked to end, and started again by whoever may.

Its whole process tree is meant: PostgreSQL's live backends would answer on without their postmaster, and one left alive
blocks the next start.
"""

from __future__ import annotations

import os
import time

from faults.path.address import address_of, nobody_in_its_place, port_is_open, who_answers
from faults.path.evidence import control_shows, path_shows, undo_shows
from faults.path.health import BLIND, STILL_GOOD_S, Life, healthy, wait_until_back
from faults.path.probes import refuse_https
from faults.path.record import record_of
from faults.proxy.proxy import path_again
from faults.runtime.runtime import Words
from harness.adapters.keeper.starter import may_start, serving, start
from harness.adapters.processes import control as process_control
from harness.adapters.processes.control import ServerProcesses, as_scalars, from_scalars, look_at, members, runs_us
from harness.adapters.processes.identity import Seen, alive, same
from harness.adapters.processes.listeners import command_of, listens
from harness.dependencies.registry import kind_of
from harness.model.clock import monotonic
from harness.model.errors import AdapterError, Gone, Refused, Rejected, UndoUnverified
from harness.model.records.faults import Applied, Change, Dependency, Evidence, UndoRecord

GIVEN_UP_S = 5.0
"""A keeper's server that has been gone for so long after its start does not come up."""
REPLACED_LIMIT_S = 3.0
"""How long somebody else (a supervisor) may take to start what ended while it was paused."""


class Processes:
    noun = "process"

    def words(self, dependency: Dependency) -> Words:
        it, every = dependency.name, f"every process of {dependency.name}"
        by = (
            "its start command in harness.toml" if dependency.process.start_config is not None else "the stack's keeper"
        )
        return Words(
            server=it,
            pause=f"stops {every} with SIGSTOP",
            paused="every process of it is stopped",
            unpause=f"lets {every} go on with SIGCONT",
            kill=f"kills {every} with SIGKILL",
            gone="no process of it is left and its port is closed",
            stop=f"asks {it} to end ({kind_of(dependency).stop_signal.name})",
            replaced="another process serves than before",
            again=f" (by {by})",
        )

    def refuse(self, kind: str, dependency: Dependency) -> None:
        name = f"{dependency.name}-{kind}"
        if dependency.runtime != "process":
            raise Refused(
                f"{name} needs the process of {dependency.name}, and this stack declares none",
                hint=f"declare pid_file for {dependency.name} in harness.toml; the embedded stack knows its servers'",
            )
        if kind != "pause" and not dependency.startable:
            raise Refused(
                f"{name} needs a way to start {dependency.name} again, and none is declared",
                hint=f'declare start = ["PROGRAM", "ARGUMENT"] for {dependency.name} in harness.toml; '
                f"{dependency.name}-pause needs none",
            )
        refuse_https(kind, dependency)

    def resources(self, dependency: Dependency) -> tuple[str, ...]:
        at = address_of(dependency)
        return (f"process of {dependency.name} at {at}" if at is not None else f"process of {dependency.name}",)

    def capture(self, change: Change, record_id: str, *, deadline_s: float | None) -> UndoRecord:
        dependency = change.dependency
        server = _fit(change.kind, dependency)
        return record_of(
            change,
            record_id,
            # Of the target baseline has shown that it works, and what it answers later is its recovery: one that does
            # not answer any more can be started anew.
            BLIND if dependency.target else healthy(dependency, at_least_s=STILL_GOOD_S),
            where={**as_scalars(server), "address": str(address_of(dependency))},
            original={"state": "running"},
            ours={"state": "stopped" if change.kind == "pause" else "not running"},
            deadline_s=deadline_s,
        )

    def pause(self, record: UndoRecord) -> Applied:
        server = _to_change(record)
        sent = monotonic()
        process_control.stop(server)
        return Applied(sent, monotonic())

    def unpause(self, record: UndoRecord) -> Applied:
        sent = monotonic()
        woken = sum(process_control.go_on(server) for server in _both(record))
        if woken or alive(_recorded(record).first):
            return Applied(sent, monotonic())
        address, pid = address_of(record.dependency), _recorded(record).first.pid
        end = time.monotonic() + REPLACED_LIMIT_S
        while address is not None and time.monotonic() < end:
            if port_is_open(address):
                raise Gone(f"process {pid} has ended; {who_answers(address)} serves in its place")
            time.sleep(0.1)
        raise UndoUnverified(
            f"{record.dependency.name} is not running: its process {pid} ended while it was paused",
            self.by_hand(record),
        )

    def kill(self, record: UndoRecord) -> Applied:
        server = _to_change(record)
        sent = monotonic()
        process_control.kill(server)
        return Applied(sent, monotonic())

    def stop(self, record: UndoRecord, grace_s: float) -> tuple[Applied, str]:
        dependency, server = record.dependency, _to_change(record)
        if (why := may_start(dependency)) is not None:
            raise Rejected(f"{dependency.name} could not be started again: {why}")
        sent = monotonic()
        hard = process_control.ask_to_end(server, kind_of(dependency).stop_signal, grace_s)
        return Applied(sent, monotonic()), f" (by SIGKILL after {grace_s:g} s)" if hard else ""

    def start(self, record: UndoRecord) -> None:
        """Compare and set: ours is "not running". Raises UndoUnverified as well where somebody else's process has its
        port, and AdapterError when its keeper does not answer just now."""
        dependency = record.dependency
        if current(record) is not None:
            # Never killed, or started already. A run that died between stopping and killing it left it stopped.
            for group in _both(record):
                process_control.go_on(group)
        else:
            self._start(record)
        seen_s = time.monotonic()

        def look() -> Life:
            nonlocal seen_s
            up = serving(dependency) is not None
            seen_s = time.monotonic() if up else seen_s
            over = dependency.process.keeper is not None and time.monotonic() - seen_s > GIVEN_UP_S
            return Life(dependency=dependency, up=up, over=over, why="it ends again")

        wait_until_back(look, dependency.name, self.by_hand(record))

    def _start(self, record: UndoRecord) -> None:
        name, address, mend = record.dependency.name, address_of(record.dependency), self.by_hand(record)
        # What is left of it first: it may hold the port, and a backend of PostgreSQL blocks the next start.
        process_control.kill(_recorded(record))
        if address is not None and port_is_open(address):
            raise UndoUnverified(
                f"{name} was ended, and {who_answers(address)} answers at {address} now, which is not the one that is"
                " known as its process: somebody started it, and it is left alone",
                f"if that is as it should be, nothing is left to do; else end that process and {mend}",
            )
        why = may_start(record.dependency)
        if why is not None:
            raise UndoUnverified(f"{name} was ended and cannot be started again: {why}", mend)
        try:
            start(record.dependency)
        except Rejected as error:
            raise UndoUnverified(f"{name} was ended and could not be started again: {error}", mend) from error

    def life(self, record: UndoRecord) -> str:
        return f"process {_running(record).first.pid}"

    def is_paused(self, record: UndoRecord) -> tuple[Evidence, ...]:
        server = current(record)
        rows = members(server) if server is not None else []
        held = bool(rows) and all(row.stopped for row in rows)
        return _seen(record, server, f"every process of {record.dependency.name} is stopped", _states(rows), held)

    def is_gone(self, record: UndoRecord) -> tuple[Evidence, ...]:
        server, address = current(record), address_of(record.dependency)
        left = members(_recorded(record)) + (members(server) if server is not None else [])
        closed = address is not None and not port_is_open(address)
        expected = f"no process of {record.dependency.name} is left, nobody listens on {address}"
        observed = f"process {left[0].id.pid} runs" if left else "no process"
        observed += f", the port is {'closed' if closed else 'open'}"
        return _seen(record, server, expected, observed, not left and closed)

    def is_replaced(self, record: UndoRecord) -> tuple[Evidence, ...]:
        server, past = current(record), _recorded(record)
        held = server is not None and not same(server.first, past.first) and not alive(past.first)
        expected = f"process {past.first.pid} of {record.dependency.name} is gone, another one serves in its place"
        observed = f"process {server.first.pid} serves" if server is not None else "no process of it runs"
        return _seen(record, server, expected, observed, held)

    def runs_again(self, record: UndoRecord) -> tuple[Evidence, ...]:
        """Its processes are there, none of them stopped, and the port is theirs."""
        dependency, now = record.dependency, current(record)
        address = address_of(dependency)
        rows = members(now) if now is not None else []
        stopped = any(row.stopped for group in _both(record) for row in members(group))
        held = bool(rows) and not stopped and address is not None
        observed = _states(rows)
        if now is not None:
            observed += f" (first: pid {now.first.pid})"
            if not same(now.first, _recorded(record).first):
                observed += f" in the place of {_recorded(record).first.pid}"
            if held and address is not None and not _listens(now, address.port):
                held, observed = False, f"{observed}, and none listens on port {address.port}"
        expected = f"{dependency.name} runs at {address}, no process of it stopped"
        runs = undo_shows(expected=expected, observed=observed, held=held)
        return runs, path_again(record)

    def by_hand(self, record: UndoRecord) -> str:
        """How a person has it go on, or starts it again where it has ended."""
        dependency, pid = record.dependency, _recorded(record).first.pid
        if record.kind == "pause" and alive(_recorded(record).first):
            return f"kill -CONT {pid}, and the same for every process below it"
        if dependency.process.keeper is not None:
            return "look into its log (harness stack logs), then: harness stack down; harness stack up"
        if dependency.process.start_config is not None:
            return f"start {dependency.name} by hand; its command is in {dependency.process.start_config}"
        return f"start {dependency.name} by hand"


def current(record: UndoRecord) -> ServerProcesses | None:
    """The server that runs now: the recorded one, or the one its owner started in its place. None when none runs."""
    past = _recorded(record)
    try:
        now = serving(record.dependency)
    except AdapterError:
        now = None  # its owner does not answer; the process itself may be there all the same
    if record.dependency.process.keeper is None and record.dependency.process.pid_file is None:
        now = None  # nobody but the record says which process it is, and a pid alone may be anybody's by now
    if now is not None and not same(now, past.first):
        try:
            return look_at(now.pid, own_folder=past.folder is not None)
        except Gone:
            return None
    return past if alive(past.first) else None


def _fit(kind: str, dependency: Dependency) -> ServerProcesses:
    """The server, once it is known to be fit for a fault. Raises Refused, AdapterError."""
    name = f"{dependency.name}-{kind}"
    if kind != "pause" and (why := may_start(dependency)) is not None:
        raise Refused(f"{name}: {dependency.name} could not be started again: {why}")
    try:
        now = serving(dependency)
        if now is None:
            where = dependency.process.pid_file or "its keeper"
            raise Refused(
                f"{name}: no process of {dependency.name} is running (asked: {where})",
                hint="start it, or correct pid_file" if dependency.process.pid_file else "harness stack status",
            )
        server = look_at(now.pid, own_folder=kind_of(dependency).one_server_a_folder)
        _check_ours(server, dependency)
    except Gone as error:
        raise Refused(f"{name}: {error}") from error
    except Rejected as error:
        raise Refused(f"{name}: {error}", hint=error.hint) from error
    stopped = [row.id.pid for row in members(server) if row.stopped]
    if stopped:
        raise Refused(
            f"{name}: process {stopped[0]} of {dependency.name} is already stopped: that cannot be recorded as its"
            " original state",
            hint=f"let it go on: kill -CONT {stopped[0]}",
        )
    if runs_us(server):
        raise Refused(f"{name}: the harness itself was started by process {server.first.pid}, and would stop with it")
    return server


def _check_ours(server: ServerProcesses, dependency: Dependency) -> None:
    """It belongs to this user and listens where the dependency does. Raises Rejected."""
    first, me = server.first, os.geteuid()
    if me not in (0, server.uid):
        raise Rejected(
            f"process {first.pid} belongs to another user (uid {server.uid}) and may not be signalled",
            hint="run the harness as that user",
        )
    address = address_of(dependency)
    if address is None:
        raise Rejected(
            f"the server's own address is not known, so process {first.pid} cannot be told from another",
            hint=f"declare direct for {dependency.name}",
        )
    if not _listens(server, address.port):
        raise Rejected(
            f"process {first.pid} ({command_of(first.pid)}) does not listen on port {address.port}, as"
            f" {dependency.name} does",
            hint="correct pid_file or the address",
        )


def _to_change(record: UndoRecord) -> ServerProcesses:
    """The running server, checked once more right before it is signalled. Raises Gone, Rejected."""
    server = _running(record)
    _check_ours(server, record.dependency)
    return server


def _running(record: UndoRecord) -> ServerProcesses:
    server = current(record)
    if server is None:
        raise Gone(f"no process of {record.dependency.name} is running any more")
    return server


def _recorded(record: UndoRecord) -> ServerProcesses:
    return from_scalars(record.where)


def _both(record: UndoRecord) -> list[ServerProcesses]:
    """The recorded server and, where another one has taken its place, that one."""
    past, now = _recorded(record), current(record)
    return [past] if now is None or same(now.first, past.first) else [past, now]


def _listens(server: ServerProcesses, port: int) -> bool:
    return listens((row.id.pid for row in members(server)), port)


def _states(rows: list[Seen]) -> str:
    """`3 processes, all stopped`"""
    stopped = sum(row.stopped for row in rows)
    count = "1 process" if len(rows) == 1 else f"{len(rows)} processes"
    if not rows:
        return "no process"
    return f"{count}, {'all' if stopped == len(rows) else stopped or 'none'} stopped"


def _seen(
    record: UndoRecord, server: ServerProcesses | None, expected: str, observed: str, held: bool
) -> tuple[Evidence, ...]:
    """The target has no proxy: its path is its own port, and who listens there says whether it is what was changed."""
    control = control_shows(expected=expected, observed=observed, held=held)
    address = address_of(record.dependency)
    if not record.dependency.target or address is None:
        return (control,)
    if server is None:
        return control, nobody_in_its_place(address, f"process {_recorded(record).first.pid}")
    theirs = _listens(server, address.port)
    path = path_shows(
        expected=f"what listens on {address} is the process tree that was changed (pid {server.first.pid})",
        observed="one of these processes does" if theirs else f"{who_answers(address)} does",
        held=theirs,
    )
    return control, path
