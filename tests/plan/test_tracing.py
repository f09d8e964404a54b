"""What the requests of a run call it."""

from __future__ import annotations

import re

from msgspec.structs import replace

from harness.model.records.stack import StackUp, TargetInfo
from harness.plan.planner import bind
from tests.report.sample import plan_of

UP = StackUp(name="embedded", target=TargetInfo(url="http://127.0.0.1:1"))


def test_a_load_is_called_by_its_time_and_never_by_its_fault() -> None:
    plan = replace(plan_of("fail"), faults=())
    assert "redis" in plan.experiment
    bound = bind(replace(plan, load=replace(plan.load, trace=True)), UP, {}).load
    assert re.fullmatch(r"\d{8}T\d{6}\.\d{3}Z", bound.run) and bound.run == "20261123T160000.000Z"
    assert bind(replace(plan, load=replace(plan.load, trace=False)), UP, {}).load.run == ""
