"""What Compose is told, and what it is not: pure, with no engine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.adapters.allowed_hosts import ENVOY_PORT
from harness.adapters.clients.envoy_configuration import configuration
from harness.adapters.docker.logs import demultiplexed
from harness.adapters.docker.project import project_name
from harness.model.errors import UsageError
from harness.model.records.faults import Address
from harness.stack.compose import ComposeStack, bind, compose_cli, settings

TEXT = settings.compose_file().read_text("utf-8")


def told(outer: dict[str, str], api: str = "") -> dict[str, str]:
    ports = iter(range(20_000, 21_000))
    return settings.environment(
        TEXT, outer, engine="unix:///run/d.sock", take_port=lambda: next(ports), tag="0123456789ab", api=api
    )


def test_every_published_port_is_a_free_one_unless_the_user_names_it() -> None:
    found = told({"HARNESS_PORT_API": "17777"})
    ports = [value for name, value in found.items() if name.startswith("HARNESS_PORT_")]
    assert found["HARNESS_PORT_API"] == "17777"
    assert len(ports) == len(set(ports)) >= 8


def test_engine_file_and_project_are_said_by_the_harness_alone() -> None:
    found = told(
        {
            "DOCKER_HOST": "tcp://elsewhere:2375",
            "DOCKER_CONTEXT": "other",
            "COMPOSE_FILE": "/somebody/elses.yaml",
            "COMPOSE_PROJECT_NAME": "production",
            "COMPOSE_PROFILES": "prometheus",
            "ANOMALY_API_DEFECT": "no-timeout",
        }
    )
    assert found["DOCKER_HOST"] == "unix:///run/d.sock"
    assert not found.keys() & {"DOCKER_CONTEXT", "COMPOSE_FILE", "COMPOSE_PROJECT_NAME"}
    assert (found["COMPOSE_PROFILES"], found["ANOMALY_API_DEFECT"]) == ("prometheus", "no-timeout")


def test_the_old_compose_is_told_the_version_that_the_engine_takes() -> None:
    assert "COMPOSE_API_VERSION" not in told({"COMPOSE_API_VERSION": "1.22"})
    assert told({"COMPOSE_API_VERSION": "1.22"}, api="1.44")["COMPOSE_API_VERSION"] == "1.44"


def test_an_image_is_built_again_when_its_content_or_its_base_is_another(tmp_path: Path) -> None:
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "app.py").write_text("a")
    first = settings.build_tag(tmp_path, {"HARNESS_PYTHON_IMAGE": "sha256:1"})
    assert settings.build_tag(tmp_path, {"HARNESS_PYTHON_IMAGE": "sha256:1"}) == first
    assert settings.build_tag(tmp_path, {"HARNESS_PYTHON_IMAGE": "sha256:2"}) != first
    (tmp_path / "api" / "app.py").write_text("b")
    assert settings.build_tag(tmp_path, {"HARNESS_PYTHON_IMAGE": "sha256:1"}) != first


def test_what_is_built_depends_on_its_bases_and_not_on_the_images_that_are_taken_as_they_are() -> None:
    assert "HARNESS_PYTHON_IMAGE" in settings.bases(TEXT) and "HARNESS_REDIS_IMAGE" not in settings.bases(TEXT)
    taken = settings.taken_images(TEXT, {"HARNESS_REDIS_IMAGE": "mine:1"})
    assert taken["HARNESS_REDIS_IMAGE"] == "mine:1" and taken["HARNESS_KAFKA_IMAGE"].startswith("apache/kafka:")
    assert taken.keys() == {"HARNESS_REDIS_IMAGE", "HARNESS_KAFKA_IMAGE"}


def test_only_what_a_profile_asks_for_is_built() -> None:
    plain = settings.built_images(TEXT, "t", profiles="")
    assert {f"resilience-harness/{one}:t" for one in ("api", "db", "envoy", "risk", "toxiproxy")} == set(plain)
    assert len(settings.built_images(TEXT, "t", profiles="grafana")) == 7


def test_envoy_is_built_with_the_configuration_that_faults_need() -> None:
    """HARNESS_UPDATE_GOLDEN=1 writes it anew."""
    path = settings.compose_file().parent / "envoy" / "envoy.json"
    wanted = configuration(bind.FRONTS, Address("0.0.0.0", ENVOY_PORT))
    if os.environ.get("HARNESS_UPDATE_GOLDEN") == "1":
        path.write_text(wanted)
    assert path.read_text() == wanted


@pytest.mark.parametrize("name", ["", "Upper", "-a", "a b", "a" * 64, "../x", 'x","label'])
def test_what_is_no_project_is_never_asked_for(name: str) -> None:
    with pytest.raises(UsageError):
        project_name(name)


def test_two_stacks_never_share_a_project() -> None:
    assert ComposeStack()._project != ComposeStack()._project


def test_logs_are_read_with_and_without_a_terminal() -> None:
    framed = b"\1\0\0\0\0\0\0\3hi\n" + b"\2\0\0\0\0\0\0\4err\n"
    assert demultiplexed(framed) == b"hi\nerr\n"
    assert demultiplexed(b"plain text\n") == b"plain text\n"
    assert demultiplexed(framed + b"\1\0\0\0\0\0\0\xffcut") == b"hi\nerr\ncut"


def tool(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_the_plugin_is_preferred_and_an_old_tool_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="neither is there"):
        compose_cli.find()
    tool(tmp_path, "docker", "echo 'docker: unknown command: docker compose' >&2; exit 1")
    tool(tmp_path, "docker-compose", "echo 1.21.0")
    with pytest.raises(UsageError, match=r"docker-compose 1\.21\.0 is too old"):
        compose_cli.find()
    tool(tmp_path, "docker-compose", "echo 1.29.2")
    assert compose_cli.find().argv == ("docker-compose",)
    tool(tmp_path, "docker", "echo v2.35.1")
    assert compose_cli.find() == compose_cli.ComposeCommand(("docker", "compose"), "2.35.1")
