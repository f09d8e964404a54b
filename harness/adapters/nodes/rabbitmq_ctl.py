"""`rabbitmqctl`, the only way to a node's memory watermark: by the command that harness.toml declares, or in the
declared container. Never by a shell, and never by a command from a record.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec

from harness.adapters.docker.engine import Engine, Ran
from harness.adapters.processes.start_command import own_command
from harness.model.clock import monotonic
from harness.model.errors import OutcomeUnknown, Refused, Rejected, Unreachable, UsageError
from harness.model.records.faults import Applied, Dependency

LIMIT_S = 60.0
"""How long one command may take: it starts a virtual machine of its own, on a machine that may be under load."""
_UNAVAILABLE = 69
"""EX_UNAVAILABLE: no such node runs."""
_WATERMARK = re.compile(r"(absolute )?\d+(\.\d+)?(e-\d+)?")
_SIZE = re.compile(r"(\d+)(?:([kKMGT])(i?B)?)?")


class Alarm(msgspec.Struct, frozen=True):
    """type: "resource_limit", of which `resource` says what is short; "file_descriptor_limit"."""

    type: str = ""
    resource: str = ""
    node: str = ""


class Status(msgspec.Struct, frozen=True):
    """What `rabbitmqctl status` says. data_directory: is one node's own, and stays when it is started again."""

    data_directory: str
    vm_memory_high_watermark_setting: dict[str, float | int | str]
    alarms: list[Alarm] = []
    rabbitmq_version: str = ""

    @property
    def watermark(self) -> str:
        """As `set_vm_memory_high_watermark` takes it: "0.4", "absolute 2147483648"."""
        setting = self.vm_memory_high_watermark_setting
        if "absolute" in setting:
            return f"absolute {_bytes(str(setting['absolute']))}"
        if "relative" not in setting:
            raise Rejected("rabbitmqctl status does not tell the memory watermark")
        return repr(float(setting["relative"]))

    @property
    def short_of(self) -> list[str]:
        """What an alarm is in effect for, on any node of the cluster: "memory", "disk"."""
        return sorted({one.resource for one in self.alarms if one.type == "resource_limit"})


class Ctl:
    """One node's. Raises Refused where neither a command nor a container is declared.

    Methods raise Unreachable (nothing was done), OutcomeUnknown, Rejected, Gone (that container does not exist).
    """

    def __init__(self, dependency: Dependency) -> None:
        self._dependency = dependency
        if not declared(dependency):
            raise Refused(f"nothing runs rabbitmqctl for {dependency.name}")

    def status(self) -> Status:
        found: Status = self._told(("status",), Status)
        return found

    def set_watermark(self, watermark: str) -> Applied:
        check_watermark(watermark)
        sent = monotonic()
        self._run(("set_vm_memory_high_watermark", *watermark.split(" ")))
        return Applied(sent, monotonic())

    def connection_names(self) -> list[str]:
        """What the clients of the whole cluster call themselves."""
        rows = self._told(("list_connections", "client_properties"), list[dict[str, list[list[Any]]]])
        properties = [one for row in rows for one in row.get("client_properties", [])]
        return [str(one[2]) for one in properties if len(one) == 3 and one[0] == "connection_name"]

    def _told(self, words: Sequence[str], kind: Any) -> Any:
        out = self._run(("--silent", "--formatter", "json", *words))
        try:
            return msgspec.json.decode(out, type=kind)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            said = f"rabbitmqctl {words[0]} of {self._dependency.name} was not answered in JSON"
            raise Rejected(f"{said}: {error}") from error

    def _run(self, words: Sequence[str]) -> bytes:
        container = self._dependency.container
        if self._dependency.broker.ctl_config is not None:
            ran = _here(self._dependency, words)
        else:
            with Engine(str(container.engine)) as engine:
                ran = engine.run(str(container.id), ("rabbitmqctl", *words), limit_s=LIMIT_S)
        if ran.exit_code:
            text = (ran.err.strip() or ran.out.strip()).decode("utf-8", "replace")
            said = f"rabbitmqctl of {self._dependency.name}: {text.splitlines()[0][:300] if text else ran.exit_code}"
            raise Unreachable(said) if ran.exit_code == _UNAVAILABLE else Rejected(said)
        return ran.out


def declared(dependency: Dependency) -> bool:
    """Whether the node can be reached; of a container before the stack is up too."""
    return dependency.broker.ctl_config is not None or dependency.runtime == "container"


def check_watermark(text: str) -> None:
    """It comes from a record. Raises Rejected for what is none."""
    if not _WATERMARK.fullmatch(text):
        raise Rejected(f"{text!r} is no memory watermark of RabbitMQ")


def _bytes(text: str) -> int:
    """A configuration may have it as "2GB" (of 1000) or "2GiB", "2G" (of 1024), where it is told in bytes once set."""
    found = _SIZE.fullmatch(text)
    if found is None:
        raise Rejected(f"{text!r} is no size of memory")
    number, unit, suffix = found.groups()
    power = "_kMGT".index(unit.replace("K", "k")) if unit else 0
    return int(number) * int((1000 if suffix == "B" else 1024) ** power)


def _here(dependency: Dependency, words: Sequence[str]) -> Ran:
    """The declared command with these words behind it, ended with all that it started when its time is over."""
    broker = dependency.broker
    try:
        command = own_command(str(broker.ctl_config), str(broker.ctl_sha256), dependency.name, "ctl")
    except UsageError as error:
        raise Rejected(str(error), hint=error.hint) from error
    env = {name: value for name, value in os.environ.items() if not name.startswith("RESILIENCE_HARNESS_")}
    try:
        process = subprocess.Popen(
            [*command.argv, *words],
            cwd=command.cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise Rejected(f"{command.argv[0]} could not be started: {error.strerror or error}") from error
    try:
        out, err = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired as error:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise OutcomeUnknown(f"{command.argv[0]} of {dependency.name} did not end within {LIMIT_S:g} s") from error
    return Ran(process.returncode, out, err)
