"""The run's side of its console: starts it, tells it what to show, does what people ask, and starts it again when it
dies, after every fault was cleared."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from harness.console.certificate import fingerprint
from harness.console.doors import Doors
from harness.console.invitations import Given, Wanted, answering
from harness.console.protocol import (
    MOST_MESSAGE,
    Answer,
    Boards,
    Do,
    Enter,
    Failed,
    FaultForm,
    FromConsole,
    Invite,
    Listen,
    Listening,
    Over,
    ParamForm,
    Seats,
    ToConsole,
)
from harness.fault import Fault
from harness.gameday.desk import Desk
from harness.gameday.terminal import operator, reading
from harness.model.errors import SetupError
from harness.model.jsonl import encode_line
from harness.model.records.faults import Dependency
from harness.model.records.many_runs.gameday import Role
from harness.plan.suite.profile import possible

BOARD_EVERY_S = 0.25
START_S = 20.0
GOODBYE_S = 5.0
STUCK_S = 20.0
"""A console that takes nothing for so long hangs: it is killed, and another one started."""
MOST_DEATHS = 20
"""A console that dies more often is not started again: the day goes on in the terminal."""
MOST_LINE = 64_000
CONSOLE = "console"

Say = Callable[[str], None]


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where it listens. See Listen."""

    port: int = 0
    guests: str = ""
    certificate: str = ""
    key: str = ""
    faults: tuple[FaultForm, ...] = ()


def forms(dependencies: Sequence[Dependency], faults: Mapping[str, Fault]) -> tuple[FaultForm, ...]:
    """What may be injected without a plan, as the faults describe themselves."""
    return tuple(
        FaultForm(
            fault=f"{dependency.name}-{kind}",
            dependency=dependency.name,
            summary=fault.summary,
            params=tuple(
                ParamForm(name=one.name, default=one.default, help=one.help, choices=one.choices)
                for one in fault.params
            ),
        )
        for dependency in dependencies
        for kind, fault in sorted(faults.items())
        if possible(fault, dependency, told=True)
    )


class Console:
    """open() returns when it listens, or raises SetupError; close() ends it. private: a folder that nobody else
    may enter."""

    def __init__(self, desk: Desk, place: Place, private: Path, say: Say) -> None:
        self.doors = Doors()
        self.port = 0
        self.guests_port = 0
        self._desk = desk
        self._place = place
        self._log = desk.folder / "logs" / "console.log"
        self._private = private
        self._invitations: Callable[[], None] | None = None
        self._typing: Callable[[], None] | None = None
        self._say = say
        self._over = threading.Event()
        self._writing = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._deaths = 0
        self._since: float | None = None
        self._threads: list[threading.Thread] = []

    def open(self) -> None:
        self._start(self._place.port)
        for work, name in (
            (self._listen, "console answers"),
            (self._show, "console boards"),
            (self._watch, "console watch"),
        ):
            thread = threading.Thread(target=work, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)
        self._say(f"the console: {self.address}/enter/{self.doors.invite(operator(self._desk), 'operator')}")
        if self._place.guests:
            self._say(f"guests: {self.guests_address}, certificate {fingerprint(Path(self._place.certificate))}")
            self._say("invite them on the console, or with: harness gameday invite NAME --role observer|responder")
        try:
            self._invitations = answering(self._private, self._wanted)
        except OSError as error:
            self._say(f"`harness gameday invite` does not reach this console: {error}")

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def guests_address(self) -> str:
        return f"https://{self._place.guests.rpartition(':')[0]}:{self.guests_port}"

    @property
    def idle(self) -> bool:
        """Nothing waits to be told to it."""
        return not self._writing.locked()

    @property
    def pid(self) -> int:
        return self._child.pid if self._child is not None else 0

    def close(self) -> None:
        self._over.set()
        if self._writing.acquire(timeout=GOODBYE_S):
            self._writing.release()
            self._tell(Over())
        if self._invitations is not None:
            self._invitations()
        child = self._child
        if child is not None:
            # Whoever writes to one that hangs has the lock for as long as it lives.
            if self._writing.acquire(timeout=GOODBYE_S):
                with suppress(OSError, ValueError):
                    if child.stdin is not None:
                        child.stdin.close()
                self._writing.release()
            else:
                child.kill()
            with suppress(subprocess.TimeoutExpired):
                child.wait(GOODBYE_S)
            child.kill()
            child.wait()
        for thread in self._threads:
            thread.join(GOODBYE_S)
        if self._typing is not None:
            self._typing()
        if child is not None:
            _let_go(child)

    def _start(self, port: int) -> None:
        with self._log.open("ab") as log:
            self._child = child = subprocess.Popen(
                [sys.executable, "-P", "-u", "-m", "harness.console.process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        place = self._place
        guests = place.guests
        if self.guests_port:
            guests = f"{guests.rpartition(':')[0]}:{self.guests_port}"
        self._tell(Listen(port=port, guests=guests, certificate=place.certificate, key=place.key, faults=place.faults))
        self._tell(Seats(seats=self.doors.seats))
        said = self._first(child)
        if isinstance(said, Failed):
            child.kill()
            raise SetupError(f"the console cannot listen: {said.text}", hint="name another port with --port")
        if not isinstance(said, Listening):
            child.kill()
            raise SetupError("the console did not start", hint=f"see {self._log}")
        self.port, self.guests_port = said.port, said.guests_port

    def _first(self, child: subprocess.Popen[bytes]) -> FromConsole | None:
        """Its first message; None when it ended, or said nothing for too long."""
        late = threading.Timer(START_S, child.kill)
        late.start()
        try:
            return self._read(child)
        finally:
            late.cancel()

    def _read(self, child: subprocess.Popen[bytes]) -> FromConsole | None:
        assert child.stdout is not None
        try:
            line = child.stdout.readline(MOST_LINE)
            return msgspec.json.decode(line, type=FromConsole) if line else None
        except (OSError, ValueError, msgspec.MsgspecError):
            return None

    def _tell(self, message: ToConsole) -> None:
        child = self._child
        if child is None or child.stdin is None:
            return
        line = encode_line(message)
        if len(line) >= MOST_MESSAGE:
            # It would end there; what was shown before stays.
            return
        with self._writing, suppress(OSError, ValueError):
            self._since = time.monotonic()
            try:
                child.stdin.write(line)
                child.stdin.flush()
            finally:
                self._since = None

    def _watch(self) -> None:
        while not self._over.wait(0.5):
            child, since = self._child, self._since
            if child is not None and since is not None and time.monotonic() - since > STUCK_S:
                child.kill()

    def _show(self) -> None:
        while not self._over.wait(BOARD_EVERY_S):
            self._tell(Boards(operator=self._desk.board(hidden=False), guests=self._desk.board(hidden=True)))

    def _listen(self) -> None:
        while not self._over.is_set():
            child = self._child
            assert child is not None
            message = self._read(child)
            if message is None:
                if not self._over.is_set() and not self._again(child):
                    return
                continue
            # An order may take a while to be answered, and an abort must not wait behind another one.
            threading.Thread(target=self._take, args=(message,), name="console asks", daemon=True).start()

    def _again(self, child: subprocess.Popen[bytes]) -> bool:
        """It died: whoever sat there cannot end anything any more, so everything is undone; then a new one."""
        child.kill()
        child.wait()
        with self._writing:
            _let_go(child)
        cleared = self._desk.console_lost()
        self._deaths += 1
        if self._deaths > MOST_DEATHS:
            # A day that nobody can steer would go on for hours: whoever has the terminal goes on with it, and where
            # there is none to type into, the day ends.
            log = self._log.relative_to(self._desk.folder)
            self._say(
                f"the console has died {self._deaths} times and is not started again (why: {log}): go on by typing "
                "here, as with --no-web (help lists it); Ctrl-C undoes all and ends the day"
            )
            self._typing = reading(self._desk, self._say)
            return False
        try:
            self._start(self.port)
        except (SetupError, OSError) as error:
            self._say(f"the console has died, and a new one does not start: {error}")
            time.sleep(1.0)
            return not self._over.is_set()
        undone = "; what was on was aborted" if cleared else ""
        self._say(f"the console has died and was started again: {self.address}, as before{undone}")
        return True

    def _take(self, message: FromConsole) -> None:
        match message:
            case Do(number=number, who=who, role=role, command=command):
                self._tell(Answer(number=number, text=self._desk.do(who, role, command)))
            case Enter(number=number, token=token, operators=operators):
                cookie = self.doors.enter(token, operators=operators)
                self._tell(Seats(seats=self.doors.seats))
                self._tell(Answer(number=number, text=cookie))
            case Invite(number=number, name=name, role=role, revoke=revoke):
                self._tell(Answer(number=number, text=self._invite(name, role, revoke=revoke)))
                self._tell(Seats(seats=self.doors.seats))
            case _:
                pass

    def _invite(self, name: str, role: Role, *, revoke: bool) -> str:
        """Asked for on a page. Whoever is to be the operator is a matter for those who may enter the private folder."""
        if role == "operator":
            return ""
        given = self._wanted(Wanted(name=name, role=role, revoke=revoke))
        return given.why_not if revoke else given.url

    def _wanted(self, wanted: Wanted) -> Given:
        name = " ".join(wanted.name.split())
        if wanted.revoke:
            done = self.doors.revoke(name)
            self._tell(Seats(seats=self.doors.seats))
            return Given(why_not="" if done else "nobody of that name has a seat")
        if not self.guests_port and wanted.role != "operator":
            return Given(why_not="this game day has no listener for guests: start it with --guests ADDRESS:PORT")
        if not name:
            return Given(why_not="whom?")
        token = self.doors.invite(name, wanted.role)
        at = self.address if wanted.role == "operator" else self.guests_address
        return Given(url=f"{at}/enter/{token}") if token else Given(why_not="too many are invited")


def _let_go(child: subprocess.Popen[bytes]) -> None:
    for pipe in (child.stdin, child.stdout):
        with suppress(OSError, ValueError):
            if pipe is not None:
                pipe.close()


def opened(place: Place, desk: Desk, say: Say, private: Path) -> Callable[[], None]:
    """Open a console for a desk; what is returned closes it. Raises SetupError."""
    console = Console(desk, place, private, say)
    console.open()
    return console.close
