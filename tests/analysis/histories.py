"""Complete synthetic runs with known truth: plan, events, window rows and samples, made from a model of a service.

    run = Scene(service=lambda at, draw: Reply(20.0) if at < 23 else Reply(kind="status")).build()
    result = run.judge()

The service is asked once for every arrival of the plan's own schedule, so what is recorded is exactly what a perfect
load generator would have recorded. Times of the default scene, in seconds since t0: baseline 2 to 22, gap to 23, fault
phase from 23, injected at 23.0, undone at 43.0 (zero), recovery from 43.1, then `after` for 15 s and a tail of 5 s.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path

import msgspec

from harness.analysis.record.windows import WindowStore
from harness.analysis.verdict.judge import judge
from harness.model.jsonl import encode_line
from harness.model.records import events as ev
from harness.model.records.alerts import AlertRow
from harness.model.records.faults import Change, Dependency, Evidence, FaultSpec
from harness.model.records.load import LoadPlan, Scenario, UserClass
from harness.model.records.plan import PhasePlan, Plan, PlannedFault, Provenance
from harness.model.records.result import Result, TargetResult
from harness.model.records.samples import ProcessUse, Sample
from harness.model.records.targets import PhaseName, Target
from harness.model.records.windows import (
    ClassCounts,
    DeltaRow,
    MarkRow,
    RequestCounts,
    Row,
    limit_key,
)
from harness.model.sketch import buckets_of
from harness.model.target_grammar import defaults, merge, parse_targets
from harness.plan.schedule import planned_counts

BASELINE, GAP, INJECTED, ZERO = 2.0, 22.0, 23.0, 43.0
CLASSES = {"Reader": "GET /items", "Writer": "POST /items"}
"""User class -> the one request name its task sends."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the service does with one arrival. kind None: it succeeds after latency_ms.

    Other kinds are failure kinds, or what befalls an arrival: unsent_cap, unsent_generator, failed (an exception
    without a request), open (never ends). name: of the request, where it is not its class's own.
    """

    latency_ms: float = 30.0
    kind: str | None = None
    name: str | None = None


Service = Callable[[float, random.Random], Reply]


def healthy(at: float, draw: random.Random) -> Reply:
    return Reply(20.0 + 40.0 * draw.random())


@cache
def failing(
    begin: float, end: float, share: float, kind: str = "status", background: float = 0.0, latency_ms: float = 5.0
) -> Service:
    """`share` of the requests in [begin, end) fail, `background` of the others."""

    def service(at: float, draw: random.Random) -> Reply:
        if draw.random() < (share if begin <= at < end else background):
            return Reply(latency_ms, kind)
        return healthy(at, draw)

    return service


@cache
def slow(begin: float, end: float, latency_ms: float, share: float = 1.0) -> Service:
    def service(at: float, draw: random.Random) -> Reply:
        return Reply(latency_ms) if begin <= at < end and draw.random() < share else healthy(at, draw)

    return service


_MADE: dict[tuple[object, ...], list[Row]] = {}
MOST_MADE = 32


@dataclass
class Scene:
    """A run to be. rate None: the closed model, with 200 task starts a second that no schedule asked for."""

    service: Service = healthy
    rate: float | None = 200.0
    seed: int = 7
    workers: int = 2
    faults: tuple[str, ...] = ("redis-down",)
    one_shot: bool = False
    fault_s: float = 20.0
    recovery_s: float = 0.0
    after_s: float | None = 15.0
    recovery_limit_s: float = 60.0
    targets: Sequence[str] = ()
    plan_targets: tuple[Target, ...] | None = None
    strict: bool = False
    samples: bool = True
    sample: Callable[[float], Sample] | None = None
    doubt_s: float = 0.02
    ends: bool = False
    """Rows say in which step their requests ended, as a load process of today does."""

    def build(self) -> Run:
        plan = self.plan()
        events, end_s = self.events(plan)
        rows = list(self.rows(plan, end_s))
        samples = [(self.sample or steady_sample)(float(at)) for at in range(int(end_s))] if self.samples else []
        return Run(plan, events, rows, samples)

    def plan(self) -> Plan:
        targets = self.plan_targets
        if targets is None:
            explicit = tuple(t for text in self.targets for t in parse_targets(text))
            targets = merge(defaults(self.rate is not None), explicit, self.strict)
        limits = tuple(sorted({t.value for t in targets if t.unit == "ms" and t.relative is None}))
        load = LoadPlan(
            model="closed" if self.rate is None else "open",
            host="http://127.0.0.1:9",
            locustfile="anomaly.py",
            classes=tuple(UserClass(name=name) for name in CLASSES),
            seed=self.seed,
            users=200,
            spawn_rate=200,
            ramp_s=0.0,
            rate=self.rate,
            limits_ms=limits,
            workers=self.workers,
        )
        return Plan(
            experiment="20260101T000000Z-test",
            created="2026-01-01T00:00:00.000Z",
            scenario=Scenario(
                name="target", summary="", users=200, spawn_rate=200, run_time_s=600, rate=self.rate, baseline_s=20
            ),
            scale=0.02,
            stack="embedded",
            load=load,
            phases=PhasePlan(
                warmup_s=BASELINE,
                baseline_s=20.0,
                gap_s=12.0,
                fault_s=self.fault_s,
                recovery_limit_s=self.recovery_limit_s,
                hold_s=15.0,
                after_s=self.after_s or 15.0,
                tail_s=5.0,
            ),
            targets=targets,
            faults=tuple(self.planned(name) for name in self.faults),
            strict=self.strict,
            provenance=Provenance(
                harness="0.1.0", command="harness run", machine="test", cpus=2, memory_bytes=1 << 30, python="3.11"
            ),
        )

    def planned(self, name: str) -> PlannedFault:
        dependency, _, kind = name.partition("-")
        change = Change(
            kind=kind,
            dependency=Dependency(name=dependency, kind="redis"),
            params={},
            does="",
            undoes="",
            proves="",
            one_shot=self.one_shot,
        )
        spec = FaultSpec(name=name, dependency=dependency, kind=kind)
        for_s = None if self.one_shot else self.fault_s
        return PlannedFault(id=name, spec=spec, change=change, at_s=0.0, for_s=for_s)

    def events(self, plan: Plan) -> tuple[list[ev.Event], float]:
        """The events of a run that went as planned, and when its load ended."""
        undone = INJECTED + self.fault_s
        recovery = round(undone + 0.1, 1)
        events: list[ev.Event] = [
            make(ev.Started, 0.0, monotonic=1000.0),
            phase("warmup", 0.0),
            phase("baseline", BASELINE),
            phase("gap", GAP),
            phase("fault", INJECTED),
        ]
        for name in self.faults:
            events += [
                make(ev.FaultRequested, INJECTED, fault=name),
                make(ev.FaultInjected, INJECTED + 0.01, fault=name, sent_s=INJECTED),
                make(ev.FaultEvidence, INJECTED + 0.02, fault=name, stage="injected", evidence=evidence("probe")),
                make(ev.FaultProven, INJECTED + 0.02, fault=name),
            ]
        if not self.one_shot:
            for name in self.faults:
                events += [
                    make(ev.UndoRequested, undone - 0.02, fault=name, sent_s=undone - 0.02),
                    make(ev.Undone, undone - 0.01, fault=name, sent_s=undone - 0.02),
                    make(ev.UndoVerified, undone, fault=name, evidence=(evidence("undo"),)),
                ]
        if self.faults:
            events.append(
                make(
                    ev.ZeroFound,
                    undone + 0.03,
                    zero_s=undone,
                    lower_s=undone - self.doubt_s,
                    upper_s=undone + self.doubt_s,
                    source="probe",
                )
            )
        events.append(phase("recovery", recovery))
        if self.after_s is None:
            end_s = undone + self.recovery_limit_s + 21.0
        else:
            after = round(recovery + self.recovery_s, 1)
            events += [phase("after", after), phase("tail", after + self.after_s)]
            end_s = after + self.after_s + 5.0
        events.append(make(ev.LoadEnded, end_s + 1.0, end_s=round(end_s, 1)))
        return events, end_s

    def rows(self, plan: Plan, end_s: float) -> list[Row]:
        """One delta a step and worker, one mark a second and worker. Many scenes have the same: those are made once."""
        key = (self.service, plan.load, self.rate, self.seed, self.workers, self.ends, end_s)
        if key not in _MADE:
            if len(_MADE) == MOST_MADE:
                _MADE.pop(next(iter(_MADE)))
            _MADE[key] = self._rows(plan, end_s)
        return list(_MADE[key])

    def _rows(self, plan: Plan, end_s: float) -> list[Row]:
        draw = random.Random(f"service {self.seed}")
        steps = round(end_s * 10)
        load = plan.load if self.rate is not None else msgspec.structs.replace(plan.load, model="open", rate=200.0)
        counts = _planned_counts(msgspec.structs.replace(load, limits_ms=()), steps)
        waiting: dict[int, dict[int, int]] = {worker: {} for worker in range(self.workers)}
        rows: list[Row] = []
        for step in range(steps):
            for worker in range(self.workers):
                rows += self.deltas(plan, step, worker, counts, draw, waiting[worker])
            if step % 10 == 9:
                rows += [mark(worker, (step + 1) / 10, step + 1, waiting[worker]) for worker in range(self.workers)]
        rows += [
            msgspec.structs.replace(mark(worker, end_s + 1.0, steps, waiting[worker]), final=True)
            for worker in range(self.workers)
        ]
        return rows

    def deltas(
        self,
        plan: Plan,
        step: int,
        worker: int,
        counts: dict[str, list[int]],
        draw: random.Random,
        waiting: dict[int, int],
    ) -> list[DeltaRow]:
        found: dict[int | None, dict[str, list[Reply]]] = {}
        service, begin = self.service, step / 10
        for name in CLASSES:
            all_ = counts[name][step]
            mine = all_ // self.workers + (1 if worker < all_ % self.workers else 0)
            for _ in range(mine):
                at = begin + draw.random() / 10
                reply = service(at, draw)
                ended = int((at + reply.latency_ms / 1000) * 10) if self.ends else None
                found.setdefault(ended, {}).setdefault(name, []).append(reply)
                if reply.kind == "open":
                    waiting[step] = waiting.get(step, 0) + 1
        rows = []
        for ended, classes in found.items():
            by_name: dict[str, list[Reply]] = {}
            for name, replies in classes.items():
                for reply in replies:
                    by_name.setdefault(reply.name or CLASSES[name], []).append(reply)
            rows.append(
                DeltaRow(
                    worker=f"w{worker}",
                    step=step,
                    ended=ended,
                    classes={name: arrivals(replies) for name, replies in classes.items()},
                    requests={name: requests(replies, plan.load.limits_ms) for name, replies in by_name.items()},
                )
            )
        return rows


@dataclass
class Run:
    """A recorded run. Tests may change events, rows and samples before they judge it."""

    plan: Plan
    events: list[ev.Event]
    rows: list[Row]
    samples: list[Sample] = field(default_factory=list)
    _stored: tuple[list[Row], WindowStore] | None = None

    def store(self) -> WindowStore:
        """The rows read in; kept until the rows are others."""
        if self._stored is None or self._stored[0] != self.rows:
            store = WindowStore(self.plan)
            for row in self.rows:
                store.add(row)
            self._stored = list(self.rows), store
        return self._stored[1]

    def judge(self, *extra: str, alerts: Sequence[AlertRow] = ()) -> Result:
        targets = tuple(t for text in extra for t in parse_targets(text))
        return judge(self.plan, self.events, self.store(), self.samples, alerts, extra_targets=targets)

    def without(self, *kinds: type) -> Run:
        """The same run without events of these kinds."""
        return Run(self.plan, [e for e in self.events if not isinstance(e, kinds)], self.rows, self.samples)

    def cut(self, at_s: float, *more: ev.Event) -> Run:
        """The run as it stood when everything stopped at `at_s`; `more` are the events of its end."""
        events = [e for e in self.events if e.at <= at_s]
        rows: list[Row] = [
            row
            for row in self.rows
            if (row.step < round(at_s * 10) if isinstance(row, DeltaRow) else getattr(row, "at", 0.0) <= at_s)
        ]
        return Run(self.plan, [*events, *more], rows, [s for s in self.samples if s.at <= at_s])

    def write(self, run_dir: Path) -> Path:
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / "plan.json").write_bytes(msgspec.json.encode(self.plan))
        (run_dir / "history.jsonl").write_bytes(b"".join(encode_line(e) for e in self.events))
        (run_dir / "windows.jsonl").write_bytes(b"".join(encode_line(r) for r in self.rows))
        (run_dir / "samples.jsonl").write_bytes(b"".join(encode_line(s) for s in self.samples))
        return run_dir


@lru_cache(maxsize=64)
def _planned_counts(load: LoadPlan, steps: int) -> dict[str, list[int]]:
    """Many scenes have the same schedule."""
    return planned_counts(load, 0, steps)


def make(kind: Callable[..., ev.Event], at: float, **fields: object) -> ev.Event:
    return kind(at=at, wall="2026-01-01T00:00:00.000Z", experiment="20260101T000000Z-test", **fields)


def phase(name: PhaseName, start_s: float) -> ev.Event:
    return make(ev.PhaseStarted, start_s, phase=name, start_s=start_s)


def evidence(source: str, held: bool = True) -> Evidence:
    return Evidence(
        source=source,  # type: ignore[arg-type]  # tests pass the words themselves
        expected="refused",
        observed="refused" if held else "PONG",
        held=held,
        at=0.0,
    )


def stopped(why: str, at: float, text: str = "", expression: str | None = None) -> ev.Event:
    return make(ev.Stopped, at, why=why, text=text, expression=expression)


def mark(worker: int, at: float, done: int, waiting: dict[int, int], **fields: object) -> MarkRow:
    values: dict[str, object] = {
        "worker": f"w{worker}",
        "at": at,
        "done": done,
        "open": [number for pair in sorted(waiting.items()) for number in pair],
        "unasked": [number for pair in sorted(waiting.items()) for number in pair],
        "cpu": 0.3,
        "lateness_p99_ms": 2.0,
        "lateness_n": 100,
        "users": 20,
    }
    return MarkRow(**{**values, **fields})  # type: ignore[arg-type]


def steady_sample(at: float) -> Sample:
    return Sample(
        at=at,
        trees={"target": ProcessUse(cpu_s=0.4 * at, rss=200_000_000 + int(at) % 3 * 1000, busiest_cpu=0.4)},
        signals={"cache_hit_rate": 0.8, "http_requests_total": 200.0 * at},
    )


def tally(replies: Sequence[Reply], limits_ms: Sequence[float]) -> tuple[ClassCounts, RequestCounts]:
    """The counts of one class's arrivals in one step, and of their requests."""
    return arrivals(replies), requests(replies, limits_ms)


NO_REQUEST = ("unsent_cap", "unsent_task", "unsent_generator", "failed", "empty", "open")
"""Kinds of replies that say what befell an arrival."""


def arrivals(replies: Sequence[Reply]) -> ClassCounts:
    if all(reply.kind is None for reply in replies):  # nearly every step of nearly every run
        return ClassCounts(planned=len(replies), ended=len(replies), replied=len(replies))
    kinds = Counter(reply.kind for reply in replies)
    return ClassCounts(
        planned=len(replies),
        ended=len(replies) - kinds["open"],
        replied=kinds[None] + kinds["status"] + kinds["check"],
        **{kind: kinds[kind] for kind in NO_REQUEST if kind != "open"},
    )


def requests(replies: Sequence[Reply], limits_ms: Sequence[float]) -> RequestCounts:
    ok = [reply.latency_ms for reply in replies if reply.kind is None]
    failed = [reply for reply in replies if reply.kind is not None and reply.kind not in NO_REQUEST]
    longest = max(ok, default=0.0)
    return RequestCounts(
        ok=len(ok),
        fail=dict(Counter(str(reply.kind) for reply in failed)) if failed else {},
        sum_ms=sum(ok),
        max_ms=longest,
        sketch=sketch(ok),
        over={limit_key(limit): sum(ms >= limit for ms in ok) for limit in limits_ms if ok and limit <= longest},
        failed_max_ms=max((reply.latency_ms for reply in failed), default=0.0),
        failed_sketch=sketch(reply.latency_ms for reply in failed) if failed else [],
    )


def sketch(latencies_ms: Iterable[float]) -> list[int]:
    return [number for pair in sorted(Counter(buckets_of(latencies_ms)).items()) for number in pair]


def slow_in(store: WindowStore, limit_ms: float, start: int, end: int) -> int:
    """Ok requests of [start, end) that took limit_ms or longer."""
    count = store.counter(limit_ms)
    return sum(count.slow(number, step, None) for number, step in store.steps(start, end))


def target(result: Result, text: str) -> TargetResult:
    """The result of one target by its text."""
    return next(t for t in result.targets if t.target == text)
