"""A comparison on a terminal: the answer, the figures side by side, what else differs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from harness.model.records.many_runs.group import Comparison, Middle
from harness.report.sentences import text
from harness.report.sentences.comparison import first_sentence, notes

LABELS: dict[str, tuple[str, Callable[[float | None], str]]] = {
    "harm": ("harm, requests", text.number),
    "violating_s": ("violating time", text.seconds),
    "recovery_s": ("recovery", text.seconds),
    "error_rate": ("error rate, fault", text.percent),
    "p95_ms": ("p95, fault", text.ms),
    "baseline_p95_ms": ("p95, baseline", text.ms),
    "rps": ("RPS, fault", text.rps),
}
_WIDTH = 30
_MOST_VALUES = 3


def lines(found: Comparison) -> Iterator[str]:
    """Outside text is made safe in it."""
    yield first_sentence(found)
    yield ""
    yield f"{'median (range)':20}{'BASE':{_WIDTH}}NEW".rstrip()
    for row in found.rows:
        label, shown = LABELS[row.metric]
        yield f"{label:20}{_cell(row.base, shown):{_WIDTH}}{_cell(row.new, shown)}"
    yield ""
    yield from notes(found)
    for side, name in ((found.base, "BASE"), (found.new, "NEW")):
        for run in side:
            if run.left_out:
                yield f"Left out of {name}: {text.excerpt(run.directory, 100)}: {run.left_out}."
    if found.differs:
        yield ""
        yield "Also different:"
    for one in found.differs:
        yield f"  {text.visible(one.what, 60)}: BASE {_values(one.base)}; NEW {_values(one.new)}"


def _cell(middle: Middle, shown: Callable[[float | None], str]) -> str:
    if middle.known == 0:
        return text.UNKNOWN
    said = shown(middle.median)
    if middle.of > 1:
        said += f" ({shown(middle.low)} - {shown(middle.high)})"
    return said if middle.known == middle.of else f"{said} in {middle.known} of {middle.of}"


def _values(values: tuple[str, ...]) -> str:
    shown = ", ".join(text.excerpt(value, 100) for value in values[:_MOST_VALUES])
    return shown if len(values) <= _MOST_VALUES else f"{shown}, {len(values) - _MOST_VALUES} more"
