"""The same experiment again and again in one session: a group, for `harness compare`."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec.structs import replace

from harness.conductor.prepare import Planned
from harness.model.errors import UsageError
from harness.model.files import replace_file
from harness.model.jsonl import encode
from harness.model.records.many_runs.group import Group, GroupRun
from harness.model.records.many_runs.suite import SuiteResult
from harness.model.records.plan import Plan
from harness.plan.suite.items import Item, Suite
from harness.suite.prepare import PlannedItem, PlannedSuite

GROUP = "group.json"
MOST = 30


def check_times(times: int) -> None:
    """Raises UsageError."""
    if not 2 <= times <= MOST:
        raise UsageError(f"--repeat {times}: from 2 to {MOST}")


def as_given(plan: Plan) -> Plan:
    """A fault's length counts as given: a phase that goes on in some of the runs would make others of them."""
    extend = tuple(name for name in plan.phases.extend if name != "fault")
    return replace(plan, phases=replace(plan.phases, extend=extend))


def repeated(planned: Planned, times: int) -> PlannedSuite:
    """A fault's length counts as given, so that every run has the same span. Raises UsageError."""
    check_times(times)
    plan = as_given(planned.plan)
    name = plan.experiment.split("-", 1)[1]
    items = tuple(
        PlannedItem(item=Item(name=f"{name}-{number:02d}", entries=()), plan=plan) for number in range(1, times + 1)
    )
    suite = Suite(name=f"{name}, {times} times", profile="", items=tuple(one.item for one in items))
    return PlannedSuite(suite=suite, base=planned, items=items)


def write_group(folder: Path, result: SuiteResult) -> None:
    """group.json of what was carried out. Raises OSError."""
    carried = [attempt for one in result.experiments for attempt in one.attempts]
    runs = tuple(
        GroupRun(directory=one.directory, label="A", pair=number) for number, one in enumerate(carried, start=1)
    )
    if runs:
        save_group(folder, Group(kind="repeat", runs=runs))


def save_group(folder: Path, group: Group) -> None:
    """Raises OSError."""
    replace_file(folder / GROUP, msgspec.json.format(encode(group), indent=2) + b"\n")
