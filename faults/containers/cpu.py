"""cpu: a container gets only so much CPU time.

What was set before decides how it is set now and how it is put back, because the engine does not let one way follow
the other: NanoCpus (`--cpus`) stays NanoCpus; everything else is a period and a quota, and "no limit" is quota -1.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from typing import Any

from faults.containers.container import (
    container_id,
    engine_of,
    fit,
    label,
    name_in,
    path_of_target,
    planned_container,
    resources,
)
from faults.containers.limits import ContainerLimit, limits_in
from faults.path.evidence import probe_shows
from faults.path.probes import number_of
from harness.adapters.docker.engine import Engine
from harness.adapters.docker.records import DEFAULT_PERIOD_US, HostConfig, Limits, Throttling
from harness.fault import ParamInfo, Stage
from harness.model.errors import Gone, Refused
from harness.model.records.faults import Change, Dependency, Evidence, UndoRecord

THROTTLED_WITHIN_S = 5.0
"""How long the container is watched right after the injection for being held back."""
_LOOK_S = 0.1
_NANO = 1_000_000_000
_UNLIMITED = -1


class Cpu(ContainerLimit):
    kind = "cpu"
    summary = "the container gets only so much CPU time, and waits for the rest of each period"
    undo_summary = "the CPU limit is set back to what it was (or to none), if it still is what the fault set"
    proof_summary = "the limit reads back, and the kernel's counters show that the container was held back by it"
    params = (
        ParamInfo(
            name="cpus", unit="number", default="0.2", help="CPUs that it may use, a fraction of one", low=0.01, high=64
        ),
    )

    def plan(self, dependency: Dependency, params: Mapping[str, Any]) -> Change:
        planned_container(self.kind, dependency)
        cpus = float(params["cpus"])
        return Change(
            kind=self.kind,
            dependency=dependency,
            params=dict(params),
            does=f"limits {label(dependency)} to {cpus:g} CPUs",
            undoes=f"sets the CPU limit of {label(dependency)} back to what it was",
            proves=f"the limit reads back; within {THROTTLED_WITHIN_S:g} s the kernel holds the container back by it",
            property=f"container of {dependency.name}: CPU",
            resources=resources(dependency),
            blind_probe=True,
        )

    def capture(self, change: Change, record_id: str) -> UndoRecord:
        dependency = change.dependency
        name = f"{dependency.name}-{self.kind}"
        cpus = number_of(change.params.get("cpus"), default=0.2)
        with engine_of(dependency) as engine:
            found = fit(self.kind, dependency, engine)
            info = engine.info()
        if not info.cpu_cfs_quota:
            raise Refused(f"{name}: the kernel of the Docker engine has no CPU quotas (CONFIG_CFS_BANDWIDTH)")
        now = self.limits(found.host_config)
        has = _cpus(now)
        if (has is not None and has <= cpus) or cpus >= info.cpus > 0:
            what = f"is limited to {has:g} CPUs" if has is not None else f"has {info.cpus} CPUs, all of the engine's"
            raise Refused(f"{name}: container {found.name} {what}; a limit of {cpus:g} changes nothing")
        if now.nano_cpus is not None:
            ours = Limits(nano_cpus=round(cpus * _NANO))
        else:
            period = now.cpu_period or DEFAULT_PERIOD_US
            # The kernel takes no quota below a millisecond.
            ours = Limits(cpu_period=period, cpu_quota=max(1000, round(cpus * period)))
        return self.capture_limits(change, record_id, found, ours)

    def prove(self, record: UndoRecord, stage: Stage) -> tuple[Evidence, ...]:
        """Right after the injection the container is watched until it is held back. Later the limit is read back: a
        container whose load comes in waves is not held back in every second."""
        with engine_of(record.dependency) as engine:
            try:
                found = engine.container(container_id(record))
            except Gone:
                return (self.read_back(record, None),)
            control = self.read_back(record, found)
            path = path_of_target(record, found)
            if stage != "injected" or not control.held:
                return control, *path
            return control, *path, self._held_back(record, engine)

    def _held_back(self, record: UndoRecord, engine: Engine) -> Evidence:
        before = engine.stats(container_id(record)).cpu_stats.throttling_data
        end = time.monotonic() + THROTTLED_WITHIN_S
        while True:
            time.sleep(_LOOK_S)
            now = engine.stats(container_id(record)).cpu_stats.throttling_data
            if now.throttled_periods > before.throttled_periods or time.monotonic() > end:
                break
        return probe_shows(
            expected=f"within {THROTTLED_WITHIN_S:g} s the kernel holds container {name_in(record)} back by its quota",
            observed=_throttled(before, now),
            held=now.throttled_periods > before.throttled_periods,
        )

    def limits(self, config: HostConfig) -> Limits:
        if config.nano_cpus > 0:
            return Limits(nano_cpus=config.nano_cpus)
        quota = config.cpu_quota if config.cpu_quota > 0 else _UNLIMITED
        return Limits(cpu_period=config.cpu_period or DEFAULT_PERIOD_US, cpu_quota=quota)

    def words(self, limits: Limits) -> str:
        cpus = _cpus(limits)
        return "no CPU limit" if cpus is None else f"a CPU limit of {cpus:g}"

    def by_hand(self, record: UndoRecord) -> str:
        original = limits_in(record.original)
        if original.nano_cpus is not None:
            return f"docker update --cpus {original.nano_cpus / _NANO:g} {shlex.quote(name_in(record))}"
        options = f"--cpu-period {original.cpu_period} --cpu-quota {original.cpu_quota}"
        return f"docker update {options} {shlex.quote(name_in(record))}"


def _cpus(limits: Limits) -> float | None:
    """CPUs that it may use; None = no limit."""
    if limits.nano_cpus is not None:
        return limits.nano_cpus / _NANO
    if limits.cpu_quota is None or limits.cpu_quota <= 0:
        return None
    return limits.cpu_quota / (limits.cpu_period or DEFAULT_PERIOD_US)


def _throttled(before: Throttling, now: Throttling) -> str:
    periods = now.periods - before.periods
    held = now.throttled_periods - before.throttled_periods
    waited_ms = (now.throttled_time - before.throttled_time) / 1e6
    if held > 0:
        return f"held back in {held} of {periods} periods, for {waited_ms:.0f} ms"
    if periods > 0:
        return f"in {periods} periods with something to do it never needed more than the limit: a lower one would bite"
    return "it had nothing to do"


CPU = Cpu()
