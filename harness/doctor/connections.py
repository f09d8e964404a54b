"""Are the application's connections on the proxy, and only there? Looked at while its requests are sent, by the path
proof's own looks and in its words."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from harness.adapters.docker.address import at_present
from harness.conductor.path_proof import outside
from harness.conductor.path_proof.clients import PathSnapshot
from harness.conductor.path_proof.evidence import passed_evidence, path_evidence, strays_of, trouble_of, unpassed
from harness.conductor.path_proof.tracker import look_at
from harness.doctor.diagnosis import DiagnosisLine, meaningless, ok, warn
from harness.model.errors import HarnessError
from harness.model.records.faults import Dependency, Evidence
from harness.model.records.stack import StackUp

ROUNDS = 2
"""Where nobody was seen in the first the requests are sent once more: a pool may have opened its first connection at
the very end."""
LOOK_S = 2.0
"""For how long it is looked where no requests are sent."""


class Watched:
    """One dependency. settled: nothing more needs to be looked for."""

    def __init__(self, dependency: Dependency, up: StackUp) -> None:
        self.dependency = dependency
        self._up = up
        self._before: PathSnapshot | None = None
        self._after: PathSnapshot | None = None
        self._held: Evidence | None = None
        self._last: Evidence | None = None
        self._strays: tuple[str, str] | None = None
        self._outside: outside.Outside | None = None
        self._problem = ""

    @property
    def in_use(self) -> bool:
        """Or known to be used past its proxy, which no further look makes better."""
        seen = self._outside is not None and bool(self._outside.ends)
        return self._held is not None or self._strays is not None or seen

    def look(self) -> None:
        if self._strays is not None:
            return
        try:
            self._look()
        except HarnessError as error:
            self._problem = str(error)

    def _look(self) -> None:
        dependency = self.dependency
        after = look_at(dependency, self._up)
        if dependency.front is not None:
            self._look_at_front(after)
        elif not after.can_tell:
            self._look_from_outside()
        elif self._before is None:
            self._before = after
        else:
            evidence = path_evidence(self._before, after, dependency, on_proxy=dependency.proxied)
            self._after, self._last = after, evidence
            if evidence is not None and evidence.held:
                self._held = evidence
            if evidence is not None and dependency.proxied and strays_of(self._before, after, dependency):
                self._strays = trouble_of(self._before, after, dependency), evidence.observed

    def _look_at_front(self, after: PathSnapshot) -> None:
        """An Envoy has counted its requests."""
        target, every = self._up.target, self._up.dependencies
        if past := outside.past(self.dependency, target, every):
            self._strays = (
                outside.reaches_past(outside.look(self.dependency, target, every, limit_s=0.0), self.dependency),
                past,
            )
        if self._before is None:
            self._before = after
            return
        self._after, self._last = after, passed_evidence(self._before, after, self.dependency)
        if self._last.held:
            self._held = self._last

    def _look_from_outside(self) -> None:
        target, every = self._up.target, self._up.dependencies
        seen = outside.look(at_present(self.dependency), target, every, limit_s=0.0)
        if self._outside is None or seen.ends:
            self._outside = seen
        if past := outside.past(self.dependency, target, every):
            self._strays = outside.reaches_past(seen, self.dependency), past

    def line(self, *, sent: bool, held_back: bool) -> DiagnosisLine:
        """sent: requests were, meanwhile. held_back: some were not."""
        name, one = self.dependency.name, self.dependency
        led = one.proxied or one.front is not None
        # Through a tunnel, or from a container, the application knows the proxy by another address than we do.
        at = one.path if one.proxy.pid is not None or not one.proxied else f"the proxy {one.proxy.name}"
        used = f"let the application connect to {at}" if led else "let the application use it"
        if self._strays is not None:
            remedy = f'{used}; for clients that are not the application\'s: ignore_clients = ["..."]'
            return meaningless(name, *self._strays, remedy)
        if self._held is not None:
            return self._well(self._held)
        if not sent and not (self._outside is not None and self._outside.ends):
            # An application that nobody asks for anything may well be at rest.
            seen = f"{self._last.observed}; " if self._last is not None else ""
            return warn(
                name,
                "whether the application uses it is not known",
                f"{seen}no request was sent meanwhile",
                "mend what keeps the requests from being sent",
            )
        more = ", or send more of its requests: harness doctor --all-requests" if held_back else ""
        if self._outside is not None:
            if self._outside.ends:
                fact = "the application is connected to the proxy" if one.proxied else "the application is connected"
                return ok(name, fact, outside.evidence_of(self._outside, one).observed)
            return meaningless(
                name,
                "nothing shows that the application uses it",
                f"{outside.nobody_seen(self._outside, one)} while the requests were sent",
                f"{used}{more}; to prove it: {outside.ways_to_prove(self._outside, one)}",
            )
        if self._before is None or self._after is None or self._last is None:
            fact = f"who uses {name} could not be looked at"
            return meaningless(name, fact, self._problem, "a run looks as well, and does not count a fault without it")
        if one.front is not None:
            fact = unpassed(one)
            return meaningless(name, fact, f"{self._last.observed} while the requests were sent", used + more)
        fact = trouble_of(self._before, self._after, one, on_proxy=one.proxied)
        ways = {client.on_proxy for client in self._after.clients}
        if ways == {True}:
            # It is led there already; it is the requests that ask it for nothing.
            fact = "the application is connected to the proxy, and these requests made no use of it"
            used = f"put requests that need {name} into the locustfile"
        elif not ways:
            used = f"put requests that need {name} into the locustfile; where they do already, {used}"
        if None in ways:
            used = "run the harness where Toxiproxy runs, or declare where its connections come from (seen_as)"
        return meaningless(name, fact, f"{self._last.observed} while the requests were sent", used + more)

    def _well(self, held: Evidence) -> DiagnosisLine:
        name = self.dependency.name
        if self.dependency.front is not None:
            return ok(name, "the application uses it through its front", held.observed)
        if not self.dependency.proxied:
            return ok(name, "the application uses it", held.observed)
        beside = [client for client in self._after.clients if client.on_proxy is False] if self._after else []
        if not beside:
            return ok(name, "the application's connections are on the proxy, and only there", held.observed)
        return warn(
            name,
            f"the application uses the proxy, and {len(beside)} beside it did nothing meanwhile",
            ", ".join(map(str, beside[:3])),
            "if they are the application's, let it connect to the proxy only; if not: ignore_clients",
        )


def watch(up: StackUp, send: Callable[[], bool] | None) -> Sequence[Watched]:
    """Look at every dependency, before, while and after requests are sent. send: False where it came to nothing, so
    that once is enough; None: nothing is sent."""
    watched = [Watched(one, up) for one in up.dependencies if not one.target and not one.path_assumed]
    if watched or send is not None:
        _look_at(watched)
    for _ in range(ROUNDS):
        if not _round(watched, send) or all(one.in_use for one in watched):
            break
    return watched


def _round(watched: Sequence[Watched], send: Callable[[], bool] | None) -> bool:
    """Looks until the requests have been sent, and once more. Gives whether they were."""
    sent: list[bool] = []
    done = threading.Event()

    def work() -> None:
        try:
            sent.append(send() if send is not None else False)
        finally:
            done.set()

    if send is None:
        threading.Timer(LOOK_S, work).start() if watched else work()
    else:
        threading.Thread(target=work, name="requests", daemon=True).start()
    while not done.wait(0.1):
        _look_at(watched)
    _look_at(watched)
    return bool(sent) and sent[0]


def _look_at(watched: Sequence[Watched]) -> None:
    for one in watched:
        one.look()
