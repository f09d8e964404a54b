"""Which Docker engine is meant: the docker command's own rules, on its own files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from harness.adapters.allowed_hosts import reached
from harness.adapters.docker.context import (
    DEFAULT_ENGINE,
    check_engine,
    choose_engine,
    engine_url,
    normal_url,
    tls_files,
)
from harness.adapters.docker.engine import connect
from harness.model.errors import Refused, UsageError
from harness.model.records.faults import Dependency, DependencyContainer


def context(folder: Path, name: str, host: str) -> Path:
    """A context as `docker context create` writes it."""
    meta = folder / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest()
    meta.mkdir(parents=True)
    endpoints = {"docker": {"Host": host, "SkipTLSVerify": False}}
    (meta / "meta.json").write_text(json.dumps({"Name": name, "Metadata": {}, "Endpoints": endpoints}))
    return folder / "contexts" / "tls" / meta.name / "docker"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    context(tmp_path, "colima", "unix:///home/me/.colima/docker.sock")
    context(tmp_path, "far", "tcp://10.1.2.3:2376")
    return tmp_path


def test_without_anything_it_is_the_socket_of_this_machine(tmp_path: Path) -> None:
    assert engine_url({"DOCKER_CONFIG": str(tmp_path / "none")}) == DEFAULT_ENGINE
    assert engine_url({"HOME": str(tmp_path)}) == DEFAULT_ENGINE


def test_the_context_in_use_is_followed(folder: Path) -> None:
    (folder / "config.json").write_text('{"currentContext": "colima", "auths": {}}')
    chosen = choose_engine({"DOCKER_CONFIG": str(folder)})
    assert (chosen.url, chosen.note) == ("unix:///home/me/.colima/docker.sock", None)
    assert "colima" in chosen.source


def test_docker_context_goes_before_the_context_in_use(folder: Path) -> None:
    (folder / "config.json").write_text('{"currentContext": "colima"}')
    env = {"DOCKER_CONFIG": str(folder), "DOCKER_CONTEXT": "far"}
    assert engine_url(env) == "tcp://10.1.2.3:2376"
    assert engine_url({**env, "DOCKER_CONTEXT": "default"}) == DEFAULT_ENGINE


@pytest.mark.parametrize("by", ["config", "variable"])
def test_docker_host_wins_and_the_disagreement_is_told(folder: Path, by: str) -> None:
    env = {"DOCKER_CONFIG": str(folder), "DOCKER_HOST": "unix:///var/run/docker.sock"}
    if by == "config":
        (folder / "config.json").write_text('{"currentContext": "colima"}')
    else:
        env["DOCKER_CONTEXT"] = "colima"
    chosen = choose_engine(env)
    assert chosen.url == DEFAULT_ENGINE
    assert chosen.note is not None
    assert "unix:///var/run/docker.sock" in chosen.note
    assert "unix:///home/me/.colima/docker.sock" in chosen.note
    agreed = choose_engine({**env, "DOCKER_HOST": "unix:///home/me/.colima/docker.sock"})
    assert agreed.note is None


def test_docker_host_is_used_though_the_context_does_not_exist(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"currentContext": "gone"}')
    chosen = choose_engine({"DOCKER_CONFIG": str(tmp_path), "DOCKER_HOST": DEFAULT_ENGINE})
    assert chosen.url == DEFAULT_ENGINE
    assert "gone" in str(chosen.note)


def test_a_context_that_does_not_exist_is_refused_with_the_nearest(folder: Path) -> None:
    with pytest.raises(UsageError, match="colma") as refused:
        engine_url({"DOCKER_CONFIG": str(folder), "DOCKER_CONTEXT": "colma"})
    assert refused.value.hint == "did you mean 'colima'?"


@pytest.mark.parametrize("text", ["{", "[]", '{"currentContext": 5}'])
def test_a_file_that_docker_did_not_write_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UsageError, match=r"config\.json"):
        engine_url({"DOCKER_CONFIG": str(tmp_path)})


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("tcp://127.0.0.1", "tcp://127.0.0.1:2375"),
        ("127.0.0.1:4000", "tcp://127.0.0.1:4000"),
        ("tcp://[::1]:99", "tcp://[::1]:99"),
        ("unix://", DEFAULT_ENGINE),
        ("ssh://me@there", "ssh://me@there"),
    ],
)
def test_addresses_are_taken_as_the_docker_command_takes_them(text: str, url: str) -> None:
    assert normal_url(text, {}) == url


@pytest.mark.parametrize("text", ["npipe:////./pipe/docker", "unix://relative", "fd://", "tcp://:x"])
def test_what_is_no_address_of_an_engine_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        normal_url(text, {})


def test_an_engine_elsewhere_needs_the_allow_list() -> None:
    for near in (DEFAULT_ENGINE, "tcp://127.0.0.1:2375", "tcp://[::1]:2375"):
        check_engine(near)
    with pytest.raises(Refused, match="another machine") as refused:
        connect("tcp://10.1.2.3:2376")
    assert "--allow-host 10.1.2.3" in str(refused.value.hint)
    check_engine("tcp://10.1.2.3:2376", allow_hosts=["10.1.2.3"])
    with pytest.raises(Refused, match="ssh"):
        check_engine("ssh://me@there", allow_hosts=["there"])


def test_an_undo_from_a_file_reaches_no_engine_that_is_not_checked() -> None:
    here = Dependency(name="redis", kind="redis", container=DependencyContainer(engine=DEFAULT_ENGINE))
    there = Dependency(name="redis", kind="redis", container=DependencyContainer(engine="tcp://10.1.2.3:2376"))
    assert reached(here) == []
    assert reached(there) == [("10.1.2.3", 2376)]


def test_certificates_come_from_the_environment_or_the_context(folder: Path, tmp_path: Path) -> None:
    certs = context(folder, "tls", "tcp://10.9.9.9:2376")
    env = {"DOCKER_CONFIG": str(folder)}
    assert tls_files("tcp://10.9.9.9:2376", env) is None
    certs.mkdir(parents=True)
    (certs / "ca.pem").write_text("x")
    found = tls_files("tcp://10.9.9.9:2376", env)
    assert found is not None
    assert (found.ca, found.cert, found.verify) == (str(certs / "ca.pem"), None, True)
    assert tls_files(DEFAULT_ENGINE, {**env, "DOCKER_TLS_VERIFY": "1"}) is None
    given = tls_files("tcp://10.1.2.3:2376", {**env, "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(certs)})
    assert given is not None and given.ca == str(certs / "ca.pem")
