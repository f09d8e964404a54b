"""A version of the user's target that a command of harness.toml starts for a run."""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.dependencies.configuration import load
from harness.model.errors import SetupError, UsageError
from harness.safety.keeper.client import Keeper
from harness.safety.state_folders import active_dir
from harness.stack.external.started import StartedVersion
from harness.stack.starting.ports import Ports
from tests.support.servers.real import SubprocessLauncher

SERVE = [sys.executable, "-m", "http.server", "{port}", "--bind", "127.0.0.1"]


@pytest.fixture
def launcher() -> Iterator[SubprocessLauncher]:
    one = SubprocessLauncher()
    yield one
    one.close()


def version(folder: Path, start: list[str], target: str = "") -> StartedVersion:
    file = folder / "harness.toml"
    file.write_text(f"{target}[versions.new]\nstart = {json.dumps(start)}\n")
    found = load(file)
    with Ports() as ports:
        port = ports.take()
    logs = folder / "logs"
    logs.mkdir()
    own = found if found.target is not None else None
    return StartedVersion("new", port, file=found, configuration=own).logging_to(logs)


def test_it_is_started_on_the_port_answers_and_ends_with_the_run(tmp_path: Path, launcher: SubprocessLauncher) -> None:
    stack = version(tmp_path, SERVE)
    (tmp_path / "here.txt").write_text("of this folder")
    stack.check()
    assert launcher.names() == []
    up = stack.up(launcher, lambda line: None)
    assert up.target.url == stack.url and launcher.names() == ["version-new"]
    with urllib.request.urlopen(f"{stack.url}/here.txt", timeout=5) as answer:
        assert answer.read() == b"of this folder"
    assert (tmp_path / "logs" / "new.log").exists()


def test_the_keeper_of_a_run_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    keeper = Keeper.start(active_dir() / "run", lease_s=600)
    try:
        stack = version(tmp_path, SERVE)
        stack.up(keeper, lambda line: None)
        with urllib.request.urlopen(stack.url, timeout=5) as answer:
            assert answer.status == 200
    finally:
        report = keeper.finish(stop_servers=True)
    assert report.left == ()
    with pytest.raises(OSError, match=r"refused"):
        urllib.request.urlopen(stack.url, timeout=5)


def test_with_a_health_path_it_must_be_well_there(
    tmp_path: Path, launcher: SubprocessLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.stack.external.started.READY_LIMIT_S", 1.5)
    stack = version(tmp_path, SERVE, '[target]\nurl = "http://127.0.0.1:1"\nhealth = "/health"\n')
    with pytest.raises(SetupError, match=r"version new was not ready within 2 s: File not found"):
        stack.up(launcher, lambda line: None)


def test_one_that_ends_at_once_says_so_with_its_log(tmp_path: Path, launcher: SubprocessLauncher) -> None:
    stack = version(tmp_path, [sys.executable, "-c", "raise SystemExit('no database at {port}')"])
    with pytest.raises(
        SetupError, match=r"version new ended with exit code 1 while it was starting:\s+no database at \d"
    ):
        stack.up(launcher, lambda line: None)


def test_a_program_that_is_not_there_is_told_before(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="serve-new: no such program"):
        version(tmp_path, ["./serve-new", "{port}"]).check()


@pytest.mark.parametrize("change", ["other", "writable"])
def test_nothing_is_run_from_a_file_that_is_not_as_it_was(
    tmp_path: Path, launcher: SubprocessLauncher, change: str
) -> None:
    stack, file = version(tmp_path, SERVE), tmp_path / "harness.toml"
    if change == "other":
        file.write_text(file.read_text().replace("http.server", "http.client"))
    else:
        file.chmod(0o666)
    with pytest.raises(UsageError, match=r"has changed since the run was planned|may be written by others"):
        stack.up(launcher, lambda line: None)
    assert launcher.names() == []
