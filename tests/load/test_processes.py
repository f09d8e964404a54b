"""The load's processes: nothing is left behind, whatever dies; and a broken locustfile is told in one line."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import psutil
import pytest
from load_run import ANOMALY, Run, gone, make_plan, named
from load_target import Target
from remote_run import Worker, remote_plan

from harness.load.ipc.protocol import Failed, Ready, Stop, WorkerLost
from harness.load.process.launcher import describe
from harness.model.errors import UsageError

FILES = Path(__file__).parent / "files"
PATHS = FILES / "paths.py"


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    server = Target().start()
    yield server
    server.stop()


def test_workers_die_with_the_process_that_started_them(target: Target, tmp_path: Path) -> None:
    with Run(make_plan(PATHS, target.url, workers=2, classes=named("Right")), tmp_path) as run:
        run.begin().at(1)
        assert len(run.worker_pids) == 2
        # A session of their own: the terminal's Ctrl-C is not theirs.
        assert all(os.getsid(pid) != os.getsid(0) for pid in (run.process.pid, *run.worker_pids))
        os.kill(run.process.pid, signal.SIGKILL)
        assert all(gone(pid) for pid in run.worker_pids)
        assert run.wait(lambda: run.code is not None, 10) and run.code == -signal.SIGKILL


# What a killed conductor leaves: the end of its pipe, and nobody who would kill anything.
_CONDUCTOR = """
import sys, time, msgspec
from pathlib import Path
from harness.load.process.launcher import LoadProcess
from harness.load.ipc.protocol import Ready
from harness.model.records.load import LoadPlan
plan = msgspec.json.decode(sys.argv[1], type=LoadPlan)
def on_message(message):
    if isinstance(message, Ready):
        print(process.pid, *message.pids, flush=True)
folder = Path(sys.argv[2])
process = LoadProcess.start(plan, windows=folder / "w", log=folder / "l", on_message=on_message, on_exit=print)
time.sleep(120)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_conductor_leaves_no_load(target: Target, tmp_path: Path, workers: int) -> None:
    import msgspec

    plan = make_plan(PATHS, target.url, workers=workers, classes=named("Right"))
    conductor = subprocess.Popen(
        [sys.executable, "-c", _CONDUCTOR, msgspec.json.encode(plan).decode(), str(tmp_path)], stdout=subprocess.PIPE
    )
    with conductor:
        assert conductor.stdout is not None
        pids = [int(pid) for pid in conductor.stdout.readline().split()]
        assert len(pids) == 1 + (workers if workers > 1 else 0)
        assert all(psutil.pid_exists(pid) for pid in pids)
        conductor.kill()
        assert all(gone(pid) for pid in pids)


def test_a_busy_locustfile_cannot_outlive_its_conductor(target: Target, tmp_path: Path) -> None:
    """The gevent loop is blocked for good; only a real thread can see the end of the pipe."""
    file = tmp_path / "busy.py"
    file.write_text(
        "from locust import User, task\nclass Busy(User):\n    @task\n    def go(self):\n        while True: pass\n"
    )
    with Run(make_plan(file, target.url, classes=named("Busy")), tmp_path) as run:
        run.begin().at(1)
        assert run.process._stdin is not None
        run.process._stdin.close()
        assert gone(run.process.pid)


def test_a_lost_worker_is_told_and_the_others_go_on(target: Target, tmp_path: Path) -> None:
    with Run(make_plan(PATHS, target.url, workers=2, classes=named("Right")), tmp_path) as run:
        run.begin().at(1)
        os.kill(run.worker_pids[1], signal.SIGKILL)
        lost = run.message(WorkerLost, 10)
        assert (lost.worker, lost.pid) == ("w1", run.worker_pids[1])
        assert "signal 9" in lost.reason
        run.at(3)
        run.finish(30)
        marks = run.marks()
    assert max(mark.at for mark in marks if mark.worker == "w0") >= 3
    assert [mark.worker for mark in marks if mark.final] == ["w0"]


def test_all_workers_lost_ends_the_load(target: Target, tmp_path: Path) -> None:
    with Run(make_plan(PATHS, target.url, workers=2, classes=named("Right")), tmp_path) as run:
        run.begin()
        for pid in run.worker_pids:
            os.kill(pid, signal.SIGKILL)
        assert run.message(Failed, 15).text.startswith("every load worker is gone")
        run.wait(lambda: run.code is not None, 20)
        assert run.code == 4


def test_stop_before_begin_ends_well(target: Target, tmp_path: Path) -> None:
    with Run(make_plan(PATHS, target.url, classes=named("Right")), tmp_path) as run:
        run.message(Ready)
        run.finish(0)
        assert target.counts["/never"] == 0


def test_a_stop_in_the_past_is_at_once_and_replaces_a_later_one(target: Target, tmp_path: Path) -> None:
    with Run(make_plan(PATHS, target.url, classes=named("Right")), tmp_path) as run:
        run.begin()
        run.process.send(Stop(end_step=10_000))
        run.at(2)
        run.finish(10)
        counts = run.classes()["Right"]
        late = [step for row in run._deltas(None) for step in [row.step] if step > 30]
    assert counts.planned == counts.ended > 0
    assert not late


def test_a_locustfile_that_stops_the_test_is_a_failure(target: Target, tmp_path: Path) -> None:
    file = tmp_path / "quits.py"
    file.write_text(
        "from locust import FastHttpUser, task\n"
        "class Quits(FastHttpUser):\n"
        "    @task\n"
        "    def go(self):\n"
        "        self.client.get('/x')\n"
        "        self.environment.runner.quit()\n"
    )
    with Run(make_plan(file, target.url, classes=named("Quits")), tmp_path) as run:
        run.begin()
        assert "it stops the test" in run.message(Failed, 20).text
        run.wait(lambda: run.code is not None, 20)
        assert run.code == 4


def test_on_stop_and_test_stop_of_the_locustfile_run(target: Target, tmp_path: Path) -> None:
    file = tmp_path / "tidy.py"
    file.write_text(
        "from locust import FastHttpUser, events, task\n"
        "@events.test_stop.add_listener\n"
        "def _(**kw): print('test_stop was here')\n"
        "@events.quitting.add_listener\n"
        "def _(environment, **kw): print('quitting with', environment.stats.total.num_requests)\n"
        "class Tidy(FastHttpUser):\n"
        "    def on_stop(self): print('on_stop was here')\n"
        "    @task\n"
        "    def go(self): self.client.get('/tidy')\n"
    )
    tidy = named("Tidy")
    for plan in (
        make_plan(file, target.url, classes=tidy),
        make_plan(file, target.url, classes=tidy, workers=2),
        remote_plan(file, target.url, classes=tidy, local=1),
    ):
        folder = tmp_path / f"{plan.workers} {plan.remote is not None}"
        with Run(plan, folder) as run, Worker(plan, folder) if plan.remote is not None else nullcontext():
            run.go(1)
        log = run.log.read_text()
        assert "on_stop was here" in log and "test_stop was here" in log
        # As with Locust itself, who quits last has the statistics of all workers to the end.
        requests = sum(c.ok for c in run.requests().values())
        assert requests > 0 and f"quitting with {requests}\n" in log


def test_requests_leave_nothing_for_the_garbage_collector(target: Target, tmp_path: Path) -> None:
    """What refers to itself stays until a collection: thousands of replies, and memory that seems to grow."""
    file = tmp_path / "clean.py"
    file.write_text(
        "import gc\n"
        "from locust import events, task\n"
        "from harness.load.lean import LeanHttpUser\n"
        "made = []\n"
        "@events.test_stop.add_listener\n"
        "def _(**kw): print('made', len(made), 'left', gc.collect())\n"
        "class Clean(LeanHttpUser):\n"
        "    @task\n"
        "    def go(self):\n"
        "        if len(made) == 100:\n"
        "            gc.collect()\n"
        "            gc.disable()\n"
        "        made.append(1)\n"
        "        self.client.get('/plain')\n"
        "        with self.client.post('/caught', json={}, catch_response=True) as reply:\n"
        "            reply.success() if len(made) % 2 else None\n"
    )
    with Run(make_plan(file, target.url, classes=named("Clean"), rate=100), tmp_path) as run:
        run.go(4)
    found = re.search(r"made (\d+) left (\d+)", run.log.read_text())
    assert found is not None and int(found[1]) > 300
    assert int(found[2]) < int(found[1]) - 100, "less than one object for each task"


# describe


def test_describe_tells_classes_weights_tasks_and_waits() -> None:
    found = describe(ANOMALY)
    assert [(c.name, c.weight, c.wait_s) for c in found.classes] == [
        ("AnomalyDetectionUser", 1.0, (1.0, 3.0)),
        ("HighThroughputUser", 1.0, (0.1, 0.5)),
    ]
    shares = {t.name: t.share for t in found.classes[0].tasks}
    assert shares == {"single_prediction": 0.5, "batch_prediction": 0.25, "anomaly_query": 0.15, "health_check": 0.1}
    assert len(found.sha256) == 64


def test_describe_flattens_nested_task_sets() -> None:
    classes = {c.name: c for c in describe(FILES / "kinds.py").classes}
    shares = {t.name: round(t.share, 3) for t in classes["Nested"].tasks}
    assert shares == {
        "leaf": 0.5,
        "Inner.once": 0.167,
        "Inner.Innermost.raises_interrupt": 0.167,
        "Inner.leave": 0.167,
    }
    assert classes["NoWait"].wait_s == (0.0, 0.0)


BROKEN = {
    "does not import": ("import locust\n\nimport no_such_module\n", r":3: ModuleNotFoundError: No module named"),
    "syntax": ("class A(:\n", r":1: SyntaxError: "),
    "raises": ("def f():\n    raise ValueError('bad\\nluck')\n\nf()\n", r":2: ValueError: bad luck$"),
    "exits": ("import sys\nsys.exit('no token')\n", r":2: no token$"),
    "no user class": ("from locust import HttpUser\n", r"no user class in it"),
    "abstract": ("from locust import HttpUser\nclass A(HttpUser):\n    abstract = True\n", r"no user class in it"),
    "no tasks": ("from locust import HttpUser\nclass A(HttpUser):\n    pass\n", r"user class A has no tasks"),
    "duplicates": (
        "from locust import User, task\ndef make():\n    class A(User):\n        @task\n        def t(self): pass\n"
        "    return A\nX, Y = make(), make()\n",
        r"two user classes are named A",
    ),
}


# One child for all of them, because importing Locust takes a second: it prints what `describe` raised for each.
_DESCRIBE_ALL = """
import sys, locust
from harness.load.ipc.protocol import Wanted
from harness.load.generator.locustfile import BadLocustfile, describe
for name in sys.argv[1:]:
    try:
        print(describe(Wanted(files=(name,))))
    except BadLocustfile as error:
        print(repr(str(error)))
"""


def test_a_broken_locustfile_is_one_clear_line(tmp_path: Path) -> None:
    files = {case: tmp_path / f"broken{i}.py" for i, case in enumerate(BROKEN)}
    for case, (text, _) in BROKEN.items():
        files[case].write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", _DESCRIBE_ALL, *map(str, files.values())], stdout=subprocess.PIPE, text=True, check=True
    )
    lines = dict(zip(BROKEN, map(ast.literal_eval, done.stdout.splitlines()), strict=True))
    for case, (_, expected) in BROKEN.items():
        assert re.search(expected, lines[case]), lines[case]
        assert str(files[case]) in lines[case]
        assert "\n" not in lines[case]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def f():\n    raise ValueError('bad\\nluck')\n\nf()\n", r":2: ValueError: bad luck$"),
        ("import os\nos._exit(3)\n", r"importing it ended the process \(exit code 3\)"),
    ],
    ids=["raises", "dies"],
)
def test_a_broken_locustfile_is_a_usage_error(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "broken.py"
    file.write_text(text)
    with pytest.raises(UsageError, match=expected) as caught:
        describe(file)
    assert "\n" not in str(caught.value)


def test_a_locustfile_that_never_finishes_importing_is_given_up(tmp_path: Path) -> None:
    file = tmp_path / "endless.py"
    file.write_text(f"import os\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\nwhile True: pass\n")
    before = time.monotonic()
    with pytest.raises(UsageError, match="did not finish importing within 3 s"):
        describe(file, timeout_s=3)
    assert time.monotonic() - before < 60, "given up, not waited for"
    if (tmp_path / "pid").exists():
        assert gone(int((tmp_path / "pid").read_text()))


def test_a_missing_locustfile(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        describe(tmp_path / "none.py")


def test_what_a_locustfile_prints_when_imported_does_not_disturb(tmp_path: Path) -> None:
    file = tmp_path / "chatty.py"
    file.write_text("print('{\"message\": 1}')\n" + (FILES / "paths.py").read_text())
    assert describe(file).classes


def test_the_connection_of_the_thousandth_user_is_kept() -> None:
    """select() refuses file descriptors from 1024 on."""
    program = (
        "import locust, os, socket\n"
        "from harness.load.generator.clients import check_idle_sockets_with_poll\n"
        "from harness.load.process.start import _raise_file_limit\n"
        "from geventhttpclient.connectionpool import ConnectionPool\n"
        "_raise_file_limit()\n"
        "kept = [os.dup(0) for _ in range(1100)]\n"
        "ours, theirs = socket.socketpair()\n"
        "pool = ConnectionPool('127.0.0.1', 1, '127.0.0.1', 1)\n"
        "check_idle_sockets_with_poll()\n"
        "assert ours.fileno() > 1024 and pool._is_socket_alive(ours)\n"
        "theirs.close()\n"
        "assert not pool._is_socket_alive(ours)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_the_launcher_needs_neither_locust_nor_gevent() -> None:
    program = (
        "import sys, harness.load.process.launcher, harness.load.ipc.protocol, harness.plan.schedule;"
        "sys.exit(any(m.split('.')[0] in ('locust', 'gevent') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
