"""What a stranger can see from outside: raw HTTP to Toxiproxy, SQL, `ps`. Imports nothing of the product."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

HARNESS = Path(sys.executable).parent / "harness"
QUICK = ("--scenario", "target", "--spawn-rate", "100000", "--warmup", "2s", "--request-timeout", "5s")
_SHORT_PHASES = (
    "from harness.plan import phases as p; "
    "p.MIN_BASELINE_S = p.MIN_FAULT_S = p.MIN_HOLD_S = 2.0; p.HOLD_ARRIVALS = 50; p.DECIDING_ARRIVALS = 1; "
    "p.MIN_RECOVERY_LIMIT_S = 30.0; "
)
_FEW_WRITES = "from harness.analysis.verdict import acknowledged as a; a.MOST_AROUND, a.MOST_ELSEWHERE = 200, 50; "
_MAIN = "from harness.cli import main; main()"
SHORTENED = _SHORT_PHASES + _FEW_WRITES + _MAIN
"""The real command, whose shortest phases are lowered, and which reads fewer acknowledged writes back, half a minute of
looks: a verdict needs their length and their number, no way out depends on either."""


class Run:
    """A real `harness run` process in its own session, as a shell would start it.

    shortened: phases may be a few seconds long. every_write: all acknowledged writes are read back all the same, where
    the loss of one in hundreds is looked for. prefix: a command that runs it, for example a shell with redirections.
    """

    def __init__(
        self,
        cwd: Path,
        *args: str,
        env: dict[str, str] | None = None,
        shortened: bool = False,
        every_write: bool = False,
        prefix: tuple[str, ...] = (),
    ) -> None:
        self.cwd = cwd
        code = _SHORT_PHASES + _MAIN if every_write else SHORTENED
        program = [sys.executable, "-c", code] if shortened else [str(HARNESS)]
        self.stderr = (cwd / "stderr.txt").open("wb")
        self.stdout = (cwd / "stdout.txt").open("wb")
        self.process = subprocess.Popen(
            [*prefix, *program, "run", *args, *(("--no-extend",) if shortened else ()), "--out", str(cwd / "runs")],
            cwd=cwd,
            env={**os.environ, "XDG_STATE_HOME": str(cwd / "state"), **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=self.stdout,
            stderr=self.stderr,
            start_new_session=True,
        )

    @property
    def dir(self) -> Path:
        folders = sorted((self.cwd / "runs").glob("*")) if (self.cwd / "runs").exists() else []
        return folders[-1] if folders else self.cwd / "runs" / "none"

    def events(self) -> list[dict[str, Any]]:
        path = self.dir / "history.jsonl"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]

    def count(self, event: str) -> int:
        return sum(found["event"] == event for found in self.events())

    def ended(self) -> bool:
        return self.process.poll() is not None

    def result(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads((self.dir / "result.json").read_text())
        return loaded

    def text(self) -> str:
        return (self.cwd / "stderr.txt").read_text(errors="replace") + (self.cwd / "stdout.txt").read_text(
            errors="replace"
        )

    def wait_for(self, what: Callable[[dict[str, Any]], bool], timeout_s: float = 120) -> None:
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            if any(what(event) for event in self.events()):
                return
            if self.process.poll() is not None:
                raise AssertionError(f"the run ended (exit {self.process.returncode}) first:\n{self.text()[-3000:]}")
            time.sleep(0.05)
        raise AssertionError(f"waited {timeout_s} s in vain:\n{self.text()[-3000:]}")

    def wait_phase(self, phase: str, timeout_s: float = 120) -> None:
        """Until the phase has begun; `setup` is before there is any history."""
        if phase == "setup":
            assert wait_until(lambda: (self.dir / "journal.jsonl").exists() or (self.dir / "log.jsonl").exists(), 60)
            time.sleep(0.7)
            return
        self.wait_for(lambda e: e["event"] == "phase" and e["phase"] == phase, timeout_s)

    def wait_proven(self, timeout_s: float = 120) -> None:
        self.wait_for(lambda e: e["event"] == "fault_proven", timeout_s)

    def end(self, timeout_s: float = 240) -> int:
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the run did not end in {timeout_s} s:\n{self.text()[-3000:]}") from None

    def kill_group(self) -> None:
        """Clean up after a failed test: the run only; its keeper heals what it left."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.stderr.close()
        self.stdout.close()


def http_json(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return json.load(answer)


def proxies(base: str) -> dict[str, Any]:
    """Toxiproxy's state without what changes by itself."""
    found: dict[str, Any] = http_json(f"{base}/proxies")
    return {
        name: {key: proxy[key] for key in ("name", "listen", "upstream", "enabled", "toxics")}
        for name, proxy in found.items()
    }


def family(root: int) -> dict[int, str]:
    """The process and every living descendant: pid -> "start time, command line"."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found = {root}
    while True:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        if not more:
            break
        found |= more
    return {pid: label for pid in found if (label := identity(pid)) is not None}


def identity(pid: int) -> str | None:
    """Start time and command line of a living process, None when it is gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return None
    return None if stat[0] in "ZX" else f"{stat[19]} {command[:150]}"


def still_alive(members: dict[int, str]) -> list[str]:
    """Those of a remembered family that still run, guarded against reuse of a pid by its start time."""
    alive = []
    for pid, label in members.items():
        now = identity(pid)
        if now is not None and now.split()[0] == label.split()[0]:
            alive.append(f"{pid} {now}")
    return alive


def wait_until(what: Callable[[], bool], timeout_s: float = 30) -> bool:
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        if what():
            return True
        time.sleep(0.05)
    return what()
