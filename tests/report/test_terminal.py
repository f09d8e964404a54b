"""The summary on stdout."""

from __future__ import annotations

import re

import msgspec
import pytest

from harness.model.records.result import TargetResult
from harness.report import markdown
from harness.report.sentences.assessment import assess
from harness.report.sentences.story import lines_of
from harness.report.terminal import summary as terminal

from .sample import Kind, plan_of, result


def summary(kind: Kind, *, width: int = 100, colour: bool = False) -> str:
    return terminal.summary(plan_of(kind), result(kind), "runs/x", width=width, colour=colour)


def test_target_assessment_reads_as_locust_users_know_it() -> None:
    lines = [line for line, _ in terminal.assessment_lines(lines_of(plan_of("fail"), result("fail")))]
    assert lines[0] == "TARGET ASSESSMENT"
    assert lines[1].startswith("RPS Target (>=95% of 200):    ✅ PASS (200.1)")
    assert lines[2].startswith("P95 Latency Target (<200ms):  ✅ PASS (168ms)")
    assert lines[3] == "Failure Rate Target (<1%):    ❌ FAIL (fault: 12.4%)"
    assert lines[4] == "Recovery Target (<30s):       ✅ PASS (1.3s, between 1.2s and 1.4s)"


def test_the_worst_judged_phase_is_the_one_shown() -> None:
    """p95 held everywhere, but it was seven times higher in the fault phase: 168ms is the number to see."""
    line = next(line for line in lines_of(plan_of("fail"), result("fail")) if line.worst.metric == "p95")
    assert (line.worst.phase, line.observed) == ("fault", "168ms")


def test_a_phase_without_data_is_never_a_pass() -> None:
    for line in lines_of(plan_of("interrupted"), result("interrupted")):
        if line.primary:
            assert "NOT JUDGED" in line.mark


@pytest.mark.parametrize("kind", ["fail", "pass", "inconclusive", "interrupted", "control", "hostile"])
def test_without_colour_there_is_no_control_character(kind: Kind) -> None:
    text = summary(kind)
    assert not [c for c in text if ord(c) < 32 and c != "\n"]
    assert "\u202e" not in text


def test_with_colour_outside_text_still_has_no_escape_codes() -> None:
    """The sample's names hold `ESC[31m`; only our own codes may reach the terminal."""
    text = summary("hostile", colour=True)
    assert "\x1b[31mred" not in text
    assert "\\x1b[31mred" in text
    assert "/x/[/id]" in text  # rich's markup would have raised on it


@pytest.mark.parametrize("width", [60, 72, 80, 100, 140, 200])
def test_no_number_is_clipped_at_any_width(width: int) -> None:
    text = summary("fail", width=width)
    table = text[text.index("PHASES") : text.index("ERRORS BY KIND")]
    assert "…" not in table
    for row in table.splitlines()[1:]:
        assert len(row) <= width
    fault = next(row for row in table.splitlines() if row.startswith("fault"))
    assert "12.4%" in fault
    assert "168ms" in fault


def test_the_verdict_comes_last_with_its_reasons_and_the_report() -> None:
    rows = summary("fail").splitlines()
    assert rows[-1] == "Report: runs/x/report.html"
    assert rows[-2].startswith("  - fault: error_rate")
    assert rows[-3].startswith("FAIL: with redis-down, 12.4% of requests failed during the fault")


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_phases_as_near_to_their_limits_the_lower_rate_is_the_worst(order: int) -> None:
    """Each phase has a limit of its own: a share of the arrivals that were drawn for it."""
    (planned,) = [t for t in plan_of("pass").targets if t.relative == "plan"][:1]
    seen = [
        TargetResult(
            target=planned.text,
            phase=phase,
            metric="rps",
            observed=rate,
            limit=0.95 * rate,
            outcome="held",
            primary=True,
        )
        for phase, rate in (("baseline", 81.0), ("after", 80.5))
    ]
    (line,) = assess([planned], seen[::order], rate=80.0)
    assert line.detail.endswith("worst in after")


def test_a_scaled_run_says_that_it_was() -> None:
    said = "at 2 % of the target load; this does not show that the full load holds"
    assert said in summary("pass")
    full = msgspec.structs.replace(plan_of("pass"), scale=1.0)
    assert "does not show" not in terminal.summary(full, result("pass"), colour=False)


def test_of_somebody_s_own_service_nobody_knows_what_its_full_load_is() -> None:
    plan = plan_of("pass")
    own = msgspec.structs.replace(
        plan, stack="external", load=msgspec.structs.replace(plan.load, locustfile="/shop/locustfile.py")
    )
    assert "does not show" not in terminal.summary(own, result("pass"), colour=False)
    assert "Full load" in markdown.render(plan, result("pass"))
    assert "Full load" not in markdown.render(own, result("pass"))


def test_a_pass_with_violating_time_says_so_in_its_first_sentence() -> None:
    passed = result("pass")
    assert passed.impact is not None
    hurt = msgspec.structs.replace(passed, impact=msgspec.structs.replace(passed.impact, violating_s=1.9))
    text = terminal.summary(plan_of("pass"), hurt, colour=False)
    assert re.search(r"^PASS, but targets were broken for 1\.9s", text, re.MULTILINE)


def test_an_unverified_undo_is_loud() -> None:
    failed = result("fail")
    left = msgspec.structs.replace(failed.faults[0], undo_verified=False)
    unsafe = msgspec.structs.replace(failed, faults=(left,), exit_code=5)
    text = terminal.summary(plan_of("fail"), unsafe, colour=False)
    assert "undone at 132.4s, NOT VERIFIED" in text
    assert "A change may still be in place" in text


def test_nothing_but_a_verdict_can_be_summed_up() -> None:
    """A run that failed in set-up has no phases, no targets and no faults."""
    empty = msgspec.structs.replace(
        result("interrupted"),
        phases=(),
        requests=(),
        totals=(),
        targets=(),
        faults=(),
        recovery=None,
        impact=None,
        generator=None,
        memory=None,
        signals={},
        cpu_by_phase={},
        exit_code=4,
        reasons=("The load never started, so nothing was measured.",),
    )
    text = terminal.summary(plan_of("fail"), empty, colour=False)
    assert "Total requests: 0" in text
    assert "p95:            n/a" in text
    assert "No target was judged." in text
    assert "The load never started" in text


def test_the_plan_says_what_must_not_need_a_dependency_where_that_is_declared() -> None:
    from harness.report.terminal.plan import plan_text

    plan = plan_of("pass")
    assert "must not need" not in plan_text(plan)
    declared = msgspec.structs.replace(plan, independent_of={"GET /health": ("redis", "db")})
    assert "GET /health must not need redis, db" in plan_text(declared)
