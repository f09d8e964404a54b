"""One run at a time on a resource."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from harness.model.errors import Refused, SetupError
from harness.model.records.faults import Dependency, DependencyFront
from harness.safety.journal.journal import Journal
from harness.safety.locks.local import acquire, lock_file
from harness.safety.locks.names import declared_names, target_names
from tests.safety.test_journal import injected, record


def test_a_second_run_is_told_who_holds_it(state_home: Path) -> None:
    with acquire(["target http://127.0.0.1:1", "redis"], "run-a"):
        with pytest.raises(Refused, match=rf"redis is in use by run run-a \(host .*, pid {os.getpid()}, since"):
            acquire(["redis"], "run-b")
        acquire(["postgres"], "run-b").release()
    acquire(["redis"], "run-b").release()


def test_a_front_is_locked_by_where_its_envoy_is_whatever_that_is_called() -> None:
    fronts = [DependencyFront(url=f"http://{host}:9901", name="risk") for host in ("127.0.0.1", "localhost")]
    one, other = (declared_names("", [Dependency(name="risk", kind="http", front=front)]) for front in fronts)
    assert one == other == ["envoy this machine:9901 front risk"]


def test_what_was_locked_before_the_refusal_is_free_again(state_home: Path) -> None:
    with acquire(["b"], "run-a"):
        with pytest.raises(Refused):
            acquire(["a", "b", "c"], "run-b")
        acquire(["a", "c"], "run-c").release()


def test_a_killed_holder_without_a_journal_blocks_nobody(state_home: Path) -> None:
    code = (
        "import os; from harness.safety.locks.local import acquire\n"
        "acquire(['redis'], 'run-a')\n"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    assert lock_file("redis").read_text() != ""
    acquire(["redis"], "run-b").release()


def test_children_do_not_inherit_a_lock(state_home: Path) -> None:
    locks = acquire(["redis"], "run-a")
    child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        locks.release()
        acquire(["redis"], "run-b").release()
    finally:
        child.kill()
        child.wait()


def test_a_run_that_ends_with_something_left_keeps_others_out(state_home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run-a"
    locks = acquire(["redis"], "run-a", folder=folder)
    journal = Journal.create(folder)
    injected(journal, 1)
    journal.outcome(record().id, "unverified", left="it", mend="that")
    locks.release()
    with pytest.raises(Refused, match="left changes behind") as caught:
        acquire(["redis"], "run-b")
    assert str(folder) in str(caught.value.hint)
    # The owner itself may take it again, and once it is undone everybody may.
    acquire(["redis"], "run-a", folder=folder).release()
    journal.outcome(record().id, "verified")
    journal.close()
    acquire(["redis"], "run-b").release()


def test_names_that_differ_only_in_signs_are_different_locks(state_home: Path) -> None:
    with acquire(["http://a:1/x"], "a"), acquire(["http://a:1 x", "http://a:1/" + "x" * 300], "b"):
        pass


def test_an_unusable_state_directory_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with pytest.raises(SetupError, match="cannot make the folder"):
        acquire(["redis"], "run")


def test_a_lock_folder_that_others_may_write_is_refused(state_home: Path) -> None:
    acquire(["redis"], "run").release()
    lock_file("redis").parent.chmod(0o777)
    with pytest.raises(Refused, match="may be written by others"):
        acquire(["redis"], "run")


def test_beside_a_living_run_nobody_is_told_to_mend_what_it_broke(state_home: Path, tmp_path: Path) -> None:
    """The target is down because a run has killed it: whoever comes second is told of that run, not to start it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    (tmp_path / "harness.toml").write_text(f'[target]\nurl = "{url}"\n')
    command = [sys.executable, "-c", "from harness.cli import main; main()", "run", "--fault", "none"]

    def second() -> str:
        done = subprocess.run(
            [*command, "--host", url], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 2 and not (tmp_path / "runs").exists()
        return done.stderr

    with acquire(target_names(url), "run-a"):
        said = second()
        assert "is in use by run run-a" in said and f"pid {os.getpid()}" in said
        assert "heal" not in said and "start the target" not in said and "curl" not in said
    assert "start the target first" in second()


def test_a_look_hinders_no_run_that_begins_meanwhile(state_home: Path) -> None:
    acquire(["redis"], "run-a").release()
    looking = os.open(lock_file("redis"), os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)  # as a look does for a moment
    threading.Timer(0.03, os.close, [looking]).start()
    acquire(["redis"], "run-b").release()
