"""Which arrivals a user that waited for a slow reply has missed: no clock, no load."""

from __future__ import annotations

import pytest

from harness.load.generator.closed import Cycles


def usual(latency_ms: float, wait_s: float) -> Cycles:
    cycles = Cycles()
    cycles.entered("baseline")
    for _ in range(50):
        cycles.replied("User", latency_ms)
        cycles.waited("User", wait_s)
    cycles.entered("gap")
    return cycles


def missed(cycles: Cycles, took_ms: float) -> int:
    return sum(count for _, _, count in cycles.missed("User", 100.0, took_ms))


@pytest.mark.parametrize(("latency_ms", "wait_s"), [(100.0, 0.0), (20.0, 0.1), (50.0, 2.0), (5.0, 0.3)])
def test_with_what_was_missed_a_user_has_made_as_many_requests_as_ever(latency_ms: float, wait_s: float) -> None:
    """A hang of 30 s: the hung request, the missed ones and the next one are one a cycle."""
    cycle_s = latency_ms / 1000 + wait_s
    n = missed(usual(latency_ms, wait_s), 30_000)
    until_the_next_s = 30.0 + wait_s
    assert (n + 1) * cycle_s == pytest.approx(until_the_next_s, rel=0.02, abs=cycle_s)


def test_a_request_a_little_slower_than_usual_misses_nothing() -> None:
    cycles = usual(100.0, 0.0)
    assert [missed(cycles, took) for took in (90.0, 101.0, 130.0, 190.0)] == [0, 0, 0, 0]
    assert [missed(cycles, took) for took in (215.0, 320.0)] == [1, 2]


def test_virtual_arrivals_have_the_latency_they_would_have_had() -> None:
    found = usual(100.0, 0.1).missed("User", 100.0, 1000.0)
    assert [count for *_, count in found] == [1, 1, 1, 1]
    for start, latency_ms, _ in found:
        assert start + latency_ms / 1000 == pytest.approx(101.0), "it would have ended with the one that was open"
        assert latency_ms > 100.0, "and not sooner than a usual one"
    starts = [start for start, *_ in found]
    assert starts == pytest.approx([100.2, 100.4, 100.6, 100.8], rel=0.001)


def test_a_long_hang_of_quick_requests_is_added_in_groups_that_add_up() -> None:
    found = usual(1.0, 0.001).missed("User", 0.0, 30_000)
    assert len(found) <= 500
    assert sum(count for *_, count in found) == pytest.approx(15_000, rel=0.03)


def test_nothing_is_missed_before_the_usual_cycle_is_known() -> None:
    cycles = Cycles()
    cycles.entered("baseline")
    cycles.update()
    assert cycles.missed("User", 0.0, 30_000) == []


def test_slow_replies_of_the_fault_do_not_become_the_usual_ones() -> None:
    cycles = usual(100.0, 0.0)
    cycles.entered("fault")
    for _ in range(10_000):
        cycles.replied("User", 5000.0)
    cycles.update()
    assert missed(cycles, 5000) == pytest.approx(49, abs=1)
