"""Acknowledged writes, noted in a locustfile and read back after recovery: what was promised, is it there?

    from locust import FastHttpUser, task
    from harness.load.acknowledged import Acknowledged

    ORDERS = Acknowledged("/orders/{id}")

    class Shop(FastHttpUser):
        @task
        def order(self):
            with self.client.post("/orders", json={"item": 7}, catch_response=True) as reply:
                if reply.status_code == 201:
                    ORDERS.note(self, reply.json()["id"])

Note an id when, and only when, the target has said that it keeps it. `Acknowledged` is declared when the file is
imported, because another process asks: it imports the file too and looks for the declaration by name.

Under the harness ids go to acknowledged.jsonl in the run folder, through the load's own messages, so those of a worker
that died are there as well. When the load has ended they are read back from the target at a bounded rate. Under plain
Locust each worker keeps a sample of its own ids in memory and reads it back at `test_stop`; a loss is an exception in
Locust's table, so Locust ends with exit code 1.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Any

from harness.model.clock import monotonic
from harness.model.jsonl import encode_line
from harness.model.records.acknowledged import Noted

Check = Callable[[Any, str], "bool | None"]

PER_SECOND = 500
"""Ids kept of one second, over all workers: what is above is sampled evenly, and counted."""
KEPT = 5_000
"""Under plain Locust: ids kept by a worker of the whole run, sampled evenly."""
REMEMBERED = 20_000
"""An id noted again is not kept again while it is among the last so many."""
WITHIN_S = 10.0
_SINK = "_harness_acknowledged"

declared: dict[str, Acknowledged] = {}
"""By name, of every locustfile that this process has imported; as Locust's own `events`, one for all."""


class Acknowledged:
    """A kind of write, and how to look for one of them later.

    check: a path with `{id}` in it: GET it; 2xx is there, 404 and 410 are not there, anything else is asked again. Or a
    function of (client, id) that says True (there), False (not there) or None (cannot tell, ask again); the client is
    Locust's FastHttpSession for the target's base URL, and its requests are in no statistics. An exception in it is
    None. within_s: how long the target may take, counted from the first "not there", until it shows what it has
    acknowledged: eventual consistency. name: for reports; needed for a lambda.
    """

    def __init__(self, check: str | Check, *, within_s: float = WITHIN_S, name: str | None = None) -> None:
        if isinstance(check, str) and "{id}" not in check:
            raise ValueError(f'Acknowledged("{check}"): the path needs {{id}} where the id belongs')
        if name is None:
            name = check if isinstance(check, str) else getattr(check, "__name__", "")
        if not name or name == "<lambda>":
            raise ValueError("Acknowledged(...): name what is acknowledged with name=")
        if not within_s >= 0:
            raise ValueError(f"Acknowledged(..., within_s={within_s}): seconds, 0 or more")
        self.name = name
        self.within_s = within_s
        self._check = check
        declared[name] = self

    def note(self, user: Any, id_: object) -> None:
        """The target has acknowledged this one. user: the Locust user that wrote it."""
        environment = user.environment
        sink = environment.__dict__.get(_SINK)
        if sink is None:
            sink = _Alone(environment)
            setattr(environment, _SINK, sink)
        sink.add(self.name, str(id_))

    def ask(self, client: Any, id_: str) -> bool | None:
        """One look. Raises whatever a check function raises."""
        if not isinstance(self._check, str):
            return self._check(client, id_)
        from urllib.parse import quote

        status = client.get(self._check.replace("{id}", quote(id_, safe="")), name=self.name).status_code
        return True if 200 <= status < 300 else False if status in (404, 410) else None


class Notes:
    """What one worker noted: lines for acknowledged.jsonl once a second. In memory is one second's sample."""

    def __init__(self, worker: str, per_second: int = PER_SECOND) -> None:
        self._worker = worker
        self._most = max(1, per_second)
        self._recent: set[str] = set()
        self._before: set[str] = set()
        self._second: int | None = None
        self._sample: dict[str, _Sample] = {}
        self._t0 = 0.0

    def install(self, environment: Any) -> None:
        """From now on this is where the users of the environment note."""
        setattr(environment, _SINK, self)

    def begin(self, t0: float) -> None:
        self._t0 = t0

    def add(self, name: str, id_: str) -> None:
        key = f"{name}\0{id_}"
        if key in self._recent or key in self._before:
            return
        if len(self._recent) >= REMEMBERED // 2:
            self._before, self._recent = self._recent, set()
        self._recent.add(key)
        if self._second is None:
            self._second = int(monotonic() - self._t0)
        sample = self._sample.get(name)
        if sample is None:
            sample = self._sample[name] = _Sample(self._most)
        sample.add(id_)

    def take(self, *, final: bool = False) -> bytes:
        """Encoded lines of a second that is over (of the one under way too when final); empty when there is none."""
        if self._second is None or not (final or monotonic() - self._t0 >= self._second + 1):
            return b""
        lines = b"".join(
            encode_line(
                Noted(
                    at=float(self._second),
                    worker=self._worker,
                    name=name,
                    ids=tuple(sample.kept),
                    left_out=sample.seen - len(sample.kept),
                )
            )
            for name, sample in self._sample.items()
        )
        self._second, self._sample = None, {}
        return lines


class _Sample:
    """An even sample of everything added: Vitter's algorithm R (1985)."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.kept: list[str] = []
        self.seen = 0

    def add(self, id_: str) -> None:
        self.seen += 1
        if len(self.kept) < self._most:
            self.kept.append(id_)
            return
        place = random.randrange(self.seen)
        if place < self._most:
            self.kept[place] = id_


class _Alone:
    """Plain Locust: keep a sample, and read it back when the test stops."""

    def __init__(self, environment: Any) -> None:
        self._environment = environment
        self._samples: dict[str, _Sample] = {}
        environment.events.test_start.add_listener(self._on_start)
        environment.events.test_stop.add_listener(self._on_stop)

    def add(self, name: str, id_: str) -> None:
        self._samples.setdefault(name, _Sample(KEPT)).add(id_)

    def _on_start(self, **_: Any) -> None:
        self._samples.clear()

    def _on_stop(self, environment: Any, **_: Any) -> None:
        from harness.load.writes.asking import MAX_RATE, read_back, session

        samples, self._samples = self._samples, {}
        asks = [(name, id_) for name, sample in samples.items() for id_ in dict.fromkeys(sample.kept)]
        if not asks or environment.host is None:
            return
        answers = read_back(asks, session(environment.host), declared, rate=MAX_RATE)
        logger = logging.getLogger("harness.acknowledged")
        said = f"{len(asks)} acknowledged writes read back: {answers.there} are there"
        if answers.unanswered:
            said += f", {answers.unanswered} could not be checked ({answers.example})"
        logger.info(said)
        if answers.lost:
            shown = ", ".join(id_ for _, id_ in answers.lost[:3])
            text = f"{len(answers.lost)} acknowledged writes are lost, such as {shown}"
            logger.error(text)
            _report(environment.runner, text)


def _report(runner: Any, text: str) -> None:
    """Into Locust's table of exceptions, the master's where there is one."""
    from locust.runners import WorkerRunner

    if isinstance(runner, WorkerRunner):
        runner.send_message("exception", {"msg": text, "traceback": ""})
    elif runner is not None:
        runner.log_exception("local", text, "")
