"""A system on a Docker engine, a run against it, and what the docker command shows of both. Imports no product code.

Engines that a test stops and starts are its own, each in a network namespace of its own: a second dockerd beside the
first would take away its default bridge and its firewall rules. What they publish is on that namespace's loopback.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.e2e.observe import HARNESS, Run, wait_until

IMAGE = "harness-stand-in/base"
BRIEF = (
    *("--scenario", "target", "--rate", "20", "--spawn-rate", "100000", "--warmup", "1s", "--baseline", "3s"),
    *("--recovery-limit", "30s", "--hold", "3s", "--request-timeout", "5s"),
    *("--target", "p95 < 9s", "--target", "error_rate < 90%", "--target", "rps >= 1% of plan"),
)
_SERVER = (
    "use IO::Socket::INET; $SIG{TERM} = sub { exit 0 };"
    "my $s = IO::Socket::INET->new(Listen => 50, LocalPort => 7777, ReuseAddr => 1) or die;"
    'while (1) { my $c = $s->accept or next; my $l = <$c>; syswrite $c, "ok\\n"; close $c }'
)
_TARGET = """
import http.server, sys
class Page(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "2"); self.end_headers(); self.wfile.write(b"ok")
    def log_message(self, *args): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
print(server.server_address[1], flush=True)
server.serve_forever()
"""
_LOCUSTFILE = """
from locust import HttpUser, task
class Visitor(HttpUser):
    @task
    def page(self):
        self.client.get("/")
"""


class Docker:
    """The docker command on one engine. inside: what runs a command where its published ports are."""

    def __init__(self, url: str | None = None, inside: tuple[str, ...] = ()) -> None:
        self.env = {"DOCKER_HOST": url} if url else {}
        self.inside = inside

    def __call__(self, *words: str, check: bool = True) -> str:
        done = subprocess.run(
            ["docker", *words], capture_output=True, text=True, timeout=120, env={**os.environ, **self.env}
        )
        assert not check or done.returncode == 0, done.stderr
        return done.stdout.strip()

    def answers(self) -> bool:
        return bool(self("version", "--format", "{{.Server.Version}}", check=False))

    def state(self, name: str) -> dict[str, Any]:
        """Whatever a fault may change, seen from outside."""
        text = self("inspect", name, check=False)
        if not text or text == "[]":
            return {}
        found = json.loads(text)[0]
        networks = found["NetworkSettings"]["Networks"]
        return {
            "id": found["Id"],
            "running": found["State"]["Running"],
            "paused": found["State"]["Paused"],
            "networks": {
                # An address that the engine chose itself may be another one when the container starts again.
                network: sorted(alias for alias in end["Aliases"] or [] if not found["Id"].startswith(alias))
                for network, end in networks.items()
            },
            "ports": found["NetworkSettings"]["Ports"],
        }


class World:
    """Containers `names`, each a tcp dependency, a target beside them, and a harness.toml that declares it all."""

    def __init__(self, folder: Path, docker: Docker, *names: str) -> None:
        self.folder = folder
        self.docker = docker
        self.tag = f"harness-life-{uuid.uuid4().hex[:8]}"
        self.names = {name: f"{self.tag}-{name}" for name in names}
        self._target: subprocess.Popen[str] | None = None
        self._port = 0

    def __enter__(self) -> World:
        try:
            self.docker("network", "create", self.tag)
            for name in self.names:
                self.make(name)
            self._target = subprocess.Popen(
                [*self.docker.inside, sys.executable, "-c", _TARGET], stdout=subprocess.PIPE, text=True
            )
            assert self._target.stdout is not None
            self._port = int(self._target.stdout.readline())
            self._write()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in self.names.values():
            self.docker("rm", "-f", name, check=False)
        self.docker("network", "rm", self.tag, check=False)
        if self._target is not None:
            self._target.kill()
            self._target.communicate()

    def make(self, name: str, port: int | None = None) -> None:
        """Run the container; port: where it is published, None = one that is free now and stays the same."""
        number = port or free_port(self.docker.inside)
        publish = f"127.0.0.1:{number}:7777"
        words = ("--name", self.names[name], "--network", self.tag, "--network-alias", name, "-p", publish)
        self.docker("run", "-d", *words, IMAGE, "perl", "-e", _SERVER)

    def port(self, name: str) -> int:
        return int(self.state(name)["ports"]["7777/tcp"][0]["HostPort"])

    def state(self, name: str) -> dict[str, Any]:
        return self.docker.state(self.names[name])

    def answers(self, name: str) -> bool:
        """Whether its server answers where it is published."""
        code = (
            "import socket, sys; c = socket.create_connection(('127.0.0.1', int(sys.argv[1])), 3); c.settimeout(3);"
            "c.sendall(b'x\\n'); sys.exit(c.recv(9) != b'ok\\n')"
        )
        words = [*self.docker.inside, sys.executable, "-c", code, str(self.port(name))]
        return subprocess.run(words, capture_output=True).returncode == 0

    def states(self) -> dict[str, dict[str, Any]]:
        return {name: self.state(name) for name in self.names}

    def run(self, *args: str, env: dict[str, str] | None = None, folder: Path | None = None) -> Run:
        cwd = folder or self.folder
        more = {**self.docker.env, **(env or {})}
        return Run(cwd, "--stack", "external", *BRIEF, *args, env=more, shortened=True, prefix=self.docker.inside)

    def heal(self) -> subprocess.CompletedProcess[str]:
        """`harness heal --all`, as somebody types it afterwards."""
        env = {**os.environ, **self.docker.env, "XDG_STATE_HOME": str(self.folder / "state")}
        words = [*self.docker.inside, str(HARNESS), "heal", "--all"]
        return subprocess.run(words, env=env, cwd=self.folder, capture_output=True, text=True, timeout=240)

    def _write(self) -> None:
        (self.folder / "locustfile.py").write_text(_LOCUSTFILE)
        tables = "\n".join(
            f'[dependencies.{name}]\nkind = "tcp"\ncontainer = "{container}"\nport = 7777\nprobe_send = "hello\\n"\n'
            for name, container in self.names.items()
        )
        (self.folder / "harness.toml").write_text(
            f'[target]\nurl = "http://127.0.0.1:{self._port}"\nhealth = "/"\n\n{tables}\n'
            '[run]\nlocustfile = "locustfile.py"\n'
        )


def free_port(inside: tuple[str, ...] = ()) -> int:
    code = "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1])"
    return int(subprocess.run([*inside, sys.executable, "-c", code], capture_output=True, text=True).stdout)


class OwnEngine:
    """A dockerd of the test's own, with its own containerd, data and network."""

    def __init__(self, *, live_restore: bool) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hl-", dir="/tmp"))
        self._live = live_restore
        self._holder = subprocess.Popen(["unshare", "--net", "sleep", "100000"])
        self._dockerd: subprocess.Popen[bytes] | None = None
        self.docker = Docker(f"unix://{self.folder}/s", ("nsenter", "-t", str(self._holder.pid), "-n", "--"))

    def __enter__(self) -> OwnEngine:
        try:
            outside = Path("/proc/self/ns/net").stat().st_ino
            held = Path(f"/proc/{self._holder.pid}/ns/net")
            assert wait_until(lambda: held.stat().st_ino != outside), "the namespace"
            subprocess.run([*self.docker.inside, "ip", "link", "set", "lo", "up"], check=True)
            (self.folder / "daemon.json").write_text("{}")
            self.start()
            environment = {**os.environ, **self.docker.env}
            with subprocess.Popen(["docker", "save", IMAGE], stdout=subprocess.PIPE) as saved:
                words = ["docker", "load"]
                subprocess.run(words, stdin=saved.stdout, env=environment, check=True, capture_output=True)
            assert saved.returncode == 0
        except BaseException:
            self.__exit__()
            raise
        return self

    def start(self) -> None:
        for _ in range(3):
            dockerd = self._dockerd = self._launch()
            assert wait_until(lambda d=dockerd: self.docker.answers() or d.poll() is not None, 90), self._log()
            if dockerd.poll() is None:
                return
            # A dockerd that was killed leaves its containerd behind, and the next one may wait for it in vain.
            self._end_containerd()
        raise AssertionError(self._log())

    def _log(self) -> str:
        return (self.folder / "log").read_text()[-2000:]

    def _launch(self) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [
                    *(*self.docker.inside, "dockerd", "-H", f"unix://{self.folder}/s"),
                    *("--data-root", f"{self.folder}/data", "--exec-root", f"{self.folder}/exec"),
                    *("--pidfile", f"{self.folder}/pid", "--config-file", f"{self.folder}/daemon.json"),
                    *(("--live-restore",) if self._live else ()),
                ],
                stdout=log,
                stderr=log,
            )

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._dockerd is not None:
            self._dockerd.send_signal(how)
            self._dockerd.wait(60)
            self._dockerd = None

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(Exception):
            if self._dockerd is not None:
                for container in self.docker("ps", "-aq", check=False).split():
                    self.docker("rm", "-f", container, check=False)
            self.stop()
        self._end_containerd()
        self._holder.kill()
        self._holder.wait()
        for mount in reversed(Path("/proc/mounts").read_text().splitlines()):
            where = mount.split()[1]
            if where.startswith(f"{self.folder}/"):
                subprocess.run(["umount", "-l", where], check=False, capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end_containerd(self) -> None:
        """One that its dockerd left behind, by the pid that it wrote down itself."""
        with contextlib.suppress(OSError, ValueError):
            pid = int((self.folder / "exec" / "containerd" / "containerd.pid").read_text())
            if str(self.folder) in Path(f"/proc/{pid}/cmdline").read_text():
                os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def running(run: Run) -> Iterator[Run]:
    try:
        yield run
    finally:
        run.kill_group()


def wait_on(run: Run, faults: int) -> None:
    """Until so many faults are on."""
    assert wait_until(lambda: run.count("fault_injected") >= faults or run.ended(), 120), run.text()
    assert run.count("fault_injected") >= faults, run.text()[-3000:]


def healed_after(
    world: World, before: dict[str, dict[str, Any]], since: float, limit_s: float = 60
) -> dict[str, float]:
    """Seconds from `since` until each container is as before. Asserts that all are within limit_s."""
    found: dict[str, float] = {}
    while len(found) < len(before):
        assert time.monotonic() - since < limit_s, {n: world.state(n) for n in before if n not in found}
        for name in before:
            if name not in found and world.state(name) == before[name]:
                found[name] = round(time.monotonic() - since, 2)
    return found
