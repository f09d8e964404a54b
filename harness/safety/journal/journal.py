"""The run's journal: what must be undone is on disk before it is done.

`record` and the intent to inject are on the disk when the call returns, or it raises and nothing may be injected.
What is written after an injection never raises: a full disk must not stop an undo. It only means that the change
still counts as pending, and undoing twice is harmless (compare and set).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection
from pathlib import Path

import harness
from harness.adapters.processes.family import Root
from harness.adapters.processes.identity import identify
from harness.model.errors import SetupError
from harness.model.records.faults import UndoOutcome, UndoRecord
from harness.safety.journal.entries import Action, Closed, Entry, Intent, Opened, Outcome, Process, Recorded, boottime
from harness.safety.journal.log import JOURNAL, Log
from harness.safety.journal.private import private_folder
from harness.safety.journal.version import VERSION


class Journal:
    """The run's side. `trouble`: what could not be written since the injection, for the report."""

    def __init__(self, log: Log, folder: Path) -> None:
        self._log = log
        self.folder = folder
        self.trouble: list[str] = []

    @classmethod
    def create(
        cls,
        folder: Path,
        *,
        owner: str = "",
        run_dir: Path | None = None,
        allowed: Collection[str] = (),
    ) -> Journal:
        """Open `folder`/journal.jsonl for this process. owner: the run's name; see `Opened` for the rest.

        Raises SetupError when it cannot be written, Refused when others may write there or another run uses it.
        """
        private_folder(folder)
        me = identify(os.getpid())
        if me is None:
            raise SetupError("cannot read this process's own start time")
        try:
            journal = cls(Log(folder / JOURNAL), folder)
            journal._log.append(
                Opened(
                    run=me,
                    host=socket.gethostname(),
                    owner=owner or folder.name,
                    run_dir=str(run_dir.absolute()) if run_dir is not None else None,
                    allowed=tuple(allowed),
                    version=VERSION,
                    harness=harness.__version__,
                ),
                durable=True,
            )
        except OSError as error:
            raise SetupError(f"cannot write the journal in {folder}: {error.strerror or error}") from error
        return journal

    def record(self, record: UndoRecord) -> None:
        """On the disk when it returns. Raises SetupError: then do not inject."""
        self._must(Recorded(record=record), f"the undo record of {record.id}")

    def intent(self, record_id: str, action: Action) -> None:
        """ "inject": on the disk when it returns, else SetupError: then do not inject. "undo": never raises."""
        entry = Intent(id=record_id, action=action, boot_s=boottime())
        if action == "inject":
            self._must(entry, f"the intent to inject {record_id}")
        else:
            self._try(entry)

    def outcome(self, record_id: str, text: str, *, left: str | None = None, mend: str | None = None) -> None:
        """text: injected, not_injected, verified, moot or unverified (with left and mend). Never raises OSError.

        not_injected only when provably nothing was changed; after an unknown outcome write nothing.
        """
        self._try(Outcome(id=record_id, state=text, left=left, mend=mend))

    def undone(self, outcome: UndoOutcome) -> None:
        """The same from an UndoOutcome."""
        self.outcome(outcome.record_id, outcome.state, left=outcome.left, mend=outcome.mend)

    def load_process(self, name: str, pid: int, start_time: float) -> None:
        """A process the run started itself; whoever heals ends it. Raises SetupError when it cannot be recorded."""
        process = identify(pid, start_time)
        if process is not None:
            self._must(Process(root=Root(name=name, process=process)), f"the process {name}")

    def closed(self, left: Collection[str] = ()) -> None:
        """The run has undone everything itself (or says what is left). Call it before the keeper is finished."""
        self._try(Closed(clean=not left, left=tuple(left)))

    def close(self) -> None:
        """Close the file; writes nothing."""
        self._log.close()

    def _must(self, entry: Entry, what: str) -> None:
        try:
            self._log.append(entry, durable=True)
        except OSError as error:
            raise SetupError(
                f"cannot write {what} to {self._log.path}: {error.strerror or error}",
                hint="nothing is injected without it; make room or name another folder with XDG_STATE_HOME",
            ) from error

    def _try(self, entry: Entry) -> None:
        try:
            self._log.append(entry)
        except OSError as error:
            self.trouble.append(f"{self._log.path}: {error.strerror or error}")
