"""Another version of the user's target, started by a command of harness.toml for a run and ended with it.

It is a server of the run's keeper, so it goes with the run whatever ends that. The target itself is left as it is.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Self

from msgspec.structs import replace

from harness.adapters.processes.start_command import StartCommand, version_command
from harness.adapters.wire.http import Client
from harness.config.file import Configuration
from harness.model.errors import AdapterError, SetupError, UsageError
from harness.model.records.process import Launcher, ServerSpec
from harness.model.records.stack import Progress, StackUp, TargetInfo
from harness.stack.external.check import look
from harness.stack.external.stack import ANSWER_LIMIT_S, ExternalStack, first_of
from harness.stack.starting.ready import NotReady, fetched, wait_ready

READY_LIMIT_S = 60.0


class StartedVersion(ExternalStack):
    """version: its name in [versions]. port: of 127.0.0.1, on which it is told to listen."""

    def __init__(
        self,
        version: str,
        port: int,
        allow_hosts: Collection[str] = (),
        *,
        file: Configuration,
        configuration: Configuration | None,
        logs: Path | None = None,
    ) -> None:
        """file: as it was read. configuration: the same, of a target at this address; None where it declares none."""
        super().__init__(f"http://127.0.0.1:{port}", allow_hosts, configuration=configuration)
        self._version, self._port, self._file, self._logs = version, port, file, logs

    def logging_to(self, logs: Path) -> Self:
        """The same for one run."""
        return type(self)(
            self._version, self._port, self._allow, file=self._file, configuration=self._config, logs=logs
        )

    def check(self) -> None:
        """What it uses, and that it can be started; it is looked at itself once it has been."""
        program = self._command().argv[0]
        if shutil.which(program) is None:
            raise UsageError(f"{program}: no such program", hint="one on PATH, or one relative to harness.toml")
        if self._config is None:
            return
        found = look(replace(self._config, target=None), self.url, allow_hosts=self._allow)
        if troubles := [part.trouble for part in found.parts if part.trouble is not None]:
            raise first_of(troubles)
        self._up = StackUp(name=self.name, target=TargetInfo(url=self.url), dependencies=found.dependencies)

    def up(self, launcher: Launcher, progress: Progress) -> StackUp:
        command = self._command()
        log = Path(command.log or (self._logs or Path(tempfile.gettempdir())) / f"{self._version}.log")
        progress(f"starting {self._version} at {self.url}")
        spec = ServerSpec(
            name=f"version-{self._version}",
            argv=command.argv,
            env={name: value for name, value in os.environ.items() if not name.startswith("RESILIENCE_HARNESS_")},
            cwd=command.cwd,
            log=str(log),
        )
        launcher.launch(spec)
        try:
            wait_ready(
                f"version {self._version}",
                self._answers,
                launcher=launcher,
                name=spec.name,
                log=log,
                limit_s=READY_LIMIT_S,
                stop=self._stop,
            )
            return super().up(launcher, progress)
        except UsageError as error:
            raise SetupError(f"version {self._version}: {error}", hint=error.hint) from error

    def _command(self) -> StartCommand:
        return version_command(self._file.path, self._file.sha256, self._version, self._port)

    def _answers(self) -> None:
        """With a declared health path it must be well there; else any answer will do."""
        table = self._config.target if self._config is not None else None
        if table is not None and table.health is not None:
            fetched(self.url + table.health)
            return
        try:
            with Client() as client:
                client.get(self.url + "/", ANSWER_LIMIT_S)
        except AdapterError as error:
            raise NotReady(str(error)) from error
