"""What must be the same in all runs that are compared, and what else is not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from harness.analysis.suite.suite_file import SUITE
from harness.model.errors import UsageError
from harness.model.jsonl import encode
from harness.model.records.many_runs.group import Difference
from harness.model.records.plan import Plan
from harness.model.units import format_duration

_LONGEST = 100
UNKNOWN = "not on record"


def refuse_others(first: Path, plan: Plan, others: Iterable[tuple[Path, Plan]]) -> None:
    """Raises UsageError for a run that is of another experiment than the first: its harm would be of something else."""
    wanted = _experiment(plan)
    for path, other in others:
        for what, value in _experiment(other).items():
            if value != wanted[what]:
                hint = "scenario, load, faults, phases and load file must be the same"
                if path.parent == first.parent and (path.parent / SUITE).exists():
                    hint = (
                        "they are experiments of one suite: name the same one of both suites; whole suites are "
                        "compared by harness suite accept and harness history --trend score"
                    )
                raise UsageError(
                    f"{path} cannot be compared with {first}: {what} {_short(value)} and {_short(wanted[what])}",
                    hint=hint,
                )


def same_experiment(one: Plan, other: Plan) -> bool:
    return _experiment(one) == _experiment(other)


def differences(base: Sequence[Plan], new: Sequence[Plan]) -> tuple[Difference, ...]:
    """What of the rest has more than one value in all."""
    tables = [[_rest(plan) for plan in side] for side in (base, new)]
    names = dict.fromkeys(name for side in tables for table in side for name in table)
    found = []
    for name in names:
        here, there = (tuple(sorted({table.get(name, UNKNOWN) for table in side})) for side in tables)
        if len({*here, *there}) > 1:
            found.append(Difference(what=name, base=here, new=there))
    return tuple(found)


def other_arrivals(base: Sequence[Plan], new: Sequence[Plan]) -> tuple[Difference, ...]:
    """Of pairs, whose two runs should have the same arrivals drawn."""
    unlike = [(here.seed, there.seed) for here, there in zip(base, new, strict=True) if here.seed != there.seed]
    if not unlike:
        return ()
    here, there = (tuple(f"{seed}" for seed in side) for side in zip(*unlike, strict=True))
    return (Difference(what="seed of the arrivals, within pairs", base=here, new=there),)


def _experiment(plan: Plan) -> dict[str, str]:
    load, phases = plan.load, plan.phases
    shape = f"{load.users} users, {load.spawn_rate:g} a second"
    if load.rate is not None:
        shape = f"{load.rate:g} a second, {load.arrivals}"
    elif load.jump_from is not None:
        shape += f", from {load.jump_from}"
    faults = "; ".join(
        f"{one.id}: {one.change.dependency.name} {one.change.kind} {_json(dict(sorted(one.change.params.items())))}"
        f" at {one.at_s:g} s" + ("" if one.for_s is None else f" for {one.for_s:g} s")
        for one in sorted(plan.faults, key=lambda one: (one.at_s, one.id))
    )
    return {
        "scenario": plan.scenario.name,
        "load model": load.model,
        "rate": shape,
        "faults": faults or "none",
        "phases": ", ".join(
            f"{name} {format_duration(length)}"
            for name, length in (("baseline", phases.baseline_s), ("fault", phases.fault_s), ("hold", phases.hold_s))
        ),
        "request mix": "; ".join(
            f"{one.name} {one.weight:g} {one.fixed_count} {_json(one.tasks)}"
            for one in sorted(load.classes, key=lambda one: one.name)
        ),
        "load file": load.locustfile_sha256 or UNKNOWN,
        "arguments of the load file": " ".join(load.locust_args) or "none",
    }


def _rest(plan: Plan) -> dict[str, str]:
    load, phases, origin = plan.load, plan.phases, plan.provenance
    found = {
        "stack": plan.stack,
        # A stack of ours has another address in each session.
        "target": load.host if plan.stack == "external" else plan.stack,
        "targets": ", ".join(target.text for target in plan.targets),
        "warmup": format_duration(phases.warmup_s),
        "after the hold": format_duration(phases.after_s - phases.hold_s),
        "phases that may go on": ", ".join(phases.extend) or "none",
        "request timeout": format_duration(load.request_timeout_s),
        "most in flight": f"{load.max_in_flight}",
        "load processes": f"{load.workers}",
    }
    if origin is None:
        return found
    found |= {
        "machine": origin.machine,
        "processors": f"{origin.cpus}",
        "memory": f"{origin.memory_bytes}",
        "Python": origin.python,
        "harness": origin.harness,
        "target version": origin.target_version or UNKNOWN,
        "git": origin.git or UNKNOWN,
        **{f"version of {name}": version for name, version in origin.versions.items()},
    }
    return found


def _json(value: object) -> str:
    return encode(msgspec.to_builtins(value)).decode()


def _short(value: str) -> str:
    return value if len(value) <= _LONGEST else f"{value[:_LONGEST]}..."
