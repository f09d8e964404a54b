"""Standard streams that may be closed, full, or read by nobody: none of this changes how a command ends. And what
others have written reaches no terminal as anything but text."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable
from typing import Any

import click


def open_standard_streams() -> None:
    """Give a process that was started with closed standard streams (`>&-`) the null device in their place.

    Otherwise the next file that is opened gets descriptor 1 or 2, and what a library prints lands in a journal.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free descriptor is taken, and all below are in use.
            os.open(os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY)
            os.set_inheritable(number, True)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - stands for the life of the process
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    from harness.report.terminal.plain import plain

    sys.stdout, sys.stderr = plain(sys.stdout), plain(sys.stderr)


def print_styled(text: str) -> None:
    """Print what has colours of ours in it; everything else in it was made visible before."""
    from harness.report.terminal.plain import styled

    click.echo(text, file=styled(sys.stdout))


def print_result(text: str, where: str) -> None:
    """Print a command's result on stdout, colours and all. When that fails the exit code still tells it; `where` has
    it on disk."""
    try:
        print_styled(text)
    except BrokenPipeError:
        pass  # `harness run ... | head`: nobody reads any more
    except OSError as error:
        try:
            click.echo(f"the result could not be printed ({error.strerror}); it is in {where}", err=True)
        except OSError:
            pass


def print_commands(lines: Iterable[str]) -> None:
    """Print commands of ours to the runner of a CI job, on stderr: stdout may be somebody's JSON. A line of anybody
    else's that looks like one is spelt out by the stream; what is in these was made safe before."""
    from harness.report.terminal.plain import styled

    with contextlib.suppress(OSError):
        for line in lines:
            click.echo(line, file=styled(sys.stderr))


def let_go_of_output() -> None:
    """Write out what is left, and give up what cannot be written: the interpreter's own try at its end would turn
    any exit code into 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def view_of(values: dict[str, Any]) -> str:
    """Which view people get on stderr: live on a terminal, lines elsewhere, none when quiet."""
    if values["quiet"]:
        return "none"
    if values["no_live"] or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb" or os.environ.get("CI"):
        return "lines"
    return "live"
