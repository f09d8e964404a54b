"""The command's own main function, in the test's process: for what is refused, where Python's start takes longest.

Whoever uses it keeps a case that is a real process.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import tempfile
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any
from unittest.mock import patch

from harness.cli import main
from harness.load.process.launcher import describe
from harness.model.records.load import Locustfile

_BUILT_IN = Path(__file__).resolve().parents[2] / "locustfiles"


@functools.cache
def _described(path: str, how: tuple[tuple[str, Any], ...]) -> Locustfile:
    return describe(path, **dict(how))


def described(path: str | Path, **how: Any) -> Locustfile:
    """What is in the project's own Locust files does not change: a process looks into them once, not for every plan."""
    if Path(path).parent == _BUILT_IN:
        return _described(str(path), tuple(how.items()))
    return describe(path, **how)


def command(*args: str, cwd: Path) -> CompletedProcess[str]:
    """`harness ARGS` in that folder, which has its state too."""
    code: object = None
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(cwd),
        patch.dict(os.environ, XDG_STATE_HOME=str(cwd / "state")),
        patch("harness.conductor.prepare.describe", described),
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
