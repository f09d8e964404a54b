"""A plan for people: the timeline, what is changed and how it is undone, the load and the targets."""

from __future__ import annotations

import textwrap

import msgspec

from harness.analysis.rules.deciding import Tells, tells
from harness.model.records.faults import Address
from harness.model.records.load import LoadPlan
from harness.model.records.plan import Plan, PlannedFault
from harness.model.records.targets import Target
from harness.model.resources import resource
from harness.model.target_grammar import canonical
from harness.model.units import format_duration, format_percent
from harness.plan.loadplan import expected_mix
from harness.plan.phases import MOST_EXTENDED, longest_run, shortest_run
from harness.plan.warnings import scaled_sentence
from harness.report.sentences.text import visible
from harness.report.terminal.plan_alerts import alerts
from harness.report.terminal.plan_blast_radius import blast_radius
from harness.report.terminal.timeline import plan_timeline


def plan_text(plan: Plan, *, width: int = 100, ascii_only: bool = False) -> str:
    """Several short sections; every duration with its unit, plain text without colour.

    width: columns of the drawing; ascii_only: for terminals that show nothing else.
    """
    blocks = [
        load_text(plan, width, plan.experiment),
        _timeline(plan, width, ascii_only),
        _changes(plan, width),
        blast_radius(plan),
        _targets(plan, width),
        alerts(plan),
        _mix(plan),
    ]
    if plan.warnings:
        blocks.append("Notes\n" + "\n".join(wrapped("  - ", text, width) for text in plan.warnings))
    return "\n\n".join(block for block in blocks if block)


def load_text(plan: Plan, width: int, title: str) -> str:
    """What is sent where, below a title."""
    load = plan.load
    lines = [
        title,
        f"  scenario   {plan.scenario.name}: {plan.scenario.summary}",
        f"  stack      {plan.stack}, target {load.host or 'its own sample API'}",
        f"  load       {amount(load)}",
        wrapped("  requests   ", _requests(load), width),
        wrapped("  made by    ", _workers(load), width),
        f"  seed       {load.seed}",
    ]
    sentence = scaled_sentence(plan)
    return "\n".join([*lines, wrapped("  scale      ", sentence, width)] if sentence else lines)


def amount(load: LoadPlan) -> str:
    """How much is sent."""
    rate = f"{load.rate:g} arrivals/s ({load.arrivals})" if load.rate is not None else "as fast as the users go"
    jump = f", from {load.jump_from} of them" if load.jump_from is not None else ""
    most = f", up to {load.max_in_flight} at once" if load.model == "open" else ""
    return f"{load.model} model, {rate}, {load.users} users{jump}{most}"


def _requests(load: LoadPlan) -> str:
    """Whose they are, and how many."""
    many = f"{load.rate:,g} task starts/s" if load.rate is not None else f"as many as {load.users:,} users make"
    if load.locustfile == str(resource("locustfiles", "anomaly.py")):
        return f"those of the sample API (built in; name your own with --locustfile), {many}"
    first, *more = load.locustfile.split(",")
    files = f" and of {len(more)} more Locust file{'s' if len(more) > 1 else ''}" if more else ""
    return f"those of {first}{files}, {many}"


def _workers(load: LoadPlan) -> str:
    many = f"{load.local_workers} process{'' if load.local_workers == 1 else 'es'} on this machine"
    if load.remote is None:
        return f"{many} ({load.workers_why})" if load.workers_why else many
    far = f"{load.remote.workers} remote worker{'' if load.remote.workers == 1 else 's'}"
    joined = f"{far}, to join on {Address(load.remote.bind_host, load.remote.port)}"
    return joined + (f", and {many}" if load.local_workers else "")


def _timeline(plan: Plan, width: int, ascii_only: bool) -> str:
    p = plan.phases
    soak = f", {_d(p.after_s - p.hold_s)} of it soak" if p.after_s > p.hold_s else ""
    longer: dict[str, str] = {
        name: f"; up to {_d(MOST_EXTENDED * p.judged[name])} to be sure of a target" for name in p.extend
    }
    rows = [
        ("warmup", p.warmup_s, f"arrivals ramp up for {_d(plan.load.ramp_s)}, then warm-up; not judged"),
        ("baseline", p.baseline_s, f"the healthy service; judged{longer.get('baseline', '')}"),
        ("gap", None, f"until every baseline request has ended, at most {_d(p.gap_s)}; not judged"),
        ("fault", p.fault_s, f"from there to the last undo; judged{longer.get('fault', '')}"),
        ("recovery", None, f"until targets hold again, at most {_d(p.recovery_limit_s)}"),
        ("after", p.after_s, f"targets must hold; judged{soak}{longer.get('after', '')}"),
        ("tail", p.tail_s, "the last requests end"),
    ]
    lines = [f"Timeline: {_d(shortest_run(p))} if the service recovers at once, at most {_d(longest_run(p))}", ""]
    lines += [plan_timeline(plan, width=width, ascii_only=ascii_only), ""]
    lines += [
        wrapped(f"  {name:<10} {_d(length) if length is not None else '':<8} ", text, width)
        for name, length, text in rows
    ]
    return "\n".join(lines)


def _changes(plan: Plan, width: int) -> str:
    """Each change once, with everything that makes it: a flapping fault is one change made many times."""
    if not plan.faults:
        return "Changes\n  none: a control run"
    groups: dict[tuple[str, str], list[PlannedFault]] = {}
    for fault in plan.faults:
        groups.setdefault((fault.spec.name, fault.change.does), []).append(fault)
    lines = ["Changes, and how each is undone"]
    for faults in groups.values():
        change = faults[0].change
        params = ", ".join(f"{name}={value}" for name, value in change.params.items())
        times = f", {len(faults)} times" if len(faults) > 1 else ""
        lines.append(f"  {faults[0].id}" + (f" ({params})" if params else "") + times)
        lines.append(wrapped("    does    ", change.does, width))
        lines.append(wrapped("    undo    ", change.undoes, width))
        lines.append(wrapped("    proof   ", change.proves, width))
    return "\n".join(lines)


def _targets(plan: Plan, width: int) -> str:
    """One line a threshold, with the phases it must hold in."""
    phases: dict[tuple[str, bool], list[str]] = {}
    for target in plan.targets:
        text = canonical(msgspec.structs.replace(target, phase=None))
        phases.setdefault((text, target.primary), []).append(target.phase or "")
    lines = ["Targets"]
    for (text, primary), names in phases.items():
        where = ", ".join(name for name in names if name)
        lines.append(f"  {text:<28} {where:<24} {'' if primary else 'secondary: a warning'}".rstrip())
    lines += _told_apart(plan, width)
    for name, dependencies in plan.may_fail_with.items():
        lines.append(f"  {visible(name, 60)} may fail with {', '.join(map(visible, dependencies))}")
    for name, dependencies in plan.independent_of.items():
        lines.append(f"  {visible(name, 60)} must not need {', '.join(map(visible, dependencies))}")
    if plan.abort_if:
        lines += ["", "Stops at once and fails when", *(f"  {condition}" for condition in plan.abort_if)]
    return "\n".join(lines)


def _told_apart(plan: Plan, width: int) -> list[str]:
    """What the planned requests can tell of each proportion, in the phase that has the fewest."""
    fewest: dict[str, tuple[Tells, Target]] = {}
    for target in plan.targets:
        found = tells(target, plan) if target.primary else None
        if found is None:
            continue
        text = canonical(msgspec.structs.replace(target, phase=None))
        if text not in fewest or found.n < fewest[text][0].n:
            fewest[text] = found, target
    lines = []
    for text, (found, target) in fewest.items():
        if found.held is None:
            held = "held by none"
        else:
            held = f"held up to a true share of {format_percent(found.held)} bad requests"
        if found.held_later is not None:
            held += f" ({format_percent(found.held_later)} where the phase goes on)"
        said = f"{held}, broken from {format_percent(found.broken)} on ({target.phase}, {found.n:,} requests)"
        lines.append(wrapped(f"  {text}: ", said, width))
    return ["", "What so many requests tell in 19 of 20 runs; between is INCONCLUSIVE", *lines] if lines else []


def _mix(plan: Plan) -> str:
    mix = expected_mix(plan.load)
    if not mix:
        return ""
    lines = ["Expected mix of tasks"]
    lines += [f"  {format_percent(share):>7}  {name}" for name, share in sorted(mix.items(), key=lambda m: -m[1])]
    return "\n".join(lines)


def wrapped(head: str, text: str, width: int) -> str:
    """Words beside a heading, continued under themselves where they do not fit."""
    return textwrap.fill(
        text,
        max(width, 60),
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _d(seconds: float) -> str:
    return format_duration(seconds)
