"""A remote worker's clock is another one: its arrivals come when the run means, and the doubt is known."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from load_run import Run, named
from load_target import Target
from remote_run import Worker, remote_plan

from harness.load.ipc.protocol import ClockDoubt
from harness.load.master.clocks import ENOUGH, ClockMap
from harness.plan.schedule import arrivals, planned_counts

PATHS = Path(__file__).parent / "files" / "paths.py"


def trips(
    clock: ClockMap, offset_at: object, n: int, *, start: float = 0.0, there: float, back: float, jitter: float = 0.0
) -> None:
    """n round trips, 0.2 s apart; offset_at(t): theirs - ours. there, back: seconds on the way."""
    drawn = random.Random(5)
    for i in range(n):
        sent = start + 0.2 * i
        arrived = sent + there + drawn.expovariate(1) * jitter
        answered = arrived + 0.0001
        returned = answered + back + drawn.expovariate(1) * jitter
        clock.add(sent, arrived + offset_at(arrived), answered + offset_at(answered), returned)  # type: ignore[operator]


@pytest.mark.parametrize(("there", "back"), [(0.001, 0.001), (0.0, 0.02), (0.03, 0.001)])
@pytest.mark.parametrize("offset", [0.0, 5000.0, -12.5])
def test_the_true_offset_is_within_the_doubt_whatever_the_two_ways_took(
    there: float, back: float, offset: float
) -> None:
    clock = ClockMap()
    trips(clock, lambda _: offset, 100, there=there, back=back, jitter=0.01)
    assert clock.offset is not None
    assert abs(clock.offset - offset) <= clock.doubt(clock.offset) + 1e-9
    assert clock.doubt(clock.offset) < (there + back) / 2 + 0.003, "the quickest of many trips tells most"


def test_a_clock_is_not_used_before_enough_trips() -> None:
    clock = ClockMap()
    trips(clock, lambda _: 1.0, ENOUGH - 1, there=0.001, back=0.001)
    assert clock.offset is None
    trips(clock, lambda _: 1.0, 1, start=99.0, there=0.001, back=0.001)
    assert clock.offset == pytest.approx(1.0)


def test_doubt_grows_as_the_clocks_drift_apart() -> None:
    """100 ppm, the worst of ordinary crystals: 60 ms in ten minutes."""
    clock = ClockMap()
    trips(clock, lambda t: 3.0 + 1e-4 * t, 50, there=0.001, back=0.001)
    used = clock.offset
    assert used is not None and clock.doubt(used) < 0.003
    trips(clock, lambda t: 3.0 + 1e-4 * t, 3000, start=10.0, there=0.001, back=0.001)
    assert clock.doubt(used) == pytest.approx(0.061, abs=0.004)


def test_an_answer_from_before_its_question_is_left_out() -> None:
    clock = ClockMap()
    clock.add(10.0, 12.0, 11.0, 10.1)
    assert clock.taken == 0
    assert clock.doubt(0.0) == float("inf")


# Real workers


@pytest.fixture
def target() -> Iterator[Target]:
    server = Target().start()
    yield server
    server.stop()


_CLOCK = """
import os, time
real, start = time.clock_gettime, time.clock_gettime(time.CLOCK_MONOTONIC)
shift, drift = float(os.environ["TEST_CLOCK_SHIFT"]), float(os.environ["TEST_CLOCK_DRIFT"])
def clock_gettime(which):
    now = real(which)
    return now + shift + drift * (now - start) if which == time.CLOCK_MONOTONIC else now
time.clock_gettime = clock_gettime
"""


def other_clock(folder: Path, *, shift: float = 0.0, drift: float = 0.0) -> dict[str, str]:
    """Environment of a Python process whose CLOCK_MONOTONIC is shift seconds ahead, and gains drift a second. Its
    sleeps stay those of the kernel's clock: a library below Python that shifts it makes every lock wait wrongly."""
    (folder / "sitecustomize.py").write_text(_CLOCK)
    return {"PYTHONPATH": str(folder), "TEST_CLOCK_SHIFT": str(shift), "TEST_CLOCK_DRIFT": str(drift)}


def time_namespace() -> bool:
    """Whether this user may give a process a CLOCK_MONOTONIC of its own."""
    if shutil.which("unshare") is None:
        return False
    try:
        done = subprocess.run(
            ["unshare", "--time", "--monotonic", "5000", "--fork", "true"], capture_output=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("python", -60.0),
        ("python", 777.5),
        pytest.param(
            "kernel",
            5000.0,
            marks=pytest.mark.skipif(not time_namespace(), reason="NOT TESTED HERE: no time namespaces, or not root"),
        ),
    ],
)
def test_a_shifted_clock_moves_no_arrival(target: Target, tmp_path: Path, how: str, expected: float) -> None:
    plan = remote_plan(PATHS, target.url, classes=named("Right"))
    prefix = ("unshare", "--time", "--monotonic", f"{expected:.0f}", "--fork", "--kill-child")
    settings: dict[str, Any] = {"env": other_clock(tmp_path, shift=expected)} if how == "python" else {"prefix": prefix}
    with Run(plan, tmp_path) as run, Worker(plan, tmp_path, **settings) as worker:
        run.go(3)
        told = [m for m in run.messages if isinstance(m, ClockDoubt)]
        assert worker.end() == 0, worker.text
        taken = run.classes()["Right"].planned
    assert told[0].worker == "w0"
    assert told[0].offset_s == pytest.approx(expected, abs=0.1)
    assert max(m.seconds for m in told) < 0.1
    assert taken == sum(planned_counts(plan, 0, 30)["Right"])
    # The target is on our clock: each request came when the schedule says, a busy machine's delay later.
    meant = sorted(run.t0 + step / 10 + offset for step in range(30) for offset in arrivals(plan, "Right", step))
    came = sorted(at for at, path in target.arrivals if path == "/right")
    assert len(came) == len(meant)
    behind = sorted(b - a for a, b in zip(meant, came, strict=True))
    assert behind[0] > -0.1
    assert behind[len(behind) // 2] < 10, "a busy machine, but no shifted clock: those are off by a minute or more"


def test_a_clock_that_runs_slow_is_noticed_while_the_load_runs(target: Target, tmp_path: Path) -> None:
    """5 % slow: after 3 s it is 150 ms behind, and what it calls a step is none of ours."""
    plan = remote_plan(PATHS, target.url, classes=named("Right"))
    env = other_clock(tmp_path, drift=-0.05)
    with Run(plan, tmp_path) as run, Worker(plan, tmp_path, env=env):
        run.begin()
        run.wait(lambda: [m for m in run.messages if isinstance(m, ClockDoubt) and m.seconds > 0.1], 30)
        run.finish(60)
    told = [m.seconds for m in run.messages if isinstance(m, ClockDoubt)]
    assert told[0] < 0.1 and told == sorted(told)


def test_workers_of_this_machine_have_no_clock_to_doubt(target: Target, tmp_path: Path) -> None:
    plan = remote_plan(PATHS, target.url, local=1, classes=named("Right"))
    with Run(plan, tmp_path) as run, Worker(plan, tmp_path):
        run.go(1)
    assert {m.worker for m in run.messages if isinstance(m, ClockDoubt)} == {"w1"}
