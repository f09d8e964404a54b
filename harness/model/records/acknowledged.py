"""acknowledged.jsonl and what became of it: writes that the target acknowledged, to be read back after recovery."""

from __future__ import annotations

import msgspec


class Noted(msgspec.Struct, frozen=True, kw_only=True):
    """What one load worker noted in one second, of one kind. at: the second's start, seconds since t0.

    ids: in no order. left_out: how many more there were than are kept in a second.
    """

    at: float
    worker: str
    name: str
    ids: tuple[str, ...]
    left_out: int = 0


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """Of those asked for. lost: (name, id) that the target says it does not have, until its time was up.

    unanswered: how many were asked for without a usable answer, or never reached; example: one such answer.
    """

    there: int
    lost: tuple[tuple[str, str], ...] = ()
    unanswered: int = 0
    example: str = ""
