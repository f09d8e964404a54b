"""`run EXPERIMENT.yaml`: the file's settings laid under the options that were typed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from harness.cli.settings import laid_under
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
    """The values of `run` and `plan`, with what the experiment file says that they name, if they do. Raises UsageError
    when nobody names a fault."""
    path = values["experiment"]
    if path is None:
        return values
    file = read(path)
    typed = click.get_current_context().get_parameter_source("faults") is ParameterSource.COMMANDLINE
    if not typed and "faults" not in file.values:
        raise UsageError(f"{file.name}: `faults` is missing", hint="for a control run write: faults: [none]")
    return laid_under(values, file.values, file.name, file.where)
