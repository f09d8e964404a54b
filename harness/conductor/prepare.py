"""From what is asked to a plan and the stack it is for, before anything is touched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from harness.adapters.alerts.sources import check_sources, rules_of
from harness.analysis.live import parse_abort
from harness.config.file import Configuration
from harness.dependencies.configuration import load
from harness.fault import registered
from harness.load.ipc.keys import check_sockets
from harness.load.ipc.locustfiles import files_of, joined
from harness.load.process.launcher import describe
from harness.model.clock import wall
from harness.model.cores import useful_cores
from harness.model.errors import HarnessError, UsageError, about
from harness.model.options import HOST
from harness.model.records.faults import Dependency
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

    experiment: Experiment
    plan: Plan
    stack: Stack
    running: StackUp | None

    @property
    def allowed(self) -> tuple[str, ...]:
        """Every host that an undo may reach besides loopback; complete once the stack was checked."""
        return self.stack.allowed if isinstance(self.stack, ExternalStack) else self.experiment.allow_hosts

    @property
    def declared_reset(self) -> tuple[str, str] | None:
        """(path, SHA-256) of the harness.toml that says how a suite brings its target back; None: none does."""
        return self.stack.declared_reset if isinstance(self.stack, ExternalStack) else None

    @property
    def told(self) -> Plan:
        """The plan with what `run` would refuse among its warnings; nothing of the system is asked for it."""
        texts = [*self.stack.refusals()] if isinstance(self.stack, ExternalStack) else []
        try:
            check_sources(self.plan.alerts, self.plan.load.allow_hosts)
        except UsageError as error:
            texts.append(f"{error}; {error.hint}" if error.hint else str(error))
        refused = (f"run will refuse this: {text}" for text in texts)
        return msgspec.structs.replace(self.plan, warnings=(*refused, *self.plan.warnings))

    def check(self) -> None:
        """Look at the system. Raises UsageError or Refused where a run cannot begin there; nothing was touched then."""
        check_sources(self.plan.alerts, self.plan.load.allow_hosts)
        if self.running is None:
            refuse_beside_living_run(self.plan)
            self.stack.check()
        refuse_sample_requests(self)


def with_rules(plan: Plan) -> Plan:
    """With the rules of the Prometheus in [alerts], which is asked for them; a note where it does not tell."""
    alerts = plan.alerts
    if alerts is None or alerts.prometheus is None:
        return plan
    try:
        rules = rules_of(alerts, plan.load.allow_hosts)
    except HarnessError as error:
        note = rules_not_read(error)
        return msgspec.structs.replace(plan, warnings=(*plan.warnings, note))
    return msgspec.structs.replace(plan, alerts=msgspec.structs.replace(alerts, rules=rules))


def planned_for(experiment: Experiment, config: Path | None = None) -> Planned:
    """For what a script asks."""
    return prepare(*asked_for(experiment, config))


def asked_for(experiment: Experiment, config: Path | None = None) -> tuple[Experiment, Configuration | None]:
    """What a script asks, which has no environment and no harness.toml but the one it names: of that all but [run],
    which are the command line's defaults."""
    configuration = load(config) if config is not None else None
    changes: dict[str, Any] = {"cores": useful_cores()}
    if configuration is not None:
        changes["target_layers"] = (configuration.target_texts, *experiment.target_layers)
        changes["may_fail_with"] = {**configuration.may_fail_with, **experiment.may_fail_with}
        changes["independent_of"] = {**configuration.independent_of, **experiment.independent_of}
        changes["alerts"] = experiment.alerts or configuration.alerts
        changes["trace_url"] = experiment.trace_url or configuration.report.trace_url
    own = configuration.target.url if configuration is not None and configuration.target is not None else None
    host = experiment.host or own
    if host is not None:
        changes |= {"host": host, "stack": "external"}
    elif experiment.stack == "external":
        raise UsageError(
            "external needs a target", hint="name its URL as host, or a harness.toml as config", field="stack"
        )
    changes["allow_hosts"] = tuple(HOST.parse(text) for text in experiment.allow_hosts)
    return msgspec.structs.replace(experiment, **changes), configuration


def rules_not_read(error: HarnessError) -> str:
    return f"the rules of the expected alerts were not read: {error}"


class Ground(msgspec.Struct, frozen=True, kw_only=True):
    """What plans are made for: the stack that is asked for, and what it declares. host: "" where the stack has it."""

    stack: Stack
    running: StackUp | None
    dependencies: tuple[Dependency, ...]
    host: str
    locustfile: str

    def look(self, experiment: Experiment) -> Locustfile:
        """Into the Locust files, in a child process. Raises UsageError."""
        return describe(
            self.locustfile,
            locust_args=experiment.locust_args,
            tags=experiment.tags,
            exclude_tags=experiment.exclude_tags,
        )

    def plan(self, experiment: Experiment, look: Callable[[], Locustfile]) -> Plan:
        """One experiment on it. look: into the locustfile. Raises UsageError, and Refused for what must not be."""
        find_scenario(experiment.scenario)
        with about("abort_if"):
            for text in experiment.abort_if:
                parse_abort(text)
        plan = build_plan(
            experiment,
            describe=look,
            dependencies=self.dependencies,
            faults=registered(),
            host=self.host,
            created=wall(),
        )
        for one in plan.load.classes:
            if not one.tasks:
                raise UsageError(
                    f"locustfile {self.locustfile}: user class {one.name} has no tasks",
                    hint="say `abstract = True` in a class that others are made of, or choose with --user-class",
                )
        check_sockets(plan.load.workers)
        return plan


def ground(experiment: Experiment, configuration: Configuration | None) -> Ground:
    """Touches nothing. Raises UsageError."""
    stack: Stack
    running: StackUp | None = None
    if experiment.host is not None:
        stack = ExternalStack(experiment.host, allow_hosts=experiment.allow_hosts, configuration=configuration)
    else:
        with_alerts = experiment.alerts is not None and experiment.alerts.of_stack
        stack = own_stack(experiment.stack, with_alerts=with_alerts)
        running = registry.running(experiment.stack)
        if running is not None and with_alerts and running.alerts is None:
            raise UsageError(
                "--with-alerts: the stack that is up was brought up without",
                hint="harness stack down; then: harness stack up --with-alerts",
            )
    return Ground(
        stack=stack,
        running=running,
        dependencies=running.dependencies if running is not None else stack.describe(),
        host=experiment.host or (running.target.url if running is not None else ""),
        locustfile=joined(files_of(experiment.locustfile or str(resource(*BUILT_IN)))),
    )


def prepare(
    experiment: Experiment,
    configuration: Configuration | None = None,
    look: Callable[[Ground, Experiment], Locustfile] = Ground.look,
) -> Planned:
    """Executes the locustfile in a child to describe it, and touches nothing else. Raises UsageError."""
    find_scenario(experiment.scenario)
    on = ground(experiment, configuration)
    plan = on.plan(experiment, lambda: look(on, experiment))
    return Planned(experiment=experiment, plan=plan, stack=on.stack, running=on.running)


def refuse_sample_requests(planned: Planned) -> None:
    """Without a locustfile the requests are those of the sample API, and without a scale there may be 10,000 a second:
    nobody sends that to a service of his own without having said so. Raises UsageError."""
    load, asked = planned.plan.load, planned.experiment
    said = asked.scale is not None or asked.rate is not None or asked.users is not None
    if planned.plan.stack != "external" or said or load.locustfile != str(resource(*BUILT_IN)):
        return
    many = f"{load.rate:,g} a second" if load.rate is not None else f"by {load.users:,} users"
    raise UsageError(
        f"no --locustfile: the requests would be those of the sample API (POST /api/v1/predict and others), {many}",
        hint="name a file with requests of your own, or say with --scale or --rate how many of these to send",
    )


def own_stack(name: StackName, *, with_alerts: bool = False) -> Stack:
    """One of the stacks that the harness starts."""
    if name == "compose":
        from harness.stack.compose import ComposeStack

        return ComposeStack()
    return EmbeddedStack(with_alerts=with_alerts)


def lock_names(plan: Plan, running: StackUp | None) -> list[str]:
    """What a run must have for itself: its target and every resource that it changes.

    A stack that the run starts itself is nobody else's, so there is nothing to lock.
    """
    from harness.safety.locks.names import resource_names

    if running is None and plan.stack != "external":
        return []
    return resource_names(plan.load.host, [fault.change.dependency for fault in plan.faults])


def refuse_beside_living_run(plan: Plan) -> None:
    """Before an external system is looked at: raise Refused, naming it, while a run on this machine is at it."""
    from harness.safety.locks.local import refuse_beside_living
    from harness.safety.locks.names import declared_names

    if plan.stack == "external":
        refuse_beside_living(declared_names(plan.load.host, [fault.change.dependency for fault in plan.faults]))
