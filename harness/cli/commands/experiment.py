"""`run EXPERIMENT.yaml`: the file's settings laid under the options that were typed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from harness.cli.settings import PATHS, from_file
from harness.model.errors import UsageError
from harness.model.files import read_limited
from harness.plan.experiment_file import ExperimentFile, decode
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


def with_file(values: dict[str, Any]) -> dict[str, Any]:
    """The values of `run` and `plan`, with what the experiment file says that they name, if they do."""
    path = values["experiment"]
    return values if path is None else laid_under(values, read(path), click.get_current_context())


def laid_under(values: dict[str, Any], file: ExperimentFile, context: click.Context) -> dict[str, Any]:
    """The options with the file's settings where nothing was typed on the command line.

    So the file stands above harness.toml and the environment. Faults and abort conditions that were typed replace the
    file's; its targets are a layer below those that were typed. Raises UsageError when nobody names a fault.
    """
    typed = {name for name in values if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    # --host and --stack choose the same thing: what was typed of either hides both of the file's.
    hidden = typed | ({"host", "stack"} if typed & {"host", "stack"} else set())
    found = dict(values)
    if "faults" not in typed and "faults" not in file.values:
        raise UsageError(f"{file.name}: `faults` is missing", hint="for a control run write: faults: [none]")
    for key, value in file.values.items():
        if key == "targets":
            found["target_layers"] = (*values.get("target_layers", ()), value)
        elif key not in hidden:
            from_file(context, key, file.where(key))
            if key == "faults":
                found["faults"], found["timeline"] = (), value
            else:
                found[key] = str(Path(file.name).parent / value) if key in PATHS else value
    return found
