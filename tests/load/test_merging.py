"""Rows of several workers add up to exactly what one worker would have recorded."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from harness.analysis.record.windows import WindowStore
from harness.load.record.arrival import Arrival
from harness.load.record.recorder import Recorder
from harness.model.jsonl import encode_line
from harness.model.records.load import LoadPlan, Scenario, UserClass
from harness.model.records.plan import PhasePlan, Plan
from harness.model.records.windows import FAILURE_KINDS, REPLY_KINDS, DeltaRow, Row
from harness.plan.schedule import arrivals, owned
from tests.analysis.histories import slow_in

STEPS = 40
LIMITS = (50.0, 200.0)


def plan(workers: int, seed: int, kind: Any) -> LoadPlan:
    return LoadPlan(
        model="open",
        host="http://127.0.0.1:9",
        locustfile="x.py",
        classes=(UserClass(name="A", weight=3.0), UserClass(name="B")),
        seed=seed,
        users=10,
        spawn_rate=10.0,
        ramp_s=1.0,
        rate=300.0,
        arrivals=kind,
        limits_ms=LIMITS,
        workers=workers,
    )


def fate(seed: int, name: str, step: int, offset: float) -> random.Random:
    """What the target does with an arrival does not depend on who sent it."""
    return random.Random(f"{seed} {name} {step} {offset!r}")


def recorded(load: LoadPlan) -> list[Row]:
    """Rows of all workers of the plan, each with flushes at moments of its own."""
    rows: list[Row] = []
    decoder: msgspec.json.Decoder[Row] = msgspec.json.Decoder(Row)
    for index in range(load.workers):
        recorder = Recorder(f"w{index}", load.limits_ms)
        recorder.begin(0.0)
        when = random.Random(f"{load.seed} flush {index} {load.workers}")
        for step in range(STEPS):
            for user_class in load.classes:
                name = user_class.name
                for offset in owned(load, name, step, index)[1]:
                    happen(recorder, name, step, offset, fate(load.seed, name, step, offset))
            if when.random() < 0.3:
                rows += map(decoder.decode, recorder.flush(step + 1, 1).splitlines())
        rows += map(decoder.decode, recorder.flush(STEPS, 1, final=True).splitlines())
    return rows


def happen(recorder: Recorder, name: str, step: int, offset: float, draw: random.Random) -> None:
    arrival = Arrival(name, step / 10 + offset, step)
    recorder.take(arrival)
    if draw.random() < 0.02:
        recorder.unsent(arrival, "generator" if draw.random() < 0.5 else "cap", "no user")
        return
    kind = draw.choice(FAILURE_KINDS) if draw.random() < 0.1 else None
    # Whole quarters of milliseconds: sums of binary fractions are exact in any order.
    latency_ms = draw.randrange(1, 4000) / 4
    if kind is None:
        recorder.ok(f"/{name}", step, latency_ms)
    else:
        recorder.fail(f"/{name}", step, 12.5, kind, arrival.intended, "it failed")
    if kind is None or kind in REPLY_KINDS:
        recorder.replied(arrival)
    recorder.end(arrival)


def store(load: LoadPlan, rows: list[Row]) -> WindowStore:
    whole = Plan(
        experiment="x",
        created="x",
        scenario=Scenario(name="x", summary="", users=1, spawn_rate=1, run_time_s=1),
        scale=1.0,
        stack="external",
        load=load,
        phases=PhasePlan(
            warmup_s=0, baseline_s=1, gap_s=1, fault_s=1, recovery_limit_s=1, hold_s=1, after_s=1, tail_s=1
        ),
        targets=(),
    )
    found = WindowStore(whole)
    for row in rows:
        found.add(msgspec.json.decode(encode_line(row), type=Row))
    return found


@pytest.mark.parametrize("kind", ["poisson", "constant"])
@pytest.mark.parametrize("workers", [2, 3, 7])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_rows_of_n_workers_are_those_of_one(seed: int, workers: int, kind: str) -> None:
    one, many = plan(1, seed, kind), plan(workers, seed, kind)
    alone, together = recorded(one), recorded(many)
    a, b = store(one, alone), store(many, together)
    assert a.end == b.end and a.gaps(0, STEPS) == b.gaps(0, STEPS) == []
    for start, end in ((0, STEPS), (3, 4), (7, 31)):
        x, y = a.totals(start, end), b.totals(start, end)
        assert x.classes == y.classes
        assert x.names == y.names, "counts, failures by kind, sums, maxima, exact limits and every bucket of the sketch"
    assert (a.total_requests, a.total_failures) == (b.total_requests, b.total_failures)
    assert {k: e.count for k, e in a.errors.items()} == {k: e.count for k, e in b.errors.items()}
    for limit in LIMITS:
        assert slow_in(a, limit, 0, STEPS) == slow_in(b, limit, 0, STEPS) > 0


def test_the_order_in_which_the_rows_of_workers_come_does_not_matter() -> None:
    load = plan(3, 5, "poisson")
    rows = recorded(load)
    shuffled = rows[:]
    random.Random(4).shuffle(shuffled)
    a, b = store(load, rows).totals(0, STEPS), store(load, shuffled).totals(0, STEPS)
    assert a.classes == b.classes and a.names == b.names


def test_a_missing_worker_is_a_gap_of_its_arrivals() -> None:
    load = plan(3, 6, "poisson")
    rows = [row for row in recorded(load) if row.worker != "w1"]
    found = store(load, rows)
    theirs = [s for s in range(STEPS) if any(owned(load, c.name, s, 1)[1] for c in load.classes)]
    assert set(theirs) <= set(found.gaps(0, STEPS))
    missing, scheduled = found.unrecorded(0, STEPS)
    assert missing == sum(len(owned(load, c.name, s, 1)[1]) for c in load.classes for s in range(STEPS))
    assert scheduled == sum(len(arrivals(load, c.name, s)) for c in load.classes for s in range(STEPS))
    assert any(isinstance(row, DeltaRow) for row in rows)
