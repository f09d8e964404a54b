"""Closed model: Locust's own users and waits; what a hang kept them from sending is added."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from load_run import CLOSED, Run, make_plan, named
from load_target import Target

from harness.load.ipc.protocol import Edge, Jump
from harness.model.clock import monotonic
from harness.model.records.load import UserClass
from harness.model.sketch import quantile

PATHS = Path(__file__).parent / "files" / "paths.py"


@pytest.fixture
def target() -> Iterator[Target]:
    server = Target().start()
    yield server
    server.stop()


def test_a_total_hang_is_not_hidden_by_users_that_wait_for_it(target: Target, tmp_path: Path) -> None:
    """10 users, a request each 0.12 s, a hang of 4 s in 8 s. Naively 20 of 340 requests are slow, and p90 is fine."""
    target.delay_s = 0.02
    plan = make_plan(PATHS, target.url, users=10, request_timeout_s=20.0, classes=named("Cycle"), **CLOSED)
    with Run(plan, tmp_path) as run:
        run.begin().at(4)
        target.default = "hang"
        run.at(8)
        open_now = [mark for mark in run.marks() if mark.at < 8.0][-1].open_names["/cycle"]
        target.default = "ok"
        run.finish(90)
        hung = run.requests(range(41, 79))["/cycle"]
        calm = run.requests(range(5, 38))["/cycle"]
        sketch = run.sketch("/cycle", range(0, 80))
    assert 0 <= hung.ok - hung.backfilled <= 20, "the users themselves sent next to nothing"
    assert hung.backfilled > 100
    assert hung.over["200"] > 0.8 * hung.ok
    assert calm.backfilled < 0.1 * calm.ok
    p90 = quantile(sketch, 0.9)
    assert p90 is not None and p90 > 2000
    # And while it hangs the live rules see what is missed so far, not only when the requests end.
    seen = dict(zip(open_now[::2], open_now[1::2], strict=True))
    assert sum(seen.values()) > 100
    assert sum(step in seen for step in range(45, 75)) > 20
    # Totals leave them out.
    total = run.requests()["/cycle"]
    assert total.ok - total.backfilled == target.counts["/cycle"] == run.classes()["Cycle"].planned


def test_what_times_out_is_missed_too(target: Target, tmp_path: Path) -> None:
    target.delay_s = 0.02
    plan = make_plan(PATHS, target.url, users=10, request_timeout_s=1.5, classes=named("Cycle"), **CLOSED)
    with Run(plan, tmp_path) as run:
        run.begin().at(4)
        target.default = "hang"
        run.at(7)
        target.default = "ok"
        run.finish(80)
        counts = run.requests(range(41, 69))["/cycle"]
    virtual = counts.backfilled_fail["timeout"]
    assert counts.fail["timeout"] - virtual <= 40
    assert virtual > 3 * (counts.fail["timeout"] - virtual)
    assert sum(run.errors().values()) == counts.fail["timeout"] - virtual + sum(
        c.fail.get("timeout", 0) - c.backfilled_fail.get("timeout", 0)
        for steps in (range(0, 41), range(69, 80))
        for c in run.requests(steps).values()
    )


def test_weights_are_shares_of_users_and_fixed_counts_are_kept(target: Target, tmp_path: Path) -> None:
    classes = (
        UserClass(name="Cycle", weight=3.0),
        UserClass(name="Right", weight=1.0),
        UserClass(name="Lonely", fixed_count=2),
    )
    target.delay_s = 0.05
    plan = make_plan(PATHS, target.url, users=10, classes=classes, workers=2, **CLOSED)
    with Run(plan, tmp_path) as run:
        run.begin()
        alive = 0
        while alive != 10 and monotonic() < run.t0 + 60:
            run.at(monotonic() - run.t0 + 0.2)
            alive = sum({mark.worker: mark.users for mark in run.marks()}.values())
        run.finish(round((monotonic() - run.t0 + 3) * 10))
        counts = run.classes()
        assert sum(mark.lateness_n for mark in run.marks()) > 20, "how late users wake up"
    assert alive == 10
    # 6 users at a cycle of 0.15 s, 2 at 0.05 s, 2 at 0.15 s: starts in proportion, on a busy machine roughly.
    assert 1.5 < counts["Cycle"].planned / counts["Lonely"].planned < 6
    assert all(c.planned == c.ended == c.replied for c in counts.values())
    assert counts["Right"].planned > 0


def test_the_jump_of_a_spike_and_back(target: Target, tmp_path: Path) -> None:
    """The service is overrun by the jump: its slow answers are most of all answers, and still not the usual ones."""
    target.delay_s = 0.02
    plan = make_plan(PATHS, target.url, users=40, jump_from=4, classes=named("Cycle"), **CLOSED)
    with Run(plan, tmp_path) as run:
        run.begin()
        run.process.send(Edge(phase="baseline"))
        run.at(1.8)
        run.process.send(Edge(phase="gap"))
        run.process.send(Jump(users=40, at_step=20))
        target.delay_s = 0.4
        run.at(4.5)
        run.process.send(Jump(users=4, at_step=50))
        run.at(7.0)
        run.finish(75)
        users = [(mark.at, mark.users) for mark in run.marks()]
        counts = run.requests()["/cycle"]
        before, jump = run.requests(range(0, 18))["/cycle"], run.requests(range(30, 46))["/cycle"]
    slow = jump.ok - jump.backfilled
    assert slow > before.ok > 20, "more slow answers than usual ones, or this shows nothing"
    # 0.4 s and a wait of 0.1 s, where a cycle of baseline is 0.12 s: three more would have been sent each time.
    assert jump.backfilled > 1.5 * slow
    assert {number for at, number in users if 1.0 < at < 1.95} == {4}
    assert max(number for _, number in users) == 40
    assert next(number for at, number in reversed(users) if at < 7.2) == 4
    # Users that leave finish their request.
    assert not counts.fail


def test_users_that_are_stopped_between_two_requests_begin_no_other(target: Target, tmp_path: Path) -> None:
    """Hundreds of them wake and ask ten times a second while they are sent away: whoever is stopped as it wakes must
    not leave a request behind, which would be a failure of the target."""
    plan = make_plan(
        PATHS, target.url, users=300, jump_from=10, classes=named("Cycle"), **{**CLOSED, "spawn_rate": 1000.0}
    )
    with Run(plan, tmp_path) as run:
        run.begin()
        for at in (0.5, 2.5, 4.5):
            run.at(at)
            run.process.send(Jump(users=300, at_step=round(at * 10) + 1))
            run.at(at + 1.2)
            run.process.send(Jump(users=10, at_step=round((at + 1.2) * 10) + 1))
        run.at(6.5)
        run.finish(70)
        counts = run.requests()["/cycle"]
    assert counts.ok > 300
    assert not counts.fail
