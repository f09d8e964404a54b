"""Undo what an interrupted run left: the keeper's healing, also in the foreground as `harness heal`.

Only what lies in the user's own state directory is acted on (`check_known`).

Safe to repeat: undoing is compare-and-set, processes are known by their start time, folders by their inode.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from harness.adapters.processes.family import stop_family
from harness.adapters.processes.identity import alive, boot_id, identify, send, wait_gone
from harness.model.clock import monotonic
from harness.model.errors import HarnessError, Refused
from harness.model.records.faults import Evidence, UndoOutcome, UndoRecord
from harness.safety.active import check_known, retire, state_folders
from harness.safety.healing.projects import remove_projects
from harness.safety.journal.entries import (
    Closed,
    Entry,
    FolderGone,
    Healing,
    Intent,
    KeeperOpened,
    Outcome,
    ProcessGone,
)
from harness.safety.journal.entries import boottime as boottime_now
from harness.safety.journal.folders import plausible, remove
from harness.safety.journal.log import JOURNAL, KEEPER, Busy, Log, is_written
from harness.safety.journal.view import JournalView, read_journal

Say = Callable[[str], None]
Write = Callable[[Entry], None]

KEEPER_LIMIT_S = 120.0
"""How long `heal` waits for a keeper that is healing already."""


class Healed(msgspec.Struct, frozen=True, kw_only=True):
    """outcomes: one for each change that was still on. killed: names of processes ended. removed: folders.
    unlocked: URLs of Toxiproxies whose lock was removed.
    left: sentences that say what is left and how to mend it; empty = nothing is left.
    """

    folder: str
    outcomes: tuple[UndoOutcome, ...] = ()
    killed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    unlocked: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


def heal_all(say: Say) -> list[Healed]:
    """Heal every run whose harness is dead; what still runs is left alone. Clean folders are cleared away."""
    healed = []
    for folder in state_folders():
        try:
            if is_written(folder / JOURNAL):
                say(f"{folder.name}: still running, left alone")
                continue
            if _stays_up(folder):
                continue
            healed.append(heal(folder, say))
        except HarnessError as error:
            healed.append(Healed(folder=str(folder), left=(str(error) + (f" ({error.hint})" if error.hint else ""),)))
    return healed


def heal(folder: Path, say: Say, *, retire_clean: bool = True) -> Healed:
    """Undo, verify, end processes and remove folders of one run, given its state folder.

    Waits for a keeper that is at it. retire_clean: clear the state folder away when nothing is left. Raises Refused
    for a folder outside the state directory, while the run is alive, for a stack that was brought up to stay, for
    files that others may write, and for another machine's run.
    """
    check_known(folder)
    if not folder.is_dir():
        return Healed(folder=str(folder))
    try:
        view = read_journal(folder)
        _refuse_living(view)
        log = _take_over(folder, view, say)
    except FileNotFoundError:  # the keeper healed it while we waited
        return Healed(folder=str(folder))
    except OSError as error:
        say(f"cannot write to {folder / KEEPER}: {error.strerror or error}; healing goes on without")
        log = None
    try:
        view = read_journal(folder)
        healed = _heal(view, log, say) if view.something_left else Healed(folder=str(folder))
        # Under the lock: another healer that had it now would read one of the two journals and miss the other.
        if retire_clean and not healed.left:
            retire(folder, Path(view.opened.run_dir) if view.opened is not None and view.opened.run_dir else None)
    finally:
        if log is not None:
            log.close()
    return healed


def _heal(view: JournalView, log: Log | None, say: Say) -> Healed:
    said: list[str] = []

    def write(entry: Entry) -> None:
        try:
            if log is not None:
                log.append(entry)
        except OSError as error:
            if not said:
                said.append(f"cannot write to {KEEPER}: {error.strerror or error}; healing goes on without")
                say(said[0])

    me = identify(os.getpid())
    if me is not None:
        write(KeeperOpened(keeper=me, host=socket.gethostname()))
    write(Healing(why="harness heal"))
    killed: list[str] = []
    removed: list[str] = []
    left = [f"{line}: what it stood for cannot be told; look at the dependency yourself" for line in view.damage]
    # With keeper and run dead the servers of an own stack are dead or headless: they go first, their changes with them.
    left += end_processes(view, write, say, killed)
    left += remove_projects(view.projects, write, say, killed)
    outcomes = heal_records(view, write, say=say)
    left += [f"{outcome.left}; {outcome.mend}" for outcome in outcomes if outcome.state == "unverified"]
    for item in view.folders:
        problem = remove(item)
        if problem is None:
            write(FolderGone(path=item.path))
            removed.append(item.path)
        else:
            left.append(problem)
    from harness.safety.locks.remote import release_locks

    # What has just been undone is no longer a reason to keep others out.
    still = {outcome.record_id for outcome in outcomes if outcome.state == "unverified"}
    left_on = tuple(record for record in view.records if record.id in still)
    unlocked: list[str] = []
    left += release_locks(msgspec.structs.replace(view, records=left_on), write, say, unlocked)
    write(Closed(clean=not left, left=tuple(left)))
    return Healed(
        folder=view.folder,
        outcomes=tuple(outcomes),
        killed=tuple(killed),
        removed=tuple(removed),
        unlocked=tuple(unlocked),
        left=tuple(left),
    )


def heal_records(
    view: JournalView,
    write: Write,
    *,
    say: Say,
    restart_toxiproxy: Callable[[], bool] | None = None,
    limit_s: float | None = None,
) -> list[UndoOutcome]:
    """Undo all pending records of a journal; `write` gets intents and outcomes and must not raise."""
    from harness.safety.healing.undo import LIMIT_S, Patience, order_of_undo, undo_record

    outcomes = []
    for record in order_of_undo(view.pending):
        gone = torn_down(view, record)
        if gone is None:
            write(Intent(id=record.id, action="undo", boot_s=boottime_now()))
            outcome = undo_record(
                record,
                say=say,
                restart_toxiproxy=restart_toxiproxy,
                unsure=record.id in view.unsure,
                allowed=view.allowed,
                patience=Patience(limit_s=LIMIT_S if limit_s is None else limit_s),
            )
        else:
            outcome = gone
        write(Outcome(id=record.id, state=outcome.state, left=outcome.left, mend=outcome.mend))
        say(f"{record.id}: {outcome.state}" + (f": {outcome.left}; {outcome.mend}" if outcome.left else ""))
        outcomes.append(outcome)
    return outcomes


def torn_down(view: JournalView, record: UndoRecord) -> UndoOutcome | None:
    """Moot, when the change was on a server of the run's own stack and nothing listens there any more.

    None when that cannot be shown: unreachable alone is not gone.
    """
    if not view.had_servers or any(alive(root.process) for root in view.servers):
        return None
    addresses = []
    for address in (record.dependency.path, record.dependency.direct):
        if address is not None:
            addresses.append((address.host, address.port))
    if record.dependency.toxiproxy is not None:
        try:
            parts = urlsplit(record.dependency.toxiproxy)
            addresses.append((parts.hostname or "", parts.port or 8474))
        except ValueError:  # no URL, so nothing can be shown of it
            return None
    if not addresses or not all(_refuses(host, port) for host, port in addresses):
        return None
    where = ", ".join(f"{host}:{port}" for host, port in addresses)
    return UndoOutcome(
        record_id=record.id,
        state="moot",
        evidence=(
            Evidence(
                source="undo",
                expected="the run's own servers have ended, and the change with them",
                observed=f"connection refused at {where}",
                held=True,
                at=monotonic(),
            ),
        ),
    )


def _refuses(host: str, port: int) -> bool:
    """Whether a loopback address refuses connections: nothing listens there."""
    if host not in ("127.0.0.1", "::1", "localhost"):
        return False
    try:
        with socket.create_connection((host, port), timeout=1.0):
            return False
    except ConnectionRefusedError:
        return True
    except (OSError, OverflowError):
        return False


def end_processes(view: JournalView, write: Write, say: Say, killed: list[str]) -> list[str]:
    """SIGKILL what remains of servers and load, with everything they started. Returns sentences for what is left."""
    left = []
    roots = [*view.load, *view.servers]
    private = [folder.path for folder in view.folders if plausible(folder.path)]
    for root in roots:
        try:
            if stop_family(root, number=None, grace_s=0, others=[r for r in roots if r != root], private=private):
                killed.append(root.name)
                say(f"ended what remained of {root.name}")
        except TimeoutError as error:
            left.append(f"{error}; end it by hand")
            continue
        write(ProcessGone(name=root.name, pid=root.process.pid))
    return left


def _stays_up(folder: Path) -> bool:
    """A living stack that was brought up to stay: nothing to heal."""
    if not is_written(folder / KEEPER):
        return False
    keeper = read_journal(folder).keeper
    return keeper is not None and keeper.detached


def _refuse_living(view: JournalView) -> None:
    opened, keeper = view.opened, view.keeper
    host = opened.host if opened is not None else keeper.host if keeper is not None else None
    writers = [opened.run] if opened is not None else []
    writers += [keeper.keeper] if keeper is not None else []
    boots = {writer.boot for writer in writers}
    # A laptop's name changes with its network; within one boot it is the same machine all the same.
    if host is not None and host != socket.gethostname() and (boot_id() is None or boot_id() not in boots):
        raise Refused(f"{view.folder} belongs to a run on {host}", hint="run `harness heal` there")
    run = opened.run if opened is not None else keeper.run if keeper is not None else None
    if run is not None and alive(run) and run.pid != os.getpid():
        raise Refused(
            f"run {opened.owner if opened is not None else Path(view.folder).name} is still running (pid {run.pid})",
            hint="stop it with Ctrl-C; it undoes everything itself",
        )
    if keeper is not None and keeper.detached and alive(keeper.keeper):
        raise Refused(f"{view.folder} is a stack that was brought up to stay", hint="harness stack down")


def _take_over(folder: Path, view: JournalView, say: Say) -> Log:
    """The keeper's log, to write it ourselves. FileNotFoundError when a keeper healed everything meanwhile."""
    end = time.monotonic() + KEEPER_LIMIT_S
    told = False
    while True:
        try:
            return Log(folder / KEEPER)
        except Busy:
            pass
        view = read_journal(folder)
        _refuse_living(view)
        keeper = view.keeper
        if not told:
            told = True
            say(f"{folder.name}: its keeper" + (f" (pid {keeper.keeper.pid})" if keeper else "") + " is healing it")
        if time.monotonic() > end:
            if keeper is None:
                raise Refused(f"{folder / KEEPER} stays locked by another process")
            say(f"the keeper (pid {keeper.keeper.pid}) has not ended in {KEEPER_LIMIT_S:g} s: taking over")
            send(keeper.keeper, 9)
            wait_gone([keeper.keeper], 10.0)
            end = time.monotonic() + 10.0
        time.sleep(0.05)
