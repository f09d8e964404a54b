"""A Redis or Valkey that has lost its replicas: it answers reads, and refuses writes with NOREPLICAS.

`min-replicas-to-write` says how many replicas a write needs; the fault asks for more than there are.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import redis

from harness.api import (
    Applied,
    Change,
    Dependency,
    Evidence,
    OutcomeUnknown,
    ParamInfo,
    Refused,
    Stage,
    UndoRecord,
    UndoUnverified,
    Unreachable,
    monotonic,
)

SETTING = "min-replicas-to-write"
KEY = "harness-read-only"


def connected(dependency: Dependency) -> redis.Redis:
    assert dependency.direct is not None
    variable = dependency.credentials.password_env
    password = os.environ.get(variable) if variable else None
    # A client whose name begins with "harness" is never taken for one of the application's.
    host, port = dependency.direct.host, dependency.direct.port
    return redis.Redis(host, port, password=password, socket_timeout=3, client_name="harness-read-only")


def setting(dependency: Dependency) -> int:
    try:
        with connected(dependency) as server:
            return int(server.config_get(SETTING)[SETTING])
    except redis.ConnectionError as error:
        raise Unreachable(f"{dependency.name}: {error}") from error


def change_setting(dependency: Dependency, value: int) -> Applied:
    sent = monotonic()
    try:
        with connected(dependency) as server:
            server.config_set(SETTING, value)
    except redis.ConnectionError as error:  # it may have arrived: the harness undoes, and reads back
        raise OutcomeUnknown(f"{dependency.name}: {error}") from error
    return Applied(sent, monotonic())


def write(dependency: Dependency) -> str:
    """What the server says to a write, of a key that is gone a millisecond later."""
    try:
        with connected(dependency) as server:
            server.set(KEY, "", px=1)
    except redis.ResponseError as error:
        return str(error)
    return "accepted"


class ReadOnly:
    kind = "read-only"
    summary = "reads are answered, writes are refused: too few replicas"
    undo_summary = f"{SETTING} is set back, if it still is what the fault set"
    proof_summary = f"{SETTING} reads back, a write is refused"
    needs = "server"
    one_shot = False
    params = (ParamInfo(name="replicas", unit="count", default="100", help="replicas that a write needs", low=1),)

    def plan(self, dependency: Dependency, params: Mapping[str, Any]) -> Change:
        if dependency.kind != "redis":
            raise Refused(
                f"{dependency.name} is of kind {dependency.kind}, and only a Redis can be read-only",
                hint="name a dependency of kind redis",
            )
        value = int(params["replicas"])
        return Change(
            kind=self.kind,
            dependency=dependency,
            params=dict(params),
            does=f"CONFIG SET {SETTING} {value} on {dependency.name}",
            undoes=f"sets {SETTING} back to what it was",
            proves=f"{SETTING} reads back {value}; a write is refused",
            property=f"{dependency.name}: {SETTING}",  # two faults that set the same property may not overlap
            resources=(f"redis {dependency.name} {SETTING}",),  # locked against other runs
            blind_probe=True,  # PING is answered all the same, so recovery counts from the undo's reply
        )

    def capture(self, change: Change, record_id: str) -> UndoRecord:
        found, ours = setting(change.dependency), int(str(change.params["replicas"]))
        if found == ours or write(change.dependency) != "accepted":
            raise Refused(f"{change.dependency.name} refuses writes already", hint=f"look at {SETTING} and its role")
        return UndoRecord(
            id=record_id,
            kind=self.kind,
            dependency=change.dependency,
            params=change.params,
            where={"server": str(change.dependency.direct)},
            original={SETTING: found},
            ours={SETTING: ours},
        )

    def inject(self, record: UndoRecord) -> Applied:
        return change_setting(record.dependency, int(str(record.ours[SETTING])))

    def prove(self, record: UndoRecord, stage: Stage) -> tuple[Evidence, ...]:
        answer = write(record.dependency)
        refused = Evidence(
            source="probe",
            expected="a write is refused: NOREPLICAS",
            observed=answer,
            held=answer.startswith("NOREPLICAS"),
            at=monotonic(),
        )
        return self._reads("control", record, record.ours[SETTING]), refused

    def undo(self, record: UndoRecord) -> Applied:
        found, original, ours = setting(record.dependency), record.original[SETTING], record.ours[SETTING]
        if found not in (original, ours):
            left = f"{SETTING} is {found}; it was {original}, and the harness had set {ours}"
            raise UndoUnverified(left, self.by_hand(record))
        return change_setting(record.dependency, int(str(original)))

    def verify_undone(self, record: UndoRecord) -> tuple[Evidence, ...]:
        return (self._reads("undo", record, record.original[SETTING]),)

    def by_hand(self, record: UndoRecord) -> str:
        return f"redis-cli CONFIG SET {SETTING} {record.original[SETTING]}"

    def _reads(self, source: Any, record: UndoRecord, wanted: object) -> Evidence:
        found = setting(record.dependency)
        return Evidence(
            source=source,
            expected=f"{SETTING} {wanted}",
            observed=f"{SETTING} {found}",
            held=found == wanted,
            at=monotonic(),
        )


READ_ONLY = ReadOnly()
