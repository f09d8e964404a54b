"""The desk of a game day: who may do what when, what is asked of the loop, and what is written down."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.gameday.files import PEOPLE
from harness.conductor.orders import OVER, Chosen, Orders
from harness.gameday.commands import parse
from harness.gameday.desk import IN_BETWEEN, Desk
from harness.gameday.run import told
from harness.gameday.terminal import answer, in_the_name_of, role_of, status, welcome
from harness.model.clock import monotonic
from harness.model.errors import UsageError
from harness.model.jsonl import read_lines
from harness.model.records.many_runs.gameday import Act, DrillPlan, GameDayPlan, Role
from harness.plan.suite.items import one
from harness.suite.prepare import PlannedItem
from tests.e2e.observe import wait_until
from tests.plan.test_planner import make

ROLES: dict[Role, tuple[str, ...]] = {"operator": ("Ada",), "observer": ("Grace",), "responder": ("Bo", "Bo Diddley")}
DRILLS = tuple(
    DrillPlan(number=n, name=name, faults=(fault,), dependencies=(fault.partition("-")[0],), blind=n == 2)
    for n, (name, fault) in enumerate((("no cache", "redis-down"), ("slow", "kafka-latency"), ("no db", "db-down")), 1)
)
PLAN = GameDayPlan(
    title="t",
    zero="2027-01-01T10:00:00Z",
    roles=ROLES,
    prerequisites=("a", "b"),
    drills=DRILLS,
    scenario="target",
    rate=50.0,
    users=10,
    stack="embedded",
    target_url="http://x",
    target_version=None,
    harness="1",
    machine="m",
    command="harness gameday",
)
ITEM = PlannedItem(item=one("x", "redis-down"), plan=make(faults=("redis-down",)))


class Loop:
    """A loop that answers what is asked of it, in a thread of its own, as that of an experiment does."""

    def __init__(self, orders: Orders, why_not: Callable[[str], str] = lambda order: "") -> None:
        self.orders, self.why_not = orders, why_not
        self.asked: list[tuple[str, str, float]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._turn)
        self._thread.start()

    def _turn(self) -> None:
        while not self._over.wait(0.005):
            for asked in self.orders.taken():
                self.asked.append((asked.order, asked.who, asked.seconds))
                asked.answer(self.why_not(asked.order))

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self.orders.close()


class Room:
    """A desk, and the day that follows it, one step at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.said = folder, [""]
        self.desk = Desk(PLAN, (ITEM,) * 3, self.another, folder, monotonic(), self.said.append)
        self.loops: list[Loop] = []

    def another(self, text: str, number: int) -> tuple[DrillPlan, PlannedItem]:
        if text != "redis-hang":
            raise UsageError(f"no fault {text}", hint="try another")
        return DrillPlan(number=number, name=f"unplanned {number}", faults=(text,)), ITEM

    def loop(self, why_not: Callable[[str], str] = lambda order: "") -> Loop:
        self.loops.append(Loop(Orders(), why_not))
        return self.loops[-1]

    def wait(self) -> Loop:
        loop = self.loop()
        assert self.desk.waits(loop.orders)
        return loop

    def start(self, why_not: Callable[[str], str] = lambda order: "") -> Loop:
        """The drill that was decided goes on."""
        begun = self.desk.begins()
        assert begun is not None
        loop = self.loop(why_not)
        self.desk.starts(begun, f"drill-{begun.drill.number:02d}", loop.orders)
        return loop

    def drill(self) -> None:
        """From the wait to the next wait, with nothing said meanwhile."""
        self.wait()
        assert self.do("begin") == ""
        self.start()
        on = self.desk.on
        assert on is not None
        self.desk.over(on.number, monotonic())

    def do(self, line: str, who: str = "Ada") -> str:
        return self.desk.do(who, role_of(self.desk, who), parse(line))

    def acts(self) -> list[str]:
        path = self.folder / PEOPLE
        found: list[Act] = list(read_lines(path, Act)) if path.exists() else []
        return [act.kind for act in found]


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    made = Room(tmp_path)
    yield made
    for loop in made.loops:
        loop.close()


def test_who_may_what(room: Room) -> None:
    room.wait()
    for who in ("Grace", "Bo", "a stranger"):
        for line in ("begin", "begin anyway", "skip", "inject redis-hang", "extend 5s", "clear", "end", "reveal"):
            word = line.partition(" ")[0] if line != "begin anyway" else line
            assert room.do(line, who) == f"{word} is for the operator"
    assert room.do("tick 1", "Bo") and room.do("observed x", "Bo") and room.do("see x", "Grace")
    assert room.acts() == [], "what was refused is written down nowhere"
    for who in ("Ada", "Grace", "Bo"):
        for line in ("note x", "mark", "action x", "abort"):
            assert room.do(line, who) == ""
    assert room.do("tick 1", "Grace") == "" and room.do("think x", "Bo") == ""
    assert room.do("tick 3") == "there are 2 prerequisites"
    assert room.acts() == ["note", "mark", "action", "abort"] * 3 + ["tick", "think"]


def test_a_drill_from_its_begin_to_its_end(room: Room) -> None:
    loop = room.wait()
    assert room.do("extend 5s") == "" and room.do("begin") == "" and loop.asked[-1] == ("proceed", "Ada", 0.0)
    assert room.do("begin") == room.do("skip") == room.do("inject redis-hang") == "drill 1 is about to begin"
    drill = room.start()
    assert room.desk.on is DRILLS[0] and [one.number for one in room.desk.left] == [2, 3]
    for line in ("begin", "skip", "inject redis-hang"):
        assert room.do(line) == "drill 1 is on; abort or clear it first"
    for line in ("begin anyway", "extend 20s", "clear", "abort"):
        assert room.do(line) == ""
    assert drill.asked == [(o, "Ada", s) for o, s in (("begin_anyway", 0), ("extend", 20), ("clear", 0), ("abort", 0))]
    room.desk.over(1, monotonic())
    drill.close()
    assert room.desk.on is None and room.do("abort") == room.do("clear") == IN_BETWEEN
    room.wait()
    assert room.do("skip") == room.do("inject redis-hang") == ""
    begun = room.desk.next
    assert begun is not None and begun.ad_hoc and begun.drill.number == 4
    room.start()
    assert room.acts() == (
        ["extend", "begin", "started", "begin_anyway", "extend", "clear", "abort", "over", "skip", "inject", "started"]
    )
    assert [act.drill for act in read_lines(room.folder / PEOPLE, Act)] == [None, *[1] * 7, 2, 4, 4]


def test_what_the_loop_refuses_is_told_and_not_written(room: Room) -> None:
    room.wait()
    room.do("begin anyway")
    begun = room.desk.next
    assert begun is not None and begun.anyway
    room.start(lambda order: f"no {order} now")
    for order in ("extend 5s", "clear", "abort"):
        assert room.do(order) == f"no {order.split()[0]} now"
    assert room.acts() == ["begin_anyway", "started"]
    room.loops[-1].orders.close()
    assert room.do("abort") == OVER and room.acts() == ["begin_anyway", "started"]


def test_no_drill_is_left_and_what_is_no_fault(room: Room) -> None:
    room.wait()
    assert [room.do("skip") for _ in range(4)] == ["", "", "", "no drill is left: type end, or inject something"]
    assert room.do("inject redis-dwn") == "no fault redis-dwn; try another" and room.desk.next is None
    assert room.do("inject redis-hang") == "" and room.acts() == ["skip"] * 3 + ["inject"]


def test_an_abort_takes_back_a_drill_that_is_about_to_begin(room: Room) -> None:
    room.wait()
    room.do("begin")
    assert room.do("abort", "Bo") == "" and room.desk.begins() is None
    assert [drill.number for drill in room.desk.left] == [1, 2, 3], "and it is the next one again"
    room.wait()
    room.do("inject redis-hang")
    assert room.do("abort", "Bo") == "" and room.desk.begins() is None and len(room.desk.left) == 3


def test_the_end_aborts_what_is_on_and_nothing_begins_after_it(room: Room) -> None:
    room.wait()
    room.do("begin")
    drill = room.start()
    assert room.do("end") == "" and drill.asked == [("abort", "Ada", 0.0)] and room.desk.ended
    room.desk.over(1, monotonic())
    assert not room.desk.waits(Orders()), "the day does not wait any more"
    assert room.do("begin") == room.do("end") == room.do("skip") == "the game day is being closed"
    room.desk.close()
    assert room.acts() == ["begin", "started", "end", "over", "closed"]


def test_a_lost_console_aborts_what_is_on_and_not_what_has_come_to_its_end(room: Room) -> None:
    room.wait()
    assert not room.desk.console_lost(), "nothing is on"
    assert room.do("begin") == ""
    loop = room.start()
    assert room.desk.console_lost() and loop.asked == [("abort", "the harness: its console was lost", 0.0)]
    assert (room.desk.acts[-1].kind, room.desk.acts[-1].text, room.desk.acts[-1].drill) == ("abort", "console lost", 1)
    # Its loop has ended, and what is done after it goes on: the drill was not aborted.
    loop.close()
    before = room.acts()
    assert not room.desk.console_lost() and room.acts() == before


@pytest.mark.parametrize("seed", range(3))
def test_of_eight_people_who_begin_at_once_one_begins_one_drill(room: Room, seed: int) -> None:
    loop = room.wait()
    barrier = threading.Barrier(8)

    def press(number: int) -> str:
        barrier.wait()
        return room.desk.do(f"p{number}", "operator", parse("begin"))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(press, range(8)))
    assert sorted(answers) == ["", *["drill 1 is about to begin"] * 7] and room.acts() == ["begin"]
    assert [order for order, _, _ in loop.asked] == ["proceed"] and len(room.desk.left) == 2


def test_a_full_disk_stops_no_order(room: Room) -> None:
    (room.folder / PEOPLE).mkdir()
    room.wait()
    assert room.do("begin") == "" and "people.jsonl cannot be written" in room.said[-1]
    drill = room.start()
    assert room.do("abort", "Grace") == "" and drill.asked == [("abort", "Grace", 0.0)]
    assert [act.kind for act in room.desk.acts] == ["begin", "started", "abort"]


def test_the_desk_answers_others_while_a_loop_is_asked(room: Room) -> None:
    """Its lock is not held: the loop that answers shows what the desk knows."""
    answers: list[Any] = []

    def why_not(order: str) -> str:
        looked = threading.Thread(target=lambda: answers.append((room.desk.left, room.desk.hidden)))
        looked.start()
        looked.join(2)
        return "" if not looked.is_alive() else "held"

    loop = room.loop(why_not)
    assert room.desk.waits(loop.orders)
    assert room.do("abort") == room.do("begin") == ""
    room.start(why_not)
    assert room.do("clear") == room.do("end") == "" and len(answers) == 4


def test_a_blind_drill_is_hidden_until_somebody_reveals_it(room: Room) -> None:
    room.drill()
    assert room.do("reveal") == "nothing is hidden"
    room.wait()
    room.do("begin")
    room.start()
    shown = "\n".join([*status(room.desk), *room.said])
    assert shown.strip() == "drill 2 is on (blind)" and room.do("reveal") == "wait for the end of the drill"
    room.desk.over(2, monotonic())
    room.wait()
    assert room.desk.hidden == [2]
    assert told(room.desk, "not yet at rest: kafka holds 3 messages") == "next is drill 3, no db; not yet at rest"
    assert room.do("reveal") == "" and room.said[-1] == "drill 2 was slow: kafka-latency" and not room.desk.hidden
    assert told(room.desk, "not yet at rest: kafka") == "next is drill 3, no db; not yet at rest: kafka"


def test_what_is_told_before_a_blind_drill_does_not_name_it(room: Room) -> None:
    room.drill()
    assert told(room.desk, "") == "next is drill 2; the target is at rest"
    room.wait()
    for _ in range(2):
        room.do("skip")
    assert told(room.desk, "") == "no drill is left; the target is at rest"


def test_typed_lines_are_answered(room: Room) -> None:
    said: list[str] = []
    room.wait()
    for line in (
        "",
        "help",
        "status",
        "nonsense",
        "as Bo begin",
        "as Bo Diddley see red",
        "as bo think redis",
        "as Eve note hi",
        "as",
        "as Bo",
        "extend 0s",
        "begin",
    ):
        answer(room.desk, line, said.append)
    assert "begin [anyway]" in said[0] and said[1] == "between drills; 3 of 3 left"
    assert said[2:] == [
        "'nonsense' is no command: type help",
        "not done: begin is for the operator",
        "see: done",
        "think: done",
        "note: done",
        "'as' is no command: type help",
        "as whom, and what? for example: as Bo note the dashboard is red",
        "extend: done",  # the loop here grants everything
        "begin: done",
    ]
    assert [(act.who, act.role) for act in room.desk.acts] == [
        ("Bo Diddley", "responder"),
        ("Bo", "responder"),
        ("Eve", "observer"),
        ("Ada", "operator"),
        ("Ada", "operator"),
    ]
    assert "1. a\n  2. b" in welcome(room.desk) and in_the_name_of(room.desk, "x" * 90 + " mark")[0] == "x" * 60


@pytest.mark.parametrize("choice", ["keep", "restore"])
def test_the_operator_says_what_becomes_of_somebody_s_change(room: Room, choice: str) -> None:
    assert room.do(choice) == "nothing was asked"
    chosen: list[Chosen] = []
    asking = threading.Thread(target=lambda: chosen.append(room.desk.choose("db-connection-limit", "limit 7")))
    asking.start()
    assert wait_until(lambda: room.desk.board(hidden=False).question == "limit 7", 5)
    assert room.desk.board(hidden=True).question == "" and "limit 7" in room.said[-1]
    assert room.desk.do("Grace", "observer", parse(choice)) != ""
    assert room.do(choice) == "" and room.do(choice) == "nothing was asked"
    asking.join(5)
    assert chosen == [Chosen(choice=choice, who="Ada")]  # type: ignore[arg-type]
    assert room.acts() == [choice] and room.desk.board(hidden=False).question == ""


def test_a_question_that_nobody_answers_is_over_in_time(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.gameday.desk.QUESTION_S", 0.05)
    assert room.desk.choose("db-connection-limit", "limit 7") == Chosen()
    assert room.do("keep") == "nothing was asked" and room.acts() == []


def test_of_a_blind_drill_the_question_names_nothing_in_the_terminal(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.gameday.desk.QUESTION_S", 0.05)
    room.wait()
    assert room.do("skip") == room.do("begin") == ""
    room.start()
    room.desk.choose("kafka-latency", "kafka has another toxic")
    assert "kafka" not in room.said[-1] and "type keep" in room.said[-1]


def test_what_is_said_in_a_pause_is_of_the_drill_before(room: Room) -> None:
    room.wait()
    for line in ("note first", "action write a runbook"):
        assert room.do(line) == ""
    room.drill()
    room.wait()
    for line in ("observed nothing", "action alert on it", "note talk", "see errors"):
        assert room.do(line) == ""
    acts = [(act.kind, act.drill) for act in read_lines(room.folder / PEOPLE, Act) if act.role != "harness"]
    assert acts[:2] == [("note", None), ("action", None)] and acts[3:] == [
        ("observed", 1),
        ("action", 1),
        ("note", 1),
        ("see", None),
    ]


def test_a_question_ends_with_the_day_and_where_nobody_will_answer(room: Room) -> None:
    begun = monotonic()
    assert room.desk.choose("db-connection-limit", "limit 7", lambda: True) == Chosen()
    asking = threading.Thread(target=room.desk.choose, args=("db-connection-limit", "limit 7"))
    asking.start()
    assert room.do("end") == ""
    asking.join(10)
    assert not asking.is_alive() and monotonic() - begun < 30
