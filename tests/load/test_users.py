"""Open model: one arrival starts one task, for every kind of user that Locust has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from load_run import Run, make_plan
from load_target import Target

from harness.load.process.launcher import describe
from harness.model.records.windows import ClassCounts
from harness.plan.schedule import planned_counts

KINDS = Path(__file__).parent / "files" / "kinds.py"
SECONDS = 8


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    server = Target().start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def run(target: Target, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Exactly 200 arrivals for each class."""
    classes = describe(KINDS).classes
    plan = make_plan(
        KINDS,
        target.url,
        classes=classes,
        rate=200.0 * len(classes) / SECONDS,
        arrivals="constant",
        workers=2,
        request_timeout_s=10.0,
    )
    assert {n: sum(c) for n, c in planned_counts(plan, 0, SECONDS * 10).items()} == {c.name: 200 for c in classes}
    with Run(plan, tmp_path_factory.mktemp("kinds")) as running:
        yield running.go(SECONDS)


ALL = [
    "Http",
    "Fast",
    "Sequence",
    "Nested",
    "Several",
    "Raises",
    "RaisesLater",
    "Reschedules",
    "NoWait",
    "Custom",
    "Measured",
    "Stops",
    "Markov",
]
MAKES_NO_REQUEST_TO_THE_TARGET = {"Raises", "Custom", "Measured"}


def given_up(counts: ClassCounts) -> int:
    """0 on a machine that is not busy otherwise: the target is fast, and users are free to be started."""
    return counts.unsent_cap + counts.unsent_generator


@pytest.mark.parametrize("kind", ALL)
def test_200_arrivals_start_exactly_200_tasks(run: Run, target: Target, kind: str) -> None:
    counts = run.classes()[kind]
    assert (counts.planned, counts.ended) == (200, 200)
    starts = 200 - given_up(counts)
    if kind not in MAKES_NO_REQUEST_TO_THE_TARGET:
        assert target.counts[f"/{kind}"] == starts
    assert counts.replied == (0 if kind == "Raises" else starts)


def test_every_class_of_the_file_is_covered(run: Run) -> None:
    assert set(run.classes()) == set(ALL)


def test_a_task_that_raises_without_a_request_is_a_failed_arrival(run: Run) -> None:
    failed = {name: counts.failed for name, counts in run.classes().items() if counts.failed}
    raised = 200 - given_up(run.classes()["Raises"])
    assert failed == {"Raises": raised}
    assert run.errors()["exception", None] == raised


def test_later_requests_of_a_task_are_counted_too(run: Run) -> None:
    requests, starts = run.requests(), {n: 200 - given_up(c) for n, c in run.classes().items()}
    assert requests["/more"].ok == 2 * starts["Several"]
    assert requests["first"].ok + requests["second"].ok + requests["third"].ok == starts["Sequence"]
    assert requests["/Custom"].ok == starts["Custom"]
    assert requests["/Measured"].ok == starts["Measured"]


def test_requests_of_on_start_are_reported_apart(run: Run, target: Target) -> None:
    setup = run.setup()
    assert set(setup) == {"/inner-setup", "/login"}
    assert setup["/login"].ok == target.counts["/login"] >= run.classes()["Stops"].replied // 3
    assert "/login" not in run.requests()


def test_the_watermark_ends_at_the_end(run: Run) -> None:
    finals = [mark for mark in run.marks() if mark.final]
    assert sorted(mark.worker for mark in finals) == ["w0", "w1"]
    assert all(mark.done == SECONDS * 10 and not mark.open and not mark.open_names for mark in finals)
