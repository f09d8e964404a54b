"""A run directory, read back: plan.json, history, keeper, windows, samples and alerts .jsonl -> result.json."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from harness.analysis.record.clean import CLEAN, read_earlier
from harness.analysis.record.former import plan_of_today
from harness.analysis.record.healed import healing_events, left_at_the_end
from harness.analysis.record.window_reader import WINDOWS, WindowReader, latest_s
from harness.analysis.record.windows import WindowStore
from harness.analysis.rules.detection import nothing_to_detect
from harness.analysis.verdict.judge import judge
from harness.model.errors import HarnessError, UsageError
from harness.model.exit_codes import ExitCode
from harness.model.files import cannot_be_read, read_limited, replace_file
from harness.model.jsonl import decodes, encode, read_lines
from harness.model.records import events as ev
from harness.model.records.alerts import AlertRow
from harness.model.records.load import STEP_S
from harness.model.records.metrics import Origin
from harness.model.records.plan import READ_SCHEMAS, Plan
from harness.model.records.result import SCHEMA as RESULT_SCHEMA
from harness.model.records.result import Result
from harness.model.records.samples import Sample
from harness.model.records.targets import Target
from harness.model.target_grammar import parse_targets

PLAN = "plan.json"
HISTORY = "history.jsonl"
SAMPLES = "samples.jsonl"
ALERTS = "alerts.jsonl"
RESULT = "result.json"
PRUNED = "pruned.json"
"""Stands where `harness history --prune` has dropped the raw records."""

MAX_BYTES = 64_000_000
"""Of plan.json and result.json, which have some kilobytes."""
MAX_PHASE_S = 31 * 86400.0
MAX_RATE = 1e7
MAX_WORKERS = 100_000
EARLIEST_S = -30 * 86400.0

T = TypeVar("T")


class Run(msgspec.Struct, frozen=True):
    """Everything recorded of one run."""

    plan: Plan
    history: tuple[ev.Event, ...]
    store: WindowStore
    samples: tuple[Sample, ...]
    alerts: tuple[AlertRow, ...] = ()

    def __iter__(self) -> Iterator[Any]:
        """So that `plan, history, store, samples = load_run(...)` reads as it should."""
        return iter((self.plan, self.history, self.store, self.samples))


def load_run(run_dir: Path) -> Run:
    """Read a run directory. A torn last line is ignored; memory grows with the windows, not with the requests.

    Raises UsageError naming the file that is missing or damaged. A run that ended before its load started has no
    windows, one of a foreign service may have no samples, and only one of a session has clean baselines before it.
    """
    return made_of(run_dir, lambda: _load(run_dir))


def _load(run_dir: Path) -> Run:
    plan, history, samples = load_beside(run_dir)
    started = any(isinstance(event, ev.Started) for event in history)
    store = WindowStore(plan)
    with closing(WindowReader(run_dir / WINDOWS, plan)) as windows:
        for row in _told(run_dir / WINDOWS, windows.poll(), needed=started):
            store.add(row)
    for stretches in _told(run_dir / CLEAN, (read_earlier(run_dir, plan) for _ in "1"), needed=False):
        store.earlier = stretches
    rows: Iterator[AlertRow] = read_lines(run_dir / ALERTS, AlertRow, _in_time(latest_s(plan)))
    return Run(plan, history, store, samples, tuple(_told(run_dir / ALERTS, rows, needed=False)))


def load_beside(run_dir: Path) -> tuple[Plan, tuple[ev.Event, ...], tuple[Sample, ...]]:
    """What was recorded beside requests: plan, history with what healed later, samples. Raises UsageError."""
    missing(run_dir)
    plan = read_plan(run_dir)
    in_time = _in_time(latest_s(plan))

    def lines(name: str, type_: Any, *, needed: bool) -> Iterator[Any]:
        return _told(run_dir / name, read_lines(run_dir / name, type_, in_time), needed=needed)

    history: tuple[ev.Event, ...] = tuple(lines(HISTORY, ev.Event, needed=True))
    history += healing_events(run_dir, history)
    return plan, history, tuple(lines(SAMPLES, Sample, needed=False))


def analyze(run_dir: Path, extra_targets: Sequence[Target] = ()) -> Result:
    """Judge a recorded run again, with other or further targets if asked. Reads the files, writes nothing."""
    return judged(run_dir, load_run(run_dir), extra_targets)


def judged(run_dir: Path, run: Run, extra_targets: Sequence[Target] = ()) -> Result:
    """The same of a record that was read already."""
    result = made_of(
        run_dir,
        lambda: judge(run.plan, run.history, run.store, run.samples, run.alerts, extra_targets=extra_targets),
    )
    left = left_at_the_end(run_dir, run.plan)
    if not left:
        return result
    return msgspec.structs.replace(result, reasons=(*left, *result.reasons), exit_code=int(ExitCode.UNDO_UNVERIFIED))


def made_of(run_dir: Path, work: Callable[[], T]) -> T:
    """What `work` makes of a run directory's records. They may be anybody's: numbers that contradict each other are
    an error of the input, told in a line. Raises UsageError."""
    try:
        return work()
    except HarnessError:
        raise
    except MemoryError as error:
        raise UsageError(f"{run_dir}: its records are too large for this machine's memory") from error
    except (ArithmeticError, LookupError, ValueError, RecursionError) as error:
        said = f"{type(error).__name__}: {error}" if isinstance(error, LookupError) else str(error)
        raise UsageError(f"{run_dir}: its records contradict each other ({said[:200]})") from error


def missing(run_dir: Path) -> None:
    """Raises UsageError for what is no directory."""
    if not run_dir.is_dir():
        raise UsageError(
            f"{run_dir} is a file, not a run directory"
            if run_dir.exists()
            else f"{run_dir}: no such file or run directory"
        )


def write_result(run_dir: Path, result: Result) -> Path:
    """Write result.json whole or not at all; returns its path. Raises OSError when it cannot be written."""
    path = run_dir / RESULT
    replace_file(path, msgspec.json.format(encode(result), indent=2) + b"\n")
    return path


def read_result(run_dir: Path) -> Result:
    """result.json as it was written. Raises UsageError when it is missing or does not decode."""
    path = run_dir / RESULT
    try:
        result = _decoded(path, Result, (RESULT_SCHEMA,))
    except FileNotFoundError:
        raise UsageError(f"{path} is missing", hint="harness analyze RUN_DIR makes it again from the record") from None
    if result.exit_code not in set(ExitCode) or (result.exit_code == ExitCode.PASS and result.verdict != "pass"):
        raise UsageError(f"{path} is damaged: exit code {str(result.exit_code)[:20]} with verdict {result.verdict}")
    if result.verdict == "pass" and (against := _against_pass(result, read_plan(run_dir))) is not None:
        raise UsageError(
            f"{path} is damaged: verdict pass, and {against}",
            hint="harness analyze RUN_DIR makes it again from the record",
        )
    return result


def _against_pass(result: Result, plan: Plan) -> str | None:
    """What no result has that passed. plan: what had to be judged, so that nothing of it is left out."""
    for one in result.targets:
        moot = (one.traits.origin is Origin.RECOVERY and plan.control_run) or (
            one.outcome == "not_judged" and nothing_to_detect(one.metric, result.impact)
        )
        if one.primary and one.outcome != "held" and not moot:
            return f"the target {one.target[:60]} is {one.outcome.replace('_', ' ')}"
    for wanted in plan.targets:
        # Another target in its place is one of `harness analyze --target`.
        there = [one for one in result.targets if (one.phase, one.metric) == (wanted.phase, wanted.metric)]
        if wanted.primary and not any(one.primary or one.target != wanted.text for one in there):
            return f"the target {wanted.text[:60]} is not judged in it"
    faults = {fault.name: fault for fault in result.faults}
    for planned in plan.faults:
        fault = faults.get(planned.id)
        if fault is None or not fault.proven:
            return f"the fault {planned.id[:60]} is not proven"
        if planned.for_s is not None and not fault.undo_verified and result.exit_code == ExitCode.PASS:
            return f"the undo of {planned.id[:60]} is not verified"
    if any(not fault.proven for fault in result.faults):
        return "a fault is not proven"
    recovery = result.recovery
    return "the service had not recovered" if recovery and recovery.outcome in ("not_recovered", "undecided") else None


def read_plan(run_dir: Path) -> Plan:
    """plan.json. Raises UsageError when it is missing or does not decode, or holds what no run could do."""
    path = run_dir / PLAN
    try:
        plan = _decoded(path, Plan, READ_SCHEMAS)
    except FileNotFoundError:
        raise UsageError(f"{path} is missing: this is not a run directory") from None
    whole = (*msgspec.structs.astuple(plan.phases), plan.load.ramp_s, plan.load.request_timeout_s)
    lengths = [length for length in whole if isinstance(length, (int, float))]
    wrong = [
        *(f"a phase of {length:g} s" for length in lengths if not 0 <= length <= MAX_PHASE_S),
        *("a user class without weight" for one in plan.load.classes if not 0 < one.weight < math.inf),
    ]
    if plan.load.rate is not None and not 0 < plan.load.rate <= MAX_RATE:
        wrong.append(f"{plan.load.rate:g} arrivals per second")
    if not 0 <= plan.load.first_step <= MAX_PHASE_S / STEP_S:
        wrong.append(f"a load that begins with step {str(plan.load.first_step)[:20]}")
    if not 1 <= plan.load.workers <= MAX_WORKERS:
        wrong.append(f"{str(plan.load.workers)[:20]} load processes")
    wrong += [f"a target that is not what {t.text[:60]!r} says" for t in plan.targets if not _as_said(t)]
    if wrong:
        raise UsageError(f"{path} is damaged: {wrong[0]} cannot be")
    return plan


def _as_said(target: Target) -> bool:
    """People read the text of a target, and it is judged by its fields."""
    try:
        meant = parse_targets(target.text)
    except UsageError:
        return False
    same = (
        msgspec.structs.replace(t, text=target.text, primary=target.primary, explicit=target.explicit) for t in meant
    )
    return target in same


class _Schema(msgspec.Struct):
    schema: int = 1


def _decoded(path: Path, type_: type[T], schemas: Sequence[int]) -> T:
    data = read_limited(path, MAX_BYTES, links=False)
    with decodes(path):
        found = msgspec.json.decode(data, type=_Schema).schema
        if found not in schemas:
            read = " and ".join(map(str, schemas))
            raise UsageError(
                f"{path} is of schema {str(found)[:20]}, and this version of the harness reads schema {read}",
                hint="read it with the version that wrote it",
            )
        if type_ is Plan and (found == 1 or b'"allow_flush"' in data):
            return msgspec.convert(plan_of_today(msgspec.json.decode(data), found), type_)
        return msgspec.json.decode(data, type=type_)


_TIMES = frozenset({"at", "start_s", "sent_s", "zero_s", "lower_s", "upper_s", "end_s"})


def _in_time(latest_s: float) -> Callable[[msgspec.Struct], str | None]:
    """What is wrong with the times in an event or a sample, if anything is."""

    def trouble(found: msgspec.Struct) -> str | None:
        for name in found.__struct_fields__:
            value = getattr(found, name)
            if name in _TIMES and not EARLIEST_S <= value <= latest_s:
                return f"{name} is {value:g} s, long after the run's end" if value > 0 else f"{name} is {value:g} s"
        return None

    return trouble


def _told(path: Path, lines: Iterator[T], *, needed: bool) -> Iterator[T]:
    """The lines of a file, and what is wrong with it as a UsageError. needed: it must be there."""
    try:
        yield from lines
    except FileNotFoundError:
        if needed and (path.parent / PRUNED).exists():
            raise UsageError(
                f"{path.parent}: the raw records of this run were pruned",
                hint="its result stands: harness report RUN_DIR --format md",
            ) from None
        if needed:
            raise UsageError(f"{path} is missing: the run cannot be judged without it") from None
    except OSError as error:
        raise cannot_be_read(path, error) from error
    except ValueError as error:
        raise UsageError(f"{path.parent / str(error)} (damaged; only a torn last line is tolerated)") from error
