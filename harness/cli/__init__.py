"""The command line. Here: options, harness.toml as defaults, the plan that `run` and `plan` make, streams.

Nobody imports it. A command is imported when it runs, so that help is quick.
"""

from __future__ import annotations

import contextlib
import sys
from importlib import import_module

import click

from harness.model.exit_codes import MEANINGS, ExitCode

COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("harness.cli.commands.run", "Run an experiment: load, faults, verdict, report."),
    "plan": ("harness.cli.commands.plan", "Show what `run` would do: only the Locust file is executed."),
    "doctor": ("harness.cli.commands.doctor", "Would a run on your own system mean something, and if not, why not?"),
    "faults": ("harness.cli.commands.catalogue", "The faults: what they do, parameters, undo, proof."),
    "scenarios": ("harness.cli.commands.catalogue", "The load shapes and their sizes."),
    "analyze": ("harness.cli.commands.analyze", "Judge a run again from its recorded files."),
    "report": ("harness.cli.commands.report", "Render a run's report: html, md, json or junit."),
    "check": ("harness.cli.commands.check", "Gate: TARGET ASSESSMENT of a run or of Locust's stats.csv."),
    "suite": ("harness.cli.commands.many_runs.suite", "Run many experiments in one session; accept its outcomes."),
    "gameday": ("harness.cli.commands.many_runs.gameday", "Drill with people, on one running load; leave a record."),
    "history": ("harness.cli.commands.many_runs.history", "Runs and suites over time; trends; dropping raw records."),
    "compare": ("harness.cli.commands.many_runs.compare", "Is NEW worse than BASE? Two runs, or two groups of them."),
    "heal": ("harness.cli.commands.heal", "Undo what an interrupted run left behind."),
    "init": ("harness.cli.commands.init", "Write or print a harness.toml to begin with, and what goes with it."),
    "stack": ("harness.cli.commands.stack", "Keep the embedded servers up between runs."),
    "alerts": ("harness.cli.commands.alerts", "Be an Alertmanager's webhook receiver, and print what it tells."),
    "worker": ("harness.cli.commands.worker", "A load worker on another machine."),
}

EXIT_CODES = "\b\nExit codes:\n" + "\n".join(f"  {code.value:>3}  {text}" for code, text in MEANINGS.items())


class LazyGroup(click.Group):
    """Lists commands without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = getattr(import_module(COMMANDS[cmd_name][0]), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from harness.model.errors import unknown

            raise unknown("command", args[0], COMMANDS)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def _version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from harness import __version__

        click.echo(f"harness {__version__}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Show the version.")
def cli() -> None:
    """Load-test a service while its dependencies fail, and say from the request data whether the targets held and
    how long recovery took.

    \b
    harness run --fault redis-down --scenario target
    """


def main() -> None:
    """Entry point of the `harness` command: every error is one or two lines, never a traceback without --debug."""
    from harness.cli.streams import let_go_of_output, open_standard_streams
    from harness.model.errors import HarnessError

    open_standard_streams()
    try:
        code = cli(standalone_mode=False)
    except HarnessError as error:
        _traceback_if_asked(error)
        complain(str(error), error.hint)
        code = int(error.exit_code)
    except click.exceptions.Exit as done:
        code = done.exit_code
    except click.exceptions.Abort:
        code = 130
    except click.ClickException as error:
        complain(error.format_message(), None)
        code = error.exit_code
    except BrokenPipeError:
        # `harness ... | head`: nobody reads any more, and that is no error of ours.
        code = 0
    except Exception as error:
        # Python's own exit code for it is 1, and a pipeline would take a bug of ours for a FAIL.
        _traceback_if_asked(error)
        complain(*_in_words(error))
        code = int(ExitCode.HARNESS_FAILED)
    let_go_of_output()
    sys.exit(code if isinstance(code, int) else 0)


def _in_words(error: Exception) -> tuple[str, str | None]:
    """What went wrong, and what to do: "unexpected" and "bug" are for bugs, and a full disk is none."""
    if isinstance(error, OSError) and error.errno is not None:
        where = ": ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
        return f"{where}{': ' if where else ''}{error.strerror or error}", None
    if isinstance(error, MemoryError):
        return "there is not enough memory for this", None
    if isinstance(error, UnicodeError):
        return f"text that is none: {error}", None
    return f"unexpected {type(error).__name__}: {error}", "a bug; --debug shows where"


def _traceback_if_asked(error: Exception) -> None:
    """--debug shows more; the exit code is the same as without."""
    if "--debug" in sys.argv:
        import traceback

        with contextlib.suppress(OSError):
            click.echo("".join(traceback.format_exception(error)), err=True, nl=False)


def complain(message: str, hint: str | None) -> None:
    """One or two lines on stderr; a closed stderr is no reason to fail differently."""
    from harness.model.redact import redact
    from harness.report.sentences.text import visible

    def shown(text: str) -> str:
        # What a server said may stand in it, or a URL with a password in it that somebody typed.
        return "\n       ".join(visible(line, 4000) for line in redact(text).splitlines())

    try:
        click.echo(f"error: {shown(message)}", err=True)
        if hint:
            click.echo(f"       {shown(hint)}", err=True)
    except OSError:
        pass
