"""The answer of a comparison in one sentence, and what is said beside it."""

from __future__ import annotations

from collections.abc import Iterator

from harness.analysis.comparison.answer import LEAST_KNOWN
from harness.analysis.comparison.power import LEAST_PAIRS, Shown
from harness.analysis.statistics.sign_flip import MOST_PAIRS
from harness.model.records.many_runs.group import Comparison
from harness.report.sentences.text import UNKNOWN, excerpt, number, percent, seconds

HEADS = {"worse": "WORSE", "not_worse": "NOT WORSE", "cannot_tell": "CANNOT TELL"}
_MANY = 4.0
"""From so large a change on people read a factor."""


def change(value: float | None) -> str:
    """A change of harm: +31%, -20%, 7.2 times."""
    if value is None:
        return UNKNOWN
    if value >= _MANY:
        return f"{number(value + 1)} times"
    return f"{'+' if value >= 0 else '-'}{percent(round(abs(value), 3))}"


def first_sentence(found: Comparison) -> str:
    """`WORSE: harm has changed by +110% from BASE to NEW, ...`."""
    head = HEADS[found.answer]
    if found.method == "one_to_one":
        return f"{head}: one run beside one run does not show what is chance; it takes {LEAST_PAIRS} pairs at least"
    margin = f"the margin of {percent(found.margin)}"
    seen = f"harm has changed by {change(found.change)} from BASE to NEW"
    basis = f"{found.pairs} pair{'s' if found.pairs != 1 else ''}"
    if found.method == "groups":
        counts = [sum(not one.left_out for one in side) for side in (found.base, found.new)]
        basis = f"{counts[0]} and {counts[1]} runs"
    if found.answer == "worse":
        return f"{head}: {seen}, beyond {margin} ({basis}, {_p(found.p)})"
    upper = f"with 95% confidence by less than {change(found.upper)}" if found.upper is not None else ""
    if found.answer == "not_worse":
        return f"{head}: {seen}, and {upper}; {margin} ({basis})"
    if found.why:
        return f"{head}: {found.why}"
    beside = f"; {upper}" if upper else ""
    return f"{head}: {seen}{beside}; {margin} ({basis}, {_p(found.p)}); {_needed(found)}"


def notes(found: Comparison) -> Iterator[str]:
    """What a reader must know of the figures."""
    slow = "" if found.limit_ms is None else f" or took {number(found.limit_ms)}ms or longer"
    yield (
        f"Harm: requests that failed, were never sent{slow}, in the {seconds(found.span_s)} from the injection on, "
        "less baseline's share. Compared as the ratio of harm + 10."
    )
    if found.limit_ms is None:
        yield "There is no p95 target for all requests, so slow ones are not in it."
    if found.method == "groups":
        yield "Runs that are no pairs: weaker than pairs, because what changed between their sessions counts as well."


def what_shows(shown: Shown, known: int, where: str, *, paired: bool) -> str:
    """Before runs are made: what so many of them find. known: pairs, or runs of a repeat, that have shown the spread.
    where: the folder in which they are."""
    several, of = "", "pairs" if paired else "runs"
    if shown.low is None or shown.high is None:
        several = f", by a spread that too few {of} have shown to rely on"
    elif shown.low != shown.high:
        several = f", or {change(shown.low)} to {change(shown.high)}: few {of} have shown their spread"
    cases = f"in {'' if paired else 'about '}nine cases of ten"
    return (
        f"{_so_many(shown.pairs, paired)} find, {cases}, that harm has changed by"
        f" {change(shown.change)}{several} (margin {percent(shown.margin)}; from the spread of {known} "
        f"{of} in {excerpt(where, 100)}{'' if paired else ', were the two sessions alike'})"
    )


def nothing_known(times: int, largest: float, where: str, *, paired: bool) -> str:
    """The same where no spread is known. largest: with which a doubling is found still."""
    two = "of the two runs of a pair" if paired else "of two runs of the same"
    return (
        f"How much the harm {two} differs by chance is not known yet from {excerpt(where, 100)}: "
        f"{_so_many(times, paired)} find a doubling in nine cases of ten where the logarithm of its ratio has a "
        f"standard deviation of at most {number(round(largest, 2))}"
    )


def too_few(times: int, *, paired: bool) -> str:
    if paired:
        return f"{times} pairs cannot show that it is worse: that takes {LEAST_PAIRS} at least"
    return f"What {times} runs against {times} can show is not known beforehand: it is from {LEAST_PAIRS} on"


def _so_many(times: int, paired: bool) -> str:
    return f"{times} pairs" if paired else f"{times} runs against {times}"


def _needed(found: Comparison) -> str:
    if found.spread is None or found.pairs < LEAST_KNOWN:
        return f"it takes {LEAST_PAIRS} pairs at least"
    if found.needed is None:
        return f"{MOST_PAIRS} pairs would not tell either, were the change the one seen"
    return f"about {found.needed} pairs would tell, were the change the one seen"


def _p(p: float | None) -> str:
    return f"p {UNKNOWN}" if p is None else "p < 0.0001" if p < 0.0001 else f"p = {p:.2g}"
