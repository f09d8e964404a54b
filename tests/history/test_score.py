"""The score of suites over time: common experiments, changes of the suite, and what has become of each."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from harness.model.records.many_runs.suite import Excluded
from tests.history.folders import ago, experiment, replace, suite
from tests.history.test_history import refused, typed


@pytest.fixture
def suites(tmp_path: Path) -> Path:
    runs = tmp_path / "runs"
    for name, days, outcomes in (
        ("s1", 40, ("broken", "held", "held", "broken", "held")),
        ("s2", 20, ("broken", "held", "unknown", "broken", "held")),
        ("s3", 1, ("held", "broken", "unknown", "broken", "held")),
    ):
        names = ("redis-down", "redis-hang", "db-down", "db-kill", "kafka-down")
        made = [experiment(one, outcome) for one, outcome in zip(names, outcomes, strict=True)]  # type: ignore[arg-type]
        suite(runs, name, ago(days=days), *made)
    return runs


def known(folder: Path, *entries: tuple[str, int]) -> Path:
    """resilience-known.toml: experiment, and for how many days more."""
    path = folder / "resilience-known.toml"
    until = [(name, (datetime.now(UTC) + timedelta(days=days)).date()) for name, days in entries]
    path.write_text(
        "".join(
            f'[[known]]\nexperiment = "{name}"\nowner = "Ada"\nuntil = {day}\nsince = "{ago(days=8)[:10]}"\n'
            f'reason = "no time-out"\nticket = "OPS-7"\n'
            for name, day in until
        )
    )
    return path


def score(folder: Path, *words: object) -> dict[str, object]:
    found = json.loads(typed(folder, "--trend", "score", "--json", *words)[1])
    assert isinstance(found, dict)
    return found


def test_counts_interval_and_what_became_of_each(suites: Path) -> None:
    found = score(suites)
    points = found["points"]
    assert isinstance(points, list)
    assert [(one["directory"], one["low"], one["high"]) for one in points] == [
        ("s1", 60.0, 60.0),
        ("s2", 40.0, 60.0),
        ("s3", 40.0, 60.0),
    ]
    assert (found["fixed"], found["newly_broken"], found["undecided"]) == (["redis-down"], ["redis-hang"], ["db-down"])
    assert [(found["experiments"], found["carried_out"], found["decided"])] == [(5, 5, 4)]
    assert (found["cells"], found["decided_cells"]) == (5, 4)
    weaknesses = found["weaknesses"]
    assert isinstance(weaknesses, list)
    assert [(one["experiment"], one["days"], one["at_least"]) for one in weaknesses] == [
        ("redis-hang", 1, False),
        ("db-kill", 40, True),
    ]


def test_the_lines_on_a_terminal(suites: Path) -> None:
    said = typed(suites, "--trend", "score")[1].splitlines()
    assert said[0] == "score of suite standard, embedded stack, over 5 common experiments"
    assert [line[16:34].strip() for line in said[1:3]] == ["60 of 100", "40-60 of 100"]
    assert "held 2, broken 2, unknown 1 of 5" in said[3]
    assert "fixed: redis-down" in said and "newly broken: redis-hang" in said and "no longer decided: db-down" in said
    assert "broken, owned by nobody: redis-hang (broken for 1 day); db-kill (broken for at least 40 days)" in said
    assert said[-1] == ("coverage of the newest suite: 5 of 5 experiments carried out, 4 decided; 4 of 5 cells decided")
    assert not any(line.startswith(("known", "excluded", "left out", "    suite:")) for line in said)


def test_known_weaknesses_have_age_and_owner(suites: Path, tmp_path: Path) -> None:
    file = known(tmp_path, ("db-kill", 10), ("redis-down", 10), ("redis-hang", -1), ("gone", 5))
    said = "\n".join(typed(suites, "--trend", "score", "--known", file)[1].splitlines())
    assert "db-kill (broken for at least 40 days, known for 8 days, owner Ada, until " in said
    assert "10 days left, OPS-7, no time-out)" in said
    assert "redis-hang (broken for 1 day, known for 8 days, owner Ada, expired on " in said
    assert "known, and held in the newest suite: its entry can go: redis-down" in said
    assert "owned by nobody" not in said and "gone" not in said


def test_the_file_beside_is_found(suites: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known(tmp_path, ("db-kill", 10))
    monkeypatch.chdir(tmp_path)
    assert "Ada" in typed("--trend", "score")[1]


def test_changes_of_the_suite_are_marked_and_do_not_move_the_score(suites: Path) -> None:
    names = ("redis-down", "db-down", "db-kill", "kafka-down", "kafka-hang")
    made = [experiment(name, "held", definition="new" if name == "db-kill" else "d") for name in names]
    suite(suites, "s4", ago(hours=1), *made, load="l2", excluded=(Excluded(name="db-flush", why="it loses data"),))
    found = score(suites)
    points = found["points"]
    assert found["common"] == 3 and isinstance(points, list)  # redis-down, db-down, kafka-down
    assert [(one["low"], one["high"]) for one in points] == [
        (pytest.approx(200 / 3), pytest.approx(200 / 3)),
        (pytest.approx(100 / 3), pytest.approx(200 / 3)),
        (pytest.approx(200 / 3), 100.0),
        (100.0, 100.0),
    ]
    assert [(one["added"], one["removed"], one["changed"], one["load_changed"]) for one in points[2:]] == [
        ([], [], [], False),
        (["kafka-hang"], ["redis-hang"], ["db-kill"], True),
    ]
    said = typed(suites, "--trend", "score")[1].splitlines()
    changes = ("added kafka-hang", "removed redis-hang", "changed db-kill", "another load")
    assert [line for line in said if line.startswith("    ")] == [f"    suite: {change}" for change in changes]
    assert "excluded on purpose: db-flush" in said


def test_an_experiment_that_was_not_run_widens_and_never_raises(suites: Path) -> None:
    made = [experiment("redis-down", "held"), experiment("db-kill", "not_run"), experiment("kafka-down", "held")]
    suite(suites, "s4", ago(hours=1), *made)
    found = score(suites)
    points = found["points"]
    assert isinstance(points, list)
    assert (points[-1]["low"], points[-1]["high"]) == (pytest.approx(200 / 3), 100.0)
    assert (found["carried_out"], found["experiments"]) == (2, 3)
    assert found["undecided"] == ["db-kill"]


def test_suites_of_another_kind_are_left_out_and_said(suites: Path) -> None:
    suite(suites, "q", ago(days=2), experiment("redis-down", "held"), name="quick")
    assert "left out as not comparable: 1 other: differs in suite (1)" in typed(suites, "--trend", "score")[1]


def test_nothing_in_common_is_said(suites: Path) -> None:
    suite(suites, "s4", ago(hours=1), experiment("redis-down", "held", definition="new"))
    assert "no experiment is common to both ends: the score says nothing" in typed(suites, "--trend", "score")[1]


def test_the_page_for_the_quarter(suites: Path, tmp_path: Path) -> None:
    out = tmp_path / "quarter.html"
    suite(suites, "s4", ago(hours=1), experiment("<b>x", "broken"), experiment("redis-down", "held"))
    typed(suites, "--trend", "score", "--since", "90d", "--out", out)
    text = out.read_text("utf-8")
    assert "<b>x" not in text and "&lt;b&gt;x (broken for at least 0 days)" in text
    for title in ("Fixed", "Newly broken", "Known, still broken", "Broken, owned by nobody", "Suites"):
        assert f"<h2>{title}</h2>" in text
    assert "coverage of the newest suite: 2 of 2 experiments carried out" in text


@pytest.mark.parametrize("text", ["[[known]", "[[known]]\nexperiment = 3", '[[known]]\nexperiment = "a"', "\xff"])
def test_a_damaged_file_of_known_weaknesses_is_one_line(suites: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "k.toml").write_bytes(text.encode("latin-1"))
    said = refused(suites, "--trend", "score", "--known", tmp_path / "k.toml")
    assert "k.toml is damaged: " in said or "k.toml: not TOML: " in said
    assert refused(suites, "--trend", "score", "--known", tmp_path / "no.toml").endswith("no.toml: no such file")


def test_a_suite_of_long_ago_is_stale(tmp_path: Path) -> None:
    suite(tmp_path, "s", ago(days=31), experiment("redis-down", "held"), experiment("db-down", "broken"))
    said = typed(tmp_path, "--trend", "score")[1]
    assert said.endswith("2 of 2 cells decided; 2 stale, 31 days old\n")
    assert "stale: 2; what held of these is unknown by now" in said
    # It widens, and what was broken does not raise the upper end.
    point = score(tmp_path)["points"][0]  # type: ignore[index]
    assert (point["low"], point["high"]) == (0.0, 50.0)
    suite(tmp_path, "t", ago(days=30), experiment("redis-down", "held"), experiment("db-down", "broken"))
    assert "stale" not in typed(tmp_path, "--trend", "score")[1]


def test_what_a_resumed_suite_found_on_another_version_is_stale(tmp_path: Path) -> None:
    one, two = experiment("redis-down", "held"), experiment("db-down", "held")
    former = replace(one, attempts=(replace(one.attempts[0], target_version="0.9"),))
    suite(tmp_path, "s", ago(days=1), former, two)
    found = score(tmp_path)
    assert found["stale"] == [{"why": "of target version 0.9, and it is 1.0.0 now", "experiments": ["redis-down"]}]
    assert found["points"][0]["low"] == 50.0  # type: ignore[index]


def test_only_a_suite_that_changed_is_marked_in_the_chart(suites: Path, tmp_path: Path) -> None:
    out = tmp_path / "score.svg"
    typed(suites, "--trend", "score", "--out", out)
    assert ">!</text>" not in out.read_text("utf-8") and "the suite changed" not in out.read_text("utf-8")
    suite(suites, "s4", ago(hours=1), experiment("redis-down", "held"))
    typed(suites, "--trend", "score", "--out", out)
    assert ">!</text>" in out.read_text("utf-8") and "!: the suite changed" in out.read_text("utf-8")
