"""`harness heal`, as a person uses it: what it lists, what it leaves alone, what it says."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness import __version__
from harness.adapters.keeper.protocol import KeeperOpened
from harness.adapters.processes.identity import identify
from harness.model.errors import Refused, UndoUnverified
from harness.model.paths import state_dir
from harness.model.records.process import ServerSpec
from harness.safety.healing.dead_run import heal_all, heal_run
from harness.safety.journal.entries import encode
from harness.safety.journal.journal import Journal
from harness.safety.journal.log import JOURNAL, KEEPER, is_written
from harness.safety.journal.version import VERSION
from harness.safety.journal.view import read_journal
from harness.safety.keeper.client import Keeper
from harness.safety.locks.local import acquire
from harness.safety.state_folders import find_active, retire
from tests.safety.test_journal import injected, record
from tests.safety.test_journal_damage import sealed
from tests.safety.world import gone, wait_for


def quiet(_: str) -> None:
    pass


def harness(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from harness.cli import main; main()", "heal", *args],
        capture_output=True,
        text=True,
        check=False,
    )


def dead_run(name: str, run_dir: Path | None = None) -> Path:
    """The state folder of a run that was killed with a change on; nothing listens where the change was."""
    folder = state_dir() / "active" / name
    where = f"Path({str(run_dir)!r})" if run_dir is not None else "None"
    code = (
        "import os; from pathlib import Path; from harness.safety.journal.journal import Journal;"
        "from tests.safety.test_journal import injected;"
        f"injected(Journal.create(Path({str(folder)!r}), owner={name!r}, run_dir={where}), 1); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[2])
    assert (folder / JOURNAL).exists()
    return folder


def test_without_a_name_it_lists_what_is_left(state_home: Path) -> None:
    done = harness()
    assert (done.returncode, done.stdout) == (0, "nothing is left of any run\n")
    dead_run("run-a")
    done = harness()
    assert done.returncode == 2 and "run-a" in done.stdout and record().id in done.stdout
    assert "--all" in done.stderr


def test_bad_arguments_are_told_and_touch_nothing(state_home: Path) -> None:
    folder = dead_run("run-a")
    before = (folder / JOURNAL).read_bytes()
    for args in (("no-such-run",), ("/etc",), ("run-a", "--all")):
        done = harness(*args)
        assert done.returncode == 2 and done.stderr.startswith("error: ") and len(done.stderr.splitlines()) <= 2
    assert (folder / JOURNAL).read_bytes() == before


def test_what_cannot_be_undone_ends_5_and_stays(state_home: Path) -> None:
    folder = dead_run("run-a")
    path = folder / JOURNAL
    path.write_bytes(path.read_bytes().replace(b"harness-x", b"harness-y"))  # a damaged undo record
    for _ in range(2):
        done = harness("--all", "--quiet")
        assert done.returncode == 5
        lines = done.stdout.splitlines()
        assert len(lines) == 2 and all(line.startswith("run-a: LEFT: journal.jsonl") for line in lines)
        assert record().id in lines[1]
    assert folder.exists() and len(find_active()) == 1


def test_a_clean_run_directory_says_that_nothing_is_left(state_home: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "runs" / "run-a"
    run_dir.mkdir(parents=True)
    (run_dir / "plan.json").touch()
    done = harness(str(run_dir))
    assert done.returncode == 0 and "run-a: nothing is left" in done.stdout
    journal = Journal.create(state_dir() / "active" / "run-a", run_dir=run_dir)
    injected(journal, 1)
    journal.outcome(record().id, "verified")
    journal.closed()
    journal.close()
    retire(journal.folder, run_dir)  # as at the end of a run: its journal lies with its results from now on
    assert (run_dir / JOURNAL).exists() and not journal.folder.exists()
    done = harness(str(run_dir))
    assert done.returncode == 0 and "run-a: nothing is left" in done.stdout


def test_links_in_a_run_directory_are_not_written_through(state_home: Path, tmp_path: Path) -> None:
    run_dir, others = tmp_path / "runs" / "run-a", tmp_path / "others"
    run_dir.mkdir(parents=True)
    others.mkdir()
    kept = [others / "a", others / "b", others / "keeper.log"]
    for file in kept:
        file.write_text("precious")
    journal = Journal.create(state_dir() / "active" / "run-a", run_dir=run_dir)
    injected(journal, 1)
    journal.outcome(record().id, "verified")
    journal.closed()
    journal.close()
    for name in (KEEPER, "keeper.log"):
        (journal.folder / name).touch(mode=0o600)
    (run_dir / JOURNAL).symlink_to(kept[0])
    (run_dir / KEEPER).symlink_to(kept[1])
    (run_dir / "logs").symlink_to(others)
    retire(journal.folder, run_dir)
    assert [file.read_text() for file in kept] == ["precious"] * 3
    assert not (run_dir / JOURNAL).is_symlink() and (run_dir / JOURNAL).stat().st_mode & 0o777 == 0o600
    assert not journal.folder.exists()


def test_a_run_that_is_just_starting_is_left_alone(state_home: Path) -> None:
    folder = state_dir() / "active" / "starting"
    code = (
        "import sys; from pathlib import Path; from harness.safety.keeper.client import Keeper;"
        f"k = Keeper.start(Path({str(folder)!r}), lease_s=600); print('up', flush=True); sys.stdin.read(); k.finish()"
    )
    run = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert run.stdout is not None and run.stdin is not None
    try:
        assert run.stdout.readline() == b"up\n"
        with pytest.raises(Refused, match=rf"still running \(pid {run.pid}\)"):
            heal_run(folder, quiet)
        assert find_active() == []
    finally:
        run.stdin.close()
        assert run.wait(30) == 0
        run.stdout.close()


def test_a_stack_that_stays_up_is_left_alone_and_a_dead_one_is_cleared(state_home: Path, tmp_path: Path) -> None:
    folder = state_dir() / "stacks" / "embedded-x"
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    keeper = Keeper.start(folder, detached=True)
    keeper.remove_at_end(str(temporary))
    spec = ServerSpec(name="s", argv=("/bin/sleep", "600"), env={}, cwd=str(temporary), log=str(tmp_path / "log"))
    server = keeper.launch(spec)
    assert heal_all(quiet) == [] and find_active() == [] and not gone(server.pid)
    os.kill(keeper.pid, signal.SIGKILL)
    wait_for("the server gone", lambda: gone(server.pid))
    # The main thread's end takes the servers along; the lock on its log goes with the last thread, a moment later.
    assert [left.folder for left in wait_for("it is listed", find_active)] == [folder]
    (healed,) = heal_all(quiet)
    assert healed.removed == (str(temporary),) and healed.left == ()
    assert not temporary.exists() and not folder.exists()


def test_another_machines_run_is_left_to_it(state_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = dead_run("run-a")
    name = socket.gethostname()
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    assert read_journal(folder).opened is not None
    monkeypatch.setattr("harness.safety.healing.dead_run.boot_id", lambda: "another boot")
    with pytest.raises(Refused, match=f"belongs to a run on {name}"):
        heal_run(folder, quiet)


def test_the_folder_goes_before_the_lock(proxy: Any, start_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second healer with the lock would find the run's journal, and the keeper's gone: all undone once more."""
    import msgspec

    import harness.safety.healing.dead_run as module

    run = start_run(dependency=msgspec.to_builtins(proxy.dependency()), faults=[["down", {}]])
    run.wait("injected")
    os.kill(run.said["keeper"], signal.SIGKILL)
    run.kill()
    run.process.wait(30)
    held = []
    retire = module.retire

    def look(folder: Path, run_dir: Path | None = None) -> None:
        held.append(is_written(folder / KEEPER))
        retire(folder, run_dir)

    monkeypatch.setattr(module, "retire", look)
    assert not heal_run(run.state, quiet).left
    assert held == [True] and not run.state.exists()


def test_two_heals_at_once_do_it_once(proxy: Any, start_run: Any) -> None:
    import msgspec

    run = start_run(dependency=msgspec.to_builtins(proxy.dependency()), faults=[["down", {}]])
    run.wait("injected")
    os.kill(run.said["keeper"], signal.SIGKILL)
    run.kill()
    run.process.wait(30)
    heals = [
        subprocess.Popen(
            [sys.executable, "-c", "from harness.cli import main; main()", "heal", "--all"],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    outs = [process.communicate(timeout=60)[0] for process in heals]
    assert [process.returncode for process in heals] == [0, 0, 0]
    assert "".join(outs).count("undone and verified") == 1 and proxy.clean() and not run.state.exists()


def written_by_another_version(folder: Path, name: str, version: object = 3) -> None:
    """The same file with another version in its first line, and a line that only that version understands."""
    path = folder / name
    first, _, rest = path.read_bytes().partition(b"\n")
    value = json.loads(first)
    del value["crc"]
    later = {"entry": "portal", "at": value["at"], "leads": "elsewhere"}
    path.write_bytes(sealed({**value, "version": version, "harness": "7.1.0"}) + sealed(later) + rest)


@pytest.mark.parametrize("version", [1, 3, -1, "one", True, None])
def test_a_journal_of_another_version_is_named_and_not_touched(state_home: Path, version: object) -> None:
    folder = dead_run("run-a")
    written_by_another_version(folder, JOURNAL, version)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for args in (("run-a",), ("--all",), (str(folder),)):
        done = harness(*args)
        said = done.stdout + done.stderr
        assert done.returncode == 5 and "Traceback" not in said
        assert sum("harness 7.1.0" in line and str(folder / JOURNAL) in line for line in said.splitlines()) == 1
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    done = harness()
    assert done.returncode == 2 and "written by harness 7.1.0" in done.stdout


def test_beside_leftovers_of_another_version_no_run_begins(state_home: Path) -> None:
    folder = dead_run("run-a")
    acquire(["redis 127.0.0.1:1"], owner="run-a", folder=folder).release()
    written_by_another_version(folder, JOURNAL)
    with pytest.raises(UndoUnverified, match=r"written by harness 7\.1\.0") as raised:
        acquire(["redis 127.0.0.1:1"], owner="run-b", folder=state_dir() / "active" / "run-b")
    assert raised.value.exit_code == 5 and "harness 7.1.0" in (raised.value.hint or "")


def test_a_keepers_journal_of_another_version_is_not_healed_by_halves(state_home: Path) -> None:
    folder = dead_run("run-a")
    me = identify(os.getpid())
    assert me is not None
    (folder / KEEPER).write_bytes(encode(KeeperOpened(keeper=me, host=socket.gethostname())))
    (folder / KEEPER).chmod(0o600)
    written_by_another_version(folder, KEEPER)
    done = harness("run-a")
    assert done.returncode == 5 and str(folder / KEEPER) in done.stderr


def test_a_strangers_journal_of_another_version_is_not_guessed_at(state_home: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run-of-somebody"
    shutil.copytree(dead_run("run-a"), run_dir)
    written_by_another_version(run_dir, JOURNAL)
    done = harness(str(run_dir))
    assert done.returncode == 5 and "harness 7.1.0" in done.stderr and "TOLD" not in done.stdout


def test_a_journal_of_the_time_before_versions_is_read(state_home: Path) -> None:
    folder = dead_run("run-a")
    path = folder / JOURNAL
    first, _, rest = path.read_bytes().partition(b"\n")
    value = json.loads(first)
    assert value["version"] == VERSION and value["harness"] == __version__
    path.write_bytes(sealed({k: v for k, v in value.items() if k not in ("crc", "version", "harness")}) + rest)
    view = read_journal(folder)
    assert [one.id for one in view.pending] == [record().id] and view.damage == ()


def test_a_first_line_whose_checksum_is_wrong_is_damage_and_no_other_version(state_home: Path) -> None:
    folder = dead_run("run-a")
    path = folder / JOURNAL
    path.write_bytes(path.read_bytes().replace(b'"version":2', b'"version":3', 1))
    view = read_journal(folder)
    assert "line 1" in view.damage[0] and [one.id for one in view.pending] == [record().id]
