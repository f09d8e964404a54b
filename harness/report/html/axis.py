"""What every chart of a report shares: the time range, and the marks of faults, phases and recovery on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.analysis.record.spans import FaultSpan, fault_spans, one_shots
from harness.model.records.events import Event
from harness.model.records.plan import Plan
from harness.model.records.result import PhaseResult, Result
from harness.report.sentences import text

if TYPE_CHECKING:
    from harness.analysis.verdict.timeline import ChartData


class Axis:
    """What every panel shares: the time range and the marks on it."""

    def __init__(self, plan: Plan, result: Result, chart: ChartData, history: Sequence[Event]) -> None:
        self.faults: tuple[FaultSpan, ...] = fault_spans(history, one_shots(plan))
        self.phases = result.phases
        known = [0.0, *(phase.end_s for phase in result.phases)]
        known += [span.end_s if span.end_s is not None else span.start_s for span in self.faults]
        if chart.t:
            known.append(chart.t[-1] + chart.lengths_s[-1])
        if chart.sample_t:
            known.append(chart.sample_t[-1])
        self.start, self.end = 0.0, max(known)
        self.no_data = _no_data(chart)
        self.result = result

    def layout(self, *, first: bool = False, requests: bool = True, yaxis: dict[str, Any]) -> dict[str, Any]:
        # A flapping fault (`redis-down`, `redis-down#2`, ...) is named once; overlapping ones on lines of their own.
        names = list(dict.fromkeys(span.fault.partition("#")[0] for span in self.faults))
        shapes = []
        for span in self.faults:
            base = span.fault.partition("#")[0]
            named = first and span is next(s for s in self.faults if s.fault.partition("#")[0] == base)
            shapes.append(self._fault(span, names.index(base), named))
        shapes += [self._phase(span) for span in self.phases[1:]]
        shapes += self._recovery()
        if requests:
            no_data = _label("no data", "center", 11, "$muted") if first else None
            shapes += [self._rect(f"no-data {start:g}", start, end, "$nodata", no_data) for start, end in self.no_data]
        return {
            "xaxis": {"range": [self.start, self.end], "ticksuffix": "s"},
            "yaxis": {"rangemode": "tozero", **yaxis},
            "shapes": shapes,
            "annotations": self._phase_names() if first else [],
        }

    def _rect(self, name: str, start: float, end: float, colour: str, label: dict[str, Any] | None) -> dict[str, Any]:
        shape = _shape("rect", name, start, end, fillcolor=colour, line={"width": 0})
        return {**shape, "label": label} if label else shape

    def _line(self, name: str, at: float, colour: str, dash: str, width: float = 1) -> dict[str, Any]:
        return _shape("line", name, at, at, line={"color": colour, "dash": dash, "width": width})

    def _fault(self, span: FaultSpan, line: int, named: bool) -> dict[str, Any]:
        name = text.plotly_label(span.fault)
        end = self.end if span.end_s is None else span.end_s
        told = "<br>" * (line % 4) + (f"{name} (undo not recorded)" if span.end_s is None else name)
        label = _label(told, "left", 12, "$faulttext") if named else None
        # A one-shot is a moment: the outline keeps it visible at any zoom.
        return {
            **self._rect(f"fault {name}", span.start_s, end, "$fault", label),
            "line": {"width": 1, "color": "$faultline"},
        }

    def _phase(self, span: PhaseResult) -> dict[str, Any]:
        return self._line(f"phase {text.plotly_label(span.name)}", span.start_s, "$phase", "dot")

    def _phase_names(self) -> list[dict[str, Any]]:
        names = []
        for span in self.phases:
            if span.end_s - span.start_s < 0.045 * (self.end - self.start):
                continue  # no room for its name: the lines still show it, and the table has it
            names.append(
                {
                    "x": (span.start_s + span.end_s) / 2,
                    "xref": "x",
                    "y": 1,
                    "yref": "paper",
                    "yanchor": "bottom",
                    "yshift": 2,
                    "text": text.plotly_label(span.name),
                    "showarrow": False,
                    "font": {"size": 11, "color": "$muted"},
                }
            )
        return names

    def _recovery(self) -> list[dict[str, Any]]:
        recovery = self.result.recovery
        if recovery is None or recovery.zero_s is None:
            return []
        shapes = [self._line("recovery zero", recovery.zero_s, "$zero", "solid", 1.5)]
        if recovery.lower_s is not None and recovery.upper_s is not None:
            lower, upper = recovery.zero_s + recovery.lower_s, recovery.zero_s + recovery.upper_s
            shape = self._rect("recovery interval", lower, upper, "$recovery", None)
            shapes.append({**shape, "line": {"width": 1, "color": "$zero"}})
        return shapes


def _shape(kind: str, name: str, x0: float, x1: float, **more: Any) -> dict[str, Any]:
    """From the bottom of a panel to its top."""
    across = {"xref": "x", "yref": "paper", "x0": x0, "x1": x1, "y0": 0, "y1": 1, "layer": "below"}
    return {"type": kind, "name": name, **across, **more}


def _label(told: str, where: str, size: int, colour: str) -> dict[str, Any]:
    font = {"size": size, "color": colour}
    return {"text": told, "textposition": f"top {where}", "padding": 6, "font": font}


def _no_data(chart: ChartData) -> list[tuple[float, float]]:
    """Stretches with no request data at all, as [start, end] in seconds."""
    found: list[tuple[float, float]] = []
    for at, length, value in zip(chart.t, chart.lengths_s, chart.rps, strict=True):
        if value is not None:
            continue
        end = round(at + length, 3)
        if found and abs(found[-1][1] - at) < chart.step_s / 2:
            found[-1] = (found[-1][0], end)
        else:
            found.append((at, end))
    return found
