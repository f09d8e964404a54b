"""What a keeper does at the end: end the run for good, undo, stop the servers, say what is left."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.adapters.keeper.protocol import HoldDatabase, HoldProxy
from harness.adapters.processes.identity import ProcessId, send, wait_gone
from harness.model.errors import HarnessError, Refused
from harness.model.records.faults import HealReport
from harness.safety.journal.entries import Closed, Entry, Locking, ProxyLock, Unlocked
from harness.safety.journal.kept_open import KeptJournal
from harness.safety.journal.log import Log
from harness.safety.journal.view import JournalView
from harness.safety.keeper.servers import Servers

if TYPE_CHECKING:
    from harness.dependencies.kind import ServerLock

FENCE_LIMIT_S = 10.0
IMPORT_LIMIT_S = 50.0
UNDO_LIMIT_S = 90.0
"""A run that has begun to undo has this long before the keeper takes over, whatever the record's deadline."""
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
        self._advisory: list[ServerLock] = []
        self.warm = Slot()

    def import_all(self) -> None:
        """Import what an undo will need; meant for a background thread."""
        self.warm.fill(_import_adapters)
        try:
            self.warm.result()
        except BaseException as error:
            self._say(f"what healing needs cannot be imported: {type(error).__name__}: {error}")

    def heal_dead_run(self, run: ProcessId, why: str, grace_s: float) -> HealReport:
        """End the run, undo, stop the servers."""
        try:
            self._fence(run, grace_s)
        except Exception as error:  # its changes must be undone and the servers be stopped all the same
            self._say(f"the run (pid {run.pid}) cannot be ended: {type(error).__name__}: {error}")
        self.warm.wait(IMPORT_LIMIT_S)
        return self._heal(why=why, again_after_s=AGAIN_AFTER_S)

    def finish(self) -> HealReport:
        """The run says it is done (or the stack is taken down): undo what it forgot, stop the servers."""
        return self._heal(told=True)

    def _heal(self, *, why: str | None = None, again_after_s: float | None = None, told: bool = False) -> HealReport:
        try:
            from harness.safety.healing.heal import heal

            report = heal(
                self.view(),
                self.note,
                say=self._say,
                why=why,
                end_servers=self._servers.end,
                again_after_s=again_after_s,
                told=told,
            )
        except Exception as error:  # the journal cannot be read: the servers must be stopped all the same
            stopped, hard, still = self._servers.end()
            left = (f"the journal in {self._folder} cannot be worked through: {error}", *still)
            report = HealReport(stopped=tuple(stopped), hard=tuple(hard), left=left)
            self.note(Closed(clean=False, left=left))
        for line in report.left:
            self._say(f"left: {line}")
        return report

    def hold(self, request: HoldProxy | HoldDatabase) -> None:
        """Take a lock and keep it. Raises Refused naming who has it, SetupError."""
        from harness.safety.locks.remote import Wanted, hold_database, hold_proxy

        self.warm.wait(IMPORT_LIMIT_S)
        if isinstance(request, HoldDatabase):
            lock = Wanted(
                admin=request.admin, admin_password_env=request.password_env, name=request.name, kind=request.kind
            )
            self._advisory.append(hold_database(lock, request.owner, os.getpid(), "keeper"))
            return
        # In the journal first: whoever heals after us removes it. One that was not made is harmless to remove.
        made = ProxyLock(url=request.url, text=request.text)
        self._log.append(Locking(lock=made), durable=True)
        try:
            hold_proxy(made)
        except Refused:
            self.note(Unlocked(lock=made))
            raise

    def retire(self) -> None:
        """Nothing is left and the run is dead: copy the journals to the run directory, clear the state folder away."""
        from harness.safety.state_folders import active_dir, retire

        try:
            opened = self.view().opened
            if self._folder.parent == active_dir():
                retire(self._folder, Path(opened.run_dir) if opened is not None and opened.run_dir else None)
        except (HarnessError, OSError) as error:
            self._say(f"the state folder stays: {error}")

    def note(self, entry: Entry) -> None:
        self._log.note(entry, self._say)

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
