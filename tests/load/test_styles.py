"""Locust files in the styles that people write them: each of docs/examples/locustfiles is loaded as Locust loads it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from load_run import Run, make_plan
from load_target import Target

from harness.load.ipc.locustfiles import digest, files_of
from harness.load.ipc.protocol import Failed
from harness.load.process.launcher import describe
from harness.model.errors import UsageError

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples" / "locustfiles"
SENT = {
    "login_and_data.py": {"GET /search"},
    "arguments_and_tags.py": {"GET /{tenant}/orders", "POST /{tenant}/orders"},
    "custom_client.py": {"add"},
    "steps.py": {"GET /items", "GET /items/{id}", "POST /orders"},
    "shape.py": {"GET /pages/{id}", "GET /admin"},
    "events_and_exit.py": {"GET /"},
    "checkout": {"GET /items", "POST /orders"},
}
ARGUMENTS = EXAMPLES / "arguments_and_tags.py"


@pytest.fixture
def target() -> Iterator[Target]:
    server = Target().start()
    yield server
    server.stop()


def test_every_example_is_tried() -> None:
    assert {path.name for path in EXAMPLES.iterdir() if path.suffix == ".py" or path.name == "checkout"} == set(SENT)


@pytest.mark.parametrize("name", SENT)
def test_each_style_sends_its_requests(name: str, target: Target, tmp_path: Path) -> None:
    with Run(make_plan(EXAMPLES / name, target.url, rate=40.0), tmp_path) as run:
        run.go(3)
        requests = run.requests()
    assert set(requests) >= SENT[name]
    # The target of this test speaks no XML-RPC: that client's calls are answered, and fail.
    failing = {"add"} if name == "custom_client.py" else set()
    assert {one for one in SENT[name] if requests[one].fail} == failing


@pytest.mark.thorough
@pytest.mark.parametrize("name", SENT)
def test_each_style_is_a_locust_file(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "locust", "-f", str(EXAMPLES / name), "--list"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_arguments_and_tags_reach_every_load_process(target: Target, tmp_path: Path) -> None:
    given = {"locust_args": ("--tenant=blue",), "tags": ("read",)}
    found = describe(ARGUMENTS, **given)
    assert [task.name for task in found.classes[0].tasks] == ["look"]
    assert any("only tasks tagged read" in note and "LOCUST_TAGS" not in note for note in found.notes)
    with Run(make_plan(ARGUMENTS, target.url, rate=40.0, workers=2, classes=found.classes, **given), tmp_path) as run:
        run.go(2)
        assert set(run.requests()) == {"GET /{tenant}/orders"}
    assert set(target.counts) == {"/blue/orders"}


def test_arguments_that_are_not_the_files_own_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="-u is an option of Locust's own"):
        describe(ARGUMENTS, locust_args=("-u", "500"))
    with pytest.raises(UsageError, match=r"unrecognized arguments: --tenat=blue$"):
        describe(ARGUMENTS, locust_args=("--tenat=blue",))
    file = tmp_path / "secret.py"
    file.write_text(ARGUMENTS.read_text().replace('default="green"', 'default="green", is_secret=True'))
    with pytest.raises(UsageError, match="--tenant is secret") as raised:
        describe(file, locust_args=("--tenant=hunter2",))
    assert "hunter2" not in str(raised.value)


def test_files_are_those_that_locust_would_take(tmp_path: Path) -> None:
    folder = EXAMPLES / "checkout"
    assert [file.name for file in files_of(str(folder))] == ["buyers.py", "visitors.py"]
    both = f"{folder / 'visitors.py'}, {folder / 'buyers.py'},{folder / 'buyers.py'}"
    assert [file.name for file in files_of(both)] == ["visitors.py", "buyers.py"]
    assert digest(files_of(both)) != digest(files_of(str(folder))) != digest(files_of(str(folder / "buyers.py")))
    with_comma = tmp_path / "one, two.py"
    with_comma.write_text("")
    assert files_of(str(with_comma)) == (with_comma,)
    for text, why in (
        (f"{folder / 'buyers.py'},", "an empty name: no such file"),
        (str(tmp_path / "none.py"), "no such file"),
        (str(tmp_path / "sub"), "no Locust file is in this folder"),
        ("/dev/zero", "a device or a pipe"),
        ("https://host/file.py", "download it"),
    ):
        (tmp_path / "sub").mkdir(exist_ok=True)
        with pytest.raises(UsageError) as raised:
            files_of(text)
        assert why in f"{raised.value} {raised.value.hint}"


def test_one_class_in_two_files_is_one_where_it_was_imported_and_refused_else(tmp_path: Path) -> None:
    user = "from locust import HttpUser, task\nclass Shop(HttpUser):\n    @task\n    def buy(self): pass\n"
    (tmp_path / "a.py").write_text(user)
    (tmp_path / "b.py").write_text("from a import Shop\nclass Other(Shop): pass\n")
    assert [one.name for one in describe(tmp_path).classes] == ["Shop", "Other"]
    (tmp_path / "c.py").write_text(user)
    with pytest.raises(UsageError, match=r"c\.py: two user classes are named Shop"):
        describe(tmp_path)


def test_pytest_functions_are_told_by_name(tmp_path: Path) -> None:
    file = tmp_path / "test_shop.py"
    file.write_text("def test_buy(session): session.get('/buy')\n")
    with pytest.raises(UsageError, match=r"pytest functions \(test_buy\) are not supported"):
        describe(file)


def test_a_file_that_ends_the_test_says_so_wherever_it_lies(target: Target, tmp_path: Path) -> None:
    target.modes["/fixtures"] = "status"
    files = f"{EXAMPLES / 'shape.py'},{EXAMPLES / 'events_and_exit.py'}"
    with Run(make_plan(Path(files), target.url, rate=20.0), tmp_path) as run:
        failed = run.message(Failed)
    assert "of events_and_exit.py" in failed.text
