"""An experiment file: the options of `run` under the same names, and a list of faults with their times.

    scenario: target                     every option of `run`, `-` written as `_`
    baseline: 30s
    faults:
      - kafka-latency:latency=500ms@10s+20s              the text of --fault
      - {fault: redis-down, at: 10s, for: 4s, repeat: {every: 8s, times: 3}}
      - random: {choose: [redis-down, db-latency], every: 20s, for: 5s, until: 120s}
    targets: ["fault: error_rate < 5%"]
    abort_if: ["error_rate > 50% for 10s"]

Every error names the file, the line and the path of the key, and says what would be right. docs/experiments.md is the
reference. Decoding is pure; what a value means (a scenario's name, a fault's parameters) is checked by the planner.
"""

from __future__ import annotations

from typing import Any

import msgspec

from harness.model.errors import UsageError
from harness.model.options import FLAG, Option
from harness.model.target_grammar import parse_targets
from harness.plan.experiment import OPTIONS
from harness.plan.files.fault_list import fault_list
from harness.plan.files.reader import Reader
from harness.plan.files.strict_yaml import Mapping, Node, Text, parse

KEYS = {option.key: option for option in OPTIONS.values() if not option.not_in_file}
_NOT_HERE = {
    **{
        name: f"{option.not_in_file}: {option.flag}"
        for option in OPTIONS.values()
        for name in (option.key, option.flag.lstrip("-").replace("-", "_"))
        if option.not_in_file
    },
    "out": "where run directories go is said on the command line: --out",
    "phases": "the lengths of phases stand at the top: warmup, baseline, fault_for, hold, ...",
    "load": "the options of the load stand at the top: scale, rate, users, model, ...",
}


class ExperimentFile(msgspec.Struct, frozen=True, kw_only=True):
    """What the file says. name: what errors call it. lines: the line of each key. values: by key, as the options have
    them, but that faults are entries."""

    name: str
    lines: dict[str, int]
    values: dict[str, Any]

    def where(self, key: str) -> str:
        """`chaos.yaml:3: baseline`"""
        return f"{self.name}:{self.lines[key]}: {key}"


def decode(content: bytes, name: str) -> ExperimentFile:
    """The experiment in a file's bytes. Raises UsageError naming file, line and key path."""
    root = parse(content, name)
    reader = Reader(name)
    if not isinstance(root, Mapping):
        raise reader.error(root, "", "not an experiment: the file is no mapping of keys", "write KEY: VALUE lines")
    root = underscored(root, reader)
    reader.only(root, "", KEYS, _NOT_HERE)
    values = {key: value(KEYS[key], node, reader) for key, node in root.values.items()}
    return ExperimentFile(name=name, lines=root.keys, values=values)


def underscored(root: Mapping, reader: Reader) -> Mapping:
    """Options may be written as on the command line (`fault-for`) or with underscores (`fault_for`), but only once."""
    values: dict[str, Node] = {}
    keys: dict[str, int] = {}
    for key, node in root.values.items():
        plain = key.replace("-", "_")
        if plain in values:
            raise UsageError(
                f"{reader.name}:{root.keys[key]}: {key}: is there twice, first in line {keys[plain]}",
                hint="keep one of them",
            )
        values[plain], keys[plain] = node, root.keys[key]
    return Mapping(values, keys, root.line)


def value(option: Option, node: Node, reader: Reader) -> Any:
    match option.field:
        case "faults":
            return fault_list(node, option.key, reader)
        case "targets":
            return targets(node, option.key, reader)
    if option.many:
        return reader.texts(node, option.key)
    return reader.flag(node, option.key) if option.unit is FLAG else reader.value(node, option.key, option.unit)


def targets(node: Node, path: str, reader: Reader) -> tuple[str, ...]:
    for number, item in enumerate(reader.items(node, path)):
        if isinstance(item, Mapping) and len(item.values) == 1:
            (phase, rest), *_ = item.values.items()
            value = rest.text if isinstance(rest, Text) else "..."
            raise reader.error(
                item, f"{path}[{number}]", "YAML takes this for a mapping", f'put it in quotes: "{phase}: {value}"'
            )
        text = reader.text(item, f"{path}[{number}]")
        try:
            parse_targets(text)
        except UsageError as error:
            raise reader.error(item, f"{path}[{number}]", str(error), error.hint) from None
    return reader.texts(node, path)
