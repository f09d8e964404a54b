"""suite.json, and gate.json beside it, read back. They may be anybody's: what is wrong with one is a line."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import get_args

import msgspec

from harness.model.errors import UsageError
from harness.model.exit_codes import ExitCode
from harness.model.files import read_limited
from harness.model.jsonl import decodes
from harness.model.records.many_runs.gate import GateResult
from harness.model.records.many_runs.suite import SCHEMA, Cell, ExperimentOutcome, SuiteResult

SUITE = "suite.json"
GATE = "gate.json"
"""What the gate said of the suite; not there where nothing had been accepted."""

MAX_BYTES = 64_000_000
"""Sixty experiments have a megabyte or two."""

MAX_LEVEL = 1e9


class _Schema(msgspec.Struct):
    schema: int = SCHEMA


def read_suite(suite_dir: Path) -> SuiteResult:
    """Raises UsageError when it is missing or damaged, or of a schema that this version does not read."""
    path = suite_dir / SUITE
    try:
        data = read_limited(path, MAX_BYTES, links=False)
    except FileNotFoundError:
        raise UsageError(f"{path} is missing: this is not a suite's directory") from None
    with decodes(path):
        schema = msgspec.json.decode(data, type=_Schema).schema
        if schema != SCHEMA:
            raise UsageError(
                f"{path} is of schema {str(schema)[:20]}, and this version of the harness reads schema {SCHEMA}",
                hint="read it with the version that wrote it",
            )
        suite = msgspec.json.decode(data, type=SuiteResult)
    wrong = _wrong(suite)
    if wrong:
        raise UsageError(f"{path} is damaged: {wrong} cannot be")
    return suite


def read_gate(suite_dir: Path) -> GateResult | None:
    """None where there is none. Raises UsageError when it is damaged."""
    path = suite_dir / GATE
    try:
        with decodes(path):
            found = msgspec.json.decode(read_limited(path, MAX_BYTES, links=False), type=GateResult)
    except FileNotFoundError:
        return None
    if found.exit_code not in set(ExitCode):
        raise UsageError(f"{path} is damaged: exit code {str(found.exit_code)[:20]} cannot be")
    return found


def _wrong(suite: SuiteResult) -> str:
    """What no suite has; empty: nothing."""
    if suite.exit_code not in set(ExitCode):
        return f"exit code {str(suite.exit_code)[:20]}"
    for told, value in (("length", suite.seconds), ("rate", suite.rate), ("scale", suite.scale)):
        if value is not None and not 0 <= value < MAX_LEVEL:
            return f"its {told}"
    names = Counter(one.name for one in suite.experiments)
    for one in suite.experiments:
        said = repr(one.name[:60])
        if names[one.name] > 1:
            return f"two experiments {said}"
        if not 0 < one.weight < MAX_LEVEL:
            return f"the weight of {said}"
        for attempt in one.attempts:
            if not all(_is_cell(cell) for cell in attempt.cells):
                return f"the counts of a request name in {said}"
            if attempt.recovery_s is not None and not 0 <= attempt.recovery_s < MAX_LEVEL:
                return f"the recovery of {said}"
            counted = (attempt.harm, attempt.violating_s, attempt.lost_writes, attempt.seconds)
            if not all(value is None or 0 <= value < MAX_LEVEL for value in counted):
                return f"the harm of {said}"
            if len({cell.request for cell in attempt.cells}) < len(attempt.cells):
                return f"a request name twice in {said}"
    score, counts = suite.score, Counter(one.outcome for one in suite.experiments)
    if any(getattr(score, outcome) != counts[outcome] for outcome in get_args(ExperimentOutcome)):
        return "a score of other experiments"
    if not 0 <= score.low <= score.high <= 100:
        return "a score that is not from 0 to 100"
    return ""


def _is_cell(cell: Cell) -> bool:
    return 0 <= cell.failed <= cell.bad <= cell.n < MAX_LEVEL and 0 <= cell.allowed <= 1
