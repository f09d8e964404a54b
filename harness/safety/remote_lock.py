"""Locks that other machines see: on a shared Toxiproxy and on a shared PostgreSQL.

On a Toxiproxy it is a disabled proxy named `harness-lock`: creating a name that exists is refused (409), whatever
address the server is reached by, so the lock knows no alias. Its upstream is never dialled; it holds the words of who
holds it. It is journaled before it is made and removed last, after everything has been undone and verified. On
PostgreSQL it is an advisory lock that run and keeper hold side by side (see adapters/advisory.py); it ends with their
sessions.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from harness.adapters import by_hand
from harness.model.clock import wall
from harness.model.errors import (
    AdapterError,
    Gone,
    HarnessError,
    OutcomeUnknown,
    Refused,
    Rejected,
    SetupError,
    UsageError,
)
from harness.model.faults import Dependency
from harness.safety.entries import Entry, ProxyLock, Unlocked

if TYPE_CHECKING:
    from harness.adapters.advisory import AdvisoryLock
    from harness.adapters.toxiproxy import Toxiproxy
    from harness.safety.journal_view import JournalView
    from harness.safety.keeper_client import Keeper

NAME = "harness-lock"
LISTEN = "127.0.0.1:0"
"""Never listened on while the proxy is disabled. Should somebody reset the whole Toxiproxy, it is a free port."""
TRIES = 5
DROP_LIMIT_S = 10.0


class LockHolder(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds the lock of a Toxiproxy. since: UTC. disables: proxies that this run's plan disables."""

    owner: str
    host: str
    pid: int
    keeper: int
    since: str
    disables: tuple[str, ...] = ()

    def text(self) -> str:
        """As it stands in the proxy's upstream; the token makes it this lock and no other."""
        words = [f"run {_word(self.owner)} host {_word(self.host)} pid {self.pid} keeper {self.keeper}"]
        words.append(f"since {_word(self.since)}")
        if self.disables:
            words.append(f"disables {','.join(map(_word, self.disables))}")
        return " ".join([*words, f"token {secrets.token_hex(8)}"])

    @property
    def here(self) -> bool:
        return self.host == _word(socket.gethostname())

    def alive(self) -> bool:
        """Whether run or keeper still live, as far as this machine can tell; a pid may have gone to somebody else."""
        return self.here and any(_is_harness(pid, self.since) for pid in (self.pid, self.keeper) if pid > 0)

    def __str__(self) -> str:
        return f"run {self.owner} (host {self.host}, pid {self.pid}, since {self.since})"


_TEXT = re.compile(
    r"run (?P<owner>\S+) host (?P<host>\S+) pid (?P<pid>\d{1,10}) keeper (?P<keeper>\d{1,10}) since (?P<since>\S+)"
    r"(?: disables (?P<disables>\S+))? token [0-9a-f]+"
)


def read_holder(text: str) -> LockHolder | None:
    """The holder out of a lock's upstream; None for words that no harness wrote."""
    found = _TEXT.fullmatch(text)
    if found is None:
        return None
    return LockHolder(
        owner=found["owner"],
        host=found["host"],
        pid=int(found["pid"]),
        keeper=int(found["keeper"]),
        since=found["since"],
        disables=tuple((found["disables"] or "").split(",")) if found["disables"] else (),
    )


class Wanted(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """One lock to take. Sorted, so that of two runs that want the same ones exactly one gets them all.

    toxiproxy: URL; admin: connection options of PostgreSQL's admin login, without password.
    """

    toxiproxy: str = ""
    admin: str = ""
    admin_password_env: str = ""
    name: str = ""


def wanted(changed: Iterable[Dependency], limited: Collection[str]) -> list[Wanted]:
    """The locks for these dependencies, sorted. limited: names of those whose PostgreSQL itself is changed."""
    found = set()
    for dependency in changed:
        if dependency.toxiproxy is not None and dependency.proxied:
            found.add(Wanted(toxiproxy=dependency.toxiproxy.rstrip("/")))
        if dependency.admin is not None and dependency.name in limited:
            found.add(
                Wanted(
                    admin=dependency.admin,
                    admin_password_env=dependency.admin_password_env or "",
                    name=dependency.name,
                )
            )
    return sorted(found)


class RemoteLocks:
    """The run's side. The keeper holds every lock as well and lets go of it last."""

    def __init__(self) -> None:
        self._advisory: list[AdvisoryLock] = []

    def take(self, keeper: Keeper, locks: Sequence[Wanted], owner: str, disables: Sequence[str] = ()) -> None:
        """Take all of them or raise Refused naming the holder; SetupError when a server cannot be asked.

        What was taken before the refusal is let go of by the keeper's end and by `release`.
        """
        holder = LockHolder(
            owner=owner,
            host=socket.gethostname(),
            pid=os.getpid(),
            keeper=keeper.pid,
            since=wall(),
            disables=tuple(disables),
        )
        for lock in locks:
            if lock.toxiproxy:
                keeper.hold_proxy(ProxyLock(url=lock.toxiproxy, text=holder.text()))
            else:
                self._advisory.append(hold_postgres(lock, owner, os.getpid(), "run"))
                keeper.hold_postgres(lock.admin, lock.admin_password_env, lock.name, owner)

    def release(self) -> None:
        """Call it after the keeper has gone. Never raises."""
        for lock in self._advisory:
            lock.release()
        self._advisory.clear()


def hold_postgres(lock: Wanted, owner: str, pid: int, who: str) -> AdvisoryLock:
    """Lock the cluster, for "run" or "keeper". Raises Refused naming the holder, SetupError."""
    from harness.adapters.advisory import AdvisoryLock
    from harness.adapters.probe import secret

    try:
        return AdvisoryLock(
            lock.admin,
            password=secret(lock.admin_password_env or None),
            who=who,
            text=f"pid {pid} on {_word(socket.gethostname())[:20]}: {_word(owner)}",
        )
    except Refused as error:
        raise Refused(
            f"PostgreSQL {lock.name} is in use by a run ({error})",
            hint="wait for it to end, or stop it there; the lock ends with its session",
        ) from None
    except AdapterError as error:
        raise SetupError(f"PostgreSQL {lock.name} cannot be locked: {error}", hint=error.hint) from error


def hold_proxy(lock: ProxyLock) -> None:
    """Make the proxy that is the lock. Raises Refused naming the holder, SetupError."""
    from harness.adapters.toxiproxy import Toxiproxy

    server = Toxiproxy(lock.url)
    for attempt in range(TRIES):
        try:
            server.create(NAME, listen=LISTEN, upstream=lock.text, enabled=False)
            return
        except Rejected as error:
            trouble: AdapterError = error  # a name that exists, most likely: who has it is asked below
        except OutcomeUnknown as error:
            trouble = error
        except AdapterError as error:
            raise SetupError(f"Toxiproxy at {lock.url} cannot be locked: {error}") from error
        try:
            found = server.proxy(NAME)
        except Gone:
            time.sleep(0.05 * attempt)  # its holder ended just now, or nothing was made: once more
            continue
        except AdapterError as error:
            raise SetupError(f"Toxiproxy at {lock.url} cannot be locked: {error}") from error
        if found.upstream == lock.text:
            return
        raise refused(lock.url, found.upstream)
    raise SetupError(f"Toxiproxy at {lock.url} cannot be locked: {trouble}")


def refused(url: str, text: str) -> Refused:
    """Who holds the lock, and what can be done about it."""
    holder = read_holder(text)
    steal = f"harness heal --toxiproxy {url} --steal"
    if holder is None:
        return Refused(
            f"Toxiproxy at {url} is locked: its proxy {NAME} says {text[:200]!r}",
            hint=f"ask whoever made it; if it is left over: {steal}",
        )
    said = f"Toxiproxy at {url} is in use by {holder}"
    if holder.alive():
        return Refused(said, hint="wait for it to end, or stop it")
    if holder.here:
        return Refused(
            f"{said}, which has died", hint=f"run `harness heal --all`; if that run's journal is lost: {steal}"
        )
    return Refused(said, hint=f"wait for it to end; if it has died: `harness heal --all` on {holder.host}, or {steal}")


def drop_proxy(lock: ProxyLock) -> str | None:
    """Remove the lock if it is still ours. None when it is gone, else a sentence with what to do by hand."""
    from harness.adapters.toxiproxy import Toxiproxy

    server = Toxiproxy(lock.url)
    until = time.monotonic() + DROP_LIMIT_S
    while True:
        try:
            if _is_dropped(server, lock.text):
                return None
            trouble = "it is still there"
        except HarnessError as error:
            trouble = str(error)
        if time.monotonic() > until:
            return (
                f"the lock {NAME} on Toxiproxy at {lock.url} could not be removed ({trouble}); no other run can use "
                f"that Toxiproxy until: {by_hand.remove_proxy(lock.url, NAME)}"
            )
        time.sleep(0.2)


def release_locks(
    view: JournalView, write: Callable[[Entry], None], say: Callable[[str], None], unlocked: list[str] | None = None
) -> list[str]:
    """Remove the locks of Toxiproxies, last of all; they stay while a change is left. Returns what is left.

    unlocked: gets the URL of each whose lock was removed.
    """
    if not view.locks:
        return []
    if view.pending or view.damage:
        where = ", ".join(lock.url for lock in view.locks)
        say(f"something is left, so the lock stays on: {where}")
        return []
    from harness.adapters.addresses import TOXIPROXY_PORT, check_address, url_address

    left = []
    for lock in view.locks:
        try:
            check_address(*url_address(lock.url, TOXIPROXY_PORT), view.allowed, allow_hosts=view.allowed)
        except UsageError as error:
            left.append(f"the lock on Toxiproxy at {lock.url} was not touched: {error}")
            continue
        problem = drop_proxy(lock)
        if problem is None:
            write(Unlocked(lock=lock))
            if unlocked is not None:
                unlocked.append(lock.url)
        else:
            left.append(problem)
    return left


def _is_dropped(server: Toxiproxy, text: str) -> bool:
    """Compare and remove: a lock with other words is somebody else's by now, and ours is gone."""
    try:
        if server.proxy(NAME).upstream != text:
            return True
        server.remove(NAME)
    except Gone:
        return True
    return False


def _word(text: str) -> str:
    """One word of printable ASCII: the text is split at spaces when it is read."""
    return re.sub(r"[^\x21-\x7e]|,", "-", text)[:120] or "-"


def _is_harness(pid: int, since: str) -> bool:
    """A process of that pid that was there when the lock was taken."""
    from datetime import datetime

    import psutil

    try:
        process = psutil.Process(pid)
        # psutil's start times are off by clock ticks and by corrections of the boot time.
        began_before = process.create_time() < datetime.fromisoformat(since).timestamp() + 2.0
        return began_before and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, ValueError):
        return False
