"""compose/compose.yaml by hand, with both generations of the tool: what a user gets who never calls `harness`."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.stack.compose.settings import BUILD_TAG, build_tag
from harness.stack.starting.ports import Ports

pytestmark = [pytest.mark.docker, pytest.mark.slow]

FILE = Path(__file__).parents[2] / "compose" / "compose.yaml"
PORTS = ("API", "REDIS", "DB", "KAFKA", "RISK", "ENVOY", "TOXIPROXY", "PROMETHEUS", "GRAFANA")
PORTS += ("REDIS_PROXY", "DB_PROXY", "KAFKA_PROXY", "RISK_PROXY")
TOOLS = {"v2": ("docker", "compose"), "v1": ("docker-compose",)}
TRANSACTION = {
    "hash": "0x" + "ab" * 32,
    "from_address": "0x" + "1" * 40,
    "to_address": "0x" + "2" * 40,
    "value": 1.5,
    "gas": 21000,
    "gas_price": 20,
    "block_number": 19_000_000,
    "timestamp": "2026-01-01T00:00:00Z",
}


@pytest.fixture(params=sorted(TOOLS))
def tool(request: pytest.FixtureRequest) -> tuple[str, ...]:
    command = TOOLS[request.param]
    there = shutil.which(command[0]) is not None
    if there and len(command) > 1:
        there = subprocess.run([*command, "version"], capture_output=True, timeout=60).returncode == 0
    if not there:
        reason = f"{' '.join(command)} is not installed"
        pytest.fail(reason) if os.environ.get("HARNESS_REQUIRE_DOCKER") == "1" else pytest.skip(reason)
    return command


def run(tool: tuple[str, ...], project: str, env: dict[str, str], *arguments: str, timeout: float = 400) -> str:
    done = subprocess.run(
        [*tool, "-p", project, "-f", str(FILE), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        # Of this content: docker-compose 1.29 would take what an earlier one has left under the usual tag.
        env={**os.environ, BUILD_TAG: f"file-{build_tag(FILE.parent, {})}", **env},
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, f"{' '.join(arguments)}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout


def get(url: str, body: Any = None) -> Any:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    headers = {"Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    with opener.open(urllib.request.Request(url, data, headers), timeout=20) as answer:
        return json.load(answer)


@contextlib.contextmanager
def free_ports() -> Iterator[dict[str, str]]:
    with Ports() as ports:
        chosen = {f"HARNESS_PORT_{name}": str(ports.take()) for name in PORTS}
    yield chosen


def test_both_tools_read_the_file_and_publish_on_loopback_only(tool: tuple[str, ...]) -> None:
    with free_ports() as env:
        text = run(tool, "images-config", env, "--profile", "prometheus", "--profile", "grafana", "config")
    read = yaml.safe_load(text)
    published = [port for service in read["services"].values() for port in service.get("ports", [])]
    assert len(published) == len(PORTS)
    for port in published:
        assert (port["host_ip"] if isinstance(port, dict) else port.split(":")[0]) == "127.0.0.1"
    assert all(service.get("healthcheck") for name, service in read["services"].items() if name != "api")
    assert not any("container_name" in service for service in read["services"].values())


def test_every_image_can_be_named(tool: tuple[str, ...], docker_engine: None) -> None:
    names = ("REDIS", "POSTGRES", "KAFKA", "TOXIPROXY", "ENVOY", "PROMETHEUS", "GRAFANA", "PYTHON")
    env = {f"HARNESS_{name}_IMAGE": f"images.example/{name.lower()}:mine" for name in names}
    text = run(tool, "images-config", env, "--profile", "prometheus", "--profile", "grafana", "config")
    for image in env.values():
        assert image in text


def test_up_by_hand_answers_through_the_proxies_and_down_leaves_nothing(
    tool: tuple[str, ...], stand_in_images: dict[str, str]
) -> None:
    project = f"images-{uuid.uuid4().hex[:8]}"
    with free_ports() as ports:
        env = {**stand_in_images, **ports}
    try:
        run(tool, project, env, "--profile", "prometheus", "up", "-d")
        listed = _ps(project)
        for _ in range(90):
            if all("(healthy)" in status for status, _ in listed.values()):
                break
            subprocess.run(["sleep", "1"], check=True)
            listed = _ps(project)
        assert all("(healthy)" in status for status, _ in listed.values()), listed
        for _, published in listed.values():
            assert all(one.strip().startswith("127.0.0.1:") for one in published.split(",") if "->" in one)

        api = f"http://127.0.0.1:{ports['HARNESS_PORT_API']}"
        assert get(api + "/api/v1/predict", {"transaction": TRANSACTION})["transaction_hash"] == TRANSACTION["hash"]
        assert set(get(api + "/health")["dependencies"].values()) == {"up"}
        control = f"http://127.0.0.1:{ports['HARNESS_PORT_TOXIPROXY']}"
        proxies = get(control + "/proxies")
        assert {name: one["upstream"] for name, one in proxies.items()} == {
            "redis": "redis:6379",
            "kafka": "kafka:9092",
            "db": "db:5432",
            "risk": "envoy:8000",
        }
        get(control + "/proxies/redis", {"enabled": False})
        for _ in range(50):
            dependencies = get(api + "/health")["dependencies"]
            if dependencies["redis"] == "down":
                break
            get(api + "/api/v1/predict", {"transaction": {**TRANSACTION, "hash": "0x" + uuid.uuid4().hex * 2}})
            subprocess.run(["sleep", "0.2"], check=True)
        assert dependencies == {"redis": "down", "database": "up", "kafka": "up", "risk": "up"}
        _dashboard_has_data(f"http://127.0.0.1:{ports['HARNESS_PORT_PROMETHEUS']}")
    finally:
        run(tool, project, env, "--profile", "prometheus", "--profile", "grafana", "down", "--volumes")


def _dashboard_has_data(prometheus: str) -> None:
    """Each query of the dashboard is understood, and those of the API's state have a value."""
    dashboard = json.loads((FILE.parent / "grafana" / "dashboard.json").read_text("utf-8"))
    assert dashboard["annotations"]["list"][0]["target"]["tags"] == ["harness"]
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            query = urllib.request.quote(target["expr"].replace("$__rate_interval", "10s"))
            answer = get(f"{prometheus}/api/v1/query?query={query}")
            assert answer["status"] == "success", target["expr"]
            assert answer["data"]["result"] or "rate(" in target["expr"], target["expr"]


def _ps(project: str) -> dict[str, tuple[str, str]]:
    """Service -> status, published ports; found by label, because the two tools name containers differently."""
    form = '{{.Label "com.docker.compose.service"}}\t{{.Status}}\t{{.Ports}}'
    done = subprocess.run(
        ["docker", "ps", "-a", "--filter", f"label=com.docker.compose.project={project}", "--format", form],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    return {service: (status, ports) for service, status, ports in rows}
