"""Open model against a target that hangs, slows down, restarts: the figures must be those of the target."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from load_run import ANOMALY, Run, make_plan, named
from load_target import Target
from raw_server import RawServer, Visit

from harness.load.ipc.protocol import Limits, Warned
from harness.model.sketch import quantile
from harness.plan.schedule import planned_counts

PATHS = Path(__file__).parent / "files" / "paths.py"


@pytest.fixture
def target() -> Iterator[Target]:
    server = Target().start()
    yield server
    server.stop()


def test_a_hang_of_part_of_the_traffic_shows_its_true_share(target: Target, tmp_path: Path) -> None:
    """Batch predictions (12.5 % of the traffic) hang altogether. Handing arrivals to whoever is free hid it."""
    target.modes["/api/v1/batch/predict"] = "hang"
    plan = make_plan(ANOMALY, target.url, rate=80.0, request_timeout_s=1.5, max_in_flight=120)
    with Run(plan, tmp_path) as run:
        run.go(5)
        requests = run.requests()
    batch = requests.pop("/api/v1/batch/predict")
    assert batch.ok == 0
    assert set(batch.fail) == {"timeout"}
    assert sum(sum(c.fail.values()) for c in requests.values()) == 0
    classes = run.classes()
    assert sum(c.unsent_cap + c.unsent_generator for c in classes.values()) == 0
    planned = sum(c.planned for c in classes.values())
    assert planned == sum(sum(c) for c in planned_counts(plan, 0, 50).values())
    assert batch.fail["timeout"] == target.counts["/api/v1/batch/predict"]
    assert 0.125 - 0.06 < batch.fail["timeout"] / planned < 0.125 + 0.06


def test_a_service_slower_by_300_ms_is_slow_and_not_broken(target: Target, tmp_path: Path) -> None:
    target.delay_s = 0.3
    with Run(make_plan(PATHS, target.url, rate=100.0, users=10, classes=named("Left", "Right")), tmp_path) as run:
        run.go(4)
        classes, requests = run.classes(), run.requests()
    assert all(c.planned == c.replied == c.ended for c in classes.values())
    assert all(c.unsent_cap == c.unsent_generator == c.failed == 0 for c in classes.values())
    for counts in requests.values():
        assert counts.fail == {}
        assert counts.over == {"100": counts.ok, "200": counts.ok}
    median = quantile(run.sketch("/left"), 0.5)
    assert median is not None and median * 1.01 >= 300 and median < 1000


def test_a_total_hang_shows_in_the_percentiles_as_long_as_it_was(target: Target, tmp_path: Path) -> None:
    """Coordinated omission: a hang of 3 s in 6 s. Of the requests meant for it the median waited 1.5 s."""
    plan = make_plan(PATHS, target.url, rate=60.0, request_timeout_s=8.0, classes=named("Right"), limits_ms=(200.0,))
    with Run(plan, tmp_path) as run:
        run.begin().at(2.0)
        target.default, began = "hang", time.monotonic()
        run.at(5.0)
        target.default, ended = "ok", time.monotonic()
        run.finish(70)
        hung = run.requests(range(21, 47))["/right"]
        calm = run.requests(range(0, 17))["/right"]
    assert hung.fail == {}
    assert hung.over["200"] == hung.ok > 0
    assert calm.over["200"] < calm.ok / 2
    median = quantile(run.sketch("/right", range(20, 50)), 0.5)
    # A busy machine adds its own wait to every request, and the longest one shows how much.
    lasted_ms = (ended - began) * 1000
    added_ms = max(0.0, hung.max_ms - lasted_ms)
    assert median is not None and 0.4 * lasted_ms < median < 0.5 * lasted_ms + added_ms + 700
    assert 0.8 * lasted_ms < hung.max_ms


def test_what_finds_no_user_within_a_second_is_unsent_because_of_the_cap(target: Target, tmp_path: Path) -> None:
    target.modes["/left"] = "hang"
    plan = make_plan(
        PATHS, target.url, rate=40.0, max_in_flight=6, request_timeout_s=30.0, classes=named("Left", "Right")
    )
    with Run(plan, tmp_path) as run:
        run.begin().at(5)
        in_flight = max(sum(mark.open[1::2]) for mark in run.marks())
        target.modes.clear()
        run.finish(50)
        classes = run.classes()
    assert target.connections <= 12
    assert sum(c.unsent_cap for c in classes.values()) > 50
    assert all(c.planned == c.ended == c.replied + c.unsent_cap + c.unsent_generator for c in classes.values())
    assert in_flight < 6 + 1.5 * 40 + 40
    assert sum(c.unsent_generator for c in classes.values()) <= sum(c.unsent_cap for c in classes.values()) / 5
    assert run.errors()["unsent", None] == sum(c.unsent_cap + c.unsent_generator for c in classes.values())


def test_open_requests_are_drained_and_then_unfinished(target: Target, tmp_path: Path) -> None:
    """Two requests a task: the second begins within the drain and cannot end in it."""
    target.modes["/slow"] = "hang"
    target.delay_s = 0.8
    plan = make_plan(PATHS, target.url, rate=20.0, request_timeout_s=1.0, classes=named("Two"))
    with Run(plan, tmp_path) as run:
        run.go(3)
        requests, classes = run.requests(), run.classes()
    assert requests["/quick"].fail == {}
    assert set(requests["/slow"].fail) == {"timeout", "unfinished"}
    assert sum(requests["/slow"].fail.values()) == requests["/quick"].ok == classes["Two"].planned
    assert classes["Two"].ended == classes["Two"].planned == classes["Two"].replied
    assert [m.open for m in run.marks() if m.final] == [[]]


def test_a_task_that_never_asks_for_anything_is_unfinished(target: Target, tmp_path: Path) -> None:
    plan = make_plan(PATHS, target.url, rate=20.0, request_timeout_s=0.5, classes=named("Sleeps"))
    with Run(plan, tmp_path) as run:
        run.go(1)
        counts = run.classes()["Sleeps"]
    assert counts.planned == counts.ended == counts.failed > 0
    assert run.errors() == {("unfinished", None): counts.failed}


def test_in_flight_requests_are_told_while_they_hang(target: Target, tmp_path: Path) -> None:
    target.default = "hang"
    plan = make_plan(PATHS, target.url, rate=20.0, request_timeout_s=20.0, classes=named("Right"))
    with Run(plan, tmp_path) as run:
        run.begin().at(3)
        mark = run.marks()[-1]
        target.default = "ok"
        run.finish(35)
    planned = planned_counts(plan, 0, mark.done)["Right"]
    seen = dict(zip(mark.open[::2], mark.open[1::2], strict=True))
    assert mark.done >= 15
    assert [seen.get(step, 0) for step in range(mark.done)] == planned
    assert sum(mark.open_names["/right"][1::2]) >= sum(planned) - 2


def test_connections_survive_a_restart_of_the_target(target: Target, tmp_path: Path) -> None:
    """Kept-alive connections of the old process must not fail requests to the new one."""
    plan = make_plan(PATHS, target.url, rate=60.0, classes=named("Left", "Right"))
    with Run(plan, tmp_path) as run:
        run.begin().at(2)
        target.stop()
        time.sleep(0.5)
        again = Target()
        again.port = target.port
        again.start()
        up = time.monotonic() - run.t0
        run.at(5)
        run.finish(50)
        after = run.requests(range(int(up * 10) + 2, 50))
        kinds = {kind for kind, _ in run.errors()}
        again.stop()
    assert all(counts.fail == {} and counts.ok > 20 for counts in after.values())
    assert kinds <= {"refused", "reset"}


def test_the_length_of_replies_and_what_was_sent_twice_are_on_record(tmp_path: Path) -> None:
    """Every second request on a connection is left without an answer, as when a worker dies; the load tries again."""
    seen: set[int] = set()

    def fickle(visit: Visit) -> None:
        if visit.asked.connection in seen:
            visit.close()
            return
        seen.add(visit.asked.connection)
        visit.reply(b"x" * 321)

    with RawServer({"/fickle": fickle}) as server:
        plan = make_plan(PATHS.with_name("fickle.py"), server.url, rate=40.0)
        with Run(plan, tmp_path) as run:
            run.go(3)
            counts = run.requests()["/fickle"]
    assert counts.ok > 50 and counts.fail == {}
    assert counts.body_bytes == 321 * counts.ok
    assert 0 < counts.resent < counts.ok and counts.resent > counts.ok / 2


def test_users_on_their_way(target: Target, tmp_path: Path) -> None:
    """Arrivals wait for users that log in; users that cannot start leave theirs unsent, and say why, once."""
    plan = make_plan(PATHS, target.url, rate=60.0, classes=named("SlowStart", "BadStart", "Right", "Prints"))
    with Run(plan, tmp_path) as run:
        run.go(3)
        classes = run.classes()
        warnings = [m.text for m in run.messages if isinstance(m, Warned)]
        assert run.setup()["/login"].ok == target.counts["/login"] >= 1
    assert classes["SlowStart"].replied == target.counts["/after-login"]
    bad = classes["BadStart"]
    assert bad.planned == bad.ended == bad.unsent_task + bad.unsent_generator > 0, "and it is not the target's doing"
    for name in ("SlowStart", "Right", "Prints"):
        counts = classes[name]
        assert counts.planned == counts.ended == counts.replied + counts.unsent_cap + counts.unsent_generator
        assert counts.replied > counts.planned / 2
    assert warnings == ["a user of class BadStart could not start: no account left"]
    assert "a line on standard output" in run.log.read_text(), "and not among the messages to the conductor"


def test_a_limit_added_while_running_counts_exactly_from_the_next_step(target: Target, tmp_path: Path) -> None:
    target.delay_s = 0.05
    plan = make_plan(PATHS, target.url, rate=60.0, classes=named("Right"), limits_ms=(30_000.0,))
    with Run(plan, tmp_path) as run:
        run.begin().at(1.55)
        run.process.send(Limits(limits_ms=(30_000.0, 40.0), from_step=0))
        run.at(2.5)
        run.finish(40)
        before, after = run.requests(range(0, 15))["/right"], run.requests(range(25, 40))["/right"]
    assert before.over == {"30000": 0}
    assert after.over == {"30000": 0, "40": after.ok}


@pytest.mark.parametrize("workers", [1, 2])
def test_one_process_and_two_send_the_same_plan(target: Target, tmp_path: Path, workers: int) -> None:
    plan = make_plan(PATHS, target.url, rate=80.0, ramp_s=1.0, classes=named("Left", "Right"), workers=workers)
    with Run(plan, tmp_path) as run:
        run.go(3)
        by_step = {name: [0] * 30 for name in ("Left", "Right")}
        for step in range(30):
            for name, counts in run.classes(range(step, step + 1)).items():
                by_step[name][step] += counts.planned
    assert by_step == planned_counts(plan, 0, 30)
