"""The command's own main function, in the test's process: for what is refused, where Python's start takes longest.

Whoever uses it keeps a case that is a real process.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path
from subprocess import CompletedProcess
from unittest.mock import patch

from harness.cli import main


def command(*args: str, cwd: Path) -> CompletedProcess[str]:
    """`harness ARGS` in that folder, which has its state too."""
    code: object = None
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(cwd),
        patch.dict(os.environ, XDG_STATE_HOME=str(cwd / "state")),
        patch.multiple(sys, argv=["harness", *args], stdout=None, stderr=None),
    ):
        out, err = Path(folder, "out"), Path(folder, "err")
        # Closed before the others are back: the streams that main puts in their place have the same files.
        with out.open("w") as sys.stdout, err.open("w") as sys.stderr:
            try:
                main()
            except SystemExit as ended:
                code = ended.code
        said = [path.read_text() for path in (out, err)]
    assert isinstance(code, int)
    return CompletedProcess(args, code, *said)
