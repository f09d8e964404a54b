"""`--repeat` and `--versus` with what cannot be: one line, exit code 2, nothing touched; what `plan` says of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli import cli
from harness.model.errors import UsageError
from tests.support.servers.ports import free_port

FILE = """
[versions.slow]
env = { ANOMALY_API_DEFECT = "sync-kafka" }
[versions.wrong]
env = { DATABASE_URL = "postgresql://elsewhere" }
[versions.other]
host = "http://127.0.0.1:PORT"
[versions.started]
start = ["no-such-program", "{port}"]
"""
OWN = ("--scale", "0.01", "--repeat", "7", "--versus")


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "harness.toml").write_text(FILE.replace("PORT", str(free_port())))
    return tmp_path


def refused(*words: str) -> str:
    with pytest.raises(UsageError) as raised:
        CliRunner().invoke(cli, words, standalone_mode=False, catch_exceptions=False)
    assert "\n" not in str(raised.value) and raised.value.exit_code == 2
    assert not Path("runs").exists()
    return str(raised.value)


def plan(*words: str) -> str:
    done = CliRunner().invoke(cli, ["plan", "--rate", "50", *words], standalone_mode=False, catch_exceptions=False)
    return " ".join(done.stdout.split())


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--versus", "slow"), "--versus: how many pairs?"),
        (("--repeat", "31"), "--repeat 31: from 2 to 30"),
        (("--repeat", "1", "--versus", "slow"), "--repeat 1: from 2 to 30"),
        (("--repeat", "7", "--versus", "slwo"), "--versus: unknown version 'slwo'"),
        (("--repeat", "7", "--versus", "other"), "is of a target of your own, and the one given is on the embedded"),
        (("--repeat", "7", "--versus", "started"), "is of a target of your own, and the one given is on the embedded"),
        (("--repeat", "7", "--versus", "wrong"), "versions.wrong.env: 'DATABASE_URL' is no setting of the sample API"),
        (
            ("--repeat", "7", "--versus", "slow", "--stack", "compose"),
            "the embedded stack, and the target is not on it",
        ),
        (("--repeat", "7", "--versus", "slow", "--remote-workers", "1"), "workers of other machines wait for one load"),
    ],
)
def test_what_does_not_go_together(command: str, words: tuple[str, ...], says: str) -> None:
    assert says in refused(command, "--rate", "50", *words)


def test_keep_is_for_one_stack() -> None:
    assert "--keep leaves one stack up" in refused("run", "--rate", "50", "--repeat", "7", "--versus", "slow", "--keep")


def test_without_a_file_no_version_is_declared(folder: Path) -> None:
    (folder / "harness.toml").unlink()
    assert "--versus slow: no version is declared" in refused("run", "--repeat", "7", "--versus", "slow")


def test_a_version_that_does_not_answer_or_is_the_target_is_refused(url: str, folder: Path) -> None:
    said = refused("run", "--host", url, *OWN, "other")
    assert said.startswith("versions.other: --host http://127.0.0.1:") and "could not be reached" in said
    assert "no-such-program: no such program" in refused("run", "--host", url, *OWN, "started")
    (folder / "harness.toml").write_text(f'[versions.other]\nhost = "{url}/"\n')
    assert refused("run", "--host", url, *OWN, "other").endswith("versions.other.host is the target's own")
    (folder / "harness.toml").write_text('[versions.other]\nhost = "http://192.0.2.7"\n')
    assert "neither loopback nor a private address" in refused("run", "--host", url, *OWN, "other")


def test_a_fault_on_the_target_itself_is_of_the_target_alone(url: str, folder: Path) -> None:
    text = f'[target]\nurl = "{url}"\npid_file = "x.pid"\nstart = ["./serve"]\n[versions.other]\nhost = "http://127.0.0.1:9"\n'
    (folder / "harness.toml").write_text(text)
    assert "api-kill needs" in refused("plan", "--fault", "api-kill", *OWN, "other")


def test_what_so_many_runs_can_show_is_said_of_many_runs_alone() -> None:
    one, ten, pairs = plan(), plan("--repeat", "10"), plan("--repeat", "10", "--versus", "slow")
    for words in ("doubling", "not known yet", "pairs"):
        assert words not in one
    assert "How much the harm of two runs of the same differs by chance is not known yet from runs" in ten
    assert "10 runs against 10 find a doubling" in ten and "pairs" not in ten
    assert "10 pairs: A is the target as given, B is slow (ANOMALY_API_DEFECT=sync-kafka). 20 runs take" in pairs
    assert "10 pairs find a doubling in nine cases of ten" in pairs
    assert not Path("runs").exists()


def test_a_suite_has_no_repeats(folder: Path) -> None:
    (folder / "suite.yaml").write_text("profile: quick\n")
    assert "this file holds a suite" in refused("plan", "suite.yaml", "--repeat", "7")
