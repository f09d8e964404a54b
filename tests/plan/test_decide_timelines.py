"""The phase machine with many faults, on a virtual clock: flapping, overlap, one-shots, ends in the middle of it."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.model.records.plan import Plan, PlannedFault
from harness.plan.machine import Finish, Inject, Injected, InjectFailed, Input, RecordStop, StopRequest, Undo
from tests.plan.test_decide import World, fault, plan

FLAPPING = 4


def named(name: str, number: int, at_s: float, for_s: float | None, **change: object) -> PlannedFault:
    found = fault(name, at_s=at_s, for_s=for_s)
    return msgspec.structs.replace(
        found,
        id=name if number == 1 else f"{name}#{number}",
        change=msgspec.structs.replace(found.change, one_shot=for_s is None, **change),
    )


def flapping(name: str = "redis-down", for_s: float = 4.0, every_s: float = 8.0) -> list[PlannedFault]:
    return [
        named(name, k + 1, 2.0 + every_s * k, for_s, property=f"{name}: enabled", hides_path=True)
        for k in range(FLAPPING)
    ]


def of(*faults: PlannedFault) -> Plan:
    return plan(*faults, fault_s=max(10.0, *(f.at_s + (f.for_s or 1.0) for f in faults)))


def times(world: World, kind: type[Inject] | type[Undo]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for at, effect in world.log:
        if isinstance(effect, kind):
            found.setdefault(effect.fault, []).append(at)
    return found


def test_a_flapping_fault_goes_on_and_off_at_its_instants() -> None:
    world = World(of(*flapping())).run()
    start = world.phases()["fault"]
    on, off = times(world, Inject), times(world, Undo)
    assert list(on) == ["redis-down", "redis-down#2", "redis-down#3", "redis-down#4"]
    for k, name in enumerate(on):
        assert on[name][0] - start == pytest.approx(2 + 8 * k, abs=0.06)
        assert off[name][0] - start == pytest.approx(6 + 8 * k, abs=0.06)
    assert world.state.finished and world.phases()["recovery"] >= off["redis-down#4"][0]
    assert world.state.zero is not None and world.state.zero > off["redis-down#4"][0], "zero is the last undo's"


def test_a_slow_undo_delays_the_next_occurrence_and_never_overlaps_it() -> None:
    world = World(of(*flapping()), undo_takes=6.0).run()
    on, off = times(world, Inject), times(world, Undo)
    names = list(on)
    for name, following in pairwise(names):
        assert on[following][0] >= off[name][0] + 6.0, "the undo before it is verified first"
        assert off[following][0] - on[following][0] == pytest.approx(4.0, abs=0.16), "and it lasts as long as asked"
    assert world.state.finished and len(off) == FLAPPING


def test_of_two_that_wait_for_the_same_undo_only_one_is_let_through() -> None:
    waiting = [named("redis-down", k, at, 2.0, property="enabled") for k, at in ((1, 0.0), (2, 2.0), (3, 4.0))]
    world = World(of(*waiting), undo_takes=8.0).run()
    on, off = times(world, Inject), times(world, Undo)
    assert on["redis-down#2"][0] >= off["redis-down"][0] + 8 and on["redis-down#3"][0] >= off["redis-down#2"][0] + 8


def test_what_hides_the_path_waits_for_another_fault_on_the_same_dependency_only() -> None:
    slow = named("redis-latency", 1, 0.0, 5.0)
    hidden = named("redis-down", 1, 6.0, 4.0, property="enabled", hides_path=True)
    elsewhere = named("kafka-down", 1, 6.0, 4.0, property="kafka: enabled", hides_path=True)
    world = World(of(slow, hidden, elsewhere), undo_takes=5.0).run()
    start, on = world.phases()["fault"], times(world, Inject)
    assert on["kafka-down"][0] - start == pytest.approx(6.0, abs=0.06)
    assert on["redis-down"][0] >= times(world, Undo)["redis-latency"][0] + 5.0


def test_a_lasting_fault_and_a_one_shot_in_the_middle_of_it() -> None:
    world = World(of(named("kafka-latency", 1, 0.0, 20.0), named("redis-flush", 1, 8.0, None))).run()
    start = world.phases()["fault"]
    assert times(world, Inject)["redis-flush"][0] - start == pytest.approx(8.0, abs=0.06)
    assert list(times(world, Undo)) == ["kafka-latency"]
    assert world.phases()["recovery"] - start >= 20.0


def test_a_one_shot_after_the_last_lasting_fault_ends_the_phase() -> None:
    world = World(of(named("kafka-latency", 1, 0.0, 10.0), named("redis-flush", 1, 15.0, None))).run()
    assert world.phases()["recovery"] - world.phases()["fault"] >= 15.0
    assert world.state.zero is not None and world.state.zero - world.phases()["fault"] >= 15.0


def test_a_one_shot_waits_for_the_undo_of_an_outage_that_takes_longer_than_planned() -> None:
    down = named("redis-down", 1, 0.0, 10.0, property="enabled", hides_path=True)
    world = World(of(down, named("redis-flush", 1, 12.0, None)), undo_takes=6.0).run()
    assert times(world, Inject)["redis-flush"][0] >= times(world, Undo)["redis-down"][0] + 6.0


@pytest.mark.parametrize("unknown", [True, False])
def test_an_injection_that_fails_in_the_middle_skips_the_rest_and_undoes_everything(unknown: bool) -> None:
    def reply(now: float, name: str) -> Input:
        if name == "redis-down#3":
            return InjectFailed(now=now, fault=name, text="it failed", unknown=unknown)
        return Injected(now=now, fault=name)

    world = World(of(*flapping(), named("kafka-latency", 1, 0.0, 30.0)))
    world.inject_reply = reply
    world.run()
    assert list(times(world, Inject)) == ["kafka-latency", "redis-down", "redis-down#2", "redis-down#3"]
    undone = ["redis-down", "redis-down#2", "kafka-latency"] + (["redis-down#3"] if unknown else [])
    assert sorted(times(world, Undo)) == sorted(undone)
    assert {t.id: t.status for t in world.state.tracks}["redis-down#4"] == "skipped"
    assert world.state.finished and "recovery" not in world.phases()


def test_an_undo_that_cannot_be_verified_in_the_middle_injects_nothing_more() -> None:
    world = World(of(*flapping()))
    world.verified = False
    world.run()
    assert list(times(world, Inject)) == ["redis-down"] and world.state.finished


# At: healthy, on for the first time, being undone, in a gap, on again, in recovery, in the hold.
@pytest.mark.parametrize("since_fault", [-10.0, 0.5, 3.0, 6.02, 7.0, 11.0, 31.5, 45.0])
@pytest.mark.parametrize("why", ["abort", "interrupt", "lost_keeper", "silent", "error"])
def test_a_stop_in_any_state_undoes_what_is_on_and_injects_nothing_more(since_fault: float, why: str) -> None:
    whole = World(of(*flapping())).run()
    at = round(whole.phases()["fault"] + since_fault, 2)
    world = World(of(*flapping())).run(until=at)
    before = times(world, Inject)
    world.give(StopRequest(now=world.now, why=why, text=why))  # type: ignore[arg-type]
    world.run()
    assert world.state.finished and world.now < at + 3
    assert times(world, Inject) == before and sorted(times(world, Undo)) == sorted(before)
    assert [e.why for _, e in world.log if isinstance(e, RecordStop)] == [why]


entries = st.lists(
    st.tuples(
        st.sampled_from(["redis-down", "redis-latency", "kafka-down", "db-limit", "redis-flush"]),
        st.integers(0, 300),
        st.one_of(st.none(), st.integers(1, 200)),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(
    entries=entries,
    undo_takes=st.floats(0.01, 5.0),
    failing=st.integers(-1, 11),
    unknown=st.booleans(),
    stop_at=st.one_of(st.none(), st.floats(0.0, 150.0)),
    verified=st.booleans(),
    recovers=st.booleans(),
)
def test_any_timeline_ends_injects_each_fault_at_most_once_and_undoes_it_exactly_once(
    entries: list[tuple[str, int, int | None]],
    undo_takes: float,
    failing: int,
    unknown: bool,
    stop_at: float | None,
    verified: bool,
    recovers: bool,
) -> None:
    """Whatever is planned (also what the planner would refuse), whatever fails, whenever it is stopped."""
    seen: dict[str, int] = {}
    faults = []
    for name, at, lasts in entries:
        seen[name] = seen.get(name, 0) + 1
        hides = name.endswith("down")
        faults.append(
            named(
                name,
                seen[name],
                at / 10,
                None if lasts is None else lasts / 10,
                property=f"{name}: set" if hides else "",
                hides_path=hides,
            )
        )
    world = World(of(*faults), undo_takes=undo_takes, recovers_after=1.0 if recovers else None)
    world.verified = verified
    failed = faults[failing].id if 0 <= failing < len(faults) else None
    world.inject_reply = lambda now, name: (
        InjectFailed(now=now, fault=name, text="no", unknown=unknown)
        if name == failed
        else Injected(now=now, fault=name)
    )
    if stop_at is not None:
        world.run(until=stop_at)
        world.give(StopRequest(now=world.now, why="abort", text="abort"))
    world.run()
    assert world.state.finished and isinstance(world.log[-1][1], Finish)
    on, off = times(world, Inject), times(world, Undo)
    assert all(len(at) == 1 for at in on.values()) and all(len(at) == 1 for at in off.values())
    lasting = {f.id for f in faults if f.for_s is not None}
    certain = {name for name in on if name in lasting and (name != failed or unknown)}
    if failed in on and unknown:
        certain.add(failed)  # also a one-shot: nobody knows what was done
    assert set(off) == certain
    for name in certain:
        assert on[name][0] < off[name][0]
    _never_both(faults, on, off)


def _never_both(faults: list[PlannedFault], on: dict[str, list[float]], off: dict[str, list[float]]) -> None:
    """Two that set one property are never on at the same time."""
    spans = [(f.change.property, on[f.id][0], off[f.id][0]) for f in faults if f.id in off and f.change.property]
    for i, (first, begin, end) in enumerate(spans):
        for second, other_begin, other_end in spans[i + 1 :]:
            assert first != second or begin >= other_end or other_begin >= end
