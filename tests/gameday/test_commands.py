"""What people type on a game day: every command, and lines that are none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.gameday.commands import ALLOWED, HELP, MOST_CHARACTERS, ORDERS, Command, NotUnderstood, parse

GOOD = [
    ("begin", Command(kind="begin")),
    ("  BEGIN   anyway ", Command(kind="begin_anyway")),
    ("skip", Command(kind="skip")),
    ("inject redis-latency:latency=1s@2s+5s", Command(kind="inject", text="redis-latency:latency=1s@2s+5s")),
    ("extend 1m30s", Command(kind="extend", seconds=90.0)),
    ("clear", Command(kind="clear")),
    ("abort", Command(kind="abort")),
    ("abort now, please", Command(kind="abort", text="now, please")),
    ("note it is  red", Command(kind="note", text="it is  red")),
    ("note\tafter a tab", Command(kind="note", text="after a tab")),
    ("mark", Command(kind="mark")),
    ("mark here", Command(kind="mark", text="here")),
    ("observed misses rise", Command(kind="observed", text="misses rise")),
    ("tick 12", Command(kind="tick", what=12)),
    ("see errors", Command(kind="see", text="errors")),
    ("think redis", Command(kind="think", text="redis")),
    ("mitigated", Command(kind="mitigated")),
    ("mitigated by a restart", Command(kind="mitigated", text="by a restart")),
    ("reveal", Command(kind="reveal")),
    ("end", Command(kind="end")),
    ("keep", Command(kind="keep")),
    ("restore", Command(kind="restore")),
    ("action write a runbook", Command(kind="action", text="write a runbook")),
    (
        'action owner="Bo Diddley" write a runbook due=2027-01-31 now severity=high',
        Command(kind="action", text="write a runbook now", owner="Bo Diddley", due="2027-01-31", severity="high"),
    ),
]


@pytest.mark.parametrize(("line", "command"), GOOD, ids=[line for line, _ in GOOD])
def test_what_is_typed(line: str, command: Command) -> None:
    assert parse(line) == command


def test_every_command_of_the_help_is_tried_here_and_somebody_may_do_it() -> None:
    words = {re.split(r"[ \[]", typed)[0] for typed in HELP} - {"as", "status"}
    assert words == {line.split()[0].lower() for line, _ in GOOD}
    assert {command.kind for _, command in GOOD} == ALLOWED["operator"] == set().union(*ALLOWED.values())
    assert not ORDERS & (ALLOWED["observer"] | ALLOWED["responder"])
    assert all("abort" in kinds for kinds in ALLOWED.values())


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "'' is no command"),
        ("begn", "'begn' is no command: type help"),
        ("begin now", "type begin, or begin anyway"),
        ("inject", "inject what?"),
        ("note", "note what?"),
        ("see  ", "see what?"),
        ("action", "action what?"),
        ("action owner=Bo", "action what?"),
        ("action x severity=huge", "severity='huge': one of high, medium, low"),
        ("action x due=tomorrow", "due='tomorrow' is no date"),
        ("action x due=2027-02-30", "due='2027-02-30' is no date"),
        ("extend", "extend by how much?"),
        ("extend soon", "extend by how much?"),
        ("extend nan", "extend by how much?"),
        ("extend -5s", "extend by how much?"),
        ("tick", "tick which?"),
        ("tick 0", "tick which?"),
        ("tick 1000", "tick which?"),
        ("tick \u0661", "tick which?"),
        ("tick " + "9" * 400, "tick which?"),
        ("end of the story so far", "type end alone, or note end ... to write it down"),
        ("skip that", "type skip alone"),
        ("reveal 2", "type reveal alone"),
        ("begin_anyway", "is no command"),
        ("started", "is no command"),
        ("closed", "is no command"),
        ("note " + "x" * MOST_CHARACTERS, "that has 505 characters, and 500 are the most"),
        (" " * 4000 + "begin", "4,005 characters"),
        ("x" * 400, "'" + "x" * 40 + "' is no command"),
        ("\x1b[31mbegin", "is no command"),
        ("\x00", "is no command"),
    ],
)
def test_what_is_no_command_says_so_in_one_line(line: str, said: str) -> None:
    with pytest.raises(NotUnderstood) as raised:
        parse(line)
    assert said in str(raised.value) and str(raised.value).isprintable()


def test_the_page_has_every_command_in_the_words_of_the_help() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "gameday.md").read_text(encoding="utf-8")
    for typed, meaning in HELP.items():
        assert "| `{}` | {} |\n".format(typed.replace("|", "\\|"), meaning) in page, typed


def test_the_longest_note() -> None:
    assert len(parse("note " + "x" * (MOST_CHARACTERS - 5)).text) == MOST_CHARACTERS - 5
