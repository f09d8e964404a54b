"""An exporter beside the proxy is no bypass where harness.toml leaves it out, and the proof says so."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
import redis

from harness.conductor.path_proof.clients import PathClient, is_ignored, snapshot
from harness.conductor.path_proof.evidence import bypass_evidence, path_evidence
from harness.model.records.faults import Address, Dependency
from harness.model.records.process import ServerProcess
from tests.support.servers.proxied import proxied
from tests.support.servers.real import ValkeyServer


def seen(host: str, label: str = "") -> PathClient:
    return PathClient(id="1", address=Address(host, 5), label=label, on_proxy=None, work=None)


@pytest.mark.parametrize(
    ("host", "label", "ignored", "expected"),
    [
        ("10.0.0.7", "redis_exporter", ("redis_exporter",), True),
        ("10.0.0.7", "redis", ("redis_exporter",), False),
        ("10.0.0.7", "", ("10.0.0.7",), True),
        ("10.0.0.70", "", ("10.0.0.7",), False),
        ("10.0.0.70", "", ("10.0.0.0/24",), True),
        ("10.0.1.7", "", ("10.0.0.0/24",), False),
        ("::ffff:10.0.0.7", "", ("10.0.0.7",), True),
        ("fd00::7", "", ("[fd00::7]",), True),
        ("fd00::7", "", ("10.0.0.0/8",), False),
        ("", "", ("10.0.0.7",), False),
    ],
)
def test_clients_are_left_out_by_whole_names_addresses_and_networks(
    host: str, label: str, ignored: tuple[str, ...], expected: bool
) -> None:
    assert is_ignored(seen(host, label), ignored) is expected


@pytest.fixture
def cache(toxiproxy_server: str, toxiproxy_process: ServerProcess, valkey_server: ValkeyServer) -> Iterator[Dependency]:
    with proxied(toxiproxy_server, toxiproxy_process, valkey_server) as dependency:
        yield dependency


@pytest.mark.stack
def test_an_exporter_beside_the_proxy_is_left_out_and_told(cache: Dependency) -> None:
    assert cache.path is not None and cache.direct is not None
    left_out = msgspec.structs.replace(cache, ignore_clients=("redis_exporter",))
    with (
        redis.Redis(host=cache.path.host, port=cache.path.port, single_connection_client=True) as application,
        redis.Redis(
            host=cache.direct.host, port=cache.direct.port, client_name="redis_exporter", single_connection_client=True
        ) as exporter,
    ):
        application.ping(), exporter.ping()
        looks = {}
        for dependency in (cache, left_out):
            before = snapshot(dependency)
            application.ping(), exporter.ping()
            looks[dependency] = (before, snapshot(dependency))
        accused = path_evidence(*looks[cache], cache)
        assert accused is not None and not accused.held and "redis_exporter from" in accused.observed
        for judge in (path_evidence, bypass_evidence):
            evidence = judge(*looks[left_out], left_out)
            assert evidence is not None and evidence.held, evidence
            assert evidence.observed.endswith("1 client left out by harness.toml")
    # Somebody else beside the proxy is a bypass all the same.
    with redis.Redis(host=cache.direct.host, port=cache.direct.port, client_name="the-api") as other:
        before = snapshot(left_out)
        other.ping()
        after = snapshot(left_out)
        bypass = bypass_evidence(before, after, left_out)
        assert bypass is not None and not bypass.held
