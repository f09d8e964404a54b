"""What N runs of each version can show, before they are made: from the harm of earlier runs of this experiment."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from pathlib import Path

import msgspec

from harness.analysis.comparison.answer import log_harm
from harness.analysis.comparison.power import largest_spread, what_pairs_show
from harness.analysis.run_directory import read_plan
from harness.analysis.statistics.sign_flip import MOST_PAIRS
from harness.analysis.suite.suite_file import read_suite
from harness.compare.compare import DEFAULT_MARGIN
from harness.compare.groups import GROUP, MAX_BYTES, read_group
from harness.compare.same import same_experiment
from harness.model.errors import UsageError
from harness.model.files import read_limited
from harness.model.records.many_runs.group import Comparison, Group
from harness.model.records.plan import Plan
from harness.report.sentences.comparison import nothing_known, too_few, what_shows
from harness.suite.versus import COMPARISON

MOST_GROUPS = 50
"""The newest that are looked at."""
DOUBLING = 1.0


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """value: standard deviation of the log ratio of two runs of the same. known: pairs that have shown it, or runs."""

    value: float
    known: int


def beforehand(plan: Plan, times: int, out: Path, *, paired: bool) -> str:
    """A sentence. paired: an A and a B each time; else a group, for a comparison with another one as large."""
    found = known_spread(plan, out, paired=paired)
    if found is not None:
        shown = what_pairs_show(times, found.value, found.known, DEFAULT_MARGIN)
        if shown is not None:
            return what_shows(shown, found.known, str(out), paired=paired)
    largest = largest_spread(times, DOUBLING, DEFAULT_MARGIN)
    if largest is None:
        return too_few(times, paired=paired)
    return nothing_known(times, largest, str(out), paired=paired)


def known_spread(plan: Plan, out: Path, *, paired: bool) -> Spread | None:
    """Of all groups of this experiment together; the means of two groups may differ for other reasons than chance, so
    each varies about its own. None where no group has two pairs, or two runs."""
    squares, free = 0.0, 0
    for folder, group in _groups(out, "versus" if paired else "repeat"):
        try:
            if not same_experiment(read_plan(folder / group.runs[0].directory), plan):
                continue
            variance, known = _of_pairs(folder) if paired else _of_repeat(folder)
        except (UsageError, OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue  # damaged, or anybody else's: what it says does not count
        if known > 1:
            squares, free = squares + variance * (known - 1), free + known - 1
    return Spread(value=math.sqrt(squares / free), known=free + 1) if free else None


def _groups(out: Path, kind: str) -> Iterator[tuple[Path, Group]]:
    try:
        folders = sorted(
            (one for one in out.iterdir() if (one / GROUP).is_file() and not one.is_symlink()), reverse=True
        )
    except OSError:
        return
    for folder in folders[:MOST_GROUPS]:
        try:
            group = read_group(folder)
        except (UsageError, OSError):
            continue
        if group.kind == kind and group.runs:
            yield folder, group


def _of_pairs(folder: Path) -> tuple[float, int]:
    """Variance of the log ratios, and of how many."""
    found = msgspec.json.decode(read_limited(folder / COMPARISON, MAX_BYTES, links=False), type=Comparison)
    if found.method != "pairs" or found.spread is None:
        return 0.0, 0
    if not 0 <= found.spread < 100 or not 2 <= found.pairs <= MOST_PAIRS:
        raise UsageError(f"{folder / COMPARISON} is damaged: its spread cannot be")
    return found.spread**2, found.pairs


def _of_repeat(folder: Path) -> tuple[float, int]:
    harms = [one.attempts[-1].harm for one in read_suite(folder).experiments if one.attempts]
    logs = [log_harm(harm) for harm in harms if harm is not None]
    return (2 * statistics.variance(logs), len(logs)) if len(logs) > 1 else (0.0, 0)
