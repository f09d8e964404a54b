"""What a stack declares and what it gives back when it is up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import msgspec

from harness.model.records.alerts import AlertsPlan
from harness.model.records.faults import Dependency
from harness.model.records.process import Launcher

StackName = Literal["embedded", "compose", "external"]
Progress = Callable[[str], None]
"""Called with one short line for people ("Kafka: fetching 45 jars, 12 done")."""


class TargetInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The service under test. url has no trailing slash. workers: its worker processes, for CPU shares.

    pid: the root of its process tree, where it runs on this machine; containers: full IDs of its containers on the
    Docker engine at `engine`, where it runs in some. addresses: of the url's host, checked; see LoadPlan.
    health: the page that says whether it is well, a path below url, where it has one.
    """

    url: str
    metrics_url: str | None = None
    pid: int | None = None
    engine: str | None = None
    containers: tuple[str, ...] = ()
    workers: int = 1
    version: str | None = None
    addresses: tuple[str, ...] = ()
    health: str | None = None


class StackUp(msgspec.Struct, frozen=True, kw_only=True):
    """A running stack. versions: part -> version. ready_s: seconds from up() to ready (fetching excluded).

    grafana: URL of the Grafana that shows it, where there is one. alerts: its own Prometheus and Alertmanager, where it
    brought them up.
    """

    name: StackName
    target: TargetInfo
    dependencies: tuple[Dependency, ...] = ()
    versions: dict[str, str] = {}
    ready_s: float = 0.0
    folder: str | None = None
    grafana: str | None = None
    alerts: AlertsPlan | None = None


class Stack(Protocol):
    name: StackName

    def describe(self) -> tuple[Dependency, ...]:
        """The dependencies as declared, with no addresses; touches nothing."""
        ...

    def check(self) -> None:
        """Raise UsageError or Refused for what already shows that the stack cannot be used; touches nothing."""
        ...

    def up(self, launcher: Launcher, progress: Progress) -> StackUp: ...

    def down(self) -> None: ...

    def restart_toxiproxy(self, launcher: Launcher) -> bool:
        """Restart the stack's own Toxiproxy with its proxies, on the same ports; False where it owns none."""
        ...


@runtime_checkable
class WritesLogs(Protocol):
    """A stack whose servers write their logs to a folder of the run."""

    def logging_to(self, logs: Path) -> Stack: ...


@runtime_checkable
class SavesLogs(Protocol):
    """A stack whose servers' logs are not files of its own."""

    def save_logs(self, folder: Path) -> None:
        """Write one file a server. Never raises."""
        ...
