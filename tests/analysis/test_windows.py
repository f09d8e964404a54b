"""The same rows give the same numbers in any order, and what was not recorded is never taken for clean."""

from __future__ import annotations

import random

import msgspec
import pytest
from histories import CLASSES, GAP, INJECTED, Reply, Run, Scene, failing, healthy, mark, slow_in, tally

from harness.analysis.record.windows import WindowStore
from harness.analysis.verdict.tables import error_results
from harness.model.records.plan import Plan
from harness.model.records.targets import Target
from harness.model.records.windows import ClassCounts, DeltaRow, ErrorRow, MarkRow, RequestCounts
from harness.model.sketch import bucket_of
from harness.model.target_grammar import parse_targets

SHORT = Scene(service=failing(INJECTED, 43.0, 0.2, "status"))


def one(text: str) -> Target:
    return parse_targets(text)[0]


def empty(workers: int = 1, rate: float | None = 20.0) -> WindowStore:
    return WindowStore(plan(workers, rate))


def plan(workers: int = 1, rate: float | None = 20.0) -> Plan:
    return Scene(workers=workers, rate=rate).plan()


def delta(step: int, ok: int = 0, *, planned: int = 0, ended: int = 0, worker: str = "w0", **more: object) -> DeltaRow:
    return DeltaRow(
        worker=worker,
        step=step,
        classes={"Reader": ClassCounts(planned=planned, ended=ended)},
        requests={"GET /items": RequestCounts(ok=ok, **more)},  # type: ignore[arg-type]
    )


def test_rows_add_up_in_any_order() -> None:
    run = SHORT.build()
    shuffled = Run(run.plan, run.events, random.Random(1).sample(run.rows, len(run.rows)), run.samples)
    first, second = run.store().totals(0, 10_000), shuffled.store().totals(0, 10_000)
    assert first.all_names().sketch == second.all_names().sketch
    assert (first.arrivals, first.bad, first.attempts) == (second.arrivals, second.bad, second.attempts)


def test_late_completions_are_deltas_for_their_old_step() -> None:
    store = empty()
    store.add(delta(10, planned=3, ended=1, ok=1, sketch=[bucket_of(20), 1], sum_ms=20.0, max_ms=20.0))
    store.add(mark(0, 1.2, 12, {10: 2}))
    assert store.final_before() == 10
    store.add(delta(10, ended=2, ok=2, sketch=[bucket_of(900), 2], sum_ms=1800.0, max_ms=900.0, over={"200": 2}))
    assert store.final_before() == 12
    names = store.totals(10, 11).all_names()
    assert (names.requests, names.max_ms) == (3, 900.0)
    assert names.mean_ms == pytest.approx(1820 / 3)
    assert slow_in(store, 200.0, 0, 20) == 2


def test_a_store_that_was_read_before_notices_later_rows() -> None:
    store = empty()
    for step in range(30):
        store.add(delta(step, planned=1, ended=1, ok=1, sketch=[5, 1]))
    assert store.totals(0, 30).all_names().sketch == {5: 30}
    store.add(delta(7, ok=1, sketch=[6, 1]))
    assert store.totals(0, 30).all_names().sketch == {5: 30, 6: 1}


def test_totals_of_any_range_are_the_sum_of_its_steps() -> None:
    store = SHORT.build().store()
    draw = random.Random(4)
    for _ in range(20):
        low = draw.randrange(0, 500)
        high = low + draw.randrange(0, 260)
        parts = [store.totals(step, step + 1) for step in range(low, high)]
        whole = store.totals(low, high)
        assert whole.attempts == sum(part.attempts for part in parts)
        assert whole.arrivals.planned == sum(part.arrivals.planned for part in parts)
        merged: dict[int, int] = {}
        for part in parts:
            for bucket, count in part.all_names().sketch.items():
                merged[bucket] = merged.get(bucket, 0) + count
        assert whole.all_names().sketch == merged


def test_percentiles_are_within_one_percent_and_never_above_the_maximum() -> None:
    draw = random.Random(2)
    values = sorted(draw.lognormvariate(3, 1) for _ in range(5000))
    arrivals, counts = tally([Reply(v) for v in values], ())
    store = empty()
    store.add(DeltaRow(worker="w0", step=0, classes={"Reader": arrivals}, requests={"GET /items": counts}))
    names = store.totals(0, 1).all_names()
    for q in (0.01, 0.5, 0.95, 0.99, 0.999):
        assert names.quantile_ms(q) == pytest.approx(values[max(0, -int(-q * 5000 // 1) - 1)], rel=0.011)
    assert (names.quantile_ms(1.0) or 0) <= values[-1]
    tiny = RequestCounts(ok=1, sketch=[bucket_of(0.02), 1], sum_ms=0.02, max_ms=0.02)
    store.add(DeltaRow(worker="w0", step=5, requests={"fast": tiny}))
    assert store.totals(5, 6).of("fast").quantile_ms(0.5) == pytest.approx(0.02, rel=0.011)


def test_error_rate_counts_unsent_and_failed_arrivals() -> None:
    store = empty()
    arrivals = ClassCounts(planned=10, ended=10, replied=6, unsent_cap=1, unsent_generator=1, failed=1)
    counts = RequestCounts(ok=5, fail={"status": 1, "timeout": 1})
    store.add(DeltaRow(worker="w0", step=0, classes={"Reader": arrivals}, requests={"GET /items": counts}))
    totals = store.totals(0, 1)
    assert (totals.bad, totals.attempts) == (5, 10)
    assert totals.error_rate == 0.5
    series = store.series(one("error_rate < 1%"), 0, 1)
    assert (series.n, series.bad, series.limit) == ([10], [5], 0.01)
    named = store.series(one("error_rate{GET /items} < 1%"), 0, 1)
    assert (named.n, named.bad) == ([7], [2])
    assert (store.total_requests, store.total_failures) == (7, 5)


def test_unsent_arrivals_are_told_by_cause() -> None:
    store = empty()
    causes = {"unsent_cap": 5, "unsent_cap_start": 2, "unsent_task": 4, "unsent_task_start": 4}
    store.add(DeltaRow(worker="w0", step=0, classes={"Reader": ClassCounts(planned=9, ended=9, **causes)}))
    totals = store.totals(0, 1)
    assert totals.arrivals.unsent == 9 and totals.arrivals.unsent_by == {"cap": 3, "cap_start": 2, "task_start": 4}
    (row,) = error_results(store)
    assert row.count == 9 and [part.partition(":")[0] for part in row.example.split("; ")] == ["3", "2", "4"]


def test_a_failed_request_is_over_every_latency_limit() -> None:
    store = empty()
    store.add(delta(0, ok=3, planned=4, ended=4, fail={"refused": 1}, over={"200": 2}))
    series = store.series(one("p95 < 200ms"), 0, 1)
    assert (series.n, series.bad, series.limit) == ([4], [3], 0.05)


def test_backfilled_arrivals_count_in_windows_but_not_in_totals() -> None:
    store = empty(rate=None)
    counts = RequestCounts(
        ok=12,
        backfilled=10,
        sum_ms=10 * 5000 + 2 * 20,
        max_ms=5000.0,
        sketch=[bucket_of(20), 2, bucket_of(5000), 10],
        over={"200": 10},
        backfilled_sum_ms=50_000.0,
        backfilled_sketch=[bucket_of(5000), 10],
    )
    store.add(
        DeltaRow(
            worker="w0",
            step=0,
            classes={"Reader": ClassCounts(planned=2, ended=2, replied=2)},
            requests={"GET /items": counts},
        )
    )
    totals = store.totals(0, 1)
    names = totals.all_names()
    assert (names.requests, names.replies, totals.attempts) == (2, 2, 2)
    assert names.quantile_ms(0.5) == pytest.approx(5000, rel=0.01)
    assert names.measured().quantile_ms(0.5) == pytest.approx(20, rel=0.01)
    assert names.measured().mean_ms == pytest.approx(20)
    latency = store.series(one("p95 < 200ms"), 0, 1)
    assert (latency.n, latency.bad) == ([12], [10])
    errors = store.series(one("error_rate < 1%"), 0, 1)
    assert (errors.n, errors.bad) == ([12], [0])
    failed = RequestCounts(fail={"timeout": 9, "status": 1}, backfilled_fail={"timeout": 8})
    store.add(DeltaRow(worker="w0", step=1, requests={"GET /items": failed}))
    totals = store.totals(1, 2)
    assert (totals.bad, totals.attempts, store.total_failures) == (2, 2, 2)
    assert totals.names["GET /items"].fail == {"timeout": 1, "status": 1}
    assert store.series(one("error_rate < 1%"), 1, 2).bad == [10]
    assert store.series(one("p95 < 200ms"), 1, 2).bad == [10]


def test_final_waits_for_every_worker() -> None:
    store = empty(workers=2)
    store.add(delta(0, planned=1, ended=1, ok=1))
    store.add(mark(0, 1.0, 10, {}))
    assert store.final_before() == 0
    store.add(mark(1, 1.0, 4, {}))
    assert store.final_before() == 4


def test_setup_requests_are_apart() -> None:
    store = empty()
    store.add(DeltaRow(worker="w0", step=3, setup={"POST /login": RequestCounts(ok=2, fail={"status": 1})}))
    assert store.setup["POST /login"].requests == 3
    assert store.totals(0, 10).attempts == 0 and store.total_requests == 0


def test_rows_before_the_start_are_not_judged() -> None:
    store = empty()
    store.add(delta(-3, ok=1))
    assert store.end == 0


def test_gaps_are_found_against_the_redrawn_schedule() -> None:
    run = Scene().build()
    assert run.store().gaps(20, 400) == []
    lost_rows = [r for r in run.rows if not (isinstance(r, DeltaRow) and r.worker == "w0" and r.step in (100, 101))]
    assert Run(run.plan, run.events, lost_rows).store().gaps(20, 400) == [100, 101]
    whole_step = [r for r in run.rows if not (isinstance(r, DeltaRow) and r.step == 100)]
    assert Run(run.plan, run.events, whole_step).store().gaps(20, 400) == [100]
    never_ended = Scene(service=lambda at, draw: Reply(kind="open") if 10 <= at < 10.1 else healthy(at, draw)).build()
    assert never_ended.store().gaps(20, 400) == [100]


def test_what_no_worker_reported_as_drawn_is_a_gap_in_the_closed_model_too() -> None:
    run = Scene(rate=None).build()
    silent = [r for r in run.rows if not (isinstance(r, MarkRow) and r.worker == "w1" and r.at > 20)]
    assert run.store().gaps(20, 400) == []
    assert Run(run.plan, run.events, silent).store().gaps(20, 400)[0] == 200


@pytest.mark.parametrize(("age", "slow_n", "failing_n"), [(0.1, 0, 0), (0.5, 3, 0), (1.4, 3, 3)])
def test_live_rule_open_arrivals_become_slow_then_failing(age: float, slow_n: int, failing_n: int) -> None:
    store = empty()
    store.add(delta(10, planned=5, ended=2, ok=2))
    store.add(
        MarkRow(worker="w0", at=1.1 + age, done=12, open=[10, 3], unasked=[10, 1], open_names={"GET /items": [10, 2]})
    )
    now = 1.1 + age
    assert store.series(one("p95 < 200ms"), 10, 11, now).bad == [slow_n]
    assert store.series(one("p95 < 200ms"), 10, 11, now).n == [2 + slow_n]
    assert store.series(one("error_rate < 1%"), 10, 11, now).bad == [failing_n]
    assert store.series(one("error_rate{GET /items} < 1%"), 10, 11, now).bad == [2 if failing_n else 0]
    assert store.series(one("error_rate < 1%"), 10, 11).bad == [0]
    store.add(delta(10, ended=3, ok=3))
    store.add(MarkRow(worker="w0", at=now + 0.1, done=13))
    assert store.series(one("error_rate < 1%"), 10, 11, now + 0.1).bad == [0]
    assert store.series(one("error_rate < 1%"), 10, 11, now + 0.1).n == [5]


def test_a_limit_of_the_plan_is_exact_where_the_sketch_is_not() -> None:
    # 199.9 and 200.1 share a bucket of the sketch.
    assert bucket_of(199.9) == bucket_of(200.1)
    arrivals, counts = tally([Reply(199.9)] * 30 + [Reply(200.1)] * 70, (200.0,))
    store = empty()
    store.add(DeltaRow(worker="w0", step=0, classes={"Reader": arrivals}, requests={"GET /items": counts}))
    assert store.exact_from(200.0) == 0 and slow_in(store, 200.0, 0, 1) == 70
    low, high = store.totals(0, 1).all_names().over(200.0)
    assert low <= 70 <= high


def test_a_limit_that_came_later_is_exact_from_then_on() -> None:
    store = empty()
    for step in range(10, 30):
        store.add(delta(step, ok=2, over={"200": 0, **({"123": 0} if step >= 22 else {})}))
    assert (store.exact_from(123.0), store.exact_from(200.0), store.exact_from(77.0)) == (22, 0, None)


def test_a_series_counts_such_a_limit_exactly_from_then_on() -> None:
    """Of a limit relative to baseline: else recovery and the target of the same phase could disagree."""
    store = empty()
    assert bucket_of(123.2) == bucket_of(123.0)
    for step in range(10, 30):
        _, counts = tally([Reply(123.2)] * 2, (123.0,) if step >= 22 else ())
        store.add(DeltaRow(worker="w0", step=step, requests={"GET /items": counts}))
    found = store.series(one("p95 < 123ms"), 10, 30)
    assert found.bad == store.counts(123.0, 10, 30, failures=True)[None].bad == [0] * 12 + [2] * 8


def test_errors_are_merged_over_workers_and_flushes() -> None:
    store = empty()
    for worker, count, at in (("w0", 3, 5.0), ("w1", 4, 4.0), ("w0", 1, 9.0)):
        store.add(
            ErrorRow(worker=worker, kind="status", name="/a", count=count, first_s=at, last_s=at, example="HTTP 500")
        )
    seen = store.errors[("status", "/a")]
    assert (seen.count, seen.first_s, seen.last_s, seen.example) == (8, 4.0, 9.0, "HTTP 500")


def test_rows_survive_json() -> None:
    run = SHORT.build()
    decoder = msgspec.json.Decoder(DeltaRow | MarkRow | ErrorRow)
    store = WindowStore(run.plan)
    for row in run.rows:
        store.add(decoder.decode(msgspec.json.encode(row)))
    assert store.totals(20, 400).all_names() == run.store().totals(20, 400).all_names()
    assert set(store.names()) == set(CLASSES.values())
    assert store.final_before() >= round(GAP * 10)


def test_the_slowest_requests_of_a_stretch_are_found_by_their_ids() -> None:
    store = empty()
    ids = {step: f"{step:032x}" for step in range(20)}
    for step, trace in ids.items():
        counts = RequestCounts(ok=2, slowest=trace, slowest_ms=100.0 + step)
        other = RequestCounts(ok=2, slowest="f" * 32, slowest_ms=50.0)
        store.add(DeltaRow(worker="w0", step=step, requests={"a": counts, "b": RequestCounts(ok=1)}))
        store.add(DeltaRow(worker="w1", step=step, requests={"a": other}))
    assert store.slowest(0, 10) == {"a": [(100.0 + step, step, ids[step]) for step in (9, 8, 7, 6, 5)]}
    for step in range(9):
        store.add(ErrorRow(worker="w0", kind="status", name="a", step=step, count=3, trace=ids[step] if step else ""))
    assert store.errors["status", "a"].traces == [ids[step] for step in (1, 2, 3, 4, 5)]
