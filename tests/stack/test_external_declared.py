"""The user's own system as harness.toml declares it: Kafka, HTTP, what an undo may reach, and --host beside it."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.dependencies.configuration import load
from harness.model.errors import UsageError
from harness.model.records.faults import Address
from harness.model.records.stack import StackUp
from harness.stack.external.check import Part, look
from harness.stack.external.stack import ExternalStack
from harness.stack.starting.ports import Ports
from tests.support.servers.proxied import raw
from tests.support.servers.real import KafkaServer, SubprocessLauncher

pytestmark = pytest.mark.stack


@pytest.fixture
def service() -> Iterator[str]:
    """Well at /ok with a version, 404 elsewhere."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"status": "ok", "version": "1.2.3"}'
            self.send_response(200 if self.path == "/base/ok" else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/base"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def proxy(toxiproxy_server: str) -> Iterator[str]:
    """The name of a proxy that the test makes, removed afterwards."""
    with Ports() as ports:
        name = f"own-{ports.take()}"
    yield name
    raw(f"{toxiproxy_server}/proxies/{name}", "DELETE")


def make(toxiproxy: str, name: str, upstream: Address, listen: Address | None = None) -> Address:
    with Ports() as ports:
        listen = listen or Address("127.0.0.1", ports.take())
    raw(f"{toxiproxy}/proxies", "POST", {"name": name, "listen": str(listen), "upstream": str(upstream)})
    return listen


def declared(folder: Path, url: str, text: str, *, host: str | None = None) -> ExternalStack:
    path = folder / "harness.toml"
    path.write_text(f'[target]\nurl = "{url}"\nhealth = "/ok"\n{text}')
    return ExternalStack(host or url, configuration=load(path))


def up(stack: ExternalStack) -> StackUp:
    return stack.up(SubprocessLauncher(), lambda _: None)


def test_kafka_behind_the_address_that_it_advertises(
    tmp_path: Path, service: str, toxiproxy_server: str, kafka_server: KafkaServer, proxy: str
) -> None:
    make(toxiproxy_server, proxy, kafka_server.upstream, kafka_server.advertised)
    events = f'[toxiproxy]\nurl = "{toxiproxy_server}"\n[dependencies.events]\nkind = "kafka"\nproxy = "{proxy}"\n'
    found = up(declared(tmp_path, service, f'{events}direct = "{kafka_server.direct}"\n'))
    kafka = found.dependencies[0]
    assert (kafka.path, kafka.direct, kafka.external) == (kafka_server.advertised, kafka_server.direct, True)
    assert found.target.version == "1.2.3" and found.versions["toxiproxy"]


def test_kafka_that_sends_its_clients_past_the_proxy_is_refused(
    tmp_path: Path, service: str, toxiproxy_server: str, kafka_server: KafkaServer, proxy: str
) -> None:
    make(toxiproxy_server, proxy, kafka_server.direct)
    events = f'[toxiproxy]\nurl = "{toxiproxy_server}"\n[dependencies.events]\nkind = "kafka"\nproxy = "{proxy}"\n'
    stack = declared(tmp_path, service, f'{events}direct = "{kafka_server.direct}"\n')
    with pytest.raises(UsageError, match="past the proxy") as raised:
        stack.check()
    assert "advertised.listeners" in (raised.value.hint or "")


def test_an_http_dependency_is_asked_at_its_health_path_through_the_proxy(
    tmp_path: Path, service: str, toxiproxy_server: str, proxy: str
) -> None:
    upstream = Address("127.0.0.1", int(service.split(":")[2].removesuffix("/base")))
    listen = make(toxiproxy_server, proxy, upstream)
    text = f'[toxiproxy]\nurl = "{toxiproxy_server}"\n[dependencies.geo]\nkind = "http"\nproxy = "{proxy}"\n'
    found = up(declared(tmp_path, service, text + 'health = "/base/ok"\n'))
    assert found.dependencies[0].url == f"http://{listen}/base/ok"


def test_a_name_is_resolved_once_and_its_address_may_be_reached_by_an_undo(
    tmp_path: Path, service: str, toxiproxy_server: str, proxy: str
) -> None:
    upstream = Address("127.0.0.1", int(service.split(":")[2].removesuffix("/base")))
    make(toxiproxy_server, proxy, upstream)
    text = (
        f'[toxiproxy]\nurl = "{toxiproxy_server.replace("127.0.0.1", "localhost")}"\n'
        f'[dependencies.geo]\nkind = "tcp"\nproxy = "{proxy}"\ndirect = "localhost:{upstream.port}"\n'
    )
    stack = declared(tmp_path, service, text)
    planned, found = stack.describe()[0], up(stack).dependencies[0]
    assert planned.proxy.url is not None and "localhost" in planned.proxy.url
    assert found.direct is not None and found.direct.host in ("127.0.0.1", "::1")
    assert found.proxy.url is not None and "localhost" not in found.proxy.url
    assert {"localhost", found.direct.host} <= set(stack.allowed)


def test_host_stands_in_for_the_url_and_the_dependencies_stay(tmp_path: Path, service: str) -> None:
    stack = declared(tmp_path, "http://127.0.0.1:9", "", host=service)
    found = up(stack)
    assert found.target.url == service
    assert [(one.name, one.target) for one in found.dependencies] == [("api", True)]


def test_every_trouble_is_found_in_one_look(tmp_path: Path, service: str) -> None:
    path = tmp_path / "harness.toml"
    path.write_text(
        '[target]\nurl = "http://127.0.0.1:9"\n[toxiproxy]\nurl = "http://127.0.0.1:9"\n'
        '[dependencies.a]\nkind = "redis"\nproxy = "a"\ndirect = "127.0.0.1:9"\n'
        '[dependencies.b]\nkind = "tcp"\ndirect = "127.0.0.1:9"\n'
    )
    found: tuple[Part, ...] = look(load(path), "http://127.0.0.1:9", allow_hosts=()).parts
    assert [(part.name, part.trouble is None) for part in found] == [
        ("toxiproxy", False),
        ("a", False),
        ("b", False),
        ("api", False),
    ]
    with pytest.raises(UsageError) as raised:
        ExternalStack("http://127.0.0.1:9", configuration=load(path)).check()
    assert "3 more; see all with: harness doctor" in (raised.value.hint or "")
