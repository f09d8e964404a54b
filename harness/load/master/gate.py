"""Workers on other machines: who may join, are they there, how far off is each one's clock.

Each has two connections to the Locust master's port: Locust's own, for commands, rows and users, and one that a real
thread of the worker keeps (channel.py), so that a busy locustfile delays neither the pings nor their answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gevent
import msgspec
from locust.rpc import Message

import harness
from harness.load.ipc.protocol import (
    ABANDONED_S,
    BYE,
    HELLO,
    PING,
    PING_EVERY_S,
    PONG,
    REFUSED,
    WELCOME,
    Bye,
    ClockDoubt,
    Hello,
    WorkerStart,
)
from harness.load.master.members import Master, Member
from harness.model.clock import monotonic
from harness.model.records.load import LoadPlan

_FIRST_PINGS_S = 0.02
SILENT_S = 5.0
"""A remote worker that has answered nothing for so long is gone. It has stopped itself by then."""
_GREW, _GREW_S = 1.5, 0.001
"""Doubt is told again when it has grown by this factor and by this much."""


class Gate:
    """members: the places for remote workers. say: one line for people. left: a member that had joined is gone."""

    def __init__(
        self,
        runner: Master,
        plan: LoadPlan,
        members: Sequence[Member],
        say: Callable[[str], None],
        tell: Callable[[ClockDoubt], None],
        left: Callable[[Member, str], None],
    ) -> None:
        self._runner = runner
        self._plan = plan
        self._members = members
        self._say = say
        self._tell = tell
        self._left = left
        self._closed = ""
        self._patience_s = ABANDONED_S
        self._refused: set[str] = set()
        for kind, listener in ((HELLO, self._on_hello), (PONG, self._on_pong), (BYE, self._on_bye)):
            runner.register_message(kind, listener)
        gevent.spawn(self._ping_regularly)

    def close(self, why: str) -> None:
        """Nobody joins from now on."""
        self._closed = why

    def expect_silence(self, seconds: float) -> None:
        """This process may run code of the locustfile for so long (its test_start), which keeps the pings from being
        sent: who has joined waits for that. The next ping takes it back."""
        self._patience_s = max(ABANDONED_S, seconds)
        for member in self._members:
            if member.channel and not member.lost:
                self._ping(member)

    def expect_no_silence(self) -> None:
        self._patience_s = ABANDONED_S

    def begin(self) -> None:
        """The offsets of this moment are used from now on, and their doubt is watched."""
        for member in self._members:
            member.shift = member.clock.offset or 0.0
            self._tell_doubt(member)

    def goodbye(self, text: str, code: int) -> None:
        """The run has ended, with the exit code that the workers take over."""
        for member in self._members:
            if member.channel:
                self._send(BYE, member.channel, msgspec.json.encode(Bye(text=text, code=code)))

    def dismiss(self, member: Member, why: str) -> None:
        """Should it still be there, it is to stop."""
        if member.channel:
            self._send(BYE, member.channel, msgspec.json.encode(Bye(text=why, code=4)))

    # Who may join

    def _on_hello(self, environment: Any, msg: Any, **_: Any) -> None:
        channel = msg.node_id
        if channel in self._refused or any(member.channel == channel for member in self._members):
            return
        try:
            hello = msgspec.json.decode(msg.data, type=Hello)
        except (msgspec.MsgspecError, TypeError):
            self._refuse(channel, "a stranger", "it does not speak this harness's language")
            return
        who = f"{hello.machine} (pid {hello.pid})"
        # Each place has a key of its own, and so only one worker at a time.
        place = next((member for member in self._members if member.index == msg.worker), None)
        problem = self._problem(hello)
        if problem is None and (place is None or place.channel):
            problem = f"its key is that of load worker w{msg.worker}, which the run has already"
        if problem is not None or place is None:
            self._refuse(channel, who, problem or "")
            return
        place.clear()
        place.channel, place.machine, place.pid = channel, who, hello.pid
        start = WorkerStart(plan=self._plan, index=place.index, token=place.token)
        self._send(WELCOME, channel, msgspec.json.encode(start))

    def _problem(self, hello: Hello) -> str | None:
        if hello.version != harness.__version__:
            return f"it is harness {hello.version}, the run is harness {harness.__version__}"
        if hello.locustfile_sha256 != self._plan.locustfile_sha256:
            return (
                f"its locustfile has the SHA-256 {hello.locustfile_sha256[:12]}..., the run's has "
                f"{self._plan.locustfile_sha256[:12]}...: both need the same file (--locustfile)"
            )
        return self._closed or None

    def _refuse(self, channel: str, who: str, why: str) -> None:
        self._refused.add(channel)
        self._send(REFUSED, channel, msgspec.json.encode(Bye(text=why, code=2)))
        self._say(f"a remote worker on {who} was refused: {why}")

    def _on_bye(self, environment: Any, msg: Any, **_: Any) -> None:
        member = self._sender(msg)
        try:
            bye = msgspec.json.decode(msg.data, type=Bye)
        except (msgspec.MsgspecError, TypeError):
            return
        if member is not None:
            self._gone(member, bye.text)

    def _gone(self, member: Member, why: str) -> None:
        if member.connected:
            self._left(member, why)
        if not member.lost and not member.final:
            # It had not joined yet: its place is free again.
            self._say(f"the remote worker on {member.machine} left before it had joined: {why}")
            member.clear()

    # Are they there, and what does their clock say

    def _ping_regularly(self) -> None:
        turned = monotonic()
        while True:
            quick = False
            # Where this process itself stood still, the answers are still to be read.
            stood_still_s = monotonic() - turned - PING_EVERY_S
            if stood_still_s > PING_EVERY_S:
                for member in self._members:
                    member.answered += stood_still_s
            turned = monotonic()
            for member in self._members:
                if not member.channel or member.lost:
                    continue
                if monotonic() - member.answered > SILENT_S and not member.final:
                    self._gone(member, f"it has not answered for {SILENT_S:g} s")
                    continue
                quick = quick or member.clock.offset is None
                self._ping(member)
            gevent.sleep(_FIRST_PINGS_S if quick else PING_EVERY_S)

    def _ping(self, member: Member) -> None:
        self._send(PING, member.channel, {"sent": monotonic(), "patience_s": self._patience_s})

    def _on_pong(self, environment: Any, msg: Any, **_: Any) -> None:
        back = monotonic()
        member = self._sender(msg)
        if member is None:
            return
        member.answered = back
        member.clock.add(msg.data["sent"], msg.data["arrived"], msg.data["answered"], back)
        grown = max(member.doubt_told * _GREW, member.doubt_told + _GREW_S)
        if member.doubt_told and member.clock.doubt(member.shift) > grown:
            self._tell_doubt(member)

    def _tell_doubt(self, member: Member) -> None:
        member.doubt_told = member.clock.doubt(member.shift)
        self._tell(ClockDoubt(worker=member.name, seconds=round(member.doubt_told, 6), offset_s=round(member.shift, 6)))

    def _sender(self, msg: Any) -> Member | None:
        found = next((member for member in self._members if member.channel == msg.node_id), None)
        return found if found is not None and found.index == msg.worker else None

    def _send(self, kind: str, channel: str, data: Any) -> None:
        # Who is gone gets nothing: the router drops it.
        self._runner.server.send_to_client(Message(kind, data, channel))
