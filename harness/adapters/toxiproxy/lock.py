"""What harnesses leave on a Toxiproxy for each other to read: the lock, and whose it is; the names of their toxics.

The lock is a disabled proxy named `harness-lock`; its upstream is never dialled, it holds the words of who holds it.
Taking it and letting go of it is harness/safety/locks/remote.py's.
"""

from __future__ import annotations

import re
import secrets
import socket
from collections.abc import Mapping

import msgspec

from harness.adapters.processes.identity import boot_id
from harness.adapters.toxiproxy.client import ProxyState
from harness.model.errors import Refused

OURS = "harness-"
"""Every toxic of a harness, and its lock, has a name that starts with this; others' never do."""
LOCK = "harness-lock"


class LockHolder(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds the lock of a Toxiproxy. since: UTC. disables: proxies that this run's plan disables. boot: the id of
    the boot in which it was taken, None where the system has none."""

    owner: str
    host: str
    pid: int
    keeper: int
    since: str
    disables: tuple[str, ...] = ()
    boot: str | None = None

    def text(self) -> str:
        """As it stands in the proxy's upstream; the token makes it this lock and no other."""
        words = [f"run {word(self.owner)} host {word(self.host)} pid {self.pid} keeper {self.keeper}"]
        words.append(f"since {word(self.since)}")
        if self.disables:
            words.append(f"disables {','.join(map(word, self.disables))}")
        if self.boot is not None:
            words.append(f"boot {word(self.boot)}")
        return " ".join([*words, f"token {secrets.token_hex(8)}"])

    @property
    def here(self) -> bool:
        return self.host == word(socket.gethostname())

    def alive(self) -> bool:
        """Whether run or keeper still live, as far as this machine can tell; a pid may have gone to somebody else."""
        if not self.here or (self.boot is not None and self.boot != boot_id()):
            return False
        return any(_was_there(pid, self.since) for pid in (self.pid, self.keeper) if pid > 0)

    def __str__(self) -> str:
        return f"run {self.owner} (host {self.host}, pid {self.pid}, since {self.since})"


_TEXT = re.compile(
    r"run (?P<owner>\S+) host (?P<host>\S+) pid (?P<pid>\d{1,10}) keeper (?P<keeper>\d{1,10}) since (?P<since>\S+)"
    r"(?: disables (?P<disables>\S+))?(?: boot (?P<boot>\S+))? token [0-9a-f]+"
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
        boot=found["boot"],
    )


def refused(url: str, text: str) -> Refused:
    """Who holds the lock, and what can be done about it."""
    holder = read_holder(text)
    steal = f"harness heal --toxiproxy {url} --steal"
    if holder is None:
        return Refused(
            f"Toxiproxy at {url} is locked: its proxy {LOCK} says {text[:200]!r}",
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


def in_use(url: str, proxies: Mapping[str, ProxyState]) -> Refused | None:
    """The refusal where a run that is not known to be dead holds this Toxiproxy: what is broken there is its fault, and
    to be left alone. None where nobody does, or a dead run, whose faults are to be healed."""
    lock = proxies.get(LOCK)
    holder = read_holder(lock.upstream) if lock is not None else None
    if lock is None or holder is None or (holder.here and not holder.alive()):
        return None
    return refused(url, lock.upstream)


def word(text: str) -> str:
    """One word of printable ASCII: the text is split at spaces when it is read."""
    return re.sub(r"[^\x21-\x7e]|,", "-", text)[:120] or "-"


def _was_there(pid: int, since: str) -> bool:
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
