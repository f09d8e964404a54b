"""After the load: a few requests of the mix, by fresh users on fresh connections, until the target answers as it did in
baseline or its time is up.

A process of its own, so that nothing of the load is left in it (connections, sessions, threads that hang), and so that
it can be ended at any moment. Whatever the locustfile's client is, its requests are seen and bounded as the load's are;
they are in no window. What the file prepares in `init` and `test_start` is prepared again, as in any fresh start.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import gevent
import gevent.pool
import msgspec

from harness.load.allowed_hosts.enforce import hold_to
from harness.load.generator.clients import hook_clients
from harness.load.generator.hooks import install
from harness.load.generator.locustfile import make_environment
from harness.load.generator.tracker import Tracker
from harness.load.ipc.look_protocol import Looked, LookStart
from harness.load.ipc.pipe import MessagePipe, ParentPipe
from harness.load.record.arrival import Arrival, UserState
from harness.load.record.recorder import Recorder, shortened
from harness.load.record.stats import StatsBatch
from harness.load.writes.acknowledged import Notes
from harness.model.clock import monotonic
from harness.model.jsonl import encode_line
from harness.model.records.load import LoadPlan, UserClass
from harness.model.records.windows import REPLY_KINDS

USERS = 6
"""Fresh users a look; every class has one at least, up to MOST_USERS."""
MOST_USERS = 12
TASKS = 2
"""Of each user. The first one opens its connection."""
OPENING_MS = 1000.0
"""What the first may take beyond the limit: opening a connection is rare in the load, which keeps its own."""
LOOK_S = 5.0
"""A request without an answer for so long is given up (or the load's own time-out, where that is shorter)."""
EVERY_S = 1.0
CHANCE = 0.05
"""As many failures as in baseline are no sign of anything: a look is bad where fewer than one in twenty would have so
many."""
PREPARE_S = 20.0
"""For the file's test_start."""
GOODBYE_S = 2.0
EXAMPLE = 200


class Seen(Recorder):
    """What becomes of the requests of one look; takes the place of the recorder of windows."""

    def __init__(self) -> None:
        super().__init__("look", ())
        self.limit_ms: float | None = None
        self.clear()

    def clear(self) -> None:
        self.asked = self.good = self.answered = 0
        self.example = ""
        self.over = False

    def step(self, instant: float) -> int:
        return 1  # of a task's later requests: on the connection that its first one has opened

    def take(self, arrival: Arrival) -> None:
        pass

    def end(self, arrival: Arrival) -> None:
        arrival.ended = True

    def replied(self, arrival: Arrival) -> None:
        pass

    def out_of(self, text: str) -> None:
        pass

    def ok(self, name: str, step: int, latency_ms: float, body_bytes: int = 0, parent: str = "") -> None:
        if self.over:
            return
        self.asked += 1
        self.answered += 1
        limit = None if self.limit_ms is None else self.limit_ms + (OPENING_MS if step == 0 else 0.0)
        if limit is None or latency_ms < limit:
            self.good += 1
        else:
            self._bad(f"{name} took {latency_ms / 1000:.2f} s")

    def resent(self, name: str, step: int) -> None:
        pass

    def fail(
        self, name: str, step: int, latency_ms: float, kind: str, intended: float, text: str, parent: str = ""
    ) -> None:
        if self.over:
            return
        self.asked += 1
        self.answered += kind in REPLY_KINDS
        self._bad(f"{name} ({kind}): {text}")

    def failed(self, arrival: Arrival, kind: str, text: str) -> None:
        """A task that ended in an exception before any request."""
        self.fail(arrival.class_name, 0, 0.0, kind, arrival.intended, text)

    def empty(self, arrival: Arrival) -> None:
        pass

    def setup(self, name: str, started: float, latency_ms: float, kind: str | None, text: str) -> None:
        """In on_start: a login that is refused keeps its user from asking anything else."""
        if kind is not None:
            self.fail(name, 0, latency_ms, kind, started, text)

    def _bad(self, text: str) -> None:
        self.example = self.example or shortened(text, EXAMPLE)

    @property
    def bad(self) -> int:
        return self.asked - self.good


class FewTasks:
    """The model of a look (generator/hooks.py, Model): TASKS tasks a user at once, and none after a failure."""

    def __init__(self, seen: Seen) -> None:
        from locust.exception import StopUser

        self._stop_user = StopUser
        self._seen = seen
        self._taken: dict[UserState, int] = {}

    def clear(self) -> None:
        self._taken.clear()

    def adopt(self, user: Any) -> UserState:
        return UserState(user, type(user).__name__)

    def take(self, state: UserState) -> Arrival:
        number = self._taken.get(state, 0)
        if number >= TASKS or (number and self._seen.bad) or self._seen.over:
            raise self._stop_user
        self._taken[state] = number + 1
        return Arrival(state.class_name, monotonic(), number)

    def ended(self, state: UserState) -> None:
        pass

    def wait(self, state: UserState) -> bool:
        return True

    def pause(self, state: UserState, seconds: float) -> None:
        gevent.sleep(seconds)


def shared_out(classes: tuple[UserClass, ...]) -> dict[str, int]:
    """How many fresh users of each class a look has: by weight, one at least, the heaviest first."""
    ordered = sorted(classes, key=lambda one: -(one.weight or one.fixed_count))[:MOST_USERS]
    whole = sum(one.weight or one.fixed_count for one in ordered) or 1.0
    return {one.name: max(1, round(USERS * (one.weight or one.fixed_count) / whole)) for one in ordered}


def as_before(asked: int, bad: int, failing: float) -> bool:
    """Whether a look is as baseline was. Something must have been asked."""
    return asked > 0 and (bad == 0 or at_least(bad, asked, failing) >= CHANCE)


def at_least(bad: int, n: int, share: float) -> float:
    """P(X >= bad) of n with this share each; n is small."""
    below, term = 0.0, (1.0 - share) ** n
    for k in range(bad):
        below += term
        term *= (n - k) / (k + 1) * share / (1.0 - share) if share < 1.0 else 0.0
    return 1.0 - below


class Looker:
    """Prepares this process once; then each `look` is one."""

    def __init__(self, plan: LoadPlan, limit_ms: float | None, failing: float) -> None:
        self._plan = plan
        self._failing = failing
        self._users = shared_out(plan.classes)
        self._timeout_s = min(plan.request_timeout_s, max(LOOK_S, 3 * (limit_ms or 0.0) / 1000))
        self.seen = Seen()
        self.seen.limit_ms = limit_ms
        self._environment = make_environment(plan)
        self._environment.create_local_runner()
        # What these users write is not read back: where nobody takes note, the file would do that itself at the end.
        Notes("look").install(self._environment)
        self._tracker = Tracker(self.seen, self._timeout_s, StatsBatch(self._environment))
        self._model = FewTasks(self.seen)
        hook_clients(self._tracker, self._environment)
        hold_to(plan.host, plan.addresses, plan.allow_hosts)
        install(self._model, self.seen, self._tracker)

    def prepare(self) -> None:
        """What the file's listeners prepare. One that waits for a target that is dead is not waited for."""
        environment = self._environment
        environment.events.init.fire(environment=environment, runner=environment.runner, web_ui=None)
        with gevent.Timeout(PREPARE_S, False):
            environment.events.test_start.fire(environment=environment)

    def goodbye(self) -> None:
        with gevent.Timeout(GOODBYE_S, False):
            self._environment.events.test_stop.fire(environment=self._environment)

    def look(self) -> bool:
        """Ask once; `seen` has what came of it. True: as in baseline."""
        seen = self.seen
        seen.clear()
        self._model.clear()
        greenlets = []
        group = gevent.pool.Group()
        for cls in self._environment.user_classes:
            for _ in range(self._users.get(cls.__name__, 0)):
                try:
                    greenlets.append(cls(self._environment).start(group))
                except Exception as error:
                    seen.fail(cls.__name__, 0, 0.0, "exception", 0.0, f"{type(error).__name__}: {error}")
        gevent.wait(greenlets, timeout=TASKS * self._timeout_s + 0.5)
        self._tracker.abandon()
        if seen.asked == 0:
            # No request at all: users that could not begin say why.
            for raised in [one.exception for one in greenlets if one.exception is not None][:1]:
                seen.fail("on_start", 0, 0.0, "exception", 0.0, f"{type(raised).__name__}: {raised}")
        seen.over = True
        group.kill(block=False)
        gevent.sleep(0)
        return as_before(seen.asked, seen.bad, self._failing)


def run(messages: MessagePipe, pipe: ParentPipe) -> int:
    """The program: exit code 0."""
    start = msgspec.json.decode(pipe.first_line(), type=LookStart)
    pipe.listen(lambda _: None)  # its end is the end of this process
    looker = Looker(start.plan, start.limit_ms, start.failing)
    looker.prepare()
    repeat(looker.look, looker.seen, start.until, lambda looked: messages.write(encode_line(looked)))
    looker.goodbye()
    return 0


def repeat(look: Callable[[], bool], seen: Seen, until: float, tell: Callable[[Looked], None]) -> None:
    """Look each second until a look is as baseline was, or `until` has come."""
    begun = monotonic()
    for number in itertools.count(1):
        well = look()
        due = max(begun + number * EVERY_S, monotonic())
        last = well or due >= until
        tell(
            Looked(
                at=monotonic(),
                asked=seen.asked,
                good=seen.good,
                answered=seen.answered,
                as_in_baseline=well,
                last=last,
                example=seen.example,
            )
        )
        if last:
            return
        gevent.sleep(due - monotonic())
