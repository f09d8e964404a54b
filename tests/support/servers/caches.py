"""A memcached and a Redis of one's own for a test, with the options that it is about, and a proxy in front."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from harness.adapters.wire import memcached
from harness.adapters.wire.exchange import Exchange, ProbeError
from harness.model.clock import monotonic
from harness.model.records.faults import Address, Dependency, DependencyProcess, DependencyProxy
from harness.model.records.process import ServerProcess, ServerSpec
from harness.stack.embedded.private_folder import PrivateFolder, server_env
from harness.stack.starting.ports import Ports
from harness.stack.starting.ready import NotReady, wait_ready
from tests.support.servers.debian import program
from tests.support.servers.proxied import raw
from tests.support.servers.real import SubprocessLauncher

_numbers = count(1)


def start_memcached(launcher: SubprocessLauncher, *options: str) -> tuple[Address, ServerProcess]:
    argv = [program("memcached", "memcached"), "-l", "127.0.0.1", "-U", "0", *options]
    if os.geteuid() == 0:
        argv += ["-u", "nobody"]

    def answers(address: Address) -> None:
        with Exchange(address, deadline=monotonic() + 2) as exchange:
            memcached.version(exchange)

    return _started(launcher, "memcached", argv, "-p", answers)


def start_redis(launcher: SubprocessLauncher, *options: str, tls: Path | None = None) -> tuple[Address, ServerProcess]:
    """Debian's, which speaks TLS. tls: the folder of `certificates`; then it speaks nothing else."""
    argv = [program("redis-server", "redis-server"), "--bind", "127.0.0.1", "--save", "", *options]
    if tls is not None:
        argv += ["--port", "0", "--tls-cert-file", str(tls / "server.pem"), "--tls-key-file", str(tls / "server.key")]
        argv += ["--tls-ca-cert-file", str(tls / "ca.pem")]

    def listens(address: Address) -> None:
        with Exchange(address, deadline=monotonic() + 2):
            pass

    return _started(launcher, "redis", argv, "--tls-port" if tls is not None else "--port", listens)


def _started(
    launcher: SubprocessLauncher, kind: str, argv: list[str], port_option: str, probe: Any
) -> tuple[Address, ServerProcess]:
    name = f"{kind}-{next(_numbers)}"
    folder = PrivateFolder(launcher).sub(kind)
    log = folder / "log"

    def ready() -> None:
        try:
            probe(address)
        except ProbeError as error:
            raise NotReady(str(error)) from error

    with Ports() as ports:
        address = Address("127.0.0.1", ports.take())
        spec = ServerSpec(
            name=name,
            argv=(*argv, port_option, str(address.port)),
            env=server_env(folder),
            cwd=str(folder),
            log=str(log),
        )
        process = launcher.launch(spec)
        wait_ready(name, ready, launcher=launcher, name=name, log=log, limit_s=60)
    return address, process


@contextmanager
def behind_proxy(
    toxiproxy: str, proxy: ServerProcess, server: tuple[Address, ServerProcess], kind: str, **more: Any
) -> Iterator[Dependency]:
    upstream, process = server
    name = f"cache{next(_numbers)}"
    with Ports() as ports:
        listen = Address("127.0.0.1", ports.take())
        raw(f"{toxiproxy}/proxies", "POST", {"name": name, "listen": str(listen), "upstream": str(upstream)})
    try:
        yield Dependency(
            name="cache",
            kind=kind,
            proxied=True,
            runtime="process",
            path=listen,
            direct=upstream,
            proxy=DependencyProxy(url=toxiproxy, name=name, pid=proxy.pid),
            process=DependencyProcess(pid=process.pid),
            **more,
        )
    finally:
        raw(f"{toxiproxy}/proxies/{name}", "DELETE")


def certificates(folder: Path) -> Path:
    """An authority of its own, a server's certificate for cache.test, and a client's."""

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True, timeout=60)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=test authority")
    (folder / "names").write_text("subjectAltName=DNS:cache.test\n")
    for name in ("server", "client"):
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}.test")
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
        openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signed)
    for file in folder.iterdir():
        file.chmod(0o644)
    return folder
