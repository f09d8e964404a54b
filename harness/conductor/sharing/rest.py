"""Is a shared target at rest, so that the baseline of the next experiment may begin?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from harness.analysis.live import restless
from harness.analysis.record.spans import spans
from harness.analysis.record.windows import WindowStore
from harness.analysis.rules.signatures import not_back
from harness.analysis.run_directory import SAMPLES
from harness.conductor.recording.history import History
from harness.conductor.sharing.carried import Carried
from harness.model.jsonl import read_lines
from harness.model.records.plan import Plan
from harness.model.records.samples import Sample

SAMPLES_EVERY_S = 1.0


class Restless:
    """What keeps the target from being at rest: its own targets, and what the fault before left in the
    dependencies."""

    def __init__(self, plan: Plan, folder: Path, history: History, before: Carried | None, held_s: float) -> None:
        self._plan = plan
        self._folder = folder
        self._history = history
        self._before = before
        self._held_s = held_s
        self._looked = -SAMPLES_EVERY_S
        self._left: tuple[str, ...] = ()

    def __call__(self, store: WindowStore, now_s: float) -> str:
        found = restless(store, self._plan, now_s, self._held_s)
        if not found and self._before is not None and self._before.recovered:
            if now_s - self._looked >= SAMPLES_EVERY_S:
                self._looked = now_s
                self._left = self._of_dependencies(self._before)
                if not self._left:
                    self._before = None  # it is back, and is not looked at again
            found = "; ".join(self._left)
        return f"not yet at rest: {found}" if found else ""

    def _of_dependencies(self, before: Carried) -> tuple[str, ...]:
        later_s = self._history.t0 - before.history.t0
        samples = [*_samples(before.folder), *(_moved(one, later_s) for one in _samples(self._folder))]
        phases = spans(before.events, before.end - before.first)
        return not_back(before.plan, before.events, phases, samples)


class Waiting:
    """The same while people are waited for: at rest or not, no baseline begins. at_rest: as it was seen last."""

    def __init__(self, restless: Restless, told: Callable[[str], str]) -> None:
        self._restless = restless
        self._told = told
        self.at_rest = False

    def __call__(self, store: WindowStore, now_s: float) -> str:
        found = self._restless(store, now_s)
        self.at_rest = not found
        return self._told(found)


def _samples(folder: Path) -> list[Sample]:
    try:
        return list(read_lines(folder / SAMPLES, Sample))
    except (OSError, ValueError):
        return []


def _moved(sample: Sample, seconds: float) -> Sample:
    counters = {
        name: {**row, "at": row["at"] + seconds} if "at" in row else row for name, row in sample.counters.items()
    }
    return replace(sample, at=sample.at + seconds, counters=counters)
