"""The charts of the HTML report as Plotly figures: panels on one time axis, shaded from recorded events.

A figure is plain JSON for plotly.js. Colours are names that begin with `$`; the page replaces them by those of
its light or dark scheme. Missing values are null and drawn as gaps; stretches without any request data are
marked as such, so that a missing bar is not read as zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from harness.model.records.events import Event
from harness.model.records.plan import Plan
from harness.model.records.result import Result
from harness.model.records.windows import FAILURE_KINDS
from harness.report.html.axis import Axis
from harness.report.sentences import text
from harness.report.sentences.moved import strength

if TYPE_CHECKING:
    from harness.analysis.verdict.timeline import ChartData

MAX_SIGNALS = 8
MAX_TREES = 8
LOG_WHEN_RATIO = 25.0
"""Latencies that differ by more than this are drawn on a logarithmic axis: a linear one hides the smaller."""

KIND_COLOURS = {kind: f"${kind}" for kind in (*FAILURE_KINDS, "unsent")}
SERIES_COLOURS = tuple(f"$series{number}" for number in range(1, 9))

Values = Sequence[float | None]


class Panel(msgspec.Struct, frozen=True, kw_only=True):
    """One chart. title and note are plain text; figure is JSON: {"data": [...], "layout": {...}}. height: px."""

    id: str
    title: str
    note: str
    figure: str
    height: int


class Zoom(msgspec.Struct, frozen=True, kw_only=True):
    """A button that sets every panel's time axis."""

    label: str
    start_s: float
    end_s: float


def panels(plan: Plan, result: Result, chart: ChartData, history: Sequence[Event]) -> tuple[Panel, ...]:
    """Every panel that has data, top to bottom; those about requests come even without any."""
    axis = Axis(plan, result, chart, history)
    made = [_load(chart, axis), _failures(chart, axis), _latency(plan, chart, axis), _in_flight(chart, axis)]
    made += _signals(chart, axis)
    made += _trees(axis, chart.sample_t, "CPU", "Share of one core", chart.cpu, 100.0, " %")
    made += _trees(axis, chart.sample_t, "Memory", "Resident memory", chart.rss, 1e-6, " MB")
    return tuple(made)


def zooms(plan: Plan, result: Result, chart: ChartData, history: Sequence[Event]) -> tuple[Zoom, ...]:
    """The whole run, the faults with a little around them, the recovery."""
    axis = Axis(plan, result, chart, history)
    found = [Zoom(label="Whole run", start_s=axis.start, end_s=axis.end)]
    if axis.faults:
        ends = [axis.end if span.end_s is None else span.end_s for span in axis.faults]
        start, end = axis.faults[0].start_s, max(ends)
        around = max(3.0, 0.08 * (end - start))
        found.append(Zoom(label="Fault", start_s=start - around, end_s=end + around))
    recovery = result.recovery
    if recovery and recovery.zero_s is not None:
        length = max(6.0, 2.5 * (recovery.upper_s or 0.0))
        found.append(Zoom(label="Recovery", start_s=recovery.zero_s - 3, end_s=recovery.zero_s + length))
    return tuple(found)


def _panel(id_: str, title: str, note: str, data: list[dict[str, Any]], layout: dict[str, Any], height: int) -> Panel:
    figure = msgspec.json.encode({"data": data, "layout": layout}).decode()
    return Panel(id=id_, title=title, note=note, figure=figure, height=height)


def _trace(name: str, x: Sequence[float], y: Values, colour: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": text.plotly_label(name),
        "x": list(x),
        "y": list(y),
        "connectgaps": False,
        "line": {"color": colour, "width": 1.6, **more.pop("line", {})},
        **more,
    }


def _middle(chart: ChartData) -> list[float]:
    """A value over a step belongs at its middle."""
    return [round(at + length / 2, 3) for at, length in zip(chart.t, chart.lengths_s, strict=True)]


def _load(chart: ChartData, axis: Axis) -> Panel:
    x = _middle(chart)
    data = [_trace("answered", x, chart.rps, "$rps", hovertemplate="%{y:,.1f}/s")]
    if any(value is not None for value in chart.planned_rps):
        # Wide and pale behind the other: where the service keeps up the two lie on each other.
        planned = _trace(
            "planned", x, chart.planned_rps, "$planned", line={"width": 5}, opacity=0.45, hovertemplate="%{y:,.1f}/s"
        )
        data.insert(0, planned)
    note = "Replies by the moment they were due, beside what the schedule asked for."
    return _panel("load", "Requests per second", note, data, axis.layout(first=True, yaxis={}), 250)


def _failures(chart: ChartData, axis: Axis) -> Panel:
    data = [
        {
            "type": "bar",
            "name": text.plotly_label(kind),
            "x": _middle(chart),
            "y": list(values),
            "width": chart.lengths_s,
            "marker": {"color": KIND_COLOURS.get(kind, "$exception"), "line": {"width": 0}},
            "hovertemplate": "%{y:,.1f}/s",
        }
        for kind, values in chart.failures.items()
        if any(values)
    ]
    known = any(value is not None for value in chart.rps)
    note = "Failed requests per second by kind, stacked."
    if not data:
        note = "No request failed." if known else "Nothing was recorded."
    layout = {**axis.layout(yaxis={}), "barmode": "stack", "bargap": 0}
    return _panel("failures", "Failures per second", note, data, layout, 190 if data else 110)


def _latency(plan: Plan, chart: ChartData, axis: Axis) -> Panel:
    x = _middle(chart)
    series = (("p50", chart.p50_ms, "$p50"), ("p95", chart.p95_ms, "$p95"), ("p99", chart.p99_ms, "$p99"))
    data = [_trace(name, x, values, colour, hovertemplate="%{y:,.1f} ms") for name, values, colour in series]
    failed = any(value is not None for value in chart.failed_p95_ms)
    if failed:
        hover = "%{y:,.1f} ms"
        data.append(
            _trace("p95 of failed", x, chart.failed_p95_ms, "$status", line={"dash": "dot"}, hovertemplate=hover)
        )
    known = [value for values in (*(v for _, v, _ in series), chart.failed_p95_ms) for value in values if value]
    limits: dict[tuple[str, float], None] = {}
    for target in plan.targets:
        if target.metric in ("p50", "p95", "p99") and target.name is None and not target.of_baseline:
            limits[(target.metric, target.value)] = None
    for metric, limit in limits:
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": f"{metric} target {text.limit_in_unit(limit, 'ms')}",
                "x": [axis.start, axis.end],
                "y": [limit, limit],
                "line": {"color": f"${metric}", "width": 1.2, "dash": "dash"},
                "opacity": 0.75,
                "hoverinfo": "skip",
            }
        )
    every = [*known, *(limit for _, limit in limits)]
    logarithmic = bool(known) and max(every) / max(min(known), 0.01) > LOG_WHEN_RATIO
    yaxis: dict[str, Any] = {}
    if logarithmic:
        yaxis |= {"type": "log", "rangemode": "normal", "dtick": "D2", "tickformat": ",~g"}
    note = "Of successful requests, from the moment each was due; dashed lines are the targets."
    note += " Dotted: what failed requests took." if failed else ""
    note += " Logarithmic axis." if logarithmic else ""
    if not any(value for _, values, _ in series for value in values):
        note += " No request succeeded."
    return _panel("latency", "Latency in milliseconds", note, data, axis.layout(yaxis=yaxis), 300)


def _in_flight(chart: ChartData, axis: Axis) -> Panel:
    data = [_trace("in flight", _middle(chart), chart.in_flight, "$series1", hovertemplate="%{y:,.0f}")]
    note = "Requests waiting for an answer. A rising line is a queue."
    return _panel("in-flight", "In flight", note, data, axis.layout(yaxis={}), 150)


def _signals(chart: ChartData, axis: Axis) -> list[Panel]:
    """The signals that the fault moved most, in units of their noise in baseline: there may be hundreds."""
    judged = axis.result.signals
    seen = [name for name, values in chart.signals.items() if any(v is not None for v in values)]
    moves = {name: strength(judged[name]) if name in judged else 0.0 for name in seen}
    made = []
    for i, name in enumerate(sorted(seen, key=lambda name: (-moves[name], name))[:MAX_SIGNALS]):
        data = [_trace(name, chart.sample_t, chart.signals[name], SERIES_COLOURS[i % len(SERIES_COLOURS)])]
        counter = name in judged and judged[name].counter
        note = "From the service's own metrics" + (", per second." if counter else ".")
        layout = axis.layout(requests=False, yaxis={})
        made.append(_panel(f"signal-{i}", text.visible(name, 80), note, data, layout, 140))
    return made


def _trees(
    axis: Axis, x: Sequence[float], title: str, what: str, trees: dict[str, list[float | None]], scale: float, unit: str
) -> list[Panel]:
    """A panel of process trees, where there is any."""
    # The service itself first; it is what the targets are about.
    names = sorted((n for n, v in trees.items() if any(i is not None for i in v)), key=lambda n: (n != "target", n))
    data = [
        _trace(
            "service" if name == "target" else name,
            x,
            [None if value is None else value * scale for value in trees[name]],
            SERIES_COLOURS[i % len(SERIES_COLOURS)],
            hovertemplate=f"%{{y:,.0f}}{unit}",
        )
        for i, name in enumerate(names[:MAX_TREES])
    ]
    layout = axis.layout(requests=False, yaxis={"ticksuffix": unit})
    return [_panel(title.lower(), title, f"{what}, by process tree.", data, layout, 190)] if data else []
