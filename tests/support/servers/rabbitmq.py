"""Debian's RabbitMQ with its management API, on free ports of 127.0.0.1: a node with an epmd of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import NamedTuple

from harness.adapters.wire.http import Client
from harness.console.certificate import made
from harness.dependencies.configuration import load
from harness.model.errors import AdapterError
from harness.model.records.faults import Address, Dependency, DependencyProxy
from harness.model.records.process import ServerProcess, ServerSpec
from harness.stack.embedded.private_folder import PrivateFolder, give, server_env, server_user
from harness.stack.external.declared import dependencies
from harness.stack.starting.ports import Ports
from harness.stack.starting.ready import NotReady, wait_ready
from tests.support.servers.debian import program
from tests.support.servers.proxied import raw
from tests.support.servers.real import SubprocessLauncher

_BIN = "/usr/lib/rabbitmq/bin"
GUEST = ("guest", "guest")
_numbers = count(1)


class RabbitServer(NamedTuple):
    """ctl: argv of its rabbitmqctl. log: of the node. tls: where AMQP is spoken in TLS, with a certificate for
    localhost that is signed by itself."""

    address: Address
    management: str
    ctl: tuple[str, ...]
    log: Path
    process: ServerProcess
    tls: Address
    certificate: Path

    @property
    def pid(self) -> int:
        return self.process.pid


def start_rabbitmq(launcher: SubprocessLauncher, name: str = "trial") -> RabbitServer:
    server = program("rabbitmq-server", "rabbitmq")
    ctl = program("rabbitmqctl", "rabbitmq")
    # Those in /usr/sbin insist on root or the user rabbitmq.
    server, ctl = (f"{_BIN}/{Path(one).name}" if Path(_BIN).is_dir() else one for one in (server, ctl))
    user = server_user()
    private = PrivateFolder(launcher)
    folder = private.sub("rabbitmq", user)
    with Ports() as ports:
        amqp, http, dist, epmd, secure = (ports.take() for _ in range(5))
        lines = [f"listeners.tcp.1 = 127.0.0.1:{amqp}", f"management.tcp.port = {http}"]
        lines += ["management.tcp.ip = 127.0.0.1"]
        certificate, key = made(folder, "localhost")
        lines += [f"listeners.ssl.1 = 127.0.0.1:{secure}", f"ssl_options.cacertfile = {certificate}"]
        lines += [f"ssl_options.certfile = {certificate}", f"ssl_options.keyfile = {key}"]
        (folder / "rabbitmq.conf").write_text("\n".join([*lines, ""]))
        (folder / "plugins").write_text("[rabbitmq_management].\n")
        give(folder, user)
        node = {
            "ERL_EPMD_PORT": str(epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"{name}@localhost",
            "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
        }
        environment = server_env(
            folder,
            **node,
            RABBITMQ_CONFIG_FILE=str(folder / "rabbitmq.conf"),
            RABBITMQ_ENABLED_PLUGINS_FILE=str(folder / "plugins"),
            RABBITMQ_MNESIA_BASE=str(folder / "mnesia"),
            RABBITMQ_LOG_BASE=str(folder / "log"),
            RABBITMQ_PID_FILE=str(folder / "pid"),
            RABBITMQ_DIST_PORT=str(dist),
        )
        out = private.path / "out"
        common = {"env": environment, "cwd": str(folder), "log": str(out), "user": user}
        # First, in the foreground: the server would start one that outlives it.
        launcher.launch(
            ServerSpec(name=f"epmd-{name}", argv=(program("epmd", "rabbitmq"), "-port", str(epmd)), **common)  # type: ignore[arg-type]
        )
        spec = ServerSpec(name=f"rabbitmq-{name}", argv=(server,), **common)  # type: ignore[arg-type]
        process = launcher.launch(spec)
        management = f"http://127.0.0.1:{http}"

        def ready() -> None:
            try:
                with Client(login=GUEST) as client:
                    answer = client.get(f"{management}/api/overview", 5.0)
            except AdapterError as error:
                raise NotReady(str(error)) from error
            if answer.status != 200:
                raise NotReady(f"the management API answers {answer.status}")

        wait_ready("RabbitMQ", ready, launcher=launcher, name=spec.name, log=out, limit_s=120)
    # One scheduler is enough for a question; those for all processors get in each other's way where they are busy.
    alone = {"RABBITMQ_CTL_ERL_ARGS": "+S 1:1 +SDcpu 1:1 +SDio 1"}
    ctl_environment = {**node, **alone, "HOME": str(folder), "PATH": os.defpath.lstrip(":")}
    return RabbitServer(
        Address("127.0.0.1", amqp),
        management,
        ("env", *(f"{key}={value}" for key, value in ctl_environment.items()), ctl, "-n", f"{name}@localhost"),
        folder / "log" / f"{name}@localhost.log",
        process,
        Address("127.0.0.1", secure),
        certificate,
    )


def declared(server: RabbitServer, folder: Path, *lines: str, management: bool = True) -> Dependency:
    """As a harness.toml in this folder declares it, without a proxy."""
    file = folder / "harness.toml"
    said = [f'management = "{server.management}"'] if management else []
    text = [
        "[target]",
        'url = "http://127.0.0.1:1"',
        "[dependencies.mq]",
        'kind = "rabbitmq"',
        f'direct = "{server.address}"',
        f"ctl = {json.dumps(server.ctl)}",
    ]
    file.write_text("\n".join([*text, *said, *lines, ""]))
    file.chmod(0o600)
    found = dependencies(load(file), "http://127.0.0.1:1")[0]
    return found.but(path=found.direct)


@contextmanager
def behind_proxy(dependency: Dependency, toxiproxy: str, process: ServerProcess) -> Iterator[Dependency]:
    name = f"rabbitmq{next(_numbers)}"
    with Ports() as ports:
        listen = Address("127.0.0.1", ports.take())
        raw(f"{toxiproxy}/proxies", "POST", {"name": name, "listen": str(listen), "upstream": str(dependency.direct)})
    proxy = DependencyProxy(url=toxiproxy, name=name, pid=process.pid)
    try:
        yield dependency.but(path=listen, proxied=True, proxy=proxy)
    finally:
        raw(f"{toxiproxy}/proxies/{name}", "DELETE")
