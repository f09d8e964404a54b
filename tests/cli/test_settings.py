"""Settings in rising order: built-in default, harness.toml, environment, experiment file, command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from harness.cli import cli
from harness.model.errors import UsageError

TARGET = '[target]\nurl = "http://127.0.0.1:9/base"\n'
REDIS = (
    '[toxiproxy]\nurl = "http://127.0.0.1:8474"\n'
    '[dependencies.cache]\nkind = "redis"\nproxy = "cache"\ndirect = "127.0.0.1:6379"\n'
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    yield tmp_path


def plan(*args: str) -> dict[str, Any]:
    """The plan of these arguments; planning touches nothing."""
    done = CliRunner().invoke(cli, ["plan", *args, "--json"], standalone_mode=False, catch_exceptions=False)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def wrong(*args: str) -> str:
    with pytest.raises(UsageError) as raised:
        CliRunner().invoke(cli, [*args], standalone_mode=False, catch_exceptions=False)
    return f"{raised.value} | {raised.value.hint}"


def baseline(found: dict[str, Any]) -> float:
    return float(found["phases"]["baseline_s"])


def test_each_layer_wins_over_the_one_below(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert baseline(plan()) == 60
    (folder / "harness.toml").write_text('[run]\nbaseline = "21s"\nfault = ["redis-down", "kafka-down"]\nscale = 0.1\n')
    found = plan()
    assert (baseline(found), found["load"]["rate"]) == (21, 1000)
    assert [fault["id"] for fault in found["faults"]] == ["redis-down", "kafka-down"]
    monkeypatch.setenv("HARNESS_BASELINE", "22s")
    assert baseline(plan()) == 22
    (folder / "x.yaml").write_text("faults: [db-down]\nbaseline: 23s\n")
    found = plan("x.yaml")
    assert baseline(found) == 23
    # A list is one setting: the layer above replaces it, it does not add to it.
    assert [fault["id"] for fault in found["faults"]] == ["db-down"]
    assert baseline(plan("x.yaml", "--baseline", "24s")) == 24
    assert [fault["id"] for fault in plan("--fault", "none")["faults"]] == []


def test_targets_are_layers_too(folder: Path) -> None:
    (folder / "harness.toml").write_text(
        '[targets]\nprimary = ["p95 < 150ms", "fault: error_rate < 5%"]\nsecondary = ["p99 < 400ms"]\n'
    )
    found = {(t["phase"], t["text"]): t["primary"] for t in plan("--target", "fault: p95 < 1s")["targets"]}
    assert found["baseline", "baseline: p95 < 150ms"] and found["fault", "fault: p95 < 1s"]
    assert ("fault", "fault: p95 < 150ms") not in found and found["fault", "fault: error_rate < 5%"]
    assert found["after", "after: p99 < 400ms"] is False


def test_a_target_in_the_file_means_the_external_stack_unless_something_else_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "harness.toml").write_text(TARGET + REDIS)
    found = plan("--fault", "cache-down")
    assert (found["stack"], found["load"]["host"]) == ("external", "http://127.0.0.1:9/base")
    assert found["faults"][0]["change"]["dependency"]["proxy"]["url"] == "http://127.0.0.1:8474"
    assert plan("--stack", "embedded", "--fault", "redis-down")["stack"] == "embedded"
    found = plan("--host", "http://127.0.0.1:10", "--fault", "cache-down")
    assert (found["stack"], found["load"]["host"]) == ("external", "http://127.0.0.1:10")
    assert "--stack embedded" in wrong("plan", "--host", "http://127.0.0.1:10", "--stack", "embedded")
    # What was said more directly counts.
    monkeypatch.setenv("HARNESS_HOST", "http://127.0.0.1:11")
    assert plan("--stack", "embedded", "--fault", "redis-down")["stack"] == "embedded"
    monkeypatch.delenv("HARNESS_HOST")
    (folder / "harness.toml").write_text(TARGET + '[run]\nstack = "embedded"\n')
    assert plan("--host", "http://127.0.0.1:10")["stack"] == "external"
    assert plan()["stack"] == "embedded"


def test_another_file_is_named_by_option_or_variable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "staging.toml").write_text('[run]\nbaseline = "33s"\nlocustfile = "mine.py"\n')
    (elsewhere / "mine.py").write_text(
        "from locust import HttpUser, task\n"
        "class Mine(HttpUser):\n    @task\n    def one(self) -> None:\n        self.client.get('/')\n"
    )
    found = plan("--config", "elsewhere/staging.toml")
    assert baseline(found) == 33
    assert found["load"]["locustfile"] == str(elsewhere / "mine.py")
    monkeypatch.setenv("HARNESS_CONFIG", "elsewhere/staging.toml")
    assert baseline(plan()) == 33
    assert "no such file" in wrong("plan", "--config", "nowhere.toml")
    monkeypatch.delenv("HARNESS_CONFIG")
    monkeypatch.chdir(elsewhere)
    (folder / "harness.toml").write_text('[run]\nbaseline = "34s"\n')
    assert baseline(plan()) == 60, "a file in a folder above is not looked for"


WRONG: list[tuple[str, str]] = [
    ("baselin = '20s'", "harness.toml: run: unknown option 'baselin' | did you mean 'baseline'?"),
    ("baseline = 20", "harness.toml: run.baseline: duration '20': the unit is missing"),
    ("baseline = 20.0", "harness.toml: run.baseline: duration '20.0': the unit is missing"),
    ("baseline = '2s'", "harness.toml: run.baseline 2s is too short"),
    ("baseline = ['20s', '30s']", "harness.toml: run.baseline: --baseline takes one value"),
    ("baseline = true", "harness.toml: run.baseline: --baseline takes a value"),
    ("strict = 'yes'", "harness.toml: run.strict: true or false is wanted"),
    ("scale = 'much'", "harness.toml: run.scale: number 'much': not a number"),
    ("scale = 7", "harness.toml: run.scale 7 is not a share"),
    ("scenario = 'targt'", "harness.toml: run.scenario: unknown scenario 'targt' | did you mean 'target'?"),
    ("fault = 'redis-dwon'", "harness.toml: run.fault 'redis-dwon': unknown fault"),
    ("host = 'http://127.0.0.1:1'", "harness.toml: run.host is not set here | write it as url in [target]"),
    ("target = ['p95 < 1s']", "harness.toml: run.target is not set here | write it in [targets]"),
    ("stack = 'embeded'", "harness.toml: run.stack: 'embeded' is not one of"),
    ("stack = 'external'", "harness.toml: run.stack external needs a target"),
    ("debug = true", "harness.toml: run: unknown option 'debug'"),
]


@pytest.mark.parametrize(("line", "says"), WRONG, ids=[line for line, _ in WRONG])
def test_what_is_wrong_in_run_is_told_with_its_key(line: str, says: str, folder: Path) -> None:
    (folder / "harness.toml").write_text(f"[run]\n{line}\n")
    assert says in wrong("plan")


def test_an_error_in_a_variable_names_the_variable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_SCALE", "much")
    assert wrong("plan").startswith("HARNESS_SCALE: number 'much'")
    monkeypatch.setenv("HARNESS_SCALE", "7")
    assert wrong("plan").startswith("HARNESS_SCALE 7 is not a share")
    # And what is typed hides it.
    assert plan("--scale", "0.02")["load"]["rate"] == 200


def test_each_source_of_an_option_is_called_by_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And by no other, where another one says something about the same option."""
    (folder / "harness.toml").write_text("[run]\nrate = 0.5\n")
    (folder / "x.yaml").write_text("faults: [none]\nrate: 0.4\n")
    assert wrong("plan").startswith("harness.toml: run.rate 0.5 is out of range")
    monkeypatch.setenv("HARNESS_RATE", "0.3")
    assert wrong("plan").startswith("HARNESS_RATE 0.3 is out of range")
    assert wrong("plan", "x.yaml").startswith("x.yaml:2: rate: 0.4 is out of range")
    assert wrong("plan", "x.yaml", "--rate", "0.2").startswith("--rate 0.2 is out of range")


def test_one_converter_reads_all_four_sources(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    says = "count '7.5': not a whole number; write a whole number such as 5 | None"
    (folder / "harness.toml").write_text("[run]\nusers = 7.5\n")
    assert wrong("plan") == f"harness.toml: run.users: {says}"
    monkeypatch.setenv("HARNESS_USERS", "7.5")
    assert wrong("plan") == f"HARNESS_USERS: {says}"
    assert wrong("plan", "--users", "7.5") == f"--users: {says}"
    (folder / "x.yaml").write_text("faults: [none]\nusers: 7.5\n")
    monkeypatch.setenv("HARNESS_USERS", "7")
    assert wrong("plan", "x.yaml") == f"x.yaml:2: users: {says}"
    # What TOML takes for a number of another form is still the number.
    (folder / "harness.toml").write_text("[run]\nscale = 2e-2\nrate = 1e2\n")
    assert plan()["load"]["rate"] == 100


def test_logs_follow_what_is_written_and_what_is_replaced(folder: Path) -> None:
    import subprocess
    import sys

    (folder / "harness.toml").write_text(TARGET + 'log = "api.log"\n')
    log = folder / "api.log"
    log.write_text("first\nsecond\n")
    command = [sys.executable, "-c", "from harness.cli import main; main()", "stack", "logs", "api", "-f", "-n", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        try:
            assert following.stdout.readline() == "second\n"
            with log.open("a") as file:
                file.write("third\x1b[2J\n")
            assert following.stdout.readline() == "third?[2J\n"
            log.rename(folder / "api.log.1")
            log.write_text("rotated\n")
            assert following.stdout.readline() == "rotated\n"
        finally:
            following.send_signal(2)
    assert following.returncode == 0
