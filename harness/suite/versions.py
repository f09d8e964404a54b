"""Another version of the target, as [versions.NAME] of harness.toml declares it: what a run on it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from msgspec.structs import replace

from harness.conductor.prepare import Planned, prepare
from harness.config.file import Configuration, VersionTable
from harness.model.errors import UsageError, unknown
from harness.stack.embedded import EmbeddedStack
from harness.stack.embedded.api import settings
from harness.stack.external.stack import target_url
from harness.stack.external.started import StartedVersion
from harness.stack.starting.ports import Ports


def other_version(planned: Planned, name: str, configuration: Configuration | None) -> Planned:
    """The same experiment on this version, with the same faults; touches nothing. Raises UsageError."""
    declared = configuration.versions if configuration is not None else {}
    if configuration is None or not declared:
        raise UsageError(f"--versus {name}: no version is declared", hint=f"write [versions.{name}] in harness.toml")
    if name not in declared:
        raise unknown("version", name, declared, where="--versus: ")
    if planned.experiment.remote_workers:
        raise UsageError("--versus starts a load for each run, and workers of other machines wait for one load")
    where, table = f"{configuration.shown}: versions.{name}", declared[name]
    if table.env is not None:
        return _by_env(planned, table.env, where)
    if planned.plan.stack != "external":
        raise UsageError(
            f"{where} is of a target of your own, and the one given is on the {planned.plan.stack} stack",
            hint="name yours with --host URL or in [target]",
        )
    if table.host is not None:
        return _at(planned, table.host, where, configuration)[0]
    with Ports() as ports:
        port = ports.take()
    other, own = _at(planned, f"http://127.0.0.1:{port}", where, configuration)
    stack = StartedVersion(name, port, planned.experiment.allow_hosts, file=configuration, configuration=own)
    return replace(other, stack=stack)


def check_version(other: Planned, name: str) -> None:
    """Look at it, as at any target before a run. Raises UsageError or Refused; nothing was touched then."""
    with _said_of(f"versions.{name}"):
        other.check()


@contextmanager
def _said_of(where: str) -> Iterator[None]:
    try:
        yield
    except UsageError as error:
        error.message, error.field = f"{where}: {error}", None
        raise


def shown(table: VersionTable) -> str:
    """What tells it from the target, for people and for the record."""
    env = " ".join(f"{key}={value}" for key, value in sorted((table.env or {}).items()))
    return table.host or " ".join(table.start or ()) or env or "the same"


def _by_env(planned: Planned, env: dict[str, str], where: str) -> Planned:
    if planned.plan.stack != "embedded":
        raise UsageError(
            f"{where}.env is for the sample API of the embedded stack, and the target is not on it",
            hint='host = "http://127.0.0.1:8001" says where another version of your own target runs',
        )
    if planned.running is not None:
        raise UsageError(
            f"{where}.env: the embedded stack is up with a sample API of its own", hint="stop it: harness stack down"
        )
    if wrong := sorted(set(env) - set(settings(env))):
        raise UsageError(f"{where}.env: {wrong[0]!r} is no setting of the sample API", hint="see docs/sample-api.md")
    with_alerts = planned.experiment.alerts is not None and planned.experiment.alerts.of_stack
    return replace(planned, stack=EmbeddedStack(settings=env, with_alerts=with_alerts))


def _at(planned: Planned, host: str, where: str, configuration: Configuration) -> tuple[Planned, Configuration]:
    """And the configuration as it is of this target."""
    if target_url(host) == planned.plan.load.host:
        raise UsageError(f"{where}.host is the target's own", hint="name where the other version runs")
    if configuration.target is not None:
        # Its process, container and pid file are the target's: of the other version nothing but its address is known.
        table = configuration.target
        table = replace(
            table, url=host, pid_file=None, start=None, cwd=None, log=None, service=None, replica=None, container=None
        )
        configuration = replace(configuration, target=replace(table, port=None))
    # The seed that was drawn, so that faults drawn by it are the same ones.
    asked = replace(planned.experiment, host=host, seed=planned.plan.seed)
    with _said_of(where):
        return prepare(asked, configuration), configuration
