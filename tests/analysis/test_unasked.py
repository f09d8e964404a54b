"""What was asked in baseline and no longer later on takes a PASS away."""

from __future__ import annotations

import random

import msgspec
import pytest

from harness.model.records.result import Result
from harness.report.sentences.story import headline
from tests.analysis.histories import BASELINE, INJECTED, ZERO, Reply, Scene, Service, healthy

FOLLOWING = "POST /checkout"


def following(begin: float, end: float, instead: str | None = None, share: float = 0.2) -> Service:
    """A fifth of the requests follow from a reply, and are not asked for in [begin, end), or by another name."""

    def service(at: float, draw: random.Random) -> Reply:
        if draw.random() >= share:
            return healthy(at, draw)
        if begin <= at < end:
            return healthy(at, draw) if instead is None else Reply(30.0, None, instead)
        return Reply(30.0, None, FOLLOWING)

    return service


def empty(begin: float, end: float, share: float) -> Service:
    """So many of the tasks end without a request."""

    def service(at: float, draw: random.Random) -> Reply:
        return Reply(30.0, "empty") if begin <= at < end and draw.random() < share else healthy(at, draw)

    return service


def judged(service: Service) -> Result:
    return Scene(service=service).build().judge()


@pytest.mark.parametrize(("begin", "end", "phase"), [(INJECTED, ZERO, "fault"), (ZERO, 99.0, "after")])
def test_a_request_that_is_no_longer_asked_for_is_no_pass(begin: float, end: float, phase: str) -> None:
    run = Scene(service=following(begin, end)).build()
    result = run.judge()
    assert (result.verdict, result.exit_code) == ("inconclusive", 3)
    first = result.reasons[0]
    assert first.startswith(f"'{FOLLOWING}' was asked for ") and f"in the {phase} phase" in first
    assert "no impact" not in headline(run.plan, result)


def test_it_may_be_declared_that_it_need_not_be_asked_for_meanwhile() -> None:
    run = Scene(service=following(INJECTED, ZERO)).build()
    run.plan = msgspec.structs.replace(run.plan, may_fail_with={FOLLOWING: ("redis",)})
    assert run.judge().verdict == "pass"
    run.plan = msgspec.structs.replace(run.plan, may_fail_with={FOLLOWING: ("kafka",)})
    assert run.judge().verdict == "inconclusive"


def test_tasks_that_end_without_a_request_are_no_pass() -> None:
    result = judged(empty(INJECTED, ZERO, 0.5))
    assert result.verdict == "inconclusive"
    assert "asked for anything in the fault phase, where" in result.reasons[0]


@pytest.mark.parametrize(
    "service",
    [
        following(99.0, 99.0),  # as in baseline
        following(ZERO, 99.0, instead="POST /checkout (late)"),  # by another name
        following(BASELINE + 8, 99.0),  # a login of each new user
        following(INJECTED, ZERO, share=0.005),  # too seldom to tell
        empty(0.0, 99.0, 0.5),  # always so
        empty(INJECTED, ZERO, 0.03),  # hardly any
    ],
)
def test_what_says_nothing_against_the_service_takes_nothing_away(service: Service) -> None:
    assert judged(service).verdict == "pass"
