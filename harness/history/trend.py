"""The line that one figure makes over comparable runs, and the values that are out of it. Pure but for reading
result.json again."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Sequence

import msgspec

from harness.analysis.run_directory import RESULT
from harness.history.reading import Found, Unreadable, decoded, versions
from harness.history.records import Line, Outside, Point, Trend, Unread
from harness.model.errors import UsageError, unknown
from harness.model.records.metrics import METRICS, Origin, Unit, metric_traits
from harness.model.records.result import SCHEMA, MemoryResult, PhaseResult, RequestResult, TargetResult
from harness.model.records.targets import JudgedPhase
from harness.model.target_grammar import JUDGED_PHASES

HARM = "harm"
SCORE = "score"
MARGIN = 0.5
"""The range of accepted values is widened by this share before a value counts as outside it."""
ACCEPTED = 20
FEWEST = 3
"""Of accepted values: fewer make no range."""
LEAST: dict[Unit, float] = {"ms": 1.0, "s": 0.2, "proportion": 0.001, "per_h": 0.01, "number": 10.0}
"""And it is widened by no less than this, what one run resolves: around a range of nothing but zeros there is room."""

_SUBJECT = re.compile(r"\s*(?:(\w+)\s*:)?\s*([\w.]+)\s*(?:\{(.+)\})?\s*", re.DOTALL)


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What a line is of."""

    metric: str
    phase: JudgedPhase | None
    request: str | None
    unit: Unit


class _Figures(msgspec.Struct):
    phases: tuple[PhaseResult, ...] = ()
    requests: tuple[RequestResult, ...] = ()
    targets: tuple[TargetResult, ...] = ()
    memory: MemoryResult | None = None
    cpu_by_phase: dict[str, float] = {}
    schema: int = 1


def subjects(text: str) -> tuple[Subject, ...]:
    """`fault: p95{POST /predict}`, `recovery`: as on the left of a target. Without a phase: in every judged one."""
    match = _SUBJECT.fullmatch(text)
    if match is None:
        raise UsageError(f"--trend {text!r} is no metric", hint="for example recovery, or fault: p95, or score")
    phase, metric, request = match.groups()
    if metric not in (*METRICS, HARM):
        raise unknown("metric", metric, (*METRICS, HARM, SCORE))
    if phase is not None and phase not in JUDGED_PHASES:
        raise unknown("phase", phase, JUDGED_PHASES)
    whole = metric == HARM or metric_traits(metric).whole_run
    if whole and phase is not None:
        raise UsageError(f"--trend {text!r}: {metric} is of the whole run; leave out `{phase}:`")
    if request is not None and not metric_traits(metric).by_name:
        raise UsageError(f"--trend {text!r}: {metric} is not known by request name; leave out {{{request}}}")
    unit = metric_traits(metric).unit
    phases = (None,) if whole else tuple(one for one in JUDGED_PHASES if phase in (None, one))
    return tuple(Subject(metric=metric, phase=one, request=request, unit=unit) for one in phases)


def trend(found: Sequence[Found], asked: Sequence[Subject], shown: int) -> Trend:
    """found: newest first. The newest run says which others are comparable; the last `shown` ones are kept (0: all)."""
    runs = [one for one in found if one.entry.kind == "run"][::-1]
    if not runs:
        raise UsageError("no run matches, so there is no trend", hint="harness history lists what there is")
    newest = runs[-1]
    comparable = [one for one in runs if one.alike == newest.alike]
    left_out = [
        Unread(directory=one.entry.directory, why=_why(one, newest)) for one in runs if one.alike != newest.alike
    ]
    read = [(one, _figures(one)) for one in comparable]
    lines = tuple(_line(read, subject)[-shown:] if shown else _line(read, subject) for subject in asked)
    alike = newest.alike
    load = f"{alike['scenario']}, {alike['load model']} model, {alike['rate']}, {alike['stack']} stack"
    return Trend(
        of=f"{alike['faults']}; {load}",
        lines=tuple(
            Line(metric=one.metric, phase=one.phase, request=one.request, unit=one.unit, points=points)
            for one, points in zip(asked, lines, strict=True)
        ),
        left_out=tuple(left_out),
    )


def _why(one: Found, newest: Found) -> str:
    return "differs in " + ", ".join(name for name, value in newest.alike.items() if one.alike[name] != value)


def reasons(left_out: Sequence[Unread]) -> str:
    """`differs in rate (2), differs in stack (1)`."""
    return ", ".join(f"{why} ({n})" for why, n in Counter(one.why for one in left_out).most_common())


def _figures(one: Found) -> _Figures | str:
    try:
        return decoded(one.path / RESULT, _Figures, (SCHEMA,))
    except (UsageError, Unreadable, FileNotFoundError) as error:
        return "its result is gone" if isinstance(error, FileNotFoundError) else str(error)  # since it was listed


def _line(read: Sequence[tuple[Found, _Figures | str]], subject: Subject) -> tuple[Point, ...]:
    accepted: deque[tuple[float, str]] = deque(maxlen=ACCEPTED)
    points = []
    for one, figures in read:
        value, why = (None, figures) if isinstance(figures, str) else value_of(one, figures, subject)
        entry = one.entry
        points.append(
            Point(
                directory=entry.directory,
                started=entry.started,
                verdict=entry.verdict,
                value=value,
                why=why,
                outside=_outside(value, accepted, versions(entry), subject.unit),
            )
        )
        if value is not None and entry.verdict == "pass":
            accepted.append((value, versions(entry)))
    return tuple(points)


def _outside(value: float | None, accepted: Sequence[tuple[float, str]], now: str, unit: Unit) -> Outside | None:
    if value is None or len(accepted) < FEWEST:
        return None
    lowest, highest = min(accepted)[0], max(accepted)[0]
    least = LEAST.get(unit, 0.0)
    # As factors, so that half as much is as far away as twice as much; memory may also shrink, and is below 0 then.
    low = min(lowest / (1 + MARGIN), lowest * (1 + MARGIN), lowest - least)
    high = max(highest / (1 + MARGIN), highest * (1 + MARGIN), highest + least)
    if low <= value <= high:
        return None
    return Outside(
        low=low if unit == "per_h" else max(low, 0.0), high=high, accepted=len(accepted), since=accepted[-1][1], now=now
    )


def value_of(one: Found, figures: _Figures, subject: Subject) -> tuple[float | None, str]:
    """The figure of one run, or None and why it has none."""
    metric, phase, entry = subject.metric, subject.phase, one.entry
    traits = metric_traits(metric)
    if traits.origin is Origin.RECOVERY:
        outcome = entry.recovery
        return entry.recovery_s, (outcome or "not_judged").replace("_", " ") if entry.recovery_s is None else ""
    if metric == HARM:
        return one.harm, "" if one.harm is not None else "only a suite's experiments have it"
    if traits.origin is Origin.MEMORY:
        slope = figures.memory.slope if figures.memory else None
        return slope, "" if slope is not None else "not judged"
    value: float | None
    if traits.origin is Origin.CPU:
        value = figures.cpu_by_phase.get(phase or "")
        return value, "" if value is not None else "not seen"
    if traits.field:
        rows: list[PhaseResult] | list[RequestResult] = [row for row in figures.phases if row.name == phase]
        if subject.request is not None:
            rows = [row for row in figures.requests if (row.phase, row.name) == (phase, subject.request)]
        if not rows:
            return None, "no such request" if subject.request is not None else "the phase did not take place"
        value = getattr(rows[0], traits.field)
    else:  # p90 and p99.9 are in the result only where a target asks for them
        braces = f"{{{subject.request}}}" if subject.request is not None else ""
        head = f"{phase}: {metric}{braces} "
        value = next((row.observed for row in figures.targets if row.target.startswith(head)), None)
        return value, "" if value is not None else "no target of that run asks for it"
    return value, "" if value is not None else "nothing was measured"
