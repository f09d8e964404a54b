"""A game day's plan: a suite file whose experiments are drills, with what people believe and have to do.

    title: checkout, the first one
    scenario: target                       every option that all experiments of a suite file may have
    roles: {operator: [Ada], observer: [Grace], responder: [Bo]}
    prerequisites: ["on-call knows that we are at it"]
    pause: 2m                              before each drill, as planned
    drills:
      - name: redis is gone
        faults: [redis-down]               and all else that an experiment of a suite file may say
        hypothesis: the API answers from the database, at most 5% fail
        expect: "the dashboard shows cache misses; no page"
        abort_if: ["error_rate > 50% for 10s"]
        blind: true                        the responders are not told
        pause: 5m

Every error names the file, the line and the path of the key. Decoding is pure; docs/gameday.md is the reference.
"""

from __future__ import annotations

from typing import Any

import msgspec

from harness.model.options import DURATION
from harness.model.records.many_runs.gameday import Role
from harness.plan import experiment_file
from harness.plan.files.reader import Reader
from harness.plan.files.strict_yaml import Mapping, Node, parse
from harness.plan.suite.items import Item
from harness.plan.suite.suite_file import SHARED, SuiteFile, item_of

ROLES: tuple[Role, ...] = ("operator", "observer", "responder")
OF_A_DRILL = ("hypothesis", "expect", "blind", "pause")
_TOP = ("title", "roles", "prerequisites", "pause", "drills", "allow")
MOST_DRILLS = 50
PAUSE_S = 60.0


class DrillText(msgspec.Struct, frozen=True, kw_only=True):
    """What a drill says beside the experiment that it is. pause_s: before it."""

    name: str
    hypothesis: str = ""
    expect: str = ""
    blind: bool = False
    pause_s: float = PAUSE_S


class GameDayFile(msgspec.Struct, frozen=True, kw_only=True):
    """suite: its drills as the experiments of one. drills: in the same order."""

    title: str
    roles: dict[Role, tuple[str, ...]]
    prerequisites: tuple[str, ...]
    drills: tuple[DrillText, ...]
    suite: SuiteFile


def is_game_day(content: bytes, name: str) -> bool:
    """Whether a file plans a game day, and not a suite or one experiment. Raises UsageError for one that is no YAML."""
    root = parse(content, name)
    return isinstance(root, Mapping) and "drills" in root.values


def decode(content: bytes, name: str) -> GameDayFile:
    """The game day in a file's bytes. Raises UsageError naming file, line and key path."""
    root, reader = parse(content, name), Reader(name)
    if not isinstance(root, Mapping):
        raise reader.error(root, "", "not a game day: the file is no mapping of keys", "write KEY: VALUE lines")
    root = experiment_file.underscored(root, reader)
    elsewhere = {"experiments": "a game day lists `drills`", "faults": "each of the `drills` has its own"}
    reader.only(root, "", (*_TOP, *SHARED), elsewhere)
    read = root.values
    for key in ("title", "drills"):
        if key not in read:
            raise reader.error(root, "", f"`{key}` is missing", "harness gameday init prints a plan to begin with")
    pause_s = reader.value(read["pause"], "pause", DURATION) if "pause" in read else PAUSE_S
    found = _drills(read["drills"], reader, pause_s)
    title = reader.text(read["title"], "title")
    return GameDayFile(
        title=title,
        roles=_roles(read["roles"], reader) if "roles" in read else {},
        prerequisites=reader.texts(read["prerequisites"], "prerequisites") if "prerequisites" in read else (),
        drills=tuple(drill for _, drill in found),
        suite=SuiteFile(
            name=name,
            title=title,
            profile="",
            settings={
                key: experiment_file.value(SHARED[key], node, reader) for key, node in read.items() if key in SHARED
            },
            lines=root.keys,
            items=tuple(item for item, _ in found),
            exclude={},
            allow=reader.texts(read["allow"], "allow") if "allow" in read else (),
        ),
    )


def _drills(node: Node, reader: Reader, pause_s: float) -> list[tuple[Item, DrillText]]:
    nodes = reader.items(node, "drills")
    if not 1 <= len(nodes) <= MOST_DRILLS:
        raise reader.error(node, "drills", f"{len(nodes)} drills: from 1 to {MOST_DRILLS}")
    found: list[tuple[Item, DrillText]] = []
    names: set[str] = set()
    for number, one in enumerate(nodes):
        path = f"drills[{number}]"
        item = item_of(one, path, reader, OF_A_DRILL)
        if item.name in names:
            raise reader.error(one, path, f"the name {item.name!r} is there twice", "name it anew")
        names.add(item.name)
        if item.own_load:
            raise reader.error(one, path, "it has the load of its game day", "scenario and rate stand at the top")
        found.append((item, _drill(one, item.name, path, reader, pause_s)))
    return found


def _drill(node: Node, name: str, path: str, reader: Reader, pause_s: float) -> DrillText:
    if not isinstance(node, Mapping):
        return DrillText(name=name, pause_s=pause_s)
    read: dict[str, Any] = node.values
    return DrillText(
        name=name,
        hypothesis=reader.text(read["hypothesis"], f"{path}.hypothesis") if "hypothesis" in read else "",
        expect=reader.text(read["expect"], f"{path}.expect") if "expect" in read else "",
        blind=reader.flag(read["blind"], f"{path}.blind") if "blind" in read else False,
        pause_s=reader.value(read["pause"], f"{path}.pause", DURATION) if "pause" in read else pause_s,
    )


def _roles(node: Node, reader: Reader) -> dict[Role, tuple[str, ...]]:
    if not isinstance(node, Mapping):
        raise reader.error(node, "roles", "not a mapping", "write roles: {operator: [Ada], responder: [Bo]}")
    reader.only(node, "roles", ROLES, {})
    found = {role: reader.texts(node.values[role], f"roles.{role}") for role in ROLES if role in node.values}
    names = [name for people in found.values() for name in people]
    # Whoever is meant when a command is typed in a name is asked for without capitals.
    low = [name.lower() for name in names]
    if twice := next((name for place, name in enumerate(names) if name.lower() in low[:place]), None):
        raise reader.error(node, "roles", f"{twice!r} is there twice", "one role a person")
    return found
