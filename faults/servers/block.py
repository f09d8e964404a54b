"""block: RabbitMQ takes nothing from publishers, because its memory alarm is on; who only consumes goes on.

The alarm is the server's own: the high watermark of its memory is set to nothing, with `rabbitmqctl` on the node. It
stays when whoever set it dies, until it is set back or the node is started again, which reads its configuration.

A publisher that is blocked is read from no more, so the connection that proves it cannot be closed in order either:
it is kept until the alarm is over, and closed then. Of a process that dies with it the server logs a warning and the
report of a channel's crash.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping
from typing import Any, Literal

from faults.path.evidence import control_shows, probe_shows, undo_shows
from faults.path.health import healthy
from faults.path.record import record_of
from faults.proxy.proxy import path_again
from harness.adapters.nodes.rabbitmq_ctl import Ctl, Status, check_watermark, declared
from harness.adapters.wire.amqp import Session
from harness.adapters.wire.exchange import ProbeError
from harness.dependencies.rabbitmq import open_session, user_of
from harness.dependencies.registry import kind_of
from harness.fault import ParamInfo, Stage
from harness.model.clock import monotonic
from harness.model.errors import Gone, OtherKind, Refused, UndoUnverified, UsageError
from harness.model.records.faults import Applied, Change, Dependency, Evidence, Trait, UndoRecord

_OURS = "0.0"
_NAME = "harness-block"
_CHECK_S = 30.0
_PUBLISH_S = 5.0
_LOOK_S = 0.2
_LEAVE_S = 3.0


class Block:
    """Its only state beside the records is the publisher that this process has had blocked."""

    kind = "block"
    summary = "publishers are blocked by RabbitMQ's memory alarm; connections that only consume go on"
    undo_summary = "the node's memory watermark is set back to what it was, if it still is what the fault set"
    proof_summary = "the memory alarm is in effect, and a message of ours is not taken (connection.blocked)"
    needs: Literal["server"] = "server"
    traits: tuple[Trait, ...] = ("changes_server",)
    one_shot = False
    params: tuple[ParamInfo, ...] = ()

    def __init__(self) -> None:
        self._publishers: dict[str, Session] = {}
        self._lock = threading.Lock()

    def plan(self, dependency: Dependency, params: Mapping[str, Any]) -> Change:
        name = f"{dependency.name}-{self.kind}"
        if not kind_of(dependency).blocks_publishers:
            raise OtherKind(
                f"{name} needs a RabbitMQ dependency; {dependency.name} is of kind {dependency.kind}",
                hint="use it on the broker, for example mq-block",
            )
        if not declared(dependency):
            raise Refused(
                f"{name} needs rabbitmqctl on the node of {dependency.name}, and nothing says how to run it",
                hint=f"declare the container of {dependency.name}, or for a node of this machine"
                ' ctl = ["rabbitmqctl"] (with -n NODE where it has a name of its own)',
            )
        return Change(
            kind=self.kind,
            traits=self.traits,
            dependency=dependency,
            params=dict(params),
            does=f"sets the memory watermark of RabbitMQ {dependency.name} to 0 (rabbitmqctl"
            " set_vm_memory_high_watermark): its memory alarm blocks every publisher of the cluster",
            undoes="sets the memory watermark back to what it was",
            proves="rabbitmqctl status tells a memory alarm, and a message published through the application's path is"
            " answered with connection.blocked",
            property=f"{dependency.name}: memory watermark",
            resources=(f"rabbitmq {dependency.name} memory watermark",),
            # A probe logs in and publishes nothing, which the alarm lets it do.
            blind_probe=True,
        )

    def capture(self, change: Change, record_id: str) -> UndoRecord:
        dependency = change.dependency
        ctl = Ctl(dependency)
        found = ctl.status()
        if found.short_of:
            raise Refused(
                f"{dependency.name}: an alarm is in effect already ({', '.join(found.short_of)}), so publishers are"
                " blocked without this fault",
                hint="free what it is short of: rabbitmqctl status",
            )
        check_watermark(found.watermark)
        _check_publisher(dependency, ctl)
        return record_of(
            change,
            record_id,
            healthy(dependency),
            where={"data_directory": found.data_directory},
            original={"watermark": found.watermark},
            ours={"watermark": _OURS},
        )

    def inject(self, record: UndoRecord) -> Applied:
        return Ctl(record.dependency).set_watermark(str(record.ours["watermark"]))

    def prove(self, record: UndoRecord, stage: Stage) -> tuple[Evidence, ...]:
        if stage == "held" and record.id in self._publishers:
            # The server tells it when the alarm is over. rabbitmqctl costs most of a second of a core each time, which
            # the run would measure.
            return (self._publishes(record),)
        found = Ctl(record.dependency).status()
        same = found.data_directory == record.where["data_directory"]
        control = control_shows(
            expected=f"the memory alarm of the node in {record.where['data_directory']} is in effect",
            observed=_observed(found),
            held=same and found.watermark == record.ours["watermark"] and "memory" in found.short_of,
        )
        return control, self._publishes(record)

    def undo(self, record: UndoRecord) -> Applied:
        """Compare and set. Raises Gone when its container no longer exists, UndoUnverified when it is not ours."""
        ours, original = str(record.ours["watermark"]), str(record.original["watermark"])
        ctl = Ctl(record.dependency)
        found = ctl.status()
        if found.data_directory != record.where["data_directory"]:
            raise UndoUnverified(
                f"another RabbitMQ node answers for {record.dependency.name}: {found.data_directory}; the one that was"
                f" changed is {record.where['data_directory']}",
                f"on that node: {_mend(original)}",
            )
        if found.watermark not in (ours, original):
            raise UndoUnverified(
                f"the memory watermark of {record.dependency.name} is {found.watermark}: it was {original}, the harness"
                f" had set {ours}, somebody changed it since",
                _mend(original),
            )
        applied = ctl.set_watermark(original)
        self._let_go(record)
        return applied

    def by_hand(self, record: UndoRecord) -> str:
        return (
            f"on the node of {record.dependency.name}: {_mend(str(record.original['watermark']))}; a node that was"
            " started again has the watermark of its configuration"
        )

    def verify_undone(self, record: UndoRecord) -> tuple[Evidence, ...]:
        original = str(record.original["watermark"])
        try:
            found = Ctl(record.dependency).status()
            observed = _observed(found)
            held = found.watermark == original and "memory" not in found.short_of
        except Gone as gone:
            # The watermark has ended with its node; the application's path is still asked below.
            observed, held = str(gone), True
        control = undo_shows(
            expected=f"the memory watermark is {original} and no memory alarm is in effect",
            observed=observed,
            held=held,
        )
        return control, path_again(record)

    def _publishes(self, record: UndoRecord) -> Evidence:
        """One publisher for as long as the fault is on: the server itself tells it when it may go on."""
        with self._lock:
            kept = self._publishers.pop(record.id, None)
        dependency, blocked, short_of_memory = record.dependency, False, False
        try:
            if kept is None:
                address = dependency.path or dependency.direct
                kept = open_session(dependency, address, _NAME, monotonic() + _PUBLISH_S)
                blocked = not kept.takes_messages()
            else:
                blocked = kept.still_blocked(monotonic() + _LOOK_S)
            observed = f"it is blocked: {kept.blocked}" if blocked else "messages are taken"
            short_of_memory = blocked and "memory" in str(kept.blocked)
        except (ProbeError, UsageError) as error:
            observed = str(error)
        if blocked and kept is not None:
            with self._lock:
                self._publishers[record.id] = kept
        elif kept is not None:
            kept.leave(monotonic() + _LEAVE_S)
        return probe_shows(
            expected="a message published through the application's path is not taken: connection.blocked",
            observed=observed,
            held=short_of_memory,
        )

    def _let_go(self, record: UndoRecord) -> None:
        with self._lock:
            kept = self._publishers.pop(record.id, None)
        if kept is not None:
            kept.leave(monotonic() + _LEAVE_S)


def _observed(found: Status) -> str:
    alarms = ", ".join(found.short_of) or "none"
    return f"watermark {found.watermark}, alarms in effect: {alarms}, node in {found.data_directory}"


def _mend(watermark: str) -> str:
    return f"rabbitmqctl set_vm_memory_high_watermark {watermark}"


def _check_publisher(dependency: Dependency, ctl: Ctl) -> None:
    """A publisher on the application's path is a client of the node that rabbitmqctl speaks to, and is not blocked.
    Raises Refused."""
    name = f"{_NAME}-{secrets.token_hex(8)}"
    address = dependency.path or dependency.direct
    try:
        with open_session(dependency, address, name, monotonic() + _CHECK_S) as session:
            known = name in ctl.connection_names()
            takes = session.takes_messages() if known else True
    except ProbeError as error:
        user, vhost = user_of(dependency), dependency.broker.vhost
        raise Refused(
            f"{dependency.name}: no message can be published at {address} before any fault: {error.detail}",
            hint=f"where its user {user} may not, let WRITE match amq.default: rabbitmqctl set_permissions -p {vhost}"
            f" {user} CONFIGURE WRITE READ",
        ) from error
    if not known:
        raise Refused(
            f"{dependency.name}: rabbitmqctl speaks to another node than the one that answers at {address}",
            hint="correct `ctl` (-n NODE) or the container, or the address",
        )
    if not takes:
        raise Refused(f"{dependency.name}: publishers are blocked without this fault already")


BLOCK = Block()
