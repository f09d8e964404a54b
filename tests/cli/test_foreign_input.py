"""Files that somebody else made: what is wrong with them is said in a line, at once, and nothing in them reaches a
terminal as anything but text."""

from __future__ import annotations

import json
import os
import pty
import random
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.analysis import run_directory
from harness.cli import _in_words
from harness.model.errors import HarnessError
from harness.report.files import render
from tests.analysis.histories import Scene, failing
from tests.support.command import command

HARNESS = Path(sys.executable).parent / "harness"
EVIL = "\x1b]0;owned\x07\x1b[31m\u202egnp\x9b2J [/x] =1+1"
QUICK_S = 20.0
"""Most of it is the start of Python on a busy machine; what it is to find would take hours."""


def harness(*args: str | Path, cwd: Path, real: bool = False) -> subprocess.CompletedProcess[str]:
    """In this process, or as one of its own: where its stack, its memory or its terminal counts."""
    words = [str(arg) for arg in args]
    started = time.monotonic()
    if real:
        env = {**os.environ, "XDG_STATE_HOME": str(cwd / "state")}
        done = subprocess.run([str(HARNESS), *words], cwd=cwd, env=env, text=True, capture_output=True, timeout=120)
    else:
        done = command(*words, cwd=cwd)
    assert time.monotonic() - started < QUICK_S
    return done


def refused(done: subprocess.CompletedProcess[str], *says: str) -> None:
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2, done.stderr
    for words in says:
        assert words in done.stderr
    assert "unexpected" not in done.stderr and "bug" not in done.stderr and "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = Scene(service=failing(23.0, 44.2, 0.6), rate=20.0).build().write(tmp_path_factory.mktemp("run"))
    run_directory.write_result(run_dir, run_directory.analyze(run_dir))
    return run_dir


@pytest.fixture
def run_dir(recorded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(recorded, tmp_path / "run"))


def changed(path: Path, change: Callable[[Any], None]) -> None:
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))


def poison(value: Any) -> Any:
    """Every text in it that may be any text, with an attack on terminals behind it."""
    free = (
        "experiment",
        "name",
        "why",
        "text",
        "reasons",
        "example",
        "target_url",
        "does",
        "warnings",
        "host",
        "observed",
    )
    if isinstance(value, dict):
        return {k: v + EVIL if k in free and isinstance(v, str) else poison(v) for k, v in value.items()}
    return [poison(item) for item in value] if isinstance(value, list) else value


def as_seen_on_a_terminal(*args: str | Path) -> str:
    """What a command writes where both of its streams are a terminal."""
    child, terminal = pty.fork()
    if child == 0:
        os.execve(str(HARNESS), [str(HARNESS), *map(str, args)], {**os.environ, "TERM": "xterm-256color"})
    written = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:
            break
        if not part:
            break
        written += part
    os.waitpid(child, 0)
    os.close(terminal)
    return written.decode()


def test_nothing_in_a_foreign_run_directory_reaches_the_terminal_as_more_than_text(run_dir: Path) -> None:
    for name in ("plan.json", "result.json"):
        path = run_dir / name
        path.write_text(json.dumps(poison(json.loads(path.read_text())), ensure_ascii=False).replace("\x7f", ""))
    result = json.loads((run_dir / "result.json").read_text())
    result["reasons"] = [EVIL]
    (run_dir / "result.json").write_text(json.dumps(result))
    for args in (
        ("check", run_dir),
        ("analyze", "--dry-run", run_dir),
        ("report", run_dir, "--format", "md"),
        ("report", run_dir, "--format", "json"),
        ("report", run_dir, "--format", "junit"),
        ("check", "--json", run_dir),
        ("check", run_dir / EVIL.replace("/", "")),
    ):
        seen = as_seen_on_a_terminal(*args)
        assert "owned" in seen, args  # it is shown
        ours = re.sub(r"\x1b\[[0-9;]*m", "", seen).replace("\r\n", "\n")
        assert all(char.isprintable() or char == "\n" for char in ours), (args, ours)
        assert "\x1b[31m\\" not in seen and "\x1b]0;" not in seen, args


def test_json_that_is_printed_says_what_the_file_says(run_dir: Path, tmp_path: Path) -> None:
    changed(run_dir / "result.json", lambda result: result.update(reasons=[EVIL, "\U000e0001\x7f"]))
    for args in (("report", run_dir, "--format", "json"), ("check", "--json", run_dir)):
        printed = harness(*args, cwd=tmp_path).stdout
        assert "\u202e" not in printed and json.loads(printed)["reasons"] == [EVIL, "\U000e0001\x7f"]


def test_what_is_no_file_is_not_read(run_dir: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    refused(harness("check", "/dev/zero", cwd=tmp_path, real=True), "/dev/zero is a device, not a file")
    refused(harness("check", "pipe", cwd=tmp_path), "pipe is a pipe, not a file")
    refused(harness("plan", "/dev/zero", cwd=tmp_path), "is a device")
    refused(harness("init", "--compose", "/dev/zero", cwd=tmp_path), "is a device")
    (run_dir / "windows.jsonl").unlink()
    os.mkfifo(run_dir / "windows.jsonl")
    refused(harness("analyze", run_dir, cwd=tmp_path), "windows.jsonl is a pipe")
    (run_dir / "plan.json").unlink()
    (run_dir / "plan.json").symlink_to("/etc/passwd")
    refused(harness("check", run_dir, cwd=tmp_path), "plan.json is a link")


def test_nothing_is_written_where_a_link_in_the_directory_leads(run_dir: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for name in ("report.html", "report.md", "junit.xml"):
        (run_dir / name).unlink(missing_ok=True)
        (run_dir / name).symlink_to(victim)
    (run_dir / "result.json.part").symlink_to(victim)
    (run_dir / "result.json").unlink()
    (run_dir / "result.json").symlink_to(victim)
    done = harness("analyze", run_dir, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert victim.read_text() == "mine"
    assert not (run_dir / "report.md").is_symlink() and "FAIL" in (run_dir / "report.md").read_text()


def test_every_command_says_the_same_of_what_is_not_there(tmp_path: Path) -> None:
    said = {harness(name, "nowhere", cwd=tmp_path).stderr for name in ("check", "analyze")}
    said.add(harness("report", "nowhere", "--format", "md", cwd=tmp_path).stderr)
    assert said == {"error: nowhere: no such file or run directory\n"}


ROWS = [
    ('{"row":"delta","worker":"w0","step":1e400}', "line"),
    ('{"row":"delta","worker":"w0","step":1' + "0" * 400 + "}", "beyond the run's end"),
    ('{"row":"delta","worker":"w0","step":99999999999}', "beyond the run's end"),
    ('{"row":"delta","worker":"w0","step":5,"requests":{"a":{"ok":-5}}}', ">= 0"),
    ('{"row":"delta","worker":"w0","step":5,"requests":{"a":{"ok":1' + "0" * 400 + "}}}", "<= "),
    ('{"row":"delta","worker":"w0","step":5,"requests":{"a":{"sum_ms":1e308}}}', "<= "),
    ('{"row":"delta","worker":"w0","step":5,"requests":{"a":{"sum_ms":NaN}}}', "malformed"),
    ('{"row":"delta","worker":"w0","step":5,"requests":{"a":{"ok":1,"sketch":[5]}}}', "without its count"),
    ('{"row":"delta","worker":"w0","step":5,"requests":{"a":{"ok":1,"sketch":[5000,1]}}}', "out of range"),
    ('{"row":"delta","worker":"w0","step":5,"requests":{"a":{"ok":1,"sketch":[5,-1]}}}', "no count"),
    ('{"row":"error","worker":"w0","kind":"status","step":-99999999,"count":1}', "beyond the run's end"),
    ('{"row":"mark","worker":"w0","at":1.0,"done":1' + "0" * 30 + "}", "<= "),
    ('{"row":"mark","worker":"w0","at":1.0,"done":1,"open":[1,2,3]}', "without its count"),
    ('{"row":"delta","worker":"w0","step":5,"requests":' + '{"a":' * 100_000, "nested too deeply"),
    ('{"row":"delta","worker":{},"step":"5"}', "Expected"),
]


@pytest.mark.parametrize(("row", "says"), ROWS, ids=[row[:70] for row, _ in ROWS])
def test_a_row_that_no_load_process_wrote_is_named(run_dir: Path, row: str, says: str) -> None:
    with (run_dir / "windows.jsonl").open("a") as file:
        file.write(row + "\n")
    with pytest.raises(HarnessError) as caught:
        run_directory.analyze(run_dir)
    assert "windows.jsonl line" in str(caught.value) and says in str(caught.value)
    assert int(caught.value.exit_code) == 2


def test_a_line_without_an_end_is_not_read_to_its_end(run_dir: Path) -> None:
    with (run_dir / "windows.jsonl").open("ab") as file:
        file.truncate(file.tell() + 3 * 2**30)  # a hole: it takes no room on the disk
    with pytest.raises(HarnessError, match=r"windows\.jsonl line \d+: longer than 16 MB"):
        run_directory.analyze(run_dir)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda plan: plan.update(schema=3), "is of schema 3, and this version of the harness reads schema 1 and 2"),
        (lambda plan: plan["load"].update(first_step=-1), "a load that begins with step -1"),
        (lambda plan: plan["phases"].update(fault_s=1e300), "a phase of 1e+300 s cannot be"),
        (lambda plan: plan["load"].update(rate=1e30), "arrivals per second cannot be"),
        (lambda plan: plan["load"].update(workers=10**30), "load processes cannot be"),
        (lambda plan: plan["load"]["classes"][0].update(weight=-1.0), "without weight"),
    ],
)
def test_a_plan_that_no_run_had_is_refused(run_dir: Path, change: Callable[[Any], None], says: str) -> None:
    changed(run_dir / "plan.json", change)
    with pytest.raises(HarnessError) as caught:
        run_directory.analyze(run_dir)
    assert says in str(caught.value)


def test_an_event_in_a_million_years_is_refused(run_dir: Path) -> None:
    text = (run_dir / "history.jsonl").read_text()
    (run_dir / "history.jsonl").write_text(re.sub(r'"start_s":[0-9.]+', '"start_s":1e15', text, count=1))
    with pytest.raises(HarnessError, match="start_s is 1e\\+15 s"):
        run_directory.analyze(run_dir)


def test_deep_nesting_and_aliases_are_told_at_once(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "deep.toml").write_text("a = " + "[" * 100_000)
    refused(harness("plan", "--config", "deep.toml", cwd=tmp_path, real=True), "deep.toml: not TOML: nested too deeply")
    (tmp_path / "deep.yaml").write_text("[" * 100_000)
    refused(harness("init", "--compose", "deep.yaml", cwd=tmp_path, real=True), "nested too deeply")
    (run_dir / "plan.json").write_text('{"schema":1,"load":' + '{"a":' * 100_000)
    refused(harness("check", run_dir, cwd=tmp_path, real=True), "plan.json is damaged")
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n"
    bomb += "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    (tmp_path / "bomb.yaml").write_text(bomb + "services: {web: {image: x, environment: *i}}\n")
    refused(
        harness("init", "--compose", "bomb.yaml", cwd=tmp_path, real=True),
        "its aliases stand for more than 100,000 values",
    )


@pytest.fixture
def no_compose(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Compose would refuse some of these files itself."""
    monkeypatch.setenv("PATH", str(tmp_path_factory.mktemp("nothing")))


@pytest.mark.usefixtures("no_compose")
def test_aliases_of_an_ordinary_compose_file_are_followed(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(
        "x-common: &common\n  environment: &env {REDIS_HOST: redis}\n"
        "services:\n  web: {<<: *common, image: web, ports: ['8080:80']}\n"
        "  worker: {image: web, environment: *env}\n  redis: {image: 'redis:7'}\n"
    )
    done = harness("init", "--compose", "compose.yaml", "--front", "redis", "--print", "override", cwd=tmp_path)
    assert done.returncode == 0 and "web:" in done.stdout and "worker:" in done.stdout


@pytest.mark.usefixtures("no_compose")
def test_what_a_compose_file_says_stays_in_the_comments_made_of_it(tmp_path: Path) -> None:
    """The rest of a broken comment would be a setting, of harness.toml even a command that a fault runs."""
    evil = "x\\nstart = ['touch']\\n#"
    services = {
        "app\\nevil: 1\\n#": '{image: web, ports: ["8000:80"], environment: {A: //redis, B: //db, K: "kafka:9092"}}',
        "redis": "{image: redis}",
        "db": f'{{image: postgres, environment: {{POSTGRES_USER: u, POSTGRES_DB: "{evil}", POSTGRES_PASSWORD: p}}}}',
        "kafka": '{image: kafka, environment: {KAFKA_ADVERTISED_LISTENERS: "PLAINTEXT://kafka:9092"}}',
    }
    text = "services:\n" + "".join(f'  "{name}": {table}\n' for name, table in services.items())
    (tmp_path / "compose.yaml").write_text(text, "utf-8")
    words = ("init", "--compose", "compose.yaml", "--front", "redis,db,kafka")
    done = harness(*words, cwd=tmp_path)
    assert done.returncode == 0 and "POSTGRES_DB" not in done.stdout and "\nevil" not in done.stdout + done.stderr
    assert set(tomllib.loads(done.stdout)["dependencies"]["db"]) == {
        "kind",
        "service",
        "proxy",
        "login",
        "password_env",
    }
    done = harness(*words, "--print", "override", cwd=tmp_path)
    assert done.returncode == 0 and set(yaml.safe_load(done.stdout)) == {"services"}


def test_a_full_disk_is_called_a_full_disk(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([str(HARNESS), "scenarios"], text=True, timeout=120, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 4 and "No space left on device" in done.stderr
    assert "unexpected" not in done.stderr and "bug" not in done.stderr


def test_the_words_for_bugs_are_for_bugs() -> None:
    for error in (
        PermissionError(13, "Permission denied", "/x"),
        MemoryError(),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no"),
    ):
        assert "unexpected" not in _in_words(error)[0] and "bug" not in (_in_words(error)[1] or "")
    assert "unexpected KeyError" in _in_words(KeyError("x"))[0]


def test_a_password_in_a_url_is_never_repeated(tmp_path: Path) -> None:
    for url in (
        "http://me:hunter2@127.0.0.1:1",
        "http://me:hun/ter2@127.0.0.1:1",
        "http://me:hun?ter2@h",
        "ftp://me:h/unter2@h",
    ):
        done = harness("plan", "--host", url, cwd=tmp_path)
        refused(done)
        assert "unter2" not in done.stderr and "ter2" not in done.stderr


ODD = ["1e400", "-1", "NaN", "null", '""', "[]", "{}", "1" + "0" * 400, "1e308", '"\\u001b[31m"', "0", "[-1,-1]", '"x"']


def test_mutated_records_end_in_a_result_or_a_line(recorded: Path, tmp_path: Path) -> None:
    """Whatever value stands wherever in a file: no other exception comes out of it."""
    draw = random.Random(7)
    for number in range(60):
        run_dir = Path(shutil.copytree(recorded, tmp_path / str(number)))
        path = run_dir / draw.choice(["plan.json", "result.json", "history.jsonl", "windows.jsonl", "samples.jsonl"])
        lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
        at = draw.randrange(len(lines))
        values = list(re.finditer(r'(?<=:)\s*("[^"]*"|-?[0-9.e+-]+|null|true|false)', lines[at]))
        chosen = draw.choice(values)
        lines[at] = lines[at][: chosen.start()] + draw.choice(ODD) + lines[at][chosen.end() :]
        path.write_text("\n".join(lines) + "\n")
        for work in (
            lambda d=run_dir: run_directory.analyze(d),
            lambda d=run_dir: render(d, draw.choice(["md", "junit", "html"])),
        ):
            try:
                work()
            except HarnessError as error:
                assert len(str(error).splitlines()) == 1 and int(error.exit_code) == 2, lines[at][:300]
        shutil.rmtree(run_dir)
