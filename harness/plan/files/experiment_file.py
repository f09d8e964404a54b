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

from collections.abc import Callable, Collection
from typing import TypeVar, get_args

import msgspec

from harness.model.errors import UsageError
from harness.model.records.load import Arrivals, Model
from harness.model.records.stack import StackName
from harness.model.target_grammar import parse_targets
from harness.plan.files.entries import Entry, FaultEntry, RandomFaults, Repeat
from harness.plan.files.reader import Reader
from harness.plan.files.strict_yaml import Mapping, Node, Text, parse

T = TypeVar("T")

STACKS: tuple[StackName, ...] = ("embedded", "compose", "external")
MAX_TIMES = 1_000_000
"""Only against absurd numbers: the planner says how many injections one run may have."""


class ExperimentFile(msgspec.Struct, frozen=True, kw_only=True):
    """What the file says; None = it does not say. Durations in seconds, names as the options of `run`.

    name: what errors call the file. lines: the line of each key it has.
    """

    name: str
    lines: dict[str, int]
    faults: tuple[Entry, ...] | None = None
    targets: tuple[str, ...] | None = None
    abort_if: tuple[str, ...] | None = None
    scenario: str | None = None
    stack: StackName | None = None
    host: str | None = None
    locustfile: str | None = None
    user_classes: tuple[str, ...] | None = None
    scale: float | None = None
    rate: float | None = None
    users: int | None = None
    spawn_rate: float | None = None
    run_time: float | None = None
    model: Model | None = None
    arrivals: Arrivals | None = None
    max_in_flight: int | None = None
    request_timeout: float | None = None
    warmup: float | None = None
    baseline: float | None = None
    fault_for: float | None = None
    recovery_limit: float | None = None
    hold: float | None = None
    soak: float | None = None
    no_extend: bool | None = None
    extend_fault: bool | None = None
    strict: bool | None = None
    seed: int | None = None
    workers: int | None = None

    def where(self, key: str) -> str:
        """`chaos.yaml:3: baseline`"""
        return f"{self.name}:{self.lines[key]}: {key}"


_NOT_HERE = {
    "allow_hosts": "leave to reach a host is given by --allow-host on the command line, never by the file itself",
    "allow_host": "leave to reach a host is given by --allow-host on the command line, never by the file itself",
    "out": "where run directories go is said on the command line: --out",
    "remote_workers": "where workers are is said on the command line: --remote-workers",
    "master_bind_host": "where to listen is said on the command line: --master-bind-host",
    "phases": "the lengths of phases stand at the top: warmup, baseline, fault_for, hold, ...",
    "load": "the options of the load stand at the top: scale, rate, users, model, ...",
}


def decode(content: bytes, name: str) -> ExperimentFile:
    """The experiment in a file's bytes. Raises UsageError naming file, line and key path."""
    root = parse(content, name)
    reader = Reader(name)
    if not isinstance(root, Mapping):
        raise reader.error(root, "", "not an experiment: the file is no mapping of keys", "write KEY: VALUE lines")
    root = _underscored(root, reader)
    known = [field for field in ExperimentFile.__struct_fields__ if field not in ("name", "lines")]
    reader.only(root, "", known, _NOT_HERE)
    return _decode(root, reader, name)


def _underscored(root: Mapping, reader: Reader) -> Mapping:
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


def _decode(root: Mapping, reader: Reader, name: str) -> ExperimentFile:
    def read(key: str, how: Callable[[Node, str], T]) -> T | None:
        return how(root.values[key], key) if key in root.values else None

    def whole(low: int, high: int) -> Callable[[Node, str], int]:
        return lambda node, path: reader.count(node, path, low=low, high=high)

    return ExperimentFile(
        name=name,
        lines=root.keys,
        faults=read("faults", lambda node, path: _faults(node, path, reader)),
        targets=read("targets", lambda node, path: _targets(node, path, reader)),
        abort_if=read("abort_if", reader.texts),
        scenario=read("scenario", reader.text),
        stack=read("stack", lambda node, path: reader.choice(node, path, STACKS)),
        host=read("host", reader.text),
        locustfile=read("locustfile", reader.text),
        user_classes=read("user_classes", reader.texts),
        scale=read("scale", reader.number),
        rate=read("rate", reader.number),
        users=read("users", whole(1, 1_000_000)),
        spawn_rate=read("spawn_rate", reader.number),
        run_time=read("run_time", reader.duration),
        model=read("model", lambda node, path: reader.choice(node, path, get_args(Model))),
        arrivals=read("arrivals", lambda node, path: reader.choice(node, path, get_args(Arrivals))),
        max_in_flight=read("max_in_flight", whole(1, 100_000)),
        request_timeout=read("request_timeout", reader.duration),
        warmup=read("warmup", reader.duration),
        baseline=read("baseline", reader.duration),
        fault_for=read("fault_for", reader.duration),
        recovery_limit=read("recovery_limit", reader.duration),
        hold=read("hold", reader.duration),
        soak=read("soak", reader.duration),
        no_extend=read("no_extend", reader.flag),
        extend_fault=read("extend_fault", reader.flag),
        strict=read("strict", reader.flag),
        seed=read("seed", whole(0, 2**63 - 1)),
        workers=read("workers", whole(1, 256)),
    )


def _targets(node: Node, path: str, reader: Reader) -> tuple[str, ...]:
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


def _faults(node: Node, path: str, reader: Reader) -> tuple[Entry, ...]:
    items = reader.items(node, path)
    if not items:
        raise reader.error(node, path, "the list is empty", "for a control run write: faults: [none]")
    return tuple(_entry(item, f"{path}[{number}]", reader) for number, item in enumerate(items))


def _entry(node: Node, path: str, reader: Reader) -> Entry:
    where = f"{reader.name}:{node.line}: {path}"
    if isinstance(node, Text):
        return FaultEntry(where=where, fault=reader.text(node, path))
    if not isinstance(node, Mapping):
        raise reader.error(node, path, "a list, not a fault", "write one fault an entry")
    if "random" in node.values:
        reader.only(node, path, ["random"], {})
        return _random(node.values["random"], f"{path}.random", reader)
    if "fault" not in node.values:
        single = next(iter(node.values), "")
        if len(node.values) == 1 and "-" in single:
            value = node.values[single]
            rest = value.text if isinstance(value, Text) else "..."
            raise reader.error(
                node,
                path,
                "YAML takes this for a mapping",
                f"write it without a space after the colon: {single}:{rest}",
            )
        raise reader.error(node, path, "`fault` is missing", "write fault: DEPENDENCY-KIND, or random: {...}")
    return _mapped(node, path, reader)


def _mapped(node: Mapping, path: str, reader: Reader) -> FaultEntry:
    values = node.values
    fault = reader.text(values["fault"], f"{path}.fault")
    for sign, key in ((":", "the parameters as keys"), ("@", "`at`"), ("+", "`for`")):
        if sign in fault:
            raise reader.error(
                values["fault"],
                f"{path}.fault",
                f"{fault!r} is more than a name",
                f"in a mapping write {key}; or write the whole entry as a text",
            )
    params = {}
    for key, value in values.items():
        if key not in ("fault", "at", "for", "repeat"):
            params[key] = reader.text(value, f"{path}.{key}")
    return FaultEntry(
        where=f"{reader.name}:{node.line}: {path}",
        fault=fault,
        params=params,
        at_s=reader.duration(values["at"], f"{path}.at") if "at" in values else None,
        for_s=reader.positive(values["for"], f"{path}.for") if "for" in values else None,
        repeat=_repeat(values["repeat"], f"{path}.repeat", reader) if "repeat" in values else None,
    )


def _repeat(node: Node, path: str, reader: Reader) -> Repeat:
    repeat = _all_of(node, path, ("every", "times"), (), reader)
    return Repeat(
        every_s=reader.positive(repeat.values["every"], f"{path}.every"),
        times=reader.count(repeat.values["times"], f"{path}.times", low=2, high=MAX_TIMES),
    )


def _random(node: Node, path: str, reader: Reader) -> RandomFaults:
    random = _all_of(node, path, ("choose", "every", "until"), ("for", "at"), reader)
    values = random.values
    choose = reader.texts(values["choose"], f"{path}.choose")
    if not choose:
        raise reader.error(values["choose"], f"{path}.choose", "the list is empty", "name the faults to choose from")
    return RandomFaults(
        where=f"{reader.name}:{node.line}: {path}",
        choose=choose,
        every_s=reader.positive(values["every"], f"{path}.every"),
        until_s=reader.positive(values["until"], f"{path}.until"),
        for_s=reader.positive(values["for"], f"{path}.for") if "for" in values else None,
        at_s=reader.duration(values["at"], f"{path}.at") if "at" in values else 0.0,
    )


def _all_of(node: Node, path: str, needed: Collection[str], optional: Collection[str], reader: Reader) -> Mapping:
    """A mapping with all of `needed` and nothing but those and `optional`."""
    shape = ", ".join(f"{key}: ..." for key in (*needed, *optional))
    if not isinstance(node, Mapping):
        raise reader.error(node, path, "not a mapping", f"write {{{shape}}}")
    reader.only(node, path, [*needed, *optional], {})
    for key in needed:
        if key not in node.values:
            raise reader.error(node, path, f"`{key}` is missing", f"write {{{shape}}}")
    return node
