"""The keeper's servers: whatever they do to get away, they end with it, and nobody else does."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec
import pytest

from harness.adapters.keeper.client import KeeperClient
from harness.adapters.processes.identity import identify
from harness.model.errors import Refused, SetupError
from harness.model.paths import state_dir
from harness.model.records.process import ServerSpec
from harness.safety.healing.dead_run import heal_all, heal_run
from harness.safety.keeper.client import Keeper
from harness.safety.state_folders import find_active, retire
from tests.safety.world import family_of, gone, stop, wait_for

SLIPPERY = """
import os, sys, time, signal
# A child in the group, one in a session of its own, a daemon that forked twice, one that cleared its environment.
def tell(): open(sys.argv[1], "a").write(f"{os.getpid()}\\n")
def child(prepare):
    if os.fork() == 0:
        prepare(); tell(); signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True: time.sleep(60)
def daemon():
    os.setsid()
    if os.fork(): os._exit(0)
    os.setsid(); os.chdir("/")
def scrubbed():
    os.setsid(); tell()
    os.execve(sys.executable, [sys.executable, "-c", "import time; time.sleep(600)"], {})
tell()
for prepare in (lambda: None, os.setsid, daemon, scrubbed): child(prepare)
while True: time.sleep(60)
"""


def spec(name: str, folder: Path, *argv: str, **more: object) -> ServerSpec:
    return ServerSpec(
        name=name,
        argv=argv,
        env={"PATH": os.environ["PATH"], "MARK": "1"},
        cwd=str(folder),
        log=str(folder / f"{name}.log"),
        **more,  # type: ignore[arg-type]
    )


def folder_of(name: str) -> Path:
    return state_dir() / "active" / name


@pytest.fixture
def keeper(state_home: Path) -> Iterator[Keeper]:
    made = Keeper.start(folder_of("run"), lease_s=600)
    yield made
    made.finish()


def five_pids(path: Path) -> list[int]:
    def read() -> list[int]:
        found = [int(line) for line in path.read_text().split()] if path.exists() else []
        return found if len(found) == 5 else []

    found: list[int] = wait_for("all five processes", read)
    return found


def test_stop_ends_everything_a_server_started(keeper: Keeper, tmp_path: Path) -> None:
    keeper.launch(spec("slippery", tmp_path, sys.executable, "-c", SLIPPERY, str(tmp_path / "pids"), stop_grace_s=0.2))
    keeper.launch(spec("other", tmp_path, "sleep", "600"))
    pids = five_pids(tmp_path / "pids")
    keeper.stop("slippery")
    assert [pid for pid in pids if not gone(pid)] == []
    assert keeper.exit_code("other") is None, "a server in the same directory is left alone"
    assert keeper.exit_code("slippery") is not None


def test_a_log_that_is_named_from_here_lies_here(
    keeper: Keeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = msgspec.structs.replace(spec("talks", tmp_path, "echo", "heard"), log="runs/one/logs/talks.log")
    keeper.launch(own)
    path = tmp_path / "runs" / "one" / "logs" / "talks.log"
    wait_for("its log", lambda: path.exists() and path.read_text() == "heard\n")
    assert not Path("/runs/one").exists()


def test_a_killed_keeper_leaves_no_direct_server_and_heal_ends_the_rest(tmp_path: Path, state_home: Path) -> None:
    keeper = Keeper.start(folder_of("run"), lease_s=600)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    keeper.remove_at_end(str(temporary))
    pids_file = tmp_path / "pids"
    server = keeper.launch(spec("slippery", temporary, sys.executable, "-c", SLIPPERY, str(pids_file)))
    pids = five_pids(pids_file)
    os.kill(keeper.pid, signal.SIGKILL)
    wait_for("the server itself gone", lambda: gone(server.pid))
    wait_for("the run notices", lambda: keeper.lost)
    report = keeper.finish()
    assert report.left == () and not temporary.exists()
    # What had a session of its own, a double fork or no environment is found as well.
    assert [pid for pid in pids if not gone(pid)] == []


def test_a_dead_run_takes_its_servers_folder_and_load_along(start_run: object, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    pids_file = tmp_path / "pids"
    server = {
        "name": "slippery",
        "argv": [sys.executable, "-c", SLIPPERY, str(pids_file)],
        "env": {"PATH": os.environ["PATH"]},
        "cwd": str(temporary),
        "log": str(temporary / "log"),
        "stop_grace_s": 0.2,
    }
    run = start_run(servers=[server], folder=str(temporary), load=["sleep", "600"])  # type: ignore[operator]
    run.wait("injected")
    pids = five_pids(pids_file)
    assert set(pids) <= family_of(run.said["keeper"])
    run.kill()
    wait_for("keeper gone", lambda: gone(run.said["keeper"]))
    assert [pid for pid in (*pids, run.said["load"]) if not gone(pid)] == []
    assert not temporary.exists() and not run.state.exists()


def test_a_server_gets_its_environment_directory_log_and_session(keeper: Keeper, tmp_path: Path) -> None:
    code = "import os; print(os.environ.get('MARK'), os.getcwd(), os.getsid(0) == os.getpid(), 'HOME' in os.environ)"
    keeper.launch(spec("shows", tmp_path, sys.executable, "-c", code))
    wait_for("its end", lambda: keeper.exit_code("shows") == 0)
    assert (tmp_path / "shows.log").read_text().split() == ["1", str(tmp_path), "True", "False"]


def test_a_server_inherits_no_descriptor_of_run_or_keeper(keeper: Keeper, tmp_path: Path) -> None:
    process = keeper.launch(spec("plain", tmp_path, "sleep", "600"))
    open_files = {int(path.name) for path in Path(f"/proc/{process.pid}/fd").iterdir()}
    assert open_files == {0, 1, 2}


def test_a_server_ignores_no_signal_that_the_keeper_handles(keeper: Keeper, tmp_path: Path) -> None:
    process = keeper.launch(spec("plain", tmp_path, "sleep", "600"))
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    masks = {line.split(":")[0]: int(line.split()[1], 16) for line in lines if line[:6] in ("SigBlk", "SigIgn")}
    # Only the signals that have a name: a C library may keep one of the others ignored for itself.
    named = sum(1 << (number - 1) for number in range(1, 32))
    assert {name: mask & named for name, mask in masks.items()} == {"SigBlk": 0, "SigIgn": 0}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start servers as another user")
def test_a_server_of_another_user_dies_with_the_keeper_too(state_home: Path, tmp_path: Path) -> None:
    keeper = Keeper.start(folder_of("run"), lease_s=600)
    process = keeper.launch(
        ServerSpec(name="s", argv=("sleep", "600"), env={}, cwd="/", log=str(tmp_path / "log"), user="nobody")
    )
    status = Path(f"/proc/{process.pid}/status").read_text()
    uid = next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1]
    assert uid != "0"
    os.kill(keeper.pid, signal.SIGKILL)
    wait_for("the server gone", lambda: gone(process.pid))
    keeper.finish()


@pytest.mark.parametrize(
    ("argv", "words"),
    [(("/does/not/exist",), "No such file"), (("/etc/hostname",), "format|denied"), (("",), "empty")],
)
def test_what_cannot_be_started_is_told_at_once(
    keeper: Keeper, tmp_path: Path, argv: tuple[str, ...], words: str
) -> None:
    with pytest.raises(SetupError, match=words):
        keeper.launch(spec("wrong", tmp_path, *argv))


def test_wrong_directory_and_unknown_user_are_told(keeper: Keeper, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="No such file"):
        keeper.launch(
            ServerSpec(name="w", argv=("sleep", "1"), env={"PATH": "/bin"}, cwd="/no/such", log=str(tmp_path / "log"))
        )
    with pytest.raises(SetupError, match="no user nobody-at-all"):
        keeper.launch(spec("w", tmp_path, "sleep", "1", user="nobody-at-all"))


def test_a_server_that_dies_is_seen_and_its_name_can_be_used_again(keeper: Keeper, tmp_path: Path) -> None:
    keeper.launch(spec("short", tmp_path, "sh", "-c", "exit 3"))
    wait_for("its end", lambda: keeper.exit_code("short") == 3)
    again = keeper.launch(spec("short", tmp_path, "sleep", "600"))
    with pytest.raises(Refused, match="already running"):
        keeper.launch(spec("short", tmp_path, "sleep", "600"))
    newer = keeper.restart("short")
    assert newer.pid != again.pid and gone(again.pid) and not gone(newer.pid)
    keeper.stop("never started")  # no error: it is gone
    keeper.stop("short")
    keeper.stop("short")


def test_a_paused_server_can_be_stopped(keeper: Keeper, tmp_path: Path) -> None:
    process = keeper.launch(spec("paused", tmp_path, "sleep", "600"))
    stop(process.pid)
    keeper.stop("paused")
    assert gone(process.pid)


def test_orphans_leave_no_zombies_under_the_keeper(keeper: Keeper, tmp_path: Path) -> None:
    keeper.launch(spec("brood", tmp_path, "sh", "-c", "(sleep 0.1 &) ; (sleep 0.1 &) ; sleep 600"))

    def zombies() -> list[str]:
        found = []
        for pid in family_of(keeper.pid):
            try:
                found.append(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0])
            except OSError:
                continue
        return [state for state in found if state == "Z"]

    time.sleep(0.6)
    wait_for("no zombie", lambda: not zombies())


def test_folders_that_are_no_temporary_ones_are_refused(keeper: Keeper, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    for path in ("/", "/tmp", str(Path.home()), str(state_dir()), str(tmp_path / "link"), str(tmp_path / "missing")):
        with pytest.raises(Refused):
            keeper.remove_at_end(path)


def test_a_folder_that_was_replaced_is_not_removed(tmp_path: Path, state_home: Path) -> None:
    keeper = Keeper.start(folder_of("run"), lease_s=600)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    keeper.remove_at_end(str(temporary))
    temporary.rename(tmp_path / "elsewhere")
    temporary.mkdir()
    (temporary / "precious").touch()
    assert keeper.finish().left == ()
    assert (temporary / "precious").exists()


def test_read_only_folders_are_removed_too(keeper: Keeper, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    (temporary / "deep" / "er").mkdir(parents=True)
    (temporary / "deep" / "er" / "file").touch()
    (temporary / "deep" / "er").chmod(stat.S_IRUSR | stat.S_IXUSR)
    keeper.remove_at_end(str(temporary))
    assert keeper.finish().left == ()
    assert not temporary.exists()


def test_a_detached_keeper_stays_and_can_be_found_again(tmp_path: Path, state_home: Path) -> None:
    folder = state_dir() / "stacks" / "embedded-x"
    code = (
        "import sys; from pathlib import Path; from harness.safety.keeper.client import Keeper;"
        "from harness.model.records.process import ServerSpec;"
        f"k = Keeper.start(Path({str(folder)!r}), detached=True);"
        f"p = k.launch(ServerSpec(name='s', argv=('sleep', '600'), env={{'PATH': '/bin:/usr/bin'}}, cwd='/',"
        f" log={str(tmp_path / 'log')!r})); k.finish(stop_servers=False); print(k.pid, p.pid)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    keeper_pid, server_pid = map(int, done.stdout.split())
    assert not gone(keeper_pid) and not gone(server_pid)
    keeper = Keeper.connect(folder)
    assert [server.pid for server in keeper.status().servers.values()] == [server_pid] and not keeper.lost
    with pytest.raises(Refused, match="brought up to stay"):
        heal_run(folder, lambda _: None)
    assert keeper.finish().stopped == ("s",)
    assert gone(keeper_pid) and gone(server_pid)
    with pytest.raises(SetupError, match="no keeper"):
        Keeper.connect(folder)


def test_sigterm_ends_a_detached_keeper_and_its_servers(tmp_path: Path, state_home: Path) -> None:
    keeper = Keeper.start(state_dir() / "stack", detached=True)
    process = keeper.launch(spec("s", tmp_path, "sleep", "600"))
    os.kill(keeper.pid, signal.SIGTERM)
    wait_for("both gone", lambda: gone(keeper.pid) and gone(process.pid))
    wait_for("it counts as lost once its last thread has ended", lambda: keeper.lost)


def test_a_second_keeper_for_the_same_folder_is_refused(keeper: Keeper) -> None:
    with pytest.raises(SetupError, match="did not start") as caught:
        Keeper.start(keeper.state_dir)
    assert "being written by another process" in str(caught.value.hint)


@pytest.mark.parametrize("length", [200, 250])
def test_a_very_long_state_path_leaves_nothing_anywhere(
    tmp_path: Path, state_home: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    """A unix socket's name has room for 100 characters, a file's for 255."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    folder = folder_of("long-" * (length // 5))
    for ends in ("well", "killed"):
        keeper = Keeper.start(folder, lease_s=600)
        process = keeper.launch(spec("s", tmp_path, "sleep", "600"))
        assert KeeperClient(folder).status().servers["s"].pid == process.pid
        if ends == "killed":
            os.kill(keeper.pid, signal.SIGKILL)
            wait_for("its end", partial(gone, keeper.pid))
        assert keeper.finish().left == ()
        assert list(temporary.iterdir()) == [], ends
        retire(folder)
        assert list(folder.parent.iterdir()) == [], ends


def test_a_reused_pid_is_never_hit(tmp_path: Path, state_home: Path) -> None:
    """Pids cannot be made to repeat at will: the journal is given a living process with another's start time."""
    from harness.adapters.processes.family import Root
    from harness.adapters.processes.identity import ProcessId
    from harness.safety.journal.entries import Process
    from harness.safety.journal.journal import Journal
    from harness.safety.journal.log import KEEPER, Log

    bystander = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        who = identify(bystander.pid)
        assert who is not None
        folder = folder_of("old")
        journal = Journal.create(folder)
        log = Log(folder / KEEPER)
        other = ProcessId(
            pid=who.pid,
            start_time=who.start_time - 50,
            ticks=None if who.ticks is None else who.ticks - 5000,
            boot=who.boot,
        )
        log.append(Process(root=Root(name="s", process=other, cwd="/", exe="/usr/bin/sleep", marker="x"), server=True))
        log.close()
        journal.close()
        healed = heal_run(folder, lambda _: None)
        assert healed.left == () and healed.stopped == ()
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_run_killed_before_its_journal_is_cleared_up(tmp_path: Path, state_home: Path) -> None:
    code = (
        "import os, signal; from harness.safety.keeper.client import Keeper; from pathlib import Path;"
        f"k = Keeper.start(Path({str(folder_of('early'))!r})); print(k.pid, flush=True);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    wait_for("keeper gone", lambda: gone(int(done.stdout)))
    assert find_active() == [] and heal_all(lambda _: None) == []
