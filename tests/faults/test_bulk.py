"""bandwidth, slicer and limit-data: proven where they show, refused where they would not, seen by real clients."""

from __future__ import annotations

import time

import pytest
import redis as redis_client

from harness.dependencies.probe import Mover
from harness.fault import registered
from harness.model.errors import Refused
from harness.model.records.faults import Dependency, UndoRecord
from harness.testing import assert_held, change_for
from tests.support.servers.proxied import outside, raw

pytestmark = pytest.mark.stack


def on(kind: str, dependency: Dependency, **params: str) -> UndoRecord:
    fault = registered()[kind]
    record = fault.capture(change_for(fault, dependency, **params), "r")
    fault.inject(record)
    return record


def client(dependency: Dependency) -> redis_client.Redis:
    assert dependency.path is not None
    return redis_client.Redis(dependency.path.host, dependency.path.port, socket_timeout=20)


@pytest.mark.parametrize("direction", ["down", "up", "both"])
def test_a_client_of_the_application_feels_the_bandwidth(redis: Dependency, direction: str) -> None:
    with client(redis) as mine:
        mine.ping()
        record = on("bandwidth", redis, rate="16KB/s", direction=direction)
        try:
            started = time.monotonic()
            mine.echo("x" * 8000)
            assert time.monotonic() - started >= 0.4
            assert_held(registered()["bandwidth"].prove(record, "held"))
        finally:
            registered()["bandwidth"].undo(record)


def test_a_rate_that_the_path_does_not_reach_anyway_is_refused(redis: Dependency) -> None:
    """It would be "on", and nobody could tell."""
    slow = {"name": "theirs", "type": "bandwidth", "attributes": {"rate": 20}}
    raw(f"{redis.proxy.url}/proxies/{redis.proxy.name}/toxics", "POST", slow)
    before = outside(redis)
    fault = registered()["bandwidth"]
    with pytest.raises(Refused, match="too little to show it"):
        fault.capture(change_for(fault, redis, rate="20KB/s"), "r")
    assert outside(redis) == before


def test_a_limit_of_data_cuts_connections_that_are_open_already(redis: Dependency) -> None:
    with client(redis) as mine:
        mine.ping()
        record = on("limit-data", redis, bytes="2KB")
        try:
            with pytest.raises(redis_client.ConnectionError):
                mine.echo("x" * 3000)
            assert len(mine.echo("x" * 50)) == 50, "a new connection carries as much again"
            (_, probe) = registered()["limit-data"].prove(record, "injected")
            assert probe.held and "after 2000 bytes had come back" in probe.observed
        finally:
            registered()["limit-data"].undo(record)


def test_the_smallest_slices_and_limits_are_proven_and_leave_the_proxy_alive(redis: Dependency) -> None:
    for kind, params in {
        "slicer": {"size": "2B", "variation": "1B", "delay": "2ms"},
        "limit-data": {"bytes": "0"},
        "bandwidth": {"rate": "1KB/s"},
    }.items():
        fault = registered()[kind]
        record = on(kind, redis, **params)
        try:
            assert_held(fault.prove(record, "injected"))
        finally:
            fault.undo(record)
        assert_held(fault.verify_undone(record))


def test_two_at_once_are_each_proven_and_undone_by_themselves(redis: Dependency) -> None:
    first, second = on("bandwidth", redis), None
    try:
        fault = registered()["limit-data"]
        # Captured before either is injected, as a run does it; here the toxic of the first is already there.
        with pytest.raises(Refused, match="carries the toxic"):
            fault.capture(change_for(fault, redis), "second")
    finally:
        registered()["bandwidth"].undo(first)
    assert second is None
    assert_held(registered()["bandwidth"].verify_undone(first))


def test_kafkas_proof_makes_no_topic(request: pytest.FixtureRequest) -> None:
    from harness.adapters.wire import kafka
    from harness.model.clock import monotonic

    server = request.getfixturevalue("kafka_server")
    before = kafka.cluster(server.direct, deadline=monotonic() + 20).topics
    dependency = Dependency(name="kafka", kind="kafka", direct=server.direct)
    moved = Mover(dependency, "both")(200_000, 20.0)
    assert moved.result.ok, moved.result.detail
    assert moved.received is not None and moved.received >= 200_000
    assert kafka.cluster(server.direct, deadline=monotonic() + 20).topics == before


def test_redis_proof_leaves_no_key(redis: Dependency) -> None:
    with client(redis) as mine:
        before = mine.dbsize()
        assert Mover(redis, "down")(50_000, 20.0).result.ok
        assert mine.dbsize() == before
