"""A game day's folder read back. It may be anybody's: what is wrong with a file is a line, and no name in one leads out
of the folder."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from harness.analysis.comparison.harm import whole_harm
from harness.analysis.gameday.record import Drilled, Unjudged, record_of
from harness.analysis.record.healed import was_lost
from harness.analysis.run_directory import RESULT, Run, load_beside, load_run, made_of, read_result
from harness.analysis.verdict.proofs import fault_results, left_over
from harness.model.errors import HarnessError, UsageError
from harness.model.files import cannot_be_read, read_limited, replace_file
from harness.model.jsonl import decoding_error, encode, read_lines
from harness.model.records.many_runs.gameday import SCHEMA, Act, GameDayPlan, GameDayRecord
from harness.model.records.result import Result

GAMEDAY = "gameday.json"
GAMEDAY_PLAN = "gameday-plan.json"
PEOPLE = "people.jsonl"
MAX_BYTES = 16_000_000
MAX_PEOPLE_BYTES = 100_000_000
"""More than as many acts as a desk takes, each as long as it can be."""
MOST_DRILLS = 50
MOST_DEPENDENCIES = 50
"""Of one drill."""
LATEST_S = 31 * 86400.0
_DIRECTORY = re.compile(r"drill-[0-9]{2,5}")

T = TypeVar("T", GameDayPlan, GameDayRecord)
Seen = Callable[[str, Run, Result], None]
"""Told of each drill whose whole record is there: directory, record, result."""


def is_game_day(folder: Path) -> bool:
    return (folder / GAMEDAY_PLAN).is_file()


def read_plan(folder: Path) -> GameDayPlan:
    """Raises UsageError when it is missing or damaged, or of a schema that this version does not read."""
    path = folder / GAMEDAY_PLAN
    plan = _decoded(path, GameDayPlan)
    if (wrong := _wrong_with_plan(plan)) is not None:
        raise UsageError(f"{path} is damaged: {wrong}")
    return plan


def read_acts(folder: Path) -> tuple[Act, ...]:
    """What was written down, up to where the file is torn. Raises UsageError for a damaged line before the last."""
    path = folder / PEOPLE
    try:
        if path.stat().st_size > MAX_PEOPLE_BYTES:
            raise UsageError(f"{path}: over {MAX_PEOPLE_BYTES / 1e6:g} MB, which no such file is")
        return tuple(read_lines(path, Act, _wrong_with_act))
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise cannot_be_read(path, error) from error
    except ValueError as error:
        raise UsageError(f"{path} is damaged: {error}") from error


def read_record(folder: Path, seen: Seen | None = None) -> GameDayRecord:
    """Made anew from all that is there. Raises UsageError; a drill whose record is damaged says so in its `why`."""
    plan, acts = read_plan(folder), read_acts(folder)
    started = dict.fromkeys(act.directory for act in acts if act.kind == "started")
    return record_of(plan, acts, {directory: _drilled(folder / directory, seen) for directory in started})


def _drilled(folder: Path, seen: Seen | None) -> Drilled | Unjudged | str:
    """Or why nothing is known of it."""
    if folder.is_symlink():
        return "its directory is a link"
    if not os.path.lexists(folder / RESULT):
        return _unjudged(folder)
    try:
        result = read_result(folder)
    except (HarnessError, OSError) as error:
        return f"its result cannot be read: {error}"
    try:
        return made_of(folder, lambda: _whole(folder, result, seen))
    except (HarnessError, OSError):
        return Drilled(result=result, harm=None)


def _unjudged(folder: Path) -> Unjudged | str:
    """What is known of a drill that has no result: the run was killed, or goes on."""

    def made() -> Unjudged:
        plan, history, _ = load_beside(folder)
        faults, left = fault_results(plan, history), left_over(plan, history)
        return Unjudged(history=history, faults=faults, left=left, lost=was_lost(folder.parent))

    try:
        return made_of(folder, made)
    except (HarnessError, OSError) as error:
        return f"its result is missing, and its record cannot be read: {error}"


def _whole(folder: Path, result: Result, seen: Seen | None) -> Drilled:
    run = load_run(folder)
    if seen is not None:
        seen(folder.name, run, result)
    return Drilled(result=result, harm=whole_harm(run.plan, run.history, run.store))


def _wrong_with_act(act: Act) -> str | None:
    if not 0 <= act.at <= LATEST_S or not abs(act.seconds or 0.0) <= LATEST_S:
        return "a time that no game day has"
    if act.kind == "started" and not _DIRECTORY.fullmatch(act.directory):
        return f"{act.directory[:60]!r} is no drill's directory"
    return None


def _wrong_with_plan(plan: GameDayPlan) -> str | None:
    if len(plan.drills) > MOST_DRILLS or any(len(one.dependencies) > MOST_DEPENDENCIES for one in plan.drills):
        return "it has more drills, or dependencies of one, than a game day can have"
    if any(not 0 <= seconds <= LATEST_S for one in plan.drills for seconds in (one.pause_s, one.seconds)):
        return "a time that no game day has"
    return None


def write_plan_told(folder: Path, plan: GameDayPlan) -> None:
    """gameday-plan.json. Raises OSError."""
    replace_file(folder / GAMEDAY_PLAN, msgspec.json.format(encode(plan), indent=2) + b"\n")


def write_record(folder: Path, record: GameDayRecord) -> None:
    """gameday.json. Raises OSError."""
    replace_file(folder / GAMEDAY, msgspec.json.format(encode(record), indent=2) + b"\n")


class _Schema(msgspec.Struct):
    schema: int = SCHEMA


def _decoded(path: Path, type_: type[T]) -> T:
    try:
        data = read_limited(path, MAX_BYTES, links=False)
    except FileNotFoundError:
        raise UsageError(f"{path} is missing: this is not a game day's directory") from None
    try:
        schema = msgspec.json.decode(data, type=_Schema).schema
        if schema != SCHEMA:
            raise UsageError(
                f"{path} is of schema {str(schema)[:20]}, and this version of the harness reads schema {SCHEMA}",
                hint="read it with the version that wrote it",
            )
        return msgspec.json.decode(data, type=type_)
    except RecursionError as error:
        raise UsageError(f"{path} is damaged: nested too deeply") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is damaged: {decoding_error(error)}") from error
