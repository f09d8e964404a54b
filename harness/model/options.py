"""An option of `run`: how its value is written, and where it may be set.

Annotations of a record's fields (harness/plan/experiment.py). The command line, HARNESS_* variables, [run] of
harness.toml and experiment files are all read by them, with one converter for each unit.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from difflib import get_close_matches
from functools import partial
from typing import Any, get_args, get_type_hints

import msgspec

from harness.model import units
from harness.model.errors import UsageError

WIDEST = {4: 8, 6: 16}
"""The shortest prefix of a network that may be allowed, by version of IP."""


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """How values are written. name: the placeholder in help.

    parse: from text; raises UsageError. show: the opposite. example: of a quantity, which YAML 1.1 may take for
    something else; None for words.
    """

    name: str
    parse: Callable[[str], Any] = str
    show: Callable[[Any], str] = str
    example: str | None = None


EXPR = Unit(name="EXPR")
"""Text with spaces in it: no variable can hold a list of them."""
PATH = Unit(name="FILE")
"""Relative to the file that names it, where a file does."""
FLAG = Unit(name="BOOLEAN")
"""True or false; given by its name alone on the command line."""
NUMBER = Unit(name="FLOAT", parse=partial(units.parse_number, what="number"), example="0.5")
DURATION = Unit(name="DURATION", parse=units.parse_duration, show=units.format_duration, example="20s")


def count(low: int = 0, high: int = 2**63 - 1) -> Unit:
    """Whole numbers."""
    return Unit(name="INTEGER", parse=partial(units.parse_count, low=low, high=high), example=str(max(low, 5)))


COUNT = count()


def _allowed_host(text: str) -> str:
    try:
        network = ipaddress.ip_network(text.strip().strip("[]"), strict=False)
    except ValueError:
        return text  # a name
    widest = WIDEST[network.version]
    if network.prefixlen < widest:
        raise UsageError(
            f"{text} is {network.num_addresses:,} addresses",
            hint=f"name the host, or a network of at most /{widest}: whoever is allowed may be loaded and broken",
        )
    return text


HOST = Unit(name="HOST", parse=_allowed_host)
"""A name, an address or a network to allow, but none that is most of the world: leave to test everybody is none that
anybody has."""


def one_of(words: Any) -> Unit:
    """The words of a Literal."""
    known: tuple[str, ...] = get_args(words)

    def parse(text: str) -> str:
        if text in known:
            return text
        near = get_close_matches(text, known, n=1, cutoff=0.5)
        raise UsageError(
            f"{text!r} is not one of: {', '.join(known)}", hint=f"did you mean {near[0]!r}?" if near else None
        )

    return Unit(name=f"[{'|'.join(known)}]", parse=parse)


class Option(msgspec.Struct, frozen=True):
    """One option, from the annotation of its field; field and default are the field's own.

    flag: on the command line, where it is not the field's name. otherwise: what holds where nobody says, if no single
    value does; shown: the default for people, where it is not the value. not_in_toml, not_in_file: why [run], or an
    experiment file, does not take it, and where the same is said; "" where it does.
    """

    unit: Unit
    help: str
    flag: str = ""
    otherwise: str = ""
    shown: str = ""
    not_in_toml: str = ""
    not_in_file: str = ""
    field: str = ""
    default: Any = None

    @property
    def many(self) -> bool:
        """Whether it may be given several times."""
        return isinstance(self.default, tuple)

    @property
    def key(self) -> str:
        """In an experiment file: as the flag, but that a list is called by all of it."""
        return self.field if self.many else self.flag.lstrip("-").replace("-", "_")

    @property
    def variable(self) -> str | None:
        return "HARNESS_" + self.flag.lstrip("-").replace("-", "_").upper() if self.unit is not EXPR else None

    @property
    def default_text(self) -> str:
        """What holds where nobody says; "" for nothing."""
        if self.otherwise or self.shown:
            return self.otherwise or self.shown
        return "" if self.unit is FLAG or self.default in (None, ()) else self.unit.show(self.default)

    def value(self, given: Any) -> Any:
        """The field's: a flag turns the other way what is true by default."""
        return given != self.default if self.unit is FLAG else tuple(given) if self.many else given


def options_of(record: type[msgspec.Struct]) -> dict[str, Option]:
    """The options of a record's fields by name, in their order."""
    hints = get_type_hints(record, include_extras=True)
    found = {}
    for field in msgspec.structs.fields(record):
        for option in getattr(hints[field.name], "__metadata__", ()):
            assert isinstance(option, Option)
            flag = option.flag or "--" + field.name.removesuffix("_s").replace("_", "-")
            default = None if field.default is msgspec.NODEFAULT else field.default
            found[field.name] = msgspec.structs.replace(option, field=field.name, flag=flag, default=default)
    return found
