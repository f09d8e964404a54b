"""Memory over a session: many short stretches between faults, which alone would say nothing."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from harness.analysis.rules.memory import session_memory
from harness.analysis.suite.session_memory import Part, memory_of
from harness.model.records import events as ev
from harness.model.records.result import MemoryResult
from harness.model.records.samples import ProcessUse, Sample
from tests.analysis.histories import INJECTED, Run, Scene

MB = 1_000_000
LENGTH = 64
"""Seconds of an experiment: 23 before the fault, 20 of it, 21 after it."""
Rss = Callable[[float], float]
NOISE = random.Random(5)


def level(at: float) -> float:
    return 200 * MB + NOISE.gauss(0, 0.2 * MB)


def session(folder: Path, rss: Rss, many: int = 10, restarted: int = -1, target: int = -1) -> list[Part]:
    """rss: of the seconds of the session. restarted, target: the experiment after which the target was started again,
    the one whose fault is of the target itself."""
    parts = []
    run = Scene(rate=50.0).build()
    for number in range(many):
        t0 = 1000.0 + number * LENGTH
        events = [msgspec.structs.replace(e, monotonic=t0) if isinstance(e, ev.Started) else e for e in run.events]
        samples = [
            Sample(at=at, trees={"target": ProcessUse(cpu_s=1.0, rss=round(rss(number * LENGTH + at)))})
            for at in map(float, range(LENGTH))
        ]
        plan = run.plan
        if number == target:
            change = plan.faults[0].change
            api = msgspec.structs.replace(change.dependency, name="api", target=True)
            change = msgspec.structs.replace(change, dependency=api)
            plan = msgspec.structs.replace(plan, faults=(msgspec.structs.replace(plan.faults[0], change=change),))
        Run(plan, events, [], samples).write(folder / str(number))
        parts.append(Part(run_dir=folder / str(number), restarted=number == restarted))
    return parts


def judged(folder: Path, rss: Rss, **more: int) -> MemoryResult:
    found = memory_of(session(folder, rss, **more))
    assert found is not None
    return found


def test_a_leak_over_the_session_is_found(tmp_path: Path) -> None:
    found = judged(tmp_path, lambda at: level(at) + 0.05 * MB * at)
    assert found.outcome == "growing" and "between faults" in found.why
    assert found.slope == pytest.approx(0.05 * 3600 / 215, rel=0.15)


def test_a_steady_service_is_stable_and_a_short_session_is_not_judged(tmp_path: Path) -> None:
    found = judged(tmp_path / "long", level)
    assert found.outcome == "stable" and found.slope is not None
    short = judged(tmp_path / "short", level, many=3)
    assert short.outcome == "not_judged" and "300 s" in short.why and short.slope is None


def test_what_a_fault_does_is_no_growth(tmp_path: Path) -> None:
    """Memory of the fault phase, pools that fill again after each, and a lasting step."""

    def during(at: float) -> float:
        return level(at) + (80 * MB if INJECTED <= at % LENGTH < 43 else 0) * at / 640

    def pools(at: float) -> float:
        return level(at) + 0.2 * MB * ((at - 43) % LENGTH)

    def step(at: float) -> float:
        return level(at) + (20 * MB if at > 7 * LENGTH + 30 else 0)

    for number, rss in enumerate((during, pools, step)):
        assert judged(tmp_path / str(number), rss).outcome == "stable", rss.__name__


@pytest.mark.parametrize("how", ["restarted", "target"])
def test_a_target_that_was_started_again_begins_anew(tmp_path: Path, how: str) -> None:
    """It is small again, and takes what it needs in its first seconds."""
    start = 5 * LENGTH if how == "restarted" else 4 * LENGTH + 43

    def rss(at: float) -> float:
        return level(at) + (100 * MB if at < start else 5 * MB * min(28.0, at - start))

    def leak(at: float) -> float:
        return level(at) + (60 * MB if at < start else 0) + 0.05 * MB * (at if at < start else at - start)

    assert judged(tmp_path / "steady", rss, **{how: 4}).outcome == "stable"
    assert judged(tmp_path / "leak", leak, **{how: 4}).outcome == "growing"
    # In one part the fall would hide the leak.
    assert judged(tmp_path / "not known", leak).outcome == "stable"


def test_what_cannot_be_read_tells_nothing(tmp_path: Path) -> None:
    parts = session(tmp_path, lambda at: level(at) + 0.05 * MB * at)
    (parts[4].run_dir / "samples.jsonl").write_text("garbage\n")
    found = memory_of(parts)
    assert found is not None and found.outcome == "growing"
    assert memory_of([]) is None and memory_of([Part(run_dir=tmp_path / "none")]) is None
    assert session_memory([[[]]], seed=1).outcome == "not_judged"
