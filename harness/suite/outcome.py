"""What a suite has come to so far: kept while it goes on, and its result at the end."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec

from harness.analysis.suite.cells import cells_of
from harness.analysis.suite.score import majority, score
from harness.conductor.series import Carried
from harness.model.errors import HarnessError
from harness.model.exit_codes import ExitCode
from harness.model.jsonl import encode
from harness.model.records.events import UndoNotVerified
from harness.model.records.plan import Plan, Provenance
from harness.model.records.result import Result
from harness.model.records.stack import StackUp
from harness.model.records.suite import (
    Attempt,
    Excluded,
    ExperimentOutcome,
    ExperimentResult,
    SuiteResult,
)
from harness.plan.suite.items import definition
from harness.suite.prepare import PlannedItem, PlannedSuite
