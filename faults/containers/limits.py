"""What cpu and memory share: a container may use only so much, as `docker update` sets it while the container runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from faults.containers.container import (
    container_id,
    container_record,
    engine_of,
    name_in,
    replaced,
    runs_again,
    to_change,
)
from faults.path.evidence import control_shows, undo_shows
from harness.adapters.docker.engine import Engine
from harness.adapters.docker.records import Container, HostConfig, Limits
from harness.model.clock import monotonic
from harness.model.errors import Gone, UndoUnverified
from harness.model.records.faults import Applied, Change, Evidence, Scalar, UndoRecord


class ContainerLimit:
    """What both share: compare and set one group of values, by the container's full ID."""

    kind: str
    needs: Literal["container"] = "container"
    one_shot = False

    def limits(self, config: HostConfig) -> Limits:
        """The values as they are, normalised, in the form in which they would be set."""
        raise NotImplementedError

    def words(self, limits: Limits) -> str:
        raise NotImplementedError

    def capture_limits(self, change: Change, record_id: str, found: Container, ours: Limits) -> UndoRecord:
        return container_record(
            change,
            record_id,
            found,
            original=_scalars(self.limits(found.host_config)),
            ours=_scalars(ours),
        )

    def inject(self, record: UndoRecord) -> Applied:
        with engine_of(record.dependency) as engine:
            to_change(record, engine)
            return engine.update(container_id(record), limits_in(record.ours))

    def undo(self, record: UndoRecord) -> Applied:
        """Compare and set. Raises Gone when it was removed and another one serves in its place, UndoUnverified when
        somebody set another value."""
        ours, original = limits_in(record.ours), limits_in(record.original)
        sent = monotonic()
        with engine_of(record.dependency) as engine:
            try:
                found = engine.container(container_id(record))
                now = self.limits(found.host_config)
                if now not in (ours, original):
                    raise UndoUnverified(
                        f"container {found.name} was set to {self.words(ours)} by this run (before that:"
                        f" {self.words(original)}); somebody set it to {self.words(now)}, and it is left as it is",
                        f"if that is not as it should be: {self.by_hand(record)}",
                    )
                if now == ours or not self.kernel_agrees(record, found, engine):
                    seen = self.at_the_end(record, found, engine) if now == ours else ()
                    applied = msgspec.structs.replace(engine.update(found.id, original), evidence=seen)
                else:
                    applied = Applied(sent, monotonic())
                self.after_undo(record, engine)
                return applied
            except Gone:
                raise replaced(record, engine, f"limited to {self.words(ours)}") from None

    def verify_undone(self, record: UndoRecord) -> tuple[Evidence, ...]:
        original = limits_in(record.original)
        with engine_of(record.dependency) as engine:
            try:
                found = engine.container(container_id(record))
            except Gone:
                return runs_again(record, engine)
            now = self.limits(found.host_config)
            agrees = self.kernel_agrees(record, found, engine)
            put_back = undo_shows(
                expected=f"container {found.name} has {self.words(original)} again, as before",
                observed=self.words(now) + ("" if agrees else ", and its kernel enforces another one"),
                held=now == original and agrees,
            )
            return put_back, *runs_again(record, engine)

    def kernel_agrees(self, record: UndoRecord, found: Container, engine: Engine) -> bool:
        """Whether what is enforced is what the engine says, where the engine can tell: an update may fail half way."""
        return True

    def at_the_end(self, record: UndoRecord, found: Container, engine: Engine) -> tuple[Evidence, ...]:
        """What is seen right before the undo. Must not raise for what an engine does."""
        return ()

    def after_undo(self, record: UndoRecord, engine: Engine) -> None:
        """What else the fault may have done to the container."""

    def by_hand(self, record: UndoRecord) -> str:
        raise NotImplementedError

    def read_back(self, record: UndoRecord, found: Container | None) -> Evidence:
        ours = limits_in(record.ours)
        return control_shows(
            expected=f"container {name_in(record)} has {self.words(ours)}",
            observed=self.words(self.limits(found.host_config)) if found is not None else "it does not exist any more",
            held=found is not None and self.limits(found.host_config) == ours,
        )


def _scalars(limits: Limits) -> dict[str, Scalar]:
    return {name: value for name, value in msgspec.structs.asdict(limits).items() if value is not None}


def limits_in(values: Mapping[str, Scalar]) -> Limits:
    """Out of a record: data from a file, so the types are checked."""
    try:
        return Limits(**{name: _whole(value) for name, value in values.items()})
    except TypeError as error:
        raise UndoUnverified(f"the record's limits cannot be read: {error}", "look at it: docker inspect") from error


def _whole(value: Scalar) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{value!r} is no whole number")
    return value
