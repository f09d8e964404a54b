"""A suite file: the settings that its experiments share, as in an experiment file, and the experiments.

    name: checkout
    scenario: target                       every option of `run` that an experiment file may have
    profile: standard                      begin with these experiments; leave it out to list all of them
    exclude: {kafka-pause: "the broker is shared"}
    allow: [redis-flush]                   on a stack that is not ours: what cannot be undone
    experiments:
      - redis-down                         the text of --fault
      - name: slow database
        faults: [db-latency:latency=1s]    as in an experiment file
        targets: ["fault: p95 < 2s"]
        may_fail: ["POST /api/v1/predict"]
        must_hold: ["GET /health"]
        expected_alerts: [CheckoutSlow]        beside those of harness.toml
        fault_for: 30s
        weight: 2

Every error names the file, the line and the path of the key. Decoding is pure; docs/suites.md is the reference.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from harness.model.errors import UsageError
from harness.model.options import NUMBER
from harness.model.target_grammar import check_alert, parse_targets
from harness.plan import experiment_file
from harness.plan.experiment import OPTIONS
from harness.plan.files.entries import FaultEntry
from harness.plan.files.fault_list import fault_list
from harness.plan.files.reader import Reader
from harness.plan.files.strict_yaml import Mapping, Node, Text, parse
from harness.plan.suite.items import CONTROL, LOAD_FIELDS, Item
from harness.plan.suite.profile import PROFILES

SHARED = {key: option for key, option in experiment_file.KEYS.items() if option.field != "faults"}
"""Keys at the top that are options."""
_OWN_FIELDS = (
    "baseline_s",
    "fault_s",
    "recovery_limit_s",
    "hold_s",
    "soak_s",
    "extend",
    "extend_fault",
    "strict",
    "abort_if",
    *LOAD_FIELDS,
)
OWN = {OPTIONS[field].key: OPTIONS[field] for field in _OWN_FIELDS}
"""Options that an experiment may set for itself: its phases, how it is judged, and a load of its own."""
_KEYS = ("name", "faults", "targets", "may_fail", "must_hold", "expected_alerts", "weight", *OWN)
_TOP = ("name", "profile", "exclude", "allow", "experiments")
MOST = 200
MOST_WEIGHT = 1000.0


class SuiteFile(msgspec.Struct, frozen=True, kw_only=True):
    """What the file says. settings: by key, with their lines in lines. exclude: experiment -> why."""

    name: str
    title: str
    profile: str
    settings: dict[str, Any]
    lines: dict[str, int]
    items: tuple[Item, ...]
    exclude: dict[str, str]
    allow: tuple[str, ...]

    def where(self, key: str) -> str:
        """`suite.yaml:3: baseline`"""
        return f"{self.name}:{self.lines[key]}: {key}"


def is_suite(content: bytes, name: str) -> bool:
    """Whether a file lists a suite, and not one experiment. Raises UsageError for one that is no YAML."""
    root = parse(content, name)
    return isinstance(root, Mapping) and bool({"experiments", "profile"} & root.values.keys())


def decode(content: bytes, name: str) -> SuiteFile:
    """The suite in a file's bytes. Raises UsageError naming file, line and key path."""
    root, reader = parse(content, name), Reader(name)
    if not isinstance(root, Mapping):
        raise reader.error(root, "", "not a suite: the file is no mapping of keys", "write KEY: VALUE lines")
    root = experiment_file.underscored(root, reader)
    if "faults" in root.values:
        wrong = "not a key of a suite file"
        raise reader.error(root.values["faults"], "faults", wrong, "list experiments, or use `harness run` for one")
    reader.only(root, "", (*_TOP, *SHARED), {})
    read = root.values
    profile = reader.text(read["profile"], "profile") if "profile" in read else ""
    if profile and profile not in PROFILES:
        raise reader.error(read["profile"], "profile", f"no profile {profile!r}", f"one of {', '.join(PROFILES)}")
    items = _items(read["experiments"], reader) if "experiments" in read else ()
    if not items and not profile:
        raise reader.error(root, "", "the suite is empty", "list `experiments`, or name a `profile`")
    return SuiteFile(
        name=name,
        title=reader.text(read["name"], "name") if "name" in read else "",
        profile=profile,
        settings={key: experiment_file.value(SHARED[key], node, reader) for key, node in read.items() if key in SHARED},
        lines=root.keys,
        items=items,
        exclude=_reasons(read["exclude"], reader) if "exclude" in read else {},
        allow=reader.texts(read["allow"], "allow") if "allow" in read else (),
    )


def _items(node: Node, reader: Reader) -> tuple[Item, ...]:
    nodes = reader.items(node, "experiments")
    if not nodes:
        raise reader.error(node, "experiments", "the suite is empty", "write at least one experiment")
    if len(nodes) > MOST:
        raise reader.error(node, "experiments", f"{len(nodes)} experiments, and a suite has {MOST} at most")
    found: dict[str, Item] = {}
    for number, one in enumerate(nodes):
        item = item_of(one, f"experiments[{number}]", reader)
        if item.name in found:
            raise reader.error(one, f"experiments[{number}]", f"the name {item.name!r} is there twice", "name it anew")
        found[item.name] = item
    return tuple(found.values())


def item_of(node: Node, path: str, reader: Reader, more: Collection[str] = ()) -> Item:
    """One experiment: the text of a fault, or a mapping. more: its keys that somebody else reads. Raises UsageError."""
    if isinstance(node, Text):
        text = reader.text(node, path)
        entry = FaultEntry(where=f"{reader.name}:{node.line}: {path}", fault=text)
        return Item(name=CONTROL if text == "none" else text.partition("@")[0], entries=(entry,))
    if not isinstance(node, Mapping):
        raise reader.error(node, path, "not an experiment", "write a fault, or a mapping with `faults`")
    node = experiment_file.underscored(node, reader)
    reader.only(node, path, (*_KEYS, *more), dict.fromkeys(SHARED, "it is the same for all: write it at the top"))
    read = node.values
    if "faults" not in read:
        raise reader.error(node, path, "`faults` is missing", "for a control run write: faults: [none]")
    entries = fault_list(read["faults"], f"{path}.faults", reader)
    texts = [entry.fault for entry in entries if isinstance(entry, FaultEntry)]
    name = reader.text(read["name"], f"{path}.name") if "name" in read else "+".join(texts)[:80]
    weight = reader.value(read["weight"], f"{path}.weight", NUMBER) if "weight" in read else 1.0
    if not 0 < weight <= MOST_WEIGHT:
        raise reader.error(read["weight"], f"{path}.weight", f"{weight:g} is no weight", "above 0, at most 1000")
    return Item(
        name=CONTROL if name == "none" else name,
        entries=entries,
        targets=experiment_file.targets(read["targets"], f"{path}.targets", reader) if "targets" in read else (),
        may_fail=reader.texts(read["may_fail"], f"{path}.may_fail") if "may_fail" in read else (),
        must_hold=_names(read["must_hold"], f"{path}.must_hold", reader) if "must_hold" in read else (),
        expected_alerts=_alerts(read["expected_alerts"], f"{path}.expected_alerts", reader)
        if "expected_alerts" in read
        else (),
        settings={
            option.field: experiment_file.value(option, read[key], reader) for key, option in OWN.items() if key in read
        },
        weight=weight,
    )


def _names(node: Node, path: str, reader: Reader) -> tuple[str, ...]:
    """Request names that can stand in a target."""
    for number, (one, name) in enumerate(zip(reader.items(node, path), reader.texts(node, path), strict=True)):
        try:
            parse_targets(f"fault: error_rate{{{name}}} < 1%")
        except UsageError:
            raise reader.error(one, f"{path}[{number}]", f"{name!r} cannot be a request name in a target") from None
    return reader.texts(node, path)


def _alerts(node: Node, path: str, reader: Reader) -> tuple[str, ...]:
    """Names that alerts can have."""
    found = reader.texts(node, path)
    for one, name in zip(reader.items(node, path), found, strict=True):
        try:
            check_alert(name, path)
        except UsageError as error:
            raise reader.error(one, path, str(error).removeprefix(f"{path}: "), error.hint) from None
    return tuple(dict.fromkeys(found))


def _reasons(node: Node, reader: Reader) -> dict[str, str]:
    if not isinstance(node, Mapping):
        raise reader.error(node, "exclude", "not a mapping", "write exclude: {EXPERIMENT: reason}")
    return {name: reader.text(why, f"exclude.{name}") for name, why in node.values.items()}
