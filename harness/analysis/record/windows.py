"""The recorded windows of a run, added row by row: the one source of every number about requests.

Used while the run goes on (rows as they are tailed) and afterwards (rows of the whole file); the same rows give the
same numbers in any order. Steps are 100 ms, counted from t0; ranges of steps are half open.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import nlargest

from harness.analysis.record.cells import Cell, NameTotals, Step, Totals
from harness.analysis.record.limit_counts import Counter, proven
from harness.analysis.statistics.dispersion import Dispersion
from harness.analysis.statistics.series import Series
from harness.analysis.statistics.violations import Baseline
from harness.model.clock import step_start
from harness.model.records.metrics import ALLOWED_OVER
from harness.model.records.plan import Plan
from harness.model.records.targets import Target
from harness.model.records.windows import ClassCounts, DeltaRow, ErrorRow, MarkRow, Row, limit_key, pairs
from harness.plan.schedule import planned_counts

BLOCK = 10
"""Steps whose sketches are merged once and kept: charts are made of these."""
LONG_BLOCK = 100
"""The same for ten blocks: phases are made of these."""

TRACES = 5
"""Ids of requests kept: the slowest of a phase and request name, the first failures of a kind and request name."""

FAILING_AFTER_S = 1.0
"""Live rule: an arrival open for longer counts as failing until it ends."""

ENDS_WITHIN_STEPS = 50
"""Ends are kept of what ended so soon after its intended start: the rules look at windows of 5 s at most."""

_NEAR_0, _NEAR_1 = 1e-9, 1 - 1e-9


@dataclass(slots=True)
class Mark:
    """What is kept of a MarkRow for the whole run: 10 a second and worker."""

    at: float
    cpu: float | None
    lateness_p99_ms: float | None
    lateness_n: int
    users: int
    in_flight: int
    oldest_open: int | None
    saturated: bool
    lateness_max_ms: float | None = None


@dataclass(slots=True)
class Worker:
    """done: every step below it has been drawn. open, unasked, open_names: as of its last mark."""

    done: int = 0
    at: float = 0.0
    open: dict[int, int] = field(default_factory=dict)
    unasked: dict[int, int] = field(default_factory=dict)
    open_names: dict[str, dict[int, int]] = field(default_factory=dict)
    marks: list[Mark] = field(default_factory=list)
    final: bool = False


@dataclass(slots=True)
class ErrorSeen:
    count: int = 0
    first_s: float = 0.0
    last_s: float = 0.0
    example: str = ""
    traces: list[str] = field(default_factory=list)
    """Of the first of them, TRACES at most."""

    def trace(self, row: ErrorRow) -> None:
        if row.trace and len(self.traces) < TRACES:
            self.traces.append(row.trace)


class WindowStore:
    """Everything recorded in windows.jsonl. plan: how many workers to expect, and the schedule to check against.

    total_requests: sent and ended so far, setup and backfilled ones excluded. total_failures: failed requests, unsent
    and failed arrivals so far; total_attempts: the same as well as all requests. worst_baseline: target -> (limit,
    worst windows), kept by the live rules, which ask for it several times a second once baseline is final.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.workers: dict[str, Worker] = {}
        self.errors: dict[tuple[str, str | None], ErrorSeen] = {}
        self.setup: dict[str, NameTotals] = {}
        self.worst_baseline: dict[str, tuple[float | None, Baseline, Dispersion]] = {}
        self.baseline: tuple[int, int] | None = None
        """Its steps, once it has ended: it may have gone on longer than planned."""
        self.earlier: Sequence[WindowStore] = ()
        """Clean baselines of the session before this experiment (record/clean.py): no more than `baseline` in each."""
        self.cut: Sequence[tuple[int, int]] | None = None
        """The steps of it that do not count, once it has ended."""
        self.names_looked = 0
        """The step up to which the live rules last looked at single request names, and found one broken."""
        self.total_requests = 0
        self.total_failures = 0
        self.total_attempts = 0
        self._forgotten = 0
        # Rows with something bad in them, by step: when it ended. Whether any row says so at all.
        self._ends: dict[int, list[DeltaRow]] = {}
        self._ends_known = False
        self._lost: set[str] = set()
        self._steps: list[Step | None] = []
        self._final = 0
        self._blocks: dict[tuple[int, int], Totals] = {}
        self._counted_from: dict[str, int] = {}
        self._planned_limits = {limit_key(limit) for limit in plan.load.limits_ms}

    def add(self, row: Row) -> None:
        """Add one row. Costs a few microseconds a request name; rows before t0 (negative steps) are not judged."""
        if isinstance(row, DeltaRow):
            self._add_delta(row)
        elif isinstance(row, MarkRow):
            self._add_mark(row)
        else:
            self._add_error(row)

    @property
    def end(self) -> int:
        """One past the last step with anything recorded."""
        return len(self._steps)

    def lose(self, worker: str) -> None:
        """A worker that is gone. Live rules go on with what the others see; a recorded run is judged without this, so
        that what it did not record is a gap."""
        self._lost.add(worker)

    def _there(self) -> list[Worker]:
        return [worker for name, worker in self.workers.items() if name not in self._lost]

    def drawn_before(self) -> int:
        """Steps below it have been drawn from the schedule by all workers (that are not lost); 0 until every worker has
        spoken."""
        there = self._there()
        if not there or len(there) + len(self._lost) < self.plan.load.workers:
            return 0
        return min(worker.done for worker in there)

    def final_before(self) -> int:
        """Steps below it are final: every arrival of theirs, on every worker, has ended."""
        drawn = self.drawn_before()
        while self._final < drawn and self._complete(self._final):
            self._final += 1
        return self._final

    def forget(self, before: int) -> None:
        """Drop what is known of the steps below `before`, and all marks but the last: nobody will ask again.

        For a store that follows a run: an hour at 200 requests a second takes 90 MB. The totals so far stay, and
        so does baseline: what comes later is compared with it.
        """
        before = min(before, len(self._steps))
        first, last = self.baseline or (0, 0)
        for number in range(self._forgotten, before):
            if first <= number < last:
                continue
            self._steps[number] = None
            self._ends.pop(number, None)
            for length in (BLOCK, LONG_BLOCK):
                self._blocks.pop((number - number % length, length), None)
        self._forgotten = max(self._forgotten, before)
        for worker in self.workers.values():
            del worker.marks[:-1]

    def gaps(self, start: int, end: int) -> list[int]:
        """Steps of [start, end) with fewer arrivals ended than were planned.

        In the open model "planned" is drawn again from the plan, so that the rows of a worker that never arrived
        are missed too. A step that some worker never reported as drawn is a gap in either model.
        """
        drawn = self.drawn_before()
        wanted = self._planned(start, end)
        missing = []
        for index, number in enumerate(range(start, end)):
            step = self._step(number)
            short = number >= drawn or (step is not None and not step.complete)
            if not short and wanted:
                ended = {name: a.ended for name, a in step.classes.items()} if step else {}
                short = any(ended.get(name, 0) < counts[index] for name, counts in wanted.items())
            if short:
                missing.append(number)
        return missing

    def unrecorded(self, start: int, end: int) -> tuple[int, int]:
        """(arrivals of [start, end) without an end on record, arrivals scheduled there). (0, 0) in the closed model."""
        wanted = sum(map(sum, self._planned(start, end).values()))
        ended = sum(a.ended for _, step in self.steps(start, end) for a in step.classes.values())
        return max(0, wanted - ended), wanted

    def _planned(self, start: int, end: int) -> dict[str, list[int]]:
        """Arrivals of every class for each step of [start, end), drawn again; none in the closed model."""
        load = self.plan.load
        if load.rate is None or end <= start:
            return {}
        return planned_counts(load, load.first_step + start, load.first_step + end)

    def steps(self, start: int, end: int) -> Iterator[tuple[int, Step]]:
        """The recorded steps of [start, end), in order; steps without any arrival are left out."""
        for number in range(max(0, start), min(end, len(self._steps))):
            step = self._steps[number]
            if step is not None:
                yield number, step

    def totals(self, start: int, end: int) -> Totals:
        """Counts and sketches of [start, end)."""
        whole = Totals(start, max(start, end))
        at, end = max(0, start), min(end, len(self._steps))
        while at < end:
            length = next(n for n in (LONG_BLOCK, BLOCK, 1) if at % n == 0 and at + n <= end)
            if length == 1:
                length = min(BLOCK - at % BLOCK, end - at)
                whole.add_steps(step for _, step in self.steps(at, at + length))
            else:
                whole.merge(self._block(at, length))
            at += length
        return whole

    def totals_without(self, start: int, end: int, cuts: Sequence[tuple[int, int]]) -> Totals:
        """Counts and sketches of [start, end) less those of `cuts`, sorted stretches inside it."""
        if not cuts:
            return self.totals(start, end)
        whole, at = Totals(start, end), start
        for low, high in [*cuts, (end, end)]:
            if low > at:
                whole.merge(self.totals(at, low))
            whole.left_out += max(0, high - max(at, low))
            at = max(at, high)
        return whole

    def exact_from(self, limit_ms: float) -> int | None:
        """The first step in which the load counted this latency limit itself; None where it never did."""
        key = limit_key(limit_ms)
        return 0 if key in self._planned_limits else self._counted_from.get(key)

    def counter(self, latency_ms: float | None, *, failures: bool = True) -> Counter:
        return Counter(latency_ms, None if latency_ms is None else self.exact_from(latency_ms), failures=failures)

    def counts(self, latency_ms: float | None, start: int, end: int, *, failures: bool) -> dict[str | None, Series]:
        """Requests and bad ones per step of [start, end) as Counter counts them, by request name; None: everything,
        what was never sent included. limit of the series is 0.5: the caller's."""
        span = max(0, end - start)
        count = self.counter(latency_ms, failures=failures)
        found: dict[str | None, tuple[list[int], list[int]]] = {None: ([0] * span, [0] * span)}
        whole_n, whole_bad = found[None]
        for number, step in self.steps(start, end):
            at = number - start
            lost = count.lost(step)
            whole_n[at] += lost
            whole_bad[at] += lost
            for name, cell in step.cells.items():
                n, bad = count.of(number, cell)
                if name not in found:
                    found[name] = ([0] * span, [0] * span)
                found[name][0][at] += n
                found[name][1][at] += bad
                whole_n[at] += n
                whole_bad[at] += bad
        return {name: Series(start=start, n=n, bad=bad, limit=0.5) for name, (n, bad) in found.items()}

    def series(
        self,
        target: Target,
        start: int,
        end: int,
        provisional_at: float | None = None,
        *,
        limit: float | None = None,
        proven_unless: Container[int] | None = None,
    ) -> Series:
        """Requests and bad requests per step of [start, end), for a percentile or error_rate target.

        A failed request also counts as over every latency limit, so a total outage is seen under a p95-only target.
        provisional_at: the live rule, as of this moment: an arrival still open counts as slow once it has been open
        for longer than the latency limit, and as failing after 1 s. limit: the resolved limit of a relative target.
        proven_unless: count only what is the target's own doing; the steps in it were saturated, so that slow replies
        and silence in them are not.
        """
        latency_ms = None
        p = target.value if limit is None else limit
        if target.metric in ALLOWED_OVER:
            latency_ms, p = p, ALLOWED_OVER[target.metric]
        count = self.counter(latency_ms)
        n, bad = [0] * max(0, end - start), [0] * max(0, end - start)
        for number, step in self.steps(start, end):
            at = number - start
            n[at], bad[at] = count(number, step, target.name)
            if proven_unless is not None:
                saturated = number in proven_unless
                slow = 0 if saturated else count.slow(number, step, target.name)
                bad[at] = proven(step, target.name, saturated) + slow
        if provisional_at is not None:
            slow_after = min(FAILING_AFTER_S, latency_ms / 1000) if latency_ms is not None else FAILING_AFTER_S
            for number, waiting in self.waiting(target.name).items():
                # The youngest it can be: it may have been intended at the very end of its step.
                if start <= number < end and provisional_at - step_start(number + 1) >= slow_after:
                    n[number - start] += waiting
                    bad[number - start] += waiting
        return Series(start=start, n=n, bad=bad, limit=min(max(p, _NEAR_0), _NEAR_1))

    def earlier_series(self, target: Target, limit: float | None, *, own_acts: bool = False) -> list[Series]:
        """`series` of each earlier clean baseline in which such requests were sent. own_acts: as with proven_unless;
        the generator kept up in all of them."""
        found = [
            one.series(target, *(one.baseline or (0, 0)), limit=limit, proven_unless=() if own_acts else None)
            for one in self.earlier
        ]
        return [series for series in found if any(series.n)]

    def ended_bad(self, target: Target, start: int, end: int, *, limit: float) -> list[int] | None:
        """Bad requests per step of [start, end) that had ended before step `end`, in the sense of `series`; None where
        the rows do not tell when requests ended."""
        if not self._ends_known:
            return None
        latency = target.metric in ALLOWED_OVER
        key = limit_key(limit) if latency else ""
        found = [0] * max(0, end - start)
        for number in range(start, end):
            for row in self._ends.get(number, ()):
                if row.ended is None or row.ended >= end:
                    continue
                bad = 0
                if target.name is None:
                    bad += sum(counts.without_request for counts in row.classes.values())
                for name, counts in row.requests.items():
                    if target.name in (None, name):
                        bad += sum(counts.fail.values()) + (counts.over.get(key, 0) if latency else 0)
                found[number - start] += bad
        return found

    def waiting(self, name: str | None = None) -> dict[int, int]:
        """Step -> requests (of one name) that wait for their reply as of the workers' last marks, with the arrivals
        that have not got as far as a request. A task that is between two requests waits for nobody but itself."""
        found: dict[int, int] = {}
        for worker in self._there():
            names = worker.open_names.values() if name is None else [worker.open_names.get(name, {})]
            for counts in (*names, worker.unasked) if name is None else names:
                for number, count in counts.items():
                    found[number] = found.get(number, 0) + count
        return found

    def unasked(self, start: int, end: int) -> int:
        """Arrivals of [start, end) that had made no request as of the workers' last marks; lost workers' too."""
        return sum(
            count
            for worker in self.workers.values()
            for number, count in worker.unasked.items()
            if start <= number < end
        )

    def slowest(self, start: int, end: int) -> dict[str, list[tuple[float, int, str]]]:
        """By request name the slowest successful requests of [start, end), TRACES at most and one of a step: (ms, step,
        trace id), the slowest first."""
        found: dict[str, list[tuple[float, int, str]]] = {}
        for number, step in self.steps(start, end):
            for name, cell in step.cells.items():
                if cell.slowest is not None:
                    found.setdefault(name, []).append((cell.slowest[0], number, cell.slowest[1]))
        return {name: nlargest(TRACES, all_of) for name, all_of in sorted(found.items())}

    @property
    def in_flight(self) -> int:
        """Arrivals not ended as of the workers' last marks."""
        return sum(sum(worker.open.values()) for worker in self._there())

    def names(self) -> list[str]:
        """Every request name seen, sorted."""
        return sorted({name for _, step in self.steps(0, self.end) for name in step.cells})

    def _step(self, number: int) -> Step | None:
        return self._steps[number] if 0 <= number < len(self._steps) else None

    def _complete(self, number: int) -> bool:
        step = self._step(number)
        return step is None or step.complete

    def _block(self, start: int, length: int) -> Totals:
        found = self._blocks.get((start, length))
        if found is None:
            found = Totals(start, start + length)
            if length == LONG_BLOCK:
                for at in range(start, start + length, BLOCK):
                    found.merge(self._block(at, BLOCK))
            else:
                found.add_steps(step for _, step in self.steps(start, start + length))
            self._blocks[(start, length)] = found
        return found

    def _add_delta(self, row: DeltaRow) -> None:
        for name, counts in row.setup.items():
            cell = Cell()
            cell.add_row(counts)
            self.setup.setdefault(name, NameTotals()).add_cells([cell])
        number = row.step
        if number < 0:
            return
        if number >= len(self._steps):
            self._steps.extend([None] * (number + 1 - len(self._steps)))
        step = self._steps[number]
        if step is None:
            step = self._steps[number] = Step()
        for name, arrivals in row.classes.items():
            if name not in step.classes:
                step.classes[name] = ClassCounts()
            step.classes[name].add(arrivals)
            self.total_failures += arrivals.without_request
            self.total_attempts += arrivals.without_request
        if row.ended is not None:
            self._ends_known = True
            if row.ended - number <= ENDS_WITHIN_STEPS and _has_bad(row):
                self._ends.setdefault(number, []).append(row)
        for name, counts in row.requests.items():
            if name not in step.cells:
                step.cells[name] = Cell()
            failed = step.cells[name].add_row(counts)
            self.total_requests += counts.ok - counts.backfilled + failed
            self.total_attempts += counts.ok - counts.backfilled + failed
            self.total_failures += failed
            for key in counts.over:
                if key not in self._planned_limits and number < self._counted_from.get(key, number + 1):
                    self._counted_from[key] = number
        if self._blocks:
            for length in (BLOCK, LONG_BLOCK):
                self._blocks.pop((number - number % length, length), None)

    def _add_mark(self, row: MarkRow) -> None:
        worker = self.workers.setdefault(row.worker, Worker())
        worker.done = max(worker.done, row.done)
        worker.at = row.at
        worker.final = worker.final or row.final
        worker.open = pairs(row.open)
        worker.unasked = pairs(row.unasked)
        worker.open_names = {name: pairs(flat) for name, flat in row.open_names.items()}
        worker.marks.append(
            Mark(
                row.at,
                row.cpu,
                row.lateness_p99_ms,
                row.lateness_n,
                row.users,
                sum(row.open[1::2]),
                min(row.open[::2], default=None),
                row.saturated,
                row.lateness_max_ms,
            )
        )

    def _add_error(self, row: ErrorRow) -> None:
        seen = self.errors.get((row.kind, row.name))
        if seen is None:
            seen = self.errors[(row.kind, row.name)] = ErrorSeen(row.count, row.first_s, row.last_s, row.example)
            seen.trace(row)
            return
        seen.count += row.count
        seen.first_s = min(seen.first_s, row.first_s)
        seen.last_s = max(seen.last_s, row.last_s)
        seen.example = seen.example or row.example
        seen.trace(row)


def _has_bad(row: DeltaRow) -> bool:
    return any(counts.fail or any(counts.over.values()) for counts in row.requests.values()) or any(
        counts.without_request for counts in row.classes.values()
    )
