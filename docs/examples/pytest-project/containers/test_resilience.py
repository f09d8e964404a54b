import time

import pytest


@pytest.mark.parametrize("name", ["redis-down", "redis-kill"])
def test_prices_are_told_without_redis(fault, steady_load, assert_resilient, name):
    with steady_load("/prices/tea", rate=30) as load:
        with fault(name):
            time.sleep(4)
        seen = load.stop()
    assert_resilient(seen, "error_rate < 5%")
