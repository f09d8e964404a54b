"""What the run and its console say to each other: one JSON object a line, over the child's standard streams."""

from __future__ import annotations

import msgspec

from harness.gameday.board import Board
from harness.gameday.commands import Command
from harness.model.records.many_runs.gameday import Role

MOST_MESSAGE = 16 * 2**20
"""Bytes of one message to the console."""


class ParamForm(msgspec.Struct, frozen=True, kw_only=True):
    """A parameter of a fault. choices: the words of a choice, empty for text."""

    name: str
    default: str
    help: str
    choices: tuple[str, ...] = ()


class FaultForm(msgspec.Struct, frozen=True, kw_only=True):
    """A fault that may be injected without a plan: as after --fault, but for its parameters."""

    fault: str
    dependency: str
    summary: str
    params: tuple[ParamForm, ...] = ()


class Seat(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who may come in. cookie: SHA-256 of what their browser sends, in hex."""

    cookie: str
    name: str
    role: Role


class Listen(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The first message. port: of the operator's listener on loopback, 0 for any. guests: HOST:PORT of the second one,
    "" for none; certificate, key: its files."""

    port: int
    guests: str = ""
    certificate: str = ""
    key: str = ""
    faults: tuple[FaultForm, ...] = ()


class Seats(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Everybody who may come in, from now on."""

    seats: tuple[Seat, ...]


class Boards(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What is shown from now on: to the operator, and to those from whom blind drills are hidden."""

    operator: Board
    guests: Board


class Answer(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """To what was asked under that number. text: why it was not done, "" where it was; of an entrance the cookie; of an
    invitation its path."""

    number: int
    text: str


class Over(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The game day was closed: the last message. A pipe that ends without it is that of a run that was killed."""


ToConsole = Listen | Seats | Boards | Answer | Over


class Listening(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    port: int
    guests_port: int = 0


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """It cannot listen."""

    text: str


class Do(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Somebody who came in wants it."""

    number: int
    who: str
    role: Role
    command: Command


class Enter(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Somebody has a token. operators: it was shown at the operator's listener."""

    number: int
    token: str
    operators: bool


class Invite(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The operator invites somebody, or takes their seat away (revoke)."""

    number: int
    name: str
    role: Role
    revoke: bool = False


FromConsole = Listening | Failed | Do | Enter | Invite
