"""The user's own system: known by its URL alone (`--host`), or declared in harness.toml.

Everything is declared; nothing of it is created, removed or set otherwise than by the faults themselves.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING

from harness.config import rules
from harness.config.file import DEFAULT_TARGET, Configuration
from harness.model.errors import AdapterError, SetupError, UsageError, about
from harness.model.records.faults import Dependency
from harness.model.records.process import Launcher
from harness.model.records.stack import Progress, StackName, StackUp, TargetInfo

if TYPE_CHECKING:
    from harness.stack.external.check import Look

ANSWER_LIMIT_S = 3.0


class ExternalStack:
    """url: http or https, with an optional path that every request begins with. configuration: harness.toml, if any.

    allow_hosts: host names, addresses or networks that may be tested besides loopback and private addresses that the
    configuration names.
    """

    name: StackName = "external"

    def __init__(
        self,
        url: str,
        allow_hosts: Collection[str] = (),
        *,
        configuration: Configuration | None = None,
    ) -> None:
        """Raises UsageError for a URL that cannot be a target; resolves and connects to nothing."""
        self.url = target_url(url)
        self._allow = tuple(allow_hosts)
        self._config = configuration if configuration is not None and configuration.target is not None else None
        self.declared_reset = _reset_in(configuration)
        """(path, SHA-256) of the harness.toml that says how the target of a suite is brought back; None: none does."""
        self._up: StackUp | None = None
        self._stop = threading.Event()

    def describe(self) -> tuple[Dependency, ...]:
        """What is declared, with addresses as they are written; touches nothing."""
        if self._config is None:
            return ()
        from harness.stack.external.declared import dependencies

        return dependencies(self._config, self.url)

    @property
    def allowed(self) -> tuple[str, ...]:
        """Every host that an undo may reach: what was allowed or declared, and after `check` their addresses too."""
        if self._config is None:
            return self._allow
        from harness.adapters.allowed_hosts import reached
        from harness.stack.external.declared import named_hosts

        found = {*self._allow, *named_hosts(self._config, self.url)}
        for dependency in self._up.dependencies if self._up is not None else ():
            found |= {host for host, _ in reached(dependency)}
        return tuple(sorted(found))

    def check(self) -> None:
        """Look at every part, before anything is made for a run: it is well, it may be tested, the proxies are free.

        Raises Refused for what must not be, UsageError for what does not answer or is not as declared.
        """
        self._up = self._look(lambda _: None)

    def refusals(self) -> tuple[str, ...]:
        """What `check` would refuse for its address, in the same words. Looks names up, and connects to nothing."""
        from harness.adapters.allowed_hosts import check_address, check_url, reached
        from harness.stack.external.declared import dependencies, named_hosts

        named = named_hosts(self._config, self.url) if self._config is not None else ()
        where = f"{self._config.shown}: target" if self._config is not None else f"--host {self.url}"
        checks: list[tuple[str, Callable[[], list[str]]]] = [
            (where, partial(check_url, self.url, named, allow_hosts=self._allow))
        ]
        for dependency in dependencies(self._config, self.url) if self._config is not None else ():
            if dependency.target or dependency.runtime == "container":
                continue
            for host, port in reached(dependency):
                one = partial(check_address, host, port, named, allow_hosts=self._allow)
                checks.append((f"dependencies.{dependency.name}", one))
        found = []
        for what, check in checks:
            try:
                check()
            except UsageError as error:
                found.append(f"{what}: {error}" + (f"; {error.hint}" if error.hint else ""))
        return tuple(dict.fromkeys(found))

    def up(self, launcher: Launcher, progress: Progress) -> StackUp:
        """Look again, now that the locks are held. Raises what `check` raises."""
        progress(f"{self.url}: looking whether it answers")
        self._up = self._look(progress)
        if self._stop.is_set():
            raise SetupError("stopped while the system was looked at")
        return self._up

    def down(self) -> None:
        """Nothing here is ours."""
        self._stop.set()

    def restart_toxiproxy(self, launcher: Launcher) -> bool:
        """There is none of ours."""
        return False

    def look(self) -> Look:
        """At every part, as `check` and the doctor do. Raises nothing for what is wrong with a part."""
        from harness.stack.external.check import Look, Part, look

        if self._config is not None:
            return look(self._config, self.url, allow_hosts=self._allow)
        try:
            target, trouble = self._look_at_url(), None
        except UsageError as error:
            target, trouble = None, error
        part = Part(name=DEFAULT_TARGET, address=self.url, trouble=trouble)
        return Look(parts=(part,), target=target, dependencies=(), versions={})

    def _look(self, progress: Progress) -> StackUp:
        found = self.look()
        troubles = [part.trouble for part in found.parts if part.trouble is not None]
        if troubles:
            raise first_of(troubles)
        for note in found.notes:
            progress(f"note: {note}")
        assert found.target is not None
        return StackUp(name=self.name, target=found.target, dependencies=found.dependencies, versions=found.versions)

    def _look_at_url(self) -> TargetInfo:
        from harness.adapters.allowed_hosts import check_url
        from harness.adapters.wire.http import Client

        try:
            addresses = check_url(self.url, (), allow_hosts=self._allow)
        except UsageError as error:
            raise type(error)(f"--host {self.url}: {error}", hint=error.hint) from error
        try:
            # Any status will do: a service may well have nothing at its root.
            with Client() as client:
                client.get(self.url + "/", ANSWER_LIMIT_S)
        except AdapterError as error:
            raise UsageError(
                f"--host {self.url}: {error}", hint="start the target first, or correct the URL"
            ) from error
        return TargetInfo(url=self.url, metrics_url=f"{self.url}/metrics", addresses=tuple(addresses))


def _reset_in(configuration: Configuration | None) -> tuple[str, str] | None:
    if configuration is None or configuration.suite.reset is None:
        return None
    return configuration.path, configuration.sha256


def first_of(troubles: list[UsageError]) -> UsageError:
    """One error for all: the first, with how many more there are."""
    first = troubles[0]
    if len(troubles) == 1:
        return first
    more = f"{len(troubles) - 1} more; see all with: harness doctor"
    return type(first)(str(first), hint=f"{first.hint}; {more}" if first.hint else more)


def target_url(text: str) -> str:
    """The URL without a slash at its end. Raises UsageError in one line for what is no target's URL."""
    with about("host", ": "):
        return rules.base_url(text, "", example="--host http://127.0.0.1:8000")
