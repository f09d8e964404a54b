"""What people may do on a game day, and how it is typed."""

from __future__ import annotations

import re
from datetime import date

import msgspec

from harness.model.errors import UsageError
from harness.model.options import DURATION
from harness.model.records.many_runs.gameday import ActKind, Role, Severity

MOST_CHARACTERS = 500
"""Of what people type: a note, not a novel, and nothing that fills a disk."""
EVERYBODY: frozenset[ActKind] = frozenset({"note", "mark", "action", "abort"})
OF_RESPONDERS: frozenset[ActKind] = frozenset({"see", "think", "mitigated"})
OF_OBSERVERS: frozenset[ActKind] = frozenset({"tick", "observed"})
ORDERS: frozenset[ActKind] = frozenset(
    {"begin", "begin_anyway", "skip", "inject", "extend", "clear", "end", "reveal", "keep", "restore"}
)
ALLOWED: dict[Role, frozenset[ActKind]] = {
    "operator": EVERYBODY | OF_OBSERVERS | OF_RESPONDERS | ORDERS,
    "observer": EVERYBODY | OF_OBSERVERS,
    "responder": EVERYBODY | OF_RESPONDERS,
}
"""The operator may write down what a responder says aloud; breaking and extending is his alone."""

HELP: dict[str, str] = {
    "begin [anyway]": "the next drill; anyway: though the target is not at rest (it is recorded, and not judged)",
    "skip": "leave the next drill out",
    "inject FAULT": "a drill that was not planned, for example: inject redis-latency:latency=1s",
    "extend 30s": "leave the fault on for longer, once",
    "clear": "undo the fault now, as if its time were over",
    "abort": "undo everything, and end this drill",
    "note TEXT": "write something down, with the time",
    "mark [TEXT]": "mark this moment",
    "observed TEXT": "what was seen of what the drill expected",
    "action TEXT [owner=WHO] [due=2027-01-31] [severity=high|medium|low]": "something to be done afterwards",
    "tick N": "prerequisite N is met",
    "see TEXT": "a responder sees that something is wrong",
    "think TEXT": "a responder thinks it is ...",
    "mitigated [TEXT]": "a responder has mended it",
    "reveal": "say what a blind drill broke",
    "keep": "what somebody has changed meanwhile stays as it is; asked after an undo that found it",
    "restore": "put it back to what it was before the drill all the same",
    "as NAME COMMAND": "in somebody's name: as Bo see errors at the checkout",
    "status": "where we are",
    "end": "close the game day",
}
"""Typed -> what it does."""

_NEEDS_TEXT: tuple[ActKind, ...] = ("note", "observed", "action", "see", "think", "inject")
_PLAIN: tuple[ActKind, ...] = (
    *("note", "mark", "observed", "see", "think", "mitigated", "inject"),
    *("skip", "clear", "abort", "reveal", "end", "keep", "restore"),
)
_ALONE: tuple[ActKind, ...] = ("skip", "reveal", "end")
"""What follows them would be a sentence that only begins like a command."""
_OPTION = re.compile(r"(?:^|\s)(owner|due|severity)=(\"[^\"]*\"|\S+)")
_SEVERITIES: tuple[Severity, ...] = ("high", "medium", "low")


class NotUnderstood(Exception):
    """What was typed is no command: in one line."""


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """See Act. text: of `inject`, the fault as after --fault."""

    kind: ActKind
    text: str = ""
    seconds: float | None = None
    what: int | None = None
    owner: str = ""
    due: str = ""
    severity: Severity | None = None


def parse(line: str) -> Command:
    """What was typed. Raises NotUnderstood."""
    if len(line) > MOST_CHARACTERS:
        raise NotUnderstood(f"that has {len(line):,} characters, and {MOST_CHARACTERS} are the most")
    word, rest = [*line.split(maxsplit=1), "", ""][:2]
    word, rest = word.lower(), rest.strip()
    match word:
        case "begin":
            if rest not in ("", "anyway"):
                raise NotUnderstood("type begin, or begin anyway")
            return Command(kind="begin_anyway" if rest else "begin")
        case "extend":
            try:
                return Command(kind="extend", seconds=DURATION.parse(rest))
            except UsageError as error:
                raise NotUnderstood(f"extend by how much? {error}") from None
        case "tick":
            if not rest.isascii() or not rest.isdigit() or len(rest) > 3 or int(rest) < 1:
                raise NotUnderstood("tick which? type the number of a prerequisite")
            return Command(kind="tick", what=int(rest))
        case "action":
            return action(rest)
    for kind in _PLAIN:
        if word == kind:
            if not rest and kind in _NEEDS_TEXT:
                raise NotUnderstood(f"{word} what?")
            if rest and kind in _ALONE:
                raise NotUnderstood(f"type {word} alone, or note {word} ... to write it down")
            return Command(kind=kind, text=rest)
    raise NotUnderstood(f"{word[:40]!r} is no command: type help")


def action(text: str) -> Command:
    """`write a runbook owner=Bo due=2027-01-31 severity=high`. Raises NotUnderstood."""
    options = {key: value.strip('"') for key, value in _OPTION.findall(text)}
    plain = " ".join(_OPTION.sub(" ", text).split())
    if not plain:
        raise NotUnderstood("action what?")
    severity = next((one for one in _SEVERITIES if one == options.get("severity")), None)
    if "severity" in options and severity is None:
        raise NotUnderstood(f"severity={options['severity'][:40]!r}: one of {', '.join(_SEVERITIES)}")
    due = options.get("due", "")
    try:
        due = date.fromisoformat(due).isoformat() if due else ""
    except ValueError:
        raise NotUnderstood(f"due={due[:40]!r} is no date: write for example due=2027-01-31") from None
    return Command(kind="action", text=plain, owner=options.get("owner", ""), due=due, severity=severity)
