"""Signatures of a fault in a dependency's own counters: each where it is, and silent where it is not."""

from __future__ import annotations

import msgspec
import pytest

from harness.analysis.rules.signatures import (
    Points,
    cold_cache,
    consumer_lag,
    reconnect_storm,
    retry_amplification,
    rises,
)
from harness.model.records.samples import Sample
from tests.analysis.histories import INJECTED, Scene, steady_sample

BASELINE = (10.0, 30.0)
FAULT = (40.0, 60.0)
ZERO = 60.0
END = 100


def counter(rate: dict[tuple[float, float], float], usual: float) -> Points:
    """A counter read every second, rising at `usual` per second but for some stretches."""
    total, found = 1000.0, []
    for second in range(END):
        found.append((second + 0.3, total))
        total += next((r for (a, b), r in rate.items() if a <= second < b), usual)
    return found


def gauge(values: dict[tuple[float, float], float], usual: float) -> Points:
    return [(s + 0.3, next((v for (a, b), v in values.items() if a <= s < b), usual)) for s in range(END)]


def requests(start_s: float, end_s: float) -> int:
    return round(100 * (end_s - start_s))


@pytest.mark.parametrize(("during", "found"), [(450.0, True), (95.0, False), (0.0, False), (130.0, False)])
def test_retry_amplification_is_calls_per_request_in_the_fault(during: float, found: bool) -> None:
    seen = retry_amplification("redis", counter({FAULT: during}, 90.0), requests, BASELINE, [FAULT])
    assert seen is not None and seen.found is found
    assert seen.baseline == pytest.approx(0.9, rel=0.05)
    assert seen.observed == pytest.approx(during / 100, rel=0.05)


def test_calls_of_a_dependency_that_could_not_be_read_in_the_fault_say_nothing() -> None:
    readings = [(at, value) for at, value in counter({}, 90.0) if not 39 < at < 61]
    assert retry_amplification("redis", readings, requests, BASELINE, [FAULT]) is None


@pytest.mark.parametrize(
    ("counter_name", "calls", "opened", "found"),
    [
        ("requests", 1, 1, False),  # a client without keep-alive gives up and does not ask again
        ("requests", 2, 0, True),  # asked once more
        ("commands", 1, 1, False),  # gave up a connection with the call
        ("commands", 2, 2, True),
    ],
)
def test_a_new_connection_is_a_call_where_it_costs_one_and_no_request_of_http(
    counter_name: str, calls: int, opened: int, found: bool
) -> None:
    """A fifth of the load's 200 requests a second (HTTP), or each of them, asks the dependency, and once."""
    asked = 40.0 if counter_name == "requests" else 200.0

    def sample(at: float) -> Sample:
        hurt = min(max(0.0, at - INJECTED), 20.0)
        usual = asked * (at - hurt)
        counted = {"at": at, counter_name: usual + calls * asked * hurt, "connections": opened * asked * hurt}
        return msgspec.structs.replace(steady_sample(at), counters={"redis": counted})

    (seen,) = [s for s in Scene(sample=sample).build().judge().signatures if s.kind == "retry_amplification"]
    share = asked / 200
    assert seen.found is found
    assert seen.baseline == pytest.approx(share, rel=0.05)
    assert seen.observed == pytest.approx(share * (calls if counter_name == "requests" else calls + opened), rel=0.05)


def test_a_restarted_server_s_counters_begin_again() -> None:
    assert [rate.rise for rate in rises([(0.0, 5.0), (1.0, 9.0), (2.0, 1.0), (3.0, 4.0)])] == [4.0, 3.0]


@pytest.mark.parametrize(
    ("after", "usual", "found"),
    [
        ({(60.0, 63.0): 150.0}, 0.5, True),
        ({(60.0, 61.0): 10.0}, 0.5, False),  # a pool of ten that opens once
        ({(60.0, 61.0): 24.0}, 0.5, False),  # and the harness's own probes beside it
        ({(60.0, 64.0): 110.0}, 100.0, False),  # a connection a request, as always
    ],
)
def test_a_reconnect_storm_is_many_more_connections_than_were_held(
    after: dict[tuple[float, float], float], usual: float, found: bool
) -> None:
    seen = reconnect_storm("redis", counter(after, usual), gauge({}, 10.0), BASELINE, ZERO)
    assert seen is not None and seen.found is found
    assert seen.baseline == pytest.approx(usual)
    assert seen.observed == max(after.values())


def cold(lookups: Points, missing: Points, transactions: dict[tuple[float, float], float]):  # type: ignore[no-untyped-def]
    return cold_cache("redis", lookups, missing, {"db": counter(transactions, 50.0)}, BASELINE, ZERO)


def test_a_cold_cache_is_a_low_hit_rate_that_the_database_pays_for() -> None:
    hits, misses = counter({(60.0, 68.0): 20.0}, 90.0), counter({(60.0, 68.0): 80.0}, 10.0)
    seen = cold(hits, misses, {(60.0, 68.0): 200.0})
    assert seen.found and seen.baseline == pytest.approx(0.9) and seen.observed == pytest.approx(0.2)
    assert seen.seconds == pytest.approx(9, abs=1.1) and seen.extra == pytest.approx(3.5, abs=0.6)
    harmless = cold(hits, misses, {})
    assert not harmless.found and harmless.extra == pytest.approx(1, abs=0.05)


def test_a_warm_cache_that_was_restarted_is_seen_although_its_misses_did_not_fall() -> None:
    """99 % hits before; the restart takes their count to 0. The first reading after it has more misses than ever."""
    hits = [(at, value if at < 60 else value - 60 * 99.0 - 1000.0) for at, value in counter({(60.0, 68.0): 20.0}, 99.0)]
    missing = [(at, value - 1000.0) for at, value in counter({(60.0, 61.0): 160.0, (61.0, 68.0): 80.0}, 1.0)]
    seen = cold(hits, missing, {(60.0, 68.0): 200.0})
    assert seen is not None and seen.found
    assert seen.baseline == pytest.approx(0.99, abs=0.01) and seen.observed == pytest.approx(20 / 180, abs=0.01)


def test_a_cache_that_is_as_warm_as_before_is_silent() -> None:
    seen = cold(counter({}, 90.0), counter({}, 10.0), {(60.0, 68.0): 300.0})
    assert not seen.found and seen.seconds == 0.0


def test_a_cache_that_never_warms_up_again_has_no_end() -> None:
    seen = cold(counter({(60.0, 200.0): 10.0}, 90.0), counter({(60.0, 200.0): 90.0}, 10.0), {(60.0, 200.0): 300.0})
    assert seen.found and seen.seconds is None


def test_consumer_lag_has_a_peak_and_a_time_to_drain() -> None:
    slow = consumer_lag("kafka", gauge({(42.0, 85.0): 5000.0}, 40.0), [], BASELINE, FAULT[0], ZERO)
    assert slow is not None and slow.found and slow.observed == 5000 and slow.seconds == pytest.approx(25.3)
    quick = consumer_lag("kafka", gauge({(42.0, 65.0): 5000.0}, 40.0), [], BASELINE, FAULT[0], ZERO)
    assert quick is not None and not quick.found and quick.seconds == pytest.approx(5.3)
    never = consumer_lag("kafka", gauge({(42.0, 200.0): 5000.0}, 40.0), [], BASELINE, FAULT[0], ZERO)
    assert never is not None and never.found and never.seconds is None
    usual = consumer_lag("kafka", gauge({(42.0, 200.0): 90.0}, 40.0), [], BASELINE, FAULT[0], ZERO)
    assert usual is not None and not usual.found
    # As seen after a broker was killed: no backlog, but committed in another rhythm than before.
    lag = gauge({(42.0, 65.0): 2325.0, (65.0, 200.0): 160.0}, 20.0)
    written = [(s + 0.3, 200.0 * s) for s in range(END)]
    rhythm = consumer_lag("kafka", lag, written, BASELINE, FAULT[0], ZERO)
    assert rhythm is not None and not rhythm.found and rhythm.seconds == pytest.approx(5.3)
    few = consumer_lag("kafka", lag, [(at, count / 10) for at, count in written], BASELINE, FAULT[0], ZERO)
    assert few is not None and few.found and few.seconds is None
