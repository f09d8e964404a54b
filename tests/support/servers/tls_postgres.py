"""Debian's PostgreSQL with TLS only (the embedded one is built without): its certificate is for NAME, which nobody's
name server knows."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import psycopg

from harness.model.records.faults import Address
from harness.model.records.process import ServerSpec
from harness.stack.embedded import postgres
from harness.stack.embedded.private_folder import PrivateFolder, give, server_env, server_user
from harness.stack.starting.ports import Ports
from tests.support.servers.certificates import Authority
from tests.support.servers.debian import program
from tests.support.servers.real import SubprocessLauncher, wait_until

NAME = "db.internal.test"


class TlsPostgres(NamedTuple):
    """ca: its authority's certificate. other_ca: one that did not sign it. log: what it said."""

    address: Address
    admin: str
    ca: Path
    other_ca: Path
    log: Path


@contextmanager
def tls_postgres() -> Iterator[TlsPostgres]:
    versions = sorted(found.name for found in Path("/usr/lib/postgresql").glob("*"))
    package = f"postgresql/{versions[-1] if versions else '15'}"
    server, initdb = program("postgres", package), program("initdb", package)
    launcher = SubprocessLauncher()
    try:
        private, user = PrivateFolder(launcher), server_user()
        folder, certificates = private.sub("pg", user), private.sub("certificates")
        data, environment = folder / "data", server_env(folder, LC_ALL="C")
        command = [initdb, "-D", data, "--no-sync", "--auth=trust", f"--username={postgres.SUPERUSER}"]
        subprocess.run(command, check=True, user=user, env=environment, cwd=folder, stdout=subprocess.DEVNULL)
        authority = Authority(certificates)
        for file, name in zip(authority.issue(NAME), ("server.crt", "server.key"), strict=True):
            give(Path(shutil.copy(file, data / name)), user)
        (data / "pg_hba.conf").write_text(
            f"local all {postgres.SUPERUSER} trust\n"
            f"hostssl {postgres.DATABASE} {postgres.ROLE},{postgres.PROBE_ROLE} 127.0.0.1/32 trust\n"
        )
        with Ports() as ports:
            address = Address("127.0.0.1", ports.take())
            settings = {
                **{"port": address.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": folder},
                **{"ssl": "on", "ssl_cert_file": "server.crt", "ssl_key_file": "server.key", "fsync": "off"},
            }
            argv = [server, "-D", str(data), *(f"--{key}={value}" for key, value in settings.items())]
            log = private.path / "postgres.log"
            launcher.launch(
                ServerSpec(
                    name="tls-postgres",
                    argv=tuple(argv),
                    env=environment,
                    cwd=str(data),
                    log=str(log),
                    user=user,
                    stop_signal="SIGINT",
                )
            )
            admin = f"host={folder} port={address.port} user={postgres.SUPERUSER}"
            wait_until("PostgreSQL with TLS is up", lambda: _made(f"{admin} dbname=postgres"), 60)
        other = Authority(certificates, "another CA").ca
        yield TlsPostgres(address, f"{admin} dbname={postgres.DATABASE}", authority.ca, other, log)
    finally:
        launcher.close()


def _made(admin: str) -> bool:
    with suppress(psycopg.OperationalError), psycopg.connect(admin, autocommit=True) as connection:
        for role in (postgres.ROLE, postgres.PROBE_ROLE):
            connection.execute(f"CREATE ROLE {role} LOGIN".encode())
        connection.execute(f"CREATE DATABASE {postgres.DATABASE} OWNER {postgres.ROLE}".encode())
        return True
    return False
