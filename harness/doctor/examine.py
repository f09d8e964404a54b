"""The examination: everything that a run would look at, and what only shows when the application is at work.

Nothing is changed but what the requests of the locustfile change, of which those that may are held back unless they are
asked for; nothing is left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec.structs import replace

from harness.conductor.prepare import Ground, Planned, prepare, refuse_sample_requests
from harness.config.file import DEFAULT_TARGET, Configuration
from harness.doctor import requests
from harness.doctor.connections import watch
from harness.doctor.diagnosis import Diagnosis, DiagnosisLine, cannot, meaningless, ok, warn
from harness.doctor.machine import machine_lines
from harness.doctor.parts import TOXIPROXY, alert_lines, docker_lines, fault_lines, metrics_lines, part_lines
from harness.fault import registered
from harness.load.ipc.try_protocol import Tried
from harness.load.process.launcher import try_requests
from harness.model.errors import HarnessError, LoadError, Refused, UsageError
from harness.model.records.load import Locustfile
from harness.model.records.plan import Plan
from harness.model.records.stack import StackUp
from harness.plan.experiment import Experiment
from harness.plan.planner import bind
from harness.safety.locks.local import refuse_beside_living
from harness.safety.locks.names import declared_names
from harness.stack.external.check import Look
from harness.stack.external.stack import ExternalStack
from harness.suite.prepare import plan_suite, told_length

RUN = "run"


def examine(
    experiment: Experiment,
    configuration: Configuration | None,
    *,
    every: bool = False,
    fix: bool = False,
    told: Callable[[UsageError], str] = str,
    say: Callable[[str], None] = lambda _: None,
) -> Diagnosis:
    """every: send also requests that may change something. fix: make comments of those that are refused, in a Locust
    file that init wrote. told: how an error about an option is worded. say: hears
    what takes a moment. Raises UsageError where no system of the user's own is meant."""
    if experiment.host is None:
        raise UsageError(
            "the doctor looks at a system of your own, and none is declared",
            hint="[target] in harness.toml (harness init prints one), or --host URL",
        )
    config = configuration if configuration is not None and configuration.target is not None else None
    stack = ExternalStack(experiment.host, allow_hosts=experiment.allow_hosts, configuration=configuration)
    examination = _Examination(experiment, config, stack, every, fix, told, say)
    lines = sorted(examination.lines(), key=lambda line: examination.place(line.about))
    return Diagnosis(target=stack.url, config=config.shown if config is not None else None, lines=tuple(lines))


class _Examination:
    def __init__(
        self,
        experiment: Experiment,
        config: Configuration | None,
        stack: ExternalStack,
        every: bool,
        fix: bool,
        told: Callable[[UsageError], str],
        say: Callable[[str], None],
    ) -> None:
        self._experiment = experiment
        self._config = config
        self._stack = stack
        self._every = every
        self._fix = fix
        self._told = told
        self._locustfile: Locustfile | None = None
        self._say = say
        self._target = config.target.name if config is not None and config.target is not None else DEFAULT_TARGET

    def place(self, about: str) -> int:
        """Where lines about it stand: from the target inwards."""
        names = [one.name for one in self._stack.describe() if not one.target]
        order = [RUN, self._target, requests.ABOUT, "alerts", "docker", TOXIPROXY, *names]
        return order.index(about) if about in order else len(order)

    def lines(self) -> Iterator[DiagnosisLine]:
        try:
            refuse_beside_living(declared_names(self._stack.url, self._stack.describe()))
        except Refused as error:
            # What another run has broken just now is not to be taken for the system's own state.
            yield cannot(RUN, error)
            return
        planned: Planned | None = None
        try:
            planned = prepare(self._experiment, self._config, self._describe)
            refuse_sample_requests(planned)
        except UsageError as error:
            yield cannot(RUN, error, self._told(error))
        self._say("looking at each part")
        found = self._stack.look()
        yield from docker_lines(self._config, self._experiment.allow_hosts)
        yield from self._parts(found)
        if not [one for one in self._stack.describe() if not one.target]:
            yield warn(
                RUN,
                "no dependency is declared, so that nothing can be taken from the target",
                "faults on the target itself are all that there is",
                "a table [dependencies.NAME] in harness.toml",
            )
        yield from alert_lines(self._experiment.alerts, self._experiment.allow_hosts)
        if found.target is not None:
            yield from self._at_work(found, planned)
        faults = registered()
        for dependency in found.dependencies:
            yield from fault_lines(dependency, faults)
        if planned is not None:
            yield from self._asked(found, planned.plan)
            yield from machine_lines(planned.plan.load)
            yield from self._suite()

    def _parts(self, found: Look) -> Iterator[DiagnosisLine]:
        yield from part_lines(found, self._config, self._target)
        yield from metrics_lines(found, self._target)

    def _at_work(self, found: Look, planned: Planned | None) -> Iterator[DiagnosisLine]:
        """The requests, and who is connected to what meanwhile."""
        assert found.target is not None
        up = StackUp(name="external", target=found.target, dependencies=found.dependencies)
        tried: list[Tried] = []
        broken: list[HarnessError] = []

        def send() -> bool:
            assert planned is not None
            try:
                load = replace(planned.plan.load, host=up.target.url, addresses=up.target.addresses)
                tried.append(try_requests(load, every=self._every))
            except LoadError as error:
                broken.append(error)
            return not broken

        sending = planned is not None and not self._refused(planned)
        self._say(
            "sending each request of the mix once, and looking who is connected"
            if sending
            else "looking who is connected"
        )
        watched = watch(up, send if sending else None)
        for error in broken[:1]:
            yield meaningless(requests.ABOUT, str(error), "", "run the locustfile by itself: locust --headless")
        if tried:
            yield from requests.lines_of(tried[0])
            if self._fix and planned is not None:
                yield from requests.taken_out(tried[0], planned.plan.load.locustfile)
        held_back = any(one.held_back or one.unasked for one in tried[:1])
        for one in watched:
            yield one.line(sent=any(each.requests for each in tried), held_back=held_back)

    def _asked(self, found: Look, plan: Plan) -> Iterator[DiagnosisLine]:
        """Faults that are planned, and cannot be had once more is known of their dependencies."""
        known = {one.name for one in found.dependencies}
        if found.target is None or not known >= {fault.spec.dependency for fault in plan.faults}:
            return  # a line says why
        up = StackUp(name="external", target=found.target, dependencies=found.dependencies)
        try:
            bind(plan, up, registered())
        except UsageError as error:
            yield cannot(RUN, error)

    def _refused(self, planned: Planned) -> bool:
        try:
            refuse_sample_requests(planned)
        except UsageError:
            return True
        return False

    def _describe(self, on: Ground, experiment: Experiment) -> Locustfile:
        """Once: the suite has the same."""
        if self._locustfile is None:
            self._locustfile = on.look(experiment)
        return self._locustfile

    def _suite(self) -> Iterator[DiagnosisLine]:
        if self._config is None:
            return  # nothing is declared that could be broken
        try:
            suite = plan_suite(replace(self._experiment, faults=(), timeline=()), self._config, look=self._describe)
        except UsageError as error:
            yield warn("suite", f"the standard suite cannot be planned: {self._told(error)}", "", error.hint or "")
            return
        yield ok(
            "suite", f"the standard suite: {told_length(suite)}", "where every target recovers at once; harness suite"
        )
