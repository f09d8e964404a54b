"""After the load: read back what the target has acknowledged, before anything is taken down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from harness.analysis.verdict import acknowledged
from harness.conductor.asked import INTERRUPTED, ask
from harness.conductor.recording.history import History
from harness.conductor.session import Session
from harness.conductor.signals import Signals
from harness.load.ipc.protocol import ReadBackBegun, ReadBackDone, ReadBackStart
from harness.model.clock import monotonic
from harness.model.jsonl import encode_line, read_lines
from harness.model.records.acknowledged import Answers, Noted
from harness.model.records.events import DataLost, LoadEnded, ReadBack, Stopped
from harness.model.records.plan import Plan

NOTED = "acknowledged.jsonl"
LOST = "lost.jsonl"
EXAMPLES = 20
SLACK_S = 30.0
"""Beyond the time that the process itself allows the looks."""


def read_back(
    plan: Plan, session: Session, history: History, signals: Signals, say: Callable[[str], None], folder: Path
) -> None:
    """Record what became of the acknowledged writes. Nothing to do where the locustfile noted none. Never raises for
    what goes wrong on the way: then they are unchecked, and the result says so. folder: the experiment's."""
    try:
        noted: list[Noted] = list(read_lines(folder / NOTED, Noted))
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        history.add(ReadBack, noted=0, chosen=0, there=0, lost=0, unchecked=0, seconds=0.0, why=str(error))
        return
    begun = monotonic()
    why = _not_now(history, signals)
    if why is not None:
        # An interrupted run is to end at once, so nothing is drawn either: all of them are unchecked.
        total = sum(len(row.ids) + row.left_out for row in noted)
        history.add(ReadBack, noted=total, chosen=total, there=0, lost=0, unchecked=total, seconds=0.0, why=why)
        return
    asks, total = acknowledged.choose(plan, history.events, noted)
    rate = acknowledged.rate(plan)
    say(f"reading back {len(asks):,} of {total:,} acknowledged writes, {rate:g} a second")
    answers = _ask(plan, asks, rate, session, signals)
    if answers.lost:
        with suppress(OSError):
            lines = b"".join(encode_line({"name": name, "id": id_}) for name, id_ in answers.lost)
            (folder / LOST).write_bytes(lines)
        examples = tuple(id_ for _, id_ in answers.lost[:EXAMPLES])
        history.add(DataLost, count=len(answers.lost), examples=examples)
    history.add(
        ReadBack,
        noted=total,
        chosen=len(asks),
        there=answers.there,
        lost=len(answers.lost),
        unchecked=answers.unanswered,
        seconds=round(monotonic() - begun, 1),
        why=answers.example if answers.unanswered else "",
    )


def _not_now(history: History, signals: Signals) -> str | None:
    """Why a run that ended early asks nobody."""
    if signals.count:
        return INTERRUPTED
    if any(isinstance(event, Stopped) for event in history.events):
        return "the run ended early"
    if not any(isinstance(event, LoadEnded) for event in history.events):
        return "the load did not end in good order"
    return None


def _ask(plan: Plan, asks: Sequence[tuple[str, str]], rate: float, session: Session, signals: Signals) -> Answers:
    """In a process of its own."""
    start = ReadBackStart(
        host=plan.load.host,
        addresses=plan.load.addresses,
        allow_hosts=plan.load.allow_hosts,
        locustfile=plan.load.locustfile,
        asks=tuple(asks),
        rate=rate,
    )
    found: list[Answers] = []

    def heard(said: ReadBackBegun | ReadBackDone) -> float | None:
        if isinstance(said, ReadBackDone):
            found.append(said.answers)
            return None
        return monotonic() + said.limit_s + SLACK_S

    why = ask("read-back", start, msgspec.json.Decoder(ReadBackBegun | ReadBackDone), heard, session, signals)
    return found[0] if found else Answers(there=0, unanswered=len(asks), example=why)
