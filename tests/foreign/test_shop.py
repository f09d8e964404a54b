"""Django under gunicorn, on PostgreSQL and Redis. Its weakness: no time-out towards the cache."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.foreign.system import System, proven
from tests.support.servers.real import PostgresServer, ValkeyServer

pytestmark = [pytest.mark.stack, pytest.mark.slow]


def started(system: System, valkey: ValkeyServer, postgres: PostgresServer) -> None:
    cache = system.behind_proxy("cache", valkey.address, f'kind = "redis"\ndirect = "{valkey.address}"')
    database = system.behind_proxy(
        "db",
        postgres.address,
        f'kind = "postgres"\ndirect = "{postgres.address}"\nlogin = "{postgres.login}"\nadmin = "{postgres.admin}"\n'
        f'probe_login = "{postgres.probe_login}"',
    )
    login = dict(word.split("=", 1) for word in postgres.login.split())
    system.start(
        *(sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{system.port}", "--workers", "1"),
        *("--worker-class", "gthread", "--threads", "16", "--timeout", "120", "--no-control-socket", "shop:application"),
        page="/health",
        REDIS_URL=f"redis://{cache}/0",
        DB_HOST=database.host,
        DB_PORT=str(database.port),
        DB_USER=login["user"],
        DB_NAME=login["dbname"],
    )
    system.declare("/health")


@pytest.mark.timeout(400)
@pytest.mark.parametrize("weak", [True, False], ids=["weak", "hardened"])
def test_a_cache_that_hangs_takes_the_shop_along_where_it_waits_for_it(
    weak: bool,
    tmp_path: Path,
    toxiproxy_server: str,
    valkey_server: ValkeyServer,
    postgres_server: PostgresServer,
) -> None:
    with System("shop", tmp_path, toxiproxy_server, weak=weak) as system:
        started(system, valkey_server, postgres_server)
        before = system.left()
        result = system.run("cache-hang")
        assert proven(result), result["text"]
        assert system.left() == before
    assert result["verdict"] == ("fail" if weak else "pass"), result["text"]
    assert result["exit_code"] == (1 if weak else 0)
    if weak:
        # Also what needs no cache: its threads are all waiting.
        assert "POST /orders" in result["text"], result["text"]
