"""The charts of the HTML report: panels on one time axis, shaded from recorded events, each with its numbers.

Missing values are gaps, and stretches without any request data are marked as such, so that a missing bar is not read
as zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from harness.model.records.events import Event
from harness.model.records.plan import Plan
from harness.model.records.result import Result
from harness.model.records.windows import FAILURE_KINDS
from harness.report.html import svg
from harness.report.html.axis import axis_of
from harness.report.html.buckets import Bucket, Buckets
from harness.report.html.tables import Column, Row, Table, row_of
from harness.report.sentences import text
from harness.report.sentences.moved import moved

if TYPE_CHECKING:
    from harness.analysis.verdict.timeline import ChartData

MAX_POINTS = 400
"""Points a line: about as many as a page has room for."""
MAX_ROWS = 24
"""Rows of the table under a chart."""
MAX_SIGNALS = 8
MAX_TREES = 8
LOG_WHEN_RATIO = 25.0
"""Latencies that differ by more than this are drawn on a logarithmic axis: a linear one hides the smaller."""
KINDS = (*FAILURE_KINDS, "unsent")

Values = Sequence[float | None]


class Entry(msgspec.Struct, frozen=True):
    """A series in the legend. css: its colour and dash."""

    name: str
    css: str


class Panel(msgspec.Struct, frozen=True, kw_only=True):
    """One chart. title, note: plain text. figure: SVG. entries: the legend. table: the same in numbers, coarser.
    grid, values: what the page's script tells of a moment; the grid is the buckets' starts and, last, their end."""

    id: str
    title: str
    note: str
    figure: str
    entries: tuple[Entry, ...]
    table: Table
    grid: list[float]
    values: list[Values]


class Zoom(msgspec.Struct, frozen=True, kw_only=True):
    """A button that sets every panel's time axis."""

    label: str
    start_s: float
    end_s: float


class Series(msgspec.Struct, frozen=True):
    name: str
    css: str
    values: Values


class _Drawing:
    """What all panels of a run are drawn with."""

    def __init__(self, plan: Plan, result: Result, chart: ChartData, history: Sequence[Event], points: int) -> None:
        self.plan, self.result, self.chart = plan, result, chart
        self.axis = axis_of(plan, result, chart, history)
        self.cuts = [phase.start_s for phase in result.phases]
        self.points = points

    def panel(
        self,
        id_: str,
        title: str,
        note: str,
        series: Sequence[Series],
        *,
        height: int,
        unit: str = "",
        requests: bool = True,
        stacked: bool = False,
        limits: Sequence[svg.Limit] = (),
        logarithmic: bool = False,
    ) -> Panel:
        series = [Series(text.visible(one.name, 60), one.css, one.values) for one in series]
        fine, coarse = self._buckets(requests, self.points), self._buckets(requests, MAX_ROWS)
        found = [fine.of(one.values) for one in series]
        highs = [bucket.high for values in found for bucket in values if bucket is not None]
        below: list[list[float] | None] = [None] * len(series)
        if stacked:
            below, highs = _stack(found)
        layers = [
            svg.Layer(name=one.name, css=one.css, values=values, below=under)
            for one, values, under in zip(series, found, below, strict=True)
        ]
        lows = [bucket.low for values in found for bucket in values if bucket is not None] if logarithmic else []
        scale = svg.Scale.fitting([*highs, *lows, *(limit.value for limit in limits)], logarithmic=logarithmic)
        if fine.merged:
            note += f" A point is the mean of {text.seconds(fine.usual_s)}"
            note += "." if stacked else "; the pale line through it: lowest to highest."
        figure = svg.time_chart(
            self.axis,
            scale,
            fine,
            layers,
            told=f"{title}. {note}",
            height=height,
            unit=unit,
            limits=limits,
            data=requests,
        )
        return Panel(
            id=id_,
            title=title,
            note=note,
            figure=figure,
            entries=tuple(Entry(one.name, one.css) for one in series),
            table=self._table(coarse, series),
            grid=_grid(fine),
            values=[[_rounded(bucket) for bucket in values] for values in found],
        )

    def _buckets(self, requests: bool, most: int) -> Buckets:
        chart = self.chart
        if requests:
            return Buckets.of_bins(chart.t, chart.lengths_s, most, self.cuts)
        return Buckets.of_times(chart.sample_t, most, self.cuts)

    def _table(self, buckets: Buckets, series: Sequence[Series]) -> Table:
        """A row a bucket: mean, and in brackets the highest where that is another."""
        found = [buckets.of(one.values) for one in series]
        clock = ("Clock (UTC)",) if self.axis.began is not None else ()
        names = ("From", *clock, "Phase", *(one.name for one in series))
        rows: list[Row] = []
        for number, start in enumerate(buckets.starts):
            phase = next((p.name for p in reversed(self.result.phases) if p.start_s <= start + 1e-6), "")
            at = (self.axis.clock(start),) if clock else ()
            cells = (_cell(values[number]) for values in found)
            rows.append(row_of(text.moment(start), *at, text.visible(phase, 20), *cells))
        return Table(tuple(Column(name, "number") for name in names), tuple(rows))


def panels(
    plan: Plan, result: Result, chart: ChartData, history: Sequence[Event], points: int = MAX_POINTS
) -> tuple[Panel, ...]:
    """Every panel that has data, top to bottom; those about requests come even without any. None of a run in which
    nothing was recorded. points: at most about so many a line."""
    if not chart.t and not chart.sample_t:
        return ()
    draw = _Drawing(plan, result, chart, history, points)
    made = [_load(draw), _failures(draw), _latency(draw), _in_flight(draw)]
    made += _signals(draw)
    made += _trees(draw, "CPU", "Share of one core", chart.cpu, 100.0, "%")
    made += _trees(draw, "Memory", "Resident memory in MB", chart.rss, 1e-6, "")
    return tuple(made)


def of_requests(
    plan: Plan, result: Result, chart: ChartData, history: Sequence[Event], points: int
) -> tuple[Panel, ...]:
    """Those about requests alone: replies, failures, latency. None of a run in which none was recorded."""
    if not chart.t:
        return ()
    draw = _Drawing(plan, result, chart, history, points)
    return _load(draw), _failures(draw), _latency(draw)


def zooms(plan: Plan, result: Result, chart: ChartData, history: Sequence[Event]) -> tuple[Zoom, ...]:
    """The whole run, the faults with a little around them, the recovery."""
    axis = axis_of(plan, result, chart, history)
    found = [Zoom(label="Whole run", start_s=axis.start, end_s=axis.end)]
    faults = [span for span in axis.spans if span.kind == "fault"]
    if faults:
        start, end = faults[0].start, max(span.end for span in faults)
        around = max(3.0, 0.08 * (end - start))
        found.append(Zoom(label="Fault", start_s=start - around, end_s=end + around))
    recovery = result.recovery
    if recovery and recovery.zero_s is not None:
        length = max(6.0, 2.5 * (recovery.upper_s or 0.0))
        found.append(Zoom(label="Recovery", start_s=recovery.zero_s - 3, end_s=recovery.zero_s + length))
    return tuple(found)


def _stack(found: Sequence[Sequence[Bucket | None]]) -> tuple[list[list[float] | None], list[float]]:
    """Where each series begins above those before it, and how high all of them are."""
    if not found:
        return [], []
    heights = [0.0] * len(found[0])
    below: list[list[float] | None] = []
    for values in found:
        below.append(list(heights))
        heights = [h + (b.mean if b is not None else 0.0) for h, b in zip(heights, values, strict=True)]
    return below, heights


def _grid(buckets: Buckets) -> list[float]:
    last = [round(buckets.starts[-1] + buckets.lengths[-1], 1)] if buckets.starts else []
    return [*(round(start, 1) for start in buckets.starts), *last]


def _rounded(bucket: Bucket | None) -> float | None:
    """Three digits are what a chart can show, and all that its numbers need on the page."""
    return None if bucket is None else float(f"{bucket.mean:.3g}")


def _cell(bucket: Bucket | None) -> str:
    if bucket is None:
        return "no data"
    mean, high = (text.number(round(value, 1 if abs(value) >= 10 else 4)) for value in (bucket.mean, bucket.high))
    return mean if mean == high else f"{mean} ({high})"


def _load(draw: _Drawing) -> Panel:
    series = [Series("answered", "s-rps", draw.chart.rps)]
    if any(value is not None for value in draw.chart.planned_rps):
        # Wide and pale behind the other: where the service keeps up the two lie on each other.
        series.insert(0, Series("planned", "s-planned", draw.chart.planned_rps))
    note = "Replies by the moment they were due, beside what the schedule asked for."
    return draw.panel("load", "Requests per second", note, series, height=190)


def _failures(draw: _Drawing) -> Panel:
    series = [
        Series(kind, f"s-{kind if kind in KINDS else 'exception'}", values)
        for kind, values in draw.chart.failures.items()
        if any(values)
    ]
    note = "Failed requests per second by kind, stacked."
    if not series:
        known = any(value is not None for value in draw.chart.rps)
        note = "No request failed." if known else "Nothing was recorded."
    return draw.panel("failures", "Failures per second", note, series, height=150 if series else 50, stacked=True)


def _latency(draw: _Drawing) -> Panel:
    chart = draw.chart
    series = [
        Series("p50", "s-p50", chart.p50_ms),
        Series("p95", "s-p95", chart.p95_ms),
        Series("p99", "s-p99", chart.p99_ms),
    ]
    shown = {one.name for one in series}
    succeeded = any(value for one in series for value in one.values)
    failed = any(value is not None for value in chart.failed_p95_ms)
    if failed:
        series.append(Series("p95 of failed", "s-failed", chart.failed_p95_ms))
    limits = {
        (target.metric, target.value): svg.Limit(
            f"{target.metric} target {text.limit_in_unit(target.value, 'ms')}", target.value, f"s-{target.metric}"
        )
        for target in draw.plan.targets
        if target.metric in shown and target.name is None and not target.of_baseline
    }
    known = [value for one in series for value in one.values if value]
    every = [*known, *(limit.value for limit in limits.values())]
    logarithmic = bool(known) and max(every) / max(min(known), 0.01) > LOG_WHEN_RATIO
    note = "Of successful requests, from the moment each was due."
    note += " Lines with a name on them are the targets." if limits else ""
    note += " Beside them: what failed requests took." if failed else ""
    note += " Logarithmic axis." if logarithmic else ""
    note += "" if succeeded else " No request succeeded."
    return draw.panel(
        "latency",
        "Latency in milliseconds",
        note,
        series,
        height=230,
        limits=tuple(limits.values()),
        logarithmic=logarithmic,
    )


def _in_flight(draw: _Drawing) -> Panel:
    note = "Requests waiting for an answer. A rising line is a queue."
    return draw.panel("in-flight", "In flight", note, [Series("in flight", "s-1", draw.chart.in_flight)], height=100)


def _signals(draw: _Drawing) -> list[Panel]:
    """The signals that the fault moved: there may be hundreds, and what did not move tells nothing in a chart."""
    if draw.plan.control_run:
        return []  # no fault that could have moved them
    made = []
    charted = [one for one in moved(draw.result) if any(v is not None for v in draw.chart.signals.get(one.name, ()))]
    for number, one in enumerate(charted[:MAX_SIGNALS]):
        series = [Series(one.name, "s-1", draw.chart.signals[one.name])]
        note = f"{one.said}." + (" Per second." if one.counter else "")
        title = text.visible(one.name, 80)
        made.append(draw.panel(f"signal-{number}", title, note, series, height=90, requests=False))
    return made


def _trees(
    draw: _Drawing, title: str, what: str, trees: dict[str, list[float | None]], scale: float, unit: str
) -> list[Panel]:
    """A panel of process trees, where there is any."""
    # The service itself first; it is what the targets are about.
    names = sorted((n for n, v in trees.items() if any(i is not None for i in v)), key=lambda n: (n != "target", n))
    series = [
        Series(
            "service" if name == "target" else name,
            f"s-{number % 8 + 1}",
            [None if value is None else value * scale for value in trees[name]],
        )
        for number, name in enumerate(names[:MAX_TREES])
    ]
    note = f"{what}, by process tree."
    return [draw.panel(title.lower(), title, note, series, height=130, unit=unit, requests=False)] if series else []
