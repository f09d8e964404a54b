"""The list of faults in an experiment file. Pure; a fault's name and parameters are checked by the planner."""

from __future__ import annotations

from collections.abc import Collection

from harness.model.options import count
from harness.plan.files.entries import Entry, FaultEntry, RandomFaults, Repeat
from harness.plan.files.reader import Reader
from harness.plan.files.strict_yaml import Mapping, Node, Text

MAX_TIMES = 1_000_000
"""Only against absurd numbers: the planner says how many injections one run may have."""


def fault_list(node: Node, path: str, reader: Reader) -> tuple[Entry, ...]:
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
        at_s=reader.seconds(values["at"], f"{path}.at") if "at" in values else None,
        for_s=reader.positive(values["for"], f"{path}.for") if "for" in values else None,
        repeat=_repeat(values["repeat"], f"{path}.repeat", reader) if "repeat" in values else None,
    )


def _repeat(node: Node, path: str, reader: Reader) -> Repeat:
    repeat = _all_of(node, path, ("every", "times"), (), reader)
    return Repeat(
        every_s=reader.positive(repeat.values["every"], f"{path}.every"),
        times=reader.value(repeat.values["times"], f"{path}.times", count(2, MAX_TIMES)),
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
        at_s=reader.seconds(values["at"], f"{path}.at") if "at" in values else 0.0,
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
