"""What the keeper or `harness heal` did after a run could no longer write its history: read from keeper.jsonl.

Those lines have wall times only; on the run's clock they are as exact as the two wall clocks agree, which is enough to
say that and when a change was undone. Nothing is measured by them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from harness.model.errors import UsageError
from harness.model.files import read_limited
from harness.model.records import events as ev
from harness.model.records.plan import Plan

KEEPER = "keeper.jsonl"
MAX_BYTES = 64_000_000
BY_HAND = "harness heal"


class _Line(msgspec.Struct):
    """The fields of any entry that matter here (see safety/entries.py)."""

    entry: str
    at: str
    id: str = ""
    state: str = ""
    why: str = ""
    left: str | tuple[str, ...] | None = None
    mend: str | None = None


def healing_events(run_dir: Path, history: Sequence[ev.Event]) -> tuple[ev.Event, ...]:
    """Events to be read after the history: one `Healed` and the ending of each undo, empty when nobody healed.

    An experiment of a session has its healing in the session's folder, where faults have its name before their own.
    Only undos that the history does not show as verified. Lines that cannot be read are left out: what they say does
    not count.
    """
    started = next((event for event in history if isinstance(event, ev.Started)), None)
    injected = {e.fault for e in history if isinstance(e, ev.FaultRequested | ev.FaultInjected)}
    done = _verified(history)
    if started is None or not injected - done:
        return ()
    zero = datetime.fromisoformat(started.wall)
    by, why = "keeper", ""
    endings: dict[str, ev.Event] = {}
    lines = _lines(run_dir / KEEPER)
    if not lines:
        before = f"{run_dir.absolute().name}/"
        session = _lines(run_dir.absolute().parent / KEEPER)
        lines = [
            msgspec.structs.replace(line, id=line.id.removeprefix(before))
            for line in session
            if not line.id or line.id.startswith(before)
        ]
    for line in lines:
        if line.entry == "healing":
            by, why = (BY_HAND, "") if line.why == BY_HAND else ("keeper", line.why)
        if line.entry != "outcome" or line.id not in injected - done:
            continue
        at, run = _since(zero, line.at), started.experiment
        if line.state in ("verified", "moot"):
            moot = line.state == "moot"
            endings[line.id] = ev.UndoVerified(at=at, wall=line.at, experiment=run, fault=line.id, moot=moot)
        elif line.state == "unverified":
            left = line.left if isinstance(line.left, str) and line.left else f"{line.id} may still be on"
            mend = line.mend or "run: harness heal --all"
            endings[line.id] = ev.UndoNotVerified(
                at=at, wall=line.at, experiment=run, fault=line.id, left=left, mend=mend
            )
    if not endings:
        return ()
    last = max(endings.values(), key=lambda event: event.at)
    healed = ev.Healed(at=last.at, wall=last.wall, experiment=started.experiment, by=by, why=why)
    return (healed, *sorted(endings.values(), key=lambda event: event.at))


def was_lost(folder: Path) -> bool:
    """Somebody healed the run, or session, of this folder, which was dead by then, whatever it had changed."""
    return any(line.entry == "healing" and line.why for line in _lines(folder / KEEPER))


def left_at_the_end(run_dir: Path, plan: Plan) -> tuple[str, ...]:
    """What else was left when the keeper, or `harness heal` after it, had done what it could: servers, folders, locks.
    The history knows of no such thing. What it says of faults is left out: their undos are told by events."""
    closed = [line for line in _lines(run_dir / KEEPER) if line.entry == "closed"]
    left = closed[-1].left if closed else None
    if not isinstance(left, tuple):
        return ()
    faults = tuple(f"{fault.id}: " for fault in plan.faults)
    return tuple(line for line in left if not line.startswith(faults))


def _verified(history: Sequence[ev.Event]) -> set[str]:
    done: set[str] = set()
    for event in history:
        if isinstance(event, ev.UndoVerified):
            done.add(event.fault)
        elif isinstance(event, ev.FaultRequested | ev.FaultInjected):
            done.discard(event.fault)
    return done


def _lines(path: Path) -> list[_Line]:
    decoder = msgspec.json.Decoder(_Line)
    found = []
    try:
        lines = read_limited(path, MAX_BYTES, links=False).split(b"\n")
    except (OSError, UsageError):
        return []
    for line in lines:
        try:
            found.append(decoder.decode(line))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue
    return found


def _since(zero: datetime, wall: str) -> float:
    try:
        return round((datetime.fromisoformat(wall) - zero).total_seconds(), 3)
    except (ValueError, TypeError):
        return 0.0
