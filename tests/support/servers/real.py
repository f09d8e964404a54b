"""Real servers for tests, started without the keeper.

The fixtures of conftest.py hand these out, one of each for the whole test session, on free ports of 127.0.0.1:

    toxiproxy_server   str: base URL of its API. Make proxies with names of your own.
    toxiproxy_process  ServerProcess: its pid
    valkey_server      ValkeyServer
    postgres_server    PostgresServer
    kafka_server       KafkaServer
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

import psutil

from harness.model.errors import SetupError
from harness.model.records.faults import Address
from harness.model.records.process import ServerProcess, ServerSpec
from harness.stack.embedded import java as java_runtime
from harness.stack.embedded import kafka, kafka_archive, kafka_files, postgres, toxiproxy, valkey
from harness.stack.embedded.private_folder import PrivateFolder, server_user
from harness.stack.starting.ports import Ports
from harness.stack.starting.ready import wait_ready


class ValkeyServer(NamedTuple):
    address: Address
    process: ServerProcess

    @property
    def pid(self) -> int:
        return self.process.pid


class PostgresServer(NamedTuple):
    """admin: conninfo of the superuser over the Unix socket. login, probe_login: "user=... dbname=..." over TCP."""

    address: Address
    admin: str
    login: str
    probe_login: str
    role: str
    process: ServerProcess

    @property
    def pid(self) -> int:
        return self.process.pid


class KafkaServer(NamedTuple):
    """direct: clients may simply use it. upstream: what a proxy must forward to. advertised: where such a proxy must
    listen, because the broker sends the clients of `upstream` there. No proxy listens there by itself."""

    direct: Address
    upstream: Address
    advertised: Address
    process: ServerProcess

    @property
    def pid(self) -> int:
        return self.process.pid


class SubprocessLauncher:
    """The launcher protocol with plain children of this process. `close` stops everything and removes the folders."""

    def __init__(self) -> None:
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._specs: dict[str, ServerSpec] = {}
        self._folders: list[str] = []
        self._lock = threading.Lock()

    def launch(self, spec: ServerSpec) -> ServerProcess:
        with self._lock, Path(spec.log).open("ab") as log:
            try:
                process = subprocess.Popen(
                    spec.argv,
                    env=spec.env,
                    cwd=spec.cwd,
                    stdin=subprocess.DEVNULL if spec.stdin is None else subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    user=spec.user,
                    group=None if spec.user is None else pwd.getpwnam(spec.user).pw_gid,
                    extra_groups=None if spec.user is None else (),
                )
            except OSError as error:
                raise SetupError(f"{spec.name} could not be started: {error}") from error
            if process.stdin is not None:
                with process.stdin:
                    process.stdin.write((spec.stdin or "").encode())
            self._processes[spec.name] = process
            self._specs[spec.name] = spec
        return ServerProcess(name=spec.name, pid=process.pid, start_time=psutil.Process(process.pid).create_time())

    def exit_code(self, name: str) -> int | None:
        return self._processes[name].poll()

    def stop(self, name: str) -> None:
        process = self._processes.pop(name, None)
        if process is None:
            return
        spec = self._specs.pop(name)
        tree: list[psutil.Process] = []
        with contextlib.suppress(psutil.NoSuchProcess):
            tree = psutil.Process(process.pid).children(recursive=True)
        if process.poll() is None:
            process.send_signal(signal.Signals[spec.stop_signal])
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(spec.stop_grace_s)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        for child in tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        process.wait()

    def remove_at_end(self, path: str) -> None:
        self._folders.append(path)

    def names(self) -> list[str]:
        return list(self._processes)

    def close(self) -> None:
        for name in reversed(self.names()):
            self.stop(name)
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)
        self._folders.clear()


def say(line: str) -> None:
    """Progress of a set-up, to where pytest shows it for a failing test."""
    print(line, file=sys.stderr)


def start_toxiproxy(
    launcher: SubprocessLauncher, proxies: tuple[toxiproxy.Proxy, ...] = ()
) -> tuple[str, ServerProcess]:
    program = toxiproxy.ensure(say)
    folder = PrivateFolder(launcher).sub("toxiproxy")
    with Ports() as ports:
        address = Address("127.0.0.1", ports.take())
        log = folder / "log"
        spec = toxiproxy.spec(program, folder, address.port, toxiproxy.config(folder, proxies), log)
        process = launcher.launch(spec)
        wait_ready(
            "Toxiproxy",
            lambda: toxiproxy.probe(address, proxies),
            launcher=launcher,
            name=spec.name,
            log=log,
            limit_s=60,
        )
    return f"http://{address}", process


def start_valkey(launcher: SubprocessLauncher) -> ValkeyServer:
    folder = PrivateFolder(launcher).sub("valkey")
    with Ports() as ports:
        address = Address("127.0.0.1", ports.take())
        log = folder / "log"
        process = launcher.launch(valkey.spec(folder, address.port, log))
        wait_ready("Valkey", lambda: valkey.probe(address), launcher=launcher, name=valkey.NAME, log=log, limit_s=60)
    return ValkeyServer(address, process)


def start_postgres(launcher: SubprocessLauncher) -> PostgresServer:
    template = postgres.ensure(say)
    private = PrivateFolder(launcher)
    folder = private.sub("pg", server_user())
    installed = postgres.installation(folder)
    postgres.prepare(template, folder, installed)
    with Ports() as ports:
        address = Address("127.0.0.1", ports.take())
        log = private.path / "postgres.log"
        process = launcher.launch(postgres.spec(installed, folder, address.port, log))
        wait_ready(
            "PostgreSQL", lambda: postgres.probe(address), launcher=launcher, name=postgres.NAME, log=log, limit_s=60
        )
    return PostgresServer(
        address,
        postgres.admin_conninfo(folder, address.port),
        postgres.login(postgres.ROLE),
        postgres.login(postgres.PROBE_ROLE),
        postgres.ROLE,
        process,
    )


def start_kafka(launcher: SubprocessLauncher) -> KafkaServer:
    java = java_runtime.find()
    files = kafka_files.ensure(java, say)
    archive = kafka_archive.ensure(java, files, say)
    folder = PrivateFolder(launcher).sub("kafka")
    with Ports() as ports:
        numbers = kafka.KafkaPorts(ports.take(), ports.take(), ports.take(), ports.take())
        kafka.prepare(files, folder, numbers)
        log = folder / "log"
        process = launcher.launch(kafka.spec(java, files, archive, folder, log))
        direct = Address("127.0.0.1", numbers.direct)
        wait_ready("Kafka", lambda: kafka.probe(direct), launcher=launcher, name=kafka.NAME, log=log, limit_s=120)
    return KafkaServer(direct, Address("127.0.0.1", numbers.proxied), Address("127.0.0.1", numbers.advertised), process)


def wait_until(what: str, condition: object, limit_s: float = 30.0) -> None:
    """Poll a callable until it is true; fails the test naming `what`."""
    assert callable(condition)
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit_s:.0f} s: {what}"
        time.sleep(0.02)
