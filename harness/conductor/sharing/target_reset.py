"""The target is brought back between two experiments, because it did not come back by itself."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from harness.adapters.keeper.starter import serving, start
from harness.adapters.processes.start_command import reset_command
from harness.conductor.signals import Signals
from harness.fault import Fault
from harness.model.clock import monotonic
from harness.model.errors import HarnessError
from harness.model.records.faults import Dependency
from harness.safety.healing.undo import undo_record
from harness.safety.journal.journal import Journal

RESTART = "restart"
GRACE_S = 2.0
"""It hangs, as like as not."""
COMMAND_LIMIT_S = 120.0
POLL_S = 0.05


def reset_target(
    dependencies: Sequence[Dependency],
    faults: Mapping[str, Fault],
    journal: Journal,
    record_id: str,
    say: Callable[[str], None],
) -> str:
    """What was done, for people. Raises HarnessError where it cannot be started again; one that was stopped is undone
    by whoever heals then, for its record is in the journal."""
    target = next((one for one in dependencies if one.target), None)
    if target is None or RESTART not in faults:
        raise HarnessError("nothing is known of how the target is started")
    if target.runtime == "process" and serving(target) is None:
        start(target)
        return f"{target.name} had ended and was started again"
    restart = faults[RESTART]
    record = restart.capture(restart.plan(target, {"grace": GRACE_S}), record_id)
    journal.record(record)
    journal.intent(record.id, "inject")
    try:
        restart.inject(record)
    except HarnessError as error:
        say(f"{target.name} did not restart at once: {error}")
    # It sees to it that it runs again, whatever became of the restart.
    journal.intent(record.id, "undo")
    outcome = undo_record(record, say=say)
    journal.undone(outcome)
    if outcome.state == "unverified":
        raise HarnessError(f"{target.name} was stopped and did not come back: {outcome.left or ''}")
    return f"{target.name} was restarted"


def reset_by_command(config: str, sha256: str, log: Path, signals: Signals) -> str:
    """Run the command that a harness.toml declares, its output into `log`, until it has ended. What was done, for
    people. Raises HarnessError where it is not run, fails, takes over COMMAND_LIMIT_S or is interrupted."""
    command = reset_command(config, sha256)
    shown = shlex.join(command.argv)
    env = {name: value for name, value in os.environ.items() if not name.startswith("RESILIENCE_HARNESS_")}
    with log.open("ab") as out:
        try:
            process = subprocess.Popen(
                command.argv,
                cwd=command.cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        except OSError as error:
            raise HarnessError(f"`{shown}` could not be run: {error.strerror or error}") from error
        until = monotonic() + COMMAND_LIMIT_S
        while process.poll() is None and monotonic() < until and not signals.count:
            time.sleep(POLL_S)
        if process.poll() is None:
            # It has a session of its own, so that all that it started goes with it.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            why = "was interrupted" if signals.count else f"did not end within {COMMAND_LIMIT_S:.0f} s"
            raise HarnessError(f"`{shown}` {why}")
    if process.returncode:
        raise HarnessError(f"`{shown}` ended with exit code {process.returncode}; see logs/{log.name}")
    return f"`{shown}` was run"
