"""What harness.toml may hold: one struct a table. Those of dependencies come with their kinds.

Texts are as written; paths are made absolute by the loader. The page docs/configuration.md describes every key.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

import msgspec

from harness.model.records.alerts import AlertsPlan
from harness.model.records.faults import Dependency

DEFAULT_TARGET = "api"
"""What the target is called where nobody gives it a name."""


class Contained(msgspec.Struct, frozen=True, kw_only=True):
    """A container of the user's: a service of their compose project, or a container by its exact name.

    replica: which of several containers of the service, counted from 1 as Compose does. port: on which it listens
    inside the container.
    """

    service: str | None = None
    replica: int | None = None
    container: str | None = None
    port: int | None = None

    @property
    def contained(self) -> bool:
        return self.service is not None or self.container is not None


class ComposeTable(msgspec.Struct, frozen=True, kw_only=True):
    """The user's compose project. file: compose files in their order, absolute; () = only the project is named.

    project: its name; None = as Compose computes it.
    """

    file: tuple[str, ...] = ()
    project: str | None = None


class Runnable(Contained, frozen=True, kw_only=True):
    """A process of the user's on this machine, or a container.

    pid_file: where it writes its pid. start: argv that starts it again after a kill, run in `cwd` (the file's own
    folder when left out), its output appended to `log`. log: also what `harness stack logs` shows.
    """

    pid_file: str | None = None
    start: tuple[str, ...] | None = None
    cwd: str | None = None
    log: str | None = None


class TargetTable(Runnable, frozen=True, kw_only=True):
    """The service under test. metrics, health: paths below url. workers: its worker processes, for CPU shares."""

    url: str
    name: str = DEFAULT_TARGET
    metrics: str = "/metrics"
    health: str | None = None
    workers: int | None = None


class ToxiproxyTable(Runnable, frozen=True, kw_only=True):
    """url: of its API; None = that port of its container. pid_file, start: it may be restarted when its API locks up.

    seen_as: addresses from which the dependencies see its connections come, where it runs elsewhere; its container's
    own where that is declared.
    """

    url: str | None = None
    seen_as: tuple[str, ...] = ()


class DependencyTable(Runnable, frozen=True, kw_only=True):
    """What every kind has. proxy: its name in Toxiproxy. direct: the server itself.

    path: what the application uses; the proxy's listener when left out, or "assumed". ignore_clients: names, addresses
    or networks of clients that are not the application (an exporter), so that going past the proxy is no bypass. allow:
    kinds of faults that nobody can undo and that it may have all the same.
    """

    needs_direct: ClassVar[bool] = False
    """Its server is asked who is connected, which proves that the application uses the proxy."""
    clients_named: ClassVar[Literal["by name or address", "by address", None]] = None
    """How its server tells who is connected; None = not at all."""

    kind: str
    proxy: str | None = None
    direct: str | None = None
    path: str | None = None
    ignore_clients: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()

    @property
    def placed(self) -> bool:
        """Whether it says where its server is."""
        return self.proxy is not None or self.direct is not None or self.contained

    @property
    def front_container(self) -> Contained | None:
        """The container of the Envoy in front of it, where its file names that and no URL."""
        return None

    def check(self, where: str) -> None:
        """Raises UsageError for what is wrong in its own keys. where: its key path."""

    def in_folder(self, folder: Path) -> Self:
        """The same with its own paths absolute; those in it are relative to that folder."""
        return self

    def declared(self, dependency: Dependency, where: str) -> Dependency:
        """The dependency with what its own keys say. Raises UsageError."""
        return dependency

    def of_file(self, dependency: Dependency, config: str, sha256: str) -> Dependency:
        """The same with the file itself where a command of its kind stands in it: a record never holds one. config: its
        absolute path, sha256: as it was read."""
        return dependency

    def located(self, dependency: Dependency) -> Dependency:
        """The same with what can be said once its addresses are known."""
        return dependency


class SuiteTable(msgspec.Struct, frozen=True, kw_only=True):
    """reset: argv that brings the target back where it did not come back by itself, run in `cwd` (the file's own folder
    when left out) and waited for."""

    reset: tuple[str, ...] | None = None
    cwd: str | None = None


class TargetsTable(msgspec.Struct, frozen=True, kw_only=True):
    """Expressions as after --target; secondary ones warn only."""

    primary: tuple[str, ...] = ()
    secondary: tuple[str, ...] = ()


class RequestTable(msgspec.Struct, frozen=True, kw_only=True):
    """may_fail_with: dependencies during whose faults this request may fail without breaking a target of all.
    independent_of: those that it does not need, so that nothing excuses it."""

    may_fail_with: tuple[str, ...] = ()
    independent_of: tuple[str, ...] = ()


class AlertsTable(msgspec.Struct, frozen=True, kw_only=True):
    """prometheus, alertmanager: URLs that are read each second. webhook: HOST:PORT of loopback, where the harness
    receives an Alertmanager's notifications. expected: names of alerts that a fault is to set off."""

    prometheus: str | None = None
    alertmanager: str | None = None
    webhook: str | None = None
    expected: tuple[str, ...] = ()


class ReportTable(msgspec.Struct, frozen=True, kw_only=True):
    """trace_url: where a trace is read, {trace_id} in it: a link of the report."""

    trace_url: str = ""


class VersionTable(msgspec.Struct, frozen=True, kw_only=True):
    """Another version of the target, for --versus. host: where one runs already, which takes the place of the target's
    url. start: argv that starts one for a run, on the port of 127.0.0.1 that stands for {port} in it; cwd, log: as of
    the target. env: for the sample API, on a stack of ours, beside the environment of the command."""

    host: str | None = None
    start: tuple[str, ...] | None = None
    cwd: str | None = None
    log: str | None = None
    env: dict[str, str] | None = None


ASSUMED = "assumed"
"""Instead of an address as `path`: that the application uses the proxy is assumed, and no proof of it is asked for."""
RunValue = str | bool | int | float | tuple[str, ...]


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """A whole harness.toml. path: of the file, absolute. sha256: of its bytes as they were read.

    shown: what messages call it: its name alone where it lies in the current directory.

    run: defaults of the options of `run`, by their long names without the dashes.
    """

    path: str
    sha256: str
    shown: str
    target: TargetTable | None = None
    compose: ComposeTable | None = None
    toxiproxy: ToxiproxyTable | None = None
    dependencies: dict[str, DependencyTable] = {}
    run: dict[str, RunValue] = {}
    targets: TargetsTable = TargetsTable()
    requests: dict[str, RequestTable] = {}
    suite: SuiteTable = SuiteTable()
    versions: dict[str, VersionTable] = {}
    alerts: AlertsPlan | None = None
    report: ReportTable = ReportTable()

    def process(self, name: str) -> Runnable | None:
        """The target or the dependency of that name, else Toxiproxy by its own; None when there is none."""
        if self.target is not None and self.target.name == name:
            return self.target
        return self.dependencies.get(name) or (self.toxiproxy if name == "toxiproxy" else None)

    @property
    def contained(self) -> bool:
        """Whether anything in it is a container, so that a Docker engine is asked."""
        tables: list[Contained | None] = [self.target, self.toxiproxy, *self.dependencies.values()]
        fronts = (table.front_container for table in self.dependencies.values())
        return any(table is not None and table.contained for table in (*tables, *fronts))

    @property
    def may_fail_with(self) -> dict[str, tuple[str, ...]]:
        """Request name -> dependencies."""
        return {name: table.may_fail_with for name, table in self.requests.items() if table.may_fail_with}

    @property
    def independent_of(self) -> dict[str, tuple[str, ...]]:
        """Request name -> dependencies."""
        return {name: table.independent_of for name, table in self.requests.items() if table.independent_of}

    @property
    def target_texts(self) -> tuple[str, ...]:
        """Both lists as --target would have them: `~` marks a secondary one."""
        return (*self.targets.primary, *("~" + text.lstrip("~ ") for text in self.targets.secondary))
