"""A Toxiproxy whose API is locked up: only a restart helps (Shopify/toxiproxy#558).

One client that does not read is enough: removing a latency toxic from its link then waits for ever, under the lock that
every other request needs. A DELETE hangs as well, so none is sent or advised. It can be restarted where it is ours (a
keeper has it), or where harness.toml says what runs it: a container, or a pid file with a start command. Its state is
in memory only, so its proxies are made again as they were before the fault, the toxics of their owner included.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from harness.adapters.keeper.client import KeeperClient
from harness.adapters.keeper.starter import spawn_detached
from harness.adapters.processes.identity import alive
from harness.adapters.processes.pid_file import process_of
from harness.adapters.processes.start_command import start_command
from harness.adapters.toxiproxy import commands as by_hand
from harness.adapters.toxiproxy.client import ProxyState, Toxiproxy
from harness.adapters.toxiproxy.lock import OURS
from harness.model.errors import AdapterError, HarnessError, Rejected, Silent, Unreachable
from harness.model.records.faults import Dependency, UndoRecord

SILENT_S = 1.0
"""A request of an undo waits this long; with a second one that is not answered either the API counts as silent."""
READY_LIMIT_S = 30.0
_KEEPER_NAME = "toxiproxy"
_WHERE = "proxies"


def snapshot(server: Toxiproxy) -> str:
    """Every proxy as it is, for an undo record. Raises AdapterError."""
    return msgspec.json.encode(tuple(server.proxies().values())).decode()


def proxies_in(record: UndoRecord) -> tuple[ProxyState, ...]:
    """As they were before the fault; () for a record that does not tell."""
    try:
        return msgspec.json.decode(str(record.where.get(_WHERE, "[]")), type=tuple[ProxyState, ...])
    except (msgspec.DecodeError, msgspec.ValidationError):
        return ()


def is_silent(dependency: Dependency) -> bool:
    """Whether its Toxiproxy takes connections and answers nothing."""
    if dependency.proxy.url is None:
        return False
    try:
        Toxiproxy(dependency.proxy.url, timeout_s=SILENT_S).proxies()
    except Silent:
        return True
    except HarnessError:
        pass
    return False


def may_restart(dependency: Dependency) -> bool:
    """Whether anybody has told what runs this Toxiproxy."""
    return dependency.proxy.url is not None and (
        dependency.process.keeper is not None or dependency.proxy.runtime is not None
    )


def restart(record: UndoRecord) -> None:
    """End it and start it again, with its proxies. Raises HarnessError with why it could not be done."""
    dependency = record.dependency
    runtime = dependency.proxy.runtime
    if dependency.process.keeper is not None:
        KeeperClient(dependency.process.keeper).restart(_KEEPER_NAME)
    elif runtime is None:
        raise Rejected("nothing is declared that could restart it")
    elif runtime.engine is not None and runtime.container is not None:
        from harness.adapters.docker.engine import connect

        with connect(runtime.engine) as engine:
            if engine.container(runtime.container).state.running:
                engine.kill(runtime.container)
            engine.start(runtime.container)
    else:
        _restart_process(dependency)
    server = Toxiproxy(str(dependency.proxy.url), timeout_s=5.0)
    _wait_until_it_answers(server)
    _make_again(server, proxies_in(record))


def restarter(record: UndoRecord, say: Callable[[str], None]) -> Callable[[], bool] | None:
    """What restarts it, and tells whether it did; None where nobody has told how."""
    if not may_restart(record.dependency):
        return None

    def run() -> bool:
        try:
            restart(record)
        except HarnessError as error:
            say(f"{record.id}: Toxiproxy could not be restarted: {error}")
            return False
        return True

    return run


def how(record: UndoRecord) -> str:
    """What a person does: never a DELETE, which would hang as well."""
    url = str(record.dependency.proxy.url)
    mine = [one for one in proxies_in(record) if not one.name.startswith(OURS)]
    make = " ; ".join(by_hand.create_proxy(url, one.name, listen=one.listen, upstream=one.upstream) for one in mine)
    again = f", then make its proxies again unless its own configuration does: {make}" if make else ""
    return (
        f"restart Toxiproxy at {url}: it is locked up, and nothing sent to its API will be answered. Its toxics end"
        f" with it{again}"
    )


def _restart_process(dependency: Dependency) -> None:
    from harness.adapters.allowed_hosts import url_address
    from harness.adapters.processes.control import kill

    runtime = dependency.proxy.runtime
    assert runtime is not None
    if runtime.pid_file is None or runtime.start_config is None or runtime.start_sha256 is None:
        raise Rejected("no pid file and start command are declared for it")
    # Read first: what cannot be started again is not ended.
    command = start_command(runtime.start_config, runtime.start_sha256, _KEEPER_NAME)
    server = process_of(runtime.pid_file, port=url_address(str(dependency.proxy.url), 8474)[1])
    kill(server)
    end = time.monotonic() + READY_LIMIT_S
    while alive(server.first):
        if time.monotonic() > end:
            raise Rejected(f"process {server.first.pid} does not end")
        time.sleep(0.02)
    spawn_detached(command)


def _wait_until_it_answers(server: Toxiproxy) -> None:
    end = time.monotonic() + READY_LIMIT_S
    while True:
        try:
            server.proxies()
            return
        except AdapterError as error:
            if time.monotonic() > end:
                raise Unreachable(f"it was restarted and does not answer: {error}") from error
        time.sleep(0.03)


def _make_again(server: Toxiproxy, before: tuple[ProxyState, ...]) -> None:
    """What its own configuration has made already is left."""
    there = server.proxies()
    for proxy in before:
        if proxy.name not in there:
            server.create(proxy.name, listen=proxy.listen, upstream=proxy.upstream, enabled=proxy.enabled)
        for toxic in proxy.toxics:
            if proxy.name in there and there[proxy.name].toxic(toxic.name) is not None:
                continue
            server.add_toxic(
                proxy.name,
                name=toxic.name,
                type=toxic.type,
                stream="upstream" if toxic.stream == "upstream" else "downstream",
                attributes=toxic.attributes,
                toxicity=toxic.toxicity,
            )
