"""A run directory from somebody else is shown, and nothing is done by what stands in it."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.adapters.processes.control import as_scalars, look_at
from harness.adapters.processes.family import Root
from harness.adapters.processes.identity import ProcessId, boot_id, identify
from harness.adapters.processes.start_command import start_command
from harness.model.errors import Refused, UsageError
from harness.model.paths import state_dir
from harness.model.records.faults import (
    Address,
    Credentials,
    Dependency,
    DependencyContainer,
    DependencyProcess,
    DependencyProxy,
    UndoOutcome,
    UndoRecord,
)
from harness.safety.healing.dead_run import heal_run
from harness.safety.healing.stranger import MOST
from harness.safety.journal.entries import (
    Entry,
    Intent,
    Locking,
    Opened,
    Outcome,
    Process,
    Project,
    ProxyLock,
    Recorded,
    encode,
)
from harness.safety.journal.folders import describe
from harness.safety.journal.log import JOURNAL, KEEPER
from harness.safety.state_folders import check_known, known

DEAD = ProcessId(pid=999_998, start_time=1.0, ticks=1, boot=boot_id())
SECRET = "TEST_STRANGER_SECRET"


@pytest.fixture
def parcel(tmp_path: Path, state_home: Path) -> Path:
    """The run directory that somebody sent: not in the state directory."""
    folder = tmp_path / "runs" / "sent"
    folder.mkdir(parents=True)
    (folder / "plan.json").write_text("{}")
    return folder


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[bytes]]:
    """A process of the user's that has nothing to do with any run."""
    process = subprocess.Popen(["sleep", "600"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def host() -> Iterator[socket.socket]:
    """A host of the sender's choice, which learns whatever is sent to it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def was_contacted(host: socket.socket) -> bool:
    try:
        host.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def address(host: socket.socket) -> Address:
    return Address("127.0.0.1", int(host.getsockname()[1]))


def write(folder: Path, *entries: Entry, keeper: tuple[Entry, ...] = (), owner: str = "sent") -> None:
    opened = Opened(run=DEAD, host=socket.gethostname(), owner=owner, run_dir=str(folder), allowed=("0.0.0.0/0",))
    for name, lines in ((JOURNAL, (opened, *entries)), (KEEPER, keeper)):
        (folder / name).write_bytes(b"".join(map(encode, lines)))
        (folder / name).chmod(0o600)


def changed(record: UndoRecord) -> tuple[Entry, ...]:
    intent = Intent(id=record.id, action="inject", boot_s=1.0)
    return Recorded(record=record), intent, Outcome(id=record.id, state="injected")


def harness_heal(*args: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from harness.cli import main; main()", "heal", *map(str, args)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def shown(done: subprocess.CompletedProcess[str]) -> str:
    """What it printed, once it is sure that it refused to act and says that something may be left."""
    assert done.returncode == 5, done.stdout + done.stderr
    assert "knows nothing of this run, so nothing was done" in done.stdout
    return done.stdout


def test_no_command_of_a_configuration_that_came_along_is_run(parcel: Path) -> None:
    proof = parcel / "proof"
    config = parcel / "harness.toml"
    command = f'["/bin/sh", "-c", "id > {proof}"]'
    config.write_text(f'[target]\nurl = "http://127.0.0.1:1"\npid_file = "pid"\nstart = {command}\n')
    from harness.dependencies.configuration import load

    api = Dependency(
        name="api",
        kind="http",
        process=DependencyProcess(
            start_config=str(config), start_sha256=load(config).sha256, pid_file=str(parcel / "pid")
        ),
        target=True,
        runtime="process",
        url="http://127.0.0.1:1/",
        startable=True,
        external=True,
        path=Address("127.0.0.1", 1),
    )
    where = {"pid": 999_999, "start_time": 1.0, "ticks": 1, "boot": "x", "uid": 0, "leads": False}
    record = UndoRecord(
        id="api-kill-1",
        kind="kill",
        dependency=api,
        params={},
        where={**where, "folder": None, "program": None, "address": "127.0.0.1:1"},
        original={"state": "running"},
        ours={"state": "not running"},
    )
    write(parcel, *changed(record))
    done = harness_heal(parcel)
    assert not proof.exists()
    assert "api-kill-1: kill on api may still be on" in shown(done)
    # The door behind it is shut as well: a command is never taken from a run directory, whoever asks.
    with pytest.raises(Refused, match="lies in the run directory"):
        start_command(str(config), load(config).sha256, "api")


def test_no_folder_that_it_names_is_removed(parcel: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    write(parcel, keeper=(describe(str(precious)),))
    done = harness_heal(parcel)
    assert (precious / "file").exists()
    assert str(precious) in shown(done)


@pytest.mark.parametrize("server", [True, False])
def test_no_process_that_it_names_is_ended(parcel: Path, victim: subprocess.Popen[bytes], server: bool) -> None:
    process = identify(victim.pid)
    assert process is not None
    write(parcel, keeper=(Process(root=Root(name="valkey", process=process), server=server),))
    done = harness_heal(parcel)
    assert victim.poll() is None
    assert f"process {victim.pid}" in shown(done)


def test_no_variable_is_sent_to_a_host_of_its_choice(
    parcel: Path, victim: subprocess.Popen[bytes], host: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record whose undo logs in at a "Redis" to see whether it is well again."""
    monkeypatch.setenv(SECRET, "the-secret")
    redis = Dependency(
        name="redis",
        kind="redis",
        credentials=Credentials(password_env=SECRET),
        process=DependencyProcess(pid=victim.pid),
        runtime="process",
        path=address(host),
        direct=address(host),
    )
    record = UndoRecord(
        id="redis-pause-1",
        kind="pause",
        dependency=redis,
        params={},
        where={**as_scalars(look_at(victim.pid)), "address": str(address(host))},
        original={"state": "running"},
        ours={"state": "stopped"},
        secrets={"password": SECRET},
    )
    write(parcel, *changed(record))
    done = harness_heal(parcel)
    assert not was_contacted(host)
    said = shown(done)
    assert "redis-pause-1" in said and "the-secret" not in said


def test_no_host_that_it_names_is_contacted(parcel: Path, host: socket.socket) -> None:
    url = f"http://{address(host)}"
    record = UndoRecord(
        id="redis-down-1",
        kind="down",
        dependency=Dependency(
            name="redis", kind="redis", proxy=DependencyProxy(url=url, name="redis"), proxied=True, path=address(host)
        ),
        params={},
        where={"url": url, "proxy": "redis", "listen": "127.0.0.1:1", "upstream": "127.0.0.1:2"},
        original={"enabled": True},
        ours={"enabled": False},
    )
    keeper = (Locking(lock=ProxyLock(url=url, text="x")), Project(engine=f"tcp://{address(host)}", project="shop"))
    write(parcel, *changed(record), keeper=keeper)
    done = harness_heal(parcel)
    assert not was_contacted(host)
    said = shown(done)
    # What a person would type is there, to be looked at.
    assert f"curl -X POST {url}/proxies/redis" in said and "shop" in said and "locked" in said


def test_what_it_would_have_a_person_type_is_quoted_and_visible(parcel: Path) -> None:
    wicked = "x; touch /tmp/wicked \x1b[2J#"
    record = UndoRecord(
        id="api-pause-\x1b]0;t\x07",
        kind="pause",
        dependency=Dependency(name="api", kind="http", container=DependencyContainer(id="c" * 64), runtime="container"),
        params={},
        where={"name": wicked},
        original={},
        ours={},
    )
    write(parcel, *changed(record))
    said = shown(harness_heal(parcel))
    assert "\x1b" not in said and "\x07" not in said and "\\x1b[2J" in said
    assert shlex.quote(wicked).replace("\x1b", "\\x1b") in said


def test_a_parcel_of_oddities_is_told_in_a_few_lines(parcel: Path) -> None:
    os.mkfifo(parcel / JOURNAL)  # would be waited for by whoever opens it
    (parcel / KEEPER).symlink_to("/dev/zero")
    said = shown(harness_heal(parcel))
    assert f"{JOURNAL} is not a plain file" in said and f"{KEEPER} cannot be read" in said
    (parcel / JOURNAL).unlink()
    (parcel / KEEPER).unlink()
    process = ProcessId(pid=2, start_time=1.0)
    many = tuple(
        Process(root=Root(name="n", process=ProcessId(pid=process.pid + n, start_time=1.0))) for n in range(10 * MOST)
    )
    write(parcel, *many)
    lines = shown(harness_heal(parcel)).splitlines()
    assert len(lines) < MOST + 5 and f"and {9 * MOST:,} more processes" in lines[-1]
    with (parcel / JOURNAL).open("wb") as file:
        file.truncate(20_000_000_000)
    assert "which no journal is" in shown(harness_heal(parcel))


def test_a_parcel_that_lists_nothing_is_well(parcel: Path) -> None:
    done = harness_heal(parcel)
    assert done.returncode == 0 and "nothing is left" in done.stdout
    parcel.chmod(0o777)  # it is not believed, so it need not be private either
    write(parcel)
    (parcel / JOURNAL).chmod(0o666)
    assert harness_heal(parcel).returncode == 0


def test_the_run_of_that_name_in_the_state_directory_is_what_is_healed(parcel: Path, tmp_path: Path) -> None:
    """A directory that carries the name of a run of ours leads to our own journal, not to the one it brought."""
    mine, precious = tmp_path / "mine", tmp_path / "precious"
    for folder in (mine, precious):
        folder.mkdir()
    state = state_dir() / "active" / "sent"
    state.mkdir(mode=0o700, parents=True)
    write(state, keeper=(describe(str(mine)),))
    write(parcel, keeper=(describe(str(precious)),))
    done = harness_heal(parcel)
    assert done.returncode == 0 and f"removed {mine}" in done.stdout
    assert not mine.exists() and precious.exists() and not state.exists()


def test_a_link_in_the_state_directory_makes_no_journal_ours(parcel: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    parcel.chmod(0o700)
    write(parcel, keeper=(describe(str(precious)),))
    active = state_dir() / "active"
    active.mkdir(mode=0o700, parents=True)
    (active / "sent").symlink_to(parcel)
    for args in (("sent",), ("--all",)):
        done = harness_heal(*args)
        assert done.returncode in (2, 5) and "is not a plain folder" in done.stdout + done.stderr
    assert precious.exists()


@pytest.mark.parametrize("part", ["harness", "harness/active", "harness/active/sent"])
def test_a_state_directory_that_others_may_write_is_not_believed(part: str, state_home: Path) -> None:
    state = state_dir() / "active" / "sent"
    state.mkdir(mode=0o700, parents=True)
    check_known(state)
    (state_home / part).chmod(0o770)
    with pytest.raises(Refused, match="may be written by others"):
        heal_run(state, lambda _: None)


@pytest.mark.parametrize("name", ["", ".", "..", "/", "a/b", ".gone", "../active"])
def test_what_is_no_name_leads_nowhere(name: str, state_home: Path) -> None:
    (state_dir() / "active").mkdir(parents=True)
    assert known(name) is None


def test_the_folders_of_the_state_directory_are_ours_alone_whatever_the_umask(state_home: Path) -> None:
    """A group that may write there could put a journal in: the run makes each of them private."""
    from harness.safety.journal.journal import Journal

    before = os.umask(0o002)
    try:
        Journal.create(state_dir() / "active" / "run").close()
    finally:
        os.umask(before)
    check_known(state_dir() / "active" / "run")


def test_a_start_command_comes_only_from_a_file_of_the_users_own(tmp_path: Path) -> None:
    from harness.dependencies.configuration import load

    config = tmp_path / "harness.toml"
    config.write_text('[target]\nurl = "http://127.0.0.1:1"\npid_file = "pid"\nstart = ["sleep", "1"]\n')
    sha = load(config).sha256
    assert start_command(str(config), sha, "api").argv == ("sleep", "1")
    for mode in (0o664, 0o646):
        config.chmod(mode)
        with pytest.raises(Refused, match="may be written by others"):
            start_command(str(config), sha, "api")
    config.chmod(0o644)
    if os.geteuid() == 0:
        os.chown(config, 65534, 65534)
        with pytest.raises(Refused, match="belongs to another user"):
            start_command(str(config), sha, "api")
    config.unlink()
    os.mkfifo(config)
    with pytest.raises(UsageError, match="is not a file"):
        start_command(str(config), sha, "api")


def test_a_heal_from_another_folder_knows_the_hosts_of_the_run(
    tmp_path: Path, state_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They stand in the journal's first line; no harness.toml is looked for where a person happens to be."""
    state = state_dir() / "active" / "mine"
    state.mkdir(mode=0o700, parents=True)
    redis = Dependency(name="redis", kind="redis", path=Address("127.0.0.1", 1))
    record = UndoRecord(id="redis-x", kind="x", dependency=redis, params={}, where={}, original={}, ours={})
    write(state, *changed(record))
    monkeypatch.chdir(tmp_path)
    reachable = []

    def undo(record: UndoRecord, *, allowed: tuple[str, ...], **_: object) -> UndoOutcome:
        reachable.append(allowed)
        return UndoOutcome(record_id=record.id, state="verified")

    monkeypatch.setattr("harness.safety.healing.undo.undo_record", undo)
    assert heal_run(state, lambda _: None).left == () and reachable == [("0.0.0.0/0",)]
