"""What both faults on PostgreSQL's connections share: is it one, is it still the same, is a login refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress

from faults.path.evidence import probe_shows
from harness.adapters.clients import postgres_admin
from harness.adapters.clients.postgres_probe import Login
from harness.adapters.wire.exchange import ProbeError
from harness.dependencies.result import secret
from harness.model.clock import monotonic
from harness.model.errors import Refused, UndoUnverified, UsageError
from harness.model.records.faults import Dependency, Evidence, UndoRecord

_LOGIN_TIMEOUT_S = 2.0

Logins = Sequence[tuple[str, str | None]]
"""Connection options and password variable."""


def refuse_other_kinds(kind: str, dependency: Dependency) -> None:
    if dependency.kind != "postgres":
        raise Refused(
            f"{dependency.name}-{kind} needs a PostgreSQL dependency; {dependency.name} is of kind {dependency.kind}",
            hint=f"use it on the database, for example db-{kind}",
        )


def check_cluster(admin: postgres_admin.Admin, record: UndoRecord, which: str, mend: str) -> None:
    """Raises UndoUnverified where another cluster answers than the one `which` was changed."""
    recorded, identity = str(record.where["system_identifier"]), admin.system_identifier()
    if recorded and identity and identity != recorded:
        raise UndoUnverified(
            f"another PostgreSQL cluster answers for {record.dependency.name}: {identity}; the one {which} is"
            f" {recorded}",
            mend,
        )


def application_login(dependency: Dependency) -> tuple[str, str | None]:
    login = dependency.credentials.login or postgres_admin.default_login(str(dependency.credentials.role))
    return login, dependency.credentials.password_env


def refused_login(
    dependency: Dependency,
    logins: Logins,
    most: int,
    expected: str,
    *,
    held: Callable[[ProbeError], bool],
    says_nothing: Callable[[ProbeError], bool] = lambda _: False,
    transactions: bool = False,
) -> Evidence:
    """Log in until one login is refused, `most` times at most, holding the free slots for that moment only.

    held: the refusal is this fault's. says_nothing: it is not about the server, so the next login is tried.
    transactions: a pooler takes every login, so a transaction is begun in each: one that gets no answer is refused.
    """
    refused: ProbeError | None = None
    taken = 0
    path = dependency.path or dependency.direct
    with ExitStack() as slots:
        while path is not None and logins and taken < most:
            try:
                options, variable = logins[0]
                deadline = monotonic() + _LOGIN_TIMEOUT_S
                login = slots.enter_context(Login(options, path, password=secret(variable), deadline=deadline))
                if transactions:
                    login.select(b"BEGIN; SELECT 1")
                    # One that is left in a transaction costs the pooler its connection.
                    slots.callback(_roll_back, login)
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


def _roll_back(login: Login) -> None:
    login.extend(monotonic() + _LOGIN_TIMEOUT_S)
    with suppress(ProbeError):
        login.select(b"ROLLBACK")
