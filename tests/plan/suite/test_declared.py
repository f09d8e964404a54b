"""Request names of which something is declared: long enough phases, targets of their own, and what is not known."""

from __future__ import annotations

from typing import Any

import pytest

from harness.model.records.load import LoadPlan
from harness.model.records.plan import Plan
from harness.plan.experiment import Experiment
from harness.plan.files.entries import FaultEntry
from harness.plan.loadplan import known_share, share_of_name
from harness.plan.suite.declared import must_hold, own_targets, undecided, with_lengths
from harness.plan.suite.items import Item, one
from tests.plan.test_planner import make

HEALTH = "GET /health"
"""Of FILE in test_planner: 5 % of the load."""
INDEPENDENT = {HEALTH: ("redis", "kafka"), "GET /nowhere": ("redis",)}


def load(rate: float = 200.0, **more: Any) -> LoadPlan:
    return make(faults=("none",), rate=rate, **more).load


def plan(item: Item, **more: Any) -> Plan:
    return make(timeline=item.entries, **{"fault_s": 15.0, **more})


@pytest.mark.parametrize(
    ("name", "share"),
    [
        (HEALTH, 0.05),
        ("/health", 0.05),
        ("health", 0.05),
        ("/api/v1/batch/{id}?x=1", 0.125),
        ("/health/predict", 0.25),
        ("GET /nowhere", None),
        ("GET /", None),
        ("/heal", None),
        ("", 1.0),
    ],
)
def test_the_task_that_is_named_like_a_request(name: str, share: float | None) -> None:
    assert known_share(load(), name) == (pytest.approx(share) if share is not None else None)
    assert share_of_name(load(), name) == pytest.approx(share or 1.0)


def test_phases_are_long_enough_for_every_name_that_gets_enough_in_a_minute() -> None:
    def lengths(rate: float, names: tuple[str, ...] = (HEALTH,), **given: float) -> tuple[float | None, ...]:
        own = {"baseline_s": 15.0, "fault_s": 10.0}
        made = with_lengths(Experiment(**given), own, load(rate), names)
        return made.baseline_s, made.fault_s, made.hold_s

    assert lengths(200) == (15, 10, None)  # 100 of 10 a second
    assert lengths(100, ()) == (15, 10, None)
    assert lengths(100) == (15, 20, 20)
    assert lengths(50) == (15, 40, 40)
    assert lengths(100, ("GET /nowhere",)) == (15, 10, None)
    # 100 s for 100 requests: not in a minute, so nothing is gained by one.
    assert lengths(20) == (21.5, 21.5, None)
    assert lengths(20, (HEALTH, "/batch")) == (21.5, 40.0, None)  # a hold at this rate is 50 s
    # What somebody gave stays.
    assert lengths(50, fault_s=12.0, hold_s=16.0, baseline_s=30.0) == (30, 12, 16)
    closed = with_lengths(Experiment(), {}, make(faults=("none",), model="closed").load, (HEALTH,))
    assert (closed.baseline_s, closed.fault_s, closed.hold_s) == (20, 15, None)


def test_what_is_independent_of_what_is_hit_and_can_be_decided_has_targets_of_its_own() -> None:
    item = one("redis-down", "redis-down")
    targets, warnings = own_targets(item, plan(item, independent_of=INDEPENDENT))
    assert targets == ("fault: error_rate{GET /health} < 5%", "fault: p95{GET /health} < 200ms")
    assert len(warnings) == 1 and warnings[0].startswith("GET /nowhere has to hold in redis-down")
    assert "no task of the locustfile is named like it" in warnings[0]
    made = plan(item, independent_of=INDEPENDENT, targets=targets)
    assert sum(target.primary and target.name == HEALTH for target in made.targets) == 2
    other = one("db-down", "db-down")
    assert own_targets(other, plan(other, independent_of=INDEPENDENT)) == ((), ())
    # 75 requests of 15 s; and how many those of the closed model are nobody knows.
    targets, warnings = own_targets(item, plan(item, independent_of=INDEPENDENT, rate=100.0))
    assert targets == () and "about 75 requests are planned in 15s, 100 are needed" in warnings[0]
    targets, warnings = own_targets(item, plan(item, independent_of=INDEPENDENT, model="closed"))
    assert targets == () and "closed model" in warnings[0]


def test_an_experiment_says_itself_what_must_hold_and_what_may_fail() -> None:
    item = one("db-down", "db-down", must_hold=(HEALTH,))
    assert own_targets(item, plan(item))[0][0] == "fault: error_rate{GET /health} < 5%"
    control = Item(name="control", entries=(FaultEntry(where="x", fault="none"),), must_hold=(HEALTH,))
    assert len(own_targets(control, plan(control))[0]) == 2
    excused = one("redis-down", "redis-down", may_fail=(HEALTH,))
    assert must_hold(excused, plan(excused, independent_of=INDEPENDENT)) == ("GET /nowhere",)


def test_what_may_stay_undecided_is_told_with_the_experiments_in_which() -> None:
    items = [one("redis-down", "redis-down"), one("redis-flush", "redis-flush"), one("control", "none")]
    plans = [(item, plan(item)) for item in items]
    (found,) = undecided(plans, ())
    assert (found.name, found.arrivals, found.needed) == ("AnomalyDetectionUser.health", 50, 59)
    assert found.experiments == ("redis-flush",)
    (_, unknown) = undecided(plans, (HEALTH, "GET /nowhere"))
    assert unknown.name == "GET /nowhere" and unknown.arrivals is None
    assert unknown.experiments == ("redis-down", "redis-flush")
    assert list(undecided([(item, plan(item, rate=2000.0)) for item in items], ())) == []
    assert list(undecided([(item, plan(item, model="closed")) for item in items], ("x",))) == []
