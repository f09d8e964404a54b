"""What `docker stats` would show, from what engines answer.

The documents have the form in which engines answer GET /containers/ID/stats: under cgroup v1 as Engine 20.10 gave it,
under v2 as the API's reference describes it, because a kernel runs one of the two. tests/docker asks a real engine.
"""

from __future__ import annotations

import msgspec
import pytest

from harness.adapters.docker.records import HostConfig, Stats
from harness.adapters.docker.stats import CpuTime, cpu_limit, runs, working_set

V1 = b"""{"read":"2026-11-23T22:41:07.101Z","preread":"0001-01-01T00:00:00Z","pids_stats":{"current":2},
"blkio_stats":{"io_service_bytes_recursive":[]},"num_procs":0,"storage_stats":{},
"cpu_stats":{"cpu_usage":{"total_usage":1042375101,"percpu_usage":[600000000,442375101],"usage_in_kernelmode":20000000,
"usage_in_usermode":1010000000},"system_cpu_usage":96320000000,"online_cpus":2,
"throttling_data":{"periods":0,"throttled_periods":0,"throttled_time":0}},
"memory_stats":{"usage":52428800,"max_usage":60000000,"stats":{"active_anon":0,"cache":41943040,"inactive_file":10,
"total_inactive_file":31457280,"total_rss":10485760},"limit":25276964864},"name":"/x","id":"00"}"""
V2 = b"""{"read":"2026-11-23T22:41:07.101Z","preread":"0001-01-01T00:00:00Z","pids_stats":{"current":2,"limit":28000},
"blkio_stats":{"io_service_bytes_recursive":null},"num_procs":0,"storage_stats":{},
"cpu_stats":{"cpu_usage":{"total_usage":2500000000,"usage_in_kernelmode":500000000,"usage_in_usermode":2000000000},
"system_cpu_usage":96320000000,"online_cpus":2,"throttling_data":{"periods":0,"throttled_periods":0,
"throttled_time":0}},"memory_stats":{"usage":52428800,"stats":{"active_anon":4096,"active_file":1048576,
"anon":10485760,"file":41943040,"inactive_file":20971520,"pgfault":12},"limit":25276964864},"name":"/x","id":"00"}"""
STOPPED = b"""{"read":"0001-01-01T00:00:00Z","preread":"0001-01-01T00:00:00Z","pids_stats":{},
"cpu_stats":{"cpu_usage":{"total_usage":0},"throttling_data":{"periods":0}},"memory_stats":{},"name":"/x","id":"00"}"""


@pytest.mark.parametrize(
    ("document", "memory", "cpu_ns"), [(V1, 52428800 - 31457280, 1042375101), (V2, 52428800 - 20971520, 2500000000)]
)
def test_memory_leaves_out_the_page_cache_that_can_be_dropped(document: bytes, memory: int, cpu_ns: int) -> None:
    stats = msgspec.json.decode(document, type=Stats)
    assert runs(stats)
    assert working_set(stats.memory_stats) == memory
    assert stats.cpu_stats.cpu_usage.total_usage == cpu_ns


def test_zeros_are_not_taken_for_a_container_that_uses_nothing() -> None:
    assert not runs(msgspec.json.decode(STOPPED, type=Stats))


@pytest.mark.parametrize(
    ("host", "cpus"),
    [
        (HostConfig(), None),
        (HostConfig(nano_cpus=1_500_000_000), 1.5),
        (HostConfig(cpu_quota=50_000), 0.5),
        (HostConfig(cpu_quota=50_000, cpu_period=200_000), 0.25),
        (HostConfig(cpu_quota=-1, cpu_period=100_000), None),
    ],
)
def test_a_quota_is_the_share_that_may_be_used(host: HostConfig, cpus: float | None) -> None:
    assert cpu_limit(host) == cpus


def test_cpu_time_never_falls_when_a_container_is_started_again() -> None:
    cpu = CpuTime()
    read = [cpu.add(total) for total in (5_000_000_000, 6_000_000_000, 500_000_000, 700_000_000)]
    assert read == pytest.approx([0.0, 1.0, 1.5, 1.7])
    cpu.anew()
    assert cpu.add(900_000_000) == pytest.approx(2.6), "another container's counter, though it stands higher"
