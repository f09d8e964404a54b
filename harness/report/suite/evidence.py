"""What a suite's folder has beside suite.json: each attempt's own report, and the advice of its result.

A directory in suite.json may be anybody's word: only a plain name of a real folder inside the suite's is followed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from harness.analysis import run_directory
from harness.model.errors import UsageError
from harness.model.records.many_runs.suite import Attempt, SuiteResult
from harness.report.files import FORMATS
from harness.report.findings.finding import Finding
from harness.report.findings.rules import findings
from harness.report.suite.sentences import Weakness

PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
NO_REMEDY = frozenset(
    {"undecided", "next-experiment", "saturated-generator", "baseline-broken", "fault-not-proven", "unsent-task"}
)
"""Findings that are advice on the next run, not on what is broken."""
MOST_READ = 100
"""Results of experiments; no suite has as many weaknesses."""


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """links: of attempts whose report is there, by directory. remedies: advice, by directory, the first thing first."""

    links: Mapping[str, str] = {}
    remedies: Mapping[str, tuple[Finding, ...]] = {}

    def link(self, attempt: Attempt | None) -> str:
        return self.links.get(attempt.directory, "") if attempt is not None else ""

    def remedy(self, attempt: Attempt | None) -> tuple[Finding, ...]:
        return self.remedies.get(attempt.directory, ()) if attempt is not None else ()


def evidence(suite_dir: Path, suite: SuiteResult, found: tuple[Weakness, ...]) -> Evidence:
    folders = [attempt.directory for one in suite.experiments for attempt in one.attempts]
    here = {name: suite_dir / name for name in folders if PLAIN.fullmatch(name)}
    here = {name: path for name, path in here.items() if path.is_dir() and not path.is_symlink()}
    page = FORMATS["html"]
    broken = [one.attempt.directory for one in found[:MOST_READ] if one.attempt is not None]
    return Evidence(
        links={name: f"{name}/{page}" for name, path in here.items() if (path / page).is_file()},
        remedies={name: _remedies(here[name]) for name in broken if name in here},
    )


def _remedies(run_dir: Path) -> tuple[Finding, ...]:
    """Nothing where the result cannot be read: the suite's report stands without."""
    try:
        found = run_directory.made_of(
            run_dir, lambda: findings(run_directory.read_plan(run_dir), run_directory.read_result(run_dir))
        )
    except UsageError:
        return ()
    return tuple(one for one in found if one.key not in NO_REMEDY)
