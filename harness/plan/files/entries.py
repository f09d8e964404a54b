"""What may stand in a list of faults: one fault, one that comes again and again, or draws from a choice.

An entry is what a person wrote, checked in form; timeline.py turns entries into faults at their instants.
Times are seconds from the start of the fault phase.
"""

from __future__ import annotations

import msgspec


class Repeat(msgspec.Struct, frozen=True, kw_only=True):
    """A flapping fault: `times` occurrences, one every `every_s` seconds."""

    every_s: float
    times: int


class FaultEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One fault as written.

    where: the words an error begins with (`chaos.yaml:12: faults[2]`). typed: a text of the option, and no entry of a
    file's list.
    fault: text in the grammar of --fault; from a mapping its name alone, with params, at_s and for_s beside it.
    """

    where: str
    fault: str
    typed: bool = False
    params: dict[str, str] = {}
    at_s: float | None = None
    for_s: float | None = None
    repeat: Repeat | None = None


class RandomFaults(msgspec.Struct, frozen=True, kw_only=True):
    """One of `choose` in every slot of `every_s` seconds, from at_s until until_s, drawn from the run's seed.

    choose: faults in the grammar of --fault, without start and duration. for_s: None where all are one-shots.
    """

    where: str
    choose: tuple[str, ...]
    every_s: float
    until_s: float
    for_s: float | None = None
    at_s: float = 0.0


Entry = FaultEntry | RandomFaults
