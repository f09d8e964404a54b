"""A suite's plan for people: every experiment, how long all take, what is left out, what cannot be decided."""

from __future__ import annotations

from collections.abc import Iterable

from harness.model.units import format_duration, format_percent
from harness.plan.loadplan import expected_mix
from harness.plan.suite.suite_plan import PlannedExperiment, SuitePlan, Undecided
from harness.report.sentences.text import visible
from harness.report.terminal.plan import amount, load_text, wrapped
from harness.report.terminal.plan_alerts import expected, seen_by


def suite_plan_text(suite: SuitePlan, *, width: int = 100) -> str:
    many = f"{len(suite.experiments)} experiment{'' if len(suite.experiments) == 1 else 's'}"
    long = format_duration(round(suite.seconds))
    title = f"{visible(suite.name, 100)}: {many}, about {long} if the target recovers at once each time"
    blocks = [load_text(suite.base, width, title), _experiments(suite, width)]
    if any(one.plan.alerts is not None and one.plan.alerts.expected for one in suite.experiments):
        blocks.append(seen_by(suite.base))
    blocks.append(wrapped("Where the target does not come back by itself: ", visible(suite.reset, 500), width))
    if suite.left:
        blocks.append(
            "\n".join(["Left out", *(wrapped(f"  {visible(o.name, 60)}: ", o.why, width) for o in suite.left)])
        )
    if suite.undecided:
        needed = suite.undecided[0].needed
        lines = [f"May stay undecided: it takes {needed} requests of a name while the faults are on, none of them bad"]
        lines += [wrapped("  ", _undecided(one, suite), width) for one in suite.undecided]
        blocks.append("\n".join(lines))
    if suite.warnings:
        blocks.append("\n".join(["Notes", *(wrapped("  - ", visible(text, 1000), width) for text in suite.warnings)]))
    return "\n\n".join(blocks)


def _experiments(suite: SuitePlan, width: int) -> str:
    rules = suite.base.alerts.rules if suite.base.alerts is not None else ()
    wide = max(len(visible(one.name, 60)) for one in suite.experiments)
    lines = [f"  {'Experiments, in this order':<{wide + 4}}  {'baseline':>8}  {'fault':>6}  {'hold':>6}  {'in all':>6}"]
    for number, one in enumerate(suite.experiments, start=1):
        p = one.plan.phases
        soak = f"  and {_d(p.after_s - p.hold_s)} soak" if p.after_s > p.hold_s else ""
        lines.append(
            f"  {number:>3} {visible(one.name, 60):<{max(wide, 22)}}  {_d(p.baseline_s):>8}  {_d(p.fault_s):>6}  "
            f"{_d(p.hold_s):>6}  {_d(round(one.seconds)):>6}{soak}"
        )
        lines += [wrapped(f"        {what:<10} ", text, width) for what, text in _of(one) if text]
        lines += [wrapped("        alert      ", text, width) for text in expected(one.plan, rules)]
    return "\n".join(lines)


def _of(one: PlannedExperiment) -> Iterable[tuple[str, str]]:
    """What the name does not say."""
    faults = _list(
        f"{fault.spec.text or fault.id}{'' if not fault.at_s else f' at {_d(fault.at_s)}'}" for fault in one.plan.faults
    )
    yield "faults", "" if faults == one.name else faults or "none: a control run"
    if one.own_load:
        yield "own load", amount(one.plan.load)
    yield "targets", _list(one.targets)
    yield "may fail", _list(one.may_fail)
    yield "must hold", _list(one.must_hold)
    yield "stops when", _list(one.plan.abort_if)
    yield "weight", "" if one.weight == 1 else f"{one.weight:g}"


def _undecided(one: Undecided, suite: SuitePlan) -> str:
    if one.arrivals is None:
        return f"{visible(one.name, 100)}: no task of the locustfile is named like it, so that nothing is known of it"
    share = format_percent(expected_mix(suite.base.load)[one.name])
    faults = sum(bool(each.plan.faults) for each in suite.experiments)
    where = "every experiment" if len(one.experiments) == faults else _list(one.experiments)
    return f"{visible(one.name, 100)}, {share} of the load: at most about {one.arrivals:.0f} in {where}"


def _list(names: Iterable[str]) -> str:
    return ", ".join(visible(name, 100) for name in names)


def _d(seconds: float) -> str:
    return format_duration(seconds)
