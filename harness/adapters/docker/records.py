"""What the Docker engine says about containers, networks and itself, as typed records. Pure.

The names are the engine's own (API reference, version 1.41 and later): sizes in bytes, CPU in 1e-9 CPUs or in
microseconds of a period, times as the engine's text. What an engine leaves out or sets to null has a default.
"""

from __future__ import annotations

from typing import Any

import msgspec

PROJECT_LABEL = "com.docker.compose.project"
SERVICE_LABEL = "com.docker.compose.service"
DEFAULT_PERIOD_US = 100_000
"""The period of the CPU quota where none was set."""


class Health(msgspec.Struct, frozen=True, rename="pascal"):
    status: str = "none"


class State(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """status: created, running, paused, restarting, removing, exited, dead. A paused container is `running` as well.

    pid: of its first process on the engine's machine, 0 = none.
    """

    status: str = ""
    running: bool = False
    paused: bool = False
    restarting: bool = False
    dead: bool = False
    oom_killed: bool = msgspec.field(name="OOMKilled", default=False)
    pid: int = 0
    exit_code: int = 0
    error: str = ""
    started_at: str = ""
    health: Health | None = None


class PortBinding(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    host_ip: str = ""
    host_port: str = ""


class HostConfig(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """port_bindings: what was asked for (an empty host_port = any), container port ("6379/tcp") -> bindings.

    nano_cpus: 1e-9 CPUs. cpu_period, cpu_quota: microseconds; 0 = not set, quota -1 = unlimited. memory: bytes, 0 =
    unlimited. memory_swap: bytes of memory and swap together, 0 = not set, -1 = unlimited.
    """

    auto_remove: bool = False
    network_mode: str = ""
    pid_mode: str = ""
    ipc_mode: str = ""
    nano_cpus: int = 0
    cpu_period: int = 0
    cpu_quota: int = 0
    memory: int = 0
    memory_swap: int = 0
    memory_reservation: int = 0
    port_bindings: dict[str, list[PortBinding] | None] | None = None


class IpamConfig(msgspec.Struct, frozen=True, kw_only=True, rename="pascal", omit_defaults=True):
    """The addresses that somebody asked for; what the engine chose by itself is not in here."""

    ipv4_address: str = msgspec.field(name="IPv4Address", default="")
    ipv6_address: str = msgspec.field(name="IPv6Address", default="")
    link_local_ips: tuple[str, ...] | None = msgspec.field(name="LinkLocalIPs", default=None)


class Endpoint(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """A container's end of one network."""

    network_id: str = msgspec.field(name="NetworkID", default="")
    endpoint_id: str = msgspec.field(name="EndpointID", default="")
    ip_address: str = msgspec.field(name="IPAddress", default="")
    gateway: str = ""
    global_ipv6_address: str = msgspec.field(name="GlobalIPv6Address", default="")
    mac_address: str = ""
    aliases: tuple[str, ...] | None = None
    links: tuple[str, ...] | None = None
    driver_opts: dict[str, str] | None = None
    ipam_config: IpamConfig | None = msgspec.field(name="IPAMConfig", default=None)


class NetworkSettings(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """ports: as published now, container port ("6379/tcp") -> bindings; nothing while the container does not run."""

    ports: dict[str, list[PortBinding] | None] | None = None
    networks: dict[str, Endpoint] | None = None


class ContainerConfig(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    image: str = ""
    hostname: str = ""
    labels: dict[str, str] | None = None
    env: tuple[str, ...] | None = None
    stop_signal: str = ""


class Published(msgspec.Struct, frozen=True, order=True):
    """One published port: container_port as "6379/tcp", reached at host:port (host "" or "0.0.0.0" = every address)."""

    container_port: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.container_port} at {self.host or '0.0.0.0'}:{self.port}"


class Container(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """One container as `docker inspect` shows it. id: the full ID. image: the full ID of its image."""

    id: str
    slashed_name: str = msgspec.field(name="Name", default="")
    created: str = ""
    image: str = ""
    restart_count: int = 0
    state: State = State()
    host_config: HostConfig = HostConfig()
    config: ContainerConfig = ContainerConfig()
    network_settings: NetworkSettings = NetworkSettings()

    @property
    def name(self) -> str:
        return self.slashed_name.removeprefix("/")

    @property
    def labels(self) -> dict[str, str]:
        return self.config.labels or {}

    @property
    def project(self) -> str | None:
        return self.labels.get(PROJECT_LABEL)

    @property
    def service(self) -> str | None:
        return self.labels.get(SERVICE_LABEL)

    @property
    def networks(self) -> dict[str, Endpoint]:
        return self.network_settings.networks or {}

    @property
    def published(self) -> tuple[Published, ...]:
        """Ports published now, sorted. None of a container that is not running."""
        found = [
            Published(inside, binding.host_ip, int(binding.host_port))
            for inside, bindings in (self.network_settings.ports or {}).items()
            for binding in bindings or ()
            if binding.host_port.isdigit()
        ]
        return tuple(sorted(found))

    @property
    def serves(self) -> bool:
        """It runs, and nothing has stopped it."""
        return self.state.running and not self.state.paused and not self.state.restarting

    @property
    def condition(self) -> str:
        """Its state in words: `running`, `paused`, `exited with code 137`."""
        if self.state.status in ("exited", "dead"):
            return f"{self.state.status} with code {self.state.exit_code}"
        return self.state.status or "in an unknown state"

    @property
    def condition_and_health(self) -> str:
        """`running, healthy`."""
        told = self.state.health is not None and self.state.health.status not in ("", "none")
        return self.condition + (f", {self.state.health.status}" if told and self.state.health is not None else "")

    def seen_by(self, other: Container) -> tuple[str, ...]:
        """Its addresses on the networks that it shares with another container: from there its connections come."""
        shared = [end for name, end in sorted(self.networks.items()) if name in other.networks]
        return tuple(address for end in shared for address in (end.ip_address, end.global_ipv6_address) if address)

    def chosen_by_engine(self, published: Published) -> bool:
        """Whether nobody fixed this very port: it was left out, given as 0 or as a range, or published with -P. Then
        the engine may choose another one at every start."""
        asked = (self.host_config.port_bindings or {}).get(published.container_port) or ()
        return not any(binding.host_port == str(published.port) for binding in asked)

    def host_ports(self, container_port: int) -> tuple[Published, ...]:
        """Where one of its TCP ports is published."""
        return tuple(one for one in self.published if one.container_port == f"{container_port}/tcp")


class Network(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """One network. containers: full ID -> whatever the engine tells about that end."""

    id: str
    name: str = ""
    labels: dict[str, str] | None = None
    containers: dict[str, Any] | None = None


class Throttling(msgspec.Struct, frozen=True, kw_only=True):
    """The kernel's counters of a CPU quota: periods that have passed with something to run, those cut short, and the
    nanoseconds for which the container had to wait."""

    periods: int = 0
    throttled_periods: int = 0
    throttled_time: int = 0


class CpuUsage(msgspec.Struct, frozen=True, kw_only=True):
    """total_usage: nanoseconds of CPU used since the container started."""

    total_usage: int = 0


class CpuStats(msgspec.Struct, frozen=True, kw_only=True):
    cpu_usage: CpuUsage = CpuUsage()
    throttling_data: Throttling = Throttling()


class MemoryStats(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes. limit: what the kernel enforces (the machine's memory where the container has no limit of its own).

    stats: the kernel's own names, which differ between cgroup versions. failcnt: how often the limit was met (v1).
    """

    usage: int = 0
    limit: int = 0
    failcnt: int = 0
    stats: dict[str, int] = {}


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """One sample of a running container. All zero where it does not run."""

    read: str = ""
    cpu_stats: CpuStats = CpuStats()
    memory_stats: MemoryStats = MemoryStats()


class Version(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """version: the engine's own ("20.10.24"). api_version: the highest it speaks, min_api_version the lowest."""

    version: str = "unknown"
    api_version: str = ""
    min_api_version: str = msgspec.field(name="MinAPIVersion", default="1.12")


class Info(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """id: differs between any two engines. memory_limit, cpu_cfs_quota: what its kernel can enforce."""

    id: str = msgspec.field(name="ID", default="")
    name: str = ""
    memory_limit: bool = True
    cpu_cfs_quota: bool = True
    cpus: int = msgspec.field(name="NCPU", default=0)
    memory: int = msgspec.field(name="MemTotal", default=0)


class Limits(msgspec.Struct, frozen=True, kw_only=True, rename="pascal", omit_defaults=True):
    """What `docker update` may set; None = left as it is. Units as in HostConfig."""

    nano_cpus: int | None = None
    cpu_period: int | None = None
    cpu_quota: int | None = None
    memory: int | None = None
    memory_swap: int | None = None
    memory_reservation: int | None = None
    pids_limit: int | None = None
