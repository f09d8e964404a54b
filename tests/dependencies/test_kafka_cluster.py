"""A Kafka cluster is a dependency for each of its brokers: two real ones, each behind a proxy of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from harness.conductor.path_proof.evidence import bypass_evidence, path_evidence, snapshot
from harness.dependencies.configuration import load
from harness.dependencies.kafka import KAFKA
from harness.fault import registered
from harness.model.records.faults import Dependency, Evidence
from harness.stack.external.check import Look, look
from harness.testing import assert_fault_contract
from tests.support.servers.kafka_cluster import Broker, kafka_cluster
from tests.support.servers.pooler import in_front
from tests.support.servers.proxied import raw

pytestmark = pytest.mark.stack

NAMES = ("kafka-1", "kafka-2")


@pytest.fixture(scope="module")
def brokers() -> Iterator[tuple[Broker, Broker]]:
    with kafka_cluster() as found:

        async def make() -> None:
            admin = AIOKafkaAdminClient(bootstrap_servers=str(found[0].direct))
            await admin.start()
            try:
                await admin.create_topics([NewTopic("orders", 6, 1)])
            finally:
                await admin.close()

        asyncio.run(make())
        yield found


@pytest.fixture
def toxiproxy(toxiproxy_server: str, brokers: tuple[Broker, Broker]) -> Iterator[str]:
    one, two = brokers
    with (
        in_front(toxiproxy_server, NAMES[0], one.upstream, one.advertised),
        in_front(toxiproxy_server, NAMES[1], two.upstream, two.advertised),
    ):
        yield toxiproxy_server


def looked(folder: Path, toxiproxy: str, brokers: Sequence[Broker], names: Sequence[str] = NAMES) -> Look:
    text = f'[target]\nurl = "{toxiproxy}"\nhealth = "/version"\n[toxiproxy]\nurl = "{toxiproxy}"\n'
    for name, broker in zip(NAMES, brokers, strict=True):
        (folder / f"{name}.pid").write_text(f"{broker.pid}\n")
        if name in names:
            text += (
                f'[dependencies.{name}]\nkind = "kafka"\nproxy = "{name}"\ndirect = "{broker.direct}"\n'
                f'pid_file = "{name}.pid"\n'
            )
    file = folder / "harness.toml"
    file.write_text(text)
    return look(load(file), toxiproxy, allow_hosts=())


def found(looks: Look) -> list[Dependency]:
    trouble = [part.trouble for part in looks.parts if part.trouble is not None]
    assert not trouble, trouble
    return [one for one in looks.dependencies if one.name in NAMES]


def used(dependencies: Sequence[Dependency], *bootstrap: str) -> list[tuple[Evidence, Evidence | None]]:
    """What is seen of each broker while somebody writes to every partition: its path, and who goes past it."""

    async def write() -> list[tuple[Evidence, Evidence | None]]:
        producer = AIOKafkaProducer(bootstrap_servers=list(bootstrap))
        await producer.start()
        try:

            async def each() -> None:
                for partition in range(6):
                    await producer.send_and_wait("orders", b"one", partition=partition)

            await each()
            before = [await asyncio.to_thread(snapshot, one) for one in dependencies]
            await each()
            after = [await asyncio.to_thread(snapshot, one) for one in dependencies]
        finally:
            await producer.stop()
        judged = []
        for one, first, last in zip(dependencies, before, after, strict=True):
            evidence = path_evidence(first, last, one)
            assert evidence is not None
            judged.append((evidence, bypass_evidence(first, last, one)))
        return judged

    return asyncio.run(write())


def test_each_broker_is_used_through_its_own_proxy(
    tmp_path: Path, toxiproxy: str, brokers: tuple[Broker, Broker]
) -> None:
    both = found(looked(tmp_path, toxiproxy, brokers))
    assert [one.process.members for one in both] == [(brokers[1].pid,), (brokers[0].pid,)]
    for evidence, beside in used(both, str(brokers[0].advertised)):
        # The second broker fetches from the first, and each tells the other: that is not the application.
        assert evidence.held and "records written" in evidence.observed, evidence
        assert beside is not None and beside.held, beside
    # Without a word on the other broker that would be taken for somebody past the proxy.
    alone = both[0].but(process={"members": ()})
    assert alone.process.members == ()
    evidence, _ = used([alone], str(brokers[0].advertised))[0]
    assert not evidence.held and "in use beside it" in evidence.observed


def test_a_client_that_goes_past_is_seen_at_the_broker_that_it_uses(
    tmp_path: Path, toxiproxy: str, brokers: tuple[Broker, Broker]
) -> None:
    both = found(looked(tmp_path, toxiproxy, brokers))
    for evidence, _ in used(both, str(brokers[1].direct)):
        assert not evidence.held and "0 connections through the proxy" in evidence.observed, evidence


def test_one_broker_is_lost_and_comes_back(tmp_path: Path, toxiproxy: str, brokers: tuple[Broker, Broker]) -> None:
    _, second = found(looked(tmp_path, toxiproxy, brokers))
    assert_fault_contract(registered()["down"], second, look=lambda of: raw(f"{of.proxy.url}/proxies/{of.proxy.name}"))


def test_what_one_broker_leads_is_counted_and_no_lag_is_told(
    tmp_path: Path, toxiproxy: str, brokers: tuple[Broker, Broker]
) -> None:
    both = found(looked(tmp_path, toxiproxy, brokers))
    counts = [KAFKA.counters(one).read() for one in both]
    assert all(count.keys() == {"written"} for count in counts)
    before = [count["written"] for count in counts]
    used(both, str(brokers[0].advertised))
    after = [KAFKA.counters(one).read()["written"] for one in both]
    rose = [int(str(last)) - int(str(first)) for first, last in zip(before, after, strict=True)]
    assert sum(rose) == 12 and all(rose), rose


@pytest.mark.parametrize("declared", NAMES)
def test_a_broker_that_is_not_declared_is_named(
    declared: str, tmp_path: Path, toxiproxy: str, brokers: tuple[Broker, Broker]
) -> None:
    looks = looked(tmp_path, toxiproxy, brokers, names=[declared])
    (part,) = [part for part in looks.parts if part.name == declared]
    other = brokers[1 - NAMES.index(declared)].advertised
    assert part.trouble is not None and not [one for one in looks.dependencies if one.name == declared]
    said = f"{part.trouble} ({part.trouble.hint})"
    assert f"dependencies.{declared}: Kafka sends its clients on to {other}, another broker of its cluster" in said
    assert "each broker is a dependency with a proxy of its own" in said
