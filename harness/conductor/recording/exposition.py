"""What a run knows of itself while it goes on, for a Prometheus to scrape: 127.0.0.1 only, with --metrics-port.

Nothing waits for it: rows and events are put on a queue, one thread adds them up, and others answer scrapes.
docs/monitoring.md lists the metrics.
"""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, get_args

from harness.conductor.recording.history import History
from harness.model.errors import UsageError
from harness.model.records.events import (
    Event,
    FaultInjected,
    FaultMended,
    PhaseStarted,
    Undone,
    UndoVerified,
)
from harness.model.records.plan import Plan
from harness.model.records.targets import PhaseName
from harness.model.records.windows import DeltaRow, MarkRow, Row, pairs
from harness.model.sketch import bucket_value

BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Of the histogram. What is within 1 % of one may be counted on its other side: the record has no more."""
GOODBYE_S = 1.0


class Exposition:
    """Answers from the start on, until `close`. Counters go on from one experiment of a session to the next, and count
    what came while one was conducted. Raises UsageError when the port is not free."""

    def __init__(self, port: int, say: Callable[[str], None]) -> None:
        from prometheus_client import CollectorRegistry, start_http_server

        self._say = say
        self._lock = threading.Lock()
        self._heard: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._run, self._experiment, self._hidden = "", "", True
        self._phase = ""
        self._faults: dict[str, bool] = {}
        self._injections: Counter[str] = Counter()
        self._requests: Counter[tuple[str, str]] = Counter()
        self._latencies: dict[str, Counter[int]] = {}
        self._sums_s: dict[str, float] = {}
        self._unsent: Counter[str] = Counter()
        self._workers: dict[str, MarkRow] = {}
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        try:
            self._server, _ = start_http_server(port, "127.0.0.1", registry)
        except (OSError, OverflowError) as error:
            raise UsageError(
                f"{port} of 127.0.0.1 cannot be listened on: {error}", field="metrics_port", hint="another port"
            ) from error
        self._thread = threading.Thread(target=self._listen, name="exposition", daemon=True)
        self._thread.start()

    def follow(self, plan: Plan, history: History, *, hidden: bool) -> None:
        """An experiment begins. hidden: its phases and faults are not told, as in a blind drill."""
        self._heard.put(partial(self._begin, plan, hidden))
        history.listen(lambda event: self._heard.put(partial(self._note, event)))

    def rows(self, rows: Sequence[Row]) -> None:
        self._heard.put(partial(self._add_all, rows))

    def over(self) -> None:
        """The experiment has ended: it is in no phase."""
        self._heard.put(self._end_phase)

    def close(self) -> None:
        self._heard.put(None)
        self._thread.join(GOODBYE_S)
        threading.Thread(target=self._end, name="exposition-end", daemon=True).start()

    def _end(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _listen(self) -> None:
        try:
            while (heard := self._heard.get()) is not None:
                with self._lock:
                    heard()
        except Exception as error:  # nothing of a run may hang on it
            self._say(f"the metrics of --metrics-port stand still: {type(error).__name__}: {error}")

    def _begin(self, plan: Plan, hidden: bool) -> None:
        self._hidden = hidden
        self._run, self._experiment = plan.load.run, plan.experiment
        self._phase = ""
        self._faults = dict.fromkeys((fault.id for fault in plan.faults if fault.for_s is not None), False)
        self._injections = Counter({fault.id: 0 for fault in plan.faults})

    def _end_phase(self) -> None:
        self._phase = ""

    def _note(self, event: Event) -> None:
        match event:
            case PhaseStarted(phase=phase):
                self._phase = phase
            case FaultInjected(fault=fault):
                self._injections[fault] += 1
                if fault in self._faults:
                    self._faults[fault] = True
            case Undone(fault=fault) | UndoVerified(fault=fault) | FaultMended(fault=fault):
                self._faults.update({fault: False} if fault in self._faults else {})
            case _:
                pass

    def _add_all(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self._add(row)

    def _add(self, row: Row) -> None:
        """Virtual arrivals are no requests: they are in no figure here."""
        if isinstance(row, MarkRow):
            self._workers[row.worker] = row
        if not isinstance(row, DeltaRow):
            return
        for arrivals in row.classes.values():
            self._unsent.update(arrivals.unsent_by)
        for name, counts in row.requests.items():
            self._requests[name, "ok"] += counts.ok - counts.backfilled
            for kind, count in counts.fail.items():
                self._requests[name, kind] += count - counts.backfilled_fail.get(kind, 0)
            latencies = self._latencies.setdefault(name, Counter())
            latencies.update(pairs(counts.sketch))
            latencies.subtract(pairs(counts.backfilled_sketch))
            sum_s = (counts.sum_ms - counts.backfilled_sum_ms) / 1000
            self._sums_s[name] = self._sums_s.get(name, 0.0) + sum_s

    def collect(self) -> Iterator[Any]:
        """What a scrape is answered."""
        with self._lock:
            return iter(self._families())

    def _families(self) -> list[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        experiment = "" if self._hidden else self._experiment
        info = GaugeMetricFamily("harness_run_info", "The run, as its baggage calls it.", labels=("run", "experiment"))
        info.add_metric((self._run, experiment), 1)
        requests = CounterMetricFamily(
            "harness_requests", "Requests that have ended, by how.", labels=("name", "outcome")
        )
        for (name, outcome), count in sorted(self._requests.items()):
            requests.add_metric((name, outcome), count)
        took = HistogramMetricFamily(
            "harness_request_latency_seconds", "Of successful requests, from their intended start.", labels=("name",)
        )
        for name, latencies in sorted(self._latencies.items()):
            took.add_metric((name,), _cumulated(latencies), self._sums_s[name])
        unsent = CounterMetricFamily(
            "harness_arrivals_unsent", "Arrivals for which no user was free.", labels=("cause",)
        )
        for cause, count in sorted(self._unsent.items()):
            unsent.add_metric((cause,), count)
        marks = [mark for mark in self._workers.values() if not mark.final]
        late = [mark.lateness_p99_ms for mark in marks if mark.lateness_p99_ms is not None]
        found = [
            info,
            requests,
            took,
            unsent,
            _gauge(
                "harness_arrivals_in_flight", "Arrivals that have not ended.", sum(sum(m.open[1::2]) for m in marks)
            ),
            _gauge("harness_users", "Users alive.", sum(mark.users for mark in marks)),
            _gauge(
                "harness_generator_saturated", "Whether a generator cannot keep up.", any(m.saturated for m in marks)
            ),
        ]
        if late:
            text = "Of arrivals behind their schedule, 99th percentile of the worst generator."
            found.append(_gauge("harness_generator_lateness_seconds", text, max(late) / 1000))
        if not self._hidden:
            phase = GaugeMetricFamily("harness_phase", "1 for the phase that is on.", labels=("phase",))
            for name in get_args(PhaseName):
                phase.add_metric((name,), name == self._phase)
            fault = GaugeMetricFamily("harness_fault_on", "1 from the injection to the undo.", labels=("fault",))
            for name, on in sorted(self._faults.items()):
                fault.add_metric((name,), on)
            times = CounterMetricFamily("harness_fault_injections", "Injections of this experiment.", labels=("fault",))
            for name, count in sorted(self._injections.items()):
                times.add_metric((name,), count)
            found += [phase, fault, times]
        return found


def _gauge(name: str, text: str, value: float) -> Any:
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily(name, text, value=float(value))


def _cumulated(latencies: Counter[int]) -> list[tuple[str, float]]:
    """(upper bound, how many were at or below it), the last one of all."""
    by_bound: Counter[int] = Counter()
    for bucket, count in latencies.items():
        seconds = bucket_value(bucket) / 1000
        by_bound[next((i for i, bound in enumerate(BOUNDS_S) if seconds <= bound), len(BOUNDS_S))] += count
    found, below = [], 0
    for i, bound in enumerate((*map(str, BOUNDS_S), "+Inf")):
        below += by_bound[i]
        found.append((bound, float(below)))
    return found
