"""Every embedded server is the real one: it starts, and answers a real client of its protocol."""

from __future__ import annotations

import asyncio
import json
import urllib.request

import psycopg
import pytest
import redis

from tests.support.servers.real import KafkaServer, PostgresServer, ValkeyServer

pytestmark = pytest.mark.stack


def test_toxiproxy_is_2_12(toxiproxy_server: str) -> None:
    with urllib.request.urlopen(f"{toxiproxy_server}/version", timeout=10) as answer:
        assert json.load(answer)["version"].startswith("2.12.")


def test_valkey_keeps_a_value_and_listens_on_loopback_only(valkey_server: ValkeyServer) -> None:
    with redis.Redis(host=valkey_server.address.host, port=valkey_server.address.port) as client:
        client.set("harness-test-servers", "1")
        assert client.get("harness-test-servers") == b"1"
        assert client.config_get("bind") == {"bind": "127.0.0.1"}
        assert client.config_get("save") == {"save": ""}


def test_postgres_is_18_and_gives_the_application_its_own_database(postgres_server: PostgresServer) -> None:
    where = f"host={postgres_server.address.host} port={postgres_server.address.port}"
    with psycopg.connect(f"{where} {postgres_server.login}") as session:
        session.execute("create table test_servers (id int)")
        session.execute("insert into test_servers values (7)")
        assert session.execute("select id from test_servers").fetchall() == [(7,)]
        session.rollback()
        (version,) = session.execute("select current_setting('server_version_num')::int / 10000").fetchone() or (0,)
        assert version == 18
    with psycopg.connect(f"{where} {postgres_server.probe_login}") as session:
        assert session.execute("select 1").fetchone() == (1,)


def test_postgres_lets_the_superuser_in_over_the_socket_only(postgres_server: PostgresServer) -> None:
    with psycopg.connect(postgres_server.admin) as session:
        row = session.execute("select rolsuper from pg_roles where rolname = current_user").fetchone()
        assert row == (True,)
        assert session.execute("show max_connections").fetchone() == ("60",)
    where = f"host={postgres_server.address.host} port={postgres_server.address.port}"
    with pytest.raises(psycopg.OperationalError, match=r"no pg_hba\.conf entry"):
        psycopg.connect(f"{where} user=harness dbname=anomalies")


def test_kafka_takes_a_message_and_gives_it_back(kafka_server: KafkaServer) -> None:
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

    async def exchange() -> bytes:
        bootstrap = str(kafka_server.direct)
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
        await producer.start()
        try:
            await producer.send_and_wait("test-servers", b"paid")
        finally:
            await producer.stop()
        consumer = AIOKafkaConsumer(
            "test-servers", bootstrap_servers=bootstrap, auto_offset_reset="earliest", group_id="test-servers"
        )
        await consumer.start()
        try:
            message = await asyncio.wait_for(consumer.getone(), 60)
            return bytes(message.value)
        finally:
            await consumer.stop()

    assert asyncio.run(exchange()) == b"paid"
