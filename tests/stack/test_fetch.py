"""The cache: what is damaged is noticed and mended, and two makers do not disturb each other."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from harness.model.errors import Refused, SetupError
from harness.stack.starting.fetch import check_folder, ensure_file, is_intact, locked, sha256_of, work_folder
from harness.stack.starting.ready import Interrupted


def ignore(_line: str) -> None:
    pass


def write(text: str, made: list[str] | None = None) -> object:
    def make(path: Path) -> None:
        if made is not None:
            made.append(text)
        path.write_text(text, "utf-8")

    return make


def get(path: Path, text: str, made: list[str], **more: object) -> Path:
    return ensure_file(path, write(text, made), title="Thing", progress=ignore, **more)  # type: ignore[arg-type]


def test_a_file_is_made_once(tmp_path: Path) -> None:
    made: list[str] = []
    for _ in range(3):
        assert get(tmp_path / "deep" / "thing", "x", made).read_text() == "x"
    assert made == ["x"]


@pytest.mark.parametrize("damage", ["torn", "changed", "no record", "removed"])
def test_a_damaged_file_is_made_again(tmp_path: Path, damage: str) -> None:
    made: list[str] = []
    path = get(tmp_path / "thing", "a good file", made)
    if damage == "torn":
        path.write_text("a go")
    elif damage == "changed":
        path.write_text("a bad file!")
    elif damage == "no record":
        (tmp_path / "thing.sha256").unlink()
    else:
        path.unlink()
    assert get(path, "a good file", made).read_text() == "a good file"
    assert len(made) == 2


def test_a_download_with_the_wrong_checksum_is_tried_twice_and_never_kept(tmp_path: Path) -> None:
    made: list[str] = []
    with pytest.raises(SetupError, match=r"SHA-256 .* is expected \(tried twice\)"):
        get(tmp_path / "thing", "evil", made, sha256="0" * 64)
    assert made == ["evil", "evil"]
    assert not (tmp_path / "thing").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["thing.lock"]


def test_a_failed_make_leaves_nothing_behind_and_the_old_file_alone(tmp_path: Path) -> None:
    path = get(tmp_path / "thing", "old", [])
    path.write_text("damaged")

    def fails(target: Path) -> None:
        target.write_text("half")
        raise SetupError("no network")

    with pytest.raises(SetupError, match="no network"):
        ensure_file(path, fails, title="Thing", progress=ignore)
    assert path.read_text() == "damaged"
    assert not is_intact(path)
    assert not list(tmp_path.glob(".*part"))


def test_two_processes_that_need_it_at_once_make_it_once(tmp_path: Path) -> None:
    code = """
import sys, time
from pathlib import Path
from harness.stack.starting.fetch import ensure_file
folder = Path(sys.argv[1])
def make(path):
    with (folder / "made").open("a") as log:
        log.write("x")
    path.write_bytes(b"a" * 100)
    time.sleep(0.5)
    path.write_bytes(b"b" * 100)
print(ensure_file(folder / "thing", make, title="Thing", progress=lambda _: None).read_bytes()[:1])
"""
    children = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) for _ in range(3)]
    assert [child.communicate(timeout=60)[0].strip() for child in children] == [b"b'b'"] * 3
    assert (tmp_path / "made").read_text() == "x"


def test_a_killed_maker_does_not_block_the_next_one_and_its_leavings_go(tmp_path: Path) -> None:
    code = """
import sys, time
from pathlib import Path
from harness.stack.starting.fetch import ensure_file, work_folder
folder = Path(sys.argv[1])
def make(path):
    with work_folder(folder, "Thing") as work:
        (work / "big").write_bytes(b"1")
        path.write_text("half")
        print("making", flush=True)
        time.sleep(600)
ensure_file(folder / "thing", make, title="Thing", progress=lambda _: None)
"""
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"making\n"
        child.kill()
    assert list(tmp_path.glob("work-*"))

    def make(path: Path) -> None:
        with work_folder(tmp_path, "Thing"):
            path.write_text("whole")

    assert ensure_file(tmp_path / "thing", make, title="Thing", progress=ignore).read_text() == "whole"
    assert not list(tmp_path.glob("work-*"))


def test_waiting_for_another_maker_is_said_and_has_a_limit(tmp_path: Path) -> None:
    said: list[str] = []
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(tmp_path / "thing", title="Thing", progress=ignore):
            held.set()
            done.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(30)
    try:
        with (
            pytest.raises(SetupError, match="another process has been setting it up"),
            locked(tmp_path / "thing", title="Thing", progress=said.append, limit_s=0.3),
        ):
            pass
        with (
            pytest.raises(Interrupted),
            locked(tmp_path / "thing", title="Thing", progress=ignore, stopped=lambda: True),
        ):
            pass
    finally:
        done.set()
        thread.join()
    assert said == ["Thing: another process is setting it up, waiting"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_a_cache_that_cannot_be_written_says_so_in_a_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    code = (
        "import os, sys, traceback\n"
        "from pathlib import Path\n"
        "from harness.stack.starting.fetch import ensure_file\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "ensure_file(Path(sys.argv[1]) / 'harness' / 'thing', None, title='Thing', progress=print)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert "SetupError: Thing: cannot write to the cache folder" in done.stderr


def test_the_record_is_the_hash_of_the_file(tmp_path: Path) -> None:
    path = get(tmp_path / "thing", "x", [], executable=True)
    assert (tmp_path / "thing.sha256").read_text().strip() == sha256_of(path)
    assert path.stat().st_mode & 0o777 == 0o755
    before = time.time()
    os.utime(path, (before, before))  # times do not matter, content does
    assert is_intact(path)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "harness"


def planted(folder: Path) -> Path:
    """A program that somebody put there, with the record that makes it look whole."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "thing"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (folder / "thing.sha256").write_text(sha256_of(program) + "\n")
    return program


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777])
@pytest.mark.parametrize("where", ["harness", "harness/part"])
def test_nothing_is_run_from_a_cache_in_which_others_may_write(cache: Path, where: str, mode: int) -> None:
    program = planted(cache / "part")
    assert get(program, "ours", []) == program
    (cache.parent / where).chmod(mode)
    with pytest.raises(Refused, match=f"the cache folder .*{where} may be written by others") as refused:
        get(program, "ours", [])
    assert refused.value.exit_code == 2 and "\n" not in str(refused.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give files away")
@pytest.mark.parametrize("where", ["harness", "harness/part"])
def test_nothing_is_run_from_a_cache_of_another_user(cache: Path, where: str) -> None:
    program = planted(cache / "part")
    os.chown(cache.parent / where, 65534, 65534)
    with pytest.raises(Refused, match="belongs to another user"):
        get(program, "ours", [])


def test_a_cache_that_others_may_replace_as_a_whole_is_refused(cache: Path) -> None:
    program = planted(cache / "part")
    cache.parent.chmod(0o777)
    with pytest.raises(Refused, match="everybody may put another in its place"):
        get(program, "ours", [])
    cache.parent.chmod(0o1777)
    assert get(program, "ours", []) == program


@pytest.mark.parametrize("what", ["thing", "thing.sha256"])
def test_a_file_that_others_may_write_is_made_again(cache: Path, what: str) -> None:
    program, made = planted(cache / "part"), list[str]()
    (cache / "part" / what).chmod(0o666)
    assert get(program, "ours", made, executable=True).read_text() == "ours"
    assert get(program, "ours", made, executable=True) == program and made == ["ours"]


def test_a_cache_is_made_for_its_owner_alone_to_write_in(cache: Path) -> None:
    before = os.umask(0)
    try:
        get(cache / "part" / "thing", "ours", [])
    finally:
        os.umask(before)
    for path in (cache, cache / "part", cache / "part" / "thing", cache / "part" / "thing.sha256"):
        assert not path.stat().st_mode & 0o022, path
    check_folder(cache / "part")


def test_a_run_refuses_such_a_cache_before_it_makes_anything(cache: Path, tmp_path: Path) -> None:
    cache.mkdir(parents=True)
    cache.chmod(0o777)
    harness = Path(sys.executable).parent / "harness"
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}
    done = subprocess.run(
        [harness, "run", "--fault", "redis-down", "--scale", "0.02"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2 and f"error: the cache folder {cache} may be written by others" in done.stderr
    assert not (tmp_path / "runs").exists()
