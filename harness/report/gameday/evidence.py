"""What a game day's folder has beside people.jsonl: each drill's own report, and what its charts are drawn from.

A drill's directory is a plain name by then (harness/analysis/gameday/files.py); that of a link is not followed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from harness.analysis.gameday.files import read_record
from harness.analysis.run_directory import Run, made_of
from harness.analysis.verdict.timeline import chart_data
from harness.model.errors import UsageError
from harness.model.records.many_runs.gameday import DrillRecord, GameDayRecord
from harness.model.records.result import Result
from harness.report.files import FORMATS
from harness.report.html import charts

if TYPE_CHECKING:
    from harness.analysis.verdict.timeline import ChartData

MOST_CHARTED = 50
"""Drills; a plan has no more."""


class Drawn(msgspec.Struct, frozen=True, kw_only=True):
    """folder: of the drill."""

    folder: Path
    run: Run
    result: Result
    chart: ChartData

    def panels(self, points: int) -> tuple[charts.Panel, ...]:
        """None of a record that contradicts itself: the drill's own report says so."""
        run = self.run

        def drawn() -> tuple[charts.Panel, ...]:
            return charts.of_requests(run.plan, self.result, self.chart, run.history, points)

        try:
            return made_of(self.folder, drawn)
        except UsageError:
            return ()


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """By directory. links: of drills whose report is there. drawn: of those whose record is there."""

    links: Mapping[str, str] = {}
    drawn: Mapping[str, Drawn] = {}

    def link(self, drill: DrillRecord) -> str:
        return self.links.get(drill.directory, "")


def read(folder: Path) -> tuple[GameDayRecord, Evidence]:
    """The record made anew, and what is beside it: each drill is read once. Raises UsageError."""
    drawn: dict[str, Drawn] = {}

    def seen(directory: str, run: Run, result: Result) -> None:
        if len(drawn) < MOST_CHARTED:
            chart = chart_data(run.store, run.samples, run.history)
            drawn[directory] = Drawn(folder=folder / directory, run=run, result=result, chart=chart)

    record = read_record(folder, seen)
    return record, Evidence(links=_links(folder, record), drawn=drawn)


def _links(folder: Path, record: GameDayRecord) -> dict[str, str]:
    page = FORMATS["html"]
    here = {drill.directory for drill in record.drills if drill.directory}
    here = {name for name in here if not (folder / name).is_symlink() and (folder / name / page).is_file()}
    return {name: f"{name}/{page}" for name in sorted(here)}
