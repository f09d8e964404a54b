"""YAML with nothing silent in it: every value stays the text that was written, and whatever may surprise is refused.

YAML 1.1 reads `off` as false, `10:30` as 630 and `010` as 8, keeps the last of two equal keys, and lets a small file
grow without end through aliases. So the tree is built here from the parser's events: scalars are text, and duplicate
keys, anchors, aliases, tags, merge keys, several documents and tabs are UsageErrors naming file and line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from harness.model.errors import UsageError

if TYPE_CHECKING:
    from yaml.events import Event

MAX_BYTES = 1_000_000
MAX_DEPTH = 12
MAX_NODES = 20_000


class Limits(msgspec.Struct, frozen=True):
    """what: the kind of file, for errors."""

    depth: int = MAX_DEPTH
    nodes: int = MAX_NODES
    what: str = "experiment"


EXPERIMENT = Limits()


class Text(msgspec.Struct, frozen=True):
    """A scalar as written. quoted: in quotes or as a block, so a person meant it as text. line: 1 is the first."""

    text: str
    quoted: bool
    line: int

    @property
    def empty(self) -> bool:
        """Nothing was written, or one of YAML's words for nothing."""
        return not self.quoted and self.text in ("", "~", "null", "Null", "NULL")


class Sequence(msgspec.Struct, frozen=True):
    items: tuple[Node, ...]
    line: int


class Mapping(msgspec.Struct, frozen=True):
    """keys: the line of each key."""

    values: dict[str, Node]
    keys: dict[str, int]
    line: int


Node = Text | Sequence | Mapping


def parse(content: bytes, name: str, limits: Limits = EXPERIMENT) -> Node:
    """The one document of a file. name: what errors call the file. Raises UsageError, one line, nothing guessed."""
    if len(content) > MAX_BYTES:
        raise UsageError(f"{name}: over {MAX_BYTES // 10**6} MB, which no {limits.what} needs")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UsageError(f"{name}:{line}: not UTF-8 text", hint="save it as UTF-8") from None
    for number, line_text in enumerate(text.splitlines(), 1):
        if re.match(r" *\t", line_text) and line_text.strip():
            raise UsageError(f"{name}:{number}: indented with a tab", hint="YAML indents with spaces")
    import yaml

    try:
        return _Tree(name, yaml.parse(text, Loader=yaml.SafeLoader), limits).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}" if mark is not None else name
        raise UsageError(f"{where}: not YAML: {_problem(error.problem or str(error))}") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{name}: not YAML: {' '.join(str(error).split())}") from None


def _problem(problem: str) -> str:
    if r"'\t'" in problem:
        return "a tab where none can be; use spaces"
    if "mapping values are not allowed" in problem:
        return "a colon followed by a space inside a value; put the value in quotes"
    if r"'%'" in problem or r"'@'" in problem or r"'`'" in problem:
        return f"{problem}; put the value in quotes"
    return problem.replace("unexpected ", "")  # our word for bugs, and this is none


class _Tree:
    """Builds the tree from the parser's events, which is where anchors, tags and duplicates can still be seen."""

    def __init__(self, name: str, events: Iterator[Event], limits: Limits) -> None:
        self._name = name
        self._events = events
        self._limits = limits
        self._nodes = 0

    def document(self) -> Node:
        import yaml

        root: Node | None = None
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    raise self._refuse(
                        event, "a second document begins", f"one file is one {self._limits.what}: remove the ---"
                    )
            elif not isinstance(event, (yaml.StreamStartEvent, yaml.StreamEndEvent, yaml.DocumentEndEvent)):
                root = self._node(event, 1)
        if root is None:
            raise UsageError(
                f"{self._name}: the file is empty",
                hint="docs/experiments.md shows a complete example" if self._limits is EXPERIMENT else None,
            )
        return root

    def _node(self, event: Event, depth: int) -> Node:
        import yaml

        self._nodes += 1
        if self._nodes > self._limits.nodes:
            raise self._refuse(
                event, f"more than {self._limits.nodes:,} values", f"no {self._limits.what} needs as many"
            )
        if depth > self._limits.depth:
            raise self._refuse(
                event, f"nested more than {self._limits.depth} deep", f"no {self._limits.what} needs that"
            )
        if isinstance(event, yaml.AliasEvent):
            raise self._refuse(event, f"*{event.anchor} is an alias", "write the value out: aliases are not read")
        assert isinstance(event, yaml.NodeEvent)
        if event.anchor is not None:
            raise self._refuse(event, f"&{event.anchor} is an anchor", "write values out: anchors are not read")
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise self._refuse(
                event,
                f"the tag {tag.replace('tag:yaml.org,2002:', '!!')}",
                "leave it out: every value is read as it is written",
            )
        line = _line(event)
        if isinstance(event, yaml.ScalarEvent):
            return Text(event.value, event.style is not None, line)
        if isinstance(event, yaml.SequenceStartEvent):
            return Sequence(tuple(self._items(depth)), line)
        return self._mapping(line, depth)

    def _items(self, depth: int) -> Iterator[Node]:
        import yaml

        for event in self._events:
            if isinstance(event, yaml.SequenceEndEvent):
                return
            yield self._node(event, depth + 1)

    def _mapping(self, line: int, depth: int) -> Mapping:
        import yaml

        values: dict[str, Node] = {}
        keys: dict[str, int] = {}
        for event in self._events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            key = self._node(event, depth + 1)
            if not isinstance(key, Text) or key.empty:
                raise self._refuse(event, "a key that is no word", "write KEY: VALUE")
            if key.text == "<<":
                raise self._refuse(event, "`<<` is a merge key", "write the keys out: merges are not read")
            if key.text in values:
                raise self._refuse(
                    event, f"key {key.text!r} is there twice, first in line {keys[key.text]}", "keep one of them"
                )
            keys[key.text] = key.line
            values[key.text] = self._node(next(self._events), depth + 1)
        return Mapping(values, keys, line)

    def _refuse(self, event: Any, what: str, right: str) -> UsageError:
        return UsageError(f"{self._name}:{_line(event)}: {what}", hint=right)


def _line(event: Any) -> int:
    number: int = event.start_mark.line
    return number + 1
