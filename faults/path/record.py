"""The undo record of a change: plain data about the dependency, how healthy it was, and which secrets an undo needs."""

from __future__ import annotations

from faults.path.health import Healthy
from harness.model.records.faults import Change, Scalar, UndoRecord


def record_of(
    change: Change,
    record_id: str,
    found: Healthy,
    *,
    where: dict[str, Scalar],
    original: dict[str, Scalar],
    ours: dict[str, Scalar],
    admin: bool = False,
    deadline_s: float | None = None,
) -> UndoRecord:
    """admin: the undo logs in as the administrator."""
    dependency = change.dependency
    secrets = {
        "password": dependency.credentials.probe_password_env
        if dependency.credentials.probe_login is not None
        else dependency.credentials.password_env,
        "admin_password": dependency.credentials.admin_password_env if admin else None,
        "pooler_password": dependency.credentials.pooler_password_env,
    }
    return UndoRecord(
        id=record_id,
        kind=change.kind,
        dependency=dependency,
        params=change.params,
        where=where,
        original=original,
        ours=ours,
        secrets={what: variable for what, variable in secrets.items() if variable is not None},
        deadline_s=deadline_s,
        healthy=found.scalars(),
    )
