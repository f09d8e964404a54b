"""The target, Toxiproxy, each dependency, the Docker engine, metrics: as `run` and `stack status` look at them, and in
the words in which a run is refused."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from harness.adapters.alerts.sources import check_sources, rules_of
from harness.adapters.clients.prometheus_text import look_for_signals
from harness.adapters.toxiproxy.client import ProxyState
from harness.adapters.toxiproxy.lock import LOCK, OURS, refused
from harness.adapters.wire.http import Client
from harness.conductor.prepare import rules_not_read
from harness.config.file import Configuration
from harness.doctor.diagnosis import DiagnosisLine, cannot, ok, warn
from harness.fault import Fault
from harness.model.errors import HarnessError, OtherKind, UsageError
from harness.model.records.alerts import AlertsPlan
from harness.model.records.faults import Dependency
from harness.plan.suite.profile import refusal
from harness.stack.external.check import ANSWER_LIMIT_S, Look
from harness.stack.external.containers import Containers

TOXIPROXY = "toxiproxy"
SHOWN = 6


def part_lines(found: Look, config: Configuration | None, target: str) -> Iterator[DiagnosisLine]:
    """target: its name. Notes come after the part that they are about."""
    notes = list(found.notes)
    health = config.target.health if config is not None and config.target is not None else None
    for part in found.parts:
        if part.trouble is not None:
            yield cannot(part.name, part.trouble)
        elif part.name == target:
            page = f"its health page is {health}" if health else "no health page is declared, so any status will do"
            version = f", version {found.target.version}" if found.target is not None and found.target.version else ""
            yield ok(part.name, "it answers", f"{part.address}; {page}{version}")
        elif part.front is not None and part.path is not None:
            yield ok(part.name, "it answers through its Envoy", _where(part.name, found, part.path, part.front))
        elif part.path is not None:
            yield ok(
                part.name,
                "it answers directly and through its proxy",
                _where(part.name, found, part.address, part.path),
            )
        else:
            yield ok(part.name, "it answers", _where(part.name, found, part.address))
        if part.name == TOXIPROXY and found.toxiproxy is not None:
            yield from _others(found.toxiproxy, found.proxies, config)
        for note in [one for one in notes if one.startswith(f"{part.name}: ")]:
            notes.remove(note)
            yield warn(part.name, note.removeprefix(f"{part.name}: "))
    for note in notes:
        yield warn(TOXIPROXY if note.startswith("proxy ") else target, note)


def _where(name: str, found: Look, *addresses: str) -> str:
    version = found.versions.get(name)
    return " and ".join(addresses) + (f"; version {version}" if version else "")


def _others(url: str, proxies: Mapping[str, ProxyState], config: Configuration | None) -> Iterator[DiagnosisLine]:
    """Who else uses it: another run's lock, proxies that are not declared, toxics of other runs on them."""
    declared = {table.proxy for table in config.dependencies.values()} if config is not None else set()
    if (lock := proxies.get(LOCK)) is not None:
        yield cannot(TOXIPROXY, refused(url, lock.upstream))
    others = sorted(name for name in proxies if name not in declared and not name.startswith(OURS))
    if others:
        more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
        yield ok(
            TOXIPROXY,
            f"others may use it as well: it has {len(others)} more prox{'y' if len(others) == 1 else 'ies'}",
            f"{', '.join(others[:SHOWN])}{more}; not declared, so the harness leaves them alone",
        )
    foreign = [(name, toxic.name) for name in others for toxic in proxies[name].toxics if toxic.name.startswith(OURS)]
    for name, toxic in foreign[:SHOWN]:
        yield warn(TOXIPROXY, f"proxy {name} carries the toxic {toxic} of another run", "", "harness heal --all")


def docker_lines(config: Configuration | None, allow_hosts: Collection[str]) -> Iterator[DiagnosisLine]:
    if config is None or not config.contained:
        return
    containers = Containers(config, allow_hosts=allow_hosts)
    try:
        engine = containers.engine
        told = f"version {engine.version.version}, API {engine.version.api_version or 'unknown'}, at {engine.url}"
        yield ok("docker", "the engine answers, and this user may use it", told)
    except HarnessError as error:
        yield cannot("docker", error)
    finally:
        containers.close()


def metrics_lines(found: Look, target: str) -> Iterator[DiagnosisLine]:
    """Where they are missing a note says why."""
    url = found.target.metrics_url if found.target is not None else None
    if url is None:
        return
    try:
        with Client() as client:
            count = look_for_signals(client, url, ANSWER_LIMIT_S)
    except HarnessError as error:
        yield warn(target, f"no signals of the target: {error}")
        return
    yield ok(target, "its metrics are found", f"{url}; signals: {count}")


def alert_lines(alerts: AlertsPlan | None, allow_hosts: Collection[str]) -> Iterator[DiagnosisLine]:
    if alerts is None:
        return
    try:
        check_sources(alerts, allow_hosts)
    except UsageError as error:
        yield cannot("alerts", error)
        return
    if alerts.prometheus is None:
        return
    try:
        rules = rules_of(alerts, allow_hosts)
    except HarnessError as error:
        yield warn("alerts", rules_not_read(error), "", error.hint or "start it, or correct alerts.prometheus")
        return
    missing = sorted(set(alerts.expected) - {rule.alert for rule in rules})
    yield ok("alerts", "Prometheus answers", f"{alerts.prometheus}; {len(rules)} alerting rules")
    if missing:
        yield warn(
            "alerts", f"it has no rule for {', '.join(missing)}", "", "correct alerts.expected, or load the rule"
        )


def fault_lines(dependency: Dependency, faults: Mapping[str, Fault]) -> Iterator[DiagnosisLine]:
    """Which can be had there, and why the others cannot: each says so itself."""
    refusals = {
        kind: refusal(fault, dependency)
        for kind, fault in sorted(faults.items())
        # The load goes to the target itself, so nobody puts a proxy before it.
        if not dependency.target or fault.needs in ("runtime", "container")
    }
    # What no declaration would give is no news.
    refusals = {kind: why for kind, why in refusals.items() if not isinstance(why, OtherKind)}
    possible = [kind for kind, why in refusals.items() if why is None]
    name = dependency.name
    if possible:
        yield ok(name, f"{len(possible)} of {len(refusals)} faults of its kind can be had", ", ".join(possible))
    elif not dependency.target:
        yield warn(name, "no fault can be had on it")
    alike: dict[str, list[str]] = {}
    for kind, why in refusals.items():
        if why is not None:
            alike.setdefault(str(why).replace(f"{name}-{kind}", ""), []).append(kind)
    for kinds in alike.values():
        why = refusals[kinds[0]]
        assert why is not None
        yield DiagnosisLine(about=name, state="off", fact=", ".join(kinds), evidence=str(why), remedy=why.hint or "")
