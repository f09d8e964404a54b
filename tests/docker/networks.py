"""Docker networks for a test, and a container's ends of them as the docker CLI shows them."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import subprocess
import uuid
from collections.abc import Iterator
from typing import Any

from small_container import docker, inspect

from harness.adapters.docker.context import engine_url
from tests.support.servers.ports import free_port


@contextlib.contextmanager
def network(*, fixed: bool = False, ipv6: bool = False) -> Iterator[tuple[str, str]]:
    """A network of its own: its name, and the beginning of its subnet (`10.77.3.`). fixed: the subnet is asked for."""
    name = f"harness-test-{uuid.uuid4().hex[:12]}"
    prefix = ""
    for _ in range(20):
        prefix = f"10.{random.randint(100, 250)}.{random.randint(0, 250)}."
        words = ["--subnet", f"{prefix}0/24"] if fixed or ipv6 else []
        words += ["--ipv6", "--subnet", f"fd00:{random.randint(1, 9999)}::/64"] if ipv6 else []
        done = subprocess.run(["docker", "network", "create", *words, name], capture_output=True, text=True)
        if done.returncode == 0:
            break
    assert done.returncode == 0, done.stderr
    try:
        yield name, prefix
    finally:
        remove(name)


def remove(name: str) -> None:
    """With whoever is on it taken off."""
    found = subprocess.run(["docker", "network", "inspect", name], capture_output=True, text=True)
    for one in json.loads(found.stdout or "[]"):
        for container in one["Containers"]:
            docker("network", "disconnect", "-f", name, container, check=False)
    docker("network", "rm", name, check=False)


def ends(container: str) -> dict[str, Any]:
    """All that its user may have set or rely on, without what may be new with every start and reconnect: the endpoint's
    ID, and a MAC address that nobody asked for. Aliases without the container's own ID, which older clients show."""
    return ends_in(inspect(container))


def ends_in(inspected: dict[str, Any]) -> dict[str, Any]:
    asked_mac = inspected["Config"].get("MacAddress")
    return {
        name: {
            "id": end["NetworkID"],
            "aliases": sorted(alias for alias in end["Aliases"] or [] if alias != inspected["Id"][:12]),
            "links": sorted(end["Links"] or []),
            "options": end["DriverOpts"] or {},
            "asked": {key: value for key, value in (end["IPAMConfig"] or {}).items() if value},
            "ipv4": end["IPAddress"],
            "ipv6": end["GlobalIPv6Address"],
            "mac": asked_mac if end["MacAddress"] == asked_mac else "",
        }
        for name, end in inspected["NetworkSettings"]["Networks"].items()
    }


def ports(container: str) -> dict[str, Any]:
    return ports_in(inspect(container))


def ports_in(inspected: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = inspected["NetworkSettings"]["Ports"]
    return {port: sorted(one["HostPort"] for one in each or []) for port, each in found.items()}


def speaks(api: str) -> bool:
    """Whether the engine takes requests in this version of its API."""
    highest = docker("version", "--format", "{{.Server.APIVersion}}")
    return tuple(map(int, highest.split("."))) >= tuple(map(int, api.split(".")))


@contextlib.contextmanager
def created_like(
    container: str, more: dict[str, Any], *, api: str = "1.41", network: str | None = None
) -> Iterator[str]:
    """A second container with the same program on another fixed port, and with what the newest `docker run` can no
    longer ask of an old engine, or an old one of the newest. api: its version. Its full ID."""
    config = inspect(container)["Config"]
    body = {
        "Image": config["Image"],
        "Cmd": config["Cmd"],
        "HostConfig": {
            "PortBindings": {"7777/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(free_port())}]},
            "NetworkMode": network or "default",
        },
        "ExposedPorts": {"7777/tcp": {}},
        **more,
    }
    text = json.dumps(body).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(engine_url().removeprefix("unix://"))
        head = f"POST /v{api}/containers/create HTTP/1.0\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {len(text)}\r\n\r\n".encode() + text)
        with connection.makefile("rb") as answer:
            said = json.loads(answer.read().partition(b"\r\n\r\n")[2])
    assert "Id" in said, said
    found = str(said["Id"])
    try:
        docker("start", found)
        yield found
    finally:
        docker("rm", "-f", found, check=False)
