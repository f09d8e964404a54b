"""The trend of a figure or of the score as an SVG file or a page: no script, nothing fetched, all text escaped."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from harness.history import terminal
from harness.history.records import Point, ScoreTrend, Trend
from harness.model.errors import UsageError
from harness.model.files import replace_file
from harness.model.records.metrics import Unit
from harness.report.sentences.text import in_unit, visible

if TYPE_CHECKING:
    from jinja2 import Environment

WIDTH, HEIGHT, LEFT, TOP = 760, 170, 80, 28
FORMATS = (".svg", ".html")


class Dot(msgspec.Struct, frozen=True, kw_only=True):
    """A value in the chart. title: what is said of it when it is pointed at. marked: it is out of the range."""

    x: float
    y: float
    title: str
    marked: bool = False


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """segments: points of the line, interrupted where a value is missing. dashed: drawn so."""

    dots: tuple[Dot, ...]
    segments: tuple[tuple[tuple[float, float], ...], ...]
    dashed: bool = False


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """One chart, `top` pixels from the top of the file. The axis begins at 0."""

    title: str
    top: float
    high: str
    first: str
    last: str
    curves: tuple[Curve, ...]


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Lines under a heading. empty: what is said where there are none."""

    title: str
    lines: tuple[str, ...]
    empty: str = "none"


def check_name(path: Path) -> None:
    if path.suffix not in FORMATS:
        raise UsageError(f"--out {path}: a chart is written as {' or '.join(FORMATS)}")


def write_trend(path: Path, found: Trend) -> None:
    charts = []
    for number, line in enumerate(found.lines):
        top = max((point.value for point in line.points if point.value is not None), default=0.0)
        said = [_said(point, line.unit) for point in line.points]
        marked = [point.outside is not None for point in line.points]
        curve = _curve([point.value for point in line.points], said, top, marked)
        times = [point.started for point in line.points]
        charts.append(_chart(line.title, number, in_unit(top, line.unit), times, (curve,)))
    marks = tuple(
        f"{terminal.moment(point.started)} {line.title} {in_unit(point.value, line.unit)}: "
        f"{terminal.outside_text(point.outside, line.unit)}"
        for line in found.lines
        for point in line.points
        if point.outside is not None
    )
    rows = tuple(
        f"{terminal.moment(point.started)} {line.title}: {_said(point, line.unit)}"
        for line in found.lines
        for point in line.points
    )
    groups = [Group(title="Values outside the range", lines=marks), Group(title="All values", lines=rows)]
    if found.left_out:
        lines = tuple(f"{one.directory}: {one.why}" for one in found.left_out)
        groups.append(Group(title="Left out as not comparable", lines=lines))
    _write(path, f"Trend of {found.of}", charts, groups, ())


def _said(point: Point, unit: Unit) -> str:
    value = in_unit(point.value, unit) if point.value is not None else f"no value: {point.why}"
    return f"{value}, {point.verdict.upper()}"


def write_score(path: Path, found: ScoreTrend) -> None:
    said = [
        f"{terminal.moment(point.started)}: {terminal.interval_text(point.low, point.high)}; "
        f"{terminal.outcomes(point.counts)}"
        for point in found.points
    ]
    changed = [bool(terminal.changes(point)) for point in found.points]
    low = _curve([point.low for point in found.points], said, 100.0, changed)
    high = _curve([point.high for point in found.points], said, 100.0, changed, dashed=True)
    times = [point.started for point in found.points]
    title = f"score: held (line), with all that is unknown (dashed){'; !: the suite changed' if any(changed) else ''}"
    charts = [_chart(title, 0, "100", times, (low, high))]
    groups = [Group(title=name.capitalize(), lines=tuple(lines)) for name, lines in terminal.sections(found)]
    suites = tuple(
        f"{line}{''.join(f'; {change}' for change in terminal.changes(point))}; {point.versions}"
        for line, point in zip(said, found.points, strict=True)
    )
    groups.append(Group(title="Suites", lines=suites))
    if found.left_out:
        lines = tuple(f"{one.directory}: {one.why}" for one in found.left_out)
        groups.append(Group(title="Left out as not comparable", lines=lines))
    newest = found.points[-1]
    score = terminal.interval_text(newest.low, newest.high)
    first = (
        f"{terminal.outcomes(newest.counts)} common experiments; score {score}",
        terminal.coverage(found),
    )
    period = f"{terminal.moment(times[0])[:10]} to {terminal.moment(times[-1])[:10]}"
    _write(path, f"Score of {found.of}, {period}", charts, groups, first if found.common else first[1:])


def _curve(
    values: Sequence[float | None],
    said: Sequence[str],
    top: float,
    marked: Sequence[bool],
    *,
    dashed: bool = False,
) -> Curve:
    step = (WIDTH - LEFT - 20) / max(len(values) - 1, 1)
    height = HEIGHT - TOP - 30
    dots: list[Dot] = []
    segments: list[list[tuple[float, float]]] = [[]]
    for number, (value, title, mark) in enumerate(zip(values, said, marked, strict=True)):
        if value is None:
            segments.append([])
            continue
        share = min(max(value / top, 0.0), 1.0) if top > 0 else 0.0
        x, y = round(LEFT + number * step, 1), round(TOP + height * (1 - share), 1)
        dots.append(Dot(x=x, y=y, title=title, marked=mark))
        segments[-1].append((x, y))
    lines = tuple(tuple(one) for one in segments if len(one) > 1)
    return Curve(dots=tuple(dots), segments=lines, dashed=dashed)


def _chart(title: str, number: int, high: str, times: Sequence[str], curves: tuple[Curve, ...]) -> Chart:
    first, last = (terminal.moment(times[0]), terminal.moment(times[-1])) if times else ("", "")
    return Chart(title=title, top=number * HEIGHT, high=high, first=first, last=last, curves=curves)


def _write(path: Path, title: str, charts: Sequence[Chart], groups: Sequence[Group], first: Sequence[str]) -> None:
    template = _environment().get_template(f"history{path.suffix}.jinja")
    text = template.render(
        title=title,
        charts=charts,
        groups=groups,
        first=first,
        width=WIDTH,
        height=HEIGHT,
        left=LEFT,
        plot_top=TOP,
        plot_bottom=HEIGHT - 30,
    )
    try:
        replace_file(path, text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader

    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value, 1000) if type(value) is str else value,
    )
