"""The runs, suites and game days of a folder, from plan.json, result.json, suite.json and gameday.json alone.

They may be anybody's: what is damaged, of another schema or from the future is named as unreadable, and the rest is
shown. Links are not followed, and nothing is looked for below the experiments of a suite and the drills of a game day.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from harness.analysis.run_directory import MAX_BYTES, PLAN, PRUNED, RESULT
from harness.history.records import Counts, Entry, Unread
from harness.model.errors import UsageError
from harness.model.exit_codes import ExitCode
from harness.model.files import read_limited
from harness.model.jsonl import decoding_error
from harness.model.records.many_runs.gameday import SCHEMA as GAMEDAY_SCHEMA
from harness.model.records.many_runs.gameday import GameDayRecord
from harness.model.records.many_runs.suite import SCHEMA as SUITE_SCHEMA
from harness.model.records.many_runs.suite import SuiteResult
from harness.model.records.plan import READ_SCHEMAS
from harness.model.records.result import SCHEMA as RESULT_SCHEMA
from harness.model.records.result import RecoveryOutcome, Verdict

SUITE = "suite.json"
GAMEDAY = "gameday.json"
GAMEDAY_PLAN = "gameday-plan.json"
AHEAD_S = 86400.0
"""A run that began later than this after now has a wrong clock; believed, it would be the newest one for ever."""
CONTROL = "none"
"""What a run without a fault is called, as in `harness run --fault none`."""

T = TypeVar("T")


class Unreadable(Exception):
    """Why one folder is not shown. It ends no command."""


class _Schema(msgspec.Struct):
    schema: int = 1


class _Spec(msgspec.Struct):
    name: str
    text: str = ""


class _Change(msgspec.Struct):
    params: dict[str, str | int | float | bool | None] = {}


class _Fault(msgspec.Struct):
    spec: _Spec
    change: _Change
    at_s: float = 0.0
    for_s: float | None = None


class _Scenario(msgspec.Struct):
    name: str


class _Load(msgspec.Struct):
    model: str
    users: int
    rate: float | None = None
    locustfile_sha256: str = ""


class _Provenance(msgspec.Struct):
    harness: str = ""
    target_version: str | None = None


class _Plan(msgspec.Struct):
    created: str
    scenario: _Scenario
    scale: float
    stack: str
    load: _Load
    faults: tuple[_Fault, ...] = ()
    provenance: _Provenance | None = None
    schema: int = 1


class _Recovery(msgspec.Struct):
    outcome: RecoveryOutcome
    seconds: float | None = None


class _Result(msgspec.Struct):
    verdict: Verdict
    exit_code: int
    reasons: tuple[str, ...] = ()
    started: str | None = None
    recovery: _Recovery | None = None
    schema: int = 1


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A run, a suite or a game day that could be read. at: when it began, in seconds since 1970. alike: of a run, what
    runs of one line must have in common, by its name for people. parts: of a suite or a game day, the run directories
    in it, each with its harm. harm: of one of these, where that tells it."""

    entry: Entry
    path: Path
    at: float
    alike: dict[str, str] = {}
    suite: SuiteResult | None = None
    parts: dict[str, int | None] | None = None
    harm: int | None = None


class Folder(msgspec.Struct, frozen=True, kw_only=True):
    """found: newest first."""

    found: tuple[Found, ...]
    unreadable: tuple[Unread, ...]
    foreign: int


def read_folder(folder: Path, now: float, *, inside: bool = False) -> Folder:
    """Every run and suite in it. inside: and the runs that are the experiments of its suites.

    Raises UsageError when the folder itself is missing or cannot be read.
    """
    found: list[Found] = []
    unreadable: list[Unread] = []
    foreign = 0

    def read(path: Path, name: str, harm: Mapping[str, int | None]) -> Found | None:
        nonlocal foreign
        try:
            one = _suite(path, name) or _game_day(path, name) or _run(path, name, harm.get(path.name))
            if one is not None and one.at > now + AHEAD_S:
                raise Unreadable("it began in the future: a wrong clock")
        except (UsageError, Unreadable) as error:
            unreadable.append(Unread(directory=name, why=str(error).removeprefix(f"{path}/")))
            return None
        if one is None:
            foreign += 1
        else:
            found.append(one)
        return one

    def within(suite: Path) -> list[Path]:
        try:
            return _folders(suite)
        except UsageError as error:  # it went while we looked
            unreadable.append(Unread(directory=suite.name, why=str(error)))
            return []

    for path in _folders(folder):
        one = read(path, path.name, {})
        if inside and one is not None and one.parts is not None:
            for below in within(path):
                if one.suite is not None or below.name in one.parts:
                    read(below, f"{path.name}/{below.name}", one.parts)
    return Folder(
        found=tuple(sorted(found, key=lambda one: (one.at, one.entry.directory), reverse=True)),
        unreadable=tuple(unreadable),
        foreign=foreign,
    )


def _folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(e.name for e in entries if not e.name.startswith(".") and e.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        raise UsageError(f"{folder}: no such folder of runs", hint="name the one that --out named") from None
    except NotADirectoryError:
        raise UsageError(f"{folder} is a file, not a folder of runs") from None
    except OSError as error:
        raise UsageError(f"{folder} cannot be read: {error.strerror}") from error
    return [folder / name for name in names]


def decoded(path: Path, type_: type[T], schemas: tuple[int, ...]) -> T:
    """Raises FileNotFoundError for what is not there."""
    data = read_limited(path, MAX_BYTES, links=False)
    try:
        found = msgspec.json.decode(data, type=_Schema).schema
        if found not in schemas:
            raise Unreadable(f"{path.name} is of schema {str(found)[:20]}, of another version of the harness")
        return msgspec.json.decode(data, type=type_)
    except RecursionError as error:
        raise Unreadable(f"{path.name} is damaged: nested too deeply") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Unreadable(f"{path.name} is damaged: {decoding_error(error)}") from error


def seconds_of(iso: str) -> float:
    """A time of day as written, in seconds since 1970; without a zone it is UTC."""
    try:
        at = datetime.fromisoformat(iso)
        return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        raise Unreadable(f"its time {iso[:40]!r} is none") from error


def _suite(path: Path, name: str) -> Found | None:
    """The suite in this folder; None where it holds none."""
    try:
        suite = decoded(path / SUITE, SuiteResult, (SUITE_SCHEMA,))
    except FileNotFoundError:
        return None
    if suite.started is None:
        raise Unreadable("it never began")
    counts = counts_of(one.outcome for one in suite.experiments)
    entry = Entry(
        kind="suite",
        directory=name,
        started=suite.started,
        name=suite.name,
        faults=tuple(dict.fromkeys(fault for one in suite.experiments for fault in one.faults)),
        scenario=suite.scenario,
        scale=suite.scale,
        stack=suite.stack,
        verdict={0: "pass", 1: "fail"}.get(suite.exit_code, "inconclusive"),  # type: ignore[arg-type]
        exit_code=suite.exit_code,
        counts=counts,
        reason=next(iter(suite.reasons), ""),
        target_version=suite.target_version,
        harness=suite.harness,
        pruned=os.path.lexists(path / PRUNED),
    )
    parts = {attempt.directory: attempt.harm for each in suite.experiments for attempt in each.attempts}
    return Found(entry=entry, path=path, at=seconds_of(suite.started), suite=suite, parts=parts)


def _game_day(path: Path, name: str) -> Found | None:
    """The game day in this folder; None where it holds none."""
    try:
        day = decoded(path / GAMEDAY, GameDayRecord, (GAMEDAY_SCHEMA,))
    except FileNotFoundError:
        if os.path.lexists(path / GAMEDAY_PLAN):
            raise Unreadable(f"no {GAMEDAY}: it is going on, or ended without a record") from None
        return None
    answers = [one.answer if one.status == "done" else one.status for one in day.drills]
    held, broken = answers.count("confirmed"), answers.count("refuted")
    left = sum(one in ("skipped", "not_run") for one in answers)
    counts = Counts(held=held, broken=broken, unknown=len(answers) - held - broken - left, not_run=left)
    verdict: Verdict = "fail" if broken else "pass" if held == len(answers) else "inconclusive"
    entry = Entry(
        kind="gameday",
        directory=name,
        started=day.started,
        name=day.title,
        faults=tuple(dict.fromkeys(fault for one in day.drills for fault in one.plan.faults)),
        scenario=day.plan.scenario,
        scale=1.0,
        stack=day.plan.stack,
        verdict=verdict,
        exit_code=0,
        counts=counts,
        target_version=day.plan.target_version,
        harness=day.plan.harness,
        pruned=os.path.lexists(path / PRUNED),
    )
    parts = {one.directory: one.harm for one in day.drills if one.directory}
    return Found(entry=entry, path=path, at=seconds_of(day.started), parts=parts)


def counts_of(outcomes: Any) -> Counts:
    every = list(outcomes)
    return Counts(**{name: every.count(name) for name in ("held", "broken", "unknown", "not_run")})


def _run(path: Path, name: str, harm: int | None) -> Found | None:
    """The run in this folder; None where it holds none."""
    try:
        plan = decoded(path / PLAN, _Plan, READ_SCHEMAS)
    except FileNotFoundError:
        if os.path.lexists(path / RESULT):
            raise Unreadable(f"no {PLAN}") from None
        return None
    try:
        result = decoded(path / RESULT, _Result, (RESULT_SCHEMA,))
    except FileNotFoundError:
        raise Unreadable(f"no {RESULT}: it is going on, or ended before it was judged") from None
    if result.exit_code not in set(ExitCode) or (result.exit_code == ExitCode.PASS and result.verdict != "pass"):
        raise Unreadable(f"{RESULT} is damaged: exit code {str(result.exit_code)[:20]} with verdict {result.verdict}")
    made_by = plan.provenance or _Provenance()
    started = result.started or plan.created
    faults = tuple(fault.spec.text or fault.spec.name for fault in plan.faults)
    entry = Entry(
        kind="run",
        directory=name,
        started=started,
        name=" + ".join(fault.spec.name for fault in plan.faults) or CONTROL,
        faults=faults,
        scenario=plan.scenario.name,
        scale=plan.scale,
        stack=plan.stack,
        verdict=result.verdict,
        exit_code=result.exit_code,
        recovery=result.recovery.outcome if result.recovery else None,
        recovery_s=result.recovery.seconds if result.recovery else None,
        reason=next(iter(result.reasons), ""),
        target_version=made_by.target_version,
        harness=made_by.harness,
        pruned=os.path.lexists(path / PRUNED),
    )
    return Found(entry=entry, path=path, at=seconds_of(started), alike=_alike(plan), harm=harm)


def _alike(plan: _Plan) -> dict[str, str]:
    """What runs must have in common to stand in one line."""
    load = plan.load

    def described(fault: _Fault) -> str:
        params = ",".join(f"{key}={value}" for key, value in sorted(fault.change.params.items()))
        length = f"+{fault.for_s:g}s" if fault.for_s is not None else ""
        return f"{fault.spec.name}{f':{params}' if params else ''}@{fault.at_s:g}s{length}"

    return {
        "scenario": plan.scenario.name,
        "faults": " ".join(described(fault) for fault in plan.faults) or CONTROL,
        "load model": load.model,
        "rate": f"{load.rate:g} arrivals/s" if load.rate is not None else f"{load.users} users",
        "stack": plan.stack,
        "locustfile": load.locustfile_sha256,
    }


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """fault: a name, or a pattern with * and ?; "none" finds runs without one. since: seconds since 1970."""

    fault: str | None = None
    scenario: str | None = None
    verdict: Verdict | None = None
    since: float | None = None

    def __call__(self, found: Found) -> bool:
        entry = found.entry
        if self.since is not None and found.at < self.since:
            return False
        if self.scenario is not None and entry.scenario != self.scenario:
            return False
        if self.fault is None:
            return self.verdict in (None, entry.verdict)
        if found.suite is None:
            return self._has(entry.faults) and self.verdict in (None, entry.verdict)
        # A suite is found by the experiment that is asked for, and by what came of that one.
        outcome = {"held": "pass", "broken": "fail", "unknown": "inconclusive"}
        return any(
            one.outcome != "not_run" and self._has(one.faults) and self.verdict in (None, outcome[one.outcome])
            for one in found.suite.experiments
        )

    def _has(self, faults: tuple[str, ...]) -> bool:
        names = [re.split(r"[:@]", fault, maxsplit=1)[0] for fault in faults] or [CONTROL]
        return any(fnmatchcase(name, self.fault or "") for name in names)


def versions(entry: Entry) -> str:
    """`target 1.0.0, harness 0.1.0`."""
    return f"target {entry.target_version or 'of unknown version'}, harness {entry.harness or 'of unknown version'}"
