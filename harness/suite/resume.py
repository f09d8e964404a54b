"""A suite that ended early goes on: what it has found stays, what was not run is carried out."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec
from msgspec.structs import replace

from harness.analysis.record.clean import CleanBaseline
from harness.analysis.run_directory import load_run, made_of, read_result
from harness.analysis.suite.suite_file import read_suite
from harness.conductor.sharing.finisher import clean_of
from harness.model.errors import HarnessError, Refused, UsageError
from harness.model.exit_codes import ExitCode
from harness.model.records.many_runs.suite import SuiteResult
from harness.plan.suite.items import definition, load_of
from harness.safety.state_folders import known
from harness.suite.prepare import PlannedSuite

BROKEN_OFF = (ExitCode.INTERRUPTED, ExitCode.HARNESS_FAILED)
"""Attempts that ended so are made again."""


class Earlier(msgspec.Struct, frozen=True, kw_only=True):
    """folder: the suite's. result: what it has come to so far, without attempts that were broken off."""

    folder: Path
    result: SuiteResult

    @property
    def done(self) -> frozenset[str]:
        return frozenset(one.name for one in self.result.experiments if one.attempts)

    @property
    def last_number(self) -> int:
        """Of its experiments' folders, one that was broken off among them."""
        names = (path.name.partition("-")[0] for path in self.folder.iterdir() if path.is_dir())
        return max((int(name) for name in names if name.isascii() and name.isdigit() and len(name) < 6), default=0)


def read_earlier(folder: Path) -> Earlier:
    """Raises UsageError for a folder without a suite's result, Refused for a suite that may still be going on."""
    folder = folder.resolve()
    result = read_suite(folder)
    whole = tuple(
        replace(one, attempts=tuple(each for each in one.attempts if each.exit_code not in BROKEN_OFF))
        for one in result.experiments
    )
    active = known(folder.name)
    if active is not None:
        raise Refused(
            f"{folder}: this suite is still going on, or left something behind",
            hint=f"once its process has ended: harness heal {active}",
        )
    return Earlier(folder=folder, result=replace(result, experiments=whole))


def clean_before(earlier: Earlier) -> tuple[CleanBaseline, ...]:
    """The clean baselines of what the suite has carried out so far, in order; what is too little, damaged or pruned is
    none. Which of them are of the same load and version the experiments that follow say (for_plan)."""
    attempts = [attempt for one in earlier.result.experiments for attempt in one.attempts]
    found: list[CleanBaseline] = []
    for attempt in sorted(attempts, key=lambda each: each.started or ""):
        folder = earlier.folder / attempt.directory
        if Path(attempt.directory).name != attempt.directory or folder.is_symlink():
            continue
        with suppress(HarnessError, OSError, ValueError):
            found += made_of(folder, partial(_clean, folder))
    return tuple(found)


def _clean(folder: Path) -> tuple[CleanBaseline, ...]:
    return clean_of(folder, load_run(folder), read_result(folder))


def check_same(earlier: Earlier, planned: PlannedSuite) -> None:
    """Raises UsageError where what is planned is another suite than the one that is to go on."""
    hint = f"give the same arguments and files as before: {earlier.result.command}"
    if earlier.result.load != load_of(planned.base.plan):
        raise UsageError(f"{earlier.folder}: the suite there had another load", hint=hint)
    before = {one.name: one.definition for one in earlier.result.experiments}
    now = {one.item.name: definition(one.plan) for one in planned.items}
    other = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    if other:
        raise UsageError(f"{earlier.folder}: the suite there had another {other[0]}", hint=hint)
    if earlier.done >= now.keys():
        raise UsageError(f"{earlier.folder}: every experiment of it has been carried out")
