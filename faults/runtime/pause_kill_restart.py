"""A server stands still (`pause`), is ended (`kill`), or is ended and started once (`restart`), whatever runs it.

The server may be a dependency's or the target itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from faults.path.health import READY_LIMIT_S
from faults.path.probe_spacing import may_ask
from faults.path.probes import SILENCE_S, first_exchange, is_blind, number_of, outage, refuse_silent, silence
from faults.runtime.containers import Containers
from faults.runtime.processes import Processes
from faults.runtime.runtime import Runtime
from harness.dependencies.registry import kind_of
from harness.fault import ParamInfo, Stage, traits_of
from harness.model.clock import monotonic
from harness.model.errors import HarnessError, OutcomeUnknown
from harness.model.records.faults import Applied, Change, Dependency, Evidence, Scalar, Trait, UndoRecord

_PROCESSES, _CONTAINERS = Processes(), Containers()


def runtime_of(dependency: Dependency) -> Runtime:
    return _CONTAINERS if dependency.runtime == "container" else _PROCESSES


class Pause:
    """The whole server stands still: it keeps its connections and answers nothing. ends: its process ends by it."""

    kind = "pause"
    summary = "the server stands still: connections are accepted, nothing is answered"
    undo_summary = "every process that is stopped goes on; those that run already are left as they are"
    proof_summary = "every process of it is stopped, a probe is accepted and gets no answer within 1 s"
    needs: Literal["runtime"] = "runtime"
    one_shot = False
    ends = False
    params: tuple[ParamInfo, ...] = ()

    def plan(self, dependency: Dependency, params: Mapping[str, Any]) -> Change:
        refuse_silent(self.kind, dependency)
        words = runtime_of(dependency).words(dependency)
        return _change(
            self,
            dependency,
            params,
            does=f"{words.pause}: it keeps its connections and answers nothing",
            undoes=words.unpause,
            proves=f"{words.paused}; a probe gets no answer within {SILENCE_S:g} s",
        )

    def capture(self, change: Change, record_id: str) -> UndoRecord:
        return runtime_of(change.dependency).capture(change, record_id, deadline_s=None)

    def inject(self, record: UndoRecord) -> Applied:
        return runtime_of(record.dependency).pause(record)

    def prove(self, record: UndoRecord, stage: Stage) -> tuple[Evidence, ...]:
        seen = runtime_of(record.dependency).is_paused(record)
        if stage == "held" and not may_ask(record):
            return seen
        return *seen, silence(first_exchange(record.dependency, SILENCE_S), connected=False)

    def undo(self, record: UndoRecord) -> Applied:
        return runtime_of(record.dependency).unpause(record)

    def verify_undone(self, record: UndoRecord) -> tuple[Evidence, ...]:
        return runtime_of(record.dependency).runs_again(record)

    def by_hand(self, record: UndoRecord) -> str:
        return runtime_of(record.dependency).by_hand(record)


class Kill(Pause):
    """SIGKILL; the undo starts the server again and waits until it answers."""

    kind = "kill"
    summary = "the server is killed: connections are cut, new ones are refused until it is started again"
    undo_summary = "the server is started again and answers, unless somebody did that already"
    proof_summary = "no process of it is left, its port is closed, a probe is refused or cut"
    traits: tuple[Trait, ...] = ("starts_server",)
    ends = True

    def plan(self, dependency: Dependency, params: Mapping[str, Any]) -> Change:
        words = runtime_of(dependency).words(dependency)
        return _change(
            self,
            dependency,
            params,
            does=words.kill,
            undoes=f"starts {words.server} again{words.again} and waits until it answers{_lost(dependency)}",
            proves=f"{words.gone}; a probe is refused or cut",
        )

    def inject(self, record: UndoRecord) -> Applied:
        return runtime_of(record.dependency).kill(record)

    def prove(self, record: UndoRecord, stage: Stage) -> tuple[Evidence, ...]:
        return *runtime_of(record.dependency).is_gone(record), _outage(record.dependency)

    def undo(self, record: UndoRecord) -> Applied:
        sent = monotonic()
        runtime_of(record.dependency).start(record)
        return Applied(sent, monotonic())


class Restart(Kill):
    """Ended as its administrator would end it, and started again: an event, over when the server answers."""

    kind = "restart"
    summary = "the server is stopped and started again, once"
    undo_summary = "there is nothing to undo once it is back; if it did not come back it is started again"
    proof_summary = "another process serves than before, and a probe in between was refused or cut"
    one_shot = True
    params = (
        ParamInfo(
            name="grace",
            unit="duration",
            default="10s",
            help="from asking it to end to SIGKILL",
            low=0,
            high=300,
        ),
    )

    def plan(self, dependency: Dependency, params: Mapping[str, Any]) -> Change:
        words, grace_s = runtime_of(dependency).words(dependency), _grace_s(params)
        return _change(
            self,
            dependency,
            params,
            does=f"{words.stop}, kills after {grace_s:g} s what has not ended, and starts it again{words.again}",
            undoes=f"starts {words.server} if it did not come back{_lost(dependency)}",
            proves=f"{words.replaced}; a probe in between was refused or cut",
        )

    def capture(self, change: Change, record_id: str) -> UndoRecord:
        # The event itself takes its time; nobody must begin to heal in the middle of it.
        deadline_s = _grace_s(change.params) + READY_LIMIT_S
        return runtime_of(change.dependency).capture(change, record_id, deadline_s=deadline_s)

    def inject(self, record: UndoRecord) -> Applied:
        """Raises OutcomeUnknown when it was ended and did not come back: the undo then starts it again."""
        dependency, runtime = record.dependency, runtime_of(record.dependency)
        before = runtime.life(record)
        stopped, how = runtime.stop(record, _grace_s(record.params))
        try:
            gone, *_ = runtime.is_gone(record)
            away = _outage(dependency, past=True)
            runtime.start(record)
            now = runtime.life(record)
        except HarnessError as error:
            raise OutcomeUnknown(f"{dependency.name} was stopped and did not come back: {error}") from error
        replied = monotonic()
        took = f"answered {replied - stopped.sent:.1f} s after it was asked to end"
        replaced = Evidence(
            source="control",
            expected=f"{runtime.words(dependency).server} ends and is started again",
            observed=f"{before} ended{how}: {gone.observed}; then {now} {took}",
            held=gone.held and now != before,
            at=replied,
        )
        return Applied(stopped.sent, replied, evidence=(away, replaced))

    def prove(self, record: UndoRecord, stage: Stage) -> tuple[Evidence, ...]:
        return runtime_of(record.dependency).is_replaced(record)


def _change(
    fault: Pause, dependency: Dependency, params: Mapping[str, Any], *, does: str, undoes: str, proves: str
) -> Change:
    runtime = runtime_of(dependency)
    runtime.refuse(fault.kind, dependency)
    return Change(
        kind=fault.kind,
        dependency=dependency,
        params=dict(params),
        does=does,
        undoes=undoes,
        proves=proves,
        property=f"{runtime.noun} of {dependency.name}: run state",
        resources=runtime.resources(dependency),
        one_shot=fault.one_shot,
        blind_probe=is_blind(dependency),
        hides_path=True,
        traits=(*traits_of(fault), *(("loses_data",) if fault.ends and _lost(dependency) else ())),
    )


def _lost(dependency: Dependency) -> str:
    """What the end of a server of this kind takes with it, always. Of others their own settings decide."""
    in_memory = not dependency.target and kind_of(dependency).in_memory
    return "; what it held was in memory only, and is gone for good" if in_memory else ""


def _grace_s(params: Mapping[str, Scalar]) -> float:
    return number_of(params.get("grace"), default=10.0)


def _outage(dependency: Dependency, *, past: bool = False) -> Evidence:
    """A proxy in a container finds no address for the one that has ended, and that may take its resolver a while. At a
    container's own address nobody refuses either: there is no host any more."""
    contained = dependency.runtime == "container"
    may_hang = contained and (dependency.proxied or dependency.container.network is not None)
    return outage(dependency, may_hang=may_hang, past=past)


PAUSE = Pause()
KILL = Kill()
RESTART = Restart()
