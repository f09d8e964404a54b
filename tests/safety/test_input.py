"""Which hosts may be reached, and what is hidden in text."""

from __future__ import annotations

import pytest

from harness.adapters.allowed_hosts import check_address
from harness.model.errors import Refused, UsageError
from harness.model.options import HOST
from harness.model.redact import redact, redactor


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "[::1]", "localhost", "::ffff:127.0.0.1"])
def test_loopback_needs_no_leave(host: str) -> None:
    assert check_address(host, 80, ())


@pytest.mark.parametrize(
    "host",
    [
        "10.1.2.3",
        "192.168.1.1",
        "172.16.0.1",
        "fd00::1",
        "8.8.8.8",
        "2001:4860:4860::8888",
        "0.0.0.0",
        "::",
        "169.254.169.254",
        "fe80::1%lo",
        "100.64.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::ffff:10.1.2.3",
        "::ffff:8.8.8.8",
        "192.0.2.1",
        "0x08080808",
        "134744072",
    ],
)
def test_everything_else_is_refused_unless_named(host: str) -> None:
    with pytest.raises((Refused, UsageError)):
        check_address(host, 80, ())


@pytest.mark.parametrize("name", ["10.1.2.3", "10.0.0.0/8", " 10.1.2.3 "])
def test_a_private_address_that_is_named_is_pinned(name: str) -> None:
    assert check_address("10.1.2.3", 80, [name]) == ["10.1.2.3"]


@pytest.mark.parametrize("host", ["8.8.8.8", "169.254.169.254", "0.0.0.0", "100.64.0.1", "::ffff:8.8.8.8"])
def test_naming_a_public_address_in_the_configuration_is_not_enough(host: str) -> None:
    with pytest.raises(Refused) as caught:
        check_address(host, 80, [host, "0.0.0.0/0"])
    assert f"--allow-host {host}" in str(caught.value.hint)
    assert check_address(host, 80, (), allow_hosts=[host])


def test_every_address_of_a_name_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver cannot be made to answer two addresses here: its answer is put in its place."""
    answers = [(2, 1, 6, "", ("127.0.0.1", 80)), (2, 1, 6, "", ("8.8.8.8", 80))]
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: answers)
    with pytest.raises(Refused, match=r"8\.8\.8\.8"):
        check_address("rebinding.example", 80, ())
    assert check_address("rebinding.example", 80, (), allow_hosts=["Rebinding.Example"]) == ["127.0.0.1", "8.8.8.8"]


@pytest.mark.parametrize(("host", "port"), [("", 80), ("127.0.0.1", 0), ("127.0.0.1", 70000), ("no.such.invalid", 80)])
def test_what_is_no_address_is_told(host: str, port: int) -> None:
    with pytest.raises(UsageError):
        check_address(host, port, ())


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("postgresql://app:s3cr3t@db:5432/x", "s3cr3t"),
        ("redis://:s3cr3t@cache/0 refused", "s3cr3t"),
        ("http://user:a%40b@host/", "a%40b"),
        ("host=db password=s3cr3t user=app", "s3cr3t"),
        ("password='two words' host=db", "two words"),
        (r"password='it\'s' host=db", "it"),
        ('{"password": "s3cr3t"}', "s3cr3t"),
        ("PGPASSWORD=s3cr3t psql", "s3cr3t"),
        ("sasl.password: s3cr3t,", "s3cr3t"),
        ("api_key=s3cr3t&x=1", "s3cr3t"),
        ("http://user:s3/cr3t@host:1/x", "cr3t"),
        ("redis://:s3/c?r#3t@host is no URL", "c?r"),
        ("http://us/er:s3cr3t@host", "s3cr3t"),
    ],
)
def test_passwords_are_hidden_by_their_place(text: str, hidden: str) -> None:
    assert hidden not in redact(text) and "***" in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "connection to http://127.0.0.1:8474 refused",
        "redis://cache:6379/0 is gone",
        "http://[::1]:80/a@b",
        "role app has connection limit 2",
        "passwords are never shown",
    ],
)
def test_other_text_stays_as_it_is(text: str) -> None:
    assert redact(text) == text


def test_the_values_of_named_variables_are_hidden_whole_and_in_pieces() -> None:
    hide = redactor(["DB_PASSWORD", "UNSET"], {"DB_PASSWORD": "tiger lily=99/x", "OTHER": "word"})
    assert hide('missing "=" after "lily" near tiger') == 'missing "=" after "***" near ***'
    assert hide("auth failed for tiger lily=99/x, word") == "auth failed for ***, word"
    assert hide("at tiger%20lily%3D99%2Fx") == "at ***"
    assert redactor(["UNSET"], {})("nothing to hide") == "nothing to hide"


@pytest.mark.parametrize("network", ["0.0.0.0/0", "::/0", "128.0.0.0/1", "2000::/3", "10.0.0.0/7"])
def test_leave_to_reach_most_of_the_world_is_refused(network: str) -> None:
    with pytest.raises(UsageError, match="addresses") as caught:
        HOST.parse(network)
    assert "name the host" in str(caught.value.hint)


@pytest.mark.parametrize("host", ["10.0.0.0/8", "fd00::/16", "8.8.8.8", "[::1]", "example.org", "192.0.2.0/24"])
def test_hosts_and_networks_of_somebody_may_be_allowed(host: str) -> None:
    assert HOST.parse(host) == host
