"""Debian's PgBouncer before a PostgreSQL of the tests, and a PostgreSQL that speaks TLS.

Every login of PgBouncer has the password PASSWORD; WATCHER may look at its console, as `stats_users` lets it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import psycopg

from harness.model.errors import HarnessError
from harness.model.records.faults import Address
from harness.model.records.process import ServerProcess, ServerSpec
from harness.stack.embedded import postgres
from harness.stack.embedded.private_folder import PrivateFolder, server_user
from harness.stack.starting.ports import Ports
from tests.support.servers.debian import program
from tests.support.servers.proxied import raw
from tests.support.servers.real import SubprocessLauncher, wait_until

PASSWORD = "pooled-secret"
PASSWORD_ENV = "POOLED_PASSWORD"
WATCHER = "watcher"
STRANGER = "stranger"


class Pooler(NamedTuple):
    address: Address
    process: ServerProcess
    log: str


@contextmanager
def pgbouncer(upstream: Address, *, pool_size: int = 3, settings: str = "") -> Iterator[Pooler]:
    """In transaction mode. Of WATCHER alone the console takes questions."""
    found = program("pgbouncer", "pgbouncer")
    launcher = SubprocessLauncher()
    try:
        private = PrivateFolder(launcher)
        folder = private.sub("pgbouncer", server_user())
        users = (postgres.ROLE, postgres.PROBE_ROLE, WATCHER, STRANGER)
        (folder / "users.txt").write_text("".join(f'"{user}" "{PASSWORD}"\n' for user in users))
        with Ports() as ports:
            address = Address("127.0.0.1", ports.take())
            (folder / "pgbouncer.ini").write_text(f"""
[databases]
{postgres.DATABASE} = host={upstream.host} port={upstream.port} dbname={postgres.DATABASE}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {address.port}
unix_socket_dir =
auth_type = md5
auth_file = {folder}/users.txt
stats_users = {WATCHER}
pool_mode = transaction
default_pool_size = {pool_size}
server_login_retry = 1
{settings}
""")
            log = str(private.path / "pgbouncer.log")
            process = launcher.launch(
                ServerSpec(
                    name="pgbouncer",
                    argv=(found, str(folder / "pgbouncer.ini")),
                    env={"PATH": os.environ["PATH"]},
                    cwd=str(folder),
                    log=log,
                    user=server_user(),
                    stop_signal="SIGINT",
                )
            )
            wait_until("PgBouncer answers", lambda: _answers(address))
        yield Pooler(address, process, log)
    finally:
        launcher.close()


def login(address: Address, role: str = postgres.ROLE, database: str = postgres.DATABASE) -> str:
    """How a client of the tests connects."""
    server = f"host={address.host} port={address.port} connect_timeout=9"
    return f"{server} user={role} dbname={database} password={PASSWORD}"


def _answers(address: Address) -> bool:
    try:
        psycopg.connect(login(address, WATCHER, "pgbouncer"), autocommit=True).close()
    except (psycopg.Error, HarnessError):
        return False
    return True


@contextmanager
def in_front(toxiproxy: str, name: str, upstream: Address, listen: Address | None = None) -> Iterator[Address]:
    """A new proxy; where it listens."""
    with Ports() as ports:
        listen = listen or Address("127.0.0.1", ports.take())
        raw(f"{toxiproxy}/proxies", "POST", {"name": name, "listen": str(listen), "upstream": str(upstream)})
    try:
        yield listen
    finally:
        raw(f"{toxiproxy}/proxies/{name}", "DELETE")
