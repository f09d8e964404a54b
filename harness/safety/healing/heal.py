"""How a run's leftovers are healed: one sequence for the run's end, its keeper and `harness heal`.

The run's end and the keeper come here through the keeper's process, which still owns the servers; `harness heal` comes
by dead_run.py, when nobody does. It works on the journal as it was read at the beginning and on what it did itself, so
a disk that takes no more lines changes nothing. Safe to repeat: undoing is compare-and-set, processes are known by
their start time, folders by their inode.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import msgspec

from harness.adapters.processes.family import stop_family
from harness.adapters.processes.identity import alive
from harness.model.clock import monotonic
from harness.model.records.faults import Evidence, HealReport, UndoOutcome, UndoRecord
from harness.safety.healing import undo
from harness.safety.healing.compose_projects import remove_projects
from harness.safety.journal.entries import Closed, Entry, FolderGone, Healing, Intent, Outcome, ProcessGone, boottime
from harness.safety.journal.folders import plausible, remove
from harness.safety.journal.view import JournalView
from harness.safety.locks.remote import release_locks

Say = Callable[[str], None]
Write = Callable[[Entry], None]
EndServers = Callable[[], tuple[list[str], list[str], list[str]]]
"""Ends all that a keeper owns, its folders and projects too: what was stopped, which of it hard, what is left."""

OWN_STACK_LIMIT_S = 5.0
"""How long to try on servers that are stopped right afterwards: their changes end with them."""


def heal(
    view: JournalView,
    write: Write,
    *,
    say: Say,
    why: str | None = None,
    end_servers: EndServers | None = None,
    again_after_s: float | None = None,
    told: bool = False,
) -> HealReport:
    """Undo what the journal lists, verify it, end processes, remove projects, folders and, last, locks. Never raises.

    write: into keeper.jsonl; must not raise. why: is written before all else; None at the end of a run that lives.
    end_servers: the caller still owns servers: changes are undone while these answer, and then they are ended.
    again_after_s: what could not be verified is tried once more after so long, unless it ends with the servers.
    told: the run has said itself what it could not verify, so that is not tried again.
    """
    if why is not None:
        write(Healing(why=why))
    tried = _tried_by_the_run(view) if told else {}
    return _Heal(view, write, say, end_servers, again_after_s, tried).run()


@dataclass
class _Heal:
    """One healing under way."""

    view: JournalView
    write: Write
    say: Say
    end_servers: EndServers | None
    again_after_s: float | None
    outcomes: dict[str, UndoOutcome]
    stopped: list[str] = field(default_factory=list)
    hard: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    unlocked: list[str] = field(default_factory=list)

    def run(self) -> HealReport:
        left = [
            f"{line}: what it stood for cannot be told; look at the dependency yourself" for line in self.view.damage
        ]
        steps: list[Callable[[], list[str]]] = []
        if self.end_servers is not None:
            steps += [self._undo_on_servers, self._stop_servers]
        # With keeper and run dead the servers of an own stack are dead or headless: they go first, with their changes.
        steps += [self._end_processes, self._remove_projects, self._undo_rest, self._remove_folders, self._unlock]
        for step in steps:
            try:
                left += step()
            except Exception as error:  # whatever is wrong here, the next step must be taken all the same
                left.append(f"healing failed: {type(error).__name__}: {error}; run: harness heal --all")
        self.write(Closed(clean=not left, left=tuple(left)))
        return HealReport(
            folder=self.view.folder,
            outcomes=tuple(self.outcomes.values()),
            stopped=tuple(self.stopped),
            hard=tuple(self.hard),
            removed=tuple(self.removed),
            unlocked=tuple(self.unlocked),
            left=tuple(left),
        )

    def _undo_on_servers(self) -> list[str]:
        self._undo(OWN_STACK_LIMIT_S if self.view.had_servers else undo.LIMIT_S)
        if self.again_after_s is not None and not self.view.had_servers and self._still_on():
            time.sleep(self.again_after_s)
            self._undo(undo.LIMIT_S, again=True)
        return []

    def _stop_servers(self) -> list[str]:
        assert self.end_servers is not None
        stopped, hard, left = self.end_servers()
        self.stopped += stopped
        self.hard += hard
        self.view = msgspec.structs.replace(self.view, servers=(), projects=(), folders=())
        return left

    def _end_processes(self) -> list[str]:
        """SIGKILL what remains of servers and load, with everything they started."""
        left = []
        roots = [*self.view.load, *self.view.servers]
        private = [folder.path for folder in self.view.folders if plausible(folder.path)]
        for root in roots:
            try:
                if stop_family(root, number=None, grace_s=0, others=[r for r in roots if r != root], private=private):
                    self.stopped.append(root.name)
                    self.hard.append(root.name)
                    self.say(f"ended what remained of {root.name}")
            except TimeoutError as error:
                left.append(f"{error}; end it by hand")
                continue
            self.write(ProcessGone(name=root.name, pid=root.process.pid))
        return left

    def _remove_projects(self) -> list[str]:
        removed, left = remove_projects(self.view.projects, self.write, self.say)
        self.stopped += removed
        return left

    def _undo_rest(self) -> list[str]:
        self._undo(undo.LIMIT_S)
        left = []
        for record in self._still_on():
            outcome = self.outcomes.get(record.id)
            said = [text for text in (outcome.left, outcome.mend) if text] if outcome is not None else []
            left.append(f"{record.id}: {'; '.join(said) or 'not undone'}")
        return left

    def _undo(self, limit_s: float, *, again: bool = False) -> None:
        """What is not undone yet. What was tried and cannot be verified only if it ended with its servers, or again."""
        for record in undo.order_of_undo(self._still_on()):
            outcome = torn_down(self.view, record)
            if outcome is None:
                if record.id in self.outcomes and not again:
                    continue
                self.write(Intent(id=record.id, action="undo", boot_s=boottime()))
                outcome = undo.undo_record(
                    record,
                    say=self.say,
                    unsure=record.id in self.view.unsure,
                    allowed=self.view.allowed,
                    patience=undo.Patience(limit_s=limit_s),
                )
            self.write(Outcome(id=record.id, state=outcome.state, left=outcome.left, mend=outcome.mend))
            self.say(f"{record.id}: {outcome.state}" + (f": {outcome.left}; {outcome.mend}" if outcome.left else ""))
            self.outcomes[record.id] = outcome

    def _still_on(self) -> tuple[UndoRecord, ...]:
        done = {id_ for id_, outcome in self.outcomes.items() if outcome.state != "unverified"}
        return tuple(record for record in self.view.pending if record.id not in done)

    def _remove_folders(self) -> list[str]:
        left = []
        for item in self.view.folders:
            problem = remove(item)
            if problem is None:
                self.write(FolderGone(path=item.path))
                self.removed.append(item.path)
            else:
                left.append(problem)
        return left

    def _unlock(self) -> list[str]:
        """What has just been undone is no longer a reason to keep others out."""
        view = msgspec.structs.replace(self.view, records=self._still_on())
        return release_locks(view, self.write, self.say, self.unlocked)


def _tried_by_the_run(view: JournalView) -> dict[str, UndoOutcome]:
    return {
        id_: UndoOutcome(record_id=id_, state="unverified", left=entry.left, mend=entry.mend)
        for id_, entry in view.outcomes.items()
        if view.states[id_] == "unverified"
    }


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
    if record.dependency.proxy.url is not None:
        try:
            parts = urlsplit(record.dependency.proxy.url)
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
