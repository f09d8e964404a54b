"""How often a probe may be sent to a server whose protocol nobody has told, or that counts those that get no answer.

Each such ends in the middle of what the server takes for a handshake: MariaDB counts them, and after a hundred
(`max_connect_errors`) it blocks the host that they came from, which behind a proxy is the application's as well. So the
read-back of the control plane carries the proof through the phase, and the path itself is asked a few times only.
"""

from __future__ import annotations

import threading

from harness.dependencies.registry import kind_of
from harness.model.clock import monotonic
from harness.model.records.faults import UndoRecord

EVERY_S = 15.0
MOST = 3

_asked: dict[str, list[float]] = {}
_lock = threading.Lock()


def may_ask(record: UndoRecord, *, unanswered: bool = True) -> bool:
    """Whether the path may be probed once more while this fault is on; counts the question. unanswered: the fault keeps
    a probe from its answer."""
    kind = kind_of(record.dependency)
    if not kind.unfinished(record.dependency) and not (unanswered and kind.unanswered_counts):
        return True
    key = f"{record.id} {record.where}"
    with _lock:
        times = _asked.setdefault(key, [])
        if len(times) >= MOST or (times and monotonic() - times[-1] < EVERY_S):
            return False
        times.append(monotonic())
        return True
