"""From decoded options to a plan: what `run` and `plan` do alike, before anything is touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from harness.cli.options import decode
from harness.fault import registered, unusable
from harness.load.process.launcher import describe
from harness.load.wire.keys import check_sockets
from harness.model.clock import wall
from harness.model.errors import UsageError, about
from harness.model.records.load import Locustfile
from harness.model.records.plan import Plan
from harness.model.records.stack import Stack, StackName, StackUp
from harness.model.resources import resource
from harness.plan.experiment import Experiment
from harness.plan.planner import build_plan, find_scenario
from harness.stack import registry
from harness.stack.embedded import EmbeddedStack
from harness.stack.external.stack import ExternalStack

BUILT_IN = ("locustfiles", "anomaly.py")


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """A plan and the stack it is for. running: a stack that is up already and will be used."""

    request: Experiment
    plan: Plan
    stack: Stack
    running: StackUp | None
    allow_hosts: tuple[str, ...] = ()

    @property
    def allowed(self) -> tuple[str, ...]:
        """Every host that an undo may reach besides loopback; complete once the stack was checked."""
        return self.stack.allowed if isinstance(self.stack, ExternalStack) else self.allow_hosts


def plan_from(values: dict[str, Any]) -> Planned:
    """Executes the locustfile in a child to describe it, and touches nothing else.

    Raises UsageError.
    """
    for kind, why in unusable().items():
        click.echo(f"note: the fault {kind} cannot be used: {why}", err=True)
    request = decode(values)
    find_scenario(request.scenario)
    check_aborts(request)
    stack: Stack
    running: StackUp | None = None
    if request.host is not None:
        stack = external_stack(request.host, values)
    else:
        stack = own_stack(request.stack)
        running = registry.running(request.stack)
    file = Path(request.locustfile) if request.locustfile else resource(*BUILT_IN)
    check_locustfile(file)
    dependencies = running.dependencies if running is not None else stack.describe()
    host = request.host or (running.target.url if running is not None else "")
    created = wall()

    def plan_with(locustfile: Locustfile, wanted: Experiment) -> Plan:
        plan = build_plan(
            wanted, locustfile=locustfile, dependencies=dependencies, faults=registered(), host=host, created=created
        )
        load = msgspec.structs.replace(plan.load, allow_hosts=request.allow_hosts)
        return msgspec.structs.replace(plan, load=load)

    # Importing a locustfile takes a second or two: whatever else is wrong is told before that.
    plan_with(Locustfile(path=str(file), sha256="", classes=()), msgspec.structs.replace(request, user_classes=()))
    plan = plan_with(describe(file), request)
    for one in plan.load.classes:
        if not one.tasks:
            raise UsageError(
                f"locustfile {file}: user class {one.name} has no tasks",
                hint="say `abstract = True` in a class that others are made of, or choose with --user-class",
            )
    check_sockets(plan.load.workers)
    return Planned(request=request, plan=plan, stack=stack, running=running, allow_hosts=request.allow_hosts)


def check_locustfile(file: Path) -> None:
    """Locust takes a folder, a list or an address as well; here it is one file. Raises UsageError."""
    text = str(file)
    if file.is_dir():
        raise UsageError(
            f"{text}: a folder, and one file is needed", hint="name one of the files in it", field="locustfile"
        )
    if file.is_file():
        return
    if text.startswith(("http:/", "https:/")):
        raise UsageError(
            f"{text}: an address, and one file is needed", hint="download it, and read it first", field="locustfile"
        )
    if "," in text:
        raise UsageError(
            f"{text}: a list, and one file is needed",
            hint="make a file that imports the user classes of the others, and choose among them with --user-class",
            field="locustfile",
        )
    raise UsageError(f"{text}: no such file", field="locustfile")


def refuse_sample_requests(planned: Planned) -> None:
    """Without a locustfile the requests are those of the sample API, and without a scale there may be 10,000 a second:
    nobody sends that to a service of his own without having said so. Raises UsageError."""
    load, request = planned.plan.load, planned.request
    said = request.scale is not None or request.rate is not None or request.users is not None
    if planned.plan.stack != "external" or said or Path(load.locustfile) != resource(*BUILT_IN):
        return
    many = f"{load.rate:,g} a second" if load.rate is not None else f"by {load.users:,} users"
    raise UsageError(
        f"no --locustfile: the requests would be those of the sample API (POST /api/v1/predict and others), {many}",
        hint="name a file with requests of your own, or say with --scale or --rate how many of these to send",
    )


def own_stack(name: StackName) -> Stack:
    """One of the stacks that the harness starts."""
    if name == "compose":
        from harness.stack.compose import ComposeStack

        return ComposeStack()
    return EmbeddedStack()


def external_stack(url: str, values: dict[str, Any]) -> ExternalStack:
    """The user's own system, as harness.toml declares it where there is one."""
    return ExternalStack(url, allow_hosts=tuple(values["allow_hosts"]), configuration=values.get("config"))


def check_aborts(request: Experiment) -> None:
    from harness.analysis.live import parse_abort

    with about("abort_if"):
        for text in request.abort_if:
            parse_abort(text)
