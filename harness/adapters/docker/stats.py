"""CPU time and memory of containers, in the shape in which processes are sampled. No Docker package is imported here.

Both figures mean what `docker stats` means by them:

    memory   usage less the page cache that the kernel can take back at once: `total_inactive_file` under cgroup v1,
             `inactive_file` under v2 (docker/cli, calculateMemUsageUnixNoCache)
    cpu      total_usage, nanoseconds of all CPUs since the container was started; it begins at zero again when the
             container does
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from harness.adapters.docker.engine import Engine
from harness.adapters.docker.records import (
    DEFAULT_PERIOD_US,
    PROJECT_LABEL,
    SERVICE_LABEL,
    Container,
    HostConfig,
    MemoryStats,
    Stats,
)
from harness.model.errors import Gone
from harness.model.records.samples import ProcessUse


def working_set(memory: MemoryStats) -> int:
    """Bytes in use that the kernel cannot simply drop. The two versions of cgroups name the page cache differently."""
    for name in ("total_inactive_file", "inactive_file"):
        cache = memory.stats.get(name)
        if cache is not None and cache < memory.usage:
            return memory.usage - cache
    return memory.usage


def cpu_limit(host: HostConfig) -> float | None:
    """How many CPUs the container may use at most; None = as many as there are."""
    if host.nano_cpus > 0:
        return host.nano_cpus / 1e9
    if host.cpu_quota > 0:
        return host.cpu_quota / (host.cpu_period or DEFAULT_PERIOD_US)
    return None


def runs(stats: Stats) -> bool:
    """The engine answers for a container that does not run as well, with nothing but zeros."""
    return stats.memory_stats.usage > 0 or stats.cpu_stats.cpu_usage.total_usage > 0


class CpuTime(msgspec.Struct):
    """CPU seconds that only rise, from a counter that begins anew whenever its container is started."""

    before_s: float = 0.0
    last_ns: int | None = None
    first_ns: int = 0

    def add(self, total_ns: int) -> float:
        """The counter as it stands now -> seconds since the first time it was read."""
        if self.last_ns is None:
            self.first_ns = total_ns
        elif total_ns < self.last_ns:
            self.anew()
        self.last_ns = total_ns
        return self.before_s + (total_ns - self.first_ns) / 1e9

    def anew(self) -> None:
        """What was counted so far stays counted; from here on another counter is read, from zero."""
        if self.last_ns is not None:
            self.before_s += (self.last_ns - self.first_ns) / 1e9
            self.last_ns = self.first_ns = 0


class ContainerUse:
    """What one server's containers use together. A container made anew for the same Compose service is followed."""

    def __init__(self, container_ids: Sequence[str]) -> None:
        self._members = [_Member(one) for one in container_ids]

    def read(self, engine: Engine) -> ProcessUse | None:
        """One reading; None while none of them runs. cpu_s: since the first. Raises Gone when none exists any more,
        Unreachable and the other errors of the engine."""
        found: list[ProcessUse] = []
        gone: Gone | None = None
        for member in self._members:
            try:
                use = member.read(engine)
            except Gone as error:
                gone = error
                continue
            if use is not None:
                found.append(use)
        if not found:
            if gone is not None:
                raise gone
            return None
        limits = [use.cpu_limit for use in found if use.cpu_limit is not None]
        return ProcessUse(
            # Of those that do not run at the moment too: the sum never falls because one of them is stopped.
            cpu_s=round(sum(member.cpu_s for member in self._members), 4),
            rss=sum(use.rss for use in found),
            processes=len(found),
            cpu_limit=round(sum(limits), 4) if len(limits) == len(found) else None,
        )


class _Member:
    def __init__(self, container_id: str) -> None:
        self._id = container_id
        self._service: dict[str, str] = {}
        self._known = False
        self._limit: float | None = None
        self._cpu = CpuTime()
        self.cpu_s = 0.0

    def read(self, engine: Engine) -> ProcessUse | None:
        if not self._known:
            # Once: a limit that a fault sets later is not what the service was given to work with.
            self._know(engine.container(self._id))
        try:
            stats = engine.stats(self._id)
        except Gone:
            heir = self._heir(engine)
            if heir is None:
                raise
            self._cpu.anew()
            self._id = heir.id
            stats = engine.stats(heir.id)
        if not runs(stats):
            return None
        self.cpu_s = self._cpu.add(stats.cpu_stats.cpu_usage.total_usage)
        return ProcessUse(cpu_s=self.cpu_s, rss=working_set(stats.memory_stats), cpu_limit=self._limit)

    def _know(self, container: Container) -> None:
        self._limit = cpu_limit(container.host_config)
        if container.project and container.service:
            self._service = {PROJECT_LABEL: container.project, SERVICE_LABEL: container.service}
        self._known = True

    def _heir(self, engine: Engine) -> Container | None:
        """The one container that Compose has made in its place; None where that cannot be told."""
        if not self._service:
            return None
        running = [one for one in engine.find(self._service) if one.state.running]
        return running[0] if len(running) == 1 else None
