"""block: RabbitMQ's memory alarm, on a real node; and faults of the proxy in front of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pika
import pytest

from harness.adapters.nodes.rabbitmq_ctl import Ctl
from harness.fault import registered
from harness.model.errors import Refused, Rejected, UndoUnverified
from harness.model.records.faults import Dependency, UndoRecord
from harness.model.records.process import ServerProcess
from harness.safety.healing.undo import Patience, undo_record
from harness.testing import assert_fault_contract, assert_refused, change_for, through_json
from tests.support.servers.proxied import raw
from tests.support.servers.rabbitmq import RabbitServer, behind_proxy, declared
from tests.support.servers.real import wait_until

BLOCK = registered()["block"]


@pytest.fixture
def mq(
    rabbitmq_server: RabbitServer, toxiproxy_server: str, toxiproxy_process: ServerProcess, tmp_path: Path
) -> Iterator[Dependency]:
    with behind_proxy(declared(rabbitmq_server, tmp_path), toxiproxy_server, toxiproxy_process) as dependency:
        yield dependency


def ctl(server: RabbitServer, *words: str) -> str:
    done = subprocess.run([*server.ctl, *words], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def node(server: RabbitServer) -> Any:
    told = json.loads(ctl(server, "--silent", "--formatter", "json", "status"))
    return told["alarms"], told["vm_memory_high_watermark_setting"]


def captured(mq: Dependency) -> UndoRecord:
    return through_json(BLOCK.capture(change_for(BLOCK, mq), "r"))


def recorded(mq: Dependency, *, original: str, ours: str, folder: str = "x") -> UndoRecord:
    """The same without a question to the node: each call of rabbitmqctl takes most of a second."""
    return UndoRecord(
        id="r",
        kind="block",
        dependency=mq,
        params={},
        where={"data_directory": folder},
        original={"watermark": original},
        ours={"watermark": ours},
    )


@pytest.mark.stack
def test_it_keeps_the_contract_of_faults(mq: Dependency, rabbitmq_server: RabbitServer) -> None:
    def look(_: Dependency) -> Any:
        return raw(f"{mq.proxy.url}/proxies/{mq.proxy.name}"), node(rabbitmq_server)

    assert_fault_contract(BLOCK, mq, look=look)
    said = rabbitmq_server.log.read_text()
    assert "unexpectedly closed" not in said, "what was blocked for a proof is closed in order"


@pytest.mark.stack
@pytest.mark.parametrize(
    "kind",
    ["latency", pytest.param("down", marks=pytest.mark.thorough), pytest.param("hang", marks=pytest.mark.thorough)],
)
def test_faults_of_its_proxy_are_proven_and_undone(mq: Dependency, kind: str) -> None:
    assert_fault_contract(registered()[kind], mq, look=lambda _: raw(f"{mq.proxy.url}/proxies/{mq.proxy.name}"))


@pytest.mark.stack
def test_a_consumer_goes_on_and_a_publisher_does_not(mq: Dependency) -> None:
    assert mq.direct is not None
    where = pika.ConnectionParameters(mq.direct.host, mq.direct.port)
    with pika.BlockingConnection(where) as publisher, pika.BlockingConnection(where) as consumer:
        sends, takes = publisher.channel(), consumer.channel()
        takes.queue_declare("harness-test", exclusive=True)
        sends.basic_publish("", "harness-test", b"before")
        publisher.process_data_events(0.5)
        told: list[str] = []
        publisher.add_on_connection_blocked_callback(lambda *_: told.append("blocked"))
        record = recorded(mq, original="0.4", ours="0.0", folder=Ctl(mq).status().data_directory)
        BLOCK.inject(record)
        try:
            sends.basic_publish("", "harness-test", b"meanwhile")
            wait_until("the publisher is told", lambda: publisher.process_data_events(0.1) or bool(told), 20)
            assert told == ["blocked"]
            assert takes.basic_get("harness-test", auto_ack=True)[2] == b"before"
        finally:
            BLOCK.undo(record)


INJECT = """
import sys, time, msgspec
from harness.adapters.nodes.rabbitmq_ctl import Ctl
from harness.fault import registered
from harness.model.records.faults import UndoRecord
record = msgspec.json.decode(sys.stdin.buffer.read(), type=UndoRecord)
fault = registered()["block"]
fault.inject(record)
held = all(one.held for one in fault.prove(record, "injected"))
print("on" if held else "off", flush=True)
time.sleep(600)
"""


@pytest.mark.stack
@pytest.mark.thorough
@pytest.mark.parametrize("watermark", ["0.35", "absolute 3000000000"])
def test_what_a_killed_process_has_set_is_undone_from_the_record(
    mq: Dependency, rabbitmq_server: RabbitServer, watermark: str
) -> None:
    ctl(rabbitmq_server, "set_vm_memory_high_watermark", *watermark.split())
    try:
        before = node(rabbitmq_server)
        record = captured(mq)
        with subprocess.Popen([sys.executable, "-c", INJECT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            assert child.stdin is not None and child.stdout is not None
            child.stdin.write(msgspec.json.encode(record))
            child.stdin.close()
            assert child.stdout.readline() == b"on\n"
            os.kill(child.pid, signal.SIGKILL)
        assert node(rabbitmq_server) != before
        outcome = undo_record(record, unsure=True, patience=Patience(limit_s=180.0, clean_s=0.5))
        assert outcome.state == "verified", outcome
        assert node(rabbitmq_server) == before
    finally:
        ctl(rabbitmq_server, "set_vm_memory_high_watermark", "0.4")


@pytest.mark.stack
def test_a_watermark_that_somebody_else_has_set_is_left(mq: Dependency, rabbitmq_server: RabbitServer) -> None:
    record = recorded(mq, original="0.4", ours="0.0", folder=Ctl(mq).status().data_directory)
    ctl(rabbitmq_server, "set_vm_memory_high_watermark", "0.3")
    try:
        with pytest.raises(UndoUnverified, match=r"is 0\.3: it was 0\.4") as unverified:
            BLOCK.undo(record)
        assert "rabbitmqctl set_vm_memory_high_watermark 0.4" in str(unverified.value.mend)
        assert node(rabbitmq_server)[1] == {"relative": 0.3}
    finally:
        ctl(rabbitmq_server, "set_vm_memory_high_watermark", "0.4")


@pytest.mark.stack
def test_an_alarm_that_is_in_effect_already_is_refused(mq: Dependency, rabbitmq_server: RabbitServer) -> None:
    ctl(rabbitmq_server, "set_vm_memory_high_watermark", "0")
    try:
        with pytest.raises(Refused, match=r"in effect already \(memory\)"):
            captured(mq)
    finally:
        ctl(rabbitmq_server, "set_vm_memory_high_watermark", "0.4")


def test_a_file_that_has_changed_is_not_run(mq_declared: Dependency) -> None:
    record = recorded(mq_declared, original="0.4", ours="0.0")
    with pytest.raises(Rejected, match="has changed since the run was planned, so its ctl command for mq is not run"):
        BLOCK.undo(record)


def test_a_record_cannot_bring_another_argument(mq_declared: Dependency) -> None:
    record = recorded(mq_declared, original="0.4 --node other@host", ours="--help")
    with pytest.raises(Rejected, match="is no memory watermark"):
        BLOCK.inject(record)


@pytest.fixture
def mq_declared(tmp_path: Path) -> Dependency:
    (tmp_path / "harness.toml").write_text("")
    bare = Dependency(name="mq", kind="rabbitmq", proxied=True)
    return bare.but(broker={"ctl_config": str(tmp_path / "harness.toml"), "ctl_sha256": "0"})


def test_it_is_refused_where_nothing_runs_rabbitmqctl(mq_declared: Dependency) -> None:
    assert_refused(BLOCK, Dependency(name="mq", kind="rabbitmq", proxied=True))
    assert_refused(BLOCK, Dependency(name="cache", kind="redis", proxied=True))
    assert change_for(BLOCK, mq_declared).blind_probe
    change_for(BLOCK, Dependency(name="mq", kind="rabbitmq", runtime="container"))
