"""A timeline drawn in text: the phases of a run on one axis, and every fault on an axis of the fault phase.

Drawn from numbers alone, so the plan's instants and the recorded ones look the same. Plain ASCII on request; otherwise
half blocks double the resolution.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

import msgspec

from harness.model.records.plan import Plan
from harness.model.records.result import Result
from harness.model.units import format_duration
from harness.plan.phases import shortest_run
from harness.report.sentences import text

Span = tuple[float, float | None]
"""Start and end in seconds; None = a moment."""

MIN_WIDTH, MAX_WIDTH = 76, 160
"""Columns: fewer have no room for the names of the phases, more are too long to follow."""
_LABEL_MOST = 24
_NOTE_SHARE = 0.3
"""Of the width, for the words on the right."""
_TICKS = (0.1, 0.5, 1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600)
_TICK_GAP = 9
"""Columns from one tick's label to the next, at least."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a chart: a name on the left, bars, and words on the right."""

    label: str
    spans: tuple[Span, ...]
    note: str = ""


class Glyphs(msgspec.Struct, frozen=True, kw_only=True):
    full: str = "█"
    left: str = "▌"
    right: str = "▐"
    moment: str = "▲"
    begin: str = "▕"
    cut: str = "…"
    edge: str = "│"
    line: str = "─"
    ramp: str = "▁▂▃▄▅▆▇"
    level: str = "█"
    unknown: str = "~"


UNICODE = Glyphs()
ASCII = Glyphs(
    full="#", left="#", right="#", moment="!", begin="|", cut="~", edge="|", line="-", ramp="._-=", level="="
)


def plan_timeline(plan: Plan, *, width: int = 100, ascii_only: bool = False) -> str:
    """The whole run on one axis, then the faults within the fault phase. Lines are at most `width` columns."""
    width = min(max(width, MIN_WIDTH), MAX_WIDTH)
    glyphs = ASCII if ascii_only else UNICODE
    drawn = _run(plan, width, glyphs)
    if plan.faults:
        rows = fault_rows(plan, int(width * _NOTE_SHARE))
        heading = f"  Faults, from the start of the fault phase ({format_duration(plan.phases.fault_s)})"
        drawn += ["", heading, *chart(rows, 0.0, plan.phases.fault_s, width=width, glyphs=glyphs)]
    return "\n".join(line.rstrip() for line in drawn)


def recorded_timeline(plan: Plan, result: Result, *, width: int = 100) -> str:
    """When each fault really was on, in seconds of the run, in plain ASCII. Empty where none was injected.

    A fault whose undo was not recorded is drawn to the end of the run.
    """
    once = {fault.id for fault in plan.faults if fault.for_s is None}
    end = max((phase.end_s for phase in result.phases), default=0.0)
    spans: dict[str, list[Span]] = {}
    for fault in result.faults:
        if fault.injected_s is not None:
            over = None if fault.name in once else fault.undone_s if fault.undone_s is not None else end
            spans.setdefault(fault.name.partition("#")[0], []).append((fault.injected_s, over))
    if not spans:
        return ""
    found = [span for group in spans.values() for span in group]
    first, last = min(start for start, _ in found), max(start if over is None else over for start, over in found)
    rows = [Row(label=text.visible(name, 60).replace("`", "'"), spans=tuple(group)) for name, group in spans.items()]
    lines = chart(rows, first, max(last, first + 1.0), width=width, glyphs=ASCII)
    return "\n".join(line.rstrip() for line in lines)


def fault_rows(plan: Plan, note_most: int) -> tuple[Row, ...]:
    """One row a fault, its occurrences beside each other; in the order of the plan. note_most: columns for instants."""
    spans: dict[str, list[Span]] = {}
    for fault in plan.faults:
        end = None if fault.for_s is None else fault.at_s + fault.for_s
        spans.setdefault(fault.spec.name, []).append((fault.at_s, end))
    return tuple(Row(label=name, spans=tuple(found), note=_note(found, note_most)) for name, found in spans.items())


def _note(spans: Sequence[Span], most: int) -> str:
    """`@10s+20s`, or what many have in common."""
    words = [f"@{_exact(start)}" + ("" if end is None else f"+{_exact(round(end - start, 1))}") for start, end in spans]
    instants = " ".join(words)
    if len(instants) <= most:
        return instants
    lengths = {None if end is None else round(end - start, 1) for start, end in spans}
    each = ""
    if len(lengths) == 1 and (only := lengths.pop()) is not None:
        each = f" x {_exact(only)}"
    starts = [start for start, _ in spans]
    apart = {round(b - a, 1) for a, b in pairwise(starts)}
    every = f" every {_exact(apart.pop())}" if len(apart) == 1 else ""
    return f"{len(spans)}{each or ' times'} from {_exact(min(starts))}{every}"


def chart(rows: Sequence[Row], start_s: float, end_s: float, *, width: int, glyphs: Glyphs = UNICODE) -> list[str]:
    """Rows of bars under a ruler of seconds. Every span is at least one column wide, however short it is."""
    label_width = min(max((len(row.label) for row in rows), default=0), _LABEL_MOST)
    note_width = max((len(row.note) for row in rows), default=0)
    columns = width - label_width - note_width - 6
    lines = [" " * (label_width + 4) + line for line in _ruler(start_s, end_s, columns, glyphs)]
    for row in rows:
        label = row.label if len(row.label) <= label_width else row.label[: label_width - 1] + glyphs.cut
        bar = _bar(row.spans, start_s, end_s, columns, glyphs)
        lines.append(f"  {label:<{label_width}}  {bar}  {row.note}")
    return lines


def _bar(spans: Iterable[Span], start_s: float, end_s: float, columns: int, glyphs: Glyphs) -> str:
    """Half a column is the unit. A start that would run into the bar before it is marked."""
    per_s = 2 * columns / max(end_s - start_s, 0.1)
    halves = bytearray(2 * columns)
    moments: list[int] = []
    begins: list[int] = []
    for begin, end in sorted(spans, key=lambda span: span[0]):
        first = min(max(round((begin - start_s) * per_s), 0), 2 * columns - 1)
        if end is None:
            moments.append(first // 2)
            continue
        last = min(max(round((end - start_s) * per_s), first + 1), 2 * columns)
        if glyphs.left == glyphs.full:
            first, last = first // 2 * 2, max((last + 1) // 2 * 2, first // 2 * 2 + 2)
        if (first > 0 and halves[first - 1]) or halves[first]:
            begins.append(first // 2)
        halves[first:last] = b"\x01" * (last - first)
    cells = [_cell(halves[2 * i], halves[2 * i + 1], glyphs) for i in range(columns)]
    for at in begins:
        cells[at] = glyphs.begin
    for at in moments:
        cells[at] = glyphs.moment
    return "".join(cells)


def _cell(left: int, right: int, glyphs: Glyphs) -> str:
    if left and right:
        return glyphs.full
    return glyphs.left if left else glyphs.right if right else " "


def _ruler(start_s: float, end_s: float, columns: int, glyphs: Glyphs) -> list[str]:
    """Two lines: the times, and an axis with a mark under each."""
    length = max(end_s - start_s, 0.1)
    most = max(1, columns // _TICK_GAP)
    step = next((tick for tick in _TICKS if length / tick <= most), 86400.0)
    first = math.ceil(start_s / step - 1e-9) * step
    axis = [glyphs.line] * columns
    places: list[tuple[int, str]] = []
    for k in range(int((end_s - first) / step + 1e-9) + 1):
        mark = first + k * step
        at = min(round((mark - start_s) / length * columns), columns - 1)
        axis[at] = glyphs.edge
        places.append((at, _exact(round(mark, 1))))
    return [_placed(places, columns), "".join(axis)]


def _placed(places: Iterable[tuple[int, str]], columns: int) -> str:
    """Words at columns, each left out that would touch the one before it; the last is pushed in from the right."""
    line = ""
    for at, word in places:
        at = min(at, columns - len(word)) if at + len(word) > columns + 2 else at
        if line and at < len(line) + 1:
            continue
        line = line.ljust(at) + word
    return line


class _Segment(msgspec.Struct, frozen=True, kw_only=True):
    """A phase on the axis of the run. length_s: None = as long as it takes, drawn with a fixed width."""

    name: str
    start_s: float
    length_s: float | None
    columns: int


def _run(plan: Plan, width: int, glyphs: Glyphs) -> list[str]:
    end = _exact(shortest_run(plan.phases))
    segments = _segments(plan, width - 11 - len(end))
    names = "".join(f"{glyphs.edge}{segment.name:<{segment.columns - 1}}" for segment in segments)
    lines = [f"  {'phase':<8}{names}{glyphs.edge}", f"  {'load':<8}{_load(plan, segments, glyphs)}"]
    if plan.faults:
        on = "".join(_on(plan, segment, glyphs) for segment in segments)
        lines.append(f"  {'faults':<8}{on}")
    places, at = [], 0
    for segment in segments:
        places.append((at, _exact(segment.start_s)))
        at += segment.columns
    # A phase without a length is as short as it can be, so the one after it begins at the same time.
    shown = [place for i, place in enumerate(places) if segments[i].length_s is not None or i == 0]
    lines.append(f"  {'':<8}{_placed([*shown, (at, end)], at + len(end))}")
    return [*lines, f"  {glyphs.unknown} as long as it takes: the times after it are the earliest"]


def _segments(plan: Plan, columns: int) -> list[_Segment]:
    p = plan.phases
    lengths: list[tuple[str, float | None]] = [
        ("warmup", p.warmup_s),
        ("baseline", p.baseline_s),
        ("gap", None),
        ("fault", p.fault_s),
        ("recovery", None),
        ("after", p.after_s),
        ("tail", p.tail_s),
    ]
    least = {name: len(name) + 2 for name, _ in lengths}
    room = columns - sum(least.values())
    total = sum(length for _, length in lengths if length is not None)
    found: list[_Segment] = []
    start, given, passed = 0.0, 0, 0.0
    for name, length in lengths:
        extra = 0
        if length is not None:
            passed += length
            extra = round(room * passed / total) - given
            given += extra
        found.append(_Segment(name=name, start_s=round(start, 1), length_s=length, columns=least[name] + extra))
        start += length or 0.0
    return found


def _load(plan: Plan, segments: Sequence[_Segment], glyphs: Glyphs) -> str:
    """The rate of arrivals, or users: the ramp, its plateau, and the jump of a spike."""
    line = ""
    low = plan.load.jump_from is not None
    for segment in segments:
        full = segment.name == "fault" if low else True
        level = glyphs.level if full else glyphs.ramp[1]
        if segment.name == "warmup" and segment.length_s:
            ramp = min(segment.columns, round(segment.columns * plan.load.ramp_s / segment.length_s))
            steps = glyphs.ramp[:2] if low else glyphs.ramp
            line += "".join(steps[min(i * len(steps) // max(ramp, 1), len(steps) - 1)] for i in range(ramp))
            line += level * (segment.columns - ramp)
        elif segment.length_s is None:
            line += glyphs.unknown * segment.columns
        else:
            line += level * segment.columns
    return line


def _on(plan: Plan, segment: _Segment, glyphs: Glyphs) -> str:
    if segment.name != "fault" or not segment.length_s:
        return " " * segment.columns
    spans: list[Span] = [(f.at_s, None if f.for_s is None else f.at_s + f.for_s) for f in plan.faults]
    line = _bar(spans, 0.0, segment.length_s, segment.columns, glyphs)
    # Here only whether anything is on matters, not where one begins within another.
    return line.replace(glyphs.begin, glyphs.full)


def _exact(seconds: float) -> str:
    """Instants in full, 4.5s and 1m30s; format_duration would round 100.5 s."""
    if seconds >= 60 or seconds == 0 or seconds >= 1:
        whole = round(seconds, 1)
        if whole < 60:
            return f"{whole:g}s"
        minutes, rest = divmod(whole, 60)
        hours, minutes = divmod(int(minutes), 60)
        return (f"{hours}h" if hours else "") + (f"{minutes}m" if minutes else "") + (f"{rest:g}s" if rest else "")
    return format_duration(seconds)
