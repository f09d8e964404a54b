"""Who needs what, as the runs show it; and the targets of what is declared not to need it."""

from __future__ import annotations

from harness.analysis.suite.isolation import isolation
from harness.model.target_grammar import defaults, parse_targets
from harness.plan.isolation import isolation_targets
from tests.analysis.suite.suites import attempt, cell, experiment


def test_what_a_dependency_breaks_slows_and_leaves_alone() -> None:
    (found,) = isolation(
        [
            experiment("redis-down", attempt("broken", {"A": "broken", "B": "held", "C": "unknown"})),
            experiment(
                "redis-latency", attempt("broken", [cell("A", "broken", failed=2), cell("B"), cell("C", "held")])
            ),
        ]
    )
    (need,) = found.needs
    assert (need.request, need.fails, need.slow) == ("A", ("redis-down",), ("redis-latency",))
    assert (found.held, found.undecided, found.experiments) == (("B",), ("C",), ("redis-down", "redis-latency"))
    assert found.undeclared == (need,) and not found.froze


def test_a_declared_need_is_no_finding() -> None:
    (found,) = isolation([experiment("redis-down", attempt("held", [cell("A", "broken", may_fail=True), cell("B")]))])
    assert found.needs[0].declared and found.undeclared == ()
    (other,) = isolation(
        [experiment("redis-down", attempt("broken", [cell("A", "broken", independent=True), cell("B")]))]
    )
    assert other.undeclared[0].independent


def test_everything_froze_is_said_where_something_that_does_not_need_it_did() -> None:
    all_broken = attempt("broken", {"A": "broken", "B": "broken"})
    (found,) = isolation([experiment("redis-hang", all_broken)])
    assert not found.froze  # both may need it
    held = experiment("redis-down", attempt("broken", {"A": "broken", "B": "held"}))
    (found,) = isolation([experiment("redis-hang", all_broken), held])
    assert [(one.experiment, one.requests) for one in found.froze] == [("redis-hang", ("B",))]
    declared = attempt("broken", [cell("A", "broken"), cell("B", "broken", independent=True)])
    (found,) = isolation([experiment("redis-hang", declared)])
    assert [one.requests for one in found.froze] == [("B",)]
    # One request that held, or of which nothing is known: not everything.
    for outcome in ("held", "unknown"):
        partly = attempt("broken", [cell("A", "broken", independent=True), cell("B", outcome)])
        (found,) = isolation([experiment("redis-hang", partly)])
        assert not found.froze


def test_control_runs_pairs_and_what_was_not_run_tell_of_no_dependency() -> None:
    broken = attempt("broken", {"A": "broken"})
    assert isolation([experiment("control", broken), experiment("redis-down")]) == ()
    assert isolation([experiment("both", broken, dependency="redis+db", kind="down+down")]) == ()
    assert isolation([experiment("api-kill", broken, on_target=True)]) == (), "everything needs the service itself"


def test_one_attempt_of_three_that_is_broken_is_no_need() -> None:
    good, bad = attempt("held", {"A": "held"}), attempt("broken", {"A": "broken"})
    (found,) = isolation([experiment("redis-down", bad, good, good)])
    assert found.needs == () and found.held == ("A",)


def test_independent_requests_get_targets_of_their_own() -> None:
    declared = {"GET /health": ("redis", "kafka"), "GET /other": ("db",)}
    assert isolation_targets(declared, {"redis"}) == (
        "fault: error_rate{GET /health} < 5%",
        "fault: p95{GET /health} < 200ms",
    )
    # No stricter than a cell is, but as lax as the experiment.
    for written, limit in (("1%", "5%"), ("10%", "10%")):
        (errors, _) = isolation_targets(declared, {"redis"}, parse_targets(f"fault: error_rate < {written}"))
        assert errors == f"fault: error_rate{{GET /health}} < {limit}"
    assert isolation_targets(declared, {"web"}) == isolation_targets(declared, ()) == ()
    # The limits of the experiment, and a target that is there already.
    targets = (*parse_targets("p95 < max(2x baseline, 50ms)"), *parse_targets("fault: error_rate{GET /health} < 3%"))
    assert isolation_targets(declared, {"redis"}, targets) == ("fault: p95{GET /health} < max(2x baseline, 50ms)",)
    for text in isolation_targets({"a} < 1% {b}": ("redis",)}, {"redis"}, defaults(True)):
        (target,) = parse_targets(text)
        assert (target.name, target.phase, target.primary) == ("a} < 1% {b}", "fault", True)
