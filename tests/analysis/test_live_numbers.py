"""What the live view shows of some seconds is what the result says of them, or says that it is not final yet."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from histories import Reply, Scene, mark, tally

from harness.analysis import live
from harness.analysis.record.windows import WindowStore
from harness.model.records.windows import DeltaRow

PLAN = Scene(workers=1).plan()
RATE, END = 50, 30
Answer = Callable[[float, random.Random], Reply]


def recorded(answer: Answer, now: float = 1e9) -> WindowStore:
    """50 arrivals a second from 0 to 30 s as they stand on record at `now`: what takes longer is still open."""
    draw = random.Random(3)
    store = WindowStore(PLAN)
    waiting: dict[int, int] = {}
    for step in range(END * 10):
        replies = [(step / 10 + i * 0.1 / (RATE // 10), answer(step / 10, draw)) for i in range(RATE // 10)]
        if step / 10 >= now:
            continue
        seen = [reply if at + reply.latency_ms / 1000 <= now else Reply(kind="open") for at, reply in replies]
        classes, requests = tally(seen, PLAN.load.limits_ms)
        if open_ := sum(reply.kind == "open" for reply in seen):
            waiting[step] = open_
        store.add(DeltaRow(worker="w0", step=step, classes={"Reader": classes}, requests={"GET /items": requests}))
    store.add(mark(0, min(now, END + 20.0), round(min(now, END) * 10), waiting))
    return store


def fault(during: Answer, begin: float = 10.0, end: float = 22.0) -> Answer:
    return lambda at, draw: during(at, draw) if begin <= at < end else Reply(20.0 + 30 * draw.random())


CASES: dict[str, Answer] = {
    "healthy": fault(lambda at, draw: Reply(25.0)),
    "quick failures": fault(lambda at, draw: Reply(5.0, "status" if draw.random() < 0.4 else None)),
    "failures after 1.5 s": fault(lambda at, draw: Reply(1500.0, "status") if draw.random() < 0.84 else Reply(40.0)),
    "failures after 5 s": fault(lambda at, draw: Reply(5000.0, "status") if draw.random() < 0.6 else Reply(40.0)),
    "a hang that times out": fault(lambda at, draw: Reply(10_000.0, "timeout")),
    "a hang that ends well": fault(lambda at, draw: Reply(1000 * (22.0 - at) + 50)),
    "slow answers": fault(lambda at, draw: Reply(800 + 4000 * draw.random())),
    "one in fifty hangs": fault(lambda at, draw: Reply(10_000.0, "timeout") if draw.random() < 0.02 else Reply(30.0)),
}


@pytest.mark.simulation
@pytest.mark.parametrize("case", CASES)
def test_live_numbers_are_the_final_ones_of_the_same_seconds_or_say_so(case: str) -> None:
    whole = recorded(CASES[case])
    provisional = 0
    for tenths in range(30, END * 10, 7):
        now = tenths / 10
        shown = live.live_numbers(recorded(CASES[case], now), now)
        assert shown.end_s is not None and shown.error_rate is not None and shown.end_s >= now - live.LATE_S
        final = whole.totals(round(10 * (shown.end_s - shown.span_s)), round(10 * shown.end_s))
        failed, names = final.error_rate, final.all_names()
        assert failed is not None
        quantiles = ((shown.p50_ms, 0.5), (shown.p95_ms, 0.95), (shown.p99_ms, 0.99))
        if shown.provisional:
            provisional += 1
            assert shown.error_rate - 1e-9 <= failed <= shown.error_rate + shown.open_rate + 1e-9
            for value, q in quantiles:
                known = names.quantile_ms(q)
                assert value is None or known is None or value <= known * 1.01
        else:
            assert shown.open_rate == 0 and shown.error_rate == failed
            assert shown.rps == names.replies / final.seconds
            assert all(value == names.quantile_ms(q) for value, q in quantiles)
    quick = case in ("healthy", "quick failures", "failures after 1.5 s")
    assert (provisional == 0) is quick, "a moment old is soon enough for what ends soon"


def test_open_requests_are_open_and_not_failed() -> None:
    shown = live.live_numbers(recorded(CASES["a hang that times out"], 15.0), 15.0)
    assert shown.provisional and shown.error_rate == 0.0 and shown.open_rate == 1.0
    assert shown.p95_ms is None, "nothing has ended, so nothing is known"
    assert shown.oldest_s == pytest.approx(5.0, abs=0.2) and shown.in_flight == 250


def test_failures_of_a_moment_ago_are_in_the_total_too() -> None:
    """The share shown can never be above zero with none in all."""
    for now in (12.0, 14.0, 20.0, 26.0):
        for answer in CASES.values():
            store = recorded(answer, now)
            shown = live.live_numbers(store, now)
            assert not shown.error_rate or store.total_failures > 0


def test_the_limits_of_the_phase_are_shown() -> None:
    assert live.limits_shown(PLAN, "fault") == {"p95": "<200ms", "error_rate": "<1%"}
    assert live.limits_shown(PLAN, "recovery") == live.limits_shown(PLAN, "after")
    assert live.limits_shown(PLAN, "warmup") == {}
