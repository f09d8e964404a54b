"""The phase machine on a virtual clock: a whole run in microseconds, with no sleeping."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import msgspec
import pytest

from harness.model.records.events import StopWhy
from harness.model.records.faults import Change, Dependency, FaultSpec
from harness.model.records.load import LoadPlan
from harness.model.records.plan import Plan, PlannedFault
from harness.model.records.targets import JudgedPhase
from harness.plan.decide import begin, decide, may_look
from harness.plan.machine import (
    BaselineJudged,
    Check,
    Effect,
    EnterPhase,
    Extend,
    Finish,
    HandOn,
    Inject,
    Injected,
    InjectFailed,
    Input,
    JudgeBaseline,
    LoadOver,
    Prepare,
    Prepared,
    RecordStop,
    State,
    StopLoad,
    StopRequest,
    Tick,
    Undo,
    Undone,
)
from harness.plan.phases import lengths, sharing
from harness.plan.scenarios import SCENARIOS


def fault(name: str, at_s: float = 0.0, for_s: float | None = 20.0) -> PlannedFault:
    dependency, _, kind = name.partition("-")
    change = Change(
        kind=kind, dependency=Dependency(name=dependency, kind="redis"), params={}, does="", undoes="", proves=""
    )
    return PlannedFault(
        id=name, spec=FaultSpec(name=name, dependency=dependency, kind=kind), change=change, at_s=at_s, for_s=for_s
    )


def plan(*faults: PlannedFault, fault_s: float = 20.0, extend: tuple[JudgedPhase, ...] = ()) -> Plan:
    return Plan(
        experiment="x",
        created="2026-01-01T00:00:00Z",
        scenario=SCENARIOS["target"],
        scale=0.02,
        stack="embedded",
        load=LoadPlan(
            model="open",
            host="http://127.0.0.1",
            locustfile="f",
            classes=(),
            seed=1,
            users=10,
            spawn_rate=1,
            ramp_s=10,
            rate=200,
        ),
        phases=lengths(
            ramp_s=10,
            warmup_s=2,
            baseline_s=20,
            fault_s=fault_s,
            one_shot_only=bool(faults) and all(f.for_s is None for f in faults),
            run_time_s=600,
            rate=200,
            request_timeout_s=10,
            extend=extend,
        ),
        targets=(),
        faults=tuple(faults),
    )


class World:
    """Carries out effects on a virtual clock: every effect answers after a delay, in seconds."""

    def __init__(self, plan: Plan, *, recovers_after: float | None = 1.0, undo_takes: float = 0.05) -> None:
        self.state: State
        self.state, effects = begin(plan)
        self.now = 0.0
        self.log: list[tuple[float, Effect]] = []
        self.due: list[tuple[float, Callable[[float], Input]]] = []
        self.recovers_after = recovers_after
        self.undo_takes = undo_takes
        self.drain_takes = 1.0
        self.broken: tuple[str, ...] = ()
        self.problem: str | None = None
        self.inject_reply: Callable[[float, str], Input] = lambda now, name: Injected(now=now, fault=name)
        self.verified = True
        self.wanted: dict[str, float] | None = {}
        """Phase -> how long it should be; None: nobody answers."""
        self.looks: list[str] = []
        self._carry_out(effects)

    def _carry_out(self, effects: object) -> None:
        for effect in effects:  # type: ignore[attr-defined]
            self.log.append((round(self.now, 2), effect))
            match effect:
                case JudgeBaseline():
                    self._later(0.1, lambda now: BaselineJudged(now=now, broken=self.broken))
                case Prepare():
                    self._later(0.2, lambda now: Prepared(now=now, problem=self.problem))
                case Inject(fault=name):
                    self._later(0.02, lambda now, name=name: self.inject_reply(now, name))  # type: ignore[misc]
                case Undo(fault=name):
                    self._later(
                        self.undo_takes,
                        lambda now, name=name: Undone(  # type: ignore[misc]
                            now=now, fault=name, verified=self.verified, zero=now - 0.01 if self.verified else None
                        ),
                    )
                case StopLoad(end_s=end, at_once=at_once):
                    self._later(0.1 if at_once else end - self.now + self.drain_takes, lambda now: LoadOver(now=now))

    def _later(self, delay: float, make: Callable[[float], Input]) -> None:
        self.due.append((self.now + delay, make))

    def give(self, event: Input) -> None:
        self.state, effects = decide(self.state, event)
        self._carry_out(effects)

    def run(self, until: float = 2_000.0) -> World:
        while not self.state.finished and self.now < until:
            self.now = round(self.now + 0.05, 2)
            for when, make in sorted([d for d in self.due if d[0] <= self.now], key=lambda d: d[0]):
                self.due = [d for d in self.due if d[1] is not make]
                self.give(make(max(when, self.now)))
            clean = None
            if self.state.phase == "recovery" and self.recovers_after is not None and self.state.zero is not None:
                step = self.state.zero + self.recovers_after
                clean = step if self.now >= step + self.state.plan.phases.hold_s else None
            length = None
            if self.wanted is not None and may_look(msgspec.structs.replace(self.state, now=self.now)):
                self.looks.append(self.state.phase)
                length = self.wanted.get(self.state.phase, 0.0)
            self.give(Tick(now=self.now, final_s=self.now - 0.5, clean_from=clean, length_s=length))
        return self

    def phases(self) -> dict[str, float]:
        return {e.phase: e.start_s for _, e in self.log if isinstance(e, EnterPhase)}

    def when(self, kind: type) -> list[float]:
        return [at for at, effect in self.log if isinstance(effect, kind)]


def test_a_whole_run_enters_every_phase_in_order_and_on_the_grid() -> None:
    world = World(plan(fault("redis-down"))).run()
    phases = world.phases()
    assert list(phases) == ["warmup", "baseline", "gap", "fault", "recovery", "after", "tail"]
    assert all(abs(start * 10 - round(start * 10)) < 1e-6 for start in phases.values())
    assert phases["baseline"] == 12.0 and phases["gap"] == 32.0
    assert world.when(Inject)[0] >= phases["fault"]
    assert abs(world.when(Undo)[0] - (phases["fault"] + 20)) <= 0.06
    assert phases["recovery"] >= world.when(Undo)[0]
    assert phases["tail"] == pytest.approx(phases["after"] + 15.0)
    stop = next(e for _, e in world.log if isinstance(e, StopLoad))
    assert stop.end_s == pytest.approx(phases["tail"] + 10.0) and not stop.at_once
    assert isinstance(world.log[-1][1], Finish)


def test_a_control_run_has_the_same_phases_and_injects_nothing() -> None:
    world = World(plan(), recovers_after=0.0).run()
    assert list(world.phases()) == ["warmup", "baseline", "gap", "fault", "recovery", "after", "tail"]
    assert not world.when(Inject) and not world.when(Undo)
    assert world.phases()["recovery"] - world.phases()["fault"] == pytest.approx(20.0, abs=0.15)


def test_a_broken_baseline_injects_nothing_and_ends() -> None:
    world = World(plan(fault("redis-down")))
    world.broken = ("baseline: p95 < 200ms",)
    world.run()
    assert world.state.finished and not world.when(Prepare) and not world.when(Inject)
    assert next(e for _, e in world.log if isinstance(e, RecordStop)).why == "baseline_broken"


def test_nothing_is_injected_when_an_undo_record_could_not_be_written() -> None:
    world = World(plan(fault("redis-down")))
    world.problem = "the journal could not be written: no space left on device"
    world.run()
    assert world.state.finished and not world.when(Inject)


def test_a_lone_fault_at_ten_seconds_has_ten_healthy_seconds_first() -> None:
    world = World(plan(fault("redis-down", at_s=10.0, for_s=15.0), fault_s=25.0)).run()
    start = world.phases()["fault"]
    assert world.when(Inject)[0] - start == pytest.approx(10.0, abs=0.06)
    assert world.when(Undo)[0] - start == pytest.approx(25.0, abs=0.06)


def test_a_lasting_fault_is_asserted_again_but_never_while_it_is_being_undone() -> None:
    world = World(plan(fault("redis-down"))).run()
    undo = world.when(Undo)[0]
    checks = world.when(Check)
    assert len(checks) >= 4 and max(checks) < undo - 1.0


@pytest.mark.parametrize("at", [1.0, 15.0, 32.15, 40.0, 52.6, 60.0, 75.0])
def test_an_interrupt_in_any_phase_undoes_what_is_on_and_finishes_at_once(at: float) -> None:
    world = World(plan(fault("redis-down"))).run(until=at)
    injected = len(world.when(Inject))
    world.give(StopRequest(now=world.now, why="interrupt", text="SIGINT"))
    world.give(StopRequest(now=world.now, why="interrupt", text="SIGINT again"))
    world.run()
    assert world.state.finished and world.now < at + 2
    assert len(world.when(Undo)) == injected and len(world.when(Inject)) == injected
    assert len(world.when(RecordStop)) == 1


@pytest.mark.parametrize("second", [40.5, 44.0])
def test_an_interrupt_hastens_an_end_that_waits_for_open_requests(second: float) -> None:
    """The fault is being undone by then, or the load is stopping with requests of five minutes open."""
    world = World(plan(fault("redis-down")))
    world.undo_takes = 2.0
    world.drain_takes = 300.0
    world.run(until=40.0)
    world.give(StopRequest(now=world.now, why="abort", text="error_rate > 50% for 10s"))
    world.run(until=second)
    world.give(StopRequest(now=world.now, why="interrupt", text="SIGTERM"))
    world.give(StopRequest(now=world.now, why="lost_keeper", text="the keeper died"))
    world.run()
    assert world.state.finished and world.now < second + 4
    assert [e.why for _, e in world.log if isinstance(e, RecordStop)] == ["abort"], "the first reason stays"
    assert sum(e.at_once for _, e in world.log if isinstance(e, StopLoad)) == 1


def test_an_injection_with_an_unknown_outcome_is_undone() -> None:
    world = World(plan(fault("redis-down")))
    world.inject_reply = lambda now, name: InjectFailed(now=now, fault=name, text="timed out", unknown=True)
    world.run()
    assert len(world.when(Undo)) == 1 and world.state.finished


def test_an_injection_that_certainly_failed_is_not_undone() -> None:
    world = World(plan(fault("redis-down")))
    world.inject_reply = lambda now, name: InjectFailed(now=now, fault=name, text="refused", unknown=False)
    world.run()
    assert not world.when(Undo) and world.state.finished


def test_a_lost_load_process_undoes_the_fault() -> None:
    world = World(plan(fault("redis-down"))).run(until=40.0)
    world.give(LoadOver(now=world.now, text="the load process died: signal 9"))
    world.run()
    assert len(world.when(Undo)) == 1 and world.state.finished and world.now < 42
    assert next(e for _, e in world.log if isinstance(e, RecordStop)).why == "lost_load"


def test_an_undo_that_cannot_be_verified_ends_the_run() -> None:
    world = World(plan(fault("redis-down")))
    world.verified = False
    world.run()
    assert world.state.finished and "recovery" not in world.phases()


def test_a_service_that_never_recovers_ends_after_the_limit_and_the_hold() -> None:
    world = World(plan(fault("redis-down")), recovers_after=None).run()
    limit = world.state.plan.phases.recovery_limit_s
    zero = world.state.zero
    assert zero is not None and "after" not in world.phases()
    assert limit + 15.0 <= world.when(StopLoad)[0] - zero <= limit + 15.0 + 12.0


def test_two_faults_overlap_and_the_phase_ends_with_the_last_undo() -> None:
    world = World(
        plan(fault("redis-down", for_s=12.0), fault("kafka-latency", at_s=5.0, for_s=15.0), fault_s=20.0)
    ).run()
    assert len(world.when(Inject)) == 2 and len(world.when(Undo)) == 2
    assert world.phases()["recovery"] >= max(world.when(Undo))


def test_a_one_shot_fault_needs_no_undo_and_its_phase_lasts_a_second() -> None:
    world = World(plan(fault("redis-flush", for_s=None), fault_s=1.0)).run()
    assert not world.when(Undo)
    assert world.phases()["recovery"] - world.phases()["fault"] == pytest.approx(1.0, abs=0.15)


EVERY: tuple[JudgedPhase, ...] = ("baseline", "fault", "after")


def test_a_phase_that_is_not_sure_goes_on_once_and_the_fault_with_it() -> None:
    world = World(plan(fault("redis-down"), extend=EVERY))
    world.wanted = {"baseline": 30.0, "fault": 45.0, "after": 20.0}
    phases = world.run().phases()
    assert phases["gap"] == phases["baseline"] + 30.0
    assert world.when(Undo)[0] - phases["fault"] == pytest.approx(45.0, abs=0.06)
    assert phases["tail"] == pytest.approx(phases["after"] + 20.0)
    assert world.looks == ["baseline", "fault", "after"], "each is asked once"
    assert [e.phase for _, e in world.log if isinstance(e, Extend)] == ["baseline", "fault", "after"]


def test_no_phase_becomes_longer_than_three_times_its_plan_or_shorter() -> None:
    world = World(plan(fault("redis-down"), extend=EVERY))
    world.wanted = {"baseline": 1e6, "fault": 3.0, "after": 0.0}
    phases = world.run().phases()
    assert phases["gap"] == phases["baseline"] + 60.0
    assert world.when(Undo)[0] - phases["fault"] == pytest.approx(20.0, abs=0.06)
    assert phases["tail"] == pytest.approx(phases["after"] + 15.0)
    assert len(world.when(Extend)) == 1


def test_where_phases_must_not_go_on_nobody_is_asked() -> None:
    world = World(plan(fault("redis-down")))
    world.wanted = dict.fromkeys(EVERY, 100.0)
    phases = world.run().phases()
    assert not world.looks and phases["gap"] == phases["baseline"] + 20.0


def test_a_fault_is_undone_in_time_although_nobody_answers_whether_it_goes_on() -> None:
    world = World(plan(fault("redis-down"), extend=EVERY))
    world.wanted = None
    phases = world.run().phases()
    assert world.when(Undo)[0] - phases["fault"] <= 21.1
    assert world.state.finished and "after" in phases


def test_an_interrupt_ends_an_extended_fault() -> None:
    world = World(plan(fault("redis-down"), extend=EVERY))
    world.wanted = {"fault": 60.0}
    world.run(until=65.0)
    assert world.state.phase == "fault" and not world.when(Undo)
    world.give(StopRequest(now=world.now, why="interrupt", text="SIGINT"))
    world.run()
    assert len(world.when(Undo)) == 1 and world.now < 67.0


# Experiments that share a load: settle instead of warm-up, and the load is handed on


def shared(*faults: PlannedFault) -> Plan:
    alone = plan(*faults)
    return msgspec.structs.replace(alone, phases=sharing(alone.phases))


class Shared(World):
    """calm_at: from when on the target is at rest; None: never."""

    def __init__(self, plan: Plan, *, calm_at: float | None = 0.0) -> None:
        super().__init__(plan)
        self.calm_at = calm_at

    def give(self, event: Input) -> None:
        if isinstance(event, Tick) and self.calm_at is not None:
            event = msgspec.structs.replace(event, calm=event.now >= self.calm_at)
        super().give(event)


def reason(world: World) -> str | None:
    return next((effect.why for _, effect in world.log if isinstance(effect, RecordStop)), None)


@pytest.mark.parametrize("calm_at", [0.0, 7.33, 100.0])
def test_on_a_shared_load_baseline_begins_at_rest_and_the_load_is_handed_on(calm_at: float) -> None:
    world = Shared(shared(fault("redis-down")), calm_at=calm_at).run()
    phases = world.phases()
    assert list(phases) == ["settle", "baseline", "gap", "fault", "recovery", "after"]
    assert phases["settle"] == 0.0 and calm_at <= phases["baseline"] <= calm_at + 0.2
    assert all(abs(start * 10 - round(start * 10)) < 1e-6 for start in phases.values())
    assert phases["gap"] - phases["baseline"] == pytest.approx(20.0)
    (handed,) = [effect for _, effect in world.log if isinstance(effect, HandOn)]
    assert handed.end_s == pytest.approx(phases["after"] + 15.0) and not world.when(StopLoad)
    assert isinstance(world.log[-1][1], Finish) and reason(world) is None
    assert world.now <= handed.end_s + 0.1, "nothing is waited for"


def test_a_target_that_does_not_come_to_rest_gets_no_fault_and_the_load_goes_on() -> None:
    world = Shared(shared(fault("redis-down")), calm_at=None).run()
    assert reason(world) == "not_calm" and list(world.phases()) == ["settle"]
    assert world.now == pytest.approx(120, abs=0.2)
    assert world.when(HandOn) and not world.when(StopLoad) and not world.when(Inject)


@pytest.mark.parametrize("why", get_args(StopWhy))
@pytest.mark.parametrize("at", [5.0, 45.0])
def test_only_some_ends_take_the_load_with_them(why: StopWhy, at: float) -> None:
    """In settle, and with the fault on: undone first either way."""
    world = Shared(shared(fault("redis-down")), calm_at=10.0)
    world.run(until=at)
    world.give(StopRequest(now=world.now, why=why, text="x"))
    world.run()
    assert world.state.finished and reason(world) == why
    ends = ("interrupt", "lost_load", "lost_keeper", "silent", "file_quit")
    assert bool(world.when(StopLoad)) == (why in ends) and bool(world.when(HandOn)) == (why not in ends)
    assert len(world.when(Undo)) == len(world.when(Inject)) == (at > 40)
    if world.when(Undo):
        assert world.when(Undo)[0] < (world.when(StopLoad) or world.when(HandOn))[0]


def test_an_undo_that_is_not_verified_stops_a_shared_load() -> None:
    world = Shared(shared(fault("redis-down")))
    world.verified = False
    world.run()
    assert world.when(StopLoad) and not world.when(HandOn) and world.state.finished


def test_a_shared_load_that_dies_ends_its_experiment() -> None:
    world = Shared(shared(fault("redis-down")), calm_at=None)
    world.run(until=5.0)
    world.give(LoadOver(now=world.now, text="killed"))
    world.run(until=10.0)
    assert world.state.finished and reason(world) == "lost_load" and not world.when(HandOn)


def test_an_interrupt_during_the_undo_of_another_end_hastens_it_and_finishes() -> None:
    world = Shared(shared(fault("redis-down")))
    world.undo_takes = 5.0
    world.run(until=40.0)
    world.give(StopRequest(now=world.now, why="abort", text="x"))
    world.run(until=41.0)
    world.give(StopRequest(now=world.now, why="interrupt", text="x"))
    world.run(until=60.0)
    assert world.state.finished and reason(world) == "abort" and world.when(Undo)


class Alerted(Shared):
    """until: up to then an expected alert is waited for, once nothing else is."""

    def __init__(self, plan: Plan, until: float) -> None:
        super().__init__(plan)
        self.until = until

    def give(self, event: Input) -> None:
        if isinstance(event, Tick) and event.now < self.until:
            self.calm_at, alerts = None, True
        else:
            self.calm_at, alerts = 0.0, False
        super().give(msgspec.structs.replace(event, alerts=alerts) if isinstance(event, Tick) else event)


@pytest.mark.parametrize("until", [3.0, 12.0, 33.33])
def test_a_run_waits_for_an_alert_after_its_warm_up_and_no_longer(until: float) -> None:
    world = Alerted(plan(fault("redis-down")), until).run()
    phases = world.phases()
    assert phases["baseline"] == (12.0 if until <= 12.0 else pytest.approx(until, abs=0.2))
    assert phases["gap"] - phases["baseline"] == pytest.approx(20.0) and reason(world) is None


def test_an_alert_may_be_waited_for_longer_than_a_target_and_never_stops_an_experiment() -> None:
    world = Alerted(shared(fault("redis-down")), 200.0).run()
    assert world.phases()["baseline"] == pytest.approx(200.0, abs=0.2) and reason(world) is None
