"""What so many runs can show, said beforehand: from earlier groups of the same experiment, and from nothing else."""

from __future__ import annotations

import math
import statistics
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from harness.analysis.comparison.power import largest_spread, smallest_change
from harness.model.records.many_runs.group import Comparison, Group, GroupRun
from harness.model.records.plan import Plan
from harness.suite.spread import Spread, beforehand, known_spread
from tests.analysis.histories import Scene
from tests.analysis.suite.suites import attempt, experiment, suite

PLAN = Scene(rate=50.0).build().plan
PAIRS = Comparison(
    answer="cannot_tell", exit_code=3, method="pairs", margin=0.5, pairs=5, spread=0.3, span_s=35.0,
    scenario="target", base=(), new=(),
)  # fmt: skip


def pairs(to: Path, found: Comparison | bytes = PAIRS, plan: Plan = PLAN) -> Path:
    (to / "a" / "01").mkdir(parents=True)
    (to / "a" / "01" / "plan.json").write_bytes(msgspec.json.encode(plan))
    data = found if isinstance(found, bytes) else msgspec.json.encode(found)
    (to / "comparison.json").write_bytes(data)
    run = GroupRun(directory="a/01", label="A", pair=1)
    (to / "group.json").write_bytes(msgspec.json.encode(Group(kind="versus", runs=(run,))))
    return to


def repeat(to: Path, *harms: int | None) -> Path:
    (to / "01").mkdir(parents=True)
    (to / "01" / "plan.json").write_bytes(msgspec.json.encode(PLAN))
    found = suite(*[experiment(f"x{number}", attempt(harm=harm)) for number, harm in enumerate(harms)])
    (to / "suite.json").write_bytes(msgspec.json.encode(found))
    run = GroupRun(directory="01", label="A", pair=1)
    (to / "group.json").write_bytes(msgspec.json.encode(Group(kind="repeat", runs=(run,))))
    return to


def test_the_spread_of_pairs_is_pooled_over_groups(tmp_path: Path) -> None:
    assert known_spread(PLAN, tmp_path / "none", paired=True) is None
    pairs(tmp_path / "1")
    assert known_spread(PLAN, tmp_path, paired=True) == Spread(value=0.3, known=5)
    pairs(tmp_path / "2", replace(PAIRS, pairs=9, spread=0.6))
    pooled = math.sqrt((4 * 0.09 + 8 * 0.36) / 12)
    found = known_spread(PLAN, tmp_path, paired=True)
    assert found is not None and found.value == pytest.approx(pooled) and found.known == 13
    assert known_spread(PLAN, tmp_path, paired=False) is None


def test_runs_of_a_repeat_show_it_for_groups(tmp_path: Path) -> None:
    repeat(tmp_path / "1", 100, 140, None, 80)
    spread = math.sqrt(2) * statistics.stdev([math.log(harm + 10) for harm in (100, 140, 80)])
    found = known_spread(PLAN, tmp_path, paired=False)
    assert found is not None and found.value == pytest.approx(spread) and found.known == 3
    assert known_spread(PLAN, tmp_path, paired=True) is None


@pytest.mark.parametrize(
    "found",
    [b"{", b"[" * 100_000, b"\xff", replace(PAIRS, spread=-1.0), replace(PAIRS, spread=1e300),
     replace(PAIRS, pairs=1), replace(PAIRS, pairs=10**9), replace(PAIRS, spread=None),
     replace(PAIRS, method="groups")],
)  # fmt: skip
def test_what_is_damaged_or_no_pairs_shows_nothing(found: Comparison | bytes, tmp_path: Path) -> None:
    pairs(tmp_path / "1", found)
    pairs(tmp_path / "2", plan=replace(PLAN, load=replace(PLAN.load, rate=51.0)))  # another experiment
    (tmp_path / "3").mkdir()
    (tmp_path / "3" / "group.json").write_text("{")
    (tmp_path / "link").symlink_to(pairs(tmp_path.parent / f"{tmp_path.name}-elsewhere"))
    assert known_spread(PLAN, tmp_path, paired=True) is None


def test_what_is_said_beforehand(tmp_path: Path) -> None:
    said = beforehand(PLAN, 10, tmp_path, paired=True)
    assert "not known yet" in said and "10 pairs find a doubling" in said and said.endswith("at most 0.48")
    assert "2 pairs cannot show that it is worse: that takes 7 at least" in beforehand(PLAN, 2, tmp_path, paired=True)
    assert "10 runs against 10" in beforehand(PLAN, 10, tmp_path, paired=False)
    assert "is not known beforehand: it is from 7 on" in beforehand(PLAN, 6, tmp_path, paired=False)
    pairs(tmp_path / "1")
    said = beforehand(PLAN, 10, tmp_path, paired=True)
    assert said.startswith("10 pairs find, in nine cases of ten, that harm has changed by +")
    assert "from the spread of 5 pairs in " in said and "few pairs have shown" in said and "not known" not in said
    assert "not known yet" in beforehand(PLAN, 10, tmp_path, paired=False)
    pairs(tmp_path / "2", replace(PAIRS, pairs=30))
    assert "few pairs" not in beforehand(PLAN, 10, tmp_path, paired=True)


def test_with_the_largest_spread_a_doubling_is_found_and_with_more_it_is_not() -> None:
    for pairs_, change in ((7, 1.0), (12, 0.8)):
        largest = largest_spread(pairs_, change, 0.5)
        assert largest is not None
        assert smallest_change(pairs_, largest, 0.5) <= change + 0.03
        assert smallest_change(pairs_, largest + 0.05, 0.5) > change
    assert largest_spread(6, 1.0, 0.5) is None and largest_spread(31, 1.0, 0.5) is None
