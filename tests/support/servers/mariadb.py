"""A MariaDB of the test session's own, from Debian's mariadb-server: on every address of this machine, because a server
keeps no count of failed logins from loopback, and with the fewest of them that it can be told to bear."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pymysql
import pytest

from harness.console.certificate import made
from harness.model.records.faults import Address, Credentials, Dependency, DependencyProcess, DependencyProxy
from harness.stack.embedded.private_folder import PrivateFolder, give, server_user
from harness.stack.starting.ports import Ports
from tests.support.servers.debian import program
from tests.support.servers.proxied import raw
from tests.support.servers.real import SubprocessLauncher

MOST_ERRORS = 5
PASSWORD = "correct horse"
_numbers = count(1)


class MariaDbServer(NamedTuple):
    """socket: of root's login, without password. elsewhere: an address of this machine that is not loopback, if any."""

    address: Address
    socket: str
    pid: int
    elsewhere: Address | None
    certificate: str

    @property
    def admin(self) -> str:
        return f"host={self.socket} user=root"

    def ask(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Raw, as root."""
        with pymysql.connect(unix_socket=self.socket, user="root", autocommit=True) as connection:
            cursor = connection.cursor()
            cursor.execute(statement, values or None)
            return list(cursor.fetchall())

    def status(self, *names: str) -> dict[str, int]:
        rows = self.ask("SHOW GLOBAL STATUS")
        return {name: int(value) for name, value in rows if name in names or name.startswith(names)}


@contextmanager
def mariadb(launcher: SubprocessLauncher) -> Iterator[MariaDbServer]:
    install, server = (program(name, "mariadb-server") for name in ("mariadb-install-db", "mariadbd"))
    private = PrivateFolder(launcher)
    user = server_user()
    data = private.sub("my", user)
    as_user = [f"--user={user}"] if user is not None else []
    done = subprocess.run(
        [
            install,
            "--no-defaults",
            *as_user,
            f"--datadir={data}/d",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    certificate, key = made(private.sub("tls", user), "localhost")
    give(certificate, user)
    give(key, user)
    with Ports() as ports:
        port = ports.take()
        found = Address("127.0.0.1", port)
        argv = [
            server,
            "--no-defaults",
            *as_user,
            f"--datadir={data}/d",
            f"--socket={data}/s",
            f"--port={port}",
            "--bind-address=0.0.0.0",
            "--skip-log-bin",
            f"--ssl-cert={certificate}",
            f"--ssl-key={key}",
            "--innodb-buffer-pool-size=16M",
            "--performance-schema=ON",
            f"--max-connect-errors={MOST_ERRORS}",
        ]
        with (private.path / "log").open("wb") as log:
            process = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)
        try:
            _wait(Path(f"{data}/s"), process, private.path / "log")
            up = MariaDbServer(found, f"{data}/s", process.pid, _elsewhere(port), str(certificate))
            for statement in (
                "CREATE DATABASE shop",
                "CREATE TABLE shop.orders (id int PRIMARY KEY) ENGINE=InnoDB",
                f"CREATE USER app@'%' IDENTIFIED BY '{PASSWORD}'",
                "GRANT ALL ON shop.* TO app@'%'",
                f"CREATE USER probe@'%' IDENTIFIED BY '{PASSWORD}'",
            ):
                up.ask(statement)
            yield up
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def mariadb_server(_launcher: SubprocessLauncher) -> Iterator[MariaDbServer]:
    with mariadb(_launcher) as server:
        yield server


def declared(server: MariaDbServer, **more: Any) -> Dependency:
    """As harness.toml would; the variable APP_DB_PASSWORD has the password."""
    return Dependency(
        name="db",
        kind="mysql",
        process=DependencyProcess(pid=server.pid),
        credentials=Credentials(
            login="user=app dbname=shop",
            role="app",
            password_env="APP_DB_PASSWORD",
            admin=server.admin,
            probe_login="user=probe",
            probe_password_env="APP_DB_PASSWORD",
        ),
        **{"path": server.address, "direct": server.address, **more},
    )


@contextmanager
def behind(toxiproxy: str, pid: int, server: MariaDbServer, upstream: Address | None = None) -> Iterator[Dependency]:
    """The same behind a proxy of its own. upstream: another of the server's addresses."""
    name = f"mysql{next(_numbers)}"
    upstream = upstream or server.address
    with Ports() as ports:
        listen = Address("127.0.0.1", ports.take())
        raw(f"{toxiproxy}/proxies", "POST", {"name": name, "listen": str(listen), "upstream": str(upstream)})
    proxy = DependencyProxy(url=toxiproxy, name=name, pid=pid)
    try:
        yield declared(server, proxied=True, runtime="process", path=listen, direct=upstream, proxy=proxy)
    finally:
        raw(f"{toxiproxy}/proxies/{name}", "DELETE")


def _elsewhere(port: int) -> Address | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked, suppress(OSError):
        asked.connect(("192.0.2.1", 9))  # nothing is sent: only the route is looked up
        host = str(asked.getsockname()[0])
        return None if host.startswith("127.") else Address(host, port)
    return None


def _wait(path: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 60
    while True:
        with socket.socket(socket.AF_UNIX) as knock:
            knock.settimeout(5)
            if knock.connect_ex(str(path)) == 0:
                return
        assert process.poll() is None and time.monotonic() < end, log.read_text(errors="replace")[-2000:]
        time.sleep(0.1)
