"""A flapping fault in one line: of its occurrences the one that matters now."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from harness.model.records.live import LiveFault

_WAITING = ("planned", "capturing")
_OVER = ("verified",)


def of_now(faults: Sequence[LiveFault]) -> tuple[LiveFault, ...]:
    """One line a fault: what is on, or left, always; of the others the one that was last, or will be first.

    `redis-down#2` of three is called `redis-down (2 of 3)`.
    """
    groups: dict[str, list[LiveFault]] = {}
    for fault in faults:
        groups.setdefault(fault.id.partition("#")[0], []).append(fault)
    shown: list[LiveFault] = []
    for name, group in groups.items():
        on = [fault for fault in group if fault.state not in (*_WAITING, *_OVER)]
        over = [fault for fault in group if fault.state in _OVER]
        latest = max(over, key=lambda fault: fault.since_s or 0.0) if over else group[0]
        for fault in on or [latest]:
            label = f"{name} ({group.index(fault) + 1} of {len(group)})" if len(group) > 1 else fault.id
            shown.append(msgspec.structs.replace(fault, id=label))
    return tuple(shown)
