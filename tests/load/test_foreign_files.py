"""Locust files as others write them: counted as Locust counts, or said by name; nothing that they do blinds a run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from load_run import Run, make_plan, named
from load_target import Target

from harness.load.ipc.protocol import Failed, Warned
from harness.load.process.launcher import describe
from harness.model.errors import UsageError

FOREIGN = Path(__file__).parent / "files" / "foreign.py"


@pytest.fixture
def target() -> Iterator[Target]:
    server = Target().start()
    server.modes["/status"] = "status"
    yield server
    server.stop()


def warned(run: Run) -> list[str]:
    return [message.text for message in run.messages if isinstance(message, Warned)]


def test_any_true_exception_is_a_failure_and_any_false_one_is_none(target: Target, tmp_path: Path) -> None:
    with Run(make_plan(FOREIGN, target.url, rate=20.0, classes=named("Texts")), tmp_path) as run:
        run.go(2)
        requests, counts = run.requests(), run.classes()["Texts"]
    assert counts.planned > 10
    for name in ("connect", "empty text", "zero"):
        assert (requests[name].ok, requests[name].fail) == (counts.planned, {}), name
    for name in ("query", "code", "measured"):
        assert (requests[name].ok, requests[name].fail) == (0, {"exception": counts.planned}), name


COUNTED = """
import json, sys
from locust.env import Environment
from locust.util.load_locustfile import load_locustfile
texts = load_locustfile(sys.argv[1])[0]["Texts"]
environment = Environment(user_classes=[texts], host="http://127.0.0.1:1")
environment.create_local_runner()
user = texts(environment)
for _ in range(3):
    user.call()
print(json.dumps({name: [row.num_requests, row.num_failures] for (name, _), row in environment.stats.entries.items()}))
"""
"""Plain Locust's own statistics of a task that a user has done three times."""


def test_plain_locust_counts_the_same_as_failed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", COUNTED, str(FOREIGN)], capture_output=True, text=True, timeout=120, check=True
    )
    failed = {"connect": 0, "empty text": 0, "zero": 0, "query": 3, "code": 3, "measured": 3}
    assert json.loads(done.stdout) == {name: [3, count] for name, count in failed.items()}


def test_a_with_block_left_early_counts_by_its_reply(target: Target, tmp_path: Path) -> None:
    with Run(make_plan(FOREIGN, target.url, rate=30.0, classes=named("LeavesEarly")), tmp_path) as run:
        run.go(3)
        requests, counts = run.requests(), run.classes()["LeavesEarly"]
    for name in ("interrupted", "rescheduled", "broken"):
        assert requests[name].ok == 0 and set(requests[name].fail) == {"status"}, name
    assert requests["good"].ok > 0 and requests["good"].fail == {}
    assert counts.replied == counts.planned == counts.ended
    assert counts.empty == 0


def test_odd_numbers_and_texts_do_not_end_the_record(target: Target, tmp_path: Path) -> None:
    with Run(make_plan(FOREIGN, target.url, rate=20.0, classes=named("Odd")), tmp_path) as run:
        run.go(3)
        requests, counts = run.requests(), run.classes()["Odd"]
        last = run.requests(range(20, 30))
        told = [text for text in warned(run) if "no number" in text]
    n = counts.planned
    assert counts.ended == n > 20 and counts.failed == 0, "no event raised, and none ended the record"
    assert requests["text"].ok == n and requests["text"].fail == {}
    assert requests["odd length"].ok == requests["odd time"].ok == 6 * n
    assert requests["odd time"].max_ms < 60_000
    assert requests["microseconds"].fail == {"timeout": n}, "longer than any request may take"
    assert requests["other unit"].ok == n
    assert requests["name \\udcff"].fail == {"exception": n}
    assert requests["('a', 'pair')"].ok == n
    assert requests["unshowable"].fail == {"exception": n}
    assert last["text"].ok > 0
    assert sorted(text.split(" reports a ")[1].split(" ")[0] for text in told) == ["response_length", "response_time"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_record_that_cannot_go_on_ends_the_load(target: Target, tmp_path: Path, workers: int) -> None:
    plan = make_plan(FOREIGN, target.url, rate=20.0, classes=named("BreaksStatistics"), workers=workers)
    with Run(plan, tmp_path) as run:
        run.begin()
        failed = run.message(Failed)
        run.wait(lambda: run.code is not None)
    assert "the recording of its requests failed: AttributeError" in failed.text
    assert run.code == 4


def test_a_task_that_asks_for_nothing_is_empty_and_told(target: Target, tmp_path: Path) -> None:
    with Run(make_plan(FOREIGN, target.url, rate=40.0, classes=named("Nested")), tmp_path) as run:
        run.go(3)
        counts, requests = run.classes()["Nested"], run.requests()
        told = [text for text in warned(run) if "without a request" in text]
    assert counts.planned == counts.ended == counts.replied + counts.empty
    assert counts.replied == requests["/read"].ok > 0
    assert counts.empty > 0 and counts.failed == 0
    assert len(told) == 1 and "Nested" in told[0]


def test_users_in_their_own_time_are_not_the_targets_doing(target: Target, tmp_path: Path) -> None:
    """12 tasks a second of 1.5 s each, and 6 users: most find nobody, and the quick target is not to blame."""
    plan = make_plan(FOREIGN, target.url, rate=12.0, max_in_flight=6, classes=named("Thinks"), request_timeout_s=5.0)
    with Run(plan, tmp_path) as run:
        run.go(6)
        counts, requests = run.classes()["Thinks"], run.requests()
        examples = [row.example for row in run.rows() if getattr(row, "kind", "") == "unsent"]
    assert counts.unsent_task > 10
    assert counts.unsent_cap == 0 == counts.unsent_task_start
    assert counts.planned == counts.replied + counts.unsent_task + counts.unsent_generator
    # (On a busy machine some have found nobody because of the generator.)
    assert any("own time" in example for example in examples)
    assert not any("waiting for the target" in example for example in examples)
    # Those that waited up to a second for such a user did not wait for the target.
    assert requests["/list"].over["200"] <= requests["/list"].ok / 4


def test_accounts_that_run_out_are_not_the_targets_doing(target: Target, tmp_path: Path) -> None:
    with Run(make_plan(FOREIGN, target.url, rate=20.0, users=5, classes=named("Accounts")), tmp_path) as run:
        run.go(4)
        counts, setup = run.classes()["Accounts"], run.setup()
        examples = [row.example for row in run.rows() if getattr(row, "kind", "") == "unsent"]
    assert setup["login"].ok == 2
    assert counts.unsent_task > 10 and counts.unsent_cap == 0
    assert counts.unsent_task_start > 10 and counts.unsent_cap_start == 0
    assert any("pop from empty list" in example for example in examples)


def test_users_that_the_target_does_not_let_in_are_its_doing(target: Target, tmp_path: Path) -> None:
    target.modes["/login"] = "status"
    with Run(make_plan(FOREIGN, target.url, rate=20.0, users=3, classes=named("Login")), tmp_path) as run:
        run.go(3)
        counts, setup = run.classes()["Login"], run.setup()
    assert counts.planned == counts.unsent_cap + counts.unsent_generator > 0
    assert counts.unsent_cap == counts.unsent_cap_start > 0
    assert set(setup["/login"].fail) == {"status"}, "also though its with-block was left by an exception"


@pytest.mark.parametrize("workers", [1, 2])
def test_the_scenarios_users_take_turns(target: Target, tmp_path: Path, workers: int) -> None:
    """As many sessions as users were asked for, and each of them used alike."""
    plan = make_plan(FOREIGN, target.url, rate=40.0, users=8, ramp_s=1.0, classes=named("Turns"), workers=workers)
    with Run(plan, tmp_path) as run:
        run.go(6)
        planned = run.classes()["Turns"].planned
        users = Counter(mark.worker for mark in run.marks() if mark.users)
    turns = Counter({path: count for path, count in target.counts.items() if path.startswith("/turn/")})
    assert sum(turns.values()) == planned
    assert len(users) == workers
    assert len(turns) >= 8
    used = [count for _, count in turns.most_common(8)]
    assert min(used) > planned / 8 / 3, turns


def test_after_a_hang_there_are_as_many_users_as_before(target: Target, tmp_path: Path) -> None:
    plan = make_plan(FOREIGN, target.url, rate=30.0, users=6, classes=named("Turns"), request_timeout_s=10.0)

    def users() -> int:
        marks = run.marks()
        return marks[-1].users if marks else 0

    with Run(plan, tmp_path) as run:
        run.begin().at(3)
        before = users()
        target.default = "hang"
        run.at(5)
        target.default = "ok"
        most = max(mark.users for mark in run.marks())
        run.at(13)
        ended = target.connections
        for second in range(14, 60):
            run.at(second)
            if users() == before:
                break
        assert users() == before == 6
        run.finish(round((second + 2) * 10))
        counts = run.classes()["Turns"]
    assert most > 30
    assert target.connections <= ended + 6, "whoever left is not missed"
    assert counts.planned == counts.replied, "and took no arrival along"


@pytest.mark.parametrize("workers", [1, 2])
def test_test_start_knows_how_many_users_there_will_be(target: Target, tmp_path: Path, workers: int) -> None:
    plan = make_plan(FOREIGN, target.url, rate=20.0, users=7, classes=named("Turns"), workers=workers)
    with Run(plan, tmp_path) as run:
        run.go(1)
        log = run.log.read_text()
    assert log.count("users at the start: 7") == (1 if workers == 1 else 1 + workers)
    assert "users at the start: 0" not in log


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_that_quits_is_named_with_its_line(target: Target, tmp_path: Path, workers: int) -> None:
    plan = make_plan(FOREIGN, target.url, rate=20.0, classes=named("Quits"), workers=workers)
    with Run(plan, tmp_path) as run:
        run.begin()
        failed = run.message(Failed)
        run.wait(lambda: run.code is not None)
    line = FOREIGN.read_text().splitlines().index("        self.environment.runner.quit()") + 1
    assert failed.by_file
    assert f"line {line} of foreign.py" in failed.text


def test_a_file_that_exits_says_its_reason(target: Target, tmp_path: Path) -> None:
    with Run(make_plan(FOREIGN, target.url, rate=20.0, classes=named("Exits")), tmp_path) as run:
        run.begin()
        failed = run.message(Failed)
        run.wait(lambda: run.code is not None)
    assert "the data set is used up" in failed.text


# -- what describe says of a file


def wrote(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "theirs.py"
    file.write_text("from locust import HttpUser, LoadTestShape, events, tag, task\n" + text)
    return file


USER = "class Shop(HttpUser):\n    @task\n    def buy(self): self.client.get('/buy')\n"


def test_a_base_class_without_tasks_is_described_like_the_others(tmp_path: Path) -> None:
    file = wrote(tmp_path, "class Base(HttpUser): pass\n" + USER.replace("HttpUser", "Base"))
    assert [(one.name, len(one.tasks)) for one in describe(file).classes] == [("Base", 0), ("Shop", 1)]
    with pytest.raises(UsageError, match="Base has no tasks"):
        describe(wrote(tmp_path, "class Base(HttpUser): pass\n"))


def test_required_arguments_of_the_file_are_named(tmp_path: Path) -> None:
    listener = (
        "@events.init_command_line_parser.add_listener\ndef _(parser):\n    parser.add_argument('--tenant', {})\n"
    )
    with pytest.raises(UsageError, match="--tenant") as raised:
        describe(wrote(tmp_path, listener.format("required=True") + USER))
    assert "\n" not in str(raised.value) and "default" in str(raised.value)
    describe(wrote(tmp_path, listener.format("default='us'") + USER))


def test_the_reason_before_an_exit_is_shown(tmp_path: Path) -> None:
    file = wrote(tmp_path, "import sys\nprint('set TENANT first', file=sys.stderr)\nsys.exit(1)\n")
    with pytest.raises(UsageError, match=r"theirs.py:4: it calls sys.exit\(1\): set TENANT first"):
        describe(file)
    with pytest.raises(UsageError, match="set TENANT first"):
        describe(wrote(tmp_path, "raise SystemExit('set TENANT first')\n"))


def test_what_locust_would_have_read_beside_the_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = "class Steps(LoadTestShape):\n    def tick(self): return None\n"
    tagged = (
        "class Other(HttpUser):\n    host = 'http://127.0.0.1:1'\n    @tag('slow')\n    @task\n    def a(self): pass\n"
    )
    file = wrote(tmp_path, shape + USER + tagged)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert describe(file).notes == ()
    (tmp_path / "locust.conf").write_text("users = 5\n")
    monkeypatch.setenv("LOCUST_EXCLUDE_TAGS", "slow")
    found = describe(file)
    assert found.shapes == ("Steps",)
    assert [one.host for one in found.classes] == [None, "http://127.0.0.1:1"]
    assert [len(one.tasks) for one in found.classes] == [1, 0]
    assert any("locust.conf is not read" in note for note in found.notes)
    assert any("slow" in note for note in found.notes)


def test_the_file_itself_runs_under_plain_locust(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "locust", "-f", str(FOREIGN), "--list"],
        cwd=tmp_path,
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0 and "LeavesEarly" in done.stdout
