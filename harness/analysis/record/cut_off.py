"""Requests that were in flight when a record broke off."""

from __future__ import annotations

from msgspec.structs import replace

from harness.analysis.record.windows import WindowStore
from harness.model.clock import step_start
from harness.model.records.windows import DeltaRow, ErrorRow, RequestCounts

CUT_OFF = "open when the run was cut off"


def abandon_open(store: WindowStore) -> None:
    """They are unfinished, a failure, as those are that a drain gives up: whoever waited for them got no answer. As of
    each worker's last mark, which is about 0.1 s old. Doing it again adds nothing."""
    for name, worker in store.workers.items():
        waiting = dict(worker.open)
        for request, steps in worker.open_names.items():
            for number, count in steps.items():
                if store.plan.load.rate is None:
                    # Counted with the virtual arrivals that they have missed, which nobody sent.
                    count = min(count, waiting.get(number, 0))
                    waiting[number] = waiting.get(number, 0) - count
                if count > 0:
                    fail = {request: RequestCounts(fail={"unfinished": count})}
                    store.add(DeltaRow(worker=name, step=number, requests=fail))
                    at = step_start(number)
                    told = ErrorRow(worker=name, kind="unfinished", name=request, step=number, example=CUT_OFF)
                    store.add(replace(told, first_s=at, last_s=at))
        worker.open_names = {}
