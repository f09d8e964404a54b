"""Each request of the mix once or a few times, as one user after another would send it, and what it got.

Only what changes nothing is sent (GET, HEAD, OPTIONS), unless everything is asked for or the file has nothing else: a
request of another method ends its task before it leaves. Each top-level task has a user of its own and is run once; a
task set a few times, its tasks in turn. Whatever the client is, its requests are seen and bounded as the load's are,
and go to the run's hosts alone. What the file prepares in `init` and `test_start` is prepared, as in any start; what
clients of its own send there by other libraries than requests nobody can hold back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
import gevent.pool
import msgspec
import requests
from gevent import getcurrent

from harness.load.after_load.last_look import PREPARE_S, Seen
from harness.load.allowed_hosts.enforce import hold_to
from harness.load.generator.clients import hook_clients
from harness.load.generator.hooks import install
from harness.load.generator.locustfile import BadLocustfile, make_environment
from harness.load.generator.tracker import Tracker
from harness.load.ipc.pipe import MessagePipe, ParentPipe
from harness.load.ipc.try_protocol import HeldBack, Tried, TriedRequest, TryStart
from harness.load.record.arrival import Arrival, UserState
from harness.load.record.recorder import shortened
from harness.load.record.stats import StatsBatch
from harness.load.writes.acknowledged import Notes
from harness.model.clock import monotonic
from harness.model.jsonl import encode_line
from harness.model.records.load import LoadPlan

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""RFC 9110 9.2.1: they ask and change nothing, and TRACE is answered by few."""
AT_A_TIME = 4
MOST_TURNS = 20
"""Of one task set."""
MOST_NAMES = 200
ANSWER_S = 5.0
"""A request without an answer for so long is given up (or the load's own time-out, where that is shorter)."""
ALL_S = 25.0
"""For all of them."""
EXAMPLE = 200


class Heard(Seen):
    """What became of each request, by its name."""

    def __init__(self) -> None:
        super().__init__()
        self.names: dict[str, TriedRequest] = {}
        self.statuses: dict[str, dict[str, int]] = {}

    def ok(self, name: str, step: int, latency_ms: float, body_bytes: int = 0, parent: str = "") -> None:
        self._add(name, latency_ms, failed=False)

    def fail(
        self, name: str, step: int, latency_ms: float, kind: str, intended: float, text: str, parent: str = ""
    ) -> None:
        self._add(name, latency_ms, failed=True, text=f"{kind}: {text}")

    def setup(self, name: str, started: float, latency_ms: float, kind: str | None, text: str) -> None:
        self._add(name, latency_ms, failed=kind is not None, text=f"{kind}: {text}", prepares=True)

    def status(self, name: Any = "", response: Any = None, **_: Any) -> None:
        """A listener of Locust's request event."""
        code = getattr(response, "status_code", None)
        if isinstance(code, int) and code > 0:
            of_name = self.statuses.setdefault(str(name), {})
            of_name[str(code)] = of_name.get(str(code), 0) + 1

    def _add(self, name: str, latency_ms: float, *, failed: bool, text: str = "", prepares: bool = False) -> None:
        if self.over or (name not in self.names and len(self.names) >= MOST_NAMES):
            return
        before = self.names.get(name) or TriedRequest(name=name, sent=0, failed=0, prepares=prepares)
        self.names[name] = msgspec.structs.replace(
            before,
            sent=before.sent + 1,
            failed=before.failed + failed,
            slowest_ms=max(before.slowest_ms, latency_ms),
            example=before.example or (shortened(text, EXAMPLE) if failed else ""),
        )


class Turns:
    """The model (generator/hooks.py, Model): as many tasks as its user has turns, without think time."""

    def __init__(self) -> None:
        from locust.exception import StopUser

        self._stop_user = StopUser

    def adopt(self, user: Any) -> UserState:
        return UserState(user, type(user).__name__)

    def take(self, state: UserState) -> Arrival:
        if state.user._harness_turns <= 0:
            raise self._stop_user
        state.user._harness_turns -= 1
        return Arrival(state.class_name, monotonic(), 0)

    def ended(self, state: UserState) -> None:
        pass

    def wait(self, state: UserState) -> bool:
        return True

    def pause(self, state: UserState, seconds: float) -> None:
        gevent.sleep(min(seconds, 0.05))


class Trial:
    """Prepares this process once. every: hold nothing back."""

    def __init__(self, plan: LoadPlan, *, every: bool) -> None:
        from locust.exception import StopTest, StopUser

        self._ends = (StopTest, StopUser)
        self.every = every
        self.heard = Heard()
        self.held: dict[tuple[str, str], HeldBack] = {}
        self._environment = make_environment(plan)
        self._environment.create_local_runner()
        # What these users write is not read back.
        Notes("try").install(self._environment)
        timeout_s = min(plan.request_timeout_s, ANSWER_S)
        self._tracker = Tracker(self.heard, timeout_s, StatsBatch(self._environment))
        hook_clients(self._tracker, self._environment)
        self._environment.events.request.add_listener(self.heard.status)
        hold_to(plan.host, plan.addresses, plan.allow_hosts)
        install(Turns(), self.heard, self._tracker)
        _take_tasks_in_turn()
        self._clients = self._hold_back()

    def prepare(self) -> None:
        environment = self._environment
        environment.events.init.fire(environment=environment, runner=environment.runner, web_ui=None)
        with gevent.Timeout(PREPARE_S, False):
            environment.events.test_start.fire(environment=environment)

    def run(self) -> Tried:
        until = monotonic() + ALL_S
        asked = self._ask(until)
        if not self.every and not self.heard.names and (self.held or len(asked) < len(self._environment.user_classes)):
            # Whoever has nothing but POST in the file has said with it what a run will send.
            self.every = True
            self.held.clear()
            asked = self._ask(until)
        self._tracker.abandon()
        self.heard.over = True
        with gevent.Timeout(2.0, False):
            self._environment.events.test_stop.fire(environment=self._environment)
        return Tried(
            requests=tuple(
                msgspec.structs.replace(one, answers=self.heard.statuses.get(one.name, {}))
                for one in self.heard.names.values()
            ),
            held_back=tuple(self.held.values()),
            unasked=tuple(one.__name__ for one in self._environment.user_classes if one not in asked),
            every=self.every,
        )

    def _ask(self, until: float) -> list[Any]:
        """One user for each top-level task. Gives the classes that were asked."""
        classes = [one for one in self._environment.user_classes if self.every or issubclass(one, self._clients)]
        pool = gevent.pool.Pool(AT_A_TIME)
        users = []
        for cls in classes:
            for item in dict.fromkeys(cls.tasks):
                users.append((cls, item))
        asking = [pool.apply_async(self._one, one) for one in users]
        gevent.wait(asking, timeout=max(0.0, until - monotonic()))
        pool.kill(block=False)
        gevent.sleep(0)
        return classes

    def _one(self, cls: Any, item: Any) -> None:
        group = gevent.pool.Group()
        try:
            user = cls(self._environment)
            user.tasks = [item]
            user._harness_turns = min(MOST_TURNS, 2 * leaves) if (leaves := _leaves(item)) else 1
            greenlet = user.start(group)
            greenlet.harness_user = cls.__name__
            greenlet.join()
            error = greenlet.exception
        except gevent.GreenletExit:
            group.kill(block=False)
            raise
        except Exception as raised:
            error = raised
        if error is not None and not isinstance(error, self._ends):
            # Of on_start, for those of tasks have been told by what they asked.
            text = f"{type(error).__name__}: {error}"
            self.heard.setup(f"{cls.__name__}.on_start", 0.0, 0.0, "exception", text)

    def _hold_back(self) -> tuple[type, ...]:
        """Before anything else of a client. Gives the classes of users whose clients it knows."""
        from locust import FastHttpUser, HttpUser
        from locust.clients import HttpSession
        from locust.contrib.fasthttp import FastHttpSession
        from locust.exception import RescheduleTask, StopUser

        from harness.load.lean.session import LeanSession
        from harness.load.lean.user import LeanHttpUser

        def hold(method: str, name: str) -> None:
            state: UserState | None = getattr(getcurrent(), "harness_state", None)
            in_task = state is not None and state.arrival is not None
            user = str(getattr(getcurrent(), "harness_user", ""))
            self.held[method, name] = HeldBack(name=name, method=method, user=user, prepares=not in_task)
            raise RescheduleTask if in_task else StopUser

        def held(original: Callable[..., Any]) -> Callable[..., Any]:
            def request(session: Any, method: str, url: Any, name: str | None = None, *rest: Any, **more: Any) -> Any:
                verb = str(method).upper()
                if not self.every and verb not in SAFE:
                    hold(verb, str(name or session.request_name or url)[:EXAMPLE])
                return original(session, method, url, name, *rest, **more)

            return request

        clients: tuple[Any, ...] = (HttpSession, FastHttpSession, LeanSession)
        for client in clients:
            client.request = held(client.request)

        others: Any = requests.Session
        send = others.send

        def raw(session: Any, request: Any, **options: Any) -> Any:
            """A client of the file's own, in test_start for example."""
            if not self.every and not isinstance(session, HttpSession) and request.method not in SAFE:
                hold(str(request.method), str(request.path_url)[:EXAMPLE])
            return send(session, request, **options)

        others.send = raw
        return HttpUser, FastHttpUser, LeanHttpUser


def _leaves(item: Any) -> int:
    """Of a task set: its tasks, and those of the sets in it. 0: a task itself."""
    tasks = getattr(item, "tasks", None)
    return sum(_leaves(one) or 1 for one in dict.fromkeys(tasks)) if tasks else 0


def _take_tasks_in_turn() -> None:
    """Of a task set, where Locust draws: each is to be reached in few turns."""
    from locust.user.task import TaskSet

    draw = TaskSet.get_next_task

    def next_task(task_set: Any) -> Any:
        if not task_set.tasks:
            return draw(task_set)
        places = task_set.user.__dict__.setdefault("_harness_places", {})
        place = places[type(task_set)] = places.get(type(task_set), -1) + 1
        tasks = list(dict.fromkeys(task_set.tasks))
        return tasks[place % len(tasks)]

    TaskSet.get_next_task = next_task


def run(messages: MessagePipe, pipe: ParentPipe) -> int:
    """The program: exit code 0."""
    start = msgspec.json.decode(pipe.first_line(), type=TryStart)
    pipe.listen(lambda _: None)  # its end is the end of this process
    try:
        trial = Trial(start.plan, every=start.every)
        trial.prepare()
        tried = trial.run()
    except BadLocustfile as error:
        tried = Tried(wrong=str(error))
    messages.write(encode_line(tried))
    return 0
