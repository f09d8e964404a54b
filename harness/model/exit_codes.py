"""Every exit code of the command line, in one place."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    PASS = 0
    FAIL = 1
    USAGE = 2
    INCONCLUSIVE = 3
    HARNESS_FAILED = 4
    UNDO_UNVERIFIED = 5
    INTERRUPTED = 130


MEANINGS: dict[ExitCode, str] = {
    ExitCode.PASS: "PASS: every primary target held",
    ExitCode.FAIL: "FAIL: a primary target was broken, or recovery did not come in time",
    ExitCode.USAGE: "usage or configuration error; nothing was touched",
    ExitCode.INCONCLUSIVE: "INCONCLUSIVE: the run cannot decide; the reasons say why",
    ExitCode.HARNESS_FAILED: "the harness or its stack failed and nothing could be judged",
    ExitCode.UNDO_UNVERIFIED: "an undo could not be verified; the output says what is left and how to mend it",
    ExitCode.INTERRUPTED: "interrupted; everything was undone and verified",
}
