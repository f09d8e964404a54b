"""`harness plan EXPERIMENT.yaml`, with the real command: what counts more, what is refused, the same plan again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.cli import cli
from harness.model.errors import UsageError
from tests.cli.test_bad_input import harness

FILE = """\
scenario: baseline
baseline: 30s
rate: 100
seed: 7
faults:
  - {fault: redis-down, at: 10s, for: 4s, repeat: {every: 8s, times: 3}}
  - random: {choose: [kafka-down, db-latency], every: 10s, for: 4s, until: 60s}
targets: ["p95 < 300ms", "fault: error_rate < 5%"]
abort_if: [error_rate > 50% for 10s]
"""


def plan(folder: Path, *args: str, **env: str) -> dict[str, Any]:
    done = harness("plan", *args, "--json", cwd=folder, **env)
    assert done.returncode == 0, done.stderr
    loaded: dict[str, Any] = json.loads(done.stdout)
    return loaded


def targets(made: dict[str, Any]) -> list[str]:
    return [target["text"] for target in made["targets"]]


def test_the_file_counts_more_than_harness_toml_and_environment_and_less_than_what_is_typed(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(FILE)
    (tmp_path / "harness.toml").write_text(
        '[run]\nbaseline = "45s"\nsoak = "5s"\nfault = ["db-down"]\n[targets]\nprimary = ["p95 < 1s", "rps >= 10"]\n'
    )
    made = plan(tmp_path, "x.yaml", HARNESS_BASELINE="50s", HARNESS_WARMUP="3s", HARNESS_SEED="9")
    assert made["phases"]["baseline_s"] == 30.0 and made["load"]["seed"] == 7 and made["load"]["rate"] == 100
    assert made["phases"]["after_s"] - made["phases"]["hold_s"] == 5.0, "what the file leaves open comes from the toml"
    assert [f["id"] for f in made["faults"]][:3] == ["redis-down", "redis-down#2", "redis-down#3"]
    assert len(made["faults"]) == 9 and made["abort_if"] == ["error_rate > 50% for 10s"]
    assert "fault: p95 < 300ms" in targets(made) and "fault: error_rate < 5%" in targets(made)
    assert not any("p95 < 1s" in text for text in targets(made)), "the same target of the layer below is replaced"

    typed = plan(
        tmp_path, "x.yaml", "--baseline", "20s", "--seed", "8", "--fault", "db-down+12s", "--target", "p95 < 400ms",
        HARNESS_BASELINE="50s",
    )  # fmt: skip
    assert typed["phases"]["baseline_s"] == 20.0 and typed["load"]["seed"] == 8
    assert [f["id"] for f in typed["faults"]] == ["db-down"]
    assert "fault: p95 < 400ms" in targets(typed) and "fault: p95 < 300ms" not in targets(typed)
    assert "fault: error_rate < 5%" in targets(typed), "a typed target leaves the file's others as they are"


def test_the_same_seed_gives_the_same_plan_byte_for_byte(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(FILE)

    def made(seed: str, hash_seed: str) -> bytes:
        found = plan(tmp_path, "x.yaml", "--seed", seed, PYTHONHASHSEED=hash_seed)
        return json.dumps({k: v for k, v in found.items() if k not in ("experiment", "created", "provenance")}).encode()

    assert made("7", "1") == made("7", "2") != made("8", "1")


def test_a_plan_draws_its_timeline(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(FILE)
    done = harness("plan", "x.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for words in ("Timeline:", "redis-down, 3 times", "@10s+4s @18s+4s @26s+4s", "seed       7"):
        assert words in done.stdout, words
    (tmp_path / "x.yaml").write_text(FILE.replace("seed: 7\n", ""))
    plain = harness("plan", "x.yaml", cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert plain.returncode == 0 and plain.stdout.isascii() and "##" in plain.stdout
    seed = plain.stdout.partition("seed ")[2].split()[0]
    assert f"--seed {seed}" in plain.stdout, "a drawn plan without a seed says how to have it again"
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "state") == ["x.yaml"], "nothing is touched"


BAD: list[tuple[str, list[str], str]] = [
    (FILE, ["nowhere.yaml"], "nowhere.yaml: no such file"),
    (FILE, ["redis-down"], "did you mean --fault redis-down?"),
    (FILE, ["."], "is a folder"),
    ("", ["x.yaml"], "the file is empty"),
    (FILE.replace("seed: 7", "sede: 7"), ["x.yaml"], "x.yaml:4: sede: unknown key"),
    (FILE.replace("baseline: 30s", "baseline: 5s"), ["x.yaml"], "x.yaml:2: baseline: 5s is too short"),
    (FILE.replace("scenario: baseline", "scenario: baselin"), ["x.yaml"], "x.yaml:1: scenario: unknown scenario"),
    (FILE.replace("seed: 7", "workers: 0"), ["x.yaml"], "x.yaml:4: workers: 0 is out of range"),
    (FILE.replace("seed: 7", "user_classes: [Nobody]"), ["x.yaml"], "x.yaml:4: user_classes: unknown user class"),
    (FILE, ["x.yaml", "--baseline", "5s"], "--baseline 5s is too short"),
    (FILE, ["x.yaml", "--fault", "redis-dwon"], "--fault 'redis-dwon': unknown fault"),
    (FILE.replace("50% for 10s", "50%"), ["x.yaml"], "x.yaml:9: abort_if: abort condition"),
    (FILE.replace("redis-down", "redis-dwon"), ["x.yaml"], "x.yaml:6: faults[0]: unknown fault 'redis-dwon'"),
    (FILE.replace("times: 3", "times: 10000"), ["x.yaml"], "10,000 injections; one run has 200 at most"),
    (FILE.replace("for: 4s, repeat", "fro: 4s, repeat"), ["x.yaml"], "did you mean 'for'"),
    (FILE.replace("[kafka-down, db", "[redis-latency, db"), ["x.yaml"], "could be drawn for the same time"),
    ("scenario: target\n", ["x.yaml"], "`faults` is missing"),
    ("host: http://127.0.0.1:9\nstack: embedded\nfaults: [none]\n", ["x.yaml"], "x.yaml:"),
]


@pytest.mark.parametrize(("text", "args", "says"), BAD, ids=[says[:40] for _, _, says in BAD])
def test_a_wrong_file_is_one_clear_line(
    text: str, args: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, because each start of the command takes a second; what people see of it is tried below."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(UsageError) as caught:
        cli.main(["run", *args], standalone_mode=False)
    message = f"{caught.value} {caught.value.hint or ''}"
    assert says in message and "\n" not in message, message
    assert not (tmp_path / "runs").exists()


def test_a_wrong_file_ends_with_code_2_and_touches_nothing(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(FILE.replace("times: 3", "tims: 3"))
    done = harness("run", "x.yaml", cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.splitlines() == [
        "error: x.yaml:6: faults[0].repeat.tims: unknown key",
        "       did you mean 'times'?",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["x.yaml"]


def test_what_is_typed_of_host_or_stack_hides_both_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("host: http://127.0.0.1:9\nfaults: [none]\n")
    assert plan(tmp_path, "x.yaml", "--stack", "embedded")["stack"] == "embedded"
    (tmp_path / "x.yaml").write_text("stack: embedded\nfaults: [none]\n")
    assert plan(tmp_path, "x.yaml", "--host", "http://127.0.0.1:9")["stack"] == "external"
    assert plan(tmp_path, "x.yaml", HARNESS_HOST="http://127.0.0.1:9")["stack"] == "embedded"
