"""A game day without a browser: the commands typed into the terminal that it was started from."""

from __future__ import annotations

import os
import select
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from harness.gameday.commands import HELP, NotUnderstood, parse
from harness.gameday.desk import Desk
from harness.model.records.many_runs.gameday import Role
from harness.report.sentences import text

POLL_S = 0.2
MOST_LINE = 4096

Say = Callable[[str], None]


def typed(desk: Desk, say: Say, private: Path) -> Callable[[], None]:
    """Say what can be typed, and read it; what is returned stops that."""
    say(welcome(desk))
    return reading(desk, say)


def reading(desk: Desk, say: Say) -> Callable[[], None]:
    """Read commands from standard input in a thread of its own; what is returned stops it. An input that ends (a
    terminal that is gone) ends the game day: nobody could end anything any more."""
    over = threading.Event()
    thread = threading.Thread(target=_read, args=(desk, say, over), name="typed commands", daemon=True)
    thread.start()

    def close() -> None:
        over.set()
        thread.join(2 * POLL_S)

    return close


def welcome(desk: Desk) -> str:
    lines = [f"{desk.plan.title}: {len(desk.plan.drills)} drills. Type help, or begin."]
    if desk.plan.prerequisites:
        lines.append("before it, tick:")
        lines += [f"  {number}. {one}" for number, one in enumerate(desk.plan.prerequisites, start=1)]
    lines.append("try the abort before the first drill: type abort")
    return "\n".join(lines)


def _read(desk: Desk, say: Say, over: threading.Event) -> None:
    rest = b""
    descriptor = sys.stdin.fileno()
    while not over.is_set():
        try:
            ready, _, _ = select.select([descriptor], [], [], POLL_S)
            chunk = os.read(descriptor, MOST_LINE) if ready else None
        except (OSError, ValueError):
            chunk = b""
        if chunk is None:
            continue
        if not chunk:
            say("the input has ended: so does the game day")
            answer(desk, "end", say)
            return
        *lines, rest = (rest + chunk).split(b"\n")
        rest = rest[-MOST_LINE:]
        for line in lines:
            answer(desk, line.decode("utf-8", "replace"), say)


def answer(desk: Desk, line: str, say: Say) -> None:
    """Do what one line says, and say what came of it."""
    line = line.strip()
    who, role = operator(desk), "operator"
    if not line:
        return
    if line == "help":
        say("\n".join(f"  {typed:<34} {meaning}" for typed, meaning in HELP.items()))
        return
    if line == "status":
        say("\n".join(status(desk)))
        return
    try:
        if line.startswith("as "):
            who, line = in_the_name_of(desk, line[3:])
            role = role_of(desk, who)
        command = parse(line)
    except NotUnderstood as error:
        say(str(error))
        return
    why_not = desk.do(who, role, command)  # type: ignore[arg-type]
    say(f"not done: {why_not}" if why_not else f"{command.kind.replace('_', ' ')}: done")


def operator(desk: Desk) -> str:
    return next(iter(desk.plan.roles.get("operator", ())), "operator")


def in_the_name_of(desk: Desk, rest: str) -> tuple[str, str]:
    """(name, command). A name of the plan may have spaces; another one is a word. Raises NotUnderstood."""
    rest = rest.strip()
    for name in sorted((name for names in desk.plan.roles.values() for name in names), key=len, reverse=True):
        if rest.lower().startswith(f"{name.lower()} "):
            return name, rest[len(name) :].strip()
    name, _, line = rest.strip().partition(" ")
    if not name or not line:
        raise NotUnderstood("as whom, and what? for example: as Bo note the dashboard is red")
    return name[:60], line


def role_of(desk: Desk, name: str) -> Role:
    """Of the plan; whoever is not in it looks on."""
    return next((role for role, names in desk.plan.roles.items() if name in names), "observer")


def status(desk: Desk) -> list[str]:
    """Where the day is. Of a blind drill no more than a responder would know."""
    on, live = desk.on, desk.live
    lines = []
    if on is None:
        left = desk.left
        lines.append(f"between drills; {len(left)} of {len(desk.plan.drills)} left")
    else:
        phase = "" if on.blind or live is None else f", {live.phase}"
        name = "blind" if on.blind else on.name
        lines.append(f"drill {on.number} is on ({name}{phase})")
    if live is not None:
        n = live.numbers
        lines.append(f"{text.rps(n.rps)} rps, {text.percent(n.error_rate)} failed, p95 {text.ms(n.p95_ms)}")
        if live.message and not (on is not None and on.blind):
            lines.append(live.message)
    return lines
