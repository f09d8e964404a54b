"""Harm: which requests count, over which span, and when there is none."""

from __future__ import annotations

import pytest
from histories import INJECTED, ZERO, Reply, Run, Scene, failing, healthy, slow
from msgspec.structs import replace

from harness.analysis.comparison.harm import Harm, harm_of, p95_target, span_s
from harness.model.records import events as ev
from harness.model.target_grammar import parse_targets

LIMIT = 200.0


def scene(**more: object) -> Scene:
    return Scene(rate=50.0, workers=1, samples=False, **more)  # type: ignore[arg-type]


def harm(run: Run, limit_ms: float | None = LIMIT) -> Harm:
    found = harm_of(run.plan, run.events, run.store(), limit_ms)
    assert isinstance(found, Harm), found
    return found


def none(run: Run) -> str:
    found = harm_of(run.plan, run.events, run.store(), LIMIT)
    assert isinstance(found, str)
    return found


def test_every_bad_request_of_the_span_counts_and_no_other() -> None:
    run = scene(service=failing(INJECTED, 999.0, 1.0)).build()
    found = harm(run)
    start = round(INJECTED * 10)
    planned = sum(
        counts.planned
        for row in run.rows
        if start <= getattr(row, "step", -1) < start + 350  # 20 s of fault and 15 s of hold
        for counts in getattr(row, "classes", {}).values()
    )
    assert span_s(run.plan) == 35.0
    assert found.harm == found.bad == found.n == planned


@pytest.mark.parametrize("kind", ["status", "unsent_cap", "failed"])
def test_failed_and_never_sent_are_bad(kind: str) -> None:
    found = harm(scene(service=failing(INJECTED, ZERO, 0.5, kind)).build())
    assert found.harm == found.bad and 400 < found.bad < 600


def test_slow_ones_are_bad_where_there_is_a_limit() -> None:
    run = scene(service=slow(INJECTED, ZERO, 300.0)).build()
    assert harm(run).harm > 900
    assert harm(run, None).harm == 0


def test_baselines_share_is_taken_off_and_harm_is_never_negative() -> None:
    always = harm(scene(service=failing(0.0, 999.0, 0.2)).build())
    assert always.harm < 0.3 * always.bad
    before = scene(service=lambda at, draw: Reply(kind="status") if at < INJECTED else healthy(at, draw)).build()
    assert harm(before).harm == 0.0


def test_a_phase_that_went_on_does_not_count_longer() -> None:
    run = scene(service=failing(INJECTED, 999.0, 1.0), after_s=40.0).build()
    run = Run(replace(run.plan, phases=replace(run.plan.phases, hold_s=15.0)), run.events, run.rows)
    assert harm(run).n == harm(scene(service=failing(INJECTED, 999.0, 1.0)).build()).n


def test_a_control_run_counts_from_the_fault_phase_on() -> None:
    assert harm(scene(faults=(), service=failing(INJECTED, ZERO, 1.0)).build()).harm > 900


def test_when_there_is_none() -> None:
    run = scene(service=failing(INJECTED, ZERO, 1.0)).build()
    assert none(run.without(ev.FaultInjected)) == "no fault was injected"
    assert none(run.cut(ZERO)) == "its load ended before the span did"
    holes = [row for row in run.rows if not 300 <= getattr(row, "step", -1) < 310]
    assert none(Run(run.plan, run.events, holes)).endswith("s of the span are not whole on record")
    control = scene(faults=()).build()
    assert none(control.cut(INJECTED - 1).without(ev.LoadEnded)) == "its fault phase never began"


def test_the_limit_is_that_of_the_p95_target_of_all_requests() -> None:
    def of(*texts: str) -> str | None:
        plan = scene(plan_targets=tuple(target for text in texts for target in parse_targets(text))).plan()
        found = p95_target(plan)
        return None if found is None else found.text

    assert of("p95 < 200ms") == "fault: p95 < 200ms"
    assert of("p95{GET /items} < 1s", "~fault: p95 < 1s", "after: p95 < 300ms") == "after: p95 < 300ms"
    assert of("p99 < 200ms") is None
