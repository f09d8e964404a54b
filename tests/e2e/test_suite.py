"""`harness suite` on the embedded stack: one real session, looked at from everywhere, and the ends that it may have."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.e2e.life import entries, state_folders
from tests.e2e.observe import HARNESS, SHORTENED, Run, family, still_alive, wait_until

pytestmark = [pytest.mark.stack, pytest.mark.slow]

OPTIONS = """
rate: 50
spawn_rate: 100000
warmup: 1s
baseline: 4s
fault_for: 4s
hold: 3s
recovery_limit: 10s
request_timeout: 2s
no_extend: true
targets: [p95 < 9s, error_rate < 90%, rps >= 1% of plan, recovery < 10s]
"""
"""What is looked at is the session, not the speed of a busy machine: targets that nothing breaks."""
EXPERIMENTS = "experiments: [redis-down, kafka-latency, none]\n"
NAMES = ("01-redis-down", "02-kafka-latency", "03-control")


class Suite(Run):
    """A real `harness suite run` process, as `Run` is one of `harness run`; its phases may be a few seconds long."""

    def __init__(self, cwd: Path, *args: str, experiments: str = EXPERIMENTS, options: str = OPTIONS) -> None:
        self.cwd = cwd
        self.state = cwd / "state"
        (cwd / "suite.yaml").write_text(options + experiments)
        self.stderr = (cwd / "stderr.txt").open("wb")
        self.stdout = (cwd / "stdout.txt").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-c", SHORTENED, "suite", "run", "suite.yaml", *args],
            cwd=cwd,
            env={**os.environ, "XDG_STATE_HOME": str(self.state)},
            stdin=subprocess.DEVNULL,
            stdout=self.stdout,
            stderr=self.stderr,
            start_new_session=True,
        )

    def history(self, name: str) -> list[dict[str, Any]]:
        return entries(self.dir / name, "history.jsonl")

    def wait_event(self, name: str, event: str, limit_s: float = 200) -> None:
        seen = wait_until(lambda: any(e["event"] == event for e in self.history(name)) or self.ended(), limit_s)
        assert seen and not self.ended(), self.text()[-3000:]

    def suite(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.dir / "suite.json").read_text())
        return found


def command(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "XDG_STATE_HOME": str(cwd / "state")}
    words = tuple(map(str, words))
    return subprocess.run([str(HARNESS), *words], cwd=cwd, env=env, capture_output=True, text=True, timeout=120)


def result(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return found


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Suite, int, dict[int, str]]]:
    suite = Suite(tmp_path_factory.mktemp("suite"))
    try:
        suite.wait_event("01-redis-down", "fault_injected")
        members = family(suite.process.pid)
        yield suite, suite.end(), members
    finally:
        suite.kill_group()


def test_every_experiment_is_judged_on_its_own(done: tuple[Suite, int, dict[int, str]]) -> None:
    suite, code, _ = done
    told = suite.suite()
    assert [one["name"] for one in told["experiments"]] == ["redis-down", "kafka-latency", "control"]
    assert code == told["exit_code"]
    for name, one in zip(NAMES, told["experiments"], strict=True):
        own = result(suite.dir / name)
        (attempt,) = one["attempts"]
        assert (attempt["directory"], attempt["verdict"]) == (name, own["verdict"])
        assert attempt["exit_code"] == own["exit_code"] and attempt["reason"] == own["reasons"][0]
        if own["generator"]["saturated"]:
            continue  # the machine was too busy for the load
        assert own["verdict"] == "pass" and one["outcome"] == "held", (name, own["reasons"], suite.text())
        phases = {phase["name"]: phase for phase in own["phases"]}
        assert set(phases) >= {"settle", "baseline", "fault", "after"} and "tail" not in phases
        assert all(phases[p]["requests"] == phases[p]["planned"] > 0 for p in ("baseline", "fault", "after"))
    assert code == (0 if all(one["outcome"] == "held" for one in told["experiments"]) else 3), told["reasons"]


def test_an_experiment_s_directory_is_that_of_any_run(done: tuple[Suite, int, dict[int, str]]) -> None:
    suite, _, _ = done
    for name in NAMES:
        folder = suite.dir / name
        before = result(folder)
        again = command("analyze", folder, "--json", cwd=suite.cwd)
        assert again.returncode == before["exit_code"], again.stderr
        assert json.loads(again.stdout) == before
        assert before["experiment"] in command("report", folder, "--format", "md", cwd=suite.cwd).stdout
        own = {path.name for path in folder.iterdir()}
        assert own >= {"plan.json", "history.jsonl", "windows.jsonl", "samples.jsonl", "log.jsonl", "journal.jsonl"}


def test_times_count_from_each_experiment_s_own_beginning(done: tuple[Suite, int, dict[int, str]]) -> None:
    suite, _, _ = done
    began = []
    for name in NAMES:
        history = suite.history(name)
        started = next(e for e in history if e["event"] == "started")
        ended = next(e for e in history if e["event"] == "load_ended")
        assert ended["handed_on"] and -1 < started["at"] < 1
        began.append(started["monotonic"])
        samples = [one["at"] for one in entries(suite.dir / name, "samples.jsonl")]
        assert samples == sorted(samples) and samples[0] < 2.5 and samples[-1] > ended["end_s"] - 3, samples
        # Until the next one begins: a target that is looked at without load takes a minute.
        assert max(samples) < ended["end_s"] + 100
        plan = json.loads((suite.dir / name / "plan.json").read_text())
        rows = entries(suite.dir / name, "windows.jsonl")
        first, length = plan["load"]["first_step"], round(ended["end_s"] * 10)
        steps = {row["step"] for row in rows if "classes" in row}
        assert steps <= set(range(first, first + length)) and len(steps) > 0.9 * length
        assert entries(suite.dir / name, "log.jsonl")
    assert began == sorted(began)


def test_undo_records_are_each_one_s_own_and_nothing_is_left(done: tuple[Suite, int, dict[int, str]]) -> None:
    suite, _, members = done
    of = {name: {one["fault"]["id"] for one in entries(suite.dir / name) if "fault" in one} for name in NAMES}
    session = (suite.dir / "journal.jsonl").read_text()
    for name, fault in zip(NAMES[:2], ("redis-down", "kafka-latency"), strict=True):
        own = (suite.dir / name / "journal.jsonl").read_text()
        assert f'"{fault}"' in own and f"{name}/{fault}" in session, (of, own)
        assert result(suite.dir / name)["faults"][0]["undo_verified"]
    assert '"redis-down"' not in (suite.dir / NAMES[1] / "journal.jsonl").read_text()
    assert wait_until(lambda: not still_alive(members)), still_alive(members)
    assert not state_folders(suite.state)
    assert "nothing" in (said := command("heal", "--all", cwd=suite.cwd)).stdout + said.stderr


def api_of(suite: Suite) -> psutil.Process:
    # PostgreSQL's backends have the name of its role in their titles.
    return next(psutil.Process(pid) for pid, label in family(suite.process.pid).items() if "-m anomaly_api" in label)


@pytest.mark.thorough
def test_a_target_that_stays_dead_is_looked_at_and_started_again(tmp_path: Path) -> None:
    suite = Suite(tmp_path, experiments="experiments: [redis-down, none]\n")
    try:
        suite.wait_event("01-redis-down", "fault_injected")
        api_of(suite).kill()
        code = suite.end()
    finally:
        suite.kill_group()
    first, second = suite.suite()["experiments"]
    own = result(suite.dir / "01-redis-down")
    assert own["after_load"]["outcome"] != "as_in_baseline", own["after_load"]
    assert first["outcome"] == "broken", suite.text()
    assert first["attempts"][0]["reset"] == "api had ended and was started again", suite.text()
    assert second["outcome"] == "held" and result(suite.dir / "02-control")["verdict"] == "pass", suite.text()
    assert code == 1


def test_ctrl_c_undoes_the_experiment_and_leaves_the_rest(tmp_path: Path) -> None:
    suite = Suite(tmp_path)
    try:
        suite.wait_event("02-kafka-latency", "fault_injected")
        members = family(suite.process.pid)
        (going,) = suite.suite()["reasons"]
        assert re.fullmatch("Not finished: [01] of 3 experiments so far", going)
        suite.process.send_signal(signal.SIGINT)
        assert suite.end() == 130, suite.text()
    finally:
        suite.kill_group()
    one, two, three = suite.suite()["experiments"]
    assert suite.suite()["exit_code"] == 130 and "Not finished" not in str(suite.suite()["reasons"])
    # A busy machine may have been too busy to tell.
    told = {"held": "pass", "unknown": "inconclusive"}
    assert result(suite.dir / NAMES[0])["verdict"] == told[one["outcome"]]
    assert two["outcome"] == "unknown" and result(suite.dir / NAMES[1])["faults"][0]["undo_verified"]
    assert three["outcome"] == "not_run" and "interrupted" in three["why"] and not three["attempts"]
    assert wait_until(lambda: not still_alive(members)), still_alive(members)
    assert not state_folders(suite.state)


@pytest.mark.thorough
def test_sigkill_of_the_suite_leaves_nothing(tmp_path: Path) -> None:
    suite = Suite(tmp_path)
    try:
        suite.wait_event("01-redis-down", "fault_injected")
        members = family(suite.process.pid)
        suite.process.kill()
        suite.process.wait(30)
        assert wait_until(lambda: not still_alive(members), 60), still_alive(members)
        assert wait_until(lambda: not state_folders(suite.state), 30)
        time.sleep(0.2)
        said = command("heal", "--all", cwd=tmp_path)
        assert said.returncode == 0 and "nothing" in said.stdout + said.stderr
    finally:
        suite.kill_group()


@pytest.mark.thorough
def test_a_server_that_an_experiment_has_killed_is_looked_at_as_it_is_now(tmp_path: Path) -> None:
    suite = Suite(tmp_path, experiments="experiments: [kafka-kill, kafka-restart, db-kill]\n")
    try:
        code = suite.end()
    finally:
        suite.kill_group()
    assert code == 0, suite.text()
    for name in ("01-kafka-kill", "02-kafka-restart", "03-db-kill"):
        assert result(suite.dir / name)["faults"][0]["proven"], suite.text()
    written = result(suite.dir / "03-db-kill")["acknowledged"]
    assert written["lost"] == 0 and written["there"] > 0, "what was committed survives the server's own death"


@pytest.mark.thorough
def test_an_experiment_with_a_load_of_its_own_has_the_service_for_itself(tmp_path: Path) -> None:
    experiments = (
        "experiments:\n- none\n- {name: jump, faults: [redis-down], scenario: spike, users: 120}\n- kafka-latency\n"
    )
    suite = Suite(tmp_path, experiments=experiments, options=OPTIONS.replace("rps >= 1% of plan, ", ""))
    try:
        code = suite.end()
    finally:
        suite.kill_group()
    # A machine that is starved judges nothing; what was sent, broken and undone on which load is looked at.
    assert code == 0 or "could not keep up" in suite.text(), suite.text()
    plans = [json.loads((folder / "plan.json").read_text()) for folder in sorted(suite.dir.glob("0?-*"))]
    assert [plan["load"]["model"] for plan in plans] == ["open", "closed", "open"]
    assert plans[1]["load"]["jump_from"] == 12 and plans[0]["load"]["rate"] == plans[2]["load"]["rate"] == 50
    for folder, faults in (("02-jump", 1), ("03-kafka-latency", 1)):
        own = result(suite.dir / folder)
        assert len(own["faults"]) == faults and own["faults"][0]["undo_verified"], own
        assert sum(phase["requests"] for phase in own["phases"]) > 50, "what was sent on a load of its own is counted"
        again = command("analyze", suite.dir / folder, cwd=suite.cwd)
        assert again.returncode == own["exit_code"], again.stderr
    steady, jump = (
        phase["rps"] for phase in result(suite.dir / "02-jump")["phases"] if phase["name"] in ("baseline", "fault")
    )
    assert jump > 2 * steady, "all of its users are there in the fault phase"
