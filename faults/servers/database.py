"""What faults on a database share: has it accounts and tables, is it still the same one, is a login refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from faults.path.evidence import probe_shows
from harness.adapters.clients.administration import AdminSession
from harness.adapters.wire.exchange import ProbeError
from harness.dependencies.kind import attempts
from harness.dependencies.registry import kind_of, kinds
from harness.model.clock import monotonic
from harness.model.errors import OtherKind, UndoUnverified, UsageError
from harness.model.records.faults import Dependency, Evidence, UndoRecord

_LOGIN_TIMEOUT_S = 2.0


def refuse_other_kinds(fault: str, dependency: Dependency) -> None:
    """Raises Refused for what has no accounts and no tables."""
    if not kind_of(dependency).has_accounts:
        servers = " or ".join(sorted({kind.server for kind in kinds().values() if kind.has_accounts}, reverse=True))
        raise OtherKind(
            f"{dependency.name}-{fault} needs a {servers} dependency; {dependency.name} is of kind {dependency.kind}",
            hint=f"use it on the database, for example db-{fault}",
        )


def check_server(admin: AdminSession, record: UndoRecord, which: str, mend: str) -> None:
    """Raises UndoUnverified where another server answers than the one `which` was changed."""
    recorded, identity = str(record.where["system_identifier"]), admin.system_identifier()
    if recorded and identity and identity != recorded:
        raise UndoUnverified(
            f"another {kind_of(record.dependency).server} server answers for {record.dependency.name}: {identity}; the"
            f" one {which} is {recorded}",
            mend,
        )


def as_application(dependency: Dependency) -> Dependency:
    """Probed with the application's own login."""
    return dependency.but(credentials={"probe_login": None, "probe_password_env": None})


def refused_login(
    logins: Sequence[Dependency],
    most: int,
    expected: str,
    *,
    held: Callable[[ProbeError], bool],
    says_nothing: Callable[[ProbeError], bool] = lambda _: False,
    transactions: bool = False,
) -> Evidence:
    """Log in until one login is refused, `most` times at most, holding the free slots for that moment only.

    logins: the dependency with the login to use. held: the refusal is this fault's. says_nothing: it is not about the
    server, so the next login is tried. transactions: a pooler takes every login, so a transaction is begun in each: one
    that gets no answer is refused.
    """
    refused: ProbeError | None = None
    taken = 0
    with ExitStack() as slots:
        while logins and taken < most:
            one = logins[0]
            try:
                attempt = attempts(one, one.path or one.direct)(monotonic() + _LOGIN_TIMEOUT_S)
                kind = kind_of(one)
                slots.enter_context(kind.transaction(attempt) if transactions else kind.login(attempt))
                taken += 1
            except (ProbeError, UsageError) as error:
                refused = error if isinstance(error, ProbeError) else ProbeError("auth", str(error), connected=False)
                if not says_nothing(refused):
                    break
                logins = logins[1:]
    what = "transactions were begun and rolled back" if transactions else "free slots were taken and released"
    observed = f"{taken} {what}; " if taken else ""
    return probe_shows(
        expected=expected,
        observed=observed + (f"refused: {refused.detail}" if refused is not None else "no login was refused"),
        held=refused is not None and held(refused),
    )
