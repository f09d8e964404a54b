"""An application that goes past the proxy is not hurt by what is done to the proxy: no verdict without its whole path.

The real sample API and plain clients beside it, pointed straight at the servers of one standing stack.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import redis

from tests.e2e.control import NOTICED_S, call, not_proven, proven, reason_about, wait_all_proven
from tests.e2e.life import brief_run
from tests.e2e.observe import http_json, wait_until
from tests.e2e.standing import StandingStack
from tests.support.servers.ports import free_port

pytestmark = [pytest.mark.stack, pytest.mark.slow]

FAULTS = ("--fault", "redis-latency", "--fault", "kafka-latency", "--fault", "db-latency")
NAMES = FAULTS[1::2]
API = Path(__file__).resolve().parents[2] / "compose" / "api"


def direct(stack: StandingStack, name: str) -> str:
    address = stack.dependency(name)["direct"]
    return f"{address['host']}:{address['port']}"


@contextmanager
def second_api(stack: StandingStack, folder: Path) -> Iterator[int]:
    """The sample API once more, as a pool beside the first: its settings name the servers, not the proxies."""
    port = free_port()
    env = {
        **os.environ,
        "PYTHONPATH": str(API),
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "REDIS_URL": f"redis://:{stack.password()}@{direct(stack, 'redis')}/0",
        "DATABASE_URL": f"postgresql://{stack.dependency('db')['role']}@{direct(stack, 'db')}/anomalies",
        "KAFKA_BOOTSTRAP_SERVERS": direct(stack, "kafka"),
    }
    with (folder / "second.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "anomaly_api"], env=env, cwd=folder, stdout=log, stderr=log, start_new_session=True
        )
    stop = threading.Event()

    def use() -> None:
        number = 0
        while not stop.wait(0.1):
            number += 1
            with contextlib.suppress(OSError):
                call("POST", f"http://127.0.0.1:{port}/api/v1/predict", {"transaction": transaction(number)})

    user = threading.Thread(target=use)
    try:
        assert wait_until(lambda: answers(port), 60), (folder / "second.log").read_text()[-2000:]
        user.start()
        yield process.pid
    finally:
        stop.set()
        if user.ident is not None:
            user.join()
        process.terminate()
        process.wait(30)


def transaction(number: int) -> dict[str, object]:
    return {
        "hash": f"0x{number:064x}",
        "from_address": f"0x{number:040x}",
        "to_address": f"0x{number + 1:040x}",
        "value": 1.5,
        "gas": 21_000,
        "gas_price": 10**10,
        "block_number": 21_500_000,
        "timestamp": "2025-01-01T00:00:00Z",
    }


def answers(port: int) -> bool:
    try:
        return bool(http_json(f"http://127.0.0.1:{port}/health"))
    except OSError:
        return False


@pytest.mark.thorough
def test_an_application_with_a_second_pool_beside_the_proxies(stack: StandingStack, tmp_path: Path) -> None:
    with second_api(stack, tmp_path) as pid:
        run = brief_run(stack, tmp_path, *FAULTS)
        try:
            assert run.end() == 3, run.text()
            for fault in NAMES:
                dependency = fault.removesuffix("-latency")
                reason = reason_about(run, fault)
                assert f"the target reaches {dependency} past the proxy as well" in reason
                assert f"pid {pid}" in reason, reason
            assert proven(run) == set()
        finally:
            run.kill_group()


def test_connections_past_the_proxies_that_are_opened_only_while_the_faults_are_on(
    stack: StandingStack, tmp_path: Path
) -> None:
    run = brief_run(stack, tmp_path, *FAULTS, "--fault-for", "15s")
    try:
        wait_all_proven(run, *NAMES)
        assert not_proven(run) == {}
        with late_clients(stack):
            assert wait_until(lambda: set(not_proven(run)) == set(NAMES), NOTICED_S), not_proven(run)
        assert run.end() == 3, run.text()
        for fault in NAMES:
            dependency = fault.removesuffix("-latency")
            reason = reason_about(run, fault)
            assert f"while it was on the target reached {dependency} past the proxy: 1 in use past it" in reason
            assert f"pid {os.getpid()}" in reason
    finally:
        run.kill_group()


@contextmanager
def late_clients(stack: StandingStack) -> Iterator[None]:
    """One client of each kind on the servers themselves, in use."""
    db, cache = stack.dependency("db"), stack.dependency("redis")["direct"]
    stop = threading.Event()

    def use() -> None:
        login = f"{db['credentials']['login']} host={db['direct']['host']} port={db['direct']['port']}"
        with (
            redis.Redis(cache["host"], cache["port"], password=stack.password()) as one,
            psycopg.connect(login, autocommit=True) as two,
        ):
            while not stop.wait(0.05):
                one.ping()
                two.execute("SELECT 1")

    def hold() -> None:
        asyncio.run(hold_kafka(direct(stack, "kafka"), stop))

    threads = [threading.Thread(target=use), threading.Thread(target=hold)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


async def hold_kafka(address: str, stop: threading.Event) -> None:
    """One plain connection that asks ApiVersions (v0) again and again, as an idle consumer fetches."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    request = b"\x00\x12\x00\x00\x00\x00\x00\x01\x00\x04late"
    try:
        while not stop.is_set():
            writer.write(len(request).to_bytes(4, "big") + request)
            size = int.from_bytes(await reader.readexactly(4), "big")
            await reader.readexactly(size)
            await asyncio.sleep(0.05)
    finally:
        writer.close()
