"""How many cores this process may really use."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def useful_cores(cgroup: Path = _CGROUP) -> int:
    """Cores of this process's affinity, and not more than a container's CPU quota, rounded down; at least 1.

    cgroup: where the kernel shows the quota of this process's own group (v2 cpu.max, v1 cpu.cfs_quota_us).
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS has no affinity
        cores = os.cpu_count() or 1
    quota = _quota(cgroup)
    return max(1, cores if quota is None else min(cores, int(quota)))


def _quota(cgroup: Path) -> float | None:
    with suppress(OSError, ValueError):
        most, period = (cgroup / "cpu.max").read_text().split()
        return None if most == "max" else int(most) / int(period)
    with suppress(OSError, ValueError):
        most_us = int((cgroup / "cpu" / "cpu.cfs_quota_us").read_text())
        period_us = int((cgroup / "cpu" / "cpu.cfs_period_us").read_text())
        return most_us / period_us if most_us > 0 else None
    return None
