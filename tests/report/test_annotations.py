"""Annotations of a suite: which there are, how many, and no text from outside is a command to a CI job's runner."""

from __future__ import annotations

import random
import re

from harness.model.records.many_runs.gate import Finding, GateResult, Known
from harness.report.annotations import annotations_of
from tests.analysis.suite.suites import attempt, experiment, suite

NASTY = (
    "::error file=x::boo ##[group] ##vso[task] 100% \r\n::set-output name=x::y\n##[error]z\x1b[31m ::stop-commands::t"
)
COMMAND = re.compile(r"::(error|warning|notice) title=[A-Za-z ]+::[^\r\n]*")
KNOWN = Known(experiment="e", request="r", owner="me", reason="x", until="2027-01-31")


def gate(**found: tuple[Finding, ...]) -> GateResult:
    return GateResult(exit_code=1, sentence="", **found)


def findings(number: int, outcome: str = "broken") -> tuple[Finding, ...]:
    return tuple(Finding(experiment=f"e{n}", request="GET /", outcome=outcome) for n in range(number))  # type: ignore[arg-type]


def test_a_gate_tells_what_is_new_unknown_and_holds_again_and_not_what_is_known() -> None:
    (one,) = findings(1)
    made = gate(
        new=(Finding(experiment="redis-down", request="POST /buy", outcome="broken", why="9 of 10% bad"),),
        expired=(one,),
        worse=(one,),
        unknown=(Finding(experiment="db-down", outcome="unknown"),),
        fixed=(Finding(experiment="e", request="r", outcome="held", known=KNOWN), one),
        known=(one,),
    )
    assert annotations_of(suite(), made) == [
        "::error title=Newly broken::redis-down, POST /buy: 9 of 10%25 bad",
        "::error title=Worse than accepted::e0, GET /",
        "::error title=Known weakness past its day::e0, GET /",
        "::warning title=Unknown::db-down, as a whole",
        "::notice title=Holds now::e, r: remove it from the known ones",
        "::notice title=Holds now::e0, GET /",
    ]
    assert annotations_of(suite(experiment("redis-down", attempt("broken"))), gate(known=(one,))) == []


def test_without_a_base_what_is_broken_unknown_or_not_run() -> None:
    made = suite(
        experiment("a", attempt("broken")),
        experiment("b", attempt("unknown")),
        experiment("c", why="the time limit was reached"),
        experiment("d", attempt("held")),
    )
    assert annotations_of(made, None) == [
        "::error title=Broken::a: it was broken.",
        "::warning title=Unknown::b: it was unknown.",
        "::warning title=Not run::c: the time limit was reached",
    ]


def test_nine_of_a_kind_and_how_many_more() -> None:
    assert len(annotations_of(suite(), gate(new=findings(9)))) == 9
    found = annotations_of(suite(), gate(new=findings(30), unknown=findings(10, "unknown")))
    assert [line for line in found if "more" in line] == [
        "::error title=Resilience::21 more",
        "::warning title=Resilience::1 more",
    ]
    assert len(found) == 20


def test_text_from_outside_is_no_command() -> None:
    draw = random.Random(1)
    for _ in range(300):
        text = "".join(
            draw.choice(["::", "\n", "\r", "##[", "#", "[", "error", " ", "%0A", ":", "\u2028", NASTY])
            for _ in range(12)
        )
        one = Finding(experiment=text, request=text[3:], target=text, outcome="broken", why=text)
        made = suite(experiment(text, attempt("broken", reason=text)), experiment("x", why=text))
        for line in [*annotations_of(suite(), gate(new=(one,), fixed=(one,))), *annotations_of(made, None)]:
            assert COMMAND.fullmatch(line) and "##[" not in line and "\u2028" not in line
            assert not re.search("%(?!25)", line), "a line feed that GitHub would decode"
            outside = line.split("::", 2)[2]
            assert not re.search(r"::[A-Za-z][\w-]*( .*?)?::", outside) and "##vso[" not in outside
