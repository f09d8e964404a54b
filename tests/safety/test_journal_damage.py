"""Journals that a disk, a person or a bug has spoilt: what is whole is healed, the rest is named, nothing crashes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.adapters.processes.family import Root
from harness.adapters.processes.identity import identify
from harness.model.errors import HarnessError
from harness.model.paths import state_dir
from harness.model.records.faults import Address, Dependency, DependencyProxy, UndoRecord
from harness.safety.healing.dead_run import heal_run
from harness.safety.journal.entries import (
    Closed,
    Entry,
    Folder,
    Intent,
    Locking,
    Opened,
    Outcome,
    Process,
    ProxyLock,
    Recorded,
    boottime,
    encode,
)
from harness.safety.journal.log import JOURNAL, KEEPER
from harness.safety.journal.private import private_folder
from harness.safety.journal.view import JournalView, merge, parse, read_journal
from tests.safety.world import Proxy, gone, wait_for

HARNESS = Path(sys.executable).parent / "harness"
FUZZ = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def record(number: int) -> UndoRecord:
    return UndoRecord(
        id=f"redis-latency-{number}",
        kind="latency",
        dependency=Dependency(
            name="redis",
            kind="redis",
            proxy=DependencyProxy(url="http://127.0.0.1:1", name="redis"),
            path=Address("127.0.0.1", 1),
        ),
        params={"latency": 0.3},
        where={"proxy": "redis"},
        original={},
        ours={"toxic": f"harness-{number}", "type": "latency", "streams": "downstream", "attributes": "{}"},
        deadline_s=40.0,
    )


def dead() -> Any:
    """The identity of a process that lived, and lives no more."""
    child = subprocess.Popen(["sleep", "600"])
    found = identify(child.pid)
    child.kill()
    child.wait()
    assert found is not None
    return found


@pytest.fixture(scope="module")
def story() -> list[Entry]:
    """What a run writes that is killed while it undoes the first of two changes: every kind of line but the last."""
    ended = dead()
    found: list[Entry] = [Opened(run=ended, host=socket.gethostname(), owner="r", run_dir="/nowhere/runs/r")]
    for number in (1, 2):
        found += [
            Recorded(record=record(number)),
            Intent(id=record(number).id, action="inject", boot_s=boottime()),
            Outcome(id=record(number).id, state="injected"),
        ]
    return [
        *found,
        Process(root=Root(name="load", process=ended, cwd="/nowhere/at/all", exe="/nowhere/x", marker="none")),
        Folder(path="/nowhere/harness-x", device=1, inode=2),
        Locking(lock=ProxyLock(url="http://127.0.0.1:1", text="harness run")),
        Intent(id=record(1).id, action="undo", boot_s=boottime()),
    ]


def view_of(content: bytes) -> JournalView:
    damage: list[str] = []
    return merge(Path("/nowhere"), parse(JOURNAL, content, damage), [], damage)


def assert_only_whole_records(view: JournalView, content: bytes) -> None:
    """Nothing is undone by a record that is not, byte for byte, one that was written."""
    written = {f"redis-latency-{number}": record(number) for number in (1, 2)}
    assert all(written[one.id] == one for one in view.records)
    told = " ".join(view.damage)
    for number in (1, 2):
        id_ = record(number).id
        if id_ not in {one.id for one in view.records} and f'"id":"{id_}","action":"inject"'.encode() in content:
            # The intent may itself be the damaged line; then that line is named.
            assert id_ in told or "line" in told


def test_a_journal_cut_at_every_byte_is_the_story_so_far(story: list[Entry]) -> None:
    whole = b"".join(encode(entry) for entry in story)
    for cut in range(len(whole)):
        view = view_of(whole[:cut])
        assert view.damage == (), cut
        assert_only_whole_records(view, whole[:cut])


def test_every_line_torn_at_every_byte_with_whole_lines_after_it(story: list[Entry]) -> None:
    lines = [encode(entry) for entry in story]
    for number, line in enumerate(lines):
        for cut in range(1, len(line) - 1):
            content = b"".join([*lines[:number], line[:cut] + b"\n", *lines[number + 1 :]])
            view = view_of(content)
            assert f"line {number + 1}:" in view.damage[0], (number, cut)
            assert_only_whole_records(view, content)
            assert view.something_left


@FUZZ
@given(data=st.data())
def test_flipped_bytes_are_named_and_never_believed(story: list[Entry], data: st.DataObject) -> None:
    content = bytearray(b"".join(encode(entry) for entry in story))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 2))
        content[at] ^= data.draw(st.integers(1, 255))
    view = view_of(bytes(content))
    assert_only_whole_records(view, bytes(content))
    assert view.damage or bytes(content) == b"".join(encode(entry) for entry in story)


WRONG = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([-1, 0, 1, 2**31, 2**63, 2**64, 10**30, -(10**400), 1e308, -0.0]),
    st.text(max_size=20),
    st.sampled_from(["\0", "\x1b[2J", "../..", "/", "/tmp", "http://[", "http://127.0.0.1:99999", "a" * 300, ".."]),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=3),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of a JSON value, the leaves and what holds them."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def sealed(value: Any) -> bytes:
    """A line with the right checksum: what a bug or a person would write, not a disk."""
    body = json.dumps(value, separators=(",", ":")).encode()
    return body[:-1] + b',"crc":"%08x"}\n' % zlib.crc32(body)


@settings(FUZZ, max_examples=60)
@given(data=st.data())
def test_whatever_stands_in_a_journal_heal_ends_with_words(
    story: list[Entry], data: st.DataObject, state_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.safety.healing.undo.LIMIT_S", 0.05)
    values = [json.loads(encode(entry)) for entry in story]
    for value in values:
        del value["crc"]
    for _ in range(data.draw(st.integers(1, 3))):
        spoilt = data.draw(st.sampled_from(values))
        *way, last = data.draw(st.sampled_from(sorted(places(spoilt), key=str)))
        holder: Any = spoilt
        for step in way:
            holder = holder[step]
        holder[last] = data.draw(WRONG)
    values += data.draw(st.lists(st.sampled_from(values), max_size=2))
    active = state_dir() / "active"
    private_folder(active)
    folder = Path(tempfile.mkdtemp(dir=active))
    (folder / JOURNAL).write_bytes(b"".join(sealed(value) for value in values))
    (folder / JOURNAL).chmod(0o600)
    try:
        healed = heal_run(folder, lambda _: None)
    except HarnessError as error:
        assert "state directory" not in str(error), "it was not even looked at"
        return
    assert healed.left, "two changes at servers that do not answer: something is always left"
    assert all(isinstance(line, str) and line for line in healed.left)


def test_a_second_record_of_the_same_name_does_not_replace_the_first(story: list[Entry]) -> None:
    other = msgspec.structs.replace(record(1), ours={**record(1).ours, "toxic": "somebody-elses"})
    view = view_of(b"".join(encode(entry) for entry in [*story, Recorded(record=other)]))
    assert view.records == (record(1), record(2)) and "two different undo records" in view.damage[0]
    same = view_of(b"".join(encode(entry) for entry in [*story, Recorded(record=record(1))]))
    assert same.records == view.records and same.damage == ()


def test_a_kind_of_line_from_a_later_version_is_named_and_the_rest_is_read(story: list[Entry]) -> None:
    lines = [encode(entry) for entry in story]
    lines.insert(4, sealed({"entry": "portal", "at": "2030-01-01T00:00:00Z", "id": "x"}))
    lines.insert(6, sealed({"entry": 7}))
    view = view_of(b"".join(lines))
    assert len(view.damage) == 2 and "line 5" in view.damage[0] and "portal" in view.damage[0]
    assert [one.id for one in view.pending] == [record(1).id, record(2).id]


@pytest.mark.parametrize("pid", [-1, 0, 1, 2**31, 2**70])
def test_a_number_that_is_no_process_is_never_signalled(story: list[Entry], pid: int) -> None:
    value = json.loads(encode(next(entry for entry in story if isinstance(entry, Process))))
    del value["crc"]
    value["root"]["process"]["pid"] = pid
    view = view_of(encode(story[0]) + sealed(value))
    assert view.load == () and "is no pid" in view.damage[0]


def test_text_that_is_none_is_written_all_the_same() -> None:
    """File names of an operating system need not be text; the keeper must be able to say what is left."""
    line = encode(Closed(clean=False, left=("the folder /tmp/\udcff could not be removed",)))
    (found,) = parse(KEEPER, line, [])
    assert isinstance(found, Closed) and found.left == ("the folder /tmp/\\udcff could not be removed",)


def test_the_command_heals_what_is_whole_leaves_what_is_not_and_says_so(
    proxy: Proxy, start_run: Any, state_home: Path
) -> None:
    latency = {"latency": 0.3, "jitter": 0.0, "direction": "down"}
    run = start_run(
        dependency=msgspec.to_builtins(proxy.dependency()),
        faults=[["latency", latency], ["hang", {"direction": "down"}]],
    )
    run.wait("injected")
    toxics = proxy.toxics()
    assert len(toxics) == 2
    os.kill(run.said["keeper"], 9)
    run.kill()
    wait_for("both dead", lambda: gone(run.said["keeper"]) and run.process.poll() is not None)
    assert proxy.toxics() == toxics
    path = run.state / JOURNAL
    lines = path.read_bytes().splitlines(keepends=True)
    at = next(n for n, line in enumerate(lines) if b'"entry":"record"' in line)
    spoilt = json.loads(lines[at])["record"]["id"]
    lines[at] = lines[at][:40] + b"X" + lines[at][41:]
    path.write_bytes(b"".join(lines))
    pending = [one.id for one in read_journal(run.state).pending]
    for _ in range(2):
        done = subprocess.run([str(HARNESS), "heal", "--all"], capture_output=True, text=True, timeout=120)
        said = done.stdout + done.stderr
        assert done.returncode == 5 and "Traceback" not in said, said
        assert f"{JOURNAL} line {at + 1}" in said and spoilt in said
        assert len(proxy.toxics()) == 1, "the one whose record is whole, and only that, is gone"
    assert len(pending) == 1 and pending[0] != spoilt
