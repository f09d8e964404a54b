"""A game day's folder read back. It may be anybody's: what is wrong with a file is a line, and no name in one leads out
of the folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TypeVar

import msgspec

from harness.analysis.comparison.harm import whole_harm
from harness.analysis.gameday.record import Drilled, record_of
from harness.analysis.run_directory import load_run, read_result
from harness.model.errors import HarnessError, UsageError
from harness.model.files import read_limited, replace_file
from harness.model.jsonl import decoding_error, encode, read_lines
from harness.model.records.many_runs.gameday import SCHEMA, Act, GameDayPlan, GameDayRecord

GAMEDAY = "gameday.json"
GAMEDAY_PLAN = "gameday-plan.json"
PEOPLE = "people.jsonl"
MAX_BYTES = 16_000_000
_DIRECTORY = re.compile(r"drill-[0-9]{2,4}")

T = TypeVar("T", GameDayPlan, GameDayRecord)


def is_game_day(folder: Path) -> bool:
    return (folder / GAMEDAY_PLAN).is_file()


def read_plan(folder: Path) -> GameDayPlan:
    """Raises UsageError when it is missing or damaged, or of a schema that this version does not read."""
    return _decoded(folder / GAMEDAY_PLAN, GameDayPlan)


def read_acts(folder: Path) -> tuple[Act, ...]:
    """What was written down, up to where the file is damaged. Raises UsageError for a damaged line before the last."""
    path = folder / PEOPLE
    try:
        return tuple(read_lines(path, Act))
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path} is damaged: {error}") from error


def read_record(folder: Path) -> GameDayRecord:
    """Made anew from all that is there. Raises UsageError; a drill whose record is damaged says so in its `why`."""
    plan, acts = read_plan(folder), read_acts(folder)
    drilled: dict[str, Drilled | str] = {}
    for act in acts:
        if act.kind == "started":
            if not _DIRECTORY.fullmatch(act.directory):
                raise UsageError(f"{folder / PEOPLE} is damaged: {act.directory[:60]!r} is no drill's directory")
            drilled[act.directory] = _drilled(folder / act.directory)
    return record_of(plan, acts, drilled)


def _drilled(folder: Path) -> Drilled | str:
    """Or why nothing is known of it."""
    try:
        result = read_result(folder)
    except (HarnessError, OSError) as error:
        return f"it has no result: {error}"
    try:
        run = load_run(folder)
    except (HarnessError, OSError, ValueError):
        return Drilled(result=result, harm=None)
    return Drilled(result=result, harm=whole_harm(run.plan, run.history, run.store))


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
