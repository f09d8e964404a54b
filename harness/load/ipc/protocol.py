"""What the conductor and the load process say to each other: one JSON object a line, tagged.

Conductor to load, on the load's stdin: `Start` first, then any `Command`. The end of that pipe stops the load
at once. Load to conductor, on its stdout: `LoadMessage`. Imports neither locust nor gevent.
"""

from __future__ import annotations

import msgspec

from harness.load.ipc.keys import WorkerKey
from harness.model.records.acknowledged import Answers
from harness.model.records.load import LoadPlan, Locustfile
from harness.model.records.targets import PhaseName


class _Command(msgspec.Struct, frozen=True, kw_only=True, tag_field="do"):
    pass


class Start(_Command, frozen=True, kw_only=True, tag="start"):
    """windows: path of the file to append rows to."""

    plan: LoadPlan
    windows: str


class Begin(_Command, frozen=True, kw_only=True, tag="begin"):
    """t0: CLOCK_MONOTONIC instant, in seconds, at which the schedule starts."""

    t0: float


class Limits(_Command, frozen=True, kw_only=True, tag="limits"):
    """Count these latency limits exactly, and no others, in every row from step `from_step` on; from the next step,
    where that one has begun."""

    limits_ms: tuple[float, ...]
    from_step: int


class Edge(_Command, frozen=True, kw_only=True, tag="edge"):
    """A phase has begun. The closed model learns the usual cycle of its users in baseline and keeps it until the next
    baseline."""

    phase: PhaseName


class Jump(_Command, frozen=True, kw_only=True, tag="jump"):
    """Change the users of the closed model when step `at_step` begins."""

    users: int
    at_step: int


class Pause(_Command, frozen=True, kw_only=True, tag="pause"):
    """No arrivals at or after this step, until Resume; what is open goes on."""

    from_step: int


class Resume(_Command, frozen=True, kw_only=True, tag="resume"):
    """Arrivals again from this step on, as the schedule has them."""

    at_step: int


class Stop(_Command, frozen=True, kw_only=True, tag="stop"):
    """No arrivals at or after this step; what is open then gets the request time-out to finish."""

    end_step: int


Command = Start | Begin | Limits | Edge | Jump | Pause | Resume | Stop


class WorkerStart(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is told first: its number, where the Locust master listens, and what to name when it joins.

    To a local one on its stdin; to a remote one in WELCOME, without host, port and key, which it has.
    """

    plan: LoadPlan
    index: int
    token: str
    host: str = "127.0.0.1"
    port: int = 0
    key: WorkerKey | None = None


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """A remote worker asks for a place. machine: its host name, for people. Its version is compared first."""

    version: str
    locustfile_sha256: str
    machine: str
    pid: int


class Bye(msgspec.Struct, frozen=True, kw_only=True):
    """Why a connection ends, one line for a person. From the master: refused, or code is what the worker exits with."""

    text: str
    code: int = 0


HELLO, WELCOME, REFUSED = "harness.hello", "harness.welcome", "harness.refused"
PING, PONG, BYE = "harness.ping", "harness.pong", "harness.bye"
"""On a remote worker's own connection to the Locust master's port, kept by a thread of its own beside the one that
Locust uses: Hello, WorkerStart and Bye as JSON; PING {sent}, PONG {sent, arrived, answered}, instants in seconds."""
PING_EVERY_S = 0.2
ABANDONED_S = 2.0
"""A remote worker stops when it has heard nothing from the master for so long."""


class Rows(msgspec.Struct, frozen=True):
    """Lines for windows.jsonl."""

    worker: int
    rows: bytes
    final: bool


class Lines(msgspec.Struct, frozen=True):
    """Lines for acknowledged.jsonl."""

    worker: int
    lines: bytes


class Said(msgspec.Struct, frozen=True):
    worker: int
    text: str


class Joined(msgspec.Struct, frozen=True):
    worker: int
    token: str
    pid: int
    start_time: float
    node: str


class Prepared(msgspec.Struct, frozen=True):
    worker: int


class Pong(msgspec.Struct, frozen=True):
    sent: float
    arrived: float
    answered: float


COMMAND, CONNECTED, READY, ROWS = "harness.command", "harness.connected", "harness.ready", "harness.rows"
NOTED, WARNED, FAILED, BROKEN = "harness.noted", "harness.warned", "harness.failed", "harness.broken"
"""Through Locust's own messages: COMMAND from the main process, the others from a worker."""
SHAPES: dict[str, type[msgspec.Struct]] = {
    CONNECTED: Joined,
    READY: Prepared,
    ROWS: Rows,
    NOTED: Lines,
    WARNED: Said,
    FAILED: Said,
    BROKEN: Said,
    PONG: Pong,
}
"""What the data of a message to the main process must be; of HELLO and BYE it is bytes."""


class Elsewhere(msgspec.Struct, frozen=True, kw_only=True):
    """The argument of `python -m harness.load elsewhere`: a worker for the master on another machine.

    key_file: path of the key that lets it in. wait_s: how long to look for it. allow_hosts: hosts that may be loaded
    besides the target, and the target itself where it is public.
    """

    host: str
    port: int
    locustfile: str
    key_file: str
    wait_s: float
    allow_hosts: tuple[str, ...] = ()


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="message"):
    pass


class Ready(_Message, frozen=True, kw_only=True, tag="ready"):
    """Every worker has imported the locustfile and is connected; waiting for `Begin`.

    pids, start_times: of the worker processes (psutil's create_time); empty when the load process is its own
    only worker.
    """

    workers: int
    pids: tuple[int, ...] = ()
    start_times: tuple[float, ...] = ()


class WorkerLost(_Message, frozen=True, kw_only=True, tag="worker_lost"):
    """A worker process is gone or silent. worker: its name in windows.jsonl. Its arrivals are not taken over."""

    worker: str
    reason: str
    pid: int | None = None


class ClockDoubt(_Message, frozen=True, kw_only=True, tag="clock_doubt"):
    """How far a remote worker's clock may be off, at the start and whenever that has grown. offset_s: its clock minus
    ours, as used. Local workers read the same clock: no such message."""

    worker: str
    seconds: float
    offset_s: float


class Drained(_Message, frozen=True, kw_only=True, tag="drained"):
    """Every row is in windows.jsonl; the process exits 0 soon after."""

    end_step: int


class Warned(_Message, frozen=True, kw_only=True, tag="warned"):
    text: str


class Failed(_Message, frozen=True, kw_only=True, tag="failed"):
    """The load cannot go on; the process exits non-zero. by_file: the locustfile itself asked for the end."""

    text: str
    by_file: bool = False


LoadMessage = Ready | WorkerLost | ClockDoubt | Drained | Warned | Failed


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """The argument of `python -m harness.load describe`. files: absolute paths. The others are as in LoadPlan."""

    files: tuple[str, ...]
    locust_args: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    exclude_tags: tuple[str, ...] = ()


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """What `python -m harness.load describe WANTED` prints: one of the two is set. error: one line for a person.
    exited: the file ended itself; what it printed may say why."""

    locustfile: Locustfile | None = None
    error: str | None = None
    exited: bool = False


class ReadBackStart(msgspec.Struct, frozen=True, kw_only=True):
    """What `python -m harness.load read-back` is to look for: (name, id) each, `rate` looks a second at most."""

    host: str
    addresses: tuple[str, ...]
    allow_hosts: tuple[str, ...] = ()
    locustfile: str
    asks: tuple[tuple[str, str], ...]
    rate: float


class ReadBackBegun(msgspec.Struct, frozen=True, kw_only=True, tag_field="read_back", tag="begun"):
    """Its first answer: it has the locustfile, and takes at most so many seconds from now on."""

    limit_s: float


class ReadBackDone(msgspec.Struct, frozen=True, kw_only=True, tag_field="read_back", tag="done"):
    """Its last answer."""

    answers: Answers
