"""The phase machine: warmup, baseline, gap, fault, recovery, after, tail. Pure: no clock, no I/O, no sleeping.

    decide(state, input) -> (state, effects)

Everything that ends a run early is a StopRequest; there is one way out: undo what is on, stop the load, finish. Where
experiments share a load it is settle instead of warmup, no tail, and the load is handed on where it need not stop.
"""

from __future__ import annotations

import math

import msgspec

from harness.model.records.events import OrderKind, StopWhy
from harness.model.records.plan import Plan
from harness.model.records.targets import PhaseName
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
    Jump,
    LoadOver,
    Mended,
    Order,
    Prepare,
    Prepared,
    RecordOrder,
    RecordStop,
    State,
    Status,
    StopLoad,
    StopRequest,
    Tick,
    Track,
    Undo,
    Undone,
)
from harness.plan.phases import MOST_EXTENDED, ONE_SHOT_S, on_grid

CHECK_EVERY_S = 1.0
"""How often a lasting fault is asserted again."""
CHECK_MARGIN_S = 1.5
"""No assertion begins this close to the planned undo: the two would race."""
LATE_S = 0.2
"""An injection later than this counts its duration from when it really was."""
LOOK_LEAD_S = 0.4
"""Whether a phase goes on is decided this long before its planned end, so that nothing is undone too early."""
LOOK_PATIENCE_S = 1.0
LEAD_S = 0.3
"""Phase edges are announced this much ahead, so that effects can be ready on the grid."""
ZERO_PATIENCE_S = 1.0
"""How long the end of recovery's search waits past its limit for late windows."""
STOPPING: tuple[StopWhy | None, ...] = ("interrupt", "lost_load", "lost_keeper", "silent", "file_quit")
"""Ends after which no other experiment can have the load."""
ON: tuple[Status, ...] = ("injecting", "active", "undoing")
MOST_EXTENSION_S = 60.0
"""By which people may extend a fault phase; by as much as it was planned for, where that is longer."""
AT_ONCE: tuple[StopWhy | None, ...] = ("interrupt", "lost_keeper")
"""Ends that do not wait for open requests."""

Step = tuple[State, list[Effect]]


def begin(plan: Plan) -> Step:
    """The state at t0, and the effects that go with it."""
    tracks = tuple(Track(id=fault.id) for fault in plan.faults)
    state = State(plan=plan, phase_end=plan.phases.warmup_s, tracks=tracks)
    if plan.phases.settle_s is not None:
        state = msgspec.structs.replace(state, phase="settle", phase_end=None)
    return state, [EnterPhase(phase=state.phase, start_s=0.0)]


def decide(state: State, event: Input) -> tuple[State, tuple[Effect, ...]]:
    """The next state, and what is to be carried out, in order."""
    state = msgspec.structs.replace(state, now=max(state.now, event.now))
    if state.finished:
        return state, ()
    effects: list[Effect] = []
    match event:
        case Tick():
            state, effects = _tick(state, event)
        case BaselineJudged():
            state, effects = _baseline_judged(state, event)
        case Prepared():
            state, effects = _prepared(state, event)
        case Injected():
            state = _injected(state, event.fault)
        case InjectFailed():
            state, effects = _inject_failed(state, event)
        case Undone():
            state = _undone(state, event)
        case Mended():
            state, effects = _mended(state, event)
        case LoadOver():
            state, effects = _load_over(state, event)
        case Order():
            state, effects = _order(state, event)
        case StopRequest():
            state, effects = _stop(state, event)
    state, more = _settle(state)
    return state, (*effects, *more)


def _enter(state: State, phase: PhaseName, start_s: float, end_s: float | None) -> Step:
    entered = msgspec.structs.replace(state, phase=phase, phase_start=start_s, phase_end=end_s)
    return entered, [EnterPhase(phase=phase, start_s=start_s)]


def _tick(state: State, tick: Tick) -> Step:
    if state.stop is not None or state.load != "on":
        return state, []
    phases = state.plan.phases
    if tick.length_s is not None and may_look(state):
        return _look(state, tick.length_s)
    if state.phase == "warmup" and tick.now >= phases.warmup_s:
        if tick.alerts:
            return msgspec.structs.replace(state, phase_end=None), []
        start = state.phase_end if state.phase_end is not None else on_grid(tick.now)
        return _enter(state, "baseline", start, round(start + phases.baseline_s, 1))
    if state.phase == "settle":
        return _settle_tick(state, tick)
    if state.phase == "baseline" and state.phase_end is not None and _is_over(state, tick):
        return _enter(state, "gap", state.phase_end, state.phase_end + phases.gap_s)
    if state.phase == "gap" and not state.judging and not state.preparing:
        if tick.final_s >= state.phase_start or tick.now >= (state.phase_end or math.inf):
            return msgspec.structs.replace(state, judging=True), [JudgeBaseline()]
        return state, []
    if state.phase == "fault":
        return _fault_tick(state, tick)
    if state.phase == "recovery":
        return _recovery_tick(state, tick)
    if state.phase == "after" and state.phase_end is not None and _is_over(state, tick):
        if phases.settle_s is not None:
            return _stop_load(state, state.phase_end)
        return _enter(state, "tail", state.phase_end, state.phase_end + phases.tail_s)
    if state.phase == "tail" and state.phase_end is not None and tick.now >= state.phase_end - LEAD_S:
        return _stop_load(state, state.phase_end)
    return state, []


def _settle_tick(state: State, tick: Tick) -> Step:
    limit_s = state.plan.phases.settle_s or 0.0
    if tick.calm:
        return _begin_baseline(state)
    if tick.now >= limit_s and not tick.alerts:
        text = f"the target, on the load of its suite, did not come to rest within {limit_s:g} s"
        return _stop(state, StopRequest(now=tick.now, why="not_calm", text=text))
    return state, []


def _begin_baseline(state: State) -> Step:
    start = on_grid(state.now)
    return _enter(state, "baseline", start, round(start + state.plan.phases.baseline_s, 1))


def refused(state: State, order: OrderKind, seconds: float = 0.0) -> str:
    """Why people cannot have that now, a clause; "" where they can."""
    if state.stop is not None or state.load != "on":
        return "the experiment is ending already"
    match order:
        case "abort":
            return ""
        case "begin_anyway" | "proceed":
            return "" if state.phase == "settle" else "nothing is waited for"
    if state.cleared:
        return "its faults were cleared already"
    if state.phase != "fault" or not any(track.status in ("waiting", *ON) for track in state.tracks):
        return "no fault is on"
    if order == "extend":
        most = max(MOST_EXTENSION_S, state.plan.phases.fault_s)
        if state.extended:
            return "it was extended already, and once is all there is"
        if not any(track.undo_at is not None for track in state.tracks):
            return "no fault that lasts is on"
        if not 0 < seconds <= most:
            return f"by {seconds:g} s is not possible: more than 0 and at most {most:g} s"
    return ""


def _order(state: State, asked: Order) -> Step:
    """What cannot be had changes nothing: whoever asked was told by `refused`."""
    if refused(state, asked.order, asked.seconds):
        return state, []
    record = RecordOrder(order=asked.order, who=asked.who)
    match asked.order:
        case "abort":
            state, effects = _stop(state, StopRequest(now=asked.now, why="by_hand", text=f"by {asked.who}"))
        case "begin_anyway":
            state, effects = _begin_baseline(state)
        case "proceed":
            state, effects = _stop_load(state, on_grid(state.now))
        case "extend":
            end = round((state.phase_end or state.now) + on_grid(asked.seconds), 1)
            state = msgspec.structs.replace(_later(state, end), extended=True)
            effects, record = [], msgspec.structs.replace(record, until_s=end)
        case "clear":
            state, effects = _cleared(state), []
    return state, [record, *effects]


def _cleared(state: State) -> State:
    """As if the time of every fault were over."""
    tracks = tuple(
        msgspec.structs.replace(
            track,
            status="skipped" if track.status == "waiting" else track.status,
            undo_at=state.now if track.status == "active" else track.undo_at,
        )
        for track in state.tracks
    )
    looked = (*state.looked, state.phase)
    return msgspec.structs.replace(state, tracks=tracks, looked=looked, phase_end=state.now, cleared=True)


def may_look(state: State) -> bool:
    """Whether it is time to decide if the phase goes on."""
    due = state.phase_end is not None and state.now >= state.phase_end - LOOK_LEAD_S
    return due and will_look(state)


def will_look(state: State) -> bool:
    """Whether it is still to be decided if the phase goes on: all of it is judged then."""
    going = state.stop is None and state.load == "on"
    return going and state.phase in state.plan.phases.extend and state.phase not in state.looked


def _looked(state: State) -> bool:
    """Nothing waits for longer than a second for that decision: a fault is on."""
    overdue = state.phase_end is not None and state.now >= state.phase_end + LOOK_PATIENCE_S
    return state.phase not in state.plan.phases.extend or state.phase in state.looked or overdue


def _is_over(state: State, tick: Tick) -> bool:
    return state.phase_end is not None and tick.now >= state.phase_end and _looked(state)


def _look(state: State, length_s: float) -> Step:
    """The one decision whether this phase goes on."""
    state = msgspec.structs.replace(state, looked=(*state.looked, state.phase))
    planned = state.phase_end if state.phase_end is not None else state.phase_start
    most = state.phase_start + MOST_EXTENDED * (planned - state.phase_start)
    end = on_grid(min(state.phase_start + length_s, most))
    if end <= planned:
        return state, []
    return _later(state, end), [Extend(phase=state.phase, end_s=end)]


def _later(state: State, end: float) -> State:
    """The phase ends then; faults that are on stay on for as much longer."""
    later = round(end - (state.phase_end if state.phase_end is not None else state.phase_start), 1)
    tracks = tuple(
        track
        if track.undo_at is None or state.phase != "fault"
        else msgspec.structs.replace(track, undo_at=round(track.undo_at + later, 1))
        for track in state.tracks
    )
    return msgspec.structs.replace(state, phase_end=end, tracks=tracks)


def _baseline_judged(state: State, judged: BaselineJudged) -> Step:
    state = msgspec.structs.replace(state, judging=False)
    if state.stop is not None:
        return state, []
    if judged.broken:
        text = "; ".join(judged.broken)
        return _stop(state, StopRequest(now=judged.now, why="baseline_broken", text=text))
    return msgspec.structs.replace(state, preparing=True), [Prepare()]


def _prepared(state: State, prepared: Prepared) -> Step:
    state = msgspec.structs.replace(state, preparing=False)
    if state.stop is not None:
        return state, []
    if prepared.problem is not None:
        return _stop(state, StopRequest(now=prepared.now, why="error", text=prepared.problem))
    start = on_grid(prepared.now + LEAD_S)
    tracks = tuple(
        msgspec.structs.replace(track, inject_at=round(start + fault.at_s, 1))
        for track, fault in zip(state.tracks, state.plan.faults, strict=True)
    )
    state, effects = _enter(state, "fault", start, round(start + state.plan.phases.fault_s, 1))
    state = msgspec.structs.replace(state, tracks=tracks)
    if state.plan.load.jump_from is not None:
        effects.append(Jump(users=state.plan.load.users, at_s=start))
    return state, effects


def _fault_tick(state: State, tick: Tick) -> Step:
    effects: list[Effect] = []
    for track in state.tracks:
        if track.status == "waiting" and track.inject_at is not None and tick.now >= track.inject_at:
            if _in_the_way(state, track.id):
                continue
            # One that had to wait, or came late, lasts as long as it would have.
            late = tick.now > track.inject_at + LATE_S
            inject_at = on_grid(tick.now) if late else track.inject_at
            track = msgspec.structs.replace(track, status="injecting", inject_at=inject_at)
            effects.append(Inject(fault=track.id))
        elif track.status == "active" and track.undo_at is not None and tick.now >= track.undo_at and _looked(state):
            track = msgspec.structs.replace(track, status="undoing")
            effects.append(Undo(fault=track.id))
        elif track.status == "active" and track.next_check is not None and tick.now >= track.next_check:
            late = track.undo_at is not None and tick.now > track.undo_at - CHECK_MARGIN_S
            effects += [] if late else [Check(fault=track.id)]
            track = msgspec.structs.replace(track, next_check=tick.now + CHECK_EVERY_S)
        else:
            continue
        # At once, so that of two that waited for the same thing only one is let through.
        state = _put(state, track)
    return state, effects


def _put(state: State, changed: Track) -> State:
    tracks = tuple(changed if track.id == changed.id else track for track in state.tracks)
    return msgspec.structs.replace(state, tracks=tracks)


def _in_the_way(state: State, fault_id: str) -> bool:
    """Whether another fault is on, or not yet verified as undone, that must be over first: it sets the same property,
    or one of the two hides the dependency's path from the other's proofs. Planning sees to it that they do not overlap;
    an undo may take longer than planned."""
    on = {track.id for track in state.tracks if track.status in ("injecting", "active", "undoing")}
    planned = {fault.id: fault for fault in state.plan.faults}
    mine = planned.pop(fault_id)
    for other in (planned[name] for name in on if name in planned):
        if mine.change.property and mine.change.property == other.change.property:
            return True
        hides = mine.change.hides_path or other.change.hides_path
        if hides and mine.change.dependency.name == other.change.dependency.name:
            return True
    return False


def _injected(state: State, fault_id: str) -> State:
    planned = next(f for f in state.plan.faults if f.id == fault_id)
    if planned.for_s is None:
        state = _become(state, fault_id, "undone")
        return msgspec.structs.replace(state, zero=max(state.zero or 0.0, state.now))
    track = next(track for track in state.tracks if track.id == fault_id)
    base = track.inject_at if track.inject_at is not None else state.now
    undo_at, next_check = round(base + planned.for_s, 1), state.now + CHECK_EVERY_S
    if state.cleared:
        undo_at = state.now
    return _put(state, msgspec.structs.replace(track, status="active", undo_at=undo_at, next_check=next_check))


def _inject_failed(state: State, failed: InjectFailed) -> Step:
    state = _become(state, failed.fault, "active" if failed.unknown else "skipped")
    return _stop(state, StopRequest(now=failed.now, why="error", text=failed.text))


def _undone(state: State, undone: Undone) -> State:
    state = _become(state, undone.fault, "undone" if undone.verified else "unverified")
    if undone.zero is not None:
        state = msgspec.structs.replace(state, zero=max(state.zero or 0.0, undone.zero))
    return state


def _mended(state: State, mended: Mended) -> Step:
    track = next(track for track in state.tracks if track.id == mended.fault)
    if track.status != "active":
        return state, []
    return _become(state, mended.fault, "undoing"), [Undo(fault=mended.fault, hurry=True)]


def _become(state: State, fault_id: str, status: Status) -> State:
    track = next(track for track in state.tracks if track.id == fault_id)
    return _put(state, msgspec.structs.replace(track, status=status))


def _recovery_tick(state: State, tick: Tick) -> Step:
    phases = state.plan.phases
    zero = state.zero if state.zero is not None else state.phase_start
    if tick.clean_from is not None and tick.clean_from <= zero + phases.recovery_limit_s:
        start = on_grid(max(tick.clean_from, state.phase_start))
        state = msgspec.structs.replace(state, recovered=start)
        return _enter(state, "after", start, round(start + phases.after_s, 1))
    if tick.now >= zero + phases.recovery_limit_s + phases.hold_s + phases.tail_s + ZERO_PATIENCE_S:
        return _stop_load(state, on_grid(tick.now + LEAD_S))
    return state, []


def _stop_load(state: State, end_s: float, *, at_once: bool = False) -> Step:
    if state.load != "on":
        return state, []
    unverified = any(track.status == "unverified" for track in state.tracks)
    if state.plan.phases.settle_s is not None and state.stop not in STOPPING and not unverified:
        return msgspec.structs.replace(state, load="ended"), [HandOn(end_s=end_s)]
    state = msgspec.structs.replace(state, load="stopping")
    return state, [StopLoad(end_s=end_s, at_once=at_once)]


def _load_over(state: State, over: LoadOver) -> Step:
    expected = state.load == "stopping"
    state = msgspec.structs.replace(state, load="ended")
    if expected:
        return state, []
    return _stop(state, StopRequest(now=over.now, why="lost_load", text=over.text or "the load process died"))


def _stop(state: State, request: StopRequest) -> Step:
    """The one way out. Only the first reason counts; a later one can only hasten the end."""
    effects: list[Effect] = []
    if state.stop is None:
        state = msgspec.structs.replace(state, stop=request.why)
        effects.append(RecordStop(why=request.why, text=request.text))
    if request.why in AT_ONCE and not state.at_once:
        state = msgspec.structs.replace(state, at_once=True)
        if state.load == "stopping":
            effects.append(StopLoad(end_s=on_grid(state.now), at_once=True))
    return state, effects


def _settle(state: State) -> Step:
    """What follows from the state alone: undo on the way out, end of the fault phase, the finish."""
    effects: list[Effect] = []
    if state.stop is not None or any(track.status == "unverified" for track in state.tracks):
        state, effects = _way_out(state)
    elif state.phase == "fault" and _faults_over(state):
        end = on_grid(state.now)
        zero = state.zero if state.zero is not None else end
        state = msgspec.structs.replace(state, zero=zero)
        state, effects = _enter(state, "recovery", end, None)
        if state.plan.load.jump_from is not None:
            effects.append(Jump(users=state.plan.load.jump_from, at_s=end))
    busy = state.judging or state.preparing or _on(state)
    if state.load == "ended" and not busy:
        state = msgspec.structs.replace(state, finished=True)
        effects.append(Finish())
    return state, effects


def _faults_over(state: State) -> bool:
    if not state.tracks:
        return state.phase_end is not None and state.now >= state.phase_end and _looked(state)
    lasting = any(fault.for_s is not None for fault in state.plan.faults)
    least_s = ONE_SHOT_S if lasting or state.cleared else state.plan.phases.fault_s
    if state.now < state.phase_start + least_s:
        return False
    return all(track.status in ("undone", "skipped") for track in state.tracks)


def _way_out(state: State) -> Step:
    effects: list[Effect] = []
    tracks = []
    for track in state.tracks:
        if track.status == "waiting":
            track = msgspec.structs.replace(track, status="skipped")
        elif track.status == "active":
            track = msgspec.structs.replace(track, status="undoing")
            effects.append(Undo(fault=track.id, hurry=True))
        tracks.append(track)
    state = msgspec.structs.replace(state, tracks=tuple(tracks))
    if not _on(state):
        # Load goes on while a fault is being undone, so that the record covers the undo.
        stopped, more = _stop_load(state, on_grid(state.now), at_once=state.at_once)
        return stopped, [*effects, *more]
    return state, effects


def _on(state: State) -> bool:
    return any(track.status in ON for track in state.tracks)
