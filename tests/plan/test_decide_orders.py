"""What people may do to an experiment while it goes on: the phase machine on a virtual clock."""

from __future__ import annotations

import pytest

from harness.model.records.events import OrderKind
from harness.plan.decide import refused
from harness.plan.machine import HandOn, Inject, Mended, Order, RecordOrder, RecordStop, StopRequest, Undo
from tests.plan.test_decide import Shared, World, fault, plan, reason, shared


def order(world: World, kind: OrderKind, seconds: float = 0.0) -> None:
    world.give(Order(now=world.now, order=kind, who="Ada", seconds=seconds))


def recorded(world: World) -> list[OrderKind]:
    return [effect.order for _, effect in world.log if isinstance(effect, RecordOrder)]


def test_a_baseline_is_begun_though_the_target_is_not_at_rest() -> None:
    world = Shared(shared(fault("redis-down")), calm_at=None)
    world.run(until=5.0)
    order(world, "begin_anyway")
    order(world, "begin_anyway")
    world.run()
    assert recorded(world) == ["begin_anyway"] and reason(world) is None
    assert world.phases()["baseline"] == pytest.approx(5.0, abs=0.2) and world.when(HandOn)


def test_clearing_undoes_what_is_on_at_once_and_recovery_follows() -> None:
    world = World(plan(fault("redis-down"), fault("kafka-down", at_s=15.0, for_s=5.0))).run(until=40.0)
    order(world, "clear")
    assert refused(world.state, "clear") and refused(world.state, "extend", 10.0)
    world.run()
    phases = world.phases()
    assert recorded(world) == ["clear"] and world.when(Undo)[0] == pytest.approx(40.05, abs=0.06)
    assert len(world.when(Inject)) == len(world.when(Undo)) == 1, "what was still to come is left out"
    assert phases["recovery"] == pytest.approx(40.2, abs=0.3) and "after" in phases and reason(world) is None


def test_a_fault_that_is_being_injected_is_cleared_when_it_is_on() -> None:
    world = World(plan(fault("redis-down")))
    world.run(until=32.0)
    while not world.when(Inject):
        world.run(until=world.now + 0.05)
    order(world, "clear")
    world.run(until=world.now + 1.5)
    assert world.when(Undo) and world.when(Undo)[0] - world.when(Inject)[0] <= 0.2


@pytest.mark.parametrize("extend", [(), ("fault",)])
def test_a_fault_is_extended_once_and_goes_on_by_itself_no_more(extend: tuple[str, ...]) -> None:
    world = World(plan(fault("redis-down"), extend=extend)).run(until=40.0)  # type: ignore[arg-type]
    planned = world.state.phase_end or 0.0
    order(world, "extend", 30.0)
    assert refused(world.state, "extend", 30.0) == "it was extended already, and once is all there is"
    order(world, "extend", 30.0)
    world.run()
    assert recorded(world) == ["extend"] and world.when(Undo)[0] == pytest.approx(planned + 30.0, abs=0.5)


@pytest.mark.parametrize("seconds", [0.0, -1.0, 60.1, float("inf"), float("nan")])
def test_no_extension_is_without_bounds(seconds: float) -> None:
    world = World(plan(fault("redis-down"))).run(until=40.0)
    before = world.state
    order(world, "extend", seconds)
    assert world.state == before and not recorded(world)


@pytest.mark.parametrize("at", [5.0, 15.0, 33.0, 45.0, 55.0])
def test_an_abort_undoes_everything_ends_the_experiment_and_leaves_the_load(at: float) -> None:
    world = Shared(shared(fault("redis-down")))
    world.run(until=at)
    order(world, "abort")
    order(world, "abort")
    order(world, "clear")
    world.run()
    assert world.state.finished and world.now < at + 2 and reason(world) == "by_hand"
    assert recorded(world) == ["abort"] and world.when(HandOn)
    assert len(world.when(Undo)) == len(world.when(Inject))
    (stop,) = [effect for _, effect in world.log if isinstance(effect, RecordStop)]
    assert stop.text == "by Ada"


def test_what_cannot_be_had_changes_nothing_and_says_why() -> None:
    world = World(plan(fault("redis-down"))).run(until=15.0)
    for kind, why in (("begin_anyway", "waited"), ("clear", "no fault"), ("extend", "no fault")):
        before = world.state
        assert why in refused(world.state, kind, 5.0)  # type: ignore[arg-type]
        order(world, kind, 5.0)  # type: ignore[arg-type]
        assert world.state == before
    world.give(StopRequest(now=world.now, why="interrupt", text="SIGINT"))
    assert "ending" in refused(world.state, "abort")


def test_a_wait_ends_when_people_go_on_and_nothing_was_begun() -> None:
    world = Shared(shared(fault("redis-down")), calm_at=None)
    world.run(until=50.0)
    assert not refused(world.state, "proceed")
    order(world, "proceed")
    world.run()
    assert recorded(world) == ["proceed"] and reason(world) is None and set(world.phases()) == {"settle"}
    assert world.when(HandOn)[0] == pytest.approx(50.0, abs=0.2) and not world.when(Inject)


def test_what_people_have_mended_is_undone_at_once_and_recovery_follows() -> None:
    world = World(plan(fault("redis-down"))).run(until=40.0)
    world.give(Mended(now=world.now, fault="redis-down"))
    world.give(Mended(now=world.now, fault="redis-down"))
    world.run()
    assert len(world.when(Undo)) == 1 and world.when(Undo)[0] == pytest.approx(40.0, abs=0.1)
    assert world.phases()["recovery"] == pytest.approx(40.2, abs=0.3) and reason(world) is None


def test_only_what_is_on_can_be_mended() -> None:
    world = World(plan(fault("redis-down"))).run(until=10.0)
    world.give(Mended(now=world.now, fault="redis-down"))
    world.run()
    assert len(world.when(Inject)) == len(world.when(Undo)) == 1 and world.when(Undo)[0] > world.when(Inject)[0] + 5
