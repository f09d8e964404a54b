"""Locks that other machines see: on a shared Toxiproxy and on a shared database.

On a Toxiproxy it is a disabled proxy (see adapters/proxy_lock.py): creating a name that exists is refused (409),
whatever address the server is reached by, so the lock knows no alias. It is journaled before it is made and removed
last, after everything has been undone and verified, and after a look at that Toxiproxy has found nothing of a harness
on it: a journal that lost its end knows nothing of what it began. On a database it is an advisory lock that run and
keeper hold side by side (`server_lock` of its kind); it ends with their sessions.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import msgspec

from harness.adapters.processes.identity import boot_id
from harness.adapters.toxiproxy import commands as by_hand
from harness.adapters.toxiproxy.lock import LOCK, OURS, LockHolder, read_holder, refused, word
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
from harness.model.records.faults import Dependency
from harness.safety.journal.entries import Entry, ProxyLock, Unlocked

if TYPE_CHECKING:
    from harness.adapters.toxiproxy.client import ProxyState
    from harness.dependencies.kind import ServerLock
    from harness.safety.journal.view import JournalView

LISTEN = "127.0.0.1:0"
"""Never listened on while the proxy is disabled. Should somebody reset the whole Toxiproxy, it is a free port."""
TRIES = 5
DROP_LIMIT_S = 10.0


class Wanted(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """One lock to take. Sorted, so that of two runs that want the same ones exactly one gets them all.

    toxiproxy: URL; admin: connection options of a database's admin login, without password. kind: of that database.
    """

    toxiproxy: str = ""
    admin: str = ""
    admin_password_env: str = ""
    name: str = ""
    kind: str = "postgres"


def wanted(changed: Iterable[Dependency], limited: Collection[str]) -> list[Wanted]:
    """The locks for these dependencies, sorted. limited: names of those whose database itself is changed."""
    found = set()
    for dependency in changed:
        if dependency.proxy.url is not None and dependency.proxied:
            found.add(Wanted(toxiproxy=dependency.proxy.url.rstrip("/")))
        if dependency.credentials.admin is not None and dependency.name in limited:
            found.add(
                Wanted(
                    admin=dependency.credentials.admin,
                    admin_password_env=dependency.credentials.admin_password_env or "",
                    name=dependency.name,
                    kind=dependency.kind,
                )
            )
    return sorted(found)


class Holds(Protocol):
    """A keeper, as far as locks are concerned: it takes one and keeps it until everything is undone."""

    pid: int

    def hold_proxy(self, lock: ProxyLock) -> None: ...

    def hold_database(self, admin: str, password_env: str, name: str, owner: str, kind: str) -> None: ...


class RemoteLocks:
    """The run's side. The keeper holds every lock as well and lets go of it last."""

    def __init__(self) -> None:
        self._advisory: list[ServerLock] = []

    def take(self, keeper: Holds, locks: Sequence[Wanted], owner: str, disables: Sequence[str] = ()) -> None:
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
            boot=boot_id(),
        )
        for lock in locks:
            if lock.toxiproxy:
                keeper.hold_proxy(ProxyLock(url=lock.toxiproxy, text=holder.text()))
            else:
                self._advisory.append(hold_database(lock, owner, os.getpid(), "run"))
                keeper.hold_database(lock.admin, lock.admin_password_env, lock.name, owner, lock.kind)

    def release(self) -> None:
        """Call it after the keeper has gone. Never raises."""
        for lock in self._advisory:
            lock.release()
        self._advisory.clear()


def hold_database(lock: Wanted, owner: str, pid: int, who: str) -> ServerLock:
    """Lock the server, for "run" or "keeper". Raises Refused naming the holder, SetupError."""
    from harness.dependencies.registry import kinds
    from harness.dependencies.result import secret

    kind = kinds()[lock.kind]

    try:
        return kind.server_lock(
            lock.admin,
            password=secret(lock.admin_password_env or None),
            who=who,
            text=f"pid {pid} on {word(socket.gethostname())[:20]}: {word(owner)}",
        )
    except Refused as error:
        raise Refused(
            f"{kind.server} {lock.name} is in use by a run ({error})",
            hint="wait for it to end, or stop it there; the lock ends with its session",
        ) from None
    except AdapterError as error:
        raise SetupError(f"{kind.server} {lock.name} cannot be locked: {error}", hint=error.hint) from error


def hold_proxy(lock: ProxyLock) -> None:
    """Make the proxy that is the lock. Raises Refused naming the holder, SetupError."""
    from harness.adapters.toxiproxy.client import Toxiproxy

    server = Toxiproxy(lock.url)
    for attempt in range(TRIES):
        try:
            server.create(LOCK, listen=LISTEN, upstream=lock.text, enabled=False)
            return
        except Rejected as error:
            trouble: AdapterError = error  # a name that exists, most likely: who has it is asked below
        except OutcomeUnknown as error:
            trouble = error
        except AdapterError as error:
            raise SetupError(f"Toxiproxy at {lock.url} cannot be locked: {error}") from error
        try:
            found = server.proxy(LOCK)
        except Gone:
            time.sleep(0.05 * attempt)  # its holder ended just now, or nothing was made: once more
            continue
        except AdapterError as error:
            raise SetupError(f"Toxiproxy at {lock.url} cannot be locked: {error}") from error
        if found.upstream == lock.text:
            return
        raise refused(lock.url, found.upstream)
    raise SetupError(f"Toxiproxy at {lock.url} cannot be locked: {trouble}")


def drop_proxy(lock: ProxyLock, known: Collection[str] = (), disables: Collection[str] = ()) -> str | None:
    """Remove the lock if it is still ours, and if nothing of a harness is left there. None when it is gone, else a
    sentence with what to do by hand.

    known: names of toxics (how they begin) that other journals answer for. disables: proxies that must not be disabled.
    """
    from harness.adapters.toxiproxy.client import Toxiproxy

    server = Toxiproxy(lock.url)
    until = time.monotonic() + DROP_LIMIT_S
    while True:
        try:
            proxies = server.proxies()
            held = proxies.pop(LOCK, None)
            if held is not None and held.upstream != lock.text:
                return None  # somebody else's by now, with what is there; ours is gone
            found = _unknown(server.url, proxies, known, disables)
            if found is not None:
                return found if held is None else f"{found}; until then it stays locked"
            if held is None:
                return None
            with suppress(Gone):
                server.remove(LOCK)
            return None
        except HarnessError as error:
            trouble = str(error)
        if time.monotonic() > until:
            return (
                f"the lock {LOCK} on Toxiproxy at {lock.url} could not be removed ({trouble}); no other run can use "
                f"that Toxiproxy until: {by_hand.remove_proxy(lock.url, LOCK)}"
            )
        time.sleep(0.2)


def _unknown(
    url: str, proxies: Mapping[str, ProxyState], known: Collection[str], disables: Collection[str]
) -> str | None:
    """What a harness has left there that no journal knows, and how to mend it, in a sentence."""
    toxics = [
        (proxy.name, toxic.name)
        for proxy in sorted(proxies.values(), key=lambda one: one.name)
        for toxic in proxy.toxics
        if toxic.name.startswith(OURS) and not any(toxic.name.startswith(one) for one in known)
    ]
    off = [name for name in sorted(disables) if name in proxies and not proxies[name].enabled]
    if not toxics and not off:
        return None
    said = [f"the toxic {toxic} is on proxy {proxy}" for proxy, toxic in toxics]
    said += [f"proxy {name} is disabled, as this run meant to do" for name in off]
    commands = [by_hand.remove_toxic(url, proxy, toxic) for proxy, toxic in toxics]
    commands += [by_hand.enable_proxy(url, name) for name in off]
    return (
        f"on Toxiproxy at {url} {', '.join(said)}, and no journal knows of it (did one lose its end?): "
        f"{' ; '.join(commands)} ; then run `harness heal --all` again"
    )


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
    from harness.adapters.allowed_hosts import TOXIPROXY_PORT, check_address, url_address

    left = []
    known = _answered_for(view)
    for lock in view.locks:
        try:
            check_address(*url_address(lock.url, TOXIPROXY_PORT), view.allowed, allow_hosts=view.allowed)
        except UsageError as error:
            left.append(f"the lock on Toxiproxy at {lock.url} was not touched: {error}")
            continue
        holder = read_holder(lock.text)
        # A run that said its last word has a whole journal: a proxy that is disabled now is somebody else's doing.
        disables = holder.disables if holder is not None and not view.ended else ()
        problem = drop_proxy(lock, known, disables)
        if problem is None:
            write(Unlocked(lock=lock))
            if unlocked is not None:
                unlocked.append(lock.url)
        else:
            left.append(problem)
    return left


def _answered_for(view: JournalView) -> set[str]:
    """How the toxics begin that other journals list as not undone yet: whoever heals those takes them off."""
    from harness.safety.journal.view import read_journal
    from harness.safety.state_folders import state_folders

    found: set[str] = set()
    for folder in state_folders():
        if str(folder) == view.folder:
            continue
        try:
            pending = read_journal(folder).pending
        except (HarnessError, OSError):
            continue
        found |= {text for record in pending for text in map(str, record.ours.values()) if text.startswith(OURS)}
    return found
