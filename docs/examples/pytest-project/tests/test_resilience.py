import time

import pytest


def test_prices_are_told_while_redis_is_down(fault, steady_load, assert_resilient):
    with steady_load("/prices/tea", rate=30) as load:
        with fault("redis-down"):
            time.sleep(4)
        seen = load.stop()
    assert_resilient(seen, "error_rate < 5%")


@pytest.mark.resilience(
    fault="redis-down",
    locustfile="tests/locustfile.py",
    rate=40,
    warmup_s=2,
    baseline_s=15,
    fault_s=12,
    targets=("error_rate < 5%", "p95 < 1s", "recovery < 20s"),
)
def test_the_shop_survives_without_redis(resilience_result):
    (redis_down,) = resilience_result().faults
    assert redis_down.proven and redis_down.undo_verified
