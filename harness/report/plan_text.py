"""A plan for people: the timeline, what is changed and how it is undone, the load and the targets."""

from __future__ import annotations

import msgspec

from harness.model.plan import Plan, PlannedFault
from harness.model.target_grammar import canonical
from harness.model.units import format_duration, format_percent
from harness.plan.loadplan import expected_mix
from harness.plan.phases import shortest_run
from harness.plan.warnings import scaled_sentence

BAR = 60


def plan_text(plan: Plan) -> str:
    """Several short sections; every duration with its unit, plain text without colour."""
    blocks = [_load(plan), _timeline(plan), _changes(plan), _targets(plan), _mix(plan)]
    if plan.warnings:
        blocks.append("Notes\n" + "\n".join(f"  - {text}" for text in plan.warnings))
    return "\n\n".join(block for block in blocks if block)


def _load(plan: Plan) -> str:
    load = plan.load
    rate = f"{load.rate:g} arrivals/s ({load.arrivals})" if load.rate is not None else "as fast as the users go"
    lines = [
        f"{plan.experiment}",
        f"  scenario   {plan.scenario.name}: {plan.scenario.summary}",
        f"  stack      {plan.stack}, target {load.host or 'its own sample API'}",
        f"  load       {load.model} model, {rate}, {load.users} users"
        + (f", up to {load.max_in_flight} at once" if load.model == "open" else ""),
        f"  seed       {load.seed}",
    ]
    sentence = scaled_sentence(plan)
    return "\n".join([*lines, f"  scale      {sentence}"] if sentence else lines)


def _timeline(plan: Plan) -> str:
    p = plan.phases
    rows = [
        ("warmup", 0.0, p.warmup_s, "ramp and warm-up; not judged"),
        ("baseline", p.warmup_s, p.baseline_s, "the healthy service; judged"),
        ("gap", p.warmup_s + p.baseline_s, None, f"until every baseline request has ended, at most {_d(p.gap_s)}"),
    ]
    start = p.warmup_s + p.baseline_s
    lines = ["Timeline"]
    lines += [
        f"  {_at(at):>10}  {name:<10} {_d(length) if length else '':<8} {text}" for name, at, length, text in rows
    ]
    lines.append(f"  {'+ gap':>10}  {'fault':<10} {_d(p.fault_s):<8} judged; at {_at(start)} plus the gap")
    lines += [_bar(plan, fault) for fault in plan.faults]
    lines.append(f"  {'':>10}  {'recovery':<10} {'':<8} until targets hold again, at most {_d(p.recovery_limit_s)}")
    soak = f", {_d(p.after_s - p.hold_s)} of it soak" if p.after_s > p.hold_s else ""
    lines.append(f"  {'':>10}  {'after':<10} {_d(p.after_s):<8} targets must hold; judged{soak}")
    lines.append(f"  {'':>10}  {'tail':<10} {_d(p.tail_s):<8} the last requests end")
    lines.append(f"  at least {_d(shortest_run(p))} in all")
    return "\n".join(lines)


def _bar(plan: Plan, fault: PlannedFault) -> str:
    """The fault within the fault phase, as a bar; a one-shot is a single mark."""
    scale = BAR / max(plan.phases.fault_s, 0.1)
    begin = min(BAR - 1, round(fault.at_s * scale))
    length = 1 if fault.for_s is None else max(1, round(fault.for_s * scale))
    length = min(length, BAR - begin)
    bar = "." * begin + ("!" if fault.for_s is None else "#" * length) + "." * (BAR - begin - length)
    when = f"@{_d(fault.at_s)}" + ("" if fault.for_s is None else f"+{_d(fault.for_s)}")
    return f"  {'':>10}  [{bar}] {fault.id} {when}"


def _changes(plan: Plan) -> str:
    if not plan.faults:
        return "Changes\n  none: a control run"
    lines = ["Changes, and how each is undone"]
    for fault in plan.faults:
        change = fault.change
        params = ", ".join(f"{name}={value}" for name, value in change.params.items())
        lines.append(f"  {fault.id}" + (f" ({params})" if params else ""))
        lines.append(f"    does    {change.does}")
        lines.append(f"    undo    {change.undoes}")
        lines.append(f"    proof   {change.proves}")
    return "\n".join(lines)


def _targets(plan: Plan) -> str:
    """One line a threshold, with the phases it must hold in."""
    phases: dict[tuple[str, bool], list[str]] = {}
    for target in plan.targets:
        text = canonical(msgspec.structs.replace(target, phase=None))
        phases.setdefault((text, target.primary), []).append(target.phase or "")
    lines = ["Targets"]
    for (text, primary), names in phases.items():
        where = ", ".join(name for name in names if name)
        lines.append(f"  {text:<28} {where:<24} {'' if primary else 'secondary: a warning'}".rstrip())
    return "\n".join(lines)


def _mix(plan: Plan) -> str:
    mix = expected_mix(plan.load)
    if not mix:
        return ""
    lines = ["Expected mix of tasks"]
    lines += [f"  {format_percent(share):>7}  {name}" for name, share in sorted(mix.items(), key=lambda m: -m[1])]
    return "\n".join(lines)


def _d(seconds: float) -> str:
    return format_duration(seconds)


def _at(seconds: float) -> str:
    return f"{seconds:g}s"
