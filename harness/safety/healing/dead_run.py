"""`harness heal`: the leftovers of runs whose harness is dead, found in the user's own state directory.

Only what lies there is acted on (`check_known`).
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import harness
from harness.adapters.keeper.protocol import KeeperOpened
from harness.adapters.processes.identity import alive, boot_id, identify, send, wait_gone
from harness.model.errors import HarnessError, Refused, UndoUnverified
from harness.model.records.faults import HealReport
from harness.safety.healing.heal import heal
from harness.safety.journal.entries import Entry
from harness.safety.journal.log import JOURNAL, KEEPER, Busy, Log, is_written
from harness.safety.journal.version import VERSION
from harness.safety.journal.view import JournalView, read_journal
from harness.safety.state_folders import check_known, retire, state_folders

Say = Callable[[str], None]

KEEPER_LIMIT_S = 120.0
"""How long `heal_run` waits for a keeper that is healing already."""


def heal_all(say: Say) -> list[HealReport]:
    """Heal every run whose harness is dead; what still runs is left alone. Clean folders are cleared away."""
    healed = []
    for folder in state_folders():
        try:
            if is_written(folder / JOURNAL):
                say(f"{folder.name}: still running, left alone")
                continue
            if _stays_up(folder):
                continue
            healed.append(heal_run(folder, say))
        except HarnessError as error:
            healed.append(
                HealReport(folder=str(folder), left=(str(error) + (f" ({error.hint})" if error.hint else ""),))
            )
    return healed


def heal_run(folder: Path, say: Say, *, retire_clean: bool = True) -> HealReport:
    """Undo, verify, end processes and remove folders of one run, given its state folder.

    Waits for a keeper that is at it. retire_clean: clear the state folder away when nothing is left. Raises Refused
    for a folder outside the state directory, while the run is alive, for a stack that was brought up to stay, for
    files that others may write, and for another machine's run; UndoUnverified for a journal of another version.
    """
    check_known(folder)
    if not folder.is_dir():
        return HealReport(folder=str(folder))
    try:
        view = read_journal(folder)
        _refuse_living(view)
        log = _take_over(folder, view, say)
    except FileNotFoundError:  # the keeper healed it while we waited
        return HealReport(folder=str(folder))
    except OSError as error:
        say(f"cannot write to {folder / KEEPER}: {error.strerror or error}; healing goes on without")
        log = None
    try:
        view = read_journal(folder)
        healed = _heal(view, log, say) if view.something_left else HealReport(folder=str(folder))
        # Under the lock: another healer that had it now would read one of the two journals and miss the other.
        if retire_clean and not healed.left:
            retire(folder, Path(view.opened.run_dir) if view.opened is not None and view.opened.run_dir else None)
    finally:
        if log is not None:
            log.close()
    return healed


def _heal(view: JournalView, log: Log | None, say: Say) -> HealReport:
    def write(entry: Entry) -> None:
        if log is not None:
            log.note(entry, say)

    me = identify(os.getpid())
    if me is not None:
        write(KeeperOpened(keeper=me, host=socket.gethostname(), version=VERSION, harness=harness.__version__))
    return heal(view, write, say=say, why="harness heal")


def _stays_up(folder: Path) -> bool:
    """A living stack that was brought up to stay: nothing to heal."""
    if not is_written(folder / KEEPER):
        return False
    try:
        keeper = read_journal(folder).keeper
    except UndoUnverified:
        return True  # of another version, and alive: whatever it serves or heals is its own
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
