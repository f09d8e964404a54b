"""The target is started again between two experiments, because it did not come back by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from harness.adapters.keeper.starter import serving, start
from harness.fault import Fault
from harness.model.errors import HarnessError
from harness.model.records.faults import Dependency
from harness.safety.healing.undo import undo_record
from harness.safety.journal.journal import Journal

RESTART = "restart"
GRACE_S = 2.0
"""It hangs, as like as not."""


def reset_target(
    dependencies: Sequence[Dependency],
    faults: Mapping[str, Fault],
    journal: Journal,
    record_id: str,
    say: Callable[[str], None],
) -> str:
    """What was done, for people. Raises HarnessError where it cannot be started again; one that was stopped is undone
    by whoever heals then, for its record is in the journal."""
    target = next((one for one in dependencies if one.target), None)
    if target is None or RESTART not in faults:
        raise HarnessError("nothing is known of how the target is started")
    if target.runtime == "process" and serving(target) is None:
        start(target)
        return f"{target.name} had ended and was started again"
    restart = faults[RESTART]
    record = restart.capture(restart.plan(target, {"grace": GRACE_S}), record_id)
    journal.record(record)
    journal.intent(record.id, "inject")
    try:
        restart.inject(record)
    except HarnessError as error:
        say(f"{target.name} did not restart at once: {error}")
    # It sees to it that it runs again, whatever became of the restart.
    journal.intent(record.id, "undo")
    outcome = undo_record(record, say=say)
    journal.undone(outcome)
    if outcome.state == "unverified":
        raise HarnessError(f"{target.name} was stopped and did not come back: {outcome.left or ''}")
    return f"{target.name} was restarted"
