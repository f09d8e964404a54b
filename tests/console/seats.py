"""A console's process as it is, before a desk whose loop is a thread that says yes to everything."""

from __future__ import annotations

import http.client
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

import msgspec

from harness.conductor.orders import Orders
from harness.console.guests import Guests
from harness.console.invitations import Given, Wanted, _connected
from harness.console.link import Console, Place
from harness.console.protocol import FaultForm, ParamForm
from harness.gameday.desk import Desk
from harness.model.clock import monotonic
from harness.model.errors import UsageError
from harness.model.jsonl import encode_line
from harness.model.records.live import LiveFault, LiveNumbers, LiveState
from harness.model.records.many_runs.gameday import DrillPlan, GameDayPlan
from harness.suite.prepare import PlannedItem
from tests.e2e.observe import wait_until

ANYWHERE = Guests(address="127.0.0.1:0")
EVIL = "<script>document.title='broken'</script>"
FAULTS = (
    FaultForm(
        fault="redis-latency",
        dependency="redis",
        summary="slows it down",
        params=(ParamForm(name="latency", default="300ms", help="added to each answer"),),
    ),
)


def plan(*drills: DrillPlan) -> GameDayPlan:
    return GameDayPlan(
        title=f"checkout {EVIL}",
        zero="2026-11-30T12:00:00.000Z",
        roles={"operator": ("Ada",), "responder": ("Bo",)},
        prerequisites=("somebody can say stop",),
        drills=drills
        or (
            DrillPlan(number=1, name="cache gone", faults=("redis-down",), dependencies=("redis",)),
            DrillPlan(number=2, name="slow store", faults=("db-latency",), dependencies=("db",), blind=True),
        ),
        scenario="target",
        rate=50.0,
        users=10,
        stack="embedded",
        target_url="http://127.0.0.1:1",
        target_version=None,
        harness="0",
        machine="test",
        command="harness gameday plan.yaml",
    )


def live(phase: str = "settle", fault: str = "") -> LiveState:
    return LiveState(
        experiment="x",
        scenario="target",
        stack="embedded",
        at_s=3.0,
        phase=phase,
        phase_at_s=1.0,
        phase_left_s=None,
        total_requests=100,
        total_failures=0,
        numbers=LiveNumbers(span_s=2.0, end_s=2.0, rps=50.0, error_rate=0.0, p50_ms=3.0, p95_ms=9.0, p99_ms=12.0),
        faults=(LiveFault(id=fault, state="proven", detail=f"db latency {EVIL}"),) if fault else (),
        message=f"waiting for {fault}" if fault else "",
    )


@dataclass
class Day:
    """taken: orders that reached the loop, in order."""

    desk: Desk
    console: Console
    said: list[str]
    taken: list[str] = field(default_factory=list)
    orders: Orders = field(default_factory=Orders)

    def link(self) -> str:
        """Of the operator, as it was told; good once."""
        (line,) = [line for line in self.said if line.startswith("the console: ")]
        return line.rpartition("/")[2]

    def invite(self, wanted: Wanted) -> str:
        """The link that `harness gameday invite` prints."""
        other = _connected(self.desk.folder / "private")
        assert other is not None
        with other:
            other.sendall(encode_line(wanted))
            given = msgspec.json.decode(other.recv(2_000), type=Given)
        assert not given.why_not, given.why_not
        return given.url


@contextmanager
def day(folder: Path, *, guests: Guests | None = ANYWHERE) -> Iterator[Day]:
    (folder / "logs").mkdir()
    private = folder / "private"
    private.mkdir(mode=0o700)

    def another(text: str, number: int) -> tuple[DrillPlan, PlannedItem]:
        if not text.startswith("redis-latency"):
            raise UsageError(f"unknown fault {text!r}")
        return DrillPlan(number=number, name=f"unplanned {number}", faults=(text,)), None  # type: ignore[return-value]

    told = plan()
    items: tuple[PlannedItem, ...] = (None,) * len(told.drills)  # type: ignore[assignment]
    desk = Desk(told, items, another, folder, monotonic(), lambda line: None)
    desk.shows(live())
    said: list[str] = []
    place = Place(faults=FAULTS)
    if guests is not None:
        place = guests.at(place, private)
    console = Console(desk, place, private, said.append)
    found = Day(desk, console, said)
    over = threading.Event()

    def loop() -> None:
        while not over.is_set():
            for asked in found.orders.taken():
                found.taken.append(asked.order)
                asked.answer("")
            time.sleep(0.005)

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    desk.waits(found.orders)
    console.open()
    try:
        yield found
    finally:
        console.close()
        over.set()
        thread.join()


@dataclass
class Browser:
    """One browser's cookie at one listener, and requests as raw as one likes."""

    port: int
    tls: bool = False
    cookie: str = ""

    @property
    def origin(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def ask(
        self, method: str, path: str, fields: dict[str, str] | None = None, **headers: str
    ) -> tuple[int, str, dict[str, str]]:
        connection = self._connection()
        sent = {"Host": f"127.0.0.1:{self.port}", "Accept": "application/json"}
        if method == "POST":
            sent |= {"Origin": self.origin, "Content-Type": "application/x-www-form-urlencoded"}
        if self.cookie:
            sent["Cookie"] = self.cookie
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, urlencode(fields or {}) if method == "POST" else None, sent)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(), {k.lower(): v for k, v in answer.getheaders()}
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        if not self.tls:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=10, context=trusting)

    def enter(self, token: str) -> int:
        code, _, headers = self.ask("POST", f"/enter/{token}")
        self.cookie = headers.get("set-cookie", "").partition(";")[0]
        return code

    def stream(self) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """As a page opens it; to be closed."""
        connection = self._connection()
        connection.request("GET", "/stream", headers={"Host": f"127.0.0.1:{self.port}", "Cookie": self.cookie})
        return connection, connection.getresponse()

    def do(self, kind: str, **fields: str) -> tuple[int, str]:
        code, body, _ = self.ask("POST", f"/do/{kind}", fields)
        return code, body


class Stream:
    """All that the stream of a browser's page has said, as it comes; its thread ends with the console."""

    def __init__(self, browser: Browser) -> None:
        self._connection, self._answer = browser.stream()
        assert self._answer.status == 200
        self._lines: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    def text(self) -> str:
        return "".join(self._lines)

    def says(self, text: str) -> bool:
        """Sooner or later."""
        return wait_until(lambda: text in self.text(), 10)

    def _read(self) -> None:
        try:
            while line := self._answer.readline():
                self._lines.append(line.decode())
        except (OSError, ValueError, http.client.HTTPException):
            pass
        self._connection.close()
