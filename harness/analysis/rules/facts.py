"""What targets are judged on, each thing counted once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.analysis.record.cells import Totals
from harness.analysis.record.spans import Span, span_of
from harness.analysis.record.windows import WindowStore
from harness.analysis.statistics.dispersion import Dispersion, dispersion
from harness.analysis.statistics.series import Series
from harness.model.records.plan import Plan
from harness.model.records.result import DetectionResult, MemoryResult, RecoveryResult
from harness.model.records.samples import Sample

EMPTY = Series(start=0, n=[], bad=[], limit=0.5)


@dataclass
class Facts:
    """violating: stretches in which a target of recovery was broken. recovery, memory and detection are None until they
    are known (while baseline is judged, for one)."""

    plan: Plan
    store: WindowStore
    spans: Sequence[Span]
    samples: Sequence[Sample] = ()
    recovery: RecoveryResult | None = None
    memory: MemoryResult | None = None
    detection: DetectionResult | None = None
    violating: Sequence[tuple[float, float]] = ()
    cut: Sequence[tuple[int, int]] = ()
    """Steps [start, end) of baseline that do not count: the generator could not keep up in them."""
    _totals: dict[str, Totals] = field(default_factory=dict)
    _counts: dict[tuple[float | None, bool], Mapping[str | None, Series]] = field(default_factory=dict)
    _earlier: dict[tuple[float | None, bool], list[Mapping[str | None, Series]]] = field(default_factory=dict)
    _dispersions: dict[tuple[float | None, bool, str | None], Dispersion] = field(default_factory=dict)

    def totals(self, span: Span) -> Totals:
        if span.name not in self._totals:
            cuts = [(max(a, span.start), min(b, span.end)) for a, b in self.cut if a < span.end and b > span.start]
            self._totals[span.name] = self.store.totals_without(span.start, span.end, cuts)
        return self._totals[span.name]

    @property
    def open_model(self) -> bool:
        return self.plan.load.rate is not None

    @property
    def baseline(self) -> Span | None:
        return span_of(self.spans, "baseline")

    @property
    def hit(self) -> set[str]:
        """Dependencies that the plan has a fault of."""
        return {fault.spec.dependency for fault in self.plan.faults}

    def independent(self, name: str) -> bool:
        """It is declared that this request does not need what the plan breaks."""
        return bool(self.hit & set(self.plan.independent_of.get(name, ())))

    def may_fail(self, name: str) -> set[str]:
        """Whose faults excuse this request, of those in the plan."""
        return set() if self.independent(name) else self.hit & set(self.plan.may_fail_with.get(name, ()))

    def excused(self, name: str | None, span: Span) -> tuple[str, ...]:
        """The requests that a target of all of them (name: None) leaves out in this phase: what may fail while the
        faults are on would else break it by its share of the traffic alone."""
        if name is not None or span.name != "fault":
            return ()
        return tuple(sorted(one for one in self.plan.may_fail_with if self.may_fail(one)))

    def sums(
        self, name: str | None, latency_ms: float | None, failures: bool, span: Span, without: Sequence[str] = ()
    ) -> tuple[int, int]:
        """(bad, n) of a phase. without: request names that are left out."""
        bad, n = sums_in(self.series(name, latency_ms, failures), span)
        for one in without:
            less_bad, less = sums_in(self.series(one, latency_ms, failures), span)
            bad, n = bad - less_bad, n - less
        return bad, n

    def counts(self, latency_ms: float | None, failures: bool) -> Mapping[str | None, Series]:
        """Per step and request name from baseline on (WindowStore.counts); the steps cut out count nothing."""
        key = (latency_ms, failures or latency_ms is None)
        if key not in self._counts:
            baseline = self.baseline
            start = baseline.start if baseline is not None else 0
            # While a run goes on, what lies behind its phases is still being written by another thread.
            end = min(self.store.end, max((span.end for span in self.spans), default=0))
            found = self.store.counts(latency_ms, start, end, failures=failures)
            self._counts[key] = {name: self.cut_out(series) for name, series in found.items()}
        return self._counts[key]

    def cut_out(self, series: Series) -> Series:
        """The series with nothing in the steps that do not count; its lists are changed."""
        for a, b in self.cut:
            for counts in (series.n, series.bad):
                low, high = max(0, a - series.start), max(0, min(b - series.start, len(counts)))
                counts[low:high] = [0] * max(0, high - low)
        return series

    def series(self, name: str | None, latency_ms: float | None, failures: bool) -> Series:
        return self.counts(latency_ms, failures).get(name, EMPTY)

    def _earlier_of(self, name: str | None, latency_ms: float | None, failures: bool) -> list[Series]:
        """These requests in each earlier clean baseline in which they were sent."""
        key = (latency_ms, failures or latency_ms is None)
        if key not in self._earlier:
            self._earlier[key] = [
                one.counts(latency_ms, *(one.baseline or (0, 0)), failures=failures) for one in self.store.earlier
            ]
        return [one[name] for one in self._earlier[key] if name in one]

    def dispersion(self, name: str | None, latency_ms: float | None, failures: bool) -> Dispersion:
        """Of these requests in baseline, and in the clean ones before it; that of single failures where there is no
        baseline."""
        key = (latency_ms, failures or latency_ms is None, name)
        if key not in self._dispersions:
            baseline = self.baseline
            series = self.series(name, latency_ms, failures)
            earlier = self._earlier_of(name, latency_ms, failures)
            self._dispersions[key] = (
                Dispersion() if baseline is None else dispersion(series, baseline.start, baseline.end, earlier)
            )
        return self._dispersions[key]


def sums_in(series: Series, span: Span) -> tuple[int, int]:
    """(bad, n) of a phase."""
    low, high = max(0, span.start - series.start), max(0, span.end - series.start)
    return sum(series.bad[low:high]), sum(series.n[low:high])
