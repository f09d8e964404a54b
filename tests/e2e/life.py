"""Short real runs for tests about how a run ends, and what such an end must leave behind: nothing."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.observe import Run, family, still_alive, wait_until
from tests.e2e.standing import StandingStack

BRIEF = (
    *("--scenario", "target", "--rate", "30", "--spawn-rate", "100000", "--warmup", "1s", "--baseline", "3s"),
    *("--recovery-limit", "30s", "--hold", "3s", "--request-timeout", "5s"),
    *("--target", "p95 < 9s", "--target", "error_rate < 90%", "--target", "rps >= 1% of plan"),
)
"""What is looked at is the end, not the speed of a busy machine: targets that nothing breaks."""
FAULTS = ("--fault", "redis-down", "--fault", "kafka-latency", "--fault", "db-connection-limit")
LONG = ("--fault-for", "60s")
"""A fault phase that does not end by itself while a slow test looks at it."""


def brief_run(stack: StandingStack, folder: Path, *args: str, **more: Any) -> Run:
    """A run on a standing stack; its faults are FAULTS unless `args` name others."""
    faults = () if "--fault" in args else FAULTS
    length = () if "--fault-for" in args else ("--fault-for", "4s")
    env = {"XDG_STATE_HOME": str(stack.state), **more.pop("env", {})}
    return Run(folder, *BRIEF, *faults, *length, *args, env=env, shortened=True, **more)


def wait_on(run: Run, faults: int = 1) -> None:
    """Until so many faults are on. Whether they are proven is another matter, which a busy machine may leave open."""
    assert wait_until(lambda: run.count("fault_injected") >= faults or run.ended(), 120), run.text()
    assert run.count("fault_injected") >= faults, run.text()


def state_folders(state: Path) -> list[Path]:
    """State folders of runs that have not been cleared away."""
    active = state / "harness" / "active"
    return [path for path in active.iterdir() if not path.name.startswith(".")] if active.is_dir() else []


def entries(folder: Path, name: str = "journal.jsonl") -> list[dict[str, Any]]:
    """The complete lines of a journal, as anybody may read them."""
    try:
        lines = (folder / name).read_bytes().splitlines(keepends=True)
    except OSError:
        return []
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


def keeper_of(run: Run) -> int:
    """The pid of the run's keeper, by its command line."""
    return next(pid for pid, label in family(run.process.pid).items() if "harness.safety.keeper.keeper" in label)


def load_of(run: Run) -> list[int]:
    """The pids of the load process and its workers; the first is their master."""
    return sorted(pid for pid, label in family(run.process.pid).items() if "harness.load" in label)


def wait_moment(what: str, seen: Callable[[], bool], run: Run, limit_s: float = 90.0) -> None:
    """Poll as fast as a look takes, to be there at the very moment."""
    end = time.monotonic() + limit_s
    while not seen():
        assert run.process.poll() is None, f"the run ended before {what}:\n{run.text()[-3000:]}"
        assert time.monotonic() < end, f"not within {limit_s:g} s: {what}"
        time.sleep(0.001)


def assert_nothing_left(stack: StandingStack, before: dict[str, Any], members: dict[int, str]) -> None:
    """Processes, the dependencies' state, the state folder: all as if the run had never been."""
    assert wait_until(lambda: not still_alive(members), 60), still_alive(members)
    assert stack.snapshot() == before
    assert wait_until(lambda: not state_folders(stack.state)), state_folders(stack.state)
    assert wait_until(stack.healthy), "the service finds its dependencies again"


def tree(root: int) -> list[int]:
    return list(family(root))


@contextmanager
def stopped(pids: list[int]) -> Iterator[None]:
    """Processes that hang for a while."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                pass
