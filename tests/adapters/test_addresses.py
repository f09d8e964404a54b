"""Names become addresses once, and what may not be spoken to is refused wherever it stands in a dependency."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict

from harness.adapters.allowed_hosts import check_url, pinned, reached, server_address
from harness.model.errors import Refused, UsageError
from harness.model.records.faults import Address, Credentials, Dependency, DependencyFront


def dependency(**more: Any) -> Dependency:
    return Dependency(name="db", kind="postgres").but(**more)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A resolver cannot be made to know names here: its answers are put in its place. Returns what was asked."""
    asked: list[str] = []
    known = {"db.internal": "10.0.0.7", "here": "127.0.0.1", "out.example": "8.8.8.8"}
    real = socket.getaddrinfo

    def answer(host: str, port: int, *more: Any, **options: Any) -> Any:
        asked.append(host)
        return real(known.get(host, host), port, *more, **options)

    monkeypatch.setattr("socket.getaddrinfo", answer)
    return asked


def test_every_name_in_a_dependency_becomes_its_address(names: list[str]) -> None:
    made = pinned(
        dependency(
            path=Address("here", 5),
            direct=Address("db.internal", 6),
            proxy={"url": "http://here"},
            url="http://here/health?x=1",
            credentials={"admin": "user=a host=db.internal dbname=x"},
        ),
        ["db.internal"],
    )
    assert (made.path, made.direct) == (Address("127.0.0.1", 5), Address("10.0.0.7", 6))
    assert made.proxy.url == "http://127.0.0.1:8474" and made.url == "http://127.0.0.1:80/health?x=1"
    login = conninfo_to_dict(made.credentials.admin or "")
    assert (login["host"], login["hostaddr"], login["port"]) == ("db.internal", "10.0.0.7", "5432")
    # What was pinned is not asked again.
    del names[:]
    again = pinned(made, ["10.0.0.7"])
    assert (again.path, again.direct, again.proxy.url, again.url) == (made.path, made.direct, made.proxy.url, made.url)
    assert conninfo_to_dict(again.credentials.admin or "") == login
    assert set(names) <= {"127.0.0.1", "10.0.0.7"}


def test_an_https_url_keeps_the_name_on_its_certificate(names: list[str]) -> None:
    assert pinned(dependency(url="https://here/ok"), ()).url == "https://here/ok"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("path", Address("db.internal", 5)),
        ("direct", Address("8.8.8.8", 5)),
        ("proxy", {"url": "http://out.example:8474"}),
        ("front", DependencyFront(url="http://out.example:9901", name="db")),
        ("url", "http://169.254.169.254/latest/meta-data"),
        ("credentials", {"admin": "postgresql://a@out.example/x"}),
        ("credentials", {"admin": "user=a hostaddr=8.8.8.8 host=here"}),
    ],
)
def test_what_may_not_be_spoken_to_is_named_with_its_place(names: list[str], field: str, value: Any) -> None:
    with pytest.raises(Refused, match=rf"^db: {field}: |^db: (toxiproxy|admin): "):
        pinned(dependency(**{field: value}), ())


def test_an_admin_login_without_a_host_means_the_dependency_and_not_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGHOST", "8.8.8.8")
    made = pinned(dependency(direct=Address("127.0.0.1", 7), credentials={"admin": "user=a"}), ())
    assert server_address(made.credentials.admin or "") == ("127.0.0.1", 7)
    with pytest.raises(UsageError, match="name no host"):
        pinned(dependency(credentials={"admin": "user=a"}), ())


def test_a_unix_socket_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOSTADDR", "8.8.8.8")
    made = pinned(dependency(credentials={"admin": "host=/run/pg user=a"}), ())
    assert server_address(made.credentials.admin or "") is None and "hostaddr=''" in (made.credentials.admin or "")
    assert reached(made) == []


@pytest.mark.parametrize("options", ["service=x user=a", "host=a,b user=a", "host=a port=x", "host=a password='secret"])
def test_connection_options_that_hide_the_server_are_refused(options: str) -> None:
    with pytest.raises(UsageError) as caught:
        server_address(options)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "here", "http://", "http://h:x/", "ftp://h/"])
def test_what_is_no_url_is_told(url: str) -> None:
    with pytest.raises(UsageError):
        check_url(url, ())


def test_everything_that_is_reached_is_listed() -> None:
    made = dependency(
        path=Address("127.0.0.1", 1),
        direct=Address("127.0.0.1", 2),
        proxy={"url": "http://[::1]:3"},
        credentials={"admin": "host=h user=a"},
    )
    assert reached(made) == [("127.0.0.1", 1), ("127.0.0.1", 2), ("::1", 3), ("h", 5432)]


def test_an_admin_login_without_a_host_leads_to_the_server_itself() -> None:
    one = Dependency(
        name="db",
        kind="postgres",
        direct=Address("127.0.0.1", 5432),
        credentials=Credentials(admin="user=postgres dbname=shop"),
    )
    assert reached(one) == [("127.0.0.1", 5432)]
