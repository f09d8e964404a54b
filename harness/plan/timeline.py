"""From the faults that were asked for to faults at their instants: repeats and draws expanded, collisions refused.

Pure, and the same for the same entries and seed, on any machine: draws come from BLAKE2b in counter mode, keyed
(seed, "timeline", number of the entry, number of the slot), never from `hash()` or from the order of a set.

A draw lies wholly inside its slot and ends SETTLE_S before it, so draws of one entry never collide. Whether an entry
may collide with *another* does not depend on the seed either: it is refused when any draw could, so that a file that
works once works with every seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from hashlib import blake2b
from struct import unpack

import msgspec

from harness.model.errors import Refused, UsageError, about, unknown
from harness.model.records.faults import Change, Dependency, FaultSpec
from harness.model.records.plan import MAX_PHASE_S, PlannedFault
from harness.model.units import format_duration
from harness.plan.consent import FaultDescription, planned
from harness.plan.fault_text import decode_params, fault_text, parse_fault
from harness.plan.files.entries import Entry, FaultEntry, RandomFaults
from harness.plan.phases import on_grid

MAX_FAULTS = 200
"""Injections of one run: each has an undo record of its own, and nobody reads a report with more."""
SETTLE_S = 1.0
"""Least time from an undo to the next injection of a repeated or drawn fault: the undo has to be verified first."""
ONE_SHOT_S = 1.0
"""A one-shot takes this long where it is compared with others."""
_OWN_KEYS = ("at", "for", "repeat")


class _Slot(msgspec.Struct, frozen=True, kw_only=True):
    """A change and when it is on, or may be. number: of its entry; drawn: from a choice; name: for people."""

    change: Change
    start_s: float
    end_s: float
    number: int
    drawn: bool
    name: str


def expand(
    entries: Sequence[Entry],
    *,
    dependencies: Iterable[Dependency],
    faults: Mapping[str, FaultDescription],
    fault_s: float,
    seed: int,
) -> tuple[PlannedFault, ...]:
    """Every injection of a run, in the order of the entries, repeats and draws of one by time.

    fault_s: how long a fault lasts that names no duration. Raises UsageError for an entry that cannot be, Refused
    for two that must not be on at the same time. Empty for a control run.
    """
    planner = _Expansion({d.name: d for d in dependencies}, faults, fault_s, seed)
    if len(entries) > 1 and any(isinstance(e, FaultEntry) and e.fault.strip() == "none" for e in entries):
        raise UsageError("none is the control run: it cannot be combined with a fault", field="faults")
    for number, entry in enumerate(entries):
        with about("faults", " ") if isinstance(entry, FaultEntry) and entry.typed else nullcontext():
            planner.add(number, entry)
    _refuse_collisions(planner.slots)
    return _named(planner.found)


class _Expansion:
    def __init__(
        self, dependencies: Mapping[str, Dependency], faults: Mapping[str, FaultDescription], fault_s: float, seed: int
    ) -> None:
        self._dependencies = dependencies
        self._faults = faults
        self._fault_s = fault_s
        self._seed = seed
        self.found: list[tuple[FaultSpec, Change]] = []
        self.slots: list[_Slot] = []

    def add(self, number: int, entry: Entry) -> None:
        where = f"{entry.where}: "
        occurrences = self._random(number, entry, where) if isinstance(entry, RandomFaults) else self._one(entry, where)
        for spec, change in occurrences:
            end = spec.at_s + (spec.for_s or 0.0)
            if end > MAX_PHASE_S:
                raise UsageError(f"{where}{spec.name} would end after {format_duration(end)}; a phase has 24 hours")
            self.found.append((spec, change))
            if isinstance(entry, FaultEntry):
                self._slot(change, spec.at_s, spec.for_s, number, drawn=False)

    def _slot(self, change: Change, at_s: float, for_s: float | None, number: int, *, drawn: bool) -> None:
        end = at_s + (for_s if for_s is not None else ONE_SHOT_S)
        name = f"{change.dependency.name}-{change.kind}"
        self.slots.append(_Slot(change=change, start_s=at_s, end_s=end, number=number, drawn=drawn, name=name))

    def _one(self, entry: FaultEntry, where: str) -> Iterator[tuple[FaultSpec, Change]]:
        spec = parse_fault(entry.fault, self._dependencies, self._faults, where=where)
        if spec is None:
            return
        written = msgspec.structs.replace(
            spec,
            params={**spec.params, **entry.params},
            at_s=entry.at_s if entry.at_s is not None else spec.at_s,
            for_s=entry.for_s if entry.for_s is not None else spec.for_s,
        )
        change = self._change(written, where, of_mapping=bool(entry.params))
        written = self._lasting(written, change, where, repeated=entry.repeat is not None)
        repeat = entry.repeat
        times, every_s = (1, 0.0) if repeat is None else (repeat.times, on_grid(repeat.every_s))
        if repeat is not None and written.for_s is not None and written.for_s + SETTLE_S > every_s:
            raise UsageError(
                f"{where}it lasts {format_duration(written.for_s)} and comes again every {format_duration(every_s)}",
                hint=f"`every` must leave {format_duration(SETTLE_S)} after `for`, in which the undo is verified",
            )
        self._room(times, where)
        as_written = entry == FaultEntry(where=entry.where, fault=entry.fault, typed=entry.typed)
        for k in range(times):
            spec = msgspec.structs.replace(written, at_s=round(written.at_s + k * every_s, 1))
            yield (spec if as_written else _worded(spec)), change

    def _random(self, number: int, entry: RandomFaults, where: str) -> Iterator[tuple[FaultSpec, Change]]:
        choice = [self._choice(text, entry, where) for text in entry.choose]
        lasting = [spec.name for spec, change in choice if not change.one_shot]
        if lasting and entry.for_s is None:
            raise UsageError(f"{where}`for` is missing: how long does {lasting[0]} last?")
        if not lasting and entry.for_s is not None:
            raise UsageError(f"{where}`for` has no meaning: all that can be drawn happens once and takes no duration")
        at_s, every_s, until_s = on_grid(entry.at_s), on_grid(entry.every_s), on_grid(entry.until_s)
        for_s = None if entry.for_s is None else on_grid(entry.for_s)
        needed = (for_s if for_s is not None else 0.0) + SETTLE_S
        if needed > every_s:
            raise UsageError(
                f"{where}each lasts {format_duration(for_s or 0.0)} and one is drawn every {format_duration(every_s)}",
                hint=f"`every` must leave {format_duration(SETTLE_S)} after `for`, in which the undo is verified",
            )
        slots = int((until_s - at_s) / every_s + 1e-9)
        if slots < 1:
            raise UsageError(
                f"{where}nothing is drawn between {format_duration(at_s)} and {format_duration(until_s)}",
                hint=f"`until` must be at least {format_duration(at_s + every_s)}, one slot after `at`",
            )
        self._room(slots, where)
        for _, change in choice:
            self._slot(change, at_s, round(slots * every_s, 1), number, drawn=True)
        steps = round((every_s - needed) * 10)
        for k in range(slots):
            words = _words(self._seed, number, k)
            spec, change = choice[_below(len(choice), words)]
            start = round(at_s + k * every_s + _below(steps + 1, words) / 10, 1)
            lasts = None if change.one_shot else for_s
            yield _worded(msgspec.structs.replace(spec, at_s=start, for_s=lasts)), change

    def _choice(self, text: str, entry: RandomFaults, where: str) -> tuple[FaultSpec, Change]:
        spec = parse_fault(text, self._dependencies, self._faults, where=f"{where}choose: ")
        if spec is None:
            raise UsageError(f"{where}choose: `none` is the control run and cannot be drawn")
        if "@" in text or spec.for_s is not None:
            raise UsageError(f"{where}choose: {text!r} names a start or duration; `every` and `for` say when")
        return spec, self._change(spec, f"{where}choose: ")

    def _change(self, spec: FaultSpec, where: str, *, of_mapping: bool = False) -> Change:
        fault = self._faults[spec.kind]
        known = [info.name for info in fault.params]
        for name in spec.params if of_mapping else ():
            # In a mapping a mistyped `for` looks like a parameter: both kinds of keys are offered.
            if name not in known:
                raise unknown(f"key or parameter of {spec.name}", name, [*known, *_OWN_KEYS], where=where)
        try:
            return planned(fault, self._dependencies[spec.dependency], decode_params(spec, fault.params, where=where))
        except Refused as error:
            raise Refused(f"{where}{error}", hint=error.hint) from error

    def _lasting(self, spec: FaultSpec, change: Change, where: str, *, repeated: bool) -> FaultSpec:
        """The spec on the grid, with its duration filled in."""
        at_s = on_grid(spec.at_s)
        if change.one_shot:
            if spec.for_s is not None:
                raise UsageError(f"{where}{spec.kind} happens once and takes no duration")
            return msgspec.structs.replace(spec, at_s=at_s)
        if spec.for_s is None and repeated:
            raise UsageError(f"{where}`for` is missing: how long does each {spec.name} last?")
        return msgspec.structs.replace(
            spec, at_s=at_s, for_s=on_grid(spec.for_s if spec.for_s is not None else self._fault_s)
        )

    def _room(self, more: int, where: str) -> None:
        if len(self.found) + more > MAX_FAULTS:
            raise UsageError(
                f"{where}that makes {len(self.found) + more:,} injections; one run has {MAX_FAULTS} at most",
                hint="repeat less often, or split it into several runs",
            )


def _worded(spec: FaultSpec) -> FaultSpec:
    return msgspec.structs.replace(spec, text=fault_text(spec.name, spec.params, spec.at_s, spec.for_s))


def _named(found: Sequence[tuple[FaultSpec, Change]]) -> tuple[PlannedFault, ...]:
    """Ids in the order given: `redis-down`, `redis-down#2`, ..."""
    seen: dict[str, int] = {}
    planned = []
    for spec, change in found:
        seen[spec.name] = seen.get(spec.name, 0) + 1
        suffix = f"#{seen[spec.name]}" if seen[spec.name] > 1 else ""
        planned.append(PlannedFault(id=spec.name + suffix, spec=spec, change=change, at_s=spec.at_s, for_s=spec.for_s))
    return tuple(planned)


def _refuse_collisions(slots: Sequence[_Slot]) -> None:
    for index, first in enumerate(slots):
        for second in slots[index + 1 :]:
            if first.drawn and second.drawn and first.number == second.number:
                continue  # draws of one entry lie in slots of their own
            if first.start_s < second.end_s and second.start_s < first.end_s:
                _refuse_pair(first, second)


def _refuse_pair(first: _Slot, second: _Slot) -> None:
    """Two faults that set one property cannot both be undone to the original; one that hides the whole path leaves
    nothing to prove the other with."""
    drawn = first.drawn or second.drawn
    when = "could be drawn for the same time" if drawn else "at the same time"
    hint = (
        "let `until` end before the other begins, or leave one of them out"
        if drawn
        else "let one end before the other begins, or leave one out"
    )
    a, b = (f"{slot.name}@{format_duration(slot.start_s)}" for slot in (first, second))
    if first.change.property and first.change.property == second.change.property:
        does = f"both set {first.change.property!r}" + (f" and {when}" if drawn else f" {when}")
        raise Refused(f"{a} and {b} {does}", hint=hint)
    if first.change.dependency.name != second.change.dependency.name:
        return
    for hiding, hidden in ((first, second), (second, first)):
        if hiding.change.hides_path:
            raise Refused(
                f"{a} and {b} {when if drawn else 'are on ' + when}: while {hiding.name} is on, nothing can show that "
                f"{hidden.name} is",
                hint=hint,
            )


def _words(seed: int, number: int, slot: int) -> Iterator[int]:
    """64-bit words of one draw: BLAKE2b in counter mode, as the arrivals are drawn."""
    block = 0
    while True:
        digest = blake2b(b"%d\0timeline\0%d\0%d\0%d" % (seed, number, slot, block)).digest()
        yield from unpack("<8Q", digest)
        block += 1


def _below(bound: int, words: Iterator[int]) -> int:
    """Uniform in [0, bound): what would fall into the last, incomplete round is drawn again."""
    whole = 2**64 - 2**64 % bound
    return next(word for word in words if word < whole) % bound
