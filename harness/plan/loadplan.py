"""From scenario, scale and locustfile to what the load processes are told."""

from __future__ import annotations

import math
import re

import msgspec

from harness.model.errors import UsageError, unknown
from harness.model.records.load import LoadPlan, Locustfile, Model, Scenario, UserClass
from harness.plan.experiment import Experiment
from harness.plan.workers import shared

MIN_USERS = 10
MIN_RATE = 20.0
MAX_IN_FLIGHT = 20_000
MAX_RATE = 200_000.0
LOCAL_SCALE = 0.02
"""Default on stacks that share one machine with the load."""
JUMP_FROM = 0.1
"""Share of the users that `spike` begins with."""
_METHOD = re.compile(r"^[A-Z]+ +")
"""Before the path, in a request name."""


def scale_of(request: Experiment, scenario: Scenario) -> float:
    """The scale in force. Raises UsageError outside 0 < scale <= 1."""
    if request.scale is not None:
        scale = request.scale
    elif request.rate is not None and scenario.rate is not None:
        scale = min(1.0, request.rate / scenario.rate)  # so many users as such a rate wants, not those of the full load
    else:
        scale = 1.0 if request.stack == "external" else LOCAL_SCALE
    if not (math.isfinite(scale) and 0 < scale <= 1):
        raise UsageError(
            f"{scale:g} is not a share of the full load", hint="above 0, at most 1 (0.02 is 2 %)", field="scale"
        )
    return scale


def model_of(request: Experiment, scenario: Scenario) -> Model:
    """Open where the scenario has a rate (or one is given), else closed."""
    wanted: Model = request.model or ("open" if scenario.rate is not None or request.rate is not None else "closed")
    if wanted == "open" and scenario.rate is None and request.rate is None:
        raise UsageError(
            f"scenario {scenario.name!r} has no rate, so it has no open model",
            hint="give one: --rate 500",
            field="scenario",
            lead="",
        )
    if wanted == "open" and scenario.jump:
        raise UsageError(
            f"scenario {scenario.name!r} is a jump in users: it runs in the closed model only",
            field="scenario",
            lead="",
        )
    if wanted == "closed" and request.rate is not None:
        raise UsageError("belongs to the open model", hint="leave out --rate or --model closed", field="rate")
    return wanted


def choose_classes(file: Locustfile, scenario: Scenario, wanted: tuple[str, ...]) -> tuple[UserClass, ...]:
    """The user classes of a run, in the file's order.

    The scenario's own choice applies only where the file has those classes, so that any Locust file works.
    Raises UsageError for an unknown class.
    """
    by_name = {user_class.name: user_class for user_class in file.classes}
    for name in wanted:
        if name not in by_name:
            raise unknown("user class", name, by_name, field="user_classes", lead=": ")
    names = set(wanted) or (set(scenario.user_classes) & set(by_name)) or set(by_name)
    return tuple(c for c in file.classes if c.name in names)


def load_plan(request: Experiment, scenario: Scenario, *, host: str, seed: int) -> LoadPlan:
    """The scaled load, whatever its users do. Raises UsageError for values that no load can have."""
    if request.rate is not None:
        _between("rate", request.rate, 1.0, MAX_RATE)
    scale = scale_of(request, scenario)
    model = model_of(request, scenario)
    users = request.users if request.users is not None else max(MIN_USERS, round(scenario.users * scale))
    spawn_rate = request.spawn_rate if request.spawn_rate is not None else max(1.0, scenario.spawn_rate * scale)
    rate = None
    if model == "open":
        rate = request.rate if request.rate is not None else max(MIN_RATE, (scenario.rate or 0.0) * scale)
    _between("users", users, 1, 1_000_000)
    _between("spawn_rate", spawn_rate, 0.1, 1_000_000)
    _between("request_timeout_s", request.request_timeout_s, 0.05, 600)
    most = request.max_in_flight
    if most is not None:
        _between("max_in_flight", most, 1, 100_000)
    else:
        most = max(users, min(math.ceil((rate or 0.0) * request.request_timeout_s), MAX_IN_FLIGHT))
    # Unscaled users / unscaled spawn rate, so that a scaled run ramps as the full one would.
    ramp_s = (request.users if request.users is not None else scenario.users) / (
        request.spawn_rate if request.spawn_rate is not None else scenario.spawn_rate
    )
    workers, why, remote = shared(request, rate=rate, users=users, classes=(), host=host)
    return LoadPlan(
        allow_hosts=request.allow_hosts,
        model=model,
        host=host,
        locustfile="",
        classes=(),
        seed=seed,
        users=users,
        spawn_rate=spawn_rate,
        ramp_s=ramp_s,
        rate=rate,
        arrivals=request.arrivals,
        max_in_flight=most,
        request_timeout_s=request.request_timeout_s,
        workers=workers,
        workers_why=why,
        remote=remote,
        trace=request.trace,
        jump_from=max(1, round(users * JUMP_FROM)) if scenario.jump else None,
    )


def with_locustfile(load: LoadPlan, request: Experiment, scenario: Scenario, file: Locustfile) -> LoadPlan:
    """The same with its users. Raises UsageError where the file has none that could make this load."""
    classes = choose_classes(file, scenario, request.user_classes)
    if load.model == "open" and classes and not sum(c.weight for c in classes) > 0:
        raise UsageError(
            f"locustfile {file.path}: {', '.join(c.name for c in classes)}: weight 0 is no share of the arrivals",
            hint="give a class a weight, or --model closed, where fixed_count counts",
        )
    workers, why, remote = shared(request, rate=load.rate, users=load.users, classes=classes, host=load.host)
    return msgspec.structs.replace(
        load,
        locustfile=file.path,
        locustfile_sha256=file.sha256,
        locust_args=request.locust_args,
        tags=request.tags,
        exclude_tags=request.exclude_tags,
        classes=classes,
        workers=workers,
        workers_why=why,
        remote=remote,
    )


def share_of_full_load(load: LoadPlan, scenario: Scenario) -> float:
    """What the load really is of the scenario's, 1.0 = all of it: floors, --rate and --users change it too."""
    if load.rate is not None:
        return round(load.rate / scenario.rate, 6) if scenario.rate else 1.0
    return round(load.users / scenario.users, 6)


def _between(field: str, value: float, least: float, most: float) -> None:
    if not (math.isfinite(value) and least <= value <= most):
        raise UsageError(f"{value:g} is out of range", hint=f"from {least:g} to {most:,.10g}", field=field)


def expected_mix(load: LoadPlan) -> dict[str, float]:
    """Share of each task among all task starts, as the plan intends it: "Class.task" -> 0..1.

    Open model: class weights are shares of arrivals. Closed: shares of users, so a class's share of task
    starts also depends on its wait; where the wait is known the mean wait weighs it, assuming fast replies.
    """
    weights: dict[str, float] = {}
    for user_class in load.classes:
        weight = user_class.weight
        if load.model == "closed" and user_class.wait_s is not None:
            weight /= max(sum(user_class.wait_s) / 2, 0.001)
        weights[user_class.name] = weight
    total = sum(weights.values()) or 1.0
    return {
        f"{user_class.name}.{task.name}": weights[user_class.name] / total * task.share
        for user_class in load.classes
        for task in user_class.tasks
    }


def share_of_name(load: LoadPlan, name: str) -> float:
    """Of all task starts; 1 where nothing is known."""
    return known_share(load, name) or 1.0


def known_share(load: LoadPlan, name: str) -> float | None:
    """Request names are known only while running; tasks that are named alike are the best guess. One is like
    `GET /orders/{id}` where its name has the words of the path's last fixed part: `Shopper.list_orders`. None: no task
    is."""
    mix = expected_mix(load)
    alike = [share for task, share in mix.items() if name in task]
    if not alike:
        path = _METHOD.sub("", name).partition("?")[0]
        parts = [part for part in path.split("/") if part and not part.startswith((":", "{", "<"))]
        wanted = _words(parts[-1]) if parts else set()
        alike = [share for task, share in mix.items() if wanted and wanted <= _words(task.partition(".")[2])]
    return sum(alike) or None


def _words(text: str) -> set[str]:
    return set(re.findall(r"[^\W_]+", text.lower()))
