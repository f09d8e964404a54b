"""A worker that takes messages from RabbitMQ and calls an HTTP upstream. Its weakness: no time-out towards that."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness.model.records.faults import Address
from harness.stack.starting.ports import Ports
from tests.foreign.system import System, proven
from tests.support.servers.rabbitmq import RabbitServer

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.calm]


@pytest.mark.timeout(400)
@pytest.mark.parametrize("weak", [True, False], ids=["weak", "hardened"])
def test_a_provider_that_hangs_stops_the_queue_where_it_is_waited_for(
    weak: bool, tmp_path: Path, toxiproxy_server: str, rabbitmq_server: RabbitServer
) -> None:
    with System("mailer", tmp_path, toxiproxy_server, weak=weak) as system:
        with Ports() as ports:
            provider = Address("127.0.0.1", ports.take())
        system.start(sys.executable, "provider.py", str(provider.port))
        path = system.behind_proxy("mail", provider, f'kind = "http"\ndirect = "{provider}"')
        queue = system.behind_proxy(
            "queue",
            rabbitmq_server.address,
            f'kind = "rabbitmq"\ndirect = "{rabbitmq_server.address}"\nmanagement = "{rabbitmq_server.management}"',
        )
        # The load is messages: it goes to the broker itself, past the proxy that faults are on.
        system.env["RABBIT_DIRECT"] = f"amqp://guest:guest@{rabbitmq_server.address}/%2f"
        system.start(
            *(sys.executable, "worker.py"),
            page="/",
            PORT=str(system.port),
            PROVIDER=f"http://{path}",
            RABBIT=f"amqp://guest:guest@{queue}/%2f",
        )
        system.declare("/")
        before = system.left()
        result = system.run("mail-hang")
        assert proven(result), result["text"]
        assert system.left() == before
    assert result["verdict"] == ("fail" if weak else "pass"), result["text"]
    if weak:
        assert "order mail" in result["text"]
