"""The end of a run: judge from the recorded files, write the result and every report.

No failing write stops another: each is tried, and what failed is told.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from harness.analysis.record.windows import WindowStore
from harness.analysis.run_directory import Run, analyze, load_run, write_result
from harness.analysis.verdict.judge import judge
from harness.conductor.recording.history import History
from harness.conductor.session import Session
from harness.model.errors import HarnessError
from harness.model.exit_codes import ExitCode
from harness.model.files import replace_file
from harness.model.records.plan import Plan
from harness.model.records.result import Result

Say = Callable[[str], None]


def judge_and_write(
    plan: Plan,
    session: Session,
    history: History,
    *,
    problem: HarnessError | None,
    interrupted: bool,
    say: Say,
) -> Result:
    """The result of a run, also written to its directory with the reports."""
    run_dir = session.run_dir
    if session.run_dir_replaced:
        # By somebody who may write to the folder that it lies in: he may have left records there as he wants them.
        result = judge(plan, history.events, WindowStore(plan), [])
        result = _with_ending(result, session, problem, interrupted, history)
        gone = f"{run_dir} is another folder now than the run made: what lies there is not its record, and is not read"
        return msgspec.structs.replace(result, reasons=(gone, *result.reasons))
    result = _judge(plan, run_dir, history, say)
    result = _with_ending(result, session, problem, interrupted, history)
    try:
        write_result(run_dir, result)
    except OSError as error:
        say(f"result.json could not be written: {error.strerror}")
    write_reports(run_dir, say)
    return result


def _judge(plan: Plan, run_dir: Path, history: History, say: Say) -> Result:
    try:
        if history.complete:
            return analyze(run_dir)
        # The file lacks what could not be written (a full disk), an undo perhaps: memory has it.
        run = load_run(run_dir)
        return judge(plan, history.events, run.store, run.samples, run.alerts)
    except (HarnessError, OSError, ValueError) as error:
        # The files are gone or incomplete (disk full, folder deleted): what is in memory still tells the story.
        if history.events:
            say(f"the run directory cannot be read back: {error}")
        return judge(plan, history.events, WindowStore(plan), [])


def _with_ending(
    result: Result, session: Session, problem: HarnessError | None, interrupted: bool, history: History
) -> Result:
    """Add what the files cannot know: a set-up that failed, and what the end left behind."""
    reasons = list(result.reasons)
    code = result.exit_code
    if problem is not None:
        reasons.insert(0, "; ".join(line.strip() for line in str(problem).splitlines()))
        code = int(problem.exit_code) if not interrupted and code != ExitCode.UNDO_UNVERIFIED else code
    if interrupted and code != ExitCode.UNDO_UNVERIFIED:
        code = int(ExitCode.INTERRUPTED)
        if not history.events:
            reasons.insert(0, "The run was interrupted in set-up.")
    if not history.complete:
        reasons.append("the history could not be written completely")
        code = code if code != ExitCode.PASS else int(ExitCode.INCONCLUSIVE)
    if session.left:
        reasons = list(dict.fromkeys([*session.left, *reasons]))
        code = int(ExitCode.UNDO_UNVERIFIED)
    verdict = result.verdict
    if code in (ExitCode.HARNESS_FAILED, ExitCode.INTERRUPTED, ExitCode.USAGE) or (
        not history.complete and verdict == "pass"
    ):
        verdict = "inconclusive"
    return msgspec.structs.replace(result, reasons=tuple(reasons), exit_code=code, verdict=verdict)


def import_reports() -> threading.Thread:
    """Import what the reports need, in a thread of its own, while the run waits for something else.

    Measured on a busy machine: without it half of the time between Ctrl-C and the end of the process was imports.
    What cannot be imported is told where it is needed.
    """
    from harness.report import files

    def work() -> None:
        with suppress(Exception):
            files.import_all()

    thread = threading.Thread(target=work, name="import-reports", daemon=True)
    thread.start()
    return thread


def write_reports(run_dir: Path, say: Say, run: Run | None = None) -> None:
    """report.html, report.md and junit.xml from the files of a run directory that has a result.json. run: its record,
    where that was read already."""
    from harness.report.files import FORMATS, rendered

    for format_, name in FORMATS.items():
        if format_ == "json":
            continue
        try:
            replace_file(run_dir / name, rendered(run_dir, format_, run).encode("utf-8", "backslashreplace"))
        except Exception as error:  # a bug in one report must neither take the others nor the verdict's exit code
            bug = "" if isinstance(error, (HarnessError, OSError, ValueError)) else f"{type(error).__name__}: "
            say(f"{name} could not be written: {bug}{error}")
