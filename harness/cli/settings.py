"""Where a setting comes from: built-in default, harness.toml, environment, command line, in rising order.

Click does the layering: [run] of harness.toml becomes the context's default map, HARNESS_* are the options' variables.
What this adds: the file is found and read before any other option is looked at, and an error names the origin.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from harness.model.errors import UsageError
from harness.model.options import HOST, PATH, Unit
from harness.plan.experiment import OPTIONS

if TYPE_CHECKING:
    from harness.config.file import Configuration, RunValue

F = TypeVar("F", bound=Callable[..., Any])

ELSEWHERE = {
    **{option.flag.lstrip("-"): option.not_in_toml for option in OPTIONS.values() if option.not_in_toml},
    "config": "a file cannot name another one",
}
"""Options that [run] does not take, and where the same is said in the file."""

PATHS = ("out", *(option.key for option in OPTIONS.values() if option.unit is PATH))
"""Relative to the file, as every path in it."""

EVERYWHERE = {"stack": "chosen", "allow_hosts": "allow_hosts"}
"""What of [run] the commands of `harness stack` use too, and their parameters' names."""

_RANK = (ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP, ParameterSource.ENVIRONMENT, ParameterSource.COMMANDLINE)
_META = "harness.config"
_LINES = "harness.lines"


class Written(click.ParamType[Any]):
    """A value as its unit is written. An error names where the text is from."""

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        self.name = unit.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self.unit.parse(value)
        except UsageError as error:
            assert param is not None and ctx is not None
            raise UsageError(f"{origin_of(param, ctx) or param.opts[0]}: {error}", hint=error.hint) from error


class Setting(click.Option):
    """An option whose errors name harness.toml or the variable where its value is from there, a flag's too."""

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        try:
            return super().process_value(ctx, value)
        except click.BadParameter as error:
            if (origin := origin_of(self, ctx)) is None:
                raise
            raise UsageError(f"{origin}: {error.message.rstrip('.')}") from error


class RunGroup(click.Group):
    """What follows its name is a subcommand's name, or is meant for its `run`; a file that is called like a subcommand
    is written ./NAME."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        known = args[:1] and args[0] in self.commands
        return super().parse_args(ctx, args if known else ["run", *args])


class Told(click.Command):
    """A command whose errors about an option's value say where it is from."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UsageError as error:
            if error.field not in OPTIONS:
                raise
            raise type(error)(told(error, ctx), hint=error.hint) from error


def told(error: UsageError, ctx: click.Context) -> str:
    """The message, with where the value that it is about is from."""
    if (option := OPTIONS.get(error.field or "")) is None:
        return str(error)
    line = ctx.meta.get(_LINES, {}).get(option.key)
    if line is not None:
        return f"{line}: {error.message}"
    params = (param for param in ctx.command.params if option.flag in param.opts)
    origin = next((found for param in params if (found := origin_of(param, ctx)) is not None), None)
    if origin is not None:
        return f"{origin}{error.lead or ': '}{error.message}"
    return f"{option.flag}{error.lead}{error.message}" if error.lead else error.message


def from_file(ctx: click.Context, key: str, where: str) -> None:
    """A value is from an experiment file. where: its line, for errors."""
    ctx.meta.setdefault(_LINES, {})[key] = where
    # As if it had been typed: it outranks what harness.toml and the environment say.
    ctx.set_parameter_source(key, ParameterSource.COMMANDLINE)


debug_option = click.option("--debug", is_flag=True, expose_value=False, help="Tracebacks.")
"""Looked for in the words that were typed, wherever an error is told."""


def laid_under(
    values: dict[str, Any], settings: Mapping[str, Any], file: str, where: Callable[[str], str]
) -> dict[str, Any]:
    """The options with the settings of an experiment or suite file where nothing was typed on the command line.

    So the file stands above harness.toml and the environment. Faults and abort conditions that were typed replace the
    file's; its targets are a layer below those that were typed. file: its name. where: the line of a key.
    """
    context = click.get_current_context()
    typed = {name for name in values if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    # --host and --stack choose the same thing: what was typed of either hides both of the file's.
    hidden = typed | ({"host", "stack"} if typed & {"host", "stack"} else set())
    found = dict(values)
    for key, value in settings.items():
        if key == "targets":
            found["target_layers"] = (*values.get("target_layers", ()), value)
        elif key not in hidden:
            from_file(context, key, where(key))
            if key == "faults":
                found["faults"], found["timeline"] = (), value
            else:
                found[key] = _beside(Path(file).parent, key, value) if key in PATHS else value
    return found


def allow_host_option(help_text: str, envvar: str | None = None) -> Callable[[F], F]:
    return click.option(
        "--allow-host",
        "allow_hosts",
        multiple=True,
        type=Written(HOST),
        metavar="HOST",
        envvar=envvar,
        help=help_text,
    )


def config_option(command: F) -> F:
    """`--config FILE`: its value is a Configuration, or None where there is no harness.toml."""
    return click.option(
        "--config",
        metavar="FILE",
        envvar="HARNESS_CONFIG",
        is_eager=True,
        callback=_read,
        help="Your system and your defaults.  [default: harness.toml in the current directory, if there is one]",
    )(command)


def _read(ctx: click.Context, param: click.Parameter, value: str | None) -> Configuration | None:
    if ctx.resilient_parsing:
        return None
    from harness.config.load import chosen
    from harness.dependencies.configuration import load

    path = chosen(value)
    if path is None:
        return None
    found = load(path)
    ctx.meta[_META] = found
    ctx.default_map = {**(ctx.default_map or {}), **_defaults(found, ctx)}
    return found


def _defaults(config: Configuration, ctx: click.Context) -> dict[str, Any]:
    """[run] by parameter name, for this command. Raises UsageError for a key that `run` does not have."""
    from harness.model.errors import unknown

    where = f"{config.shown}: run."
    root, command = ctx.find_root().command, ctx.command
    run = root.get_command(ctx, "run") if isinstance(root, click.Group) else None
    run_params = command.params if run is None else run.params
    options = {option.lstrip("-"): param for param in run_params for option in param.opts if option.startswith("--")}
    mine = {param.name for param in command.params}
    known = sorted(set(options) - set(ELSEWHERE) - {"debug"})
    found: dict[str, Any] = {}
    for key, value in config.run.items():
        if key in ELSEWHERE:
            raise UsageError(f"{where}{key} is not set here", hint=ELSEWHERE[key])
        if key not in known:
            raise unknown("option", key, known, where=where.removesuffix(".") + ": ")
        param = options[key]
        assert isinstance(param, click.Option) and param.name is not None
        checked = _shaped(value, param, f"{where}{key}")
        if key in PATHS and Path(config.path).parent != Path.cwd():
            checked = _beside(Path(config.path).parent, key, str(checked))
        if command.name in ("run", "plan", "doctor") and param.name in mine:
            found[param.name] = checked
        elif param.name in EVERYWHERE:
            found[EVERYWHERE[param.name]] = checked
    return found


def _beside(folder: Path, key: str, value: str) -> str:
    """A path in a file is relative to its folder; of several with commas every one."""
    return str(folder / value) if key == "out" else ",".join(str(folder / part.strip()) for part in value.split(","))


def _shaped(value: RunValue, param: click.Option, where: str) -> Any:
    """A value as the command line would give it: texts, so that one set of rules reads both."""
    if param.is_flag:
        if not isinstance(value, bool):
            raise UsageError(f"{where}: true or false is wanted, not {value!r}")
        return value
    if isinstance(value, bool):
        raise UsageError(f"{where}: {param.opts[0]} takes a value, not true or false")
    if param.multiple:
        return value if isinstance(value, tuple) else (str(value),)
    if isinstance(value, tuple):
        raise UsageError(f"{where}: {param.opts[0]} takes one value, not a list")
    return format(Decimal(str(value)), "f") if isinstance(value, float) and math.isfinite(value) else str(value)


def origin_of(param: click.Parameter, ctx: click.Context) -> str | None:
    """The file and key path, or the variable, that gave a parameter its value; None for the command line itself."""
    match ctx.get_parameter_source(param.name or ""):
        case ParameterSource.DEFAULT_MAP if (config := ctx.meta.get(_META)) is not None:
            return f"{config.shown}: run.{param.opts[0].lstrip('-')}"
        case ParameterSource.ENVIRONMENT:
            return param.envvar if isinstance(param.envvar, str) else None
        case _:
            return None


def rank(name: str) -> int:
    """How much the source of a parameter weighs: 3 command line, 2 environment, 1 harness.toml, 0 none of them."""
    ctx = click.get_current_context(silent=True)
    source = ctx.get_parameter_source(name) if ctx is not None else None
    return _RANK.index(source) if source in _RANK else 3
