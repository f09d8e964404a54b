"""A run directory, read back: plan.json, history, keeper, windows and samples .jsonl -> result.json."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from harness.analysis.healed import healing_events
from harness.analysis.judge import judge
from harness.analysis.windows import WindowStore
from harness.model import events as ev
from harness.model.errors import UsageError
from harness.model.jsonl import encode, read_lines
from harness.model.plan import Plan
from harness.model.result import Result
from harness.model.samples import Sample
from harness.model.targets import Target
from harness.model.windows import Row

PLAN = "plan.json"
HISTORY = "history.jsonl"
WINDOWS = "windows.jsonl"
SAMPLES = "samples.jsonl"
RESULT = "result.json"

T = TypeVar("T")


class Run(msgspec.Struct, frozen=True):
    """Everything recorded of one run."""

    plan: Plan
    history: tuple[ev.Event, ...]
    store: WindowStore
    samples: tuple[Sample, ...]

    def __iter__(self) -> Iterator[Any]:
        """So that `plan, history, store, samples = load_run(...)` reads as it should."""
        return iter((self.plan, self.history, self.store, self.samples))


def load_run(run_dir: Path) -> Run:
    """Read a run directory. A torn last line is ignored; memory grows with the windows, not with the requests.

    Raises UsageError naming the file that is missing or damaged. A run that ended before its load started has no
    windows, one of a foreign service may have no samples.
    """
    if not run_dir.is_dir():
        raise UsageError(f"{run_dir}: no such run directory")
    plan = read_plan(run_dir)
    history: tuple[ev.Event, ...] = tuple(_lines(run_dir / HISTORY, ev.Event, needed=True))
    history += healing_events(run_dir, history)
    started = any(isinstance(event, ev.Started) for event in history)
    store = WindowStore(plan)
    add = store.add
    for row in _lines(run_dir / WINDOWS, Row, needed=started):
        add(row)
    samples: tuple[Sample, ...] = tuple(_lines(run_dir / SAMPLES, Sample, needed=False))
    return Run(plan, history, store, samples)


def analyze(run_dir: Path, extra_targets: Sequence[Target] = ()) -> Result:
    """Judge a recorded run again, with other or further targets if asked. Reads the files, writes nothing."""
    run = load_run(run_dir)
    return judge(run.plan, run.history, run.store, run.samples, extra_targets=extra_targets)


def write_result(run_dir: Path, result: Result) -> Path:
    """Write result.json whole or not at all; returns its path. Raises OSError when it cannot be written."""
    path = run_dir / RESULT
    part = path.with_suffix(".json.part")
    part.write_bytes(msgspec.json.format(encode(result), indent=2) + b"\n")
    os.replace(part, path)  # noqa: PTH105  # the promise is os.replace's: atomic on one file system
    return path


def read_result(run_dir: Path) -> Result:
    """result.json as it was written. Raises UsageError when it is missing or does not decode."""
    path = run_dir / RESULT
    try:
        return _decoded(path, Result)
    except FileNotFoundError:
        raise UsageError(f"{path} is missing", hint="harness analyze RUN_DIR makes it again from the record") from None


def read_plan(run_dir: Path) -> Plan:
    """plan.json. Raises UsageError when it is missing or does not decode."""
    path = run_dir / PLAN
    try:
        return _decoded(path, Plan)
    except FileNotFoundError:
        raise UsageError(f"{path} is missing: this is not a run directory") from None


def _decoded(path: Path, type_: type[T]) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=type_)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is damaged: {error}") from error


def _lines(path: Path, type_: Any, *, needed: bool) -> Iterator[Any]:
    try:
        yield from read_lines(path, type_)
    except FileNotFoundError:
        if needed:
            raise UsageError(f"{path} is missing: the run cannot be judged without it") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path.parent / str(error)} (damaged; only a torn last line is tolerated)") from error
