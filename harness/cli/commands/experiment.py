"""`run EXPERIMENT.yaml`: the file's settings laid under the options that were typed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from harness.model.errors import UsageError
from harness.model.files import read_limited
from harness.plan.files.experiment_file import ExperimentFile, decode
from harness.plan.files.strict_yaml import MAX_BYTES


def read(path: str) -> ExperimentFile:
    """Raises UsageError for a file that cannot be read, and for anything in it that is not right."""
    file = Path(path)
    try:
        content = read_limited(file, MAX_BYTES)
    except FileNotFoundError:
        hint = f"did you mean --fault {path}?" if re.fullmatch(r"[\w-]+-[\w-]+(:\S+)?", path) else None
        raise UsageError(f"{path}: no such file", hint=hint) from None
    return decode(content, path)


def with_file(values: dict[str, Any]) -> tuple[dict[str, Any], ExperimentFile | None]:
    """The values of `run` and `plan`, and the experiment file they name, if they do."""
    path = values["experiment"]
    if path is None:
        return values, None
    file = read(path)
    return laid_under(values, file, click.get_current_context()), file


def laid_under(values: dict[str, Any], file: ExperimentFile, context: click.Context) -> dict[str, Any]:
    """The options with the file's settings where nothing was typed on the command line.

    So the file stands above harness.toml and the environment. Faults and abort conditions that were typed replace the
    file's; its targets are a layer below those that were typed. Raises UsageError when nobody names a fault.
    """

    typed = {name for name in values if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    found = dict(values)
    for key in file.lines:
        if key in ("faults", "targets") or key in typed:
            continue
        # --host and --stack choose the same thing: what was typed of either hides both of the file's.
        if (key == "stack" and "host" in typed) or (key == "host" and "stack" in typed):
            continue
        found[key] = getattr(file, key)
        # Told as if it had been typed: it outranks what harness.toml and the environment say.
        context.set_parameter_source(key, ParameterSource.COMMANDLINE)
    if "locustfile" in file.lines and "locustfile" not in typed:
        found["locustfile"] = str(Path(file.name).parent / str(file.locustfile))
    if "faults" not in typed:
        if file.faults is None:
            raise UsageError(f"{file.name}: `faults` is missing", hint="for a control run write: faults: [none]")
        found["faults"], found["timeline"] = (), file.faults
    if file.targets is not None:
        found["target_layers"] = (*values.get("target_layers", ()), file.targets)
    return found


@contextmanager
def told_of(file: ExperimentFile | None) -> Iterator[None]:
    """An error about an option whose value came from the file names the file, the line and the key instead."""
    try:
        yield
    except UsageError as error:
        where = None if file is None else _where(str(error), file)
        if where is None:
            raise
        raise type(error)(where, hint=error.hint) from error


def _where(message: str, file: ExperimentFile) -> str | None:
    option = re.match(r"--([a-z-]+) ?", message)
    if option is not None and option[1].replace("-", "_") in file.lines:
        return f"{file.where(option[1].replace('-', '_'))}: {message[option.end() :]}"
    for key, words in (("scenario", "unknown scenario"), ("scenario", "scenario "), ("abort_if", "abort condition")):
        if message.startswith(words) and key in file.lines:
            return f"{file.where(key)}: {message}"
    return None
