"""Two versions of a target in pairs: in each an A and a B in random order with the same arrivals, then the comparison.

Each run is a session of its own, from its stack and locks to its report: a load that goes on cannot change to another
target or to other arrivals.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec
from msgspec.structs import replace

from harness.compare.compare import EXIT_CODES, compare
from harness.compare.groups import SIDES
from harness.conductor.prepare import Planned
from harness.conductor.run import run_planned
from harness.conductor.session import make_run_dir
from harness.conductor.signals import Signals
from harness.model.clock import wall
from harness.model.errors import HarnessError, UsageError
from harness.model.exit_codes import ExitCode
from harness.model.files import replace_file
from harness.model.jsonl import encode
from harness.model.records.many_runs.group import Comparison, Group, GroupRun
from harness.model.records.plan import Plan
from harness.model.units import format_duration
from harness.plan.phases import shortest_run
from harness.suite.repeat import as_given, check_times, save_group

COMPARISON = "comparison.json"
JUDGED = (ExitCode.PASS, ExitCode.FAIL, ExitCode.INCONCLUSIVE)

Label = Literal["A", "B"]
Say = Callable[[str], None]


class Drawn(msgspec.Struct, frozen=True, kw_only=True):
    """One pair: which version comes first, and the seed of the arrivals of both."""

    order: tuple[Label, Label]
    seed: int


class VersusEnded(msgspec.Struct, frozen=True, kw_only=True):
    """comparison: null where a run ended otherwise than judged, or nothing could be compared; problem: why."""

    folder: Path
    exit_code: int
    comparison: Comparison | None = None
    problem: str = ""


def draw(pairs: int, seed: int) -> tuple[Drawn, ...]:
    """The same for the same seed; of two versions each comes first with the same chance, whatever came before."""
    source = random.Random(f"{seed} pairs")
    orders: tuple[tuple[Label, Label], ...] = (("A", "B"), ("B", "A"))
    return tuple(Drawn(order=source.choice(orders), seed=source.getrandbits(32)) for _ in range(pairs))


def told(base: Planned, pairs: int, name: str, declared: str) -> tuple[str, ...]:
    """What will be done. The least that it takes: every target recovers at once, and servers start in no time."""
    least = format_duration(round(2 * pairs * shortest_run(as_given(base.plan).phases)))
    return (
        f"{pairs} pairs: A is the target as given, B is {name} ({declared}). {2 * pairs} runs take {least} at least",
        f"Which of a pair comes first, and the arrivals of both, are drawn from seed {base.plan.seed}",
    )


def run_pairs(
    base: Planned,
    other: Planned,
    pairs: int,
    *,
    name: str,
    declared: str,
    out: Path,
    view: str,
    command: str,
    signals: Signals,
    say: Say,
) -> VersusEnded:
    """base, other: A and B, both checked. name, declared: of B. Raises UsageError before anything was touched."""
    check_times(pairs)
    seed = base.plan.seed
    stamp, what = base.plan.experiment.split("-", 1)
    folder = make_run_dir(out, f"{stamp}-versus")
    (folder / "logs").rmdir()
    group = Group(kind="versus", runs=(), version=name, declared=declared, seed=seed)
    for number, drawn in enumerate(draw(pairs, seed), start=1):
        for label in drawn.order:
            side = SIDES[label]
            planned = base if label == "A" else other
            plan = _plan(planned.plan, f"{stamp}-{what}-{number:02d}-{side}", drawn.seed)
            say(f"pair {number} of {pairs}: {label}{'' if label == 'A' else f' ({name})'}")
            began = bool(group.runs)
            try:
                ended = run_planned(
                    replace(planned, plan=plan), out=folder / side, view=view, command=command, signals=signals
                )
                run = GroupRun(directory=f"{side}/{ended.run_dir.name}", label=label, pair=number)
                group = replace(group, runs=(*group.runs, run))
                save_group(folder, group)
                code, why = ended.result.exit_code, ended.problem or next(iter(ended.result.reasons), "")
            except (HarnessError, OSError) as error:
                if not began and isinstance(error, UsageError):
                    _remove(folder)
                    raise
                code, why = int(getattr(error, "exit_code", ExitCode.HARNESS_FAILED)), str(error)
            if code in JUDGED and not signals.count:
                said = ended.result.verdict.upper()
                say(f"pair {number} of {pairs}: {label}: {why if why.startswith(said) else f'{said}: {why}'}")
                continue
            if code in JUDGED:
                code, why = int(ExitCode.INTERRUPTED), "it was interrupted"
            if code == ExitCode.USAGE and began:
                code = int(ExitCode.HARNESS_FAILED)  # a usage error says that nothing was touched
            return VersusEnded(folder=folder, exit_code=code, problem=f"pair {number}, {label}: {why}")
    return _compared(folder, say)


def _plan(plan: Plan, experiment: str, seed: int) -> Plan:
    plan = as_given(plan)
    return replace(plan, experiment=experiment, created=wall(), load=replace(plan.load, seed=seed))


def _compared(folder: Path, say: Say) -> VersusEnded:
    say("comparing the pairs")
    try:
        found = compare(folder)
    except UsageError as error:
        return VersusEnded(folder=folder, exit_code=int(EXIT_CODES["cannot_tell"]), problem=str(error))
    try:
        replace_file(folder / COMPARISON, msgspec.json.format(encode(found), indent=2) + b"\n")
    except OSError as error:
        say(f"{COMPARISON} could not be written: {error.strerror}")
    return VersusEnded(folder=folder, exit_code=found.exit_code, comparison=found)


def _remove(folder: Path) -> None:
    """The folder of a group without a run."""
    for one in (*(folder / side for side in SIDES.values()), folder):
        if one.is_dir():
            one.rmdir()
