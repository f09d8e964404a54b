"""Requests on fresh connections beside a load that keeps its own: told only where the two fared differently."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from histories import BASELINE, INJECTED, ZERO, Run, Scene, failing, slow, steady_sample

from harness.model.records.samples import Fresh

Admits = Callable[[float], bool]


def probed(scene: Scene, admits: Admits) -> Run:
    """A probe a second; one that is not admitted is given up after a second."""
    run = scene.build()
    run.samples = [
        msgspec.structs.replace(
            sample, fresh=Fresh(at=sample.at + 0.2, ok=(ok := admits(sample.at + 0.2)), ms=3.0 if ok else 1000.0)
        )
        for sample in run.samples
    ]
    return run


def test_a_target_that_serves_whom_it_knows_and_admits_nobody_new_is_told() -> None:
    result = probed(Scene(), lambda at: not 41.0 <= at < 46.0).judge()
    assert result.fresh_connections == ((41.2, 46.2),)
    told = [text for text in result.warnings if "New connections" in text]
    assert len(told) == 1 and "from 41.2s to 46.2s" in told[0]


def test_where_the_load_fails_as_well_there_is_no_difference_to_tell() -> None:
    result = probed(Scene(service=failing(INJECTED, ZERO, 1.0)), lambda at: not INJECTED <= at < ZERO).judge()
    assert result.fresh_connections == () and not any("New connections" in text for text in result.warnings)


@pytest.mark.parametrize("ms", [1500.0, 900.0])
def test_a_reply_that_comes_after_a_probe_was_given_up_is_no_service(ms: float) -> None:
    result = probed(Scene(service=slow(30.0, 36.0, ms)), lambda at: not 30.0 <= at < 36.0).judge()
    assert bool(result.fresh_connections) is (ms < 1000)


def test_a_single_failed_probe_may_be_chance() -> None:
    result = probed(Scene(), lambda at: not 41.0 <= at < 42.0).judge()
    assert result.fresh_connections == ()


def test_a_page_that_never_answers_in_time_tells_nothing() -> None:
    result = probed(Scene(), lambda at: at < BASELINE or int(at) % 3 == 0).judge()
    assert result.fresh_connections is None and not any("New connections" in text for text in result.warnings)


def test_records_without_such_probes_are_judged_as_before() -> None:
    run = Scene().build()
    assert all(steady_sample(sample.at) == sample for sample in run.samples)
    result = run.judge()
    assert result.fresh_connections is None and result.verdict == "pass"
