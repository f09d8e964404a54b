"""Game days for tests of their record: a plan, what people did, and what drills found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from harness.analysis.gameday.files import GAMEDAY_PLAN, PEOPLE
from harness.analysis.gameday.record import Drilled, record_of
from harness.model.jsonl import encode, encode_line
from harness.model.records.many_runs.gameday import Act, ActKind, DrillPlan, DrillRecord, GameDayPlan, GameDayRecord
from harness.model.records.result import Result
from tests.report import sample

T0_S = 20.0
"""The day's time at which a drill's clock was at 0."""


def drill_plan(number: int, dependency: str = "redis", **more: Any) -> DrillPlan:
    base = DrillPlan(
        number=number,
        name=f"{dependency} is gone",
        faults=(f"{dependency}-down",),
        dependencies=(dependency,),
        hypothesis="the API answers without it",
        pause_s=60.0,
        seconds=100.0,
        command=f"harness run --fault {dependency}-down",
    )
    return msgspec.structs.replace(base, **more)


def day_plan(*drills: DrillPlan, **more: Any) -> GameDayPlan:
    base = GameDayPlan(
        title="the first one",
        zero="2026-11-30T13:00:00.000Z",
        roles={"operator": ("Ada",), "responder": ("Bo",)},
        prerequisites=(),
        drills=drills or (drill_plan(1), drill_plan(2, "db")),
        scenario="target",
        rate=50.0,
        users=100,
        stack="embedded",
        target_url="http://127.0.0.1:8000",
        target_version="1.0.0",
        harness="0.1.0",
        machine="Linux",
        command="harness gameday day.yaml",
    )
    return msgspec.structs.replace(base, **more)


def act(at: float, kind: ActKind, who: str = "Ada", **more: Any) -> Act:
    role = more.pop("role", {"harness": "harness", "Bo": "responder"}.get(who, "operator"))
    return Act(at=at, wall="2026-11-30T13:00:00.000Z", who=who, role=role, kind=kind, **more)


def carried_out(number: int, begun: float, *between: Act, ended: float | None = None) -> list[Act]:
    """A drill from its beginning to its end."""
    started = act(begun, "started", "harness", drill=number, directory=f"drill-{number:02d}")
    over = act(begun + 200 if ended is None else ended, "over", "harness", drill=number, seconds=T0_S)
    return [act(begun, "begin", drill=number), started, *between, over]


def found(kind: sample.Kind = "pass", harm: int | None = 0, **more: Any) -> Drilled:
    return Drilled(result=msgspec.structs.replace(sample.result(kind), **more), harm=harm)


def record(
    acts: Sequence[Act],
    drilled: Mapping[int, Drilled | str] | None = None,
    plan: GameDayPlan | None = None,
    *,
    closed: bool = True,
) -> GameDayRecord:
    """drilled: by number."""
    end = [act(acts[-1].at + 1 if acts else 1.0, "closed", "harness")] if closed else []
    by_name = {f"drill-{number:02d}": one for number, one in (drilled or {}).items()}
    return record_of(plan or day_plan(), [*acts, *end], by_name)


def one_drill(kind: sample.Kind = "pass", *between: Act, plan: DrillPlan | None = None, **more: Any) -> DrillRecord:
    """The only drill of a day. between: acts while it was on."""
    harm = more.pop("harm", 0)
    made = record(carried_out(1, 25.0, *between), {1: found(kind, harm, **more)}, day_plan(plan or drill_plan(1)))
    return made.drills[0]


def folder(
    path: Path, acts: Sequence[Act], results: Mapping[int, Result] | None = None, plan: GameDayPlan | None = None
) -> Path:
    """A game day as it leaves its folder. results: by number; of verdict pass or fail as sample.result makes them."""
    path.mkdir(parents=True, exist_ok=True)
    (path / GAMEDAY_PLAN).write_bytes(encode(plan or day_plan()))
    (path / PEOPLE).write_bytes(b"".join(map(encode_line, acts)))
    for number, result in (results or {}).items():
        drill = path / f"drill-{number:02d}"
        drill.mkdir(exist_ok=True)
        (drill / "plan.json").write_bytes(encode(sample.plan_of("pass" if result.verdict == "pass" else "fail")))
        (drill / "result.json").write_bytes(encode(result))
    return path
