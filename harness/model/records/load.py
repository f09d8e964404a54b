"""Scenarios and what the load processes are told to do."""

from __future__ import annotations

from typing import Literal

import msgspec

Model = Literal["open", "closed"]
Arrivals = Literal["poisson", "constant"]

STEP_S = 0.1
"""Length of a window row and of the grid that phase edges lie on, in seconds."""


LEAST_LATE = 4
"""So many late arrivals in 5 s are evidence that one in a hundred is late, and fewer are not: of 100 arrivals, of which
truly one in a hundred is late, two or more are late in a quarter of all cases, four or more in 2 %."""


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A load shape, unscaled.

    users: virtual users. spawn_rate: users per second. run_time_s: seconds.
    rate: arrivals per second, None = closed model, as fast as the users go.
    user_classes: names, empty = all classes of the locustfile.
    jump: True for `spike`: baseline with 10 % of the users, all of them during the fault phase.
    """

    name: str
    summary: str
    users: int
    spawn_rate: float
    run_time_s: float
    rate: float | None = None
    user_classes: tuple[str, ...] = ()
    jump: bool = False
    baseline_s: float = 60.0
    fault_s: float = 60.0


class TaskInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One leaf task as `describe` found it; share is its part of the class's tasks, 0..1."""

    name: str
    share: float


class UserClass(msgspec.Struct, frozen=True, kw_only=True):
    """A Locust user class. weight: share of arrivals (open) or users (closed), relative to its siblings.

    wait_s: (min, max) wait in seconds where `describe` could tell, else None. host: of the class itself, if it has one.
    """

    name: str
    weight: float = 1.0
    fixed_count: int = 0
    tasks: tuple[TaskInfo, ...] = ()
    wait_s: tuple[float, float] | None = None
    host: str | None = None


class Locustfile(msgspec.Struct, frozen=True, kw_only=True):
    """What a look into the Locust files shows. path: one, or several with commas. sha256: of all of them.

    shapes: their load shapes, which are not used. notes: what Locust would have read beside the files.
    """

    path: str
    sha256: str
    classes: tuple[UserClass, ...]
    shapes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Remote(msgspec.Struct, frozen=True, kw_only=True):
    """Load workers on other machines. workers: how many the run waits for, wait_s seconds at most.

    bind_host, port: where this machine listens for them; an IP address.
    """

    workers: int
    bind_host: str = "127.0.0.1"
    port: int = 5557
    wait_s: float = 300.0


class LoadPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a load process needs, already scaled. Goes to it as JSON; nothing secret in it.

    rate: arrivals per second (open model), None in the closed model.
    ramp_s: seconds of linear ramp from t0 (unscaled users / unscaled spawn rate).
    jump_from: users before the jump (spike), None otherwise.
    addresses: of the host, as checked before the run; the load goes to these whatever the name means later. () = the
    host is not a name, or nobody has checked it. allow_hosts: names, addresses and networks of --allow-host, which the
    load may be sent to besides the host.
    limits_ms: latency limits counted exactly in every window row (a request *over* a limit takes >= it).
    workers: generators that share the schedule, those of other machines (the last ones) included. workers_why: for
    people. locustfile: one, or several with commas. locustfile_sha256: of their content; a remote worker must have the
    same. locust_args: for arguments that the files themselves add. tags, exclude_tags: of tasks, () = all of them.
    first_step: the step of windows.jsonl with which this experiment's load begins, where several share one load: its
    times count from there, and what is intended before it is not its own. The schedule is drawn from the load's t0.
    trace: requests to the target carry a traceparent, and a baggage that calls the load `run`: by its time alone, which
    tells the target nothing of what will be broken. "" before a stack is there.
    """

    model: Model
    host: str
    locustfile: str
    classes: tuple[UserClass, ...]
    seed: int
    users: int
    spawn_rate: float
    ramp_s: float
    rate: float | None = None
    arrivals: Arrivals = "poisson"
    max_in_flight: int = 1000
    request_timeout_s: float = 10.0
    limits_ms: tuple[float, ...] = ()
    workers: int = 1
    workers_why: str = ""
    remote: Remote | None = None
    jump_from: int | None = None
    addresses: tuple[str, ...] = ()
    allow_hosts: tuple[str, ...] = ()
    locustfile_sha256: str = ""
    locust_args: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    exclude_tags: tuple[str, ...] = ()
    first_step: int = 0
    trace: bool = False
    run: str = ""

    @property
    def local_workers(self) -> int:
        """Generators on this machine."""
        return self.workers - (self.remote.workers if self.remote is not None else 0)
