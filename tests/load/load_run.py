"""Run a real load process against a target and read back what it recorded."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import psutil

from harness.load.ipc.protocol import Begin, Drained, Failed, LoadMessage, Ready, Stop
from harness.load.process.launcher import LoadProcess, describe
from harness.model.clock import monotonic
from harness.model.jsonl import read_lines
from harness.model.records.load import LoadPlan, UserClass
from harness.model.records.windows import ClassCounts, DeltaRow, ErrorRow, MarkRow, RequestCounts, Row

ANOMALY = Path(__file__).parents[2] / "locustfiles" / "anomaly.py"
CLOSED: dict[str, Any] = {"model": "closed", "rate": None, "spawn_rate": 100.0}


def make_plan(locustfile: Path, host: str, **changes: Any) -> LoadPlan:
    classes = changes.pop("classes", None) or describe(locustfile).classes
    plan = LoadPlan(
        model="open",
        host=host,
        locustfile=str(locustfile),
        classes=tuple(classes),
        seed=11,
        users=10,
        spawn_rate=100.0,
        ramp_s=0.0,
        rate=100.0,
        max_in_flight=500,
        request_timeout_s=2.0,
        limits_ms=(100.0, 200.0),
        workers=1,
    )
    return msgspec.structs.replace(plan, **changes)


def named(*names: str) -> tuple[UserClass, ...]:
    return tuple(UserClass(name=name) for name in names)


class Run:
    """One load process, from start to exit. Use as a context manager: nothing is left behind."""

    def __init__(self, plan: LoadPlan, folder: Path) -> None:
        self.plan = plan
        self.windows = folder / "windows.jsonl"
        self.log = folder / "load.log"
        self.messages: list[LoadMessage] = []
        self.code: int | None = None
        self.t0 = 0.0
        self._changed = threading.Condition()
        self.process = LoadProcess.start(
            plan, windows=self.windows, log=self.log, on_message=self._on_message, on_exit=self._on_exit
        )

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(10)
        # Tests stop processes themselves now and then, so the groups may outlive the master.
        for pid in self.worker_pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _on_message(self, message: LoadMessage) -> None:
        with self._changed:
            self.messages.append(message)
            self._changed.notify_all()

    def _on_exit(self, code: int) -> None:
        with self._changed:
            self.code = code
            self._changed.notify_all()

    def wait(self, what: Callable[[], Any], limit_s: float = 60.0) -> Any:
        """The first true value of `what`; fails with the log when the load exits or the limit passes before."""
        with self._changed:
            assert self._changed.wait_for(lambda: what() or self.code is not None, limit_s), self.trouble("timed out")
            found = what()
        assert found, self.trouble(f"the load exited with {self.code}")
        return found

    def message(self, kind: type[Any], limit_s: float = 60.0) -> Any:
        return self.wait(lambda: next((m for m in self.messages if isinstance(m, kind)), None), limit_s)

    def begin(self) -> Run:
        self.message(Ready)
        self.t0 = monotonic() + 0.1
        self.process.send(Begin(t0=self.t0))
        return self

    def at(self, seconds: float) -> None:
        """Sleep until so many seconds after t0."""
        time.sleep(max(0.0, self.t0 + seconds - monotonic()))

    def finish(self, end_step: int, limit_s: float = 60.0) -> Run:
        self.process.send(Stop(end_step=end_step))
        self.message(Drained, limit_s)
        assert self.wait(lambda: self.code is not None, 30)
        assert self.code == 0, self.trouble("exit code")
        return self

    def go(self, seconds: float) -> Run:
        """Everything: begin, run so long, drain, exit."""
        self.begin()
        return self.finish(round(seconds * 10), seconds + self.plan.request_timeout_s + 60)

    @property
    def worker_pids(self) -> tuple[int, ...]:
        return next((m.pids for m in self.messages if isinstance(m, Ready)), ())

    def trouble(self, what: str) -> str:
        failed = [m.text for m in self.messages if isinstance(m, Failed)]
        log = self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""
        return f"{what}; {failed or self.messages[-3:]}\n{log}"

    # What was recorded

    def rows(self) -> Iterator[Row]:
        return read_lines(self.windows, Row)

    def classes(self, steps: range | None = None) -> dict[str, ClassCounts]:
        """Sum by class."""
        return _summed(
            ((n, c) for r in self._deltas(steps) for n, c in r.classes.items()),
            ClassCounts,
        )

    def requests(self, steps: range | None = None) -> dict[str, RequestCounts]:
        """Sum by request name (sketches excluded)."""
        return _summed(((n, c) for r in self._deltas(steps) for n, c in r.requests.items()), RequestCounts)

    def setup(self) -> dict[str, RequestCounts]:
        return _summed(((n, c) for r in self._deltas(None) for n, c in r.setup.items()), RequestCounts)

    def sketch(self, name: str, steps: range | None = None) -> dict[int, int]:
        buckets: Counter[int] = Counter()
        for row in self._deltas(steps):
            if name in row.requests:
                flat = row.requests[name].sketch
                buckets.update(dict(zip(flat[::2], flat[1::2], strict=True)))
        return buckets

    def marks(self) -> list[MarkRow]:
        return [r for r in self.rows() if isinstance(r, MarkRow)]

    def errors(self) -> dict[tuple[str, str | None], int]:
        found: dict[tuple[str, str | None], int] = {}
        for r in self.rows():
            if isinstance(r, ErrorRow):
                found[r.kind, r.name] = found.get((r.kind, r.name), 0) + r.count
        return found

    def _deltas(self, steps: range | None) -> Iterator[DeltaRow]:
        return (r for r in self.rows() if isinstance(r, DeltaRow) and (steps is None or r.step in steps))


def gone(pid: int, limit_s: float = 5.0) -> bool:
    """Whether the process ends within the limit."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.01)
    return False


def _summed(pairs: Any, kind: type[Any]) -> dict[str, Any]:
    sums: dict[str, dict[str, Any]] = {}
    for name, counts in pairs:
        into = sums.setdefault(name, {})
        for key, value in msgspec.structs.asdict(counts).items():
            if isinstance(value, dict):
                part = into.setdefault(key, {})
                for k, v in value.items():
                    part[k] = part.get(k, 0) + v
            elif isinstance(value, (int, float)):
                into[key] = max(into.get(key, 0), value) if key == "max_ms" else into.get(key, 0) + value
    return {name: kind(**values) for name, values in sums.items()}
