"""A compose project of the user's own: the example of the docs, and the override that puts Toxiproxy in front.

The harness finds the containers by what harness.toml says, its faults are proven and undone, and nothing else of the
project changes. Each Compose that this machine has does it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from networks import ends_in

from harness.stack.starting.ports import Ports
from tests.e2e.observe import SHORTENED, wait_until

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "own-compose"
HARNESS = shutil.which("harness", path=f"{ROOT / '.venv' / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}") or "harness"
RUN = """
rate = 70
users = 60
spawn-rate = 100000
warmup = "2s"
baseline = "15s"
fault-for = "20s"
recovery-limit = "60s"
hold = "15s"
fault = ["redis-down@0s+4s", "redis-pause@6s+4s", "redis-disconnect@12s+4s"]

[targets]
primary = [
  "p95 < 9s", "error_rate < 99%", "recovery < 60s", "baseline: rps >= 1% of plan", "after: rps >= 1% of plan",
]
"""
BRIEF = ("--baseline", "5s", "--hold", "5s", "--no-extend")
"""What is looked at are the faults, and no verdict needs the length of these."""


def composes() -> list[str]:
    """The commands of Compose on this machine: docker-compose 1.29, `docker compose`, or both."""
    found = ["docker-compose"] if shutil.which("docker-compose") else []
    if shutil.which("docker"):
        plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
        found += ["docker compose"] if plugin.returncode == 0 else []
    return found or ["docker compose"]


def why_no_recreate(compose: str, image: str) -> str | None:
    """Why this Compose cannot make a container anew on this engine; None: it can.

    docker-compose 1.29 reads `ContainerConfig` of the image for that. Engines have left it out since 26.0 (API 1.45),
    with the containerd image store for every API version, so the image itself is looked at.
    """
    if compose != "docker-compose":
        return None
    # In the API version in which docker-compose asks.
    asked = os.environ.get("COMPOSE_API_VERSION", "1.38")
    done = subprocess.run(
        ["docker", "image", "inspect", image],
        env={**os.environ, "DOCKER_API_VERSION": asked},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    if "ContainerConfig" in json.loads(done.stdout)[0]:
        return None
    engine = docker("version", "--format", "{{.Server.Version}}").strip()
    return (
        f"docker-compose 1.29 makes no container anew on Docker Engine {engine}, which no longer tells ContainerConfig"
        " of an image (removed in 26.0); Debian 12's 20.10 tells it"
    )


def docker(*args: str, stdin: str | None = None) -> str:
    done = subprocess.run(["docker", *args], input=stdin, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, (args, done.stderr)
    return done.stdout


@pytest.fixture(scope="module")
def images(stand_in_images: dict[str, str]) -> dict[str, str]:
    """By the variables of the example's compose file: a Python, a real Redis, a real Toxiproxy."""
    return {
        "PYTHON_IMAGE": "harness-stand-in/base",
        "REDIS_IMAGE": stand_in_images["HARNESS_REDIS_IMAGE"],
        "TOXIPROXY_IMAGE": stand_in_images["HARNESS_TOXIPROXY_IMAGE"],
        "HARNESS_ENVOY_IMAGE": stand_in_images["HARNESS_ENVOY_IMAGE"],
    }


class Own:
    """A folder with a compose project, and the harness in it."""

    def __init__(self, folder: Path, compose: str, images: dict[str, str], name: str) -> None:
        with Ports() as ports:
            self.port, api = ports.take(), ports.take()
        self.folder = folder
        self.name = f"own-{name}-{os.getpid()}"
        self.files = ["compose.yaml"]
        self._compose = compose.split()
        self.env = {
            **os.environ,
            **images,
            "APP_PORT": str(self.port),
            "TOXIPROXY_PORT": str(api),
            "COMPOSE_PROJECT_NAME": self.name,
            "XDG_STATE_HOME": str(folder / "state"),
        }

    def compose(self, *args: str) -> None:
        files = [word for file in self.files for word in ("-f", file)]
        done = subprocess.run(
            [*self._compose, *files, *args], cwd=self.folder, env=self.env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    def harness(self, *args: str, command: tuple[str, ...] = (HARNESS,)) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *args], cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=400, check=False
        )

    def replace(self, old: str, new: str) -> None:
        file = self.folder / "harness.toml"
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))

    def print_files(self, *files: tuple[str, str], front: str | None = None) -> None:
        """What init prints for the project, put where it belongs; harness.toml as well."""
        named = () if front is None else ("--front", front)
        for what, name in (*files, ("toml", "harness.toml")):
            there = set(self.folder.iterdir())
            done = self.harness("init", "--compose", "compose.yaml", *named, "--print", what)
            assert done.returncode == 0, done.stderr
            assert set(self.folder.iterdir()) == there, "it prints and writes nothing"
            (self.folder / name).write_text(done.stdout)

    def declare_run(self, faults: str | None = None) -> None:
        """The defaults of a run instead of those that init wrote. faults: that line, others than those of RUN."""
        file = self.folder / "harness.toml"
        run = RUN if faults is None else re.sub(r"fault = \[.*\]", faults, RUN)
        file.write_text(f'{file.read_text().partition("[run]")[0]}[run]\nlocustfile = "locustfile.py"{run}')

    def wait(self) -> None:
        end = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=5) as answer:
                    if json.load(answer)["visitors"] is not None:
                        return
            except (OSError, ValueError):
                pass
            assert time.monotonic() < end, "the application does not reach its Redis"
            time.sleep(0.2)

    def state(self) -> dict[str, Any]:
        """Every container of the project and its networks, as far as a fault could change them."""
        ids = docker("ps", "-aq", "--no-trunc", "--filter", f"label=com.docker.compose.project={self.name}").split()
        found = {}
        for one in json.loads(docker("inspect", *ids)):
            found[one["Id"]] = {
                "name": one["Name"],
                "started": one["State"]["StartedAt"],
                "status": one["State"]["Status"],
                "ports": one["NetworkSettings"]["Ports"],
                "limits": [one["HostConfig"][key] for key in ("NanoCpus", "CpuQuota", "CpuPeriod", "Memory")],
                "networks": ends_in(one),
            }
        return found

    def run_and_look(self, *names: str) -> None:
        """A run with every fault, each proven and undone, and nothing of the project changed by it."""
        before = self.state()
        done = self.harness("run", "--json", "--out", "runs", *BRIEF, command=(sys.executable, "-c", SHORTENED))
        # 3 as well: a machine that is too busy for its load must say so. The proofs below hold either way.
        assert done.returncode in (0, 3), done.stdout + done.stderr
        faults = {fault["name"]: fault for fault in json.loads(done.stdout)["faults"]}
        assert set(faults) == {*(names or ("redis-down", "redis-pause", "redis-disconnect"))}, done.stderr
        for name, fault in faults.items():
            assert fault["proven"] is True and fault["undo_verified"] is True, (name, fault, done.stderr)
            assert {proof["source"] for proof in fault["proof"]} >= {"control", "probe", "path"}, name
        assert self.state() == before

    def down(self) -> None:
        self.compose("down", "--volumes", "--remove-orphans", "-t", "1")


@pytest.fixture
def own(tmp_path: Path, images: dict[str, str], request: pytest.FixtureRequest) -> Iterator[Own]:
    folder = tmp_path / "own-compose"
    shutil.copytree(EXAMPLE, folder)
    found = Own(folder, getattr(request, "param", composes()[0]), images, "example")
    found.replace('"http://127.0.0.1:8000"', f'"http://127.0.0.1:{found.port}"')
    yield found
    found.down()


def test_the_example_of_the_page_runs_and_is_afterwards_as_it_was(own: Own) -> None:
    own.compose("up", "-d")
    own.wait()
    own.replace("scale = 0.02", RUN)
    plan = own.harness("plan")
    assert plan.returncode == 0 and "redis_exporter may go past the proxy" in plan.stdout, plan.stdout + plan.stderr
    well = own.harness("stack", "status")
    assert well.returncode == 0, well.stdout + well.stderr
    rows = {line.split()[0]: line for line in well.stdout.splitlines()[2:] if line}
    for part in ("toxiproxy", "redis", "app"):
        assert own.name in rows[part] and "(running)" in rows[part] and rows[part].endswith("ok"), rows
    assert "port 6379 of" in well.stdout and "is not published" in well.stdout
    log = own.harness("stack", "logs", "app")
    assert log.stdout == "app: listening on port 8000\n", log.stdout + log.stderr
    assert own.harness("stack", "logs", "-n", "3").stdout.count("== ") == 3
    own.run_and_look()


def test_what_a_run_would_refuse_is_told_by_status_with_how_to_mend_it(own: Own) -> None:
    absent = own.harness("stack", "status")
    assert absent.returncode == 4
    assert f"there are no containers of compose project '{own.name}'" in absent.stdout
    assert f"docker compose -f compose.yaml -p {own.name} up -d" in absent.stdout
    own.compose("up", "-d")
    own.wait()
    redis = next(id for id, one in own.state().items() if "redis" in one["name"])
    docker("pause", redis)
    paused = own.harness("run", "--fault", "redis-down")
    assert paused.returncode == 2 and "is paused: that cannot be recorded" in paused.stderr
    assert "docker unpause" in paused.stderr
    docker("unpause", redis)
    docker("stop", "-t", "1", redis)
    stopped = own.harness("stack", "status")
    assert stopped.returncode == 4 and "is exited with code" in stopped.stdout and "docker start" in stopped.stdout
    docker("start", redis)
    own.compose("up", "-d", "--no-recreate", "--scale", "redis=2")
    two = own.harness("stack", "status")
    assert two.returncode == 4 and "has 2 containers" in two.stdout and "replica = 1" in two.stdout
    own.replace('service = "redis"', 'replica = 3\nservice = "redis"')
    assert "has no container 3" in own.harness("stack", "status").stdout
    own.replace("replica = 3", "replica = 1")
    # With two of them the proxy's upstream `redis` is now one and now the other: status would say so, too.
    (second,) = [id for id, one in own.state().items() if "redis" in one["name"] and id != redis]
    docker("rm", "-f", "-v", second)  # Compose would leave its anonymous volume behind
    one = own.harness("stack", "status")
    assert one.returncode == 0, one.stdout
    own.replace('service = "redis"', 'service = "reddis"')
    assert "did you mean 'redis'?" in own.harness("stack", "status").stdout
    name = docker("inspect", "-f", "{{.Name}}", redis).strip().removeprefix("/")
    own.replace('replica = 1\nservice = "reddis"', f'container = "{name}"')
    assert own.harness("stack", "status").returncode == 0
    # The first letters of a name or of an ID are no name.
    own.replace(f'container = "{name}"', f'container = "{redis[:12]}"')
    assert "there is no container" in own.harness("stack", "status").stdout
    own.replace(f'container = "{redis[:12]}"', 'service = "redis"\nreplica = 1')
    # Another project name than Compose computed: the labels tell which one it is.
    own.env["COMPOSE_PROJECT_NAME"], real = "elsewhere", own.env["COMPOSE_PROJECT_NAME"]
    elsewhere = own.harness("stack", "status").stdout
    own.env["COMPOSE_PROJECT_NAME"] = real
    assert f'write project = "{real}" in [compose]' in elsewhere
    own.env["DOCKER_HOST"] = "unix:///nowhere/docker.sock"
    gone = own.harness("run", "--fault", "redis-down")
    own.env.pop("DOCKER_HOST")
    assert gone.returncode == 2 and "no Docker engine answers" in gone.stderr


# The example above was run with the old docker-compose where there is one.
@pytest.mark.parametrize(
    "compose", [*(pytest.param(c, marks=pytest.mark.thorough) for c in composes()[:-1]), composes()[-1]]
)
def test_the_printed_override_puts_toxiproxy_in_front_and_goes_again(
    compose: str, tmp_path: Path, images: dict[str, str]
) -> None:
    reason = why_no_recreate(compose, images["PYTHON_IMAGE"])
    if reason is not None:
        pytest.skip(reason)
    folder = tmp_path / "shop"
    folder.mkdir()
    shutil.copy(EXAMPLE / "app.py", folder)
    shutil.copy(EXAMPLE / "locustfile.py", folder)
    own = Own(folder, compose, images, "front")
    (folder / "compose.yaml").write_text(
        f"""
services:
  app:
    image: ${{PYTHON_IMAGE}}
    command: ["python3", "/app.py"]
    environment: ["REDIS_HOST=redis"]
    volumes: ["./app.py:/app.py:ro"]
    ports: ["127.0.0.1:{own.port}:8000"]
    networks: [inner]
  redis:
    image: ${{REDIS_IMAGE}}
    networks: [inner]
  other:
    image: ${{REDIS_IMAGE}}
networks:
  inner: {{}}
"""
    )
    try:
        own.compose("up", "-d")
        own.wait()
        before = own.state()
        own.print_files(("override", "harness.override.yaml"), ("proxies", "harness.toxiproxy.json"), front="redis")
        own.files.append("harness.override.yaml")
        own.compose("up", "-d")
        own.wait()
        fronted = own.state()
        kept = [id for id in before if id in fronted]
        assert {before[id]["name"].strip("/").replace("_", "-").split("-")[-2] for id in kept} == {"redis", "other"}
        assert all(before[id] == fronted[id] for id in kept), "the dependencies were not touched"
        own.declare_run()
        own.run_and_look()
        own.files.pop()
        own.compose("up", "-d", "--remove-orphans")
        own.wait()
        names = {one["name"] for one in own.state().values()}
        assert names == {one["name"] for one in before.values()}, "the override is gone"
    finally:
        own.down()


BOTH = """
import http.server, importlib.util, os
import app
os.environ["REDIS_HOST"] = os.environ["SESSIONS_HOST"]
spec = importlib.util.spec_from_file_location("sessions", app.__file__)
sessions = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sessions)

class Both(app.Handler):
    def do_GET(self):
        try:
            sessions.redis("INCR", "seen")
        except OSError:
            pass
        super().do_GET()

http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Both).serve_forever()
"""


def test_two_stores_on_one_port_are_behind_two_addresses(tmp_path: Path, images: dict[str, str]) -> None:
    if composes()[-1] != "docker compose":
        pytest.skip("a second address takes Compose 2.23.1")
    folder = tmp_path / "two"
    folder.mkdir()
    for name in ("app.py", "locustfile.py"):
        shutil.copy(EXAMPLE / name, folder)
    own = Own(folder, "docker compose", images, "two")
    (folder / "both.py").write_text(BOTH)
    (folder / "compose.yaml").write_text(
        f"""
services:
  app:
    image: ${{PYTHON_IMAGE}}
    command: ["python3", "/both.py"]
    volumes: ["./app.py:/app.py:ro", "./both.py:/both.py:ro"]
    environment: [REDIS_HOST=cache, SESSIONS_HOST=sessions]
    ports: ["127.0.0.1:{own.port}:8000"]
  cache: {{image: "${{REDIS_IMAGE}}"}}
  sessions: {{image: "${{REDIS_IMAGE}}"}}
"""
    )
    own.print_files(("override", "harness.override.yaml"), ("proxies", "harness.toxiproxy.json"))
    assert "harness-toxiproxy-2" in (folder / "harness.override.yaml").read_text()
    try:
        own.files.append("harness.override.yaml")
        own.compose("up", "-d")
        own.wait()
        own.declare_run('fault = ["cache-down@0s+4s", "sessions-down@6s+4s"]')
        own.run_and_look("cache-down", "sessions-down")
    finally:
        own.down()


PAYS = """
import http.server, json, os, urllib.request

class Page(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        said = {"visitors": 1}
        if "PAYMENTS_URL" in os.environ and self.path != "/health":
            try:
                with urllib.request.urlopen(os.environ["PAYMENTS_URL"], timeout=1) as answer:
                    said = json.load(answer)
            except OSError:
                said = {"visitors": None}
        data = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Page).serve_forever()
"""


def test_an_http_upstream_gets_an_envoy_behind_toxiproxy_and_faults_of_http(
    tmp_path: Path, images: dict[str, str]
) -> None:
    folder = tmp_path / "pays"
    folder.mkdir()
    (folder / "pays.py").write_text(PAYS)
    shutil.copy(EXAMPLE / "locustfile.py", folder)
    compose = next(one for one in reversed(composes()))
    own = Own(folder, compose, images, "pays")
    served = """
    image: ${PYTHON_IMAGE}
    command: ["python3", "/pays.py"]
    volumes: ["./pays.py:/pays.py:ro"]"""
    (folder / "compose.yaml").write_text(
        f"""
services:
  web:{served}
    environment: ["PAYMENTS_URL=http://payments:8000/pay"]
    ports: ["127.0.0.1:{own.port}:8000"]
  payments:{served}
    expose: ["8000"]
    healthcheck: {{test: ["CMD", "curl", "-f", "http://localhost:8000/health"]}}
"""
    )
    files = (
        ("override", "harness.override.yaml"),
        ("proxies", "harness.toxiproxy.json"),
        ("envoy", "harness.envoy.json"),
    )
    own.print_files(*files, front="payments")
    try:
        own.files.append("harness.override.yaml")
        own.compose("up", "-d")
        own.wait()
        well = own.harness("stack", "status")
        assert well.returncode == 0, well.stdout + well.stderr
        own.declare_run('fault = ["payments-status:status=429@0s+4s", "payments-delay@6s+4s", "payments-down@12s+4s"]')
        own.run_and_look("payments-status", "payments-delay", "payments-down")
        (envoy,) = [id for id, one in own.state().items() if "envoy" in one["name"]]
        port = own.state()[envoy]["ports"]["9901/tcp"][0]["HostPort"]

        def keys() -> dict[str, Any]:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/runtime", timeout=10) as answer:
                return dict(json.load(answer)["entries"])

        assert keys() == {}, "no key is left"
        killed = subprocess.Popen(
            [sys.executable, "-c", SHORTENED, "run", "--fault", "payments-status", *BRIEF],
            cwd=folder, env=own.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            assert wait_until(lambda: keys() != {} or killed.poll() is not None, 60) and killed.poll() is None
        finally:
            killed.kill()
            killed.wait(30)
        assert wait_until(lambda: keys() == {}, 30), "the keeper of a run that was killed takes them away"
    finally:
        own.down()
