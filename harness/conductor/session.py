"""One Session: keeper, stack, recording and load, from up to down. Many experiments may be conducted in one."""

from __future__ import annotations

import os
import queue
import shutil
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harness.analysis.run_directory import ALERTS
from harness.conductor.prepare import Planned, lock_names
from harness.conductor.recording.alerts import AlertRecorder
from harness.conductor.recording.exposition import Exposition
from harness.conductor.recording.sampler import Sampler
from harness.conductor.recording.spans import Spans
from harness.conductor.recording.unresolved import Unresolved
from harness.conductor.signals import Signals
from harness.conductor.worker_threads import Inbox, renewing
from harness.model.errors import HarnessError, Refused, SetupError, UsageError
from harness.model.records.alerts import AlertsPlan
from harness.model.records.plan import Plan
from harness.model.records.stack import SavesLogs, Stack, StackUp, WritesLogs
from harness.safety.journal.journal import Journal
from harness.safety.keeper.client import Keeper
from harness.safety.locks.local import Locks, acquire
from harness.safety.locks.remote import RemoteLocks, wanted
from harness.safety.state_folders import active_dir, find_active, retire

if TYPE_CHECKING:
    from harness.conductor.recording.log import RunLog

Say = Callable[[str], None]
POLL_S = 0.05


def make_run_dir(out: Path, name: str) -> Path:
    """Create the run directory, numbered when the name is taken. Raises UsageError when it cannot be written."""
    for number in range(1, 1000):
        folder = out / (name if number == 1 else f"{name}-{number}")
        try:
            out.mkdir(parents=True, exist_ok=True)
            folder.mkdir()
            (folder / "logs").mkdir()
        except FileExistsError:
            if not out.is_dir():
                raise UsageError(f"--out {out}: is not a folder") from None
            continue
        except OSError as error:
            raise UsageError(
                f"the run directory {folder} cannot be written: {error.strerror}", hint="name another folder with --out"
            ) from error
        return folder
    raise UsageError(f"no free name for a run directory below {out}")


def place_of(folder: Path) -> tuple[int, int] | None:
    """What tells a folder from another one of the same name; None when nothing is there."""
    try:
        status = os.lstat(folder)
    except OSError:
        return None
    return status.st_dev, status.st_ino


@contextmanager
def opened(
    planned: Planned, locked: Plan, make: Callable[[], Path], *, owner: str, view: str
) -> Iterator[tuple[Session, RunLog]]:
    """The locks of `locked`, a run directory that `make` makes, its log and a session that is not open yet. owner: its
    name on this machine. view: see RunLog.

    Raises UsageError, and Refused for what another run has; nothing was touched then."""
    from harness.conductor.recording.log import RunLog  # structlog imports greenlet, where there is one

    state_dir = active_dir() / owner
    locks = acquire(lock_names(locked, planned.running), owner=owner, folder=state_dir)
    exposition = None
    told: list[Say] = []
    try:
        if planned.experiment.metrics_port is not None:
            exposition = Exposition(planned.experiment.metrics_port, lambda text: told[0](text))
        run_dir = make()
    except BaseException:
        locks.release()
        if exposition is not None:
            exposition.close()
        raise
    stack = planned.stack
    if isinstance(stack, WritesLogs):
        stack = stack.logging_to(run_dir / "logs")
    with RunLog(run_dir, view) as log:
        told.append(log.say)
        for left in find_active():
            log.say(f"run {left.owner} ended without undoing everything; mend it with: harness heal {left.folder}")
        session = Session(
            run_dir=run_dir,
            state_dir=state_dir,
            stack=stack,
            running=planned.running,
            allowed=planned.allowed,
            say=log.say,
            locks=locks,
            exposition=exposition,
            spans=Spans.wanted(log.say),
        )
        try:
            yield session, log
        finally:
            for follower in (session.exposition, session.spans):
                if follower is not None:
                    follower.close()


class Session:
    """Owns everything that must be gone at the end, which `close` sees to.

    stack: what to bring up, or running: a stack that is already up and stays up. locks: held until the end.
    """

    def __init__(
        self,
        *,
        run_dir: Path,
        state_dir: Path,
        stack: Stack | None,
        running: StackUp | None,
        allowed: Sequence[str],
        say: Say,
        locks: Locks,
        exposition: Exposition | None = None,
        spans: Spans | None = None,
    ) -> None:
        self.exposition = exposition
        self.spans = spans
        self.run_dir = run_dir
        self._place = place_of(run_dir)
        self.state_dir = state_dir
        self._stack = stack
        self._running = running
        self._allowed = allowed
        self._say = say
        self._locks = locks
        self._remote_locks = RemoteLocks()
        self._sampler: Sampler | None = None
        self._alerts: AlertRecorder | None = None
        self.keeper: Keeper | None = None
        self.journal: Journal | None = None
        self.up: StackUp | None = None
        self.unverified: list[str] = []
        """Undos that could not be verified, sentences with how to mend it; they are in the history as well."""
        self.left: list[str] = []
        """What else is left at the end: servers, folders, locks."""
        self.turned_away: Refused | None = None
        """Another run has what this one needs: nothing was changed, and there is nothing to judge."""

    @property
    def run_dir_replaced(self) -> bool:
        """Something else than the folder that was made for this run has its name now."""
        return place_of(self.run_dir) not in (None, self._place)

    @property
    def owns_stack(self) -> bool:
        return self._running is None and self._stack is not None and self._stack.name != "external"

    def open(self, signals: Signals) -> StackUp | None:
        """Keeper, journal, stack: in this order. None when a signal came before the stack was up.

        Raises SetupError; close() cleans up either way.
        """
        self.keeper = Keeper.start(self.state_dir, locks=self._locks)
        self.journal = Journal.create(
            self.state_dir, owner=self.run_dir.name, run_dir=self.run_dir, allowed=tuple(self._allowed)
        )
        if self._running is not None:
            self.up = self._running
        else:
            assert self._stack is not None
            self.up = self._bring_up(self._stack, self.keeper, signals)
        return self.up

    def _bring_up(self, stack: Stack, keeper: Keeper, signals: Signals) -> StackUp | None:
        """Bring the stack up in a thread: a first set-up takes longer than the lease, which is renewed meanwhile."""
        answers: Inbox[StackUp | BaseException] = Inbox()

        def work() -> None:
            try:
                answers.put(stack.up(keeper, self._say))
            except BaseException as error:
                answers.put(error)

        thread = threading.Thread(target=work, name="stack-up", daemon=True)
        thread.start()
        stopping = False
        while True:
            keeper.renew()
            if not stopping and (signals.count or keeper.lost):
                stopping = True
                stack.down()
            try:
                answer = answers.get(timeout=POLL_S)
                break
            except queue.Empty:
                continue
        thread.join()
        if isinstance(answer, StackUp):
            return answer
        if stopping and signals.count:
            return None
        if stopping:
            raise SetupError(f"{keeper.why_lost} while the stack was starting")
        raise answer

    def lock_shared(self, plan: Plan, limited: Collection[str]) -> None:
        """Lock what other machines may use too, in a thread: it may take longer than the lease.

        limited: names of the dependencies whose PostgreSQL itself is changed. Raises Refused, SetupError.
        """
        if self.owns_stack or self.keeper is None:
            return
        keeper = self.keeper
        locks = wanted([fault.change.dependency for fault in plan.faults], limited)
        disables = sorted(
            {f.change.dependency.proxy.name or "" for f in plan.faults if "disables_proxy" in f.change.traits}
        )

        try:
            renewing(keeper, lambda: self._remote_locks.take(keeper, locks, self.run_dir.name, disables))
        except HarnessError as error:
            self.turned_away = error if isinstance(error, Refused) else None
            raise

    def start_sampler(self, t0: float, alerts: AlertsPlan | None) -> None:
        """And the recorder of alerts, where somebody is to look at them."""
        assert self.up is not None
        if alerts is not None:
            self._alerts = AlertRecorder(alerts, self._say, self._allowed)
            self._alerts.start(t0, self.run_dir / ALERTS)
        self._sampler = Sampler(say=self._say, allow_hosts=self._allowed)
        self._sampler.start(t0, self.up.target, self.up.dependencies, self.run_dir / "samples.jsonl")

    def unresolved(self, plan: Plan) -> Unresolved:
        """What its expected alerts are still waited for, from now on."""
        return Unresolved(self._alerts, plan.alerts.expected if plan.alerts is not None else (), self._say)

    def sample_into(self, t0: float, folder: Path) -> None:
        """From now on another experiment's samples.jsonl and alerts.jsonl."""
        if self._alerts is not None:
            self._alerts.turn_to(t0, folder / ALERTS)
        if self._sampler is not None:
            self._sampler.turn_to(t0, folder / "samples.jsonl")

    def alerts_now(self, expected: Collection[str]) -> dict[str, str]:
        """Alert -> state, of those that are looked at."""
        return self._alerts.standing(expected) if self._alerts is not None else {}

    def counters_now(self) -> dict[str, dict[str, float]]:
        """Of the newest sample: dependency -> counter -> value."""
        sample = self._sampler.latest() if self._sampler is not None else None
        return sample.counters if sample is not None else {}

    def restart_toxiproxy(self) -> bool:
        """Restart a wedged Toxiproxy that is ours; False where it is not."""
        if not self.owns_stack or self._stack is None or self.keeper is None:
            return False
        try:
            return self._stack.restart_toxiproxy(self.keeper)
        except HarnessError:
            return False

    def end(self, unverified: Sequence[str]) -> None:
        """Close, with what could not be undone. A folder in which nothing happened does not stay. Raises what turned
        the session away."""
        self._say("stopping the servers and the keeper" if self.owns_stack else "releasing the locks and the keeper")
        self.unverified = list(unverified)
        self.close()
        if self.turned_away is not None and not self.left:
            shutil.rmtree(self.run_dir, ignore_errors=True)
            raise self.turned_away

    def close(self) -> None:
        """Stop what records, the servers and the keeper, keep the journal with the run. Never raises."""
        for step in (
            self._stop_sampler,
            self._save_logs,
            self._finish_keeper,
            self._remote_locks.release,
            self._keep_records,
            self._locks.release,
        ):
            try:
                step()
            except (HarnessError, OSError) as error:
                hint = f" ({error.hint})" if isinstance(error, HarnessError) and error.hint else ""
                self.left.append(f"{error}{hint}")

    def _stop_sampler(self) -> None:
        for recorder in (self._sampler, self._alerts):
            if recorder is not None:
                renewing(self.keeper, recorder.stop)

    def _save_logs(self) -> None:
        """What containers have said goes with them, so it is fetched before."""
        stack: object = self._stack
        if self._running is None and isinstance(stack, SavesLogs):
            saver = stack
            renewing(self.keeper, lambda: saver.save_logs(self.run_dir / "logs"))

    def _finish_keeper(self) -> None:
        if self.journal is not None:
            self.journal.closed(self.unverified)
            self.journal.close()
        if self.keeper is not None:
            report = self.keeper.finish(stop_servers=True)
            self.left += [line for line in report.left if line not in self.unverified]

    def _keep_records(self) -> None:
        retire(self.state_dir, None if self.run_dir_replaced else self.run_dir)
