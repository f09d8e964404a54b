"""What the faults on a server's own processes share: which processes, are they the right ones, is it well again."""

from __future__ import annotations

import os
import time
from urllib.parse import urlsplit

import msgspec

from faults.common.application_path import healthy, probe_path
from harness.adapters.processes.control import ServerProcesses, as_scalars, from_scalars, look_at, members, runs_us
from harness.adapters.processes.identity import ProcessId, Seen, alive, same
from harness.adapters.processes.listeners import command_of, listener, listens
from harness.adapters.processes.starter import may_start, serving
from harness.adapters.wire.exchange import Exchange, ProbeError
from harness.dependencies.probe import handshake, path_probe
from harness.dependencies.result import ProbeResult
from harness.model.clock import monotonic
from harness.model.errors import AdapterError, Gone, Refused, Rejected, UndoUnverified, UsageError
from harness.model.records.faults import Address, Change, Dependency, Evidence, UndoRecord

READY_LIMIT_S = 60.0
"""How long a server may take to answer after it was started."""
GIVEN_UP_S = 5.0
"""A keeper's server that has been gone for so long after its start does not come up."""
OUTAGE_PROBE_S = 1.0
STILL_GOOD_S = 0.5
"""A probe answered within this is certainly not paused, killed or away: those take a second or refuse."""


def is_silent(dependency: Dependency) -> bool:
    """Nothing can be sent to an unknown protocol, so a probe sees only whether connections are accepted."""
    return dependency.kind == "tcp" and dependency.probe_send is None


def planned_process(kind: str, dependency: Dependency, *, starts: bool) -> None:
    """Raises Refused where this fault cannot be had. starts: the server must be started again afterwards."""
    name = f"{dependency.name}-{kind}"
    if kind == "pause" and is_silent(dependency):
        raise Refused(
            f"{name}: nothing would show this fault on a dependency of kind {dependency.kind}",
            hint='declare probe_send for it: a harmless request, or "" where the server speaks first;'
            f" {dependency.name}-kill needs none",
        )
    if dependency.runtime != "process":
        raise Refused(
            f"{name} needs the process of {dependency.name}, and this stack declares none",
            hint=f"declare pid_file for {dependency.name} in harness.toml; the embedded stack knows its servers'",
        )
    if starts and not dependency.startable:
        raise Refused(
            f"{name} needs a way to start {dependency.name} again, and none is declared",
            hint=f'declare start = ["PROGRAM", "ARGUMENT"] for {dependency.name} in harness.toml; '
            f"{dependency.name}-pause needs none",
        )
    if dependency.url is not None and not dependency.url.startswith("http://"):
        raise Refused(f"{name} probes {dependency.url}, and only http URLs can be probed on a fresh connection")


def resources(dependency: Dependency) -> tuple[str, ...]:
    at = address_of(dependency)
    return (f"process of {dependency.name} at {at}" if at is not None else f"process of {dependency.name}",)


def run_state(dependency: Dependency) -> str:
    """The property that every fault on the processes sets."""
    return f"process of {dependency.name}: run state"


def address_of(dependency: Dependency) -> Address | None:
    """Where the server itself listens."""
    if dependency.direct is not None:
        return dependency.direct
    if not dependency.proxied and dependency.path is not None:
        return dependency.path
    if dependency.url is not None and not dependency.proxied:
        parts = urlsplit(dependency.url)
        return Address(parts.hostname or "", parts.port or 80)
    return None


def capture_server(change: Change, record_id: str, *, deadline_s: float | None = None) -> UndoRecord:
    """The record of a server that is fit for a fault. Raises Refused, AdapterError."""
    dependency = change.dependency
    name = f"{dependency.name}-{change.kind}"
    if change.kind != "pause" and (why := may_start(dependency)) is not None:
        raise Refused(f"{name}: {dependency.name} could not be started again: {why}")
    try:
        now = serving(dependency)
        if now is None:
            where = dependency.pid_file or "its keeper"
            raise Refused(
                f"{name}: no process of {dependency.name} is running (asked: {where})",
                hint="start it, or correct pid_file" if dependency.pid_file else "harness stack status",
            )
        server = look_at(now.pid, own_folder=dependency.kind == "postgres")
        check_ours(server, dependency)
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
    env = None if dependency.probe_login is not None else dependency.password_env
    secrets = {"password": env, "probe_password": dependency.probe_password_env}
    found = healthy(dependency)
    # A server that has just been started is slow for a while; what these faults do to a probe is far more than that.
    found = msgspec.structs.replace(found, good_below_s=max(found.good_below_s, STILL_GOOD_S))
    return UndoRecord(
        id=record_id,
        kind=change.kind,
        dependency=dependency,
        params=change.params,
        where={**as_scalars(server), "address": str(address_of(dependency))},
        original={"state": "running"},
        ours={"state": "stopped" if change.kind == "pause" else "not running"},
        secrets={key: variable for key, variable in secrets.items() if variable is not None},
        deadline_s=deadline_s,
        healthy=found.scalars(),
    )


def check_ours(server: ServerProcesses, dependency: Dependency) -> None:
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
    if not listens((row.id.pid for row in members(server)), address.port):
        raise Rejected(
            f"process {first.pid} ({command_of(first.pid)}) does not listen on port {address.port}, as"
            f" {dependency.name} does",
            hint="correct pid_file or the address",
        )


def recorded(record: UndoRecord) -> ServerProcesses:
    return from_scalars(record.where)


def current(record: UndoRecord) -> ServerProcesses | None:
    """The server that runs now: the recorded one, or the one its owner started in its place. None when none runs."""
    past = recorded(record)
    try:
        now = serving(record.dependency)
    except AdapterError:
        now = None  # its owner does not answer; the process itself may be there all the same
    if record.dependency.keeper is None and record.dependency.pid_file is None:
        now = None  # nobody but the record says which process it is, and a pid alone may be anybody's by now
    if now is not None and not same(now, past.first):
        try:
            return look_at(now.pid, own_folder=past.folder is not None)
        except Gone:
            return None
    return past if alive(past.first) else None


def to_change(record: UndoRecord) -> ServerProcesses:
    """The running server, checked once more right before it is signalled. Raises Gone, Rejected."""
    server = current(record)
    if server is None:
        raise Gone(f"no process of {record.dependency.name} is running any more")
    check_ours(server, record.dependency)
    return server


def both(record: UndoRecord) -> list[ServerProcesses]:
    """The recorded server and, where another one has taken its place, that one."""
    past, now = recorded(record), current(record)
    return [past] if now is None or same(now.first, past.first) else [past, now]


def states(rows: list[Seen]) -> str:
    """`3 processes, all stopped`"""
    stopped = sum(row.stopped for row in rows)
    count = "1 process" if len(rows) == 1 else f"{len(rows)} processes"
    if not rows:
        return "no process"
    return f"{count}, {'all' if stopped == len(rows) else stopped or 'none'} stopped"


def port_is_open(address: Address) -> bool:
    """Whether something accepts connections there (a stopped process's port does)."""
    try:
        with Exchange(address, deadline=monotonic() + 1.0):
            return True
    except ProbeError as error:
        return error.kind == "timeout"


def at_the_path(dependency: Dependency, timeout_s: float) -> ProbeResult:
    """What the application meets: the first exchange, because a client library hides how a connection ended."""
    try:
        return handshake(dependency, timeout_s)
    except UsageError:
        return probe_path(dependency, timeout_s)


def path_of_target(record: UndoRecord, server: ServerProcesses | None) -> tuple[Evidence, ...]:
    """The target has no proxy: its path is its own port, and who listens there says whether it is what was changed."""
    dependency = record.dependency
    address = address_of(dependency)
    if not dependency.target or address is None:
        return ()
    if server is not None:
        held = listens((row.id.pid for row in members(server)), address.port)
        observed = "one of these processes does" if held else f"{who_answers(address)} does"
        expected = f"what listens on {address} is the process tree that was changed (pid {server.first.pid})"
    else:
        held = not port_is_open(address)
        observed = "nobody does" if held else f"{who_answers(address)} does"
        expected = f"nobody listens on {address} in the place of process {recorded(record).first.pid}, which did"
    return (Evidence(source="path", expected=expected, observed=observed, held=held, at=monotonic()),)


def wait_ready(record: UndoRecord) -> ProcessId | None:
    """Wait until the server itself answers its protocol, or says that it is full; of the target only until it takes
    connections: what it answers then is its recovery. Returns its process. Raises UndoUnverified at the limit."""
    dependency = record.dependency
    itself = msgspec.structs.replace(dependency, path=None) if dependency.direct is not None else dependency
    probe = path_probe(itself)
    end = time.monotonic() + READY_LIMIT_S
    last_seen = time.monotonic()
    while True:
        result = probe(1.0)
        now = serving(dependency)
        if now is not None and is_back(dependency, result):
            return now
        if now is not None:
            last_seen = time.monotonic()
        gone_s = time.monotonic() - last_seen
        if time.monotonic() > end or (dependency.keeper is not None and gone_s > GIVEN_UP_S):
            why = "it ends again" if now is None else result.detail
            raise UndoUnverified(f"{dependency.name} was started again and does not answer: {why}", mend(dependency))
        time.sleep(0.03)


def is_back(dependency: Dependency, result: ProbeResult) -> bool:
    """What a probe says about a server that was started again."""
    return result.listens if dependency.target else result.ok or result.full


def mend(dependency: Dependency) -> str:
    """How a person starts it again."""
    if dependency.keeper is not None:
        return "look into its log (harness stack logs), then: harness stack down; harness stack up"
    if dependency.start_config is not None:
        return f"start {dependency.name} by hand; its command is in {dependency.start_config}"
    return f"start {dependency.name} by hand"


def who_answers(address: Address) -> str:
    pid = listener(address.port)
    if pid is None:
        return "another process"
    try:
        return f"process {pid} ({command_of(pid)})"
    except Gone:
        return f"process {pid}"


def runs_again(record: UndoRecord) -> Evidence:
    """Its processes are there, none of them stopped, and the port is theirs."""
    dependency, now = record.dependency, current(record)
    address = address_of(dependency)
    rows = members(now) if now is not None else []
    stopped = any(row.stopped for group in both(record) for row in members(group))
    held = bool(rows) and not stopped and address is not None
    observed = states(rows)
    if now is not None:
        observed += f" (first: pid {now.first.pid})"
        if not same(now.first, recorded(record).first):
            observed += f" in the place of {recorded(record).first.pid}"
        if held and address is not None and not listens((row.id.pid for row in rows), address.port):
            held, observed = False, f"{observed}, and none listens on port {address.port}"
    return Evidence(
        source="undo",
        expected=f"{dependency.name} runs at {address}, no process of it stopped",
        observed=observed,
        held=held,
        at=monotonic(),
    )
