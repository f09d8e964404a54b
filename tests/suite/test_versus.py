"""Pairs of two versions: what is drawn, what they leave, and what ends them. Their runs are synthetic records here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from harness import api
from harness.compare.groups import read_group
from harness.conductor.prepare import Planned, prepare
from harness.conductor.run import Ended
from harness.conductor.signals import Signals
from harness.model.errors import Refused, SetupError, UsageError
from harness.model.records.many_runs.group import Comparison
from harness.plan.experiment import Experiment
from harness.suite import versus
from harness.suite.versus import VersusEnded, draw, run_pairs
from tests.compare.test_comparing_runs import made

NAMES = {"a": 0.2, "b": 0.6}


@pytest.fixture(scope="module")
def planned() -> Planned:
    return prepare(Experiment(seed=7, rate=50.0, faults=("redis-latency",)))


class Runs:
    """In place of run_planned. shares: of bad requests, by side. ends: what becomes of a run, by its number."""

    def __init__(self, shares: dict[str, float], ends: dict[int, Any]) -> None:
        self.shares, self.ends = shares, ends
        self.plans: list[Any] = []

    def __call__(self, planned: Planned, *, out: Path, signals: Signals, **_: object) -> Ended:
        self.plans.append(planned.plan)
        number = len(self.plans)
        end = self.ends.get(number, 0)
        if isinstance(end, Exception):
            raise end
        if callable(end):
            end = end(signals)
        folder = made(number, self.shares[out.name]).write(out / planned.plan.experiment)
        result = replace(api.analyze(folder), exit_code=end)
        return Ended(plan=planned.plan, result=result, run_dir=folder, problem="it broke" if end == 4 else None)


@pytest.fixture
def carried(planned: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    lines: list[str] = []

    def carry(pairs: int, shares: dict[str, float] = NAMES, **ends: Any) -> tuple[VersusEnded, Runs, list[str]]:
        runs = Runs(shares, {int(key.removeprefix("at")): end for key, end in ends.items()})
        monkeypatch.setattr(versus, "run_planned", runs)
        ended = run_pairs(
            planned, planned, pairs, name="slow", declared="X=1", out=tmp_path / "runs", view="none",
            command="harness run", signals=Signals(), say=lines.append,
        )  # fmt: skip
        return ended, runs, lines

    yield carry


def test_what_is_drawn_comes_from_the_seed_alone() -> None:
    assert draw(30, 7) == draw(30, 7) != draw(30, 8)
    assert draw(30, 7)[:10] == draw(10, 7)
    assert {one.order for one in draw(30, 7)} == {("A", "B"), ("B", "A")}
    assert len({one.seed for one in draw(30, 7)}) == 30
    first = sum(one.order[0] == "A" for seed in range(200) for one in draw(10, seed))
    assert 900 < first < 1100


def test_pairs_leave_two_groups_and_the_comparison(carried: Callable[..., Any]) -> None:
    ended, runs, _ = carried(7)
    assert (ended.exit_code, ended.comparison.answer, ended.comparison.method) == (1, "worse", "pairs")
    group = read_group(ended.folder)
    assert (group.kind, group.version, group.declared, group.seed) == ("versus", "slow", "X=1", 7)
    order = [label for one in draw(7, 7) for label in one.order]
    assert [one.label for one in group.runs] == order and [one.pair for one in group.runs] == sorted([*range(1, 8)] * 2)
    assert [plan.seed for plan in runs.plans] == [one.seed for one in draw(7, 7) for _ in "ab"]
    assert all("fault" not in plan.phases.extend for plan in runs.plans)
    assert len({plan.experiment for plan in runs.plans}) == 14
    saved = msgspec.json.decode((ended.folder / "comparison.json").read_bytes(), type=Comparison)
    assert saved == ended.comparison == api.compare(ended.folder)


def test_equal_versions_are_not_worse_and_few_pairs_cannot_tell(carried: Callable[..., Any]) -> None:
    assert carried(7, {"a": 0.2, "b": 0.2})[0].exit_code == 0
    assert carried(2, {"a": 0.2, "b": 0.2})[0].exit_code == 3


def test_the_sides_are_compared_as_the_pairs_that_they_are(carried: Callable[..., Any]) -> None:
    folder = carried(2)[0].folder
    there, back = api.compare(folder / "a", folder / "b"), api.compare(folder / "b", folder / "a")
    assert there == api.compare(folder)
    assert (back.method, back.pairs) == ("pairs", 2) and there.change is not None and there.change > 0
    assert back.change == pytest.approx(1 / (1 + there.change) - 1, abs=1e-5)
    # Each is a group like any other.
    assert api.compare(folder / "a", folder / "b" / there.new[0].directory.rsplit("/")[-1]).method == "groups"


def test_a_group_without_its_file_is_no_pairs(carried: Callable[..., Any]) -> None:
    folder = carried(2)[0].folder
    (folder / "group.json").unlink()
    assert api.compare(folder / "a", folder / "b").method == "groups"


@pytest.mark.parametrize("name", ["a/../x", "b/x", "a//x", "a/x/y", "/etc", "a/"])
def test_a_directory_is_a_name_in_the_side_s_folder(carried: Callable[..., Any], name: str) -> None:
    folder = carried(2)[0].folder
    group = read_group(folder)
    run = replace(next(one for one in group.runs if one.label == "A"), directory=name)
    (folder / "group.json").write_bytes(msgspec.json.encode(replace(group, runs=(run,))))
    with pytest.raises(UsageError, match="is not the name of a run directory in it"):
        api.compare(folder)


def test_a_side_that_is_a_link_is_refused(carried: Callable[..., Any], tmp_path: Path) -> None:
    folder = carried(2)[0].folder
    (folder / "a").rename(tmp_path / "elsewhere")
    (folder / "a").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="a is a link, not a run directory"):
        api.compare(folder)


@pytest.mark.parametrize("code", [4, 5, 130])
def test_a_run_that_ends_otherwise_ends_all_with_its_code(carried: Callable[..., Any], code: int) -> None:
    ended, runs, _ = carried(3, at3=code)
    assert (ended.exit_code, ended.comparison, len(runs.plans)) == (code, None, 3)
    assert ended.problem.startswith("pair 2, ") and len(read_group(ended.folder).runs) == 3
    assert not (ended.folder / "comparison.json").exists()


def test_verdicts_end_nothing(carried: Callable[..., Any]) -> None:
    assert len(carried(2, at1=1, at2=3)[1].plans) == 4


def test_an_interrupt_ends_it_even_where_the_run_was_whole(carried: Callable[..., Any]) -> None:
    def interrupted(signals: Signals) -> int:
        signals.count = 1
        return 0

    ended, runs, _ = carried(3, at2=interrupted)
    assert (ended.exit_code, len(runs.plans)) == (130, 2) and ended.problem.endswith("it was interrupted")


def test_a_usage_error_is_one_only_before_anything_was_touched(carried: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(Refused):
        carried(2, at1=Refused("another run is at it"))
    assert list((tmp_path / "runs").iterdir()) == []
    ended, _, _ = carried(2, at2=Refused("another run is at it"))
    assert ended.exit_code == 4 and "another run is at it" in ended.problem
    assert carried(2, at1=SetupError("no port"))[0].exit_code == 4


def test_what_cannot_be_compared_is_no_answer(carried: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(folder: Path) -> Comparison:
        raise UsageError("none of these runs can be compared")

    monkeypatch.setattr(versus, "compare", refused)
    ended, _, _ = carried(2)
    assert (ended.exit_code, ended.comparison) == (3, None) and ended.problem
