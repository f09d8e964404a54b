"""What the tests of safety look at from outside: raw HTTP, the process table, and a tiny run to be killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from harness.model.records.faults import Address, Dependency, DependencyProxy

DRIVER = Path(__file__).with_name("run_driver.py")


def wait_for(what: str, condition: Callable[[], Any], limit_s: float = 40.0) -> Any:
    """Poll until it is true and return it; fails the test naming `what`."""
    end = time.monotonic() + limit_s
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {limit_s:.0f} s: {what}"
        time.sleep(0.01)
    return value


def stop(pid: int) -> None:
    """SIGSTOP, and until it has stopped: on a busy machine its threads may run for a while after the call."""
    os.kill(pid, signal.SIGSTOP)
    wait_for(f"process {pid} to stop", lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)


def call(method: str, url: str, body: Any = None) -> Any:
    """One raw HTTP exchange, no proxies. Returns the decoded answer, None for 404 and empty answers."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method, headers={"Content-Type": "application/json"})
    try:
        with opener.open(request, timeout=30) as answer:
            text = answer.read()
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 404:
                return None
            raise AssertionError(f"{method} {url}: {error.code} {error.read()!r}") from error
    return json.loads(text) if text else None


class Proxy:
    """A proxy of our own on a shared Toxiproxy, seen and changed by raw HTTP."""

    def __init__(self, api: str, name: str, upstream: Address) -> None:
        self.api, self.name, self.upstream = api, name, upstream
        body = {"name": name, "listen": "127.0.0.1:0", "upstream": str(upstream), "enabled": True}
        self.listen: str = call("POST", f"{api}/proxies", body)["listen"]

    @property
    def url(self) -> str:
        return f"{self.api}/proxies/{self.name}"

    @property
    def path(self) -> Address:
        host, _, port = self.listen.rpartition(":")
        return Address(host, int(port))

    def state(self) -> Any:
        return call("GET", self.url)

    def toxics(self) -> list[str]:
        return [toxic["name"] for toxic in self.state()["toxics"]]

    def clean(self) -> bool:
        state = self.state()
        return bool(state["enabled"]) and not state["toxics"]

    def remove(self) -> None:
        call("DELETE", self.url)

    def dependency(self, **more: Any) -> Dependency:
        """more: as for Dependency.but."""
        return Dependency(
            name="redis",
            kind="redis",
            proxy=DependencyProxy(url=self.api, name=self.name),
            proxied=True,
            path=self.path,
            direct=self.upstream,
        ).but(**more)


def family_of(pid: int) -> set[int]:
    """Every living process below `pid`, itself included."""
    import psutil

    try:
        root = psutil.Process(pid)
        return {pid, *(child.pid for child in root.children(recursive=True))}
    except psutil.NoSuchProcess:
        return set()


def gone(pid: int) -> bool:
    """No such process, or a zombie: it runs nothing any more."""
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1]
    except OSError:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False
    return state in (b"Z", b"X")


class Run:
    """A run_driver.py process. Its words come line by line; the end of its state folder's journal stays readable."""

    def __init__(self, state_home: Path, **config: Any) -> None:
        self.name = str(config.setdefault("name", "run-1"))
        self.state = state_home / "harness" / "active" / self.name
        self.errors = state_home / f"{self.name}.stderr"
        state_home.mkdir(exist_ok=True, parents=True)
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, str(DRIVER), json.dumps(config)],
                stdout=subprocess.PIPE,
                stderr=errors,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "XDG_STATE_HOME": str(state_home)},
                start_new_session=True,
            )
        self.said: dict[str, Any] = {}

    def wait(self, word: str) -> Any:
        """Read its lines until one is about `word`."""
        assert self.process.stdout is not None
        while word not in self.said:
            line = self.process.stdout.readline()
            assert line, f"the run ended before it said {word!r}: {self.errors.read_text()}"
            key, _, value = line.decode().strip().partition(" ")
            self.said[key] = json.loads(value or "null")
        return self.said[word]

    def kill(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)

    def end(self) -> None:
        """End what is left of it, keeper and all, without ceremony."""
        keeper = self.said.get("keeper")
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)
        if keeper is not None:
            limit = time.monotonic() + 60
            while not gone(keeper) and time.monotonic() < limit:
                time.sleep(0.02)
            if not gone(keeper):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(keeper, signal.SIGKILL)
        if self.process.stdout is not None:
            self.process.stdout.close()
