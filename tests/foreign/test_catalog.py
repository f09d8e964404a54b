"""Node on MariaDB and memcached. Its weakness: one connection to the database, which is not made anew."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.model.paths import cache_dir
from harness.model.records.faults import Address
from tests.foreign.system import HERE, System, proven
from tests.support.servers.debian import program
from tests.support.servers.mariadb import PASSWORD, MariaDbServer

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.calm]


def node_modules() -> Path:
    """Of the catalogue's package-lock.json: installed once into the machine's cache."""
    npm, lock = program("npm", "npm"), HERE / "catalog" / "package-lock.json"
    folder = cache_dir() / "tests" / f"node-{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}"
    if not folder.exists():
        made = folder.with_name(f"{folder.name}.{os.getpid()}")
        made.mkdir(parents=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(lock.with_name(name), made)
        subprocess.run([npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=made, check=True, timeout=180)
        try:
            made.rename(folder)
        except OSError:  # another test process was quicker
            shutil.rmtree(made)
    return folder / "node_modules"


@pytest.mark.timeout(400)
@pytest.mark.parametrize("weak", [True, False], ids=["weak", "hardened"])
def test_a_connection_that_is_not_made_anew_keeps_the_catalogue_down(
    weak: bool,
    tmp_path: Path,
    toxiproxy_server: str,
    mariadb_server: MariaDbServer,
    memcached_server: Address,
) -> None:
    with System("catalog", tmp_path, toxiproxy_server, weak=weak) as system:
        system.env |= {"APP_DB_PASSWORD": PASSWORD}
        database = system.behind_proxy(
            "db",
            mariadb_server.address,
            f'kind = "mysql"\ndirect = "{mariadb_server.address}"\nlogin = "user=app dbname=shop"\n'
            f'password_env = "APP_DB_PASSWORD"\nadmin = "{mariadb_server.admin}"\nprobe_login = "user=probe"\n'
            'probe_password_env = "APP_DB_PASSWORD"',
        )
        cache = system.behind_proxy("cache", memcached_server, f'kind = "memcached"\ndirect = "{memcached_server}"')
        system.start(
            *(program("node", "nodejs"), "server.js"),
            page="/health",
            NODE_PATH=str(node_modules()),
            PORT=str(system.port),
            MEMCACHED=str(cache),
            DB_HOST=database.host,
            DB_PORT=str(database.port),
            DB_USER="app",
            DB_PASSWORD=PASSWORD,
            DB_NAME="shop",
        )
        # Nothing can be looked up or lent while the database is away; that it comes back is the question.
        needs = '[requests."{}"]\nmay_fail_with = ["db"]\n'
        system.declare("/health", needs.format("GET /books/{number}") + needs.format("POST /loans"))
        before, counted = system.left(), mariadb_server.status("Aborted_connects")
        result = system.run("db-down")
        assert proven(result), result["text"]
        assert system.left() == before
        assert mariadb_server.status("Aborted_connects") == counted
    assert result["verdict"] == ("fail" if weak else "pass"), result["text"]
    if weak:
        assert result["recovery"]["outcome"] == "not_recovered", result["recovery"]
