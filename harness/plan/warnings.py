"""What a plan cannot show, said before the run rather than after it."""

from __future__ import annotations

import math
from pathlib import Path

from harness.model.records.load import LoadPlan, Locustfile
from harness.model.records.metrics import ALLOWED_OVER
from harness.model.records.plan import Plan
from harness.model.records.targets import Target
from harness.model.target_grammar import format_limit
from harness.model.units import format_duration, format_percent
from harness.plan.experiment import Experiment
from harness.plan.files.entries import RandomFaults
from harness.plan.loadplan import share_of_name
from harness.plan.phases import MIN_FAULT_S, MOST_EXTENDED, shortest_run

TELLING_BAD = 60
"""Bad requests in each of two phases from which "no more than twice as many" can be told of an unchanged service."""
USUAL_ERRORS = 0.01
"""A plan cannot know what baseline will show; a service that meets the default target has at most this."""


def allowed_proportion(target: Target) -> float | None:
    """The proportion a target allows to be bad: p95 -> 0.05, error_rate < 1% -> 0.01; None for others."""
    if target.traits.share and not target.of_baseline:
        return target.value
    return ALLOWED_OVER.get(target.metric)


def needed_requests(p: float, looks: int = 1) -> int:
    """Fewest requests that can decide a proportion target: n >= ln 0.05 / ln(1 - p), at each of two looks with half
    that chance."""
    return math.ceil(math.log(0.05 / looks) / math.log(1 - p)) if 0 < p < 1 else 1


def plan_warnings(plan: Plan, request: Experiment) -> tuple[str, ...]:
    """Sentences for people; none of them stops the run."""
    found: list[str] = []
    need = shortest_run(plan.phases)
    if request.run_time_s is not None and need > request.run_time_s:
        found.append(
            f"the phases need {format_duration(need)} even with an immediate recovery: the run time of "
            f"{format_duration(request.run_time_s)} will be exceeded"
        )
    if request.seed is None and any(isinstance(entry, RandomFaults) for entry in request.timeline):
        found.append(f"the drawn faults are new in every run; to draw these again: --seed {plan.seed}")
    found += _too_short_to_see(plan)
    if plan.load.rate is not None:
        found += _undecidable(plan, plan.load.rate)
        found += _thin_comparisons(plan, plan.load.rate)
        if plan.load.rate < 50 and plan.faults:
            found.append(
                f"{plan.load.rate:g} RPS is a low load: "
                "a partial outage may be too thin to place the instant of recovery"
            )
    return tuple(found)


def _too_short_to_see(plan: Plan) -> list[str]:
    """The fault phase is judged as a whole: faults that are on for a small part of it hide in its percentiles."""
    spans = sorted((f.at_s, f.at_s + f.for_s) for f in plan.faults if f.for_s is not None)
    on_s, until = 0.0, 0.0
    for start, end in spans:
        on_s += max(0.0, end - max(start, until))
        until = max(until, end)
    length = plan.phases.fault_s
    if not spans or on_s >= max(MIN_FAULT_S, length / 10):
        return []
    return [
        f"faults are on for {format_duration(on_s)} of the {format_duration(length)} of the fault phase: its "
        f"percentiles and error rate are mostly those of a healthy service"
    ]


def _undecidable(plan: Plan, rate: float) -> list[str]:
    found = []
    for target in plan.targets:
        p = allowed_proportion(target)
        if p is None or target.phase is None or not target.primary:
            continue
        share = 1.0 if target.name is None else share_of_name(plan.load, target.name)
        expected = rate * plan.phases.judged[target.phase] * share
        goes_on = target.phase in plan.phases.extend
        needed = needed_requests(p, 2 if goes_on else 1)
        if expected * (MOST_EXTENDED if goes_on else 1) < needed:
            found.append(
                f"target '{target.text}' needs {needed} requests to be decided; about {expected:.0f} are planned"
                + (f", {MOST_EXTENDED * expected:.0f} where the phase goes on" if goes_on else "")
            )
    return found


def _thin_comparisons(plan: Plan, rate: float) -> list[str]:
    """A relative limit compares two counts of bad requests, and small ones tell little of each other."""
    found = []
    for target in plan.targets:
        alone = target.relative == "baseline" and target.other is None and not target.plus
        if not (alone and target.primary and target.phase and target.op in ("<", "<=")):
            continue
        if not target.traits.watched:
            continue
        p = ALLOWED_OVER.get(target.metric, USUAL_ERRORS)
        share = 1.0 if target.name is None else share_of_name(plan.load, target.name)
        requests = rate * share * min(plan.phases.judged[target.phase], plan.phases.baseline_s)
        if p * requests < TELLING_BAD:
            other = "0.5%" if target.traits.share else "baseline + 50ms"
            needed = format_percent(TELLING_BAD / requests)
            found.append(
                f"target '{target.text}' compares two counts of bad requests, and {TELLING_BAD} in each phase are "
                f"needed to tell them apart: {needed} of the about {requests:.0f} planned. An unchanged service will "
                f"mostly be undecided; write for example max({format_limit(target)}, {other})"
            )
    return found


def is_scaled(plan: Plan) -> bool:
    """Whether it sends less than its scenario means. The scenarios are the sample API's: of the requests of somebody's
    own service nobody knows what the full load is."""
    whose = Path(plan.load.locustfile).name == "anomaly.py" or plan.stack != "external"
    return plan.scale < 1 and whose


def scaled_sentence(plan: Plan) -> str | None:
    """What a scaled run must say of itself."""
    if not is_scaled(plan):
        return None
    return (
        f"at {format_percent(plan.scale)} of the {plan.scenario.name} load; this does not show that the full load holds"
    )


def file_notes(file: Locustfile, load: LoadPlan) -> tuple[str, ...]:
    """What of a Locust file is not in force, or not as under Locust alone: sentences, of classes that take part."""
    found = [
        f"the load shape {name} is ignored: scenario and options decide how many users there are"
        for name in file.shapes
    ]
    total = sum(one.weight for one in load.classes) or 1.0
    for one in load.classes:
        if one.fixed_count and load.model == "open":
            found.append(
                f"fixed_count = {one.fixed_count} of {one.name} is ignored in the open model: by its weight it gets "
                f"{format_percent(one.weight / total)} of the arrivals; --model closed keeps it"
            )
        elif one.fixed_count:
            found.append(f"fixed_count of {one.name} is kept: {one.fixed_count} users")
        if one.host is not None and one.host.rstrip("/") != load.host.rstrip("/"):
            found.append(
                f"the host {one.host} of {one.name} is ignored: its requests go to {load.host or 'the target'}, "
                "as with Locust's --host"
            )
    return (*found, *file.notes)
