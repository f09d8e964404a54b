"""A consumer of a Kafka topic that has only a health page. Its weakness: an error ends its reading for good."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.foreign.system import System, proven
from tests.support.servers.real import KafkaServer

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.calm]


@pytest.mark.timeout(400)
@pytest.mark.parametrize("weak", [True, False], ids=["weak", "hardened"])
def test_a_consumer_that_an_outage_ends_does_not_recover(
    weak: bool, tmp_path: Path, toxiproxy_server: str, kafka_server: KafkaServer
) -> None:
    with System("meter", tmp_path, toxiproxy_server, weak=weak) as system:
        broker = system.behind_proxy(
            "events",
            kafka_server.upstream,
            f'kind = "kafka"\ndirect = "{kafka_server.direct}"',
            listen=kafka_server.advertised,
        )
        system.start(sys.executable, "meter.py", page="/health", KAFKA=str(broker), PORT=str(system.port))
        system.declare("/live", '[requests."GET /health"]\nmay_fail_with = ["events"]\n')
        before = system.left()
        result = system.run("events-down")
        assert proven(result), result["text"]
        assert system.left() == before
    assert result["verdict"] == ("fail" if weak else "pass"), result["text"]
    if weak:
        assert result["recovery"]["outcome"] == "not_recovered", result["recovery"]
