"""The history as sentences: what happened, in order."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from harness.model.records import events as ev
from harness.report.sentences import text

_ORDERED: dict[ev.OrderKind, str] = {
    "proceed": "went on",
    "begin_anyway": "began though the target was not at rest",
    "extend": "extended the fault",
    "clear": "cleared the fault",
    "abort": "aborted",
}


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """at: seconds since t0. loud: it matters at a glance."""

    at: float
    said: str
    loud: bool = False


def moments(history: Iterable[ev.Event]) -> tuple[Moment, ...]:
    """One line an event; repeated evidence is left to the table of proofs."""
    found = ((event, _say(event)) for event in history)
    return tuple(Moment(at=event.at, said=said, loud=loud) for event, (said, loud) in found if said)


def _say(event: ev.Event) -> tuple[str, bool]:
    show = text.visible
    match event:
        case ev.Started():
            return "load started", False
        case ev.PhaseStarted():
            return f"phase {event.phase} began", False
        case ev.PhaseExtended():
            end = text.moment(event.end_s)
            return f"phase {event.phase} goes on to {end}, to be sure of {show(event.target)}", False
        case ev.FaultInjected():
            took = text.ms(max(0.0, event.at - event.sent_s) * 1000)
            return f"{show(event.fault)} injected (confirmed after {took})", True
        case ev.FaultProven():
            return f"{show(event.fault)} proven", False
        case ev.FaultNotProven():
            return f"{show(event.fault)} NOT proven: {show(event.missing)}", True
        case ev.PathUnproven():
            return f"path of {show(event.fault)} not proven: {show(event.missing)}", True
        case ev.FaultMended():
            return f"{show(event.fault)} was mended by hand", True
        case ev.UndoRequested():
            return f"undo of {show(event.fault)} requested", False
        case ev.Undone():
            return f"{show(event.fault)} undone", True
        case ev.UndoVerified():
            if event.kept:
                return f"what people had made of {show(event.fault)} was kept", True
            return f"undo of {show(event.fault)} verified" + (
                " (the thing itself is gone)" if event.moot else ""
            ), False
        case ev.UndoNotVerified():
            return f"undo of {show(event.fault)} NOT verified: {show(event.left)}; to mend: {show(event.mend)}", True
        case ev.ZeroFound():
            source = "first good probe" if event.source == "probe" else "reply to the undo"
            return f"recovery counts from {text.moment(event.zero_s)} ({source})", False
        case ev.LoadLost():
            return f"load process lost: {show(event.reason)}", True
        case ev.LoadEnded():
            return f"load ended at {text.moment(event.end_s)}, drained", False
        case ev.Stopped():
            return f"stopped early ({event.why}): {show(event.text)}", True
        case ev.Ordered():
            until = f" to {text.moment(event.until_s)}" if event.until_s is not None else ""
            return f"{show(event.who)} {_ORDERED[event.order]}{until}", True
        case ev.Note():
            return f"note: {show(event.text)}", False
        case ev.DataLost():
            return f"{event.count:,} acknowledged records were lost", True
        case _:
            return "", False
