"""What a keeper does at the end: end the run for good, undo, stop the servers, say what is left."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from harness.adapters.processes.identity import ProcessId, send, wait_gone
from harness.model.errors import HarnessError, Refused
from harness.model.records.faults import UndoOutcome
from harness.safety.journal.entries import Closed, Entry, Healing, Locking, Unlocked
from harness.safety.journal.kept_open import KeptJournal
from harness.safety.journal.log import Log
from harness.safety.journal.view import JournalView
from harness.safety.keeper.servers import Servers
from harness.safety.protocol import HoldPostgres, HoldProxy, Report

if TYPE_CHECKING:
    from harness.adapters.clients.postgres_advisory_lock import AdvisoryLock

FENCE_LIMIT_S = 10.0
IMPORT_LIMIT_S = 50.0
UNDO_LIMIT_S = 90.0
"""A run that has begun to undo has this long before the keeper takes over, whatever the record's deadline."""
OWN_STACK_LIMIT_S = 5.0
"""How long to try on servers that are stopped right afterwards: their changes end with them."""
AGAIN_AFTER_S = 5.0


class Slot:
    """A result to wait for. (concurrent.futures would bring logging into the keeper's start-up.)"""

    def __init__(self) -> None:
        self._done = threading.Event()
        self._result: Any = None
        self._error: BaseException | None = None

    def fill(self, function: Callable[[], Any]) -> None:
        """Call it and keep what it returns or raises."""
        try:
            self._result = function()
        except BaseException as error:
            self._error = error
        self._done.set()

    def wait(self, limit_s: float | None = None) -> bool:
        return self._done.wait(limit_s)

    def result(self) -> Any:
        """Wait for it; raises what the function raised."""
        self._done.wait()
        if self._error is not None:
            raise self._error
        return self._result


class Healer:
    """The keeper's hands, on its own threads. No failing write stops it. warm: filled when the imports are done."""

    def __init__(self, folder: Path, log: Log, servers: Servers, say: Callable[[str], None]) -> None:
        self._folder = folder
        self.view = KeptJournal(folder).read
        self._log = log
        self._servers = servers
        self._say = say
        self._advisory: list[AdvisoryLock] = []
        self.warm = Slot()

    def import_all(self) -> None:
        """Import what an undo will need; meant for a background thread."""
        self.warm.fill(_import_adapters)
        try:
            self.warm.result()
        except BaseException as error:
            self._say(f"what healing needs cannot be imported: {type(error).__name__}: {error}")

    def heal_dead_run(self, run: ProcessId, why: str, grace_s: float) -> list[str]:
        """End the run, undo, stop the servers. Returns sentences for what is left, empty = nothing."""
        left: list[str] = []
        try:
            self._fence(run, grace_s)
            self.note(Healing(why=why))
            self.warm.wait(IMPORT_LIMIT_S)
            view = self.view()
            outcomes = self.undo(view)
            if not view.had_servers and any(outcome.state == "unverified" for outcome in outcomes):
                time.sleep(AGAIN_AFTER_S)
                self.undo(self.view())
        except Exception as error:  # the servers must be stopped all the same
            self._say(f"healing failed: {type(error).__name__}: {error}")
            left.append(f"healing failed: {error}")
        _, _, still = self._servers.end()
        left += still + self._settle()
        left += self._unlock()
        self.close(left)
        return left

    def finish(self) -> Report:
        """The run says it is done: undo what it forgot, stop the servers."""
        outcomes: list[UndoOutcome] = []
        left: list[str] = []
        pending = False
        try:
            view = self.view()
            pending = bool(view.pending)
            # What the run has tried and could not verify is its own to report; what it forgot is undone here.
            forgotten = tuple(r for r in view.pending if view.states[r.id] != "unverified")
            if forgotten:
                outcomes = self.undo(msgspec.structs.replace(view, records=forgotten))
        except Exception as error:  # the servers must be stopped all the same
            left.append(f"the journal in {self._folder}: {error}")
        stopped, hard, still = self._servers.end()
        left += still
        if pending:
            left += self._settle()
        left += self._unlock()
        self.close(left)
        return Report(stopped=tuple(stopped), hard=tuple(hard), outcomes=tuple(outcomes), left=tuple(left))

    def undo(self, view: JournalView) -> list[UndoOutcome]:
        """Undo everything pending in `view`."""
        from harness.safety.healing.heal import heal_records

        limit_s = OWN_STACK_LIMIT_S if view.had_servers else None
        return heal_records(view, self.note, say=self._say, limit_s=limit_s)

    def hold(self, request: HoldProxy | HoldPostgres) -> None:
        """Take a lock and keep it. Raises Refused naming who has it, SetupError."""
        from harness.safety.locks.remote import Wanted, hold_postgres, hold_proxy

        self.warm.wait(IMPORT_LIMIT_S)
        if isinstance(request, HoldPostgres):
            lock = Wanted(admin=request.admin, admin_password_env=request.password_env, name=request.name)
            self._advisory.append(hold_postgres(lock, request.owner, os.getpid(), "keeper"))
            return
        # In the journal first: whoever heals after us removes it. One that was not made is harmless to remove.
        self._log.append(Locking(lock=request.lock), durable=True)
        try:
            hold_proxy(request.lock)
        except Refused:
            self.note(Unlocked(lock=request.lock))
            raise

    def retire(self) -> None:
        """Nothing is left and the run is dead: copy the journals to the run directory, clear the state folder away."""
        from harness.safety.active import active_dir, retire

        try:
            opened = self.view().opened
            if self._folder.parent == active_dir():
                retire(self._folder, Path(opened.run_dir) if opened is not None and opened.run_dir else None)
        except (HarnessError, OSError) as error:
            self._say(f"the state folder stays: {error}")

    def close(self, left: list[str]) -> None:
        """The last word, in both logs."""
        for line in left:
            self._say(f"left: {line}")
        self.note(Closed(clean=not left, left=tuple(left)))

    def note(self, entry: Entry) -> None:
        """Append to keeper.jsonl; a full disk is said, and nothing more."""
        try:
            self._log.append(entry)
        except OSError as error:
            self._say(f"cannot write to keeper.jsonl: {error.strerror or error}; going on")

    def _fence(self, run: ProcessId, grace_s: float) -> None:
        """Nobody else writes from here on: end the run, stopped or not, and wait until it has ended."""
        if grace_s and not wait_gone([run], grace_s):
            return
        try:
            send(run, signal.SIGKILL)
        except PermissionError as error:
            self._say(f"the run (pid {run.pid}) cannot be ended: {error}")
        if wait_gone([run], FENCE_LIMIT_S):
            # It has SIGKILL pending, so no code of its own runs any more, wherever the kernel holds it.
            self._say(f"the run (pid {run.pid}) is still in the kernel after {FENCE_LIMIT_S:g} s")

    def _settle(self) -> list[str]:
        """After the servers have ended: what was on them is gone with them. Returns what is left, in sentences."""
        from harness.safety.healing.heal import end_processes, heal_records, torn_down

        try:
            view = self.view()
            left = end_processes(msgspec.structs.replace(view, servers=()), self.note, self._say, [])
            gone = tuple(record for record in view.pending if torn_down(view, record) is not None)
            heal_records(msgspec.structs.replace(view, records=gone), self.note, say=self._say)
            view = self.view()
        except Exception as error:
            return [f"the journal in {self._folder} cannot be worked through: {error}"]
        for record in view.pending:
            outcome = view.outcomes.get(record.id)
            said = f"{outcome.left}; {outcome.mend}" if outcome is not None and outcome.left else "not undone"
            left.append(f"{record.id}: {said}")
        return left + [f"{line}: what it stood for cannot be told" for line in view.damage]

    def _unlock(self) -> list[str]:
        """Last of all let go of the Toxiproxies, unless something is left on them. Returns what is left."""
        from harness.safety.locks.remote import release_locks

        try:
            return release_locks(self.view(), self.note, self._say)
        except Exception as error:
            return [f"the locks of this run cannot be removed: {error}; run: harness heal --all"]


def next_deadline(view: JournalView) -> tuple[float, str] | None:
    """When (CLOCK_BOOTTIME) the keeper undoes on its own, and which record is then overdue; None = never."""
    found: list[tuple[float, str]] = []
    for record in view.pending:
        injected = view.intents.get((record.id, "inject"))
        if record.deadline_s is None or injected is None or view.states[record.id] == "unverified":
            continue
        due = injected + record.deadline_s
        undoing = view.intents.get((record.id, "undo"))
        if undoing is not None:
            due = max(due, undoing + UNDO_LIMIT_S)
        found.append((due, record.id))
    return min(found, default=None)


def _import_adapters() -> None:
    import importlib
    import pkgutil

    import tenacity  # noqa: F401

    import harness.adapters
    import harness.safety.healing.heal
    import harness.safety.healing.undo
    from harness.fault import registered

    registered()
    for module in pkgutil.walk_packages(harness.adapters.__path__, "harness.adapters."):
        loaded = importlib.import_module(module.name)
        getattr(loaded, "preload", lambda: None)()
