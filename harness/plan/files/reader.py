"""Values out of a strict YAML tree: each method takes a node and its key path, and returns what was asked for or
raises UsageError naming file, line and path.

The values that YAML 1.1 turns into something else are met here with what they would have become.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any

from harness.model.errors import UsageError
from harness.model.options import DURATION, Unit
from harness.model.records.plan import MAX_PHASE_S
from harness.plan.files import strict_yaml
from harness.plan.files.strict_yaml import Node, Sequence, Text

_TRUTH = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}


class Reader:
    """name: what errors call the file."""

    def __init__(self, name: str) -> None:
        self.name = name

    def error(self, node: Node, path: str, wrong: str, right: str | None = None) -> UsageError:
        return self._at(node.line, path, wrong, right)

    def _at(self, line: int, path: str, wrong: str, right: str | None) -> UsageError:
        return UsageError(f"{self.name}:{line}: {f'{path}: ' if path else ''}{wrong}", hint=right)

    def only(self, node: strict_yaml.Mapping, path: str, known: Collection[str], elsewhere: Mapping[str, str]) -> None:
        """Refuse keys that are not known. elsewhere: keys that belong somewhere else -> where."""
        for key in node.values:
            if key in known:
                continue
            full = f"{path}.{key}" if path else key
            if key in elsewhere:
                raise self._at(node.keys[key], full, "not a key of this file", elsewhere[key])
            near = get_close_matches(key.replace("-", "_").lower(), sorted(known), n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(sorted(known))}"
            raise self._at(node.keys[key], full, "unknown key", hint)

    def text(self, node: Node, path: str) -> str:
        """Text as written, never empty."""
        if not isinstance(node, Text):
            kind = "a list" if isinstance(node, Sequence) else "a mapping"
            raise self.error(node, path, f"{kind}, where one value belongs")
        if node.empty or not node.text.strip():
            raise self.error(node, path, "has no value", "write one, or leave the key out")
        return node.text.strip()

    def items(self, node: Node, path: str) -> tuple[Node, ...]:
        if isinstance(node, Sequence):
            return node.items
        if isinstance(node, Text) and node.empty:
            raise self.error(node, path, "has no value", "write a list, or leave the key out")
        raise self.error(node, path, "not a list", f"write {path.rpartition('.')[2]}: [...]")

    def texts(self, node: Node, path: str) -> tuple[str, ...]:
        return tuple(self.text(item, f"{path}[{number}]") for number, item in enumerate(self.items(node, path)))

    def value(self, node: Node, path: str, unit: Unit) -> Any:
        """A value as its unit is written on the command line too; durations are of 24 hours at most."""
        text = self.text(node, path)
        if unit.example is not None:
            self._not_as_yaml(node, path, text, unit)
        try:
            found = unit.parse(text)
        except UsageError as error:
            raise self.error(node, path, str(error), error.hint) from None
        if unit is DURATION and found > MAX_PHASE_S:
            raise self.error(node, path, f"{text} is over 24 hours")
        return found

    def _not_as_yaml(self, node: Node, path: str, text: str, unit: Unit) -> None:
        """Refuse what is another quantity, or none, to YAML 1.1."""
        if text.lower() in (*_TRUTH, "true", "false"):
            value = _TRUTH.get(text.lower(), text.lower())
            right = f"write for example {unit.example}, or leave the key out"
            raise self.error(node, path, f"{text!r} is {value} to YAML, no quantity", right)
        if unit is DURATION and re.fullmatch(r"\d+(:\d+)+(\.\d*)?", text):
            raise self.error(node, path, _clock(text), _units_of(text))
        if unit is not DURATION and re.fullmatch(r"0[0-9]{1,19}", text):
            raise self.error(node, path, f"{text!r} is octal to YAML 1.1", f"write {int(text)}")

    def seconds(self, node: Node, path: str) -> float:
        return float(self.value(node, path, DURATION))

    def positive(self, node: Node, path: str) -> float:
        seconds = self.seconds(node, path)
        if seconds == 0:
            raise self.error(node, path, "0 is no duration", "write for example 5s")
        return seconds

    def flag(self, node: Node, path: str) -> bool:
        """true or false, and none of the other words that some readers take for them."""
        text = self.text(node, path)
        assert isinstance(node, Text)
        if text in ("true", "false") and not node.quoted:
            return text == "true"
        would = _TRUTH.get(text.lower(), text.lower() if text.lower() in ("true", "false") else "true or false")
        raise self.error(node, path, f"{text!r} is not true or false", f"write {would}")


def _clock(text: str) -> str:
    """What YAML 1.1 makes of `10:30`: a number of base 60."""
    total = 0.0
    for part in text.split(":"):
        total = total * 60 + float(part or 0)
    return f"{text!r} is the number {total:g} to YAML 1.1, a time of day to people"


def _units_of(text: str) -> str:
    parts = [part.lstrip("0") or "0" for part in text.split(":")]
    if len(parts) == 2:
        return f"write {parts[0]}m{parts[1]}s or {parts[0]}h{parts[1]}m"
    return "write it with units, for example 1h10m30s"
