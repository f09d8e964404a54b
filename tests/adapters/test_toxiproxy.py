"""Toxiproxy's adapter on a real Toxiproxy, and behind a relay that loses its answers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from harness.adapters.toxiproxy.client import Toxiproxy
from harness.model.errors import Gone, OutcomeUnknown, Rejected, Unreachable, UsageError
from harness.stack.starting.ports import Ports
from tests.support.misbehaving.relay import Relay, relay_to
from tests.support.servers.proxied import raw

pytestmark = pytest.mark.stack

LATENCY = {"latency": 300, "jitter": 0}


@pytest.fixture
def proxy(toxiproxy_server: str) -> Iterator[str]:
    yield from named("adapter", toxiproxy_server)


def named(name: str, url: str) -> Iterator[str]:
    with Ports() as ports:
        listen = f"127.0.0.1:{ports.take()}"
        raw(f"{url}/proxies", "POST", {"name": name, "listen": listen, "upstream": "127.0.0.1:1"})
    yield name
    raw(f"{url}/proxies/{name}", "DELETE")


@pytest.fixture
def relay(toxiproxy_server: str) -> Iterator[Relay]:
    with relay_to(toxiproxy_server) as relay:
        yield relay


def test_it_speaks_to_a_real_server(toxiproxy_server: str, proxy: str) -> None:
    server = Toxiproxy(toxiproxy_server)
    assert server.version().startswith("2.12")
    assert proxy in server.proxies()
    off = server.set_enabled(proxy, False)
    assert off.sent < off.replied
    assert raw(f"{toxiproxy_server}/proxies/{proxy}")["enabled"] is False
    server.set_enabled(proxy, False)
    server.set_enabled(proxy, True)
    assert raw(f"{toxiproxy_server}/proxies/{proxy}")["enabled"] is True
    server.add_toxic(proxy, name="slow", type="latency", stream="upstream", attributes=LATENCY)
    toxic = server.proxy(proxy).toxic("slow")
    assert toxic is not None and toxic.attributes == LATENCY and toxic.stream == "upstream"
    server.remove_toxic(proxy, "slow")
    assert server.proxy(proxy).toxics == ()


def test_a_name_with_odd_characters_is_addressed_rightly(toxiproxy_server: str) -> None:
    server = Toxiproxy(toxiproxy_server)
    name = "re dis?#%41"
    with Ports() as ports:
        server.create(name, listen=f"127.0.0.1:{ports.take()}", upstream="127.0.0.1:1")
    try:
        server.add_toxic(name, name="t %?#", type="latency", stream="downstream", attributes=LATENCY)
        server.remove_toxic(name, "t %?#")
        server.set_enabled(name, False)
        assert server.proxy(name).enabled is False
    finally:
        raw(f"{toxiproxy_server}/proxies/re%20dis%3F%23%2541", "DELETE")
    with pytest.raises(Rejected, match="cannot be addressed"):
        server.proxy("a/b")


@pytest.mark.parametrize(
    ("type_", "attributes", "words"),
    [
        ("latenzy", {}, "no toxic 'latenzy'"),
        ("latency", {"latenzy": 300, "jitter": 0}, "takes latency, jitter"),
        ("latency", {"latency": 300}, "takes latency, jitter"),
        ("latency", {"latency": -1, "jitter": 0}, "whole number"),
        ("latency", {"latency": 0.5, "jitter": 0}, "whole number"),
        ("latency", {"latency": True, "jitter": 0}, "whole number"),
        ("bandwidth", {"rate": -5}, "whole number"),  # would panic the server
        ("bandwidth", {"rate": 0}, "whole number"),  # would mean: no limit
        ("slicer", {"average_size": 5, "size_variation": 5, "delay": 0}, "below average_size"),
    ],
)
def test_what_the_server_would_silently_misread_is_refused_before_it_is_sent(
    relay: Relay, proxy: str, type_: str, attributes: dict[str, int], words: str
) -> None:
    with pytest.raises(Rejected, match=words):
        Toxiproxy(relay.url).add_toxic(proxy, name="x", type=type_, stream="downstream", attributes=attributes)
    assert relay.seen == []


def test_a_toxic_that_reads_back_differently_is_not_taken_for_done(relay: Relay, proxy: str) -> None:
    def weaker(state: dict[str, list[dict[str, object]]]) -> object:
        for toxic in state["toxics"]:
            toxic["attributes"] = {"latency": 3, "jitter": 0}
        return state

    relay.change = weaker
    with pytest.raises(Rejected, match="reads back"):
        Toxiproxy(relay.url).add_toxic(proxy, name="x", type="latency", stream="downstream", attributes=LATENCY)


def test_a_proxy_that_reads_back_unchanged_is_not_taken_for_done(relay: Relay, proxy: str) -> None:
    relay.change = lambda state: {**state, "enabled": True}
    with pytest.raises(Rejected, match="reads back as enabled"):
        Toxiproxy(relay.url).set_enabled(proxy, False)


def test_a_listener_on_a_taken_port_is_a_plain_no(toxiproxy_server: str, proxy: str) -> None:
    """The server answers 500, which toxiproxy-python takes for success."""
    server = Toxiproxy(toxiproxy_server)
    server.set_enabled(proxy, False)
    host, port = server.proxy(proxy).listen.rsplit(":", 1)
    with socket.create_server((host, int(port))), pytest.raises(Rejected, match="already in use"):
        server.set_enabled(proxy, True)


def test_what_exists_and_what_does_not(toxiproxy_server: str, proxy: str) -> None:
    server = Toxiproxy(toxiproxy_server)
    for call in (lambda: server.proxy("nix"), lambda: server.set_enabled("nix", True)):
        with pytest.raises(Gone, match="proxy not found"):
            call()
    with pytest.raises(Gone, match="toxic not found"):
        server.remove_toxic(proxy, "nix")
    with pytest.raises(Rejected, match="already exists"):
        server.create(proxy, listen="127.0.0.1:1", upstream="127.0.0.1:1")
    server.add_toxic(proxy, name="one", type="latency", stream="upstream", attributes=LATENCY)
    with pytest.raises(Rejected, match="already exists"):
        server.add_toxic(proxy, name="one", type="latency", stream="downstream", attributes=LATENCY)


def test_a_404_of_another_server_does_not_prove_that_something_is_gone(relay: Relay, proxy: str) -> None:
    relay.status = (404, b"404 page not found")
    server = Toxiproxy(relay.url)
    for call in (lambda: server.proxy(proxy), lambda: server.remove_toxic(proxy, "x")):
        with pytest.raises(Rejected):
            call()


def test_nothing_listening_means_not_done() -> None:
    with Ports() as ports:
        server = Toxiproxy(f"http://127.0.0.1:{ports.take()}")
    for call in (
        lambda: server.proxies(),
        lambda: server.set_enabled("p", False),
        lambda: server.remove_toxic("p", "t"),
        lambda: server.add_toxic("p", name="t", type="latency", stream="upstream", attributes=LATENCY),
    ):
        with pytest.raises(Unreachable):
            call()


def test_a_write_without_an_answer_has_an_unknown_outcome(relay: Relay, proxy: str) -> None:
    """It is done all the same: the relay loses the answer only."""
    server = Toxiproxy(relay.url, timeout_s=0.5)
    relay.lose = lambda what: not what.startswith("GET")
    for call in (
        lambda: server.add_toxic(proxy, name="t", type="latency", stream="upstream", attributes=LATENCY),
        lambda: server.remove_toxic(proxy, "t"),
        lambda: server.set_enabled(proxy, False),
    ):
        with pytest.raises(OutcomeUnknown, match="no answer"):
            call()
    assert server.proxy(proxy).enabled is False
    assert server.proxy(proxy).toxics == ()


def test_a_read_back_without_an_answer_leaves_the_write_unknown(relay: Relay, proxy: str) -> None:
    relay.lose = lambda what: what.startswith("GET")
    with pytest.raises(OutcomeUnknown, match="could not be read back"):
        Toxiproxy(relay.url, timeout_s=0.5).set_enabled(proxy, False)


def test_an_answer_cut_short_is_unknown_for_a_write_and_no_answer_for_a_read(relay: Relay, proxy: str) -> None:
    server = Toxiproxy(relay.url, timeout_s=1)
    relay.cut = lambda _: True
    with pytest.raises(OutcomeUnknown):
        server.set_enabled(proxy, False)
    with pytest.raises(Unreachable):
        server.proxy(proxy)


@pytest.mark.parametrize("status", [500, 503])
def test_a_server_error_is_never_success(relay: Relay, proxy: str, status: int) -> None:
    relay.status = (status, b'{"error": "wedged", "status": 503}')
    with pytest.raises(OutcomeUnknown, match="wedged"):
        Toxiproxy(relay.url).remove_toxic(proxy, "t")


def test_it_follows_no_redirect(relay: Relay, toxiproxy_server: str, proxy: str) -> None:
    relay.status = (307, f"{toxiproxy_server}/proxies/{proxy}".encode())
    with pytest.raises(Rejected, match="redirects"):
        Toxiproxy(relay.url).set_enabled(proxy, False)
    assert raw(f"{toxiproxy_server}/proxies/{proxy}")["enabled"] is True


def test_proxy_variables_are_ignored(toxiproxy_server: str, proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    Toxiproxy(toxiproxy_server).set_enabled(proxy, False)
    assert raw(f"{toxiproxy_server}/proxies/{proxy}")["enabled"] is False


def test_two_servers_at_once_are_never_mixed_up(toxiproxy_server: str) -> None:
    """toxiproxy-python keeps the server's address on a class."""
    with relay_to(toxiproxy_server) as one, relay_to(toxiproxy_server) as two:
        problems: list[Exception] = []

        def work(relay: Relay, name: str) -> None:
            try:
                for proxy in named(name, toxiproxy_server):
                    for _ in range(10):
                        Toxiproxy(relay.url).set_enabled(proxy, False)
                        Toxiproxy(relay.url).set_enabled(proxy, True)
            except Exception as error:
                problems.append(error)

        threads = [threading.Thread(target=work, args=pair) for pair in ((one, "left"), (two, "right"))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not problems
        assert {what.split("/")[2] for what in one.seen} == {"left"}
        assert {what.split("/")[2] for what in two.seen} == {"right"}


@pytest.mark.parametrize("url", ["127.0.0.1:8474", "https://127.0.0.1:8474", "http://", "http://h:99999", "http://h/x"])
def test_a_url_it_cannot_speak_to_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="not understood"):
        Toxiproxy(url)
