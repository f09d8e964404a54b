"""EmbeddedStack: starts the parts side by side, and stops them in reverse order."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import msgspec
from msgspec.structs import replace

from harness.adapters.clients.envoy_configuration import Upstream
from harness.model.clock import monotonic
from harness.model.errors import SetupError
from harness.model.paths import cache_dir
from harness.model.records.faults import (
    Address,
    Credentials,
    Dependency,
    DependencyFront,
    DependencyProcess,
    DependencyProxy,
)
from harness.model.records.process import Keeps, Launcher, ServerProcess, ServerSpec
from harness.model.records.stack import Progress, StackName, StackUp, TargetInfo
from harness.stack.embedded import alerting, api, envoy, kafka, postgres, provision, risk, toxiproxy, valkey
from harness.stack.embedded.private_folder import PrivateFolder, server_user
from harness.stack.embedded.provision import Files, together
from harness.stack.starting.fetch import check_folder
from harness.stack.starting.ports import Ports
from harness.stack.starting.ready import Interrupted, Probe, wait_ready

READY_LIMIT_S = 60.0
"""For one server. They need two seconds; a machine that is busy with something else may need many more."""
ATTEMPTS = 3
_PORT_WAS_TAKEN = re.compile(r"address (is )?already in use|could not bind|in use by another", re.I)


class Addresses(msgspec.Struct, frozen=True):
    """Where everything listens, all on 127.0.0.1. control: Toxiproxy's API; the paths: its proxies' listeners;
    risk_front: Envoy's listener, envoy its admin interface."""

    control: Address
    redis_path: Address
    db_path: Address
    kafka_path: Address
    risk_path: Address
    valkey: Address
    postgres: Address
    kafka_proxied: Address
    kafka_direct: Address
    kafka_controller: Address
    risk_front: Address
    envoy: Address
    risk: Address
    api: Address
    prometheus: Address
    alertmanager: Address

    @classmethod
    def take(cls, ports: Ports) -> Addresses:
        return cls(*(Address("127.0.0.1", ports.take()) for _ in cls.__struct_fields__))

    @property
    def upstreams(self) -> tuple[Upstream, ...]:
        """What Envoy stands in front of; nothing where there is no Envoy."""
        one = Upstream(name=risk.NAME, listen=self.risk_front, upstream=self.risk)
        return (one,) if envoy.installed() else ()

    @property
    def proxies(self) -> tuple[toxiproxy.Proxy, ...]:
        behind = self.risk_front if self.upstreams else self.risk
        return (
            toxiproxy.Proxy("redis", str(self.redis_path), str(self.valkey)),
            toxiproxy.Proxy("kafka", str(self.kafka_path), str(self.kafka_proxied)),
            toxiproxy.Proxy("db", str(self.db_path), str(self.postgres)),
            toxiproxy.Proxy("risk", str(self.risk_path), str(behind)),
        )


class EmbeddedStack:
    """Valkey, PostgreSQL, Kafka and a risk service, each behind a proxy of one Toxiproxy, and the sample API that uses
    them. Between the proxy and the risk service stands an Envoy.

    logs: folder for one log file a server (a run's `logs`); None: inside the stack's private folder. settings: of the
    sample API, before those of the environment. with_alerts: with a Prometheus and an Alertmanager that look at it.
    `up` may be stopped from another thread by `down`.
    """

    name: StackName = "embedded"

    def __init__(
        self, logs: Path | None = None, settings: Mapping[str, str] = MappingProxyType({}), *, with_alerts: bool = False
    ) -> None:
        valkey.password()  # drawn now: the keeper, which is started before the servers, takes it along
        self._logs = logs
        self.settings = settings
        self.with_alerts = with_alerts
        self._stop = threading.Event()
        self._launcher: Launcher | None = None
        self._started: dict[str, ServerSpec] = {}
        self._addresses: Addresses | None = None
        self._lock = threading.Lock()

    def logging_to(self, logs: Path) -> Self:
        """The same for one run."""
        return type(self)(logs, self.settings, with_alerts=self.with_alerts)

    def describe(self) -> tuple[Dependency, ...]:
        """The dependencies as declared, with no addresses, and the target itself; touches nothing."""
        process: dict[str, Any] = {"runtime": "process", "startable": True}
        return (
            Dependency(
                name="redis",
                kind="redis",
                proxy=DependencyProxy(name="redis"),
                process=DependencyProcess(server=valkey.NAME),
                proxied=True,
                **process,
            ),
            Dependency(
                name="kafka",
                kind="kafka",
                proxy=DependencyProxy(name="kafka"),
                process=DependencyProcess(server=kafka.NAME),
                proxied=True,
                **process,
            ),
            Dependency(
                name="db",
                kind="postgres",
                proxy=DependencyProxy(name="db"),
                process=DependencyProcess(server=postgres.NAME),
                credentials=Credentials(
                    login=postgres.login(postgres.ROLE),
                    probe_login=postgres.login(postgres.PROBE_ROLE),
                    role=postgres.ROLE,
                ),
                proxied=True,
                **process,
            ),
            Dependency(
                name="risk",
                kind="http",
                proxy=DependencyProxy(name="risk"),
                process=DependencyProcess(server=risk.NAME),
                front=DependencyFront(name=risk.NAME) if envoy.installed() else None,
                proxied=True,
                **process,
            ),
            Dependency(name="api", kind="http", process=DependencyProcess(server=api.NAME), target=True, **process),
        )

    def check(self) -> None:
        """The cache must be such that what lies in it may be run. Raises Refused, and UsageError where a program that
        was asked for is missing."""
        if self.with_alerts:
            alerting.programs()
        check_folder(cache_dir())

    def up(self, launcher: Launcher, progress: Progress) -> StackUp:
        """Set up what is not cached, start everything, and return when the API answers through the proxies.

        Raises SetupError naming the part that failed, with the end of its log; whatever had been started is
        stopped by then.
        """
        made: list[str] = []
        say = _one_at_a_time(progress)

        def note(line: str) -> None:
            made.append(line)
            say(line)

        self._launcher = launcher
        began = monotonic()
        files = provision.ensure(note, self._stop)
        if made:  # fetching and building is not what ready_s tells
            began = monotonic()
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._start(launcher, files, say, began)
            except BaseException as error:
                self._stop_all(launcher)
                if attempt == ATTEMPTS or not isinstance(error, SetupError) or not _PORT_WAS_TAKEN.search(str(error)):
                    raise
                say("a port was taken by another program meanwhile; starting again on others")
                self._stop.clear()
        raise AssertionError("unreachable")

    def down(self) -> None:
        """Stop everything that was started, newest first; an `up` in another thread ends with Interrupted."""
        self._stop.set()
        if self._launcher is not None:
            self._stop_all(self._launcher)

    def restart_toxiproxy(self, launcher: Launcher) -> bool:
        """Stop Toxiproxy and start it again on the same ports: every proxy is enabled, no toxic is left.

        For one whose API no longer answers. False when this object started none. Its pid changes. Raises
        SetupError when it does not come up again.
        """
        spec, addresses = self._started.get(toxiproxy.NAME), self._addresses
        if spec is None or addresses is None:
            return False
        launcher.stop(toxiproxy.NAME)
        launcher.launch(spec)
        self._wait(launcher, toxiproxy.TITLE, spec, lambda: toxiproxy.probe(addresses.control, addresses.proxies))
        return True

    def _start(self, launcher: Launcher, files: Files, say: Progress, began: float) -> StackUp:
        folder = PrivateFolder(launcher)
        logs = self._logs or folder.sub("logs")
        logs.mkdir(parents=True, exist_ok=True)
        with Ports() as ports:
            at = self._addresses = Addresses.take(ports)
            say(f"Starting in {folder.path}")

            def run(title: str, spec: ServerSpec, probe: Probe) -> ServerProcess:
                with self._lock:
                    if self._stop.is_set():
                        raise Interrupted(f"{title}: not started")
                    process = launcher.launch(spec)
                    self._started[spec.name] = spec
                self._wait(launcher, title, spec, probe)
                say(f"{title}: ready after {monotonic() - began:.1f} s")
                return process

            def start_toxiproxy() -> ServerProcess:
                home = folder.sub(toxiproxy.NAME)
                config = toxiproxy.config(home, at.proxies)
                spec = toxiproxy.spec(files.toxiproxy, home, at.control.port, config, logs / "toxiproxy.log")
                return run(toxiproxy.TITLE, spec, lambda: toxiproxy.probe(at.control, at.proxies))

            def start_valkey() -> ServerProcess:
                home = folder.sub(valkey.NAME)
                spec = valkey.spec(home, at.valkey.port, logs / "valkey.log", password=valkey.password())
                return run(valkey.TITLE, spec, lambda: valkey.probe(at.valkey))

            def start_postgres() -> ServerProcess:
                home = folder.sub("pg", server_user())
                installed = postgres.installation(home)
                postgres.prepare(files.cluster, home, installed)
                spec = postgres.spec(installed, home, at.postgres.port, logs / "postgres.log")
                return run(postgres.TITLE, spec, lambda: postgres.probe(at.postgres))

            def start_kafka() -> ServerProcess:
                home = folder.sub(kafka.NAME)
                numbers = kafka.KafkaPorts(
                    at.kafka_proxied.port, at.kafka_direct.port, at.kafka_controller.port, at.kafka_path.port
                )
                kafka.prepare(files.kafka, home, numbers)
                spec = kafka.spec(files.java, files.kafka, files.kafka_classes, home, logs / "kafka.log")
                return run(kafka.TITLE, spec, lambda: kafka.probe(at.kafka_direct))

            def start_risk() -> ServerProcess:
                spec = risk.spec(folder.sub(risk.NAME), at.risk, logs / "risk.log")
                return run(risk.TITLE, spec, lambda: risk.probe(at.risk))

            def start_envoy() -> None:
                if not at.upstreams:
                    say(f"{envoy.TITLE}: not installed, so risk has no status, delay and slow-body")
                    return
                spec = envoy.spec(folder.sub(envoy.NAME), at.envoy, at.upstreams, logs / "envoy.log")
                fronts = envoy.fronts(at.upstreams, at.envoy).values()
                run(envoy.TITLE, spec, lambda: envoy.probe(fronts))

            # Kafka takes longest, so it goes first.
            broker, proxy, cache, database, upstream, _ = together(
                start_kafka, start_toxiproxy, start_valkey, start_postgres, start_risk, start_envoy, stop=self._stop
            )
            # The API connects through the proxies when it starts, so their servers must answer by then.
            version: list[str | None] = []
            spec = api.spec(
                folder.sub(api.NAME),
                at.api.port,
                at.redis_path,
                at.db_path,
                at.kafka_path,
                at.risk_path,
                logs / "api.log",
                self.settings,
            )
            target = run(api.TITLE, spec, lambda: version.append(api.probe(at.api)))
            # After the API, which is down for them until then.
            seen, programs = None, alerting.programs() if self.with_alerts else None
            if programs is not None:
                places = (at.prometheus, at.alertmanager)
                for spec, place in zip(
                    alerting.specs(programs, folder.sub("alerts"), at.api, places, logs), places, strict=True
                ):
                    run(alerting.TITLES[spec.name], spec, lambda place=place: alerting.probe(place))  # type: ignore[misc]
                seen = replace(
                    alerting.wanted(), prometheus=f"http://{at.prometheus}", alertmanager=f"http://{at.alertmanager}"
                )
        return StackUp(
            name=self.name,
            target=TargetInfo(
                url=f"http://{at.api}",
                metrics_url=f"http://{at.api}/metrics",
                pid=target.pid,
                workers=api.workers({**os.environ, **self.settings}),
                version=version[-1],
                health="/health",
            ),
            dependencies=self._bound(
                at,
                folder,
                launcher,
                proxy,
                {"redis": cache, "kafka": broker, "db": database, "risk": upstream, "api": target},
            ),
            versions={
                "valkey": valkey.version(),
                "postgresql": postgres.version(),
                "kafka": kafka.VERSION,
                "java": files.java.text,
                "toxiproxy": toxiproxy.VERSION,
                **({"envoy": envoy.version()} if at.upstreams else {}),
                **(programs.versions if programs is not None else {}),
            },
            alerts=seen,
            ready_s=round(monotonic() - began, 2),
            folder=str(folder.path),
        )

    def _bound(
        self,
        at: Addresses,
        folder: PrivateFolder,
        launcher: Launcher,
        proxy: ServerProcess,
        servers: dict[str, ServerProcess],
    ) -> tuple[Dependency, ...]:
        where = {
            "redis": (at.redis_path, at.valkey),
            "kafka": (at.kafka_path, at.kafka_direct),
            "db": (at.db_path, at.postgres),
            "risk": (at.risk_path, at.risk),
            "api": (at.api, at.api),
        }
        fronts = envoy.fronts(at.upstreams, at.envoy)
        bound = []
        for declared in self.describe():
            path, direct = where[declared.name]
            bound.append(
                declared.but(
                    proxy={
                        "url": f"http://{at.control}" if declared.proxied else None,
                        "pid": proxy.pid if declared.proxied else None,
                    },
                    process={
                        "pid": servers[declared.name].pid,
                        "keeper": str(launcher.state_dir) if isinstance(launcher, Keeps) else None,
                    },
                    credentials={
                        "password_env": valkey.PASSWORD_ENV if declared.name == "redis" else None,
                        "admin": postgres.admin_conninfo(folder.path / "pg", direct.port)
                        if declared.name == "db"
                        else None,
                    },
                    path=path,
                    direct=direct,
                    url=f"http://{path}/health" if declared.kind == "http" else None,
                    front=fronts.get(declared.name),
                )
            )
        return tuple(bound)

    def _wait(self, launcher: Launcher, title: str, spec: ServerSpec, probe: Probe) -> None:
        wait_ready(
            title,
            probe,
            launcher=launcher,
            name=spec.name,
            log=Path(spec.log),
            limit_s=READY_LIMIT_S,
            stop=self._stop,
        )

    def _stop_all(self, launcher: Launcher) -> None:
        while True:
            with self._lock:
                if not self._started:
                    return
                name, _ = self._started.popitem()
            launcher.stop(name)


def _one_at_a_time(progress: Progress) -> Callable[[str], None]:
    """Parts report from threads of their own; the caller's function need not know."""
    lock = threading.Lock()

    def say(line: str) -> None:
        with lock:
            progress(line)

    return say
