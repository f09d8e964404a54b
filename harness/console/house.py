"""What the console knows: who may come in, what is shown, and what waits for an answer of the run."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable

from harness.console.doors import hashed
from harness.console.pieces import PIECES, rendered
from harness.console.protocol import Boards, Do, Enter, FaultForm, FromConsole, Invite, Seat
from harness.gameday.board import Board
from harness.gameday.commands import Command
from harness.model.records.many_runs.gameday import Role

ANSWER_S = 10.0
MOST_WAITING = 500
MOST_WATCHERS = 100
"""Streams of all together; the operator finds room all the same."""
MOST_OF_ONE = 8


class House:
    """Of one loop: no method is called in another thread. tell: sends a message to the run."""

    def __init__(self, tell: Callable[[FromConsole], None], faults: tuple[FaultForm, ...], *, has_guests: bool) -> None:
        self.faults = faults
        self.has_guests = has_guests
        self.watching = Counter[str]()
        self.closing = self.over = False
        self._tell = tell
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[str]] = {}
        self._seats: dict[str, Seat] = {}
        self._changed = asyncio.Condition()
        self._boards: Boards | None = None
        self._pieces: dict[bool, dict[str, str]] = {True: {}, False: {}}
        self._tasks: set[asyncio.Task[None]] = set()

    # -- who ---------------------------------------------------------------------------------------------------

    def seat(self, seats: tuple[Seat, ...]) -> None:
        self._seats = {seat.cookie: seat for seat in seats}
        self._notify()

    def who(self, cookie: str) -> Seat | None:
        return self._seats.get(hashed(cookie)) if cookie else None

    def knows(self, cookie: str) -> bool:
        return self.who(cookie) is not None

    @property
    def watchers(self) -> int:
        return self.watching.total()

    def has_room_for(self, seat: Seat) -> bool:
        """Whether one more stream of theirs may be opened: nobody takes all of them."""
        all_taken = self.watchers >= MOST_WATCHERS and seat.role != "operator"
        return self.watching[seat.cookie] < MOST_OF_ONE and not all_taken

    async def enter(self, token: str, *, operators: bool) -> str:
        return await self._ask(lambda number: Enter(number=number, token=token, operators=operators)) or ""

    async def invite(self, name: str, role: Role, *, revoke: bool) -> str | None:
        return await self._ask(lambda number: Invite(number=number, name=name, role=role, revoke=revoke))

    # -- what --------------------------------------------------------------------------------------------------

    async def do(self, seat: Seat, command: Command) -> str:
        """ "" when it is done, else why it is not."""
        text = await self._ask(lambda number: Do(number=number, who=seat.name, role=seat.role, command=command))
        return "the run does not answer" if text is None else text

    async def _ask(self, made: Callable[[int], FromConsole]) -> str | None:
        """None where nobody answers."""
        if len(self._waiting) >= MOST_WAITING:
            return None
        number = next(self._numbers)
        waiting: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting[number] = waiting
        try:
            self._tell(made(number))
            return await asyncio.wait_for(waiting, ANSWER_S)
        except TimeoutError:
            return None
        finally:
            self._waiting.pop(number, None)

    def answered(self, number: int, text: str) -> None:
        waiting = self._waiting.get(number)
        if waiting is not None and not waiting.done():
            waiting.set_result(text)

    # -- what is shown -----------------------------------------------------------------------------------------

    def show(self, boards: Boards) -> None:
        """Rendered once for everybody who looks on."""
        self._boards = boards
        for operators, board in ((True, boards.operator), (False, boards.guests)):
            if self.watchers or not self._pieces[operators]:
                self._pieces[operators] = rendered(board)
        self._notify()

    def board(self, *, operators: bool) -> Board | None:
        if self._boards is None:
            return None
        return self._boards.operator if operators else self._boards.guests

    def pieces(self, *, operators: bool) -> dict[str, str]:
        """Name -> HTML, as it is now."""
        board = self.board(operators=operators)
        if board is None:
            return dict.fromkeys(PIECES, "")
        if not self.watchers:
            return rendered(board)
        return self._pieces[operators]

    async def next_change(self, limit_s: float) -> None:
        """Until something may have changed, or so long."""
        try:
            async with asyncio.timeout(limit_s), self._changed:
                await self._changed.wait()
        except TimeoutError:
            pass

    def close(self) -> None:
        self.closing = True
        self._notify()

    def _notify(self) -> None:
        async def tell() -> None:
            async with self._changed:
                self._changed.notify_all()

        task = asyncio.get_running_loop().create_task(tell())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
