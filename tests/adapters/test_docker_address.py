"""Where a container is reached now: what hangs on an address that the engine chose is followed, nothing else is."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from harness.adapters.docker.address import at_present, bound, covers, moved
from harness.adapters.docker.records import Container
from harness.dependencies.probe import following_probe
from harness.model.records.faults import Address, Dependency


def container(asked: list[str], now: int | None, *, ip: str = "172.30.0.3", fixed_ip: str = "") -> Container:
    """One that publishes 5432: asked for these host ports, published at `now`."""
    ports = {"5432/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(now)}] if now is not None else None}
    end: dict[str, Any] = {"NetworkID": "n", "IPAddress": ip, "IPAMConfig": {"IPv4Address": fixed_ip}}
    body = {
        "Id": "a" * 64,
        "HostConfig": {"PortBindings": {"5432/tcp": [{"HostIp": "127.0.0.1", "HostPort": one} for one in asked]}},
        "NetworkSettings": {"Ports": ports, "Networks": {"shop_default": end}},
    }
    return msgspec.convert(body, Container)


def database(port: int, host: str = "127.0.0.1", **more: Any) -> Dependency:
    return Dependency(name="db", kind="postgres", runtime="container", direct=Address(host, port)).but(**more)


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [([""], True), (["0"], True), (["32000-33000"], True), ([], True), (["32768"], False)],
)
def test_a_port_is_the_engine_s_choice_unless_that_very_number_was_asked_for(asked: list[str], chosen: bool) -> None:
    before = container(asked, 32768)
    known = bound(database(32768), before)
    assert known.container.port == ("5432/tcp" if chosen else None)
    assert moved(known, container(asked, 32999)).direct == Address("127.0.0.1", 32999 if chosen else 32768)
    assert bound(known, container(asked, 1)) == known, "what is known stays known"


def test_all_that_leads_to_the_same_place_moves_with_it_and_nothing_else() -> None:
    known = bound(
        database(
            32768,
            path=Address("127.0.0.1", 32768),
            credentials={"admin": "host=db.test hostaddr=127.0.0.1 port=32768 user=admin"},
            url="http://127.0.0.1:32768/health?x=1",
        ),
        container([""], 32768),
    )
    now = moved(known, container([""], 40000))
    assert now.path == now.direct == Address("127.0.0.1", 40000)
    assert now.url == "http://127.0.0.1:40000/health?x=1"
    assert (
        "port=40000" in str(now.credentials.admin)
        and "hostaddr=127.0.0.1" in str(now.credentials.admin)
        and "host=db.test" in str(now.credentials.admin)
    )
    behind = known.but(
        credentials={"admin": "host=/var/run/postgresql user=admin"},
        proxied=True,
        path=Address("127.0.0.1", 25432),
        url="http://127.0.0.1:1/",
    )
    now = moved(behind, container([""], 40000))
    assert (now.path, now.credentials.admin, now.url) == (behind.path, behind.credentials.admin, behind.url)
    assert now.direct == Address("127.0.0.1", 40000)
    nameless = known.but(credentials={"admin": "user=admin"})
    assert moved(nameless, container([""], 40000)).credentials.admin == "user=admin"


def test_one_that_is_published_nowhere_stays_where_it_was_known() -> None:
    known = bound(database(32768), container([""], 32768))
    assert moved(known, container([""], None)) == known


def test_its_own_address_is_followed_by_the_network_s_name_unless_somebody_asked_for_it() -> None:
    known = bound(database(5432, "172.30.0.3", credentials={"admin": "host=172.30.0.3 port=5432"}), container([], None))
    assert (known.container.port, known.container.network) == (None, "shop_default")
    now = moved(known, container([], None, ip="172.30.0.9"))
    assert now.direct == Address("172.30.0.9", 5432)
    assert "hostaddr=172.30.0.9" in str(now.credentials.admin)
    assert moved(known, container([], None, ip="")) == known
    assert bound(database(5432, "172.30.0.3"), container([], None, fixed_ip="172.30.0.3")).container.network is None
    assert bound(database(5432, "10.9.9.9"), container([], None)).container.network is None


def test_a_path_through_a_proxy_is_not_the_container_s() -> None:
    behind = Dependency(name="db", kind="tcp", proxied=True, path=Address("127.0.0.1", 32768))
    assert bound(behind, container([""], 32768)) == behind
    known = bound(database(32768, proxied=True, path=Address("127.0.0.1", 25432)), container([""], 32768))
    assert following_probe(known) is None


def test_nobody_is_asked_where_nothing_can_move() -> None:
    there = database(32768, container={"engine": "tcp://192.0.2.1:1", "id": "a" * 64})
    assert at_present(there) is there
    assert following_probe(there) is None


@pytest.mark.parametrize(
    ("bound_to", "asked", "is_covered"),
    [
        ("0.0.0.0", "10.0.0.1", True),
        ("", "127.0.0.1", True),
        ("127.0.0.1", "localhost", True),
        ("::1", "127.0.0.1", True),
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "127.0.0.1", False),
        ("127.0.0.1", "10.0.0.1", False),
        ("127.0.0.1", "db.test", False),
    ],
)
def test_which_addresses_a_published_port_answers_at(bound_to: str, asked: str, is_covered: bool) -> None:
    assert covers(bound_to, asked) is is_covered
