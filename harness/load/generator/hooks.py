"""Where Locust's users meet a model: `TaskSet.execute_next_task`, `TaskSet.wait`, `TaskSet._sleep` and `User.stop`.

Tried with HttpUser, FastHttpUser, SequentialTaskSet, nested task sets with interrupt, tasks of several requests,
exceptions, RescheduleTask and classes without wait_time. Overriding `User.wait` does nothing, and gating
`TaskSet.wait` misses each user's first task.
"""

from __future__ import annotations

from typing import Any, Protocol

import gevent
from gevent import getcurrent

from harness.load.generator.tracker import Tracker
from harness.load.record.arrival import Arrival, UserState
from harness.load.record.failures import told
from harness.load.record.recorder import Recorder

_SKIPS = 50
"""Task sets entered in a row without a task before their user is made to yield: it would spin."""


class Model(Protocol):
    """open or closed."""

    def adopt(self, user: Any) -> UserState: ...

    def take(self, state: UserState) -> Arrival: ...

    def ended(self, state: UserState) -> None: ...

    def wait(self, state: UserState) -> bool: ...

    def pause(self, state: UserState, seconds: float) -> None: ...


def install(model: Model, recorder: Recorder, tracker: Tracker) -> None:
    """Once per process, after the locustfile was imported."""
    from locust.exception import InterruptTaskSet, RescheduleTask, RescheduleTaskImmediately, StopTest, StopUser
    from locust.user.task import TaskSet
    from locust.user.users import User

    turns = (InterruptTaskSet, RescheduleTask, RescheduleTaskImmediately, StopUser, StopTest, gevent.GreenletExit)
    original_next, original_wait, original_sleep = TaskSet.execute_next_task, TaskSet.wait, TaskSet._sleep
    original_stop = User.stop

    def state_of(user: Any) -> UserState:
        state: UserState | None = user.__dict__.get("_harness_state")
        if state is None:
            state = user._harness_state = model.adopt(user)
        getcurrent().harness_state = state
        return state

    def execute_next_task(task_set: Any) -> None:
        task = task_set._task_queue[0]
        state = state_of(task_set._user)
        if hasattr(task, "tasks") and isinstance(task, type) and issubclass(task, TaskSet):
            state.skips += 1
            if state.skips > _SKIPS:
                gevent.sleep(0.01)
            original_next(task_set)
            return
        if task_set._user.__dict__.get("_harness_leaving"):
            raise StopUser
        arrival = model.take(state)
        state.arrival, state.skips = arrival, 0
        error: BaseException | None = None
        try:
            original_next(task_set)
        except BaseException as raised:
            error = None if isinstance(raised, turns) else raised
            if isinstance(raised, gevent.GreenletExit):
                tracker.abandon(arrival)
            raise
        finally:
            state.arrival = None
            if state.unreported:
                tracker.task_ended(state, error)
            if error is not None and arrival.requests == 0:
                recorder.failed(arrival, "exception", told(error))
            elif arrival.requests == 0:
                recorder.empty(arrival)
            recorder.end(arrival)
            model.ended(state)

    def wait(task_set: Any) -> None:
        user = task_set._user
        state = state_of(user)
        # A task that calls wait() itself asks for its think time; between tasks the schedule decides.
        if state.arrival is not None or not model.wait(state):
            original_wait(task_set)
            return
        if user._state == "stopping":
            raise StopUser
        state.skips += 1
        if state.skips > _SKIPS:
            # No task between two waits: Locust failed to pick one and would spin.
            gevent.sleep(0.01)

    def stop(user: Any, force: bool = False) -> bool:
        # Locust kills a user that waits between tasks, from the event loop's next turn on. One whose wait ends in the
        # same turn would begin a request first, and leave it behind as a failure of the target.
        user._harness_leaving = force or user._state in (None, "waiting")
        stopped: bool = original_stop(user, force)
        return stopped

    def sleep(task_set: Any, seconds: float) -> None:
        state = state_of(task_set.user)
        if state.arrival is not None:
            original_sleep(task_set, seconds)
        else:
            model.pause(state, seconds)

    TaskSet.execute_next_task = execute_next_task
    TaskSet.wait = wait
    TaskSet._sleep = sleep
    User.stop = stop
