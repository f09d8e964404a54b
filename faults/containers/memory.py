"""memory: a container gets only so much memory.

A limit cannot be taken away from a running container again, so where there is none the fault is refused. The limit of
memory and swap together is set with it: the engine takes neither alone where it would pass the other.

A limit that the container never meets changes nothing for anybody. Whether it was met is seen when the fault ends: the
container may grow into it at any time.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import msgspec

from faults.containers.container import (
    container_id,
    engine_of,
    fit,
    label,
    name_in,
    path_of_target,
    planned_container,
    refuse_removed,
    refuse_shared,
    resources,
    wait_ready,
)
from faults.containers.limits import ContainerLimit, limits_in
from faults.path.evidence import probe_shows
from faults.path.probes import number_of
from harness.adapters.docker.engine import Engine
from harness.adapters.docker.records import Container, HostConfig, Limits, MemoryStats
from harness.fault import ParamInfo, Stage
from harness.model.errors import Gone, HarnessError, Refused
from harness.model.records.faults import Change, Dependency, Evidence, Scalar, UndoRecord
from harness.model.units import format_bytes

_UNLIMITED = -1
_PAGE = 4096
_NEAR = 0.95


class Memory(ContainerLimit):
    kind = "memory"
    summary = "the container gets only so much memory, and its biggest process is ended when it needs more"
    undo_summary = "the memory limit is set back to what it was, if it still is what the fault set"
    proof_summary = "the limit reads back, the kernel enforces it, and the container has met it before it is undone"
    params = (
        ParamInfo(name="memory", unit="size", default="64MB", help="memory that it may use", low=6 * 2**20, high=2**40),
    )

    def plan(self, dependency: Dependency, params: Mapping[str, Any]) -> Change:
        planned_container(self.kind, dependency)
        size = format_bytes(int(params["memory"]))
        return Change(
            kind=self.kind,
            dependency=dependency,
            params=dict(params),
            does=f"limits {label(dependency)} to {size} of memory, with no swap on top",
            undoes=f"sets the memory limit of {label(dependency)} back to what it was, and starts it again where the"
            " limit has ended it",
            proves="the limit reads back, the kernel enforces it, and the container meets it",
            property=f"container of {dependency.name}: memory",
            resources=resources(dependency),
            blind_probe=True,
        )

    def capture(self, change: Change, record_id: str) -> UndoRecord:
        dependency = change.dependency
        name = f"{dependency.name}-{self.kind}"
        asked = int(number_of(change.params.get("memory"), default=64e6))
        with engine_of(dependency) as engine:
            found = fit(self.kind, dependency, engine)
            refuse_shared(self.kind, dependency, found, engine)
            info = engine.info()
            before = engine.stats(found.id).memory_stats
        config = found.host_config
        if not info.memory_limit:
            raise Refused(f"{name}: the kernel of the Docker engine has no memory limits")
        if config.memory <= 0:
            raise Refused(
                f"{name}: container {found.name} has no memory limit, and one that is set on a running container cannot"
                " be taken away again",
                hint="give it a limit from its start: mem_limit: 1g for the service"
                f" {dependency.container.service or found.name}"
                " in the compose file (docker run --memory 1g)",
            )
        if config.memory <= asked:
            has = format_bytes(config.memory)
            raise Refused(
                f"{name}: container {found.name} is limited to {has} already; {format_bytes(asked)} changes nothing"
            )
        if config.memory_reservation > asked:
            raise Refused(
                f"{name}: {format_bytes(config.memory_reservation)} are reserved for container {found.name}, and its"
                " limit must not be below that",
                hint=f"ask for more: {name}:memory={format_bytes(config.memory_reservation)}",
            )
        refuse_removed(self.kind, dependency, found)
        now = self.limits(config)
        # "Unlimited swap" stays: once taken away it reads back as given, and the kernel keeps the limit (cgroup v1).
        swap = asked if now.memory_swap not in (None, _UNLIMITED) else now.memory_swap
        record = self.capture_limits(change, record_id, found, Limits(memory=asked, memory_swap=swap))
        seen: dict[str, Scalar] = {"failcnt": before.failcnt, "restarts": found.restart_count}
        return msgspec.structs.replace(record, where={**record.where, **seen})

    def prove(self, record: UndoRecord, stage: Stage) -> tuple[Evidence, ...]:
        with engine_of(record.dependency) as engine:
            try:
                found = engine.container(container_id(record))
            except Gone:
                return (self.read_back(record, None),)
            stats = engine.stats(found.id).memory_stats
        ours = limits_in(record.ours).memory or 0
        ended = _ended(found)
        enforced = probe_shows(
            expected=f"the kernel gives container {found.name} at most {format_bytes(ours)}",
            observed="the kernel has ended it for want of memory"
            if ended
            else f"at most {format_bytes(stats.limit)}, of which it uses {format_bytes(stats.usage)}"
            if found.state.running
            else f"it is {found.condition}",
            held=ended or (found.state.running and _about(stats.limit, ours)),
        )
        return self.read_back(record, found), *path_of_target(record, found), enforced

    def limits(self, config: HostConfig) -> Limits:
        return Limits(memory=config.memory, memory_swap=config.memory_swap or None)

    def words(self, limits: Limits) -> str:
        if not limits.memory:
            return "no memory limit"
        swap = {None: "", _UNLIMITED: " and swap without limit"}.get(limits.memory_swap)
        if swap is None:
            swap = f" ({format_bytes(limits.memory_swap or 0)} with swap)"
        return f"a memory limit of {format_bytes(limits.memory)}{swap}"

    def kernel_agrees(self, record: UndoRecord, found: Container, engine: Engine) -> bool:
        if not found.state.running or found.state.restarting:
            return True  # what the engine says is set at its next start
        limit = engine.stats(found.id).memory_stats.limit
        return not limit or _about(limit, self.limits(found.host_config).memory or 0)

    def at_the_end(self, record: UndoRecord, found: Container, engine: Engine) -> tuple[Evidence, ...]:
        ours = limits_in(record.ours).memory or 0
        try:
            stats = engine.stats(found.id).memory_stats
        except HarnessError:
            return ()  # the undo matters more
        met, said = _met(record, found, stats, ours)
        return (
            probe_shows(
                expected=f"container {found.name} has met its limit of {format_bytes(ours)} while it was on",
                observed=said,
                held=met,
            ),
        )

    def after_undo(self, record: UndoRecord, engine: Engine) -> None:
        found = engine.container(container_id(record))
        if found.state.restarting:
            # The engine waits longer and longer between two starts, up to a minute: not for its next one.
            engine.stop(found.id, grace_s=0)
            engine.start(found.id)
            wait_ready(record, engine)
        elif not found.state.running and found.state.oom_killed:
            engine.start(found.id)
            wait_ready(record, engine)

    def by_hand(self, record: UndoRecord) -> str:
        original = limits_in(record.original)
        swap = "" if original.memory_swap is None else f" --memory-swap {original.memory_swap}"
        name = shlex.quote(name_in(record))
        return f"docker update --memory {original.memory}{swap} {name} ; docker start {name}"


def _ended(found: Container) -> bool:
    """The kernel ended it for want of memory, and it is not (or not yet) there again."""
    return found.state.oom_killed and (not found.state.running or found.state.restarting)


def _met(record: UndoRecord, found: Container, stats: MemoryStats, limit: int) -> tuple[bool, str]:
    """Whether the container has met its limit since the record was made, and what shows it."""
    if _ended(found):
        return True, "the kernel has ended it for want of memory"
    if found.restart_count > int(record.where.get("restarts") or 0):
        return True, "it has ended and was started again by its restart policy"
    # cgroup v1 counts how often; v2 tells the engine no such number, so there being near it must do.
    times = stats.failcnt - int(record.where.get("failcnt") or 0)
    if times > 0:
        return True, f"the kernel had to make room or refuse {times} times"
    if stats.usage >= _NEAR * limit:
        return True, f"it uses {format_bytes(stats.usage)}"
    return False, f"it uses {format_bytes(stats.usage)} and never needed more than the limit: a lower one would bite"


def _about(limit: int, wanted: int) -> bool:
    """The kernel counts in pages."""
    return abs(limit - wanted) < _PAGE


MEMORY = Memory()
