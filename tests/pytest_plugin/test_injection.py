"""Faults around somebody's own code, on a real Valkey behind Toxiproxy: proven, held, undone whatever comes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from harness import api
from harness.model.records.faults import Dependency
from harness.model.records.process import ServerProcess
from tests.support.servers.proxied import proxied, raw
from tests.support.servers.real import ValkeyServer, wait_until

pytestmark = pytest.mark.stack


class Scene:
    """config: of a system whose Redis is behind a proxy. Its target is whatever answers HTTP; here Toxiproxy itself."""

    def __init__(self, dependency: Dependency, folder: Path) -> None:
        assert dependency.path is not None
        self.path = dependency.path
        self.proxy = f"{dependency.proxy.url}/proxies/{dependency.proxy.name}"
        self.url = f"{dependency.proxy.url}"
        self.out = folder / "runs"
        self.config = api.declare(
            {
                "target": {"url": self.url, "health": "/version"},
                "toxiproxy": {"url": self.url},
                "dependencies": {
                    "redis": {"kind": "redis", "proxy": dependency.proxy.name, "direct": str(dependency.direct)}
                },
            },
            folder / "harness.toml",
        )

    @property
    def on(self) -> bool:
        return not raw(self.proxy)["enabled"]

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """An application that asks its Redis now and then, through the proxy."""
        end = threading.Event()

        def ask() -> None:
            with redis.Redis(self.path.host, self.path.port, socket_timeout=1) as client:
                while not end.wait(0.1):
                    try:
                        client.get("x")
                    except redis.RedisError:
                        pass

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join()

    def inject(self, *faults: str, **options: Any) -> Any:
        return api.inject(*faults, config=self.config, out=self.out, **options)


@pytest.fixture
def scene(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    toxiproxy_server: str,
    toxiproxy_process: ServerProcess,
    valkey_server: ValkeyServer,
) -> Iterator[Scene]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with proxied(toxiproxy_server, toxiproxy_process, valkey_server) as dependency:
        yield Scene(dependency, tmp_path)


def test_it_is_on_meanwhile_and_gone_after_and_each_proof_is_there(scene: Scene) -> None:
    with scene.in_use(), scene.inject("redis-down") as injection:
        assert scene.on and injection.names == ("redis-down",)
        assert {"control", "probe", "path"} <= {one.source for one in injection.evidence if one.held}
        with pytest.raises(redis.RedisError):
            redis.Redis(scene.path.host, scene.path.port, socket_timeout=1).ping()
    assert not scene.on
    assert not list((scene.config.parent / "state" / "harness" / "active").glob("*"))


def test_a_body_that_raises_is_what_is_told_and_the_fault_is_undone(scene: Scene) -> None:
    with pytest.raises(ZeroDivisionError), scene.inject("redis-latency:latency=50ms", prove_path=False):
        assert raw(scene.proxy)["toxics"]
        1 / 0  # noqa: B018
    assert raw(scene.proxy)["toxics"] == []


def test_faults_on_processes_and_several_at_once(scene: Scene, valkey_server: ValkeyServer, tmp_path: Path) -> None:
    (tmp_path / "valkey.pid").write_text(str(valkey_server.pid))
    tables = tomllib.loads(scene.config.read_text())
    tables["dependencies"]["redis"]["pid_file"] = "valkey.pid"
    api.declare(tables, scene.config)
    process = psutil.Process(valkey_server.pid)
    with scene.inject("redis-pause", prove_path=False):
        assert process.status() == psutil.STATUS_STOPPED
    assert process.status() != psutil.STATUS_STOPPED
    with scene.inject("redis-latency:latency=50ms", "redis-slicer", prove_path=False) as injection:
        assert len(raw(scene.proxy)["toxics"]) == len(injection.names) == 2
    assert raw(scene.proxy)["toxics"] == []


def test_without_an_application_in_use_nothing_is_injected(scene: Scene) -> None:
    with (
        pytest.raises(api.NotProven, match=r"redis-down is not proven: .*does not use redis through the proxy") as told,
        scene.inject("redis-down"),
    ):
        pytest.fail("it began")
    assert told.value.exit_code == api.ExitCode.INCONCLUSIVE and not scene.on
    assert "fault_injected" not in next(scene.out.rglob("history.jsonl")).read_text()


def test_a_fault_that_somebody_ends_meanwhile_is_told(scene: Scene) -> None:
    with pytest.raises(api.NotProven, match="did not last"), scene.inject("redis-down", prove_path=False):
        raw(scene.proxy, "POST", {"enabled": True})
    assert not scene.on


def test_what_cannot_be_is_refused_before_anything_is_touched(scene: Scene) -> None:
    for fault, words in (("redis-dwon", "redis-dwon"), ("redis-down@1s+2s", "is said by the code around it")):
        with pytest.raises(api.UsageError, match=words), scene.inject(fault):
            pytest.fail("it began")
    with pytest.raises(api.UsageError, match="no fault is named"), scene.inject():
        pytest.fail("it began")
    assert not scene.out.exists()


def test_another_process_waits_for_its_turn_and_says_for_whom(scene: Scene) -> None:
    code = (
        "import sys\nfrom harness import api\ntry:\n"
        "    with api.inject('redis-down', config=sys.argv[1], out=sys.argv[2], prove_path=False, wait_s=1):\n"
        "        print('it began')\nexcept api.Refused as error:\n    print('refused:', error)"
    )
    with scene.inject("redis-down", prove_path=False):
        done = subprocess.run(
            [sys.executable, "-c", code, scene.config, scene.out], capture_output=True, text=True, timeout=60
        )
        assert scene.on, "it is the first one's"
        with pytest.raises(api.UsageError, match="would wait for itself"), scene.inject("redis-down", wait_s=900):
            pytest.fail("it began")
    assert done.stdout.startswith("refused: turn at target") and "; waited 1 s for it" in done.stdout, done.stderr
    assert "waiting, for at most 1 s" in done.stderr


TEST = """
import os, time, pathlib
def test_it(fault):
    with fault("redis-down", prove_path=False):
        pathlib.Path("on").write_text("")
        time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_pytest_that_ends_leaves_nothing_broken(scene: Scene, tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "test_it.py").write_text(TEST)
    child = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, "test_it.py"],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        wait_until("the fault is on", lambda: (tmp_path / "on").exists() or child.poll() is not None, 60)
        assert child.poll() is None and scene.on, child.stdout.read() if child.stdout else ""
        child.send_signal(number)
        said, _ = child.communicate(timeout=60)
    finally:
        child.kill()
        child.wait()
    if number is signal.SIGINT:
        assert "KeyboardInterrupt" in said and not scene.on, said
    wait_until("the keeper has undone it", lambda: not scene.on, 30)
    active = scene.config.parent / "state" / "harness" / "active"
    wait_until("the keeper has gone", lambda: not [*active.glob("*/keeper.sock")], 30)
    time.sleep(0.2)


@pytest.mark.slow
def test_tests_side_by_side_take_turns(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import pytest, time\n@pytest.mark.parametrize('number', range(2))\ndef test_it(fault, number):\n"
        "    with fault('redis-down', prove_path=False):\n        time.sleep(0.5)\n"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-n",
            "2",
            "-p",
            "no:cacheprovider",
            "--rootdir",
            tmp_path,
            "test_it.py",
        ],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout + done.stderr
    assert not scene.on
