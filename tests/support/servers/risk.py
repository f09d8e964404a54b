"""The sample API's risk service behind a real Envoy and a proxy of Toxiproxy, as the embedded stack has it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from harness.model.records.faults import Address, Dependency, DependencyProcess, DependencyProxy
from harness.model.records.process import ServerProcess
from harness.stack.embedded import risk
from harness.stack.embedded.private_folder import PrivateFolder
from harness.stack.starting.ports import Ports
from harness.stack.starting.ready import fetched, wait_ready
from tests.support.servers.envoy import fronted
from tests.support.servers.proxied import raw
from tests.support.servers.real import SubprocessLauncher


@contextmanager
def risk_service(
    launcher: SubprocessLauncher, toxiproxy: str, toxiproxy_process: ServerProcess
) -> Iterator[Dependency]:
    folder = PrivateFolder(launcher).sub(risk.NAME)
    with Ports() as ports:
        address, listen = (Address("127.0.0.1", ports.take()) for _ in range(2))
        process = launcher.launch(risk.spec(folder, address, folder / "log"))
        wait_ready(
            risk.TITLE,
            lambda: risk.probe(address),
            launcher=launcher,
            name=risk.NAME,
            log=folder / "log",
            limit_s=60,
        )
    with fronted(launcher, address) as (dependency, _):
        body = {"name": risk.NAME, "listen": str(listen), "upstream": str(dependency.path)}
        raw(f"{toxiproxy}/proxies", "POST", body)
        try:
            yield msgspec.structs.replace(
                dependency,
                path=listen,
                proxied=True,
                runtime="process",
                proxy=DependencyProxy(url=toxiproxy, name=risk.NAME, pid=toxiproxy_process.pid),
                process=DependencyProcess(pid=process.pid),
                url=f"http://{listen}{risk.HEALTH}",
            )
        finally:
            raw(f"{toxiproxy}/proxies/{risk.NAME}", "DELETE")
            launcher.stop(risk.NAME)


def asked(dependency: Dependency) -> int:
    """How many scores the service itself has been asked for."""
    return int(json.loads(fetched(f"http://{dependency.direct}/stats"))["scores"])
