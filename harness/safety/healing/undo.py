"""How a change is undone: one code path for the run, the keeper and `harness heal`.

The fault compares and sets (current = ours: restore; = original: done; else: somebody's repair, leave it). Here lies
what is the same for all: how long to try, what to do when nobody knows whether a statement was carried out, when an
undo counts as verified, and what to tell a person when it does not.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

import msgspec

from harness.adapters.allowed_hosts import check_address, reached
from harness.adapters.toxiproxy import restart as toxiproxy_restart
from harness.model.errors import Gone, HarnessError, OutcomeUnknown, Silent, UndoUnverified, UsageError
from harness.model.records.faults import Applied, Evidence, UndoOutcome, UndoRecord
from harness.model.redact import redactor

if TYPE_CHECKING:
    from harness.fault import Fault

Say = Callable[[str], None]

LIMIT_S = 30.0
"""How long an undo and its verification may take."""
VERIFY_S = 10.0
"""What is left of LIMIT_S for the verification at least: a server that is started again may take longer than that."""
"""Faults whose undo waits for the start of a server. Each container or process counts with all that was done to it, so
that the order among its own stays newest first."""
CLEAN_S = 3.0
"""After an unknown outcome the state must read clean this long: a request that timed out may still be carried out.
Measured on Toxiproxy 2.12: of 100 toxics whose POST timed out, 24 appeared again after a DELETE had been answered."""
CLEAN_STEP_S = 0.2
_RESTARTING = threading.Lock()


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """limit_s: for undo and verification together; clean_s: see CLEAN_S; both in seconds."""

    limit_s: float = LIMIT_S
    clean_s: float = CLEAN_S


class _NotYet(Exception):
    """Read back, and not as it should be."""

    def __init__(self, evidence: tuple[Evidence, ...]) -> None:
        super().__init__(_unheld(evidence))
        self.evidence = evidence


def undo_record(
    record: UndoRecord,
    *,
    say: Say = lambda _: None,
    restart_toxiproxy: Callable[[], bool] | None = None,
    unsure: bool = False,
    allowed: Collection[str] | None = None,
    patience: Patience = Patience(),  # noqa: B008 - frozen
    on_answer: Callable[[], None] = lambda: None,
) -> UndoOutcome:
    """Undo one change and verify it. Never raises.

    unsure: nobody knows whether the injection was carried out (its request timed out, or the run died during it).
    restart_toxiproxy: restarts a Toxiproxy that we own, True when it is up again; None where it is not ours: then one
    that a keeper has, or whose runtime is declared, is restarted as its record says.
    allowed: check every address of the record again, against these hosts (for records read from a file).
    on_answer: called each time an undo statement was answered, before anything is looked at; must not raise.
    """
    from harness.fault import registered, unusable

    redact = redactor(record.secrets.values())
    fault = registered().get(record.kind)
    if fault is None:
        why = unusable().get(record.kind, "no installed package has it")
        return _unverified(record, f"the fault {record.kind!r} cannot be undone here: {why}", redact)
    try:
        if allowed is not None:
            check_addresses(record, allowed)
        restart = restart_toxiproxy or toxiproxy_restart.restarter(record, lambda line: say(redact(line)))
        if fault.needs == "front":
            restart = None  # what is on an Envoy no restart of Toxiproxy takes off
        return _Undo(record, fault, say, redact, patience, unsure, on_answer).run(restart)
    except HarnessError as error:
        found = _unverified(record, str(error), redact, error)
        return msgspec.structs.replace(found, foreign=isinstance(error, UndoUnverified))
    except Exception as error:  # a fault from someone's package may raise anything; the other undos must go on
        return _unverified(record, f"{type(error).__name__}: {error}", redact)


def order_of_undo(records: Iterable[UndoRecord]) -> list[UndoRecord]:
    """Newest first; paused and killed processes first of all, since a paused server answers no other undo. Among those
    the servers that must be started again come last: nobody waits for another one's start."""
    from harness.fault import registered, traits_of

    known = registered()

    def runs_again(record: UndoRecord) -> bool:
        return record.kind in known and known[record.kind].needs in ("runtime", "container")

    newest_first = list(records)[::-1]
    starts = (one for one in newest_first if one.kind in known and "starts_server" in traits_of(known[one.kind]))
    started = {record.dependency.name for record in starts}
    return sorted(newest_first, key=lambda record: (not runs_again(record), record.dependency.name in started))


class _Undo:
    """One undo under way."""

    def __init__(
        self,
        record: UndoRecord,
        fault: Fault,
        say: Say,
        redact: Callable[[str], str],
        patience: Patience,
        unsure: bool,
        on_answer: Callable[[], None],
    ) -> None:
        self._record = record
        self._fault = fault
        self._say = say
        self._redact = redact
        self._patience = patience
        self._unsure = unsure
        self._on_answer = on_answer
        # Faults on the container itself look where it is; those before it do not go there.
        self._follows = fault.needs not in ("proxy", "front", "runtime", "container")
        self._applied: Applied | None = None
        self._gone = False
        self._clean = False
        self._may_restart = False
        self._silent = False
        self._end = time.monotonic() + patience.limit_s

    def run(self, restart: Callable[[], bool] | None) -> UndoOutcome:
        self._may_restart = restart is not None
        try:
            return self._attempt()
        except UndoUnverified:
            raise
        except (HarnessError, _NotYet) as error:
            if restart is None or self._record.dependency.proxy.url is None:
                return self._failed(error)
            self._may_restart = False
            self._say(f"{self._record.id}: {self._redact(str(error))}; restarting Toxiproxy")
            with _RESTARTING:
                # The undo of another fault may have restarted it while we waited for our turn.
                done = self._silent and not toxiproxy_restart.is_silent(self._record.dependency)
                done = done or restart()
            if not done:
                return self._failed(error, "; Toxiproxy could not be restarted either")
        self._end = time.monotonic() + self._patience.limit_s
        self._unsure = False  # the process that held the open request is gone, and its state with it
        try:
            return self._attempt()
        except (HarnessError, _NotYet) as error:
            return self._failed(error)

    def _attempt(self) -> UndoOutcome:
        """Undo until answered, then read back until it is right. Raises HarnessError, _NotYet at the limit."""
        self._until_answered()
        self._end = max(self._end, time.monotonic() + min(VERIFY_S, self._patience.limit_s))
        evidence = self._verified()
        if self._unsure:
            evidence = self._stays_clean(evidence)
        return UndoOutcome(
            record_id=self._record.id,
            state="moot" if self._gone else "verified",
            evidence=evidence,
            applied=self._applied,
        )

    def _left_s(self) -> float:
        return max(0.0, self._end - time.monotonic())

    def _until_answered(self) -> None:
        from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_exponential

        def again(error: BaseException) -> bool:
            if isinstance(error, OutcomeUnknown):
                self._unsure = True
            if self._locked_up(error):
                return False
            # A variable that is not set, a host that is refused: waiting changes nothing.
            return isinstance(error, HarnessError) and not isinstance(error, (UndoUnverified, UsageError))

        told = False

        def tell(state: RetryCallState) -> None:
            nonlocal told
            if not told and state.outcome is not None:
                told = True
                why = self._redact(str(state.outcome.exception()))
                self._say(f"{self._record.id}: not undone yet, trying again: {why}")

        for attempt in Retrying(
            retry=retry_if_exception(again),
            stop=stop_after_delay(self._left_s()),
            wait=wait_exponential(multiplier=0.02, max=1.0),
            before_sleep=tell,
            reraise=True,
        ):
            with attempt:
                self._undo_once()

    def _locked_up(self, error: BaseException) -> bool:
        """Toxiproxy's API is silent, and there is somebody who restarts it: waiting is of no use, nor a DELETE."""
        if self._may_restart and isinstance(error, (Silent, OutcomeUnknown)):
            self._silent = toxiproxy_restart.is_silent(self._record.dependency)
        return self._may_restart and self._silent

    def _undo_once(self) -> None:
        try:
            applied = self._fault.undo(self._present())
            self._on_answer()
        except Gone:
            # Provably gone, but the data path is still asked below.
            self._gone = True
            return
        self._gone = False
        # While it reads clean a repeated undo changes nothing: the bounds stay those of the one that did.
        if self._applied is None or not self._clean:
            self._applied = applied

    def _verified(self) -> tuple[Evidence, ...]:
        from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential

        def again(error: BaseException) -> bool:
            # As above: a password that a probe has missed is not there a second later.
            if isinstance(error, _NotYet) and any(name in str(error) for _, name in _unset(self._record)):
                return False
            if self._locked_up(error):
                return False
            return isinstance(error, (HarnessError, _NotYet)) and not isinstance(error, (UndoUnverified, UsageError))

        evidence: tuple[Evidence, ...] = ()
        for attempt in Retrying(
            retry=retry_if_exception(again),
            stop=stop_after_delay(self._left_s()),
            wait=wait_exponential(multiplier=0.01, max=0.5),
            reraise=True,
        ):
            with attempt:
                evidence = self._look_or_undo()
        return evidence

    def _look_or_undo(self) -> tuple[Evidence, ...]:
        """Look; what an unknown outcome brought after the undo was answered is undone again before the next look."""
        try:
            return self._look()
        except _NotYet:
            if self._unsure:
                self._undo_late()
            raise

    def _present(self) -> UndoRecord:
        """The record with the address where its container is reached now, where the engine chose that address: another
        fault, or somebody, may have started the container again since. No other host than the recorded one's comes
        in: the published port changes, or the container's own address, both as the engine tells."""
        if not self._follows:
            return self._record
        from harness.adapters.docker.address import record_at_present

        return record_at_present(self._record)

    def _undo_late(self) -> None:
        try:
            self._undo_once()
        except UndoUnverified:
            raise
        except HarnessError:
            pass  # the next look tells

    def _look(self) -> tuple[Evidence, ...]:
        evidence = self._fault.verify_undone(self._present())
        self._clean = bool(evidence) and all(item.held for item in evidence)
        if not self._clean:
            raise _NotYet(evidence)
        return evidence

    def _stays_clean(self, evidence: tuple[Evidence, ...]) -> tuple[Evidence, ...]:
        """Read back until it has been clean for a while; what appears late is undone again."""
        self._say(f"{self._record.id}: its outcome was unknown, reading back for {self._patience.clean_s:g} s")
        clean_since = time.monotonic()
        while time.monotonic() - clean_since < self._patience.clean_s:
            if self._left_s() == 0:
                raise OutcomeUnknown(
                    f"it did not stay undone for {self._patience.clean_s:g} s within {self._patience.limit_s:g} s"
                )
            time.sleep(min(CLEAN_STEP_S, self._patience.clean_s))
            try:
                # Look before undoing again: an undo would take away what has just shown that it is not over.
                evidence = self._look()
                continue
            except UndoUnverified:
                raise
            except (HarnessError, _NotYet):
                pass
            self._undo_late()
            clean_since = time.monotonic()
        return evidence

    def _failed(self, error: Exception, more: str = "") -> UndoOutcome:
        evidence = error.evidence if isinstance(error, _NotYet) else ()
        if isinstance(error, (Silent, OutcomeUnknown)) and toxiproxy_restart.is_silent(self._record.dependency):
            what = f"{self._record.dependency.name}-{self._record.kind} may still be on: {error}{more}"
            error = UndoUnverified(what, toxiproxy_restart.how(self._record))
        return _unverified(
            self._record, f"{error}{more}", self._redact, error, evidence=evidence, applied=self._applied
        )


def check_addresses(record: UndoRecord, allowed: Collection[str]) -> None:
    """Check again every address that undoing this record would reach. Raises Refused, UsageError."""
    for host, port in reached(record.dependency):
        check_address(host, port, allowed, allow_hosts=allowed)


def _unheld(evidence: tuple[Evidence, ...]) -> str:
    if not evidence:
        return "nothing could be read back"
    return "; ".join(f"expected {item.expected}, found {item.observed}" for item in evidence if not item.held)


def _unverified(
    record: UndoRecord,
    why: str,
    redact: Callable[[str], str],
    error: BaseException | None = None,
    *,
    evidence: tuple[Evidence, ...] = (),
    applied: Applied | None = None,
) -> UndoOutcome:
    if isinstance(error, UndoUnverified):
        left, mend = error.left, error.mend
    else:
        left = f"{record.dependency.name}-{record.kind} may still be on: {' '.join(why.split())}"
        mend = mend_by_hand(record)
        unset = [f"{name} ({what} of {record.dependency.name})" for what, name in _unset(record)]
        if unset:
            mend = f"set the environment variable {', '.join(unset)}, then run `harness heal --all`; {mend}"
    return UndoOutcome(
        record_id=record.id,
        state="unverified",
        evidence=evidence,
        left=redact(left),
        mend=redact(mend),
        applied=applied,
    )


def _unset(record: UndoRecord) -> list[tuple[str, str]]:
    """(what it is for, variable) of every secret of this record that this process does not have."""
    return [(what.replace("_", " "), name) for what, name in record.secrets.items() if name not in os.environ]


def mend_by_hand(record: UndoRecord) -> str:
    """What a person has to do, from the record alone: where, from what, back to what."""
    return f"run `harness heal` again when it can be reached, or by hand: {commands_by_hand(record)}"


def commands_by_hand(record: UndoRecord) -> str:
    """What a person would type or do to take this change back. Made from the record alone: nothing is looked at."""
    from harness.fault import registered

    by_hand = getattr(registered().get(record.kind), "by_hand", None)
    if by_hand is not None:
        try:
            return str(by_hand(record))
        except Exception:  # a fault from someone's package; what follows is worse, but true
            pass
    where = _words(record.where) or record.dependency.name
    dependency = record.dependency
    at = f" at {dependency.proxy.url}" if dependency.proxy.url and "url" not in record.where else ""
    if dependency.direct is not None and "url" not in record.where:
        at += f", {dependency.kind} server {dependency.direct}"
    ours = f" (the harness set {_words(record.ours)})" if record.ours else ""
    original = _words(record.original)
    back = f"set it back to {original}" if original else "remove what the harness made there"
    return f"{where}{at}: {back}{ours}"


def _words(values: dict[str, str | int | float | bool | None]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
