"""Starting the user's own server again: it belongs to nobody afterwards, and only a known command is run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.adapters.keeper import starter
from harness.adapters.keeper.client import KeeperClient
from harness.adapters.processes.start_command import StartCommand
from harness.model.errors import Gone, Rejected
from harness.model.records.faults import Dependency, DependencyProcess
from harness.model.records.process import ServerSpec
from harness.safety.keeper.client import Keeper

LIMIT_S = 60.0
WRITE_PID = (
    "import os, pathlib, time; pathlib.Path('pid').write_text(str(os.getpid())); print('said', flush=True)\n"
    "time.sleep(600)"
)


def wait_for(what: str, condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + LIMIT_S
    while not (value := condition()):
        assert time.monotonic() < end, what
        time.sleep(0.02)
    return value


def pid_in(path: Path) -> int:
    return int(wait_for("the pid file", lambda: path.exists() and path.read_text()))


def test_it_outlives_a_keeper_like_parent_that_adopts_orphans(tmp_path: Path) -> None:
    """A keeper is a child subreaper and ends every descendant: the user's server must not be one."""
    code = (
        "import ctypes, json, sys\n"
        "from harness.adapters.keeper import starter\n"
        "from harness.adapters.processes.start_command import StartCommand\n"
        "libc = ctypes.CDLL(None)\n"
        "if sys.platform == 'linux': libc.prctl(36, 1, 0, 0, 0)\n"
        "starter.spawn_detached(StartCommand(**json.loads(sys.argv[1])))\n"
        "import psutil\n"
        "print(len(psutil.Process().children(recursive=True)), flush=True)\n"
        "adopts = ctypes.c_int(0)\n"
        "if sys.platform == 'linux': libc.prctl(37, ctypes.byref(adopts), 0, 0, 0)\n"
        "print(adopts.value if sys.platform == 'linux' else 1)\n"
    )
    log = tmp_path / "log"
    order = {"argv": [sys.executable, "-c", WRITE_PID], "cwd": str(tmp_path), "log": str(log)}
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(order)], capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.stdout.split() == ["0", "1"], done.stderr
    process = psutil.Process(pid_in(tmp_path / "pid"))
    try:
        wait_for("its output", lambda: log.read_text() == "said\n")
        assert os.getsid(process.pid) == process.pid
        if sys.platform == "linux":
            opened = {str(fd.readlink()) for fd in Path(f"/proc/{process.pid}/fd").iterdir()}
            assert opened <= {"/dev/null", str(log)}
    finally:
        process.kill()


def test_a_program_that_does_not_exist_is_told(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match=r"nowhere-to-be-found could not be started in .*: No such file"):
        starter.spawn_detached(StartCommand(argv=("nowhere-to-be-found",), cwd=str(tmp_path)))
    with pytest.raises(Rejected, match="No such file"):
        starter.spawn_detached(StartCommand(argv=("true",), cwd=str(tmp_path / "missing")))


def configured(folder: Path) -> Dependency:
    file = folder / "harness.toml"
    argv = json.dumps([sys.executable, "-c", WRITE_PID])
    file.write_text(f'[target]\nname = "shop"\nurl = "http://127.0.0.1:1"\npid_file = "pid"\nstart = {argv}\n')
    from harness.dependencies.configuration import load

    return Dependency(
        name="shop",
        kind="http",
        process=DependencyProcess(pid_file=str(folder / "pid"), start_config=str(file), start_sha256=load(file).sha256),
        target=True,
        runtime="process",
        startable=True,
    )


def test_a_configuration_that_changed_since_is_not_run(tmp_path: Path) -> None:
    shop = configured(tmp_path)
    assert starter.may_start(shop) is None
    with (tmp_path / "harness.toml").open("a") as file:
        file.write("# changed\n")
    assert "has changed since" in str(starter.may_start(shop))
    with pytest.raises(Rejected, match="has changed since"):
        starter.start(shop)
    assert not (tmp_path / "pid").exists()


def test_the_process_is_the_one_in_the_pid_file_now(tmp_path: Path) -> None:
    shop = configured(tmp_path)
    assert starter.serving(shop) is None
    starter.start(shop)
    first = pid_in(tmp_path / "pid")
    found = starter.serving(shop)
    assert found is not None and found.pid == first
    os.kill(first, signal.SIGKILL)
    wait_for("its end", lambda: starter.serving(shop) is None)
    (tmp_path / "pid").write_text("no pid\n")
    assert starter.serving(shop) is None


def test_a_keeper_tells_its_servers_and_starts_one_again(tmp_path: Path) -> None:
    state = tmp_path / "state"
    keeper = Keeper.start(state)
    try:
        spec = ServerSpec(
            name="sleeper",
            argv=(sys.executable, "-c", "import time; time.sleep(600)"),
            env={"PATH": os.defpath},
            cwd=str(tmp_path),
            log=str(tmp_path / "log"),
        )
        first = keeper.launch(spec).pid
        client = KeeperClient(state)
        status = client.status()
        assert status.serving and status.servers["sleeper"].pid == first
        os.kill(first, signal.SIGKILL)
        wait_for("its end", lambda: "sleeper" not in client.status().servers)
        client.restart("sleeper")
        second = client.status().servers["sleeper"].pid
        assert second != first and psutil.Process(second).ppid() == keeper.pid
        with pytest.raises(Rejected, match="no server called nobody"):
            client.restart("nobody")
        sleeper = Dependency(
            name="x", kind="tcp", process=DependencyProcess(keeper=str(state), server="sleeper"), runtime="process"
        )
        found = starter.serving(sleeper)
        assert found is not None and found.pid == second
    finally:
        keeper.finish()
    with pytest.raises(Gone):
        KeeperClient(state).status()
    assert starter.serving(sleeper) is None
    assert starter.may_start(sleeper) is not None


def test_a_keepers_folder_that_others_may_write_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "keeper.jsonl").write_text("{}\n")
    (tmp_path / "keeper.jsonl").chmod(0o666)
    with pytest.raises(Rejected, match="not only yours"):
        KeeperClient(tmp_path).status()
