"""docs/troubleshooting.md covers every message that ends a command, and has no row for one that is gone.

Messages are found in the code: the first argument of everything that makes a HarnessError, and the sentences of the
verdict. What is put in at run time is reduced to `…`. A row's pattern is a code span in the first column of a table,
with `…` for anything; it covers the messages that it matches as a whole, so one row can cover a family. A pattern
must have words of its own, so that no row covers everything.

Not looked at: a message that is handed on as it is (`raise UsageError(str(error))`, `f"{name}: {error}"`), because its
words come from where it was made; and words given to a helper as arguments (`_refuse(event, "a second document")`), of
which only the helper's own frame is known. The page says the frame.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from harness.model import errors
from harness.plan.experiment import OPTIONS

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "troubleshooting.md"
ANY = "…"
LEAST_LETTERS = 5
"""Of a pattern or a message: with fewer it says nothing, and is passed on from elsewhere."""
NAMES = {
    name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.HarnessError)
}
MOST_COVERED = 20
"""By one pattern. The largest families are those of targets and of sizes."""


def words(node: ast.expr, known: dict[str, list[str]]) -> list[str]:
    """The texts that an expression may be. known: those of the local names."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.JoinedStr):
        found = [""]
        for part in node.values:
            more = words(part, {}) if isinstance(part, ast.Constant) else [ANY]
            found = [first + second for first in found for second in more]
        return found
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [a + b for a in words(node.left, known) for b in words(node.right, known)]
    if isinstance(node, ast.IfExp):
        return words(node.body, known) + words(node.orelse, known)
    if isinstance(node, ast.Name):
        return known.get(node.id, [ANY])
    return [ANY]


def plain(text: str) -> str:
    return re.sub(rf"{ANY}+", ANY, " ".join(text.split()))


def letters(text: str) -> int:
    return len(re.findall(r"[A-Za-z]", text))


def messages_in(path: Path) -> Iterator[tuple[str, str]]:
    """(where, message) of every error that a module makes."""
    source = path.read_text(encoding="utf-8")
    if not any(name in source for name in (*NAMES, "Bye")):
        return
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, (ast.Assign, ast.Call))]
    known: dict[str, list[str]] = {}
    for node in nodes:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            known.setdefault(node.targets[0].id, []).extend(t for t in words(node.value, {}) if letters(t))
    for node in nodes:
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            said = node.args[:1] if name in NAMES else []
            if name == "Bye":  # what ends a worker on another machine
                said = [keyword.value for keyword in node.keywords if keyword.arg == "text"]
            for text in [text for one in said for text in words(one, known)]:
                yield f"{path.relative_to(ROOT)}:{node.lineno}", plain(about_option(node) + text)


def about_option(call: ast.Call) -> str:
    """What the command line puts before a message about an option's value: the option's name."""
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    field, lead = given.get("field"), given.get("lead", ast.Constant(" "))
    if field is None or (isinstance(lead, ast.Constant) and lead.value == ""):
        return ""
    name = OPTIONS[str(field.value)].flag if isinstance(field, ast.Constant) else ANY
    return name + (str(lead.value) if isinstance(lead, ast.Constant) else ANY)


def verdict_sentences() -> Iterator[tuple[str, str]]:
    """The reasons of a verdict: whole sentences, but for those of a PASS."""
    folder = ROOT / "harness" / "analysis" / "verdict"
    rules, said, proofs = (
        ast.parse((folder / f"{name}.py").read_text(encoding="utf-8")) for name in ("verdict", "sentences", "proofs")
    )
    rules.body = [node for node in rules.body if getattr(node, "name", "") != "_passed"]
    parts = [
        *(("sentences.py", node) for node in said.body if getattr(node, "name", "").endswith("undecided")),
        *(("proofs.py", node) for node in proofs.body if getattr(node, "name", "") == "left_over"),
    ]
    for name, tree in [("verdict.py", rules), *parts]:
        pieces = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        documents = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.expr) and id(node) not in pieces | documents:
                for text in words(node, {}):
                    text = plain(re.sub(r"\{\w+\}", ANY, text))
                    if letters(text) >= 15 and (text[0].isupper() or text[0] == ANY) and text[:4] != "PASS":
                        yield f"harness/analysis/verdict/{name}:{getattr(node, 'lineno', 0)}", text


@cache
def all_messages() -> list[tuple[str, str]]:
    found = [
        one for top in ("harness", "faults") for path in sorted((ROOT / top).rglob("*.py")) for one in messages_in(path)
    ]
    return [one for one in [*found, *verdict_sentences()] if letters(one[1]) >= LEAST_LETTERS]


@cache
def patterns() -> list[str]:
    rows = re.findall(r"^\| (`.+?) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return [
        plain(code.strip())
        for row in rows
        for code in re.findall(r"``(.+?)``(?!`)|`([^`]+)`", row)
        for code in code
        if code
    ]


def covers(pattern: str, text: str) -> bool:
    """Where a pattern has `…`, a message may have anything, also nothing. No regex: some 100,000 pairs are asked."""
    first, *parts = pattern.split(ANY)
    if not parts:
        return text == first
    last = parts.pop()
    at, end = len(first), len(text) - len(last)
    if at > end or not (text.startswith(first) and text.endswith(last)):
        return False
    for part in parts:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


@cache
def covered() -> dict[str, set[int]]:
    """Pattern -> places of the messages that it covers."""
    texts = [text for _, text in all_messages()]
    return {pattern: {place for place, text in enumerate(texts) if covers(pattern, text)} for pattern in patterns()}


@pytest.mark.parametrize(
    ("pattern", "text", "held"),
    [
        ("a is b", "a is b", True),
        ("a is b", "a is bb", False),
        ("a … b", "a  b", True),
        ("a … b", "a b", False),
        ("…b…c", "abbc", True),
        ("…b…c", "acb", False),
        ("a…b…b", "ab", False),
        ("a…", "a\nb", True),
    ],
)
def test_a_pattern_covers_a_message_as_a_whole(pattern: str, text: str, held: bool) -> None:
    assert covers(pattern, text) == held


def test_every_message_has_a_row() -> None:
    told = set[int]().union(*covered().values())
    missing = [f"{where}: {text}" for place, (where, text) in enumerate(all_messages()) if place not in told]
    assert not missing, "docs/troubleshooting.md says nothing of\n" + "\n".join(missing)


def test_every_row_has_a_message() -> None:
    gone = [pattern for pattern, places in covered().items() if not places]
    assert not gone, "docs/troubleshooting.md has rows for what nobody says any more:\n" + "\n".join(gone)


def test_no_row_covers_everything() -> None:
    for pattern, places in covered().items():
        assert len(places) <= MOST_COVERED, f"{pattern} covers {len(places)} messages: let it say more"
