"""Charts as SVG text, drawn where the page is made: a chart over time, a strip of intervals, a sparkline, icons.

Markup is made by `tag` alone, which escapes whatever it is given. Colours and dashes are classes of report.css, so a
page may be dark, light or printed; no element has a style of its own, which the page's policy forbids.

A chart stretches to the width it has: what is drawn lies in an inner `svg` whose user units are tenths of a second
across and thousandths of the height down. To show another stretch of time its viewBox is changed, nothing else; words
stand outside it, placed in percent, and are never stretched.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec
from markupsafe import Markup, escape

from harness.report.html.buckets import Bucket, Buckets
from harness.report.sentences import text

DOWN = 1000
"""User units from the top of a chart to its bottom."""
FOOT = 32
"""Pixels under a chart for two lines of ticks: seconds, wall clock."""
MANY_SPANS = 100
LINE = 13
"""Pixels of a line of words above a chart."""
_STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400, 604800)


def tag(name: str, *inner: str, **attributes: object) -> Markup:
    """One element. `class_`, `stroke_width`: the underscore at the end falls, others are hyphens; None is left out."""
    # Each value is escaped here: a page has ten thousand of these, and Markup's own format costs many times as much.
    told = "".join(
        f' {_ATTRIBUTES.get(key, key.rstrip("_").replace("_", "-"))}="{escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{told}>{''.join(map(escape, inner))}</{name}>")


_ATTRIBUTES = {"viewBox": "viewBox", "preserveAspectRatio": "preserveAspectRatio"}


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """A shaded stretch. kind: fault, nodata or recovery. line: in which line above the chart its name stands."""

    kind: str
    start: float
    end: float
    name: str = ""
    line: int = 0


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """A line from top to bottom. kind: phase or zero."""

    kind: str
    at: float


class TimeAxis(msgspec.Struct, frozen=True, kw_only=True):
    """What all charts of a page share, in seconds since `began`. names: stretches named above a chart, in order."""

    start: float
    end: float
    spans: tuple[Span, ...] = ()
    moments: tuple[Moment, ...] = ()
    names: tuple[tuple[str, float, float], ...] = ()
    began: datetime | None = None

    @property
    def length(self) -> float:
        return max(self.end - self.start, 0.1)

    def percent(self, at: float) -> str:
        return f"{_short((at - self.start) / self.length * 100, 2)}%"

    def clock(self, at: float) -> str:
        try:
            return "" if self.began is None else f"{(self.began + timedelta(seconds=at)).astimezone(UTC):%H:%M:%S}"
        except OverflowError:  # a record from elsewhere may say any number
            return ""

    def ticks(self, most: int = 10) -> list[float]:
        step = next((step for step in _STEPS_S if self.length / step <= most), self.length / most)
        first = math.ceil(round(self.start / step, 6))
        return [round(number * step, 1) for number in range(first, int(self.end / step + 1e-6) + 1)]


class Scale(msgspec.Struct, frozen=True):
    """From values to user units. low is 0 unless logarithmic."""

    low: float
    high: float
    logarithmic: bool = False

    @classmethod
    def fitting(cls, values: Sequence[float], *, logarithmic: bool = False) -> Scale:
        highest = max(values, default=0.0)
        if not logarithmic:
            step = _step(highest)
            return cls(0.0, max(1, math.ceil(round(highest / step, 6))) * step)
        known = [value for value in values if value > 0]
        return cls(max(0.01, min(known) * 0.85), highest * 1.15, True)

    def down(self, value: float) -> int:
        if self.logarithmic:
            value = min(max(value, self.low), self.high)
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = value / self.high
        return round(DOWN * (1 - share))

    def ticks(self) -> list[float]:
        if not self.logarithmic:
            step = _step(self.high)
            return [number * step for number in range(round(self.high / step) + 1)]
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for digits in ((1, 2, 5), (1, 3), (1,)):
            found = [digit * 10.0**power for power in powers for digit in digits]
            found = [value for value in found if self.low <= value <= self.high]
            if len(found) <= 8:
                break
        return found


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """A series. css: its colour and dash, one of report.css's. values and below are drawn as a filled area between
    them where `below` is given, else values as a line with its lowest and highest around it."""

    name: str
    css: str
    values: Sequence[Bucket | None]
    below: Sequence[float] | None = None


class Limit(msgspec.Struct, frozen=True):
    """A line across the chart with its name on it."""

    name: str
    value: float
    css: str


def time_chart(
    axis: TimeAxis,
    scale: Scale,
    buckets: Buckets,
    layers: Sequence[Layer],
    *,
    told: str,
    height: int,
    unit: str = "",
    limits: Sequence[Limit] = (),
    data: bool = True,
) -> Markup:
    """A chart over time, `height` pixels high without its words. told: what it shows, for those who cannot see it.
    data: whether stretches without data are marked on it."""
    spans = [span for span in axis.spans if data or span.kind != "nodata"]
    named = [span for span in spans if span.name]
    top = LINE * ((1 if axis.names else 0) + max((span.line + 1 for span in named), default=0)) + 6
    inner = [*_shades(axis, spans), *(_moment(axis, moment) for moment in axis.moments)]
    inner += [_rule(axis, scale.down(value), "grid") for value in scale.ticks()]
    inner += [_layer(axis, scale, buckets, layer, number) for number, layer in enumerate(layers)]
    inner += [_rule(axis, scale.down(limit.value), f"limit {limit.css}") for limit in limits]
    words = [_named(axis, *name) for name in axis.names]
    words += [_fault(axis, span, bool(axis.names)) for span in named]
    words += [
        tag("text", limit.name, class_="limit", x="100%", y=_px(top, scale.down(limit.value), height) - 3)
        for limit in limits
    ]
    words += _ticks(axis, top + height)
    left = [
        tag("text", text.number(value) + unit, x=52, y=_px(top, scale.down(value), height) + 4)
        for value in scale.ticks()
    ]
    view = tag(
        "svg",
        *inner,
        class_="view",
        y=top,
        width="100%",
        height=height,
        viewBox=_view(axis),
        preserveAspectRatio="none",
    )
    area = tag(
        "svg", view, *words, class_="area", width="100%", height=top + height + FOOT, role="img", aria_label=told
    )
    scales = tag("svg", *left, class_="scale", width=56, height=top + height + FOOT, aria_hidden="true")
    return tag("div", scales, area, class_="plot")


def strip(axis: TimeAxis, rows: Sequence[tuple[str, Sequence[Span]]], *, told: str) -> Markup:
    """One bar a row on the axis's time: when something was so. The kind of a span is its class."""
    made = []
    for name, spans in rows:
        bars = [
            tag(
                "rect",
                class_=span.kind,
                x=_x(axis, span.start),
                y=250,
                height=500,
                width=max(_x(axis, span.end) - _x(axis, span.start), 1),
            )
            for span in spans
        ]
        bars += [_moment(axis, moment) for moment in axis.moments if moment.kind == "zero"]
        view = tag(
            "svg",
            *bars,
            width="100%",
            height=22,
            viewBox=_view(axis),
            preserveAspectRatio="none",
            role="img",
            aria_label=f"{told}: {name}",
        )
        made += [tag("div", name, class_="name"), view]
    foot = tag("svg", *_ticks(axis, 0), class_="area", width="100%", height=FOOT, aria_hidden="true")
    return tag("div", *made, tag("div"), foot, class_="strip")


def sparkline(values: Sequence[float | None], *, told: str, points: int = 40) -> Markup:
    """How a value went, without an axis: from its lowest to its highest."""
    buckets = Buckets.of_times([float(i) for i in range(len(values))], most=points)
    found = buckets.of(values)
    known = [bucket for bucket in found if bucket is not None]
    if not known:
        return Markup("")
    low, high = min(bucket.low for bucket in known), max(bucket.high for bucket in known)
    unit = (high - low) or 1.0
    path = _path([(i, 15 - round((b.mean - low) / unit * 13) if b is not None else None) for i, b in enumerate(found)])
    view = f"0 0 {max(len(found) - 1, 1)} 16"
    return tag(
        "svg",
        tag("path", d=path, class_="line"),
        class_="spark",
        width=120,
        height=16,
        viewBox=view,
        preserveAspectRatio="none",
        role="img",
        aria_label=told,
    )


_ICONS = {
    "pass": "M3 8.5 6.5 12 13 4.5",
    "held": "M3 8.5 6.5 12 13 4.5",
    "fail": "M4 4 12 12M12 4 4 12",
    "broken": "M4 4 12 12M12 4 4 12",
    "warn": "M8 3V9.5M8 12.5v.5",
    "not_judged": "M3 8H13",
}


def icon(css: str) -> Markup:
    """The sign beside a verdict or an outcome, which says it in words: no font has to have it."""
    path = _ICONS.get(css, "M5 6a3 3 0 1 1 3 3V10M8 12.7v.3")
    return tag("svg", tag("path", d=path), class_="icon", viewBox="0 0 16 16", width=14, height=14, aria_hidden="true")


def key(css: str) -> Markup:
    """The beginning of a legend's entry: the line as it is drawn, its dash too."""
    return tag(
        "svg",
        tag("path", d="M0 5H26", class_="line"),
        class_=f"key-line {css}",
        width=26,
        height=10,
        aria_hidden="true",
    )


def _x(axis: TimeAxis, at: float) -> int:
    return round((at - axis.start) * 10)


def _view(axis: TimeAxis) -> str:
    return f"0 0 {_x(axis, axis.end) or 1} {DOWN}"


def _px(top: int, down: int, height: int) -> int:
    return top + round(down * height / DOWN)


def _short(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".rstrip("0").rstrip(".")


def _step(highest: float) -> float:
    """A round distance of ticks, of which four or five reach the highest value."""
    if highest <= 0:
        return 0.5
    power = 10.0 ** math.floor(math.log10(highest / 4))
    return next(power * nice for nice in (1, 2, 2.5, 5, 10) if highest / (power * nice) <= 5)


def _shades(axis: TimeAxis, spans: Sequence[Span]) -> list[Markup]:
    """One path a kind. Of hundreds, which a fault that flaps has, those closer than a chart can show are one."""
    made = []
    for kind in dict.fromkeys(span.kind for span in spans):
        found: list[tuple[float, float]] = []
        close = axis.length / 400 if len(spans) > MANY_SPANS else -1.0
        for start, end in sorted((span.start, span.end) for span in spans if span.kind == kind):
            if found and start - found[-1][1] < close:
                found[-1] = (found[-1][0], max(end, found[-1][1]))
            else:
                found.append((start, end))
        path = "".join(f"M{_x(axis, start)} 0V{DOWN}H{_x(axis, end)}V0z" for start, end in found)
        made.append(tag("path", class_=kind, d=path))
    return made


def _moment(axis: TimeAxis, moment: Moment) -> Markup:
    return tag("path", class_=f"at-{moment.kind}", d=f"M{_x(axis, moment.at)} 0V{DOWN}")


def _rule(axis: TimeAxis, down: int, css: str) -> Markup:
    return tag("path", class_=css, d=f"M0 {down}H{_x(axis, axis.end) or 1}")


def _named(axis: TimeAxis, name: str, start: float, end: float) -> Markup:
    share = (end - start) / axis.length
    # Where there is no room for a name the lines still show the stretch, and the table of phases has it.
    css = "phase none" if share < 0.045 else "phase wide" if share < 0.17 else "phase"
    return tag("text", name, class_=css, x=axis.percent((start + end) / 2), y=10, data_s=start, data_e=end)


def _fault(axis: TimeAxis, span: Span, under: bool) -> Markup:
    anchor = "end" if span.start > axis.start + 0.6 * axis.length else None
    at = span.end if anchor else span.start
    y = 10 + LINE * (span.line + (1 if under else 0))
    return tag(
        "text",
        span.name,
        class_="fault",
        x=axis.percent(at),
        y=y,
        text_anchor=anchor,
        data_s=span.start,
        data_e=span.end,
    )


def _ticks(axis: TimeAxis, top: int) -> list[Markup]:
    made = []
    for number, at in enumerate(axis.ticks()):
        share = (at - axis.start) / axis.length
        anchor = "start" if share < 0.03 else "end" if share > 0.95 else None
        # A narrow page has room for every second one.
        css = "tick wide" if number % 2 else "tick"
        more = {"x": axis.percent(at), "text_anchor": anchor, "class_": css}
        made.append(tag("text", f"{_short(at, 1)} s", y=top + 14, **more))
        if axis.began is not None:
            made.append(tag("text", axis.clock(at), y=top + 27, **more))
    return made


def _layer(axis: TimeAxis, scale: Scale, buckets: Buckets, layer: Layer, number: int) -> Markup:
    middles = [_x(axis, start + length / 2) for start, length in zip(buckets.starts, buckets.lengths, strict=True)]
    if layer.below is not None:
        return tag("g", *_area(axis, scale, buckets, layer), class_=layer.css, data_series=number)
    line = _path(
        [(x, scale.down(b.mean) if b is not None else None) for x, b in zip(middles, layer.values, strict=True)]
    )
    around = "".join(
        f"M{x} {scale.down(b.high)}V{scale.down(b.low)}"
        for x, b in zip(middles, layer.values, strict=True)
        if b is not None and scale.down(b.low) - scale.down(b.high) > 8
    )
    shown = [tag("path", d=around, class_="around")] if around else []
    return tag("g", *shown, tag("path", d=line, class_="line"), class_=layer.css, data_series=number)


def _area(axis: TimeAxis, scale: Scale, buckets: Buckets, layer: Layer) -> list[Markup]:
    """Bars as wide as their buckets, their tops joined to a line: zero height is not drawn at all."""
    assert layer.below is not None
    bars, tops = [], []
    for start, length, bucket, below in zip(buckets.starts, buckets.lengths, layer.values, layer.below, strict=True):
        if bucket is None or bucket.mean <= 0:
            continue
        left, right = _x(axis, start), _x(axis, start + length)
        low, high = scale.down(below), scale.down(below + bucket.mean)
        bars.append(f"M{left} {low}V{high}h{right - left}V{low}z")
        tops.append(f"M{left} {high}h{right - left}")
    return [tag("path", d="".join(bars), class_="fill"), tag("path", d="".join(tops), class_="line")]


def _path(points: Sequence[tuple[int, int | None]]) -> str:
    """A line through the points, broken where one is missing; a lone point is a dot (a line of no length)."""
    made, before = [], None
    for number, (x, y) in enumerate(points):
        if y is None:
            before = None
        elif before is None:
            lone = number + 1 == len(points) or points[number + 1][1] is None
            made.append(f"M{x} {y}" + ("h0" if lone else ""))
            before = (x, y)
        else:
            made.append(f"l{x - before[0]} {y - before[1]}")
            before = (x, y)
    return "".join(made)
