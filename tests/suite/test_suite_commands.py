"""`harness suite accept` and `harness report --format comment`, and what a comment must never hold."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from harness.analysis.suite.accept import accepted
from harness.analysis.suite.gate import gate
from harness.cli import cli
from harness.model.errors import UsageError
from harness.model.records.many_runs.suite import SuiteResult
from harness.report import comment
from tests.analysis.suite.suites import attempt, cell, experiment, suite

TODAY = datetime.now(UTC).date()
UNTIL = (TODAY + timedelta(days=30)).isoformat()
GOOD = attempt("held", {"A": "held", "B": "held"})
BAD = attempt("broken", {"A": "broken", "B": "held"})
NASTY = "::error file=x::@team <b>*x*</b> ##[group] ##vso[task] | `a` ![](http://e.il/x) \n::set-output\x1b[31m"


def write(folder: Path, made: SuiteResult) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "suite.json").write_bytes(msgspec.json.encode(made))
    return folder


def call(*words: str) -> Result:
    return CliRunner().invoke(cli, words, standalone_mode=False)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_accept_and_comment(tmp_path: Path) -> None:
    first = str(write(tmp_path / "first", suite(experiment("redis-down", BAD))))
    refused = call("suite", "accept", first, "--owner", "me")
    assert isinstance(refused.exception, UsageError) and not (tmp_path / "resilience-base.json").exists()
    done = call(
        "suite", "accept", first, "--owner", "me", "--reason", "no fallback", "--until", UNTIL, "--ticket", "T1"
    )
    assert done.exit_code == 0 and "accepted: 1 experiment, 1 known weakness\n" in done.output
    assert (tmp_path / "resilience-known.toml").read_text().count("[[known]]") == 1
    said = call("report", first, "--format", "comment").output
    assert said.startswith("### ✅ Resilience: passed, 1 known weakness, next expires on ")
    assert "**Known**\n- `redis-down`, `A`" in said and "**New**" not in said and "T1" in said
    second = str(
        write(
            tmp_path / "second", suite(experiment("redis-down", *[attempt("broken", {"A": "held", "B": "broken"})] * 2))
        )
    )
    said = call("report", second, "--format", "comment").output
    assert said.startswith("### ❌ Resilience: failed, 1 newly broken")
    assert "**New**\n- `redis-down`, `B`: 100 of 100 requests were bad" in said
    assert "**Holds now**\n- `redis-down`, `A`" in said and ": remove it" in said
    assert "again: `harness run --fault redis-down`" in said


def test_another_base(tmp_path: Path) -> None:
    first = str(write(tmp_path / "first", suite(experiment("redis-down", GOOD))))
    assert call("suite", "accept", first, "--owner", "me", "--base", "nightly.json").exit_code == 0
    assert sorted(one.name for one in tmp_path.glob("n*")) == ["nightly-known.toml", "nightly.json"]
    assert "no base to compare with" in call("report", first, "--format", "comment").output
    assert "passed" in call("report", first, "--format", "comment", "--base", "nightly.json").output
    assert isinstance(call("report", first, "--format", "md", "--base", "nightly.json").exception, UsageError)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--owner", " "), "--owner must not be empty"),
        (("--owner", "me", "--until", "soon"), "is no date"),
        (("--owner", "me", "--until", "2020-01-01"), "180 days at most"),
    ],
)
def test_words_that_cannot_be(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    first = str(write(tmp_path / "first", suite(experiment("redis-down", GOOD))))
    done = call("suite", "accept", first, *words)
    assert isinstance(done.exception, UsageError) and said in str(done.exception)
    assert not (tmp_path / "resilience-base.json").exists()


def test_its_help_says_what_there_is() -> None:
    done = call("suite", "--help")
    assert done.exit_code == 0 and "accept" in done.output


def test_without_a_base_the_suite_speaks_for_itself() -> None:
    made = suite(
        experiment("redis-down", BAD), experiment("db-down", why="the time was up"), experiment("control", GOOD)
    )
    said = comment.render(made, None, TODAY)
    assert "held 1, broken 1, unknown 1 of 3; score 33–67 of 100." in said
    assert "**Broken**\n- `redis-down`: it was broken." in said and "**Unknown**\n- `db-down`: the time was up" in said
    assert "**Broken**" not in comment.render(suite(experiment("control", GOOD)), None, TODAY)


def hostile(count: int) -> SuiteResult:
    cells = [cell(f"{NASTY} {i}", "broken") for i in range(4)] + [
        cell(f"u{i} {NASTY}", "unknown", why=NASTY) for i in range(4)
    ]
    bad = attempt("broken", cells, reason=NASTY)
    every = [experiment(f"{NASTY} {i}", bad, bad, dependency="d", kind="k", command=NASTY) for i in range(count)]
    return suite(*every, name=NASTY)


@pytest.mark.parametrize("count", [1, 60])
def test_a_comment_has_sixty_lines_at_most_and_no_command_of_others(count: int) -> None:
    made = hostile(count)
    good = [cell(one.request, "held") for one in made.experiments[0].attempts[0].cells]
    half = [one if i % 2 else cell(one.request, "broken") for i, one in enumerate(good)]
    before = suite(
        *(experiment(e.name, attempt("broken", half), dependency="d") for e in made.experiments), load="other"
    )
    base, known = accepted(
        before, owner=NASTY, reason=NASTY, ticket=NASTY, until=TODAY + timedelta(days=30), today=TODAY
    )
    mixed = suite(*made.experiments[: count // 2], *(experiment(f"{NASTY} new {i}", BAD) for i in range(count)))
    for seen in (made, mixed):
        for found in (gate(base, known, seen, TODAY), gate(base, known[:3], seen, TODAY), None):
            said = comment.render(seen, found, TODAY)
            lines = said.splitlines()
            assert len(lines) <= comment.MAX_LINES
            for line in lines:
                assert not line.lstrip(" -*").startswith("::") and "##[" not in line and "##vso[" not in line
                assert "::error file" not in line and "\x1b" not in line and len(line) < 3000
                assert not line or line.startswith(("### ", "**", "- ", "Suite "))
            assert said.count("**New**") <= 1


def test_whatever_is_damaged_is_one_line_or_a_comment(tmp_path: Path) -> None:
    """Every file with bytes of it changed, doubled and left out: an answer or an error of the input, never another."""
    draw = random.Random(3)
    cells = [cell("A", "broken"), cell("B", "unknown", why="too few"), cell("C", bad=2)]
    late = attempt("broken", cells, broken_targets=("recovery < 30s",), recovery_s=40.0)
    folder = write(tmp_path / "s", suite(experiment("redis-down", late, late), experiment("control", GOOD)))
    assert call("suite", "accept", str(folder), "--owner", "me", "--reason", "r", "--until", UNTIL).exit_code == 0
    refused = 0
    for file in (folder / "suite.json", tmp_path / "resilience-base.json", tmp_path / "resilience-known.toml"):
        data = file.read_bytes()
        for _ in range(80):
            at, length = draw.randrange(len(data)), draw.choice((1, 1, 8, 200))
            put = draw.choice(
                (b"", data[at : at + length] * 2, bytes([draw.randrange(256)]), b"9", b"-1", b"null", b'"')
            )
            file.write_bytes(data[:at] + put + data[at + length :])
            for words in (
                ("report", str(folder), "--format", "comment"),
                ("suite", "accept", str(folder), "--owner", "x"),
            ):
                done = call(
                    *words, *(("--base", "resilience-base.json") if "report" in words else ("--base", "other.json"))
                )
                assert done.exception is None or isinstance(done.exception, UsageError), (put, at, done.exc_info)
                refused += done.exception is not None
        file.write_bytes(data)
    assert refused > 100
