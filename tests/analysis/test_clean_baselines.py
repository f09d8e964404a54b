"""In a session the clean baselines before an experiment tell, with its own, what the service does by itself."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import msgspec
import pytest
from histories import (
    BASELINE,
    GAP,
    INJECTED,
    ZERO,
    Reply,
    Run,
    Scene,
    Service,
    failing,
    healthy,
    mark,
    slow,
    stopped,
    target,
)

from harness.analysis.live import recovered_live
from harness.analysis.record.clean import CLEAN, CleanBaseline, clean_rows, earlier, for_plan, newest, recorded, what_of
from harness.analysis.record.spans import Span
from harness.analysis.run_directory import analyze, load_run
from harness.analysis.statistics.dispersion import dispersion
from harness.analysis.statistics.series import Series
from harness.analysis.statistics.violations import worst_baseline
from harness.analysis.verdict.judge import clean_baseline
from harness.model.errors import UsageError
from harness.model.jsonl import encode_line
from harness.model.records.result import Result
from harness.model.records.windows import DeltaRow, MarkRow
from harness.plan.schedule import planned_counts

STEPS = 200
SPAN = Span("baseline", round(BASELINE * 10), round(GAP * 10), True)


def either(*services: Service) -> Service:
    def service(at: float, draw: random.Random) -> Reply:
        replies = [one(at, draw) for one in services]
        return next((r for r in replies if r.kind is not None or r.latency_ms > 150), replies[0])

    return service


def every(period_s: float, length_s: float, reply: Reply, share: float = 1.0) -> Service:
    """That reply for `length_s` of each period, wherever in it."""

    def service(at: float, draw: random.Random) -> Reply:
        begin = random.Random(f"{int(at // period_s)}").random() * (period_s - length_s)
        return reply if begin <= at % period_s < begin + length_s and draw.random() < share else healthy(at, draw)

    return service


PAUSES = every(10.0, 0.3, Reply(900.0))
BURSTS = every(10.0, 0.1, Reply(5.0, "status"))


def baselines(service: Service, how_many: int = 5) -> tuple[CleanBaseline, ...]:
    found = []
    for number in range(how_many):
        scene = Scene(service=lambda at, draw, n=number: service(1000 + 60 * n + at, draw))  # type: ignore[misc]
        plan, draw = scene.plan(), random.Random(number)
        counts = planned_counts(plan.load, 0, STEPS)
        rows = [
            row
            for step in range(STEPS)
            for worker in range(2)
            for row in scene.deltas(plan, step, worker, counts, draw, {})
        ]
        limits = tuple(sorted(plan.load.limits_ms))
        found.append(CleanBaseline(rows=tuple(rows), steps=STEPS, limits_ms=limits, of=what_of(plan)))
    return tuple(found)


def judged(run: Run, before: tuple[CleanBaseline, ...] = ()) -> Result:
    store = run.store()
    store.earlier = earlier(clean_rows(for_plan(before, run.plan)), run.plan)
    return run.judge()


def test_a_harmless_pause_that_earlier_baselines_had_too_is_no_impact() -> None:
    """Its own baseline happened to have none."""
    before = baselines(PAUSES)
    run = Scene(service=either(slow(30.0, 30.3, 900.0), slow(ZERO + 3, ZERO + 3.3, 900.0)), ends=True).build()
    alone, found = judged(run), judged(run, before)
    assert alone.impact is not None and alone.impact.start_s == pytest.approx(30.0)
    assert alone.earlier_baseline_s == 0 and found.earlier_baseline_s == 100
    assert found.impact is not None and (found.impact.start_s, found.impact.violating_s) == (None, 0.0)
    assert found.recovery is not None and found.recovery.outcome == "no_impact"
    # What people read of baseline is its own.
    assert [p for p in found.phases if p.name == "baseline"] == [p for p in alone.phases if p.name == "baseline"]

    out = Scene(service=either(failing(INJECTED, ZERO + 1.5, 0.2), PAUSES), recovery_s=1.5).build()
    seen = judged(out, before)
    assert seen.impact is not None and seen.impact.start_s == pytest.approx(INJECTED, abs=0.2)
    assert seen.recovery is not None and seen.recovery.seconds == pytest.approx(1.5, abs=0.2)
    assert seen.verdict == "fail" and target(seen, "fault: error_rate < 1%").outcome == "broken"


def test_pauses_everywhere_are_no_impact() -> None:
    found = judged(Scene(service=PAUSES).build(), baselines(PAUSES))
    assert found.impact is not None and (found.impact.start_s, found.impact.violating_s) == (None, 0.0)


def test_bursts_of_earlier_baselines_tell_how_much_failures_say() -> None:
    """Four bursts by chance, and none in its own baseline: alone that is a broken target."""
    four = either(*(failing(at, at + 0.1, 1.0) for at in (25.0, 31.0, 37.0, 41.0)))
    run = Scene(service=four).build()
    name = "fault: error_rate < 1%"
    alone, found = judged(run), judged(run, baselines(BURSTS))
    assert target(alone, name).outcome == "broken" and target(alone, name).dispersion is None
    assert target(found, name).outcome == "undecided"
    assert target(found, name).dispersion == pytest.approx(20, rel=0.5)
    assert target(judged(run, baselines(healthy)), name).outcome == "broken"


def test_live_rules_use_what_was_known_when_the_experiment_began() -> None:
    run = Scene(service=slow(50.0, 51.2, 900.0)).build()

    def step(before: tuple[CleanBaseline, ...]) -> int | None:
        store = Run(run.plan, run.events, run.rows).store()
        store.baseline = (SPAN.start, SPAN.end)
        store.earlier = earlier(clean_rows(for_plan(before, run.plan)), run.plan)
        return recovered_live(store, run.plan, ZERO, 64.0)

    assert step(()) is None
    assert step(baselines(every(25.0, 1.2, Reply(900.0)))) == round(ZERO * 10)


# -- seams -------------------------------------------------------------------------------------------------------------


def flat(bad: dict[int, int], steps: int = 300, start: int = 0) -> Series:
    return Series(start=start, n=[20] * steps, bad=[bad.get(i, 0) for i in range(steps)], limit=0.01)


def test_no_window_lies_in_two_baselines() -> None:
    own, before = flat({0: 20}, start=700), flat({299: 20})
    found = worst_baseline(own, 700, 1000, earlier=(before,))
    # 60 s together: the second-worst, and the two halves of what would be one window count by themselves.
    assert found.worst == {1: 1.0, 10: 0.1, 50: 0.02}
    assert worst_baseline(own, 700, 1000).worst == found.worst
    assert worst_baseline(own, 700, 1000, earlier=(flat({}),)).worst == {1: 0.0, 10: 0.0, 50: 0.0}
    assert worst_baseline(own, 700, 1000, earlier=(flat({}, steps=299),)).worst == found.worst


def test_no_second_and_no_episode_lies_in_two_baselines() -> None:
    own, before = flat({0: 20, 50: 5}, start=700), flat({299: 20, 295: 4}, steps=305)
    found = dispersion(own, 700, 1000, (before,))
    assert (found.episodes, found.seconds, found.largest) == (3, 60, 24)
    # The worst second (24) is left out of phi_held with 5 s of its own baseline, not with the start of the next.
    assert found.phi > found.phi_held == pytest.approx(16.89, abs=0.01)
    assert dispersion(own, 700, 1000, ()) == dispersion(own, 700, 1000)


def test_requests_that_an_earlier_baseline_did_not_have_make_it_no_yardstick() -> None:
    run = Scene(targets=("error_rate{GET /new} < 1%",)).build()
    store = run.store()
    store.earlier = earlier(clean_rows(baselines(healthy)), run.plan)
    named = next(t for t in run.plan.targets if t.name is not None)
    assert store.earlier_series(named, 0.01) == []
    assert len(store.earlier_series(msgspec.structs.replace(named, name="GET /items"), 0.01)) == 5


# -- the file ----------------------------------------------------------------------------------------------------------


def test_what_is_kept_of_a_session() -> None:
    plan = Scene().plan()
    limits = tuple(sorted(plan.load.limits_ms))

    def one(steps: int, limits: tuple[float, ...] = limits, of: str = "") -> CleanBaseline:
        rows = tuple(DeltaRow(worker="w0", step=step) for step in range(steps))
        return CleanBaseline(rows=rows, steps=steps, limits_ms=limits, of=of or what_of(plan))

    assert [b.steps for b in for_plan([one(200)] * 9, plan)] == [200] * 6
    assert [b.steps for b in for_plan([one(600), one(450), one(300)], plan)] == [450, 450, 300]
    assert for_plan([one(600), one(450), one(300)], plan)[0].rows[0].step == 0
    assert for_plan([one(200, of="another load"), one(200)], plan)[0].of == what_of(plan)
    assert len(for_plan([one(200, of="another load"), one(200)], plan)) == 1
    # Less than 5 s are left for the oldest, and no window of that length would fit.
    assert [b.steps for b in for_plan([one(200), one(580), one(580)], plan)] == [580, 580]
    assert for_plan([one(200, (1.0,))], plan) == ()
    assert for_plan([], plan) == ()


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Steps of the load's own time, as in any experiment of a session."""
    scene = Scene(service=either(slow(30.0, 30.3, 900.0)))
    run, before = scene.build(), baselines(PAUSES)
    folder = run.write(tmp_path / "run")
    plain = analyze(folder)
    assert plain == judged(Run(run.plan, run.events, run.rows, run.samples)) and plain.earlier_baseline_s == 0
    (folder / CLEAN).write_bytes(b"".join(encode_line(row) for row in clean_rows(for_plan(before, run.plan))))
    assert analyze(folder) == judged(run, before) != plain
    moved = msgspec.structs.replace(run.plan, load=msgspec.structs.replace(run.plan.load, first_step=77))
    (folder / "plan.json").write_bytes(msgspec.json.encode(moved))
    assert [one.baseline for one in load_run(folder).store.earlier] == [(0, STEPS)] * 5
    # A stretch whose end is torn off is none.
    whole = (folder / CLEAN).read_bytes()
    (folder / CLEAN).write_bytes(whole[:-30])
    assert len(load_run(folder).store.earlier) == 4


@pytest.mark.parametrize(
    "rows",
    [
        [DeltaRow(worker="w0", step=1200)],
        [DeltaRow(worker="w0", step=-1)],
        [DeltaRow(worker="w0", step=20), MarkRow(worker="", at=1.0, done=20)],
        [MarkRow(worker="", at=0.0, done=0)],
        [MarkRow(worker="", at=60.0, done=601)] * 2,
    ],
)
def test_rows_that_are_no_stretches_are_damage(tmp_path: Path, rows: list[DeltaRow | MarkRow]) -> None:
    folder = Scene(rate=50.0).build().write(tmp_path / "run")
    (folder / CLEAN).write_bytes(b"".join(encode_line(row) for row in rows))
    with pytest.raises(UsageError, match=r"clean\.jsonl: .*damaged"):
        analyze(folder)


def test_a_damaged_line_or_no_file_is_named(tmp_path: Path) -> None:
    folder = Scene(rate=50.0).build().write(tmp_path / "run")
    (folder / CLEAN).write_bytes(b"garbage\n")
    with pytest.raises(UsageError, match=r"clean\.jsonl line 1"):
        analyze(folder)
    (folder / CLEAN).unlink()
    (folder / CLEAN).mkdir()
    with pytest.raises(UsageError, match=r"clean\.jsonl is a folder"):
        analyze(folder)


# -- which baselines are clean -----------------------------------------------------------------------------------------


def clean(run: Run) -> Span | None:
    return clean_baseline(run.plan, run.events, run.store(), run.judge())


def test_a_baseline_in_which_nothing_was_wrong_is_clean(tmp_path: Path) -> None:
    run = Scene(service=failing(INJECTED, ZERO + 1, 0.5), recovery_s=1.1, ends=True).build()
    found = clean(run)
    assert run.judge().verdict == "fail" and found == SPAN
    kept = recorded(run.write(tmp_path / "run"), run.plan, SPAN)
    own = [r for r in run.rows if isinstance(r, DeltaRow) and SPAN.start <= r.step < SPAN.end]
    assert kept.steps == STEPS and len(kept.rows) == len(own) and kept.rows[0].step == own[0].step - SPAN.start
    assert all(row.ended is None for row in kept.rows)


def test_what_was_wrong_makes_it_no_yardstick() -> None:
    sound = Scene(ends=True)
    assert clean(sound.build()) == SPAN
    assert clean(dataclasses.replace(sound, service=failing(0.0, 99.0, 0.05)).build()) is None
    early = dataclasses.replace(sound, service=failing(INJECTED - 0.8, ZERO, 1.0)).build()
    assert early.judge().impact.before_s is not None and clean(early) is None  # type: ignore[union-attr]
    run = sound.build()
    gap = [r for r in run.rows if not (isinstance(r, DeltaRow) and r.step == 100)]
    assert clean(Run(run.plan, run.events, gap)) is None
    later = [r for r in run.rows if not (isinstance(r, DeltaRow) and r.step == 300)]
    assert clean(Run(run.plan, run.events, later)) == SPAN
    starved = mark(0, 10.05, 100, {}, saturated=True)
    assert clean(Run(run.plan, run.events, [*run.rows, starved])) is None
    assert clean(run.cut(15.0, stopped("interrupt", 15.0))) is None


def test_a_session_keeps_no_more_than_later_experiments_can_use() -> None:
    def baseline(limits_ms: tuple[float, ...], of: str = "load") -> CleanBaseline:
        return CleanBaseline(rows=(), steps=STEPS, limits_ms=limits_ms, of=of)

    kept: tuple[CleanBaseline, ...] = ()
    for number in range(60):
        kept = newest((*kept, baseline((100.0,)), baseline((200.0,)), *([baseline((100.0,), "other")] * (number < 2))))
    steps = {kind: sum(one.steps for one in kept if (one.of, one.limits_ms) == kind) for kind in KINDS}
    assert steps == {("load", (100.0,)): 1200, ("load", (200.0,)): 1200, ("other", (100.0,)): 2 * STEPS}


KINDS = (("load", (100.0,)), ("load", (200.0,)), ("other", (100.0,)))
