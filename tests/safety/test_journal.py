"""The journal: on disk before the change, readable after every accident, trusted only when it is ours."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from harness.model.errors import Refused, SetupError
from harness.model.paths import state_dir
from harness.model.records.faults import Address, Dependency, DependencyProxy, UndoRecord
from harness.safety.healing.dead_run import heal_run
from harness.safety.journal.entries import boottime, decode
from harness.safety.journal.journal import Journal
from harness.safety.journal.log import JOURNAL, KEEPER
from harness.safety.journal.view import JournalView, read_journal
from harness.safety.keeper.healer import next_deadline


def record(number: int = 1) -> UndoRecord:
    return UndoRecord(
        id=f"redis-latency-{number}",
        kind="latency",
        dependency=Dependency(
            name="redis",
            kind="redis",
            proxy=DependencyProxy(url="http://127.0.0.1:1", name="redis"),
            path=Address("127.0.0.1", 1),
        ),
        params={},
        where={"proxy": "redis"},
        original={},
        ours={"toxic": "harness-x", "type": "latency", "streams": "downstream", "attributes": "{}"},
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def journal(folder: Path) -> Iterator[Journal]:
    made = Journal.create(folder, owner="run")
    yield made
    made.close()


def injected(journal: Journal, *numbers: int) -> None:
    for number in numbers:
        one = record(number)
        journal.record(one)
        journal.intent(one.id, "inject")
        journal.outcome(one.id, "injected")


def pending(folder: Path) -> list[str]:
    return [one.id for one in read_journal(folder).pending]


def test_what_is_pending_follows_the_story(journal: Journal, folder: Path) -> None:
    one = record()
    journal.record(one)
    assert pending(folder) == [] and read_journal(folder).records == (one,)
    journal.intent(one.id, "inject")
    assert pending(folder) == [one.id] and read_journal(folder).unsure == {one.id}
    journal.outcome(one.id, "injected")
    assert pending(folder) == [one.id] and not read_journal(folder).unsure
    journal.intent(one.id, "undo")
    assert pending(folder) == [one.id]
    journal.outcome(one.id, "unverified", left="it", mend="do that")
    assert pending(folder) == [one.id] and read_journal(folder).outcomes[one.id].mend == "do that"
    journal.outcome(one.id, "verified")
    assert pending(folder) == [] and not read_journal(folder).something_left


def test_a_fault_injected_again_after_its_undo_is_pending_again(journal: Journal, folder: Path) -> None:
    injected(journal, 1)
    journal.outcome(record().id, "verified")
    journal.intent(record().id, "inject")
    assert pending(folder) == [record().id] and read_journal(folder).unsure


def test_every_line_is_json_with_a_checksum(journal: Journal, folder: Path) -> None:
    injected(journal, 1, 2)
    lines = (folder / JOURNAL).read_bytes().splitlines()
    assert len(lines) == 7 and all(decode(line) for line in lines)
    for at in range(0, len(lines[2]), 7):
        flipped = bytearray(lines[2])
        flipped[at] ^= 1
        with pytest.raises(ValueError, match="checksum"):
            decode(bytes(flipped))


def test_a_torn_last_line_is_ignored_wherever_it_is_cut(journal: Journal, folder: Path) -> None:
    injected(journal, 1)
    whole = (folder / JOURNAL).read_bytes()
    start = whole.rindex(b"\n", 0, -1) + 1
    for cut in range(start, len(whole)):
        (folder / JOURNAL).write_bytes(whole[:cut])
        view = read_journal(folder)
        assert view.damage == () and [one.id for one in view.pending] == [record().id]


def test_a_writer_closes_off_a_torn_line_before_it_goes_on(journal: Journal, folder: Path) -> None:
    injected(journal, 1)
    journal.close()
    path = folder / JOURNAL
    path.write_bytes(path.read_bytes()[:-9])
    again = Journal.create(folder)
    injected(again, 2)
    again.close()
    view = read_journal(folder)
    assert view.damage == () and [one.id for one in view.pending] == [record(1).id, record(2).id]


def test_damage_elsewhere_is_told_and_the_rest_is_read(journal: Journal, folder: Path) -> None:
    injected(journal, 1, 2)
    path = folder / JOURNAL
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b"redis", b"rodis", 1)
    path.write_bytes(b"".join(lines))
    view = read_journal(folder)
    assert "line 2" in view.damage[0] and record(1).id in view.damage[1]
    assert [one.id for one in view.pending] == [record(2).id]


def test_heal_of_a_damaged_journal_heals_the_rest_and_says_so(state_home: Path) -> None:
    folder = state_dir() / "active" / "run"
    journal = Journal.create(folder, owner="run")
    path = folder / JOURNAL
    injected(journal, 1)
    journal.outcome(record().id, "verified")
    journal.close()
    # The writer is this living process: with its line damaged nobody knows, as after a crash of the disk.
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"garbage\n" + b"".join(lines[1:]))
    healed = heal_run(folder, lambda _: None)
    assert len(healed.left) == 1 and "line 1" in healed.left[0] and folder.exists()


def test_the_journal_of_others_is_refused(journal: Journal, folder: Path) -> None:
    path = folder / JOURNAL
    path.chmod(0o620)
    with pytest.raises(Refused, match="may be written by others"):
        read_journal(folder)
    path.chmod(0o600)
    folder.chmod(0o770)
    with pytest.raises(Refused, match="may be written by others"):
        read_journal(folder)
    folder.chmod(0o700)
    path.rename(folder / "real")
    path.symlink_to(folder / "real")
    with pytest.raises(OSError, match="symbolic"):
        read_journal(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_the_journal_of_another_user_is_refused(journal: Journal, folder: Path) -> None:
    os.chown(folder / JOURNAL, 65534, 65534)
    with pytest.raises(Refused, match="another user"):
        read_journal(folder)


def test_two_writers_are_refused(journal: Journal, folder: Path) -> None:
    with pytest.raises(Refused, match="another process"):
        Journal.create(folder)


def test_the_files_are_private_and_close_on_exec(journal: Journal, folder: Path) -> None:
    assert folder.stat().st_mode & 0o777 == 0o700 and (folder / JOURNAL).stat().st_mode & 0o777 == 0o600
    out = subprocess.run(["ls", "-l", "/proc/self/fd"], capture_output=True, text=True, check=False, close_fds=False)
    assert JOURNAL not in out.stdout


def test_an_unwritable_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError):
        Journal.create(tmp_path / "file" / "run")


def test_an_empty_or_missing_journal_reads_as_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "none"
    folder.mkdir(mode=0o700)
    assert read_journal(folder) == JournalView(folder=str(folder))
    (folder / KEEPER).touch(0o600)
    assert not read_journal(folder).something_left


def test_the_keeper_waits_for_the_end_of_an_undo_that_has_begun(journal: Journal, folder: Path) -> None:
    one = msgspec.structs.replace(record(), deadline_s=40.0)
    journal.record(one)
    assert next_deadline(read_journal(folder)) is None
    journal.intent(one.id, "inject")
    due = next_deadline(read_journal(folder))
    assert due is not None and due[1] == one.id and 30 < due[0] - boottime() <= 40
    journal.intent(one.id, "undo")
    longer = next_deadline(read_journal(folder))
    assert longer is not None and longer[0] > due[0]
    journal.outcome(one.id, "verified")
    assert next_deadline(read_journal(folder)) is None


def test_a_failing_fsync_refuses_the_injection(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real fsync cannot be made to fail without a broken disk: this one is replaced."""

    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(SetupError, match="Input/output error"):
        journal.record(record())
    with pytest.raises(SetupError):
        journal.intent(record().id, "inject")
    journal.intent(record().id, "undo")
