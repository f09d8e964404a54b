"""Clearing a Toxiproxy without a journal: its lock and every toxic that a harness has named, and nothing else.

For the day when the machine that ran the harness is gone, and its journal with it. A disabled proxy is left as it is:
nothing on the server tells who disabled it. The lock says which proxies its run meant to disable; that is told, with
the command that enables them.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from harness.adapters.toxiproxy import commands as by_hand
from harness.adapters.toxiproxy.client import ProxyState, Toxiproxy
from harness.adapters.toxiproxy.lock import LOCK, OURS, LockHolder, read_holder
from harness.model.errors import AdapterError, Gone, HarnessError, OutcomeUnknown, Refused

LIMIT_S = 30.0
CLEAN_S = 3.0
"""After an unknown outcome it must read clean so long: a request that timed out may still be carried out."""

Say = Callable[[str], None]


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a Toxiproxy carries of harnesses. toxics: (proxy, toxic). disabled: proxies, whoever did that.

    lock: the words of the lock, None when there is none. holder: who holds it, where a harness wrote it.
    """

    url: str
    lock: str | None = None
    holder: LockHolder | None = None
    toxics: tuple[tuple[str, str], ...] = ()
    disabled: tuple[str, ...] = ()

    @property
    def nothing(self) -> bool:
        return self.lock is None and not self.toxics


def look(url: str) -> Found:
    """Read, and change nothing. Raises Unreachable, Rejected, UsageError for a URL that is none."""
    server = Toxiproxy(url)
    proxies = server.proxies()
    lock = proxies.pop(LOCK, None)
    return Found(
        url=server.url,
        lock=lock.upstream if lock is not None else None,
        holder=read_holder(lock.upstream) if lock is not None else None,
        toxics=tuple(
            (proxy.name, toxic.name)
            for proxy in _sorted(proxies)
            for toxic in proxy.toxics
            if toxic.name.startswith(OURS)
        ),
        disabled=tuple(proxy.name for proxy in _sorted(proxies) if not proxy.enabled),
    )


def steal(found: Found, say: Say, *, limit_s: float = LIMIT_S) -> list[str]:
    """Remove what was found, the lock last, and read back. Returns what is left, in sentences with how to mend it.

    Raises Refused when the lock's run is known to be alive on this machine: it would go on without its lock.
    """
    holder = found.holder
    if holder is not None and holder.alive():
        raise Refused(
            f"{holder} is still running on this machine", hint="stop it with Ctrl-C; it undoes everything itself"
        )
    server = Toxiproxy(found.url)
    until = time.monotonic() + limit_s
    left = []
    for proxy, toxic in found.toxics:
        problem = _until_gone(lambda p=proxy, t=toxic: _without_toxic(server, p, t), until)  # type: ignore[misc]
        if problem is None:
            say(f"removed the toxic {toxic} from proxy {proxy}")
        else:
            left.append(
                f"the toxic {toxic} may still be on proxy {proxy} ({problem}): "
                f"{by_hand.remove_toxic(found.url, proxy, toxic)}; where that hangs, restart Toxiproxy"
            )
    if found.lock is not None and not left:
        words = found.lock
        problem = _until_gone(lambda: _without_lock(server, words), until)
        if problem is None:
            say(f"removed the lock of {holder or 'an unknown run'}")
        else:
            left.append(f"the lock is still there ({problem}): {by_hand.remove_proxy(found.url, LOCK)}")
    elif found.lock is not None:
        left.append(f"the lock stays until the toxics are gone; then: {by_hand.remove_proxy(found.url, LOCK)}")
    return left


def advice(found: Found) -> list[str]:
    """What is not touched because nothing shows who did it, with the command for each. Sentences."""
    meant = set(found.holder.disables) if found.holder is not None else set()
    said = []
    for name in found.disabled:
        why = (
            f"the plan of {found.holder} was to disable it"
            if name in meant
            else "nothing on the server tells who disabled it"
        )
        said.append(
            f"proxy {name} is disabled and stays so: {why}. To enable it: {by_hand.enable_proxy(found.url, name)}"
        )
    return said


def _without_toxic(server: Toxiproxy, proxy: str, toxic: str) -> bool:
    """Remove it; True when it was gone already. Raises OutcomeUnknown and other AdapterErrors."""
    try:
        if server.proxy(proxy).toxic(toxic) is None:
            return True
        server.remove_toxic(proxy, toxic)
    except Gone:
        return True
    return False


def _without_lock(server: Toxiproxy, words: str) -> bool:
    """Remove the very lock that was looked at; another one belongs to a run that has begun since."""
    try:
        if server.proxy(LOCK).upstream != words:
            return True
        server.remove(LOCK)
    except Gone:
        return True
    return False


def _until_gone(remove: Callable[[], bool], until: float) -> str | None:
    """Remove until it reads as gone, and for a while after an unknown outcome. None, or why it may still be there."""
    unsure, clean_since = False, 0.0
    while True:
        try:
            gone, trouble = remove(), "it came back"
        except OutcomeUnknown as error:
            gone, trouble, unsure = False, str(error), True
        except (AdapterError, HarnessError) as error:
            gone, trouble = False, str(error)
        now = time.monotonic()
        clean_since = (clean_since or now) if gone else 0.0
        if gone and (not unsure or now - clean_since >= CLEAN_S):
            return None
        if now > until:
            return trouble
        time.sleep(0.1 if gone or not unsure else 0.5)


def _sorted(proxies: dict[str, ProxyState]) -> list[ProxyState]:
    return [proxies[name] for name in sorted(proxies)]
