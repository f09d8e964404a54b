"""One foreign system on real servers: plain processes, each dependency behind a proxy, and a harness.toml."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from harness.model.records.faults import Address
from harness.stack.starting.ports import Ports
from tests.support.servers.proxied import raw
from tests.support.servers.real import wait_until

HERE = Path(__file__).parent
HARNESS = Path(sys.executable).with_name("harness")
LENGTHS = ("--warmup", "3s", "--baseline", "15s", "--fault-for", "12s", "--recovery-limit", "25s", "--hold", "15s")
LOAD = ("--rate", "40", "--request-timeout", "3s")
INCONCLUSIVE = 3
TARGETS = """
[targets]
primary = ["error_rate < 5%", "p95 < 2s", "recovery < 20s"]
"""
"""Wide enough for a busy machine: each weakness misses them by far."""


class System:
    """folder: of this one. As a context manager it ends what it started, and takes its proxies away."""

    def __init__(self, name: str, folder: Path, toxiproxy: str, *, weak: bool) -> None:
        self.folder, self.name = folder, name
        self.env = {"WEAK": "1" if weak else "", "PYTHONUNBUFFERED": "1"}
        self._toxiproxy = toxiproxy
        self._proxies: list[str] = []
        self._children: list[subprocess.Popen[bytes]] = []
        self._tables: list[str] = []
        with Ports() as ports:
            self.port = ports.take()
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> System:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        for name in self._proxies:
            with contextlib.suppress(OSError):
                raw(f"{self._toxiproxy}/proxies/{name}", "DELETE")

    def behind_proxy(self, name: str, upstream: Address, table: str, listen: Address | None = None) -> Address:
        """Where the system finds this dependency. table: what harness.toml says of it besides proxy and direct."""
        if listen is None:
            with Ports() as ports:
                listen = Address("127.0.0.1", ports.take())
        proxy = f"{self.name}-{self.port}-{name}"
        raw(f"{self._toxiproxy}/proxies", "POST", {"name": proxy, "listen": str(listen), "upstream": str(upstream)})
        self._proxies.append(proxy)
        self._tables.append(f'[dependencies.{name}]\nproxy = "{proxy}"\n{table}\n')
        return listen

    def start(self, *argv: str, page: str | None = None, **env: str) -> subprocess.Popen[bytes]:
        """page: what answers when it is up; the first process with one is the target's."""
        log = self.folder / f"{len(self._children)}.log"
        with log.open("wb") as out:
            child = subprocess.Popen(
                argv,
                cwd=HERE / self.name,
                env={**os.environ, **self.env, **env},
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._children.append(child)
        if page is not None:
            (self.folder / "target.pid").write_text(str(child.pid))
            try:
                wait_until(f"{self.name} answers", lambda: self._answers(page, child), 60)
            except AssertionError as error:
                raise AssertionError(f"{error}\n{log.read_text()[-3000:]}") from error
        return child

    def _answers(self, page: str, child: subprocess.Popen[bytes]) -> bool:
        assert child.poll() is None, f"it ended with {child.returncode}"
        try:
            with urllib.request.urlopen(self.url + page, timeout=2) as reply:
                return bool(reply.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def declare(self, health: str, more: str = "") -> None:
        """Write its harness.toml."""
        (self.folder / "harness.toml").write_text(
            f'[target]\nname = "{self.name}"\nurl = "{self.url}"\nhealth = "{health}"\npid_file = "target.pid"\n'
            f'[toxiproxy]\nurl = "{self._toxiproxy}"\n'
            + "".join(self._tables)
            + f'[run]\nscenario = "target"\nlocustfile = "{HERE / self.name / "locustfile.py"}"\n'
            + TARGETS
            + more
        )

    def run(self, *faults: str) -> dict[str, Any]:
        """result.json of `harness run`; exit_code is the command's. INCONCLUSIVE is the harness's own word that the
        machine was too busy to tell: that deserves another try."""
        result = self._run(*faults)
        return result if result["exit_code"] != INCONCLUSIVE else self._run(*faults)

    def _run(self, *faults: str) -> dict[str, Any]:
        words = [word for fault in faults for word in ("--fault", fault)]
        done = subprocess.run(
            [HARNESS, "run", *LENGTHS, *LOAD, *words, "--out", str(self.folder / "runs")],
            cwd=self.folder,
            env={**os.environ, **self.env, "XDG_STATE_HOME": str(self.folder / "state")},
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        found = sorted((self.folder / "runs").glob("*/result.json"))
        assert found, done.stdout[-3000:] + done.stderr[-3000:]
        result: dict[str, Any] = json.loads(found[-1].read_text())
        result["text"] = done.stdout + done.stderr
        assert done.returncode == result["exit_code"], result["text"]
        return result

    def left(self) -> dict[str, Any]:
        """What Toxiproxy has of this system."""
        return {name: raw(f"{self._toxiproxy}/proxies/{name}") for name in self._proxies}


def proven(result: dict[str, Any]) -> bool:
    """Every fault was shown on the control plane, by a probe and on the application's path, and its undo verified."""
    return all(
        one["proven"] and one["undo_verified"] and {"control", "probe", "path"} <= {e["source"] for e in one["proof"]}
        for one in result["faults"]
    )
