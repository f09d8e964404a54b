"""ComposeStack: one Compose project of its own, made, bound and removed again."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.adapters.docker import project as docker_project
from harness.adapters.docker.context import choose_engine
from harness.adapters.docker.engine import Engine, connect
from harness.adapters.docker.logs import last_lines
from harness.adapters.docker.records import Container
from harness.dependencies.probe import path_probe
from harness.model.clock import monotonic
from harness.model.errors import AdapterError, HarnessError, Refused, SetupError
from harness.model.paths import cache_dir
from harness.model.records.faults import Address, Dependency
from harness.model.records.process import Launcher, OwnsProjects
from harness.model.records.stack import Progress, StackName, StackUp
from harness.stack.compose import bind, compose_cli, settings
from harness.stack.compose.compose_cli import ComposeCommand
from harness.stack.compose.project import ComposeProject
from harness.stack.embedded import api, envoy, kafka, risk
from harness.stack.embedded.private_folder import PrivateFolder
from harness.stack.starting.fetch import locked
from harness.stack.starting.ports import Ports
from harness.stack.starting.ready import Interrupted, NotReady

MAKE_LIMIT_S = 1800.0
"""For building or fetching images: a slow network, nothing else, may need so long."""
READY_LIMIT_S = 180.0
TITLE = "Compose"
LOG_LINES = 6
LOG_MOST = 20_000
"""Lines of one container's log that are kept with a run."""
POLL_S = 0.2


class ComposeStack:
    """project: its name; None = one that nobody else has.

    `up` may be stopped from another thread by `down`.
    """

    name: StackName = "compose"

    def __init__(self, project: str | None = None) -> None:
        self._logs: Path | None = None
        self._project = docker_project.project_name(project or f"harness-{os.urandom(4).hex()}")
        self._stop = threading.Event()
        self._command: ComposeCommand | None = None
        self._engine: Engine | None = None
        self._launcher: Launcher | None = None
        self._up: StackUp | None = None
        self._dropping = threading.Lock()

    def describe(self) -> tuple[Dependency, ...]:
        """The dependencies as declared, with no addresses; touches nothing, not even the engine."""
        return bind.declared()

    def check(self) -> None:
        """The command and the engine are there. Raises UsageError, Refused, EngineAbsent, EngineDenied."""
        self._command = compose_cli.find()
        url = choose_engine().url
        try:
            self._engine = connect(url)
        except Refused as error:
            raise Refused(
                f"--stack compose needs a Docker engine on this machine, and {url} is not: its ports would be"
                " published there",
                hint="docker context use default, and unset DOCKER_HOST; or declare that system: --stack external",
            ) from error

    def up(self, launcher: Launcher, progress: Progress) -> StackUp:
        """Build the API's image where its content is new, make the project, and return when the API answers through
        the proxies.

        Raises SetupError naming what failed, with the end of its log; whatever had been made is removed by then.
        """
        if self._command is None or self._engine is None:
            self.check()
        assert self._command is not None and self._engine is not None
        if not isinstance(launcher, OwnsProjects):
            raise SetupError("this launcher cannot answer for containers")
        self._launcher = launcher
        if (note := choose_engine().note) is not None:
            progress(f"note: {note}")
        try:
            self._up = self._make(launcher, launcher, self._command, self._engine, progress)
            return self._up
        except BaseException:
            self._drop()
            raise

    def down(self) -> None:
        """Remove the project; an `up` in another thread ends with Interrupted, and removes what it has made."""
        self._stop.set()
        if self._up is not None:
            self._drop()

    def restart_toxiproxy(self, launcher: Launcher) -> bool:
        """Kill Toxiproxy's container and start it again: every proxy is enabled, no toxic is left.

        False when this object made none. Raises SetupError when it does not come up again.
        """
        if self._up is None or self._engine is None:
            return False
        containers = self._containers(self._engine)
        proxy = containers.get(bind.TOXIPROXY)
        if proxy is None:
            return False
        try:
            if proxy.state.running:
                self._engine.kill(proxy.id)
            self._engine.start(proxy.id)
        except AdapterError as error:
            raise SetupError(f"Toxiproxy's container could not be restarted: {error}") from error
        self._wait("Toxiproxy", lambda found: bind.proxies(found))
        return True

    def save_logs(self, folder: Path) -> None:
        """One file a service, with the last lines of its container; and what Compose said. Never raises."""
        for log in self._logs.glob("*.log") if self._logs is not None else ():
            with contextlib.suppress(OSError):
                shutil.copyfile(log, folder / log.name)
        if self._engine is None:
            return
        try:
            containers = self._containers(self._engine)
        except HarnessError:
            return
        for service, container in containers.items():
            try:
                lines = last_lines(self._engine, container.id, LOG_MOST)
                text = "".join(f"{one.at} {one.text.decode('utf-8', 'replace')}\n" for one in lines)
                (folder / f"{service}.log").write_text(text, "utf-8")
            except (HarnessError, OSError):
                continue

    # -- making it

    def _make(
        self, launcher: Launcher, owner: OwnsProjects, compose: ComposeCommand, engine: Engine, say: Progress
    ) -> StackUp:
        file = settings.compose_file()
        if not file.is_file():
            raise SetupError(f"{TITLE}: {file} is missing", hint="install resilience-harness again")
        text = file.read_text("utf-8")
        tag = self._tag(engine, text, file.parent)
        self._go_on()
        # The owner knows of the project before anything of it is made.
        owner.own_project(engine.url, self._project)
        folder = PrivateFolder(launcher)
        logs = self._logs = folder.sub("logs")
        with Ports() as ports:
            env = settings.environment(
                text, os.environ, engine=engine.url, take_port=ports.take, tag=tag, api=engine.lowest_api
            )
            project = ComposeProject(
                argv=compose.argv, file=file, name=self._project, engine=engine.url, env=env, logs=logs
            )
            say(f"{TITLE} project {self._project}, {' '.join(compose.argv)} {compose.version} on {engine.url}")
            wanted = settings.built_images(text, tag, profiles=env.get("COMPOSE_PROFILES", ""))
            self._build(project, engine, wanted, say)
            began = monotonic()
            self._run(
                project, "compose-up", "up", "-d", "--no-build", title=f"{TITLE}: starting", say=say, look=self._look
            )
        version = self._ready(say, began)
        containers = self._containers(engine)
        bound = bind.dependencies(containers, engine.url)
        for one in bound:
            self._probe(one)
        return StackUp(
            name=self.name,
            target=bind.target(containers, engine.url, version),
            dependencies=bound,
            versions={
                **{service: f"{one.config.image} {one.image[:19]}" for service, one in containers.items()},
                "docker engine": engine.version.version,
                " ".join(compose.argv): compose.version,
            },
            ready_s=round(monotonic() - began, 2),
            folder=str(folder.path),
            grafana=bind.grafana(containers),
        )

    def _build(self, project: ComposeProject, engine: Engine, images: Sequence[str], say: Progress) -> None:
        """Those that the engine has not. One harness at a time: an engine may refuse the second of two builds of one
        image."""

        def missing() -> bool:
            return any(docker_project.image(engine, one) is None for one in images)

        if not missing():
            return
        lock = cache_dir() / "compose" / "images"
        with locked(lock, title=f"{TITLE}: images", progress=say, limit_s=MAKE_LIMIT_S, stopped=self._stop.is_set):
            if missing():
                self._run(project, "compose-build", "build", title=f"{TITLE}: building", say=say)

    def _tag(self, engine: Engine, text: str, folder: Path) -> str:
        """Of the images that are built: another one for other content, or for another base image of the same name."""
        bases = {name: os.environ.get(name, "") for name in settings.bases(text)}
        for name, reference in bases.items():
            found = docker_project.image(engine, reference) if reference else None
            bases[name] = found.id if found is not None else reference
        return settings.build_tag(folder, bases)

    def _run(
        self,
        project: ComposeProject,
        what: str,
        *arguments: str,
        title: str,
        say: Progress,
        look: Callable[[], None] = lambda: None,
    ) -> None:
        assert self._launcher is not None
        try:
            project.run(
                self._launcher,
                what,
                *arguments,
                title=title,
                limit_s=MAKE_LIMIT_S,
                say=say,
                stopped=self._stop.is_set,
                look=look,
            )
        except Interrupted:
            raise
        except SetupError as error:
            self._look()  # a container that has died says more than Compose does
            raise SetupError(f"{error}{self._unwell()}{self._missing(project.file)}", hint=error.hint) from error

    def _ready(self, say: Progress, began: float) -> str | None:
        """Every part answers as its users ask it; the API's version. Raises SetupError."""
        version: list[str | None] = []
        parts: tuple[tuple[str, Callable[[dict[str, Container]], object]], ...] = (
            ("Toxiproxy", bind.proxies),
            ("Redis", lambda found: bind.direct(found, bind.REDIS)),
            ("PostgreSQL", lambda found: bind.direct(found, bind.DB)),
            ("Kafka", lambda found: kafka.probe(bind.direct(found, bind.KAFKA))),
            ("Risk service", lambda found: risk.probe(bind.direct(found, bind.RISK))),
            (envoy.TITLE, lambda found: envoy.probe(bind.fronts(found).values())),
            ("Sample API", lambda found: version.append(api.probe(bind.published(found[bind.API], bind.API_PORT)))),
        )
        for title, probe in parts:
            self._wait(title, probe)
            say(f"{title}: ready after {monotonic() - began:.1f} s")
        return version[-1]

    def _wait(self, title: str, probe: Callable[[dict[str, Container]], object]) -> None:
        """Raises SetupError: a container has ended (with the end of its log), or the limit has passed."""
        assert self._engine is not None
        until = monotonic() + READY_LIMIT_S
        while True:
            self._go_on()
            try:
                found = self._containers(self._engine)
                missing = [service for service in bind.SERVICES if service not in found]
                if missing:
                    raise NotReady(f"there is no container of {', '.join(missing)}")
                probe(found)
                return
            except (NotReady, OSError, AdapterError) as error:
                self._look()
                if monotonic() > until:
                    raise SetupError(
                        f"{title} was not ready within {READY_LIMIT_S:.0f} s: {error}{self._unwell()}"
                    ) from error
            time.sleep(POLL_S)

    def _probe(self, dependency: Dependency) -> None:
        """The very probe that proofs and undos use later, through the path and past it. Raises SetupError."""
        import msgspec

        for address in {dependency.path, dependency.direct}:
            one = msgspec.structs.replace(dependency, path=address, direct=None)
            until = monotonic() + READY_LIMIT_S
            while not (result := path_probe(one)(5.0)).ok:
                self._go_on()
                self._look()
                if monotonic() > until:
                    raise SetupError(f"{dependency.name} at {_text(address)} is not ready: {result.detail}")
                time.sleep(POLL_S)

    # -- looking

    def _containers(self, engine: Engine) -> dict[str, Container]:
        return bind.by_service(docker_project.belongings(engine, self._project).containers)

    def _look(self) -> None:
        """Raises SetupError for a container that has ended with an error, with the last lines of its log."""
        assert self._engine is not None
        try:
            containers = self._containers(self._engine)
        except AdapterError:
            return
        for service, container in containers.items():
            if container.state.status in ("exited", "dead") and (container.state.exit_code or service in bind.SERVICES):
                raise SetupError(f"{TITLE}: {service} {container.condition}{self._tail(container)}")

    def _unwell(self) -> str:
        """The last lines of the containers that are not healthy, as the rest of a message."""
        assert self._engine is not None
        try:
            containers = self._containers(self._engine)
        except AdapterError:
            return ""
        sick = [
            f"\n{service} is {one.condition}{self._tail(one)}"
            for service, one in containers.items()
            if one.state.health is not None and one.state.health.status not in ("healthy", "none")
        ]
        return "".join(sick[:3])

    def _missing(self, file: Path) -> str:
        """Images that the engine still has not, as the rest of a message: an engine's own error may name none."""
        engine = self._engine
        assert engine is not None
        wanted = settings.taken_images(file.read_text("utf-8"), os.environ)
        try:
            lacks = [(name, one) for name, one in wanted.items() if docker_project.image(engine, one) is None]
        except AdapterError:
            return ""
        return f"\nnot on the engine: {', '.join(f'{image} ({name})' for name, image in lacks)}" if lacks else ""

    def _tail(self, container: Container) -> str:
        assert self._engine is not None
        try:
            lines = [line.text.decode("utf-8", "replace") for line in last_lines(self._engine, container.id, LOG_LINES)]
        except AdapterError:
            return ""
        shown = ("".join(c if c.isprintable() else "?" for c in line)[:300] for line in lines if line)
        return "".join(f"\n  {line}" for line in shown)

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise Interrupted(f"{TITLE}: stopped")

    def _drop(self) -> None:
        """What cannot be removed now the launcher removes at its end, and says so if it cannot."""
        launcher: object = self._launcher
        if self._engine is None or not isinstance(launcher, OwnsProjects):
            return
        with self._dropping:
            try:
                launcher.drop_project(self._engine.url, self._project)
            except HarnessError:
                pass


def _text(address: Address | None) -> str:
    return str(address) if address is not None else "no address"
