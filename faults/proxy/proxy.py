"""What every fault on a Toxiproxy proxy shares: may it be had, which proxy is it, is it still the same one."""

from __future__ import annotations

import json

from faults.path.admin_session import keep
from faults.path.evidence import undo_shows
from faults.path.health import Healthy, answers_normally, takes_connections
from faults.path.record import record_of
from harness.adapters.toxiproxy import commands
from harness.adapters.toxiproxy.client import ProxyState, ToxicState, Toxiproxy
from harness.adapters.toxiproxy.lock import OURS
from harness.adapters.toxiproxy.restart import SILENT_S, snapshot
from harness.model.errors import AdapterError, Gone, Refused, UndoUnverified
from harness.model.records.faults import Applied, Change, Dependency, Evidence, Scalar, UndoRecord


def planned_proxy(kind: str, dependency: Dependency) -> str:
    name = f"{dependency.name}-{kind}"
    if not dependency.proxied:
        raise Refused(
            f"{name} needs a Toxiproxy proxy in front of {dependency.name}, and this stack declares none",
            hint="the embedded stack has one in front of each dependency",
        )
    return dependency.proxy.name or dependency.name


def resources(dependency: Dependency) -> tuple[str, ...]:
    return (f"toxiproxy {dependency.proxy.url or 'of the stack'} proxy {dependency.proxy.name or dependency.name}",)


def capture_proxy(dependency: Dependency) -> ProxyState:
    """The proxy as it is, once it is known to be fit for a fault. Raises Refused."""
    if dependency.proxy.url is None or dependency.proxy.name is None or dependency.path is None:
        raise Refused(f"{dependency.name} has no running proxy: the stack is not up")
    server = Toxiproxy(dependency.proxy.url)
    try:
        state = server.proxy(dependency.proxy.name)
    except Gone:
        raise Refused(
            f"Toxiproxy at {server.url} has no proxy {dependency.proxy.name!r}",
            hint=f"it has: {', '.join(sorted(server.proxies())) or 'none'}",
        ) from None
    if not state.enabled:
        raise Refused(
            f"proxy {state.name} is already disabled: that cannot be recorded as its original state",
            hint=f"enable it: {commands.enable_proxy(server.url, state.name)}",
        )
    foreign = [toxic.name for toxic in state.toxics if toxic.name.startswith(OURS)]
    if foreign:
        raise Refused(
            f"proxy {state.name} carries the toxic {foreign[0]} of another run",
            hint="run `harness heal --all`, or remove it: " + commands.remove_toxic(server.url, state.name, foreign[0]),
        )
    return state


def proxy_record(
    change: Change,
    record_id: str,
    state: ProxyState,
    found: Healthy,
    *,
    original: dict[str, Scalar],
    ours: dict[str, Scalar],
) -> UndoRecord:
    dependency = change.dependency
    keep(dependency, record_id)
    return record_of(
        change,
        record_id,
        found,
        where={
            "url": dependency.proxy.url,
            "proxy": state.name,
            "listen": state.listen,
            "upstream": state.upstream,
            "proxies": snapshot(Toxiproxy(str(dependency.proxy.url))),
        },
        original=original,
        ours=ours,
    )


def server_of(record: UndoRecord, *, undoing: bool = False) -> Toxiproxy:
    """undoing: a request that is not answered soon is given up, so that an API that has locked up is noticed."""
    # The dependency's URL, because that is the one whose host is checked again before an undo from a file.
    return Toxiproxy(str(record.dependency.proxy.url), timeout_s=SILENT_S if undoing else 5.0)


def proxy_name(record: UndoRecord) -> str:
    return str(record.where["proxy"])


def our_toxics(record: UndoRecord) -> tuple[ToxicState, ...]:
    """The toxics this record stands for; the name says the stream, because one name is one toxic."""
    ours = record.ours
    attributes: dict[str, int] = json.loads(str(ours["attributes"]))
    return tuple(
        ToxicState(name=f"{ours['toxic']}-{stream}", type=str(ours["type"]), stream=stream, attributes=attributes)
        for stream in str(ours["streams"]).split(",")
    )


def same_proxy(record: UndoRecord, state: ProxyState, what: str, mend: str, *, only_if: bool = True) -> None:
    """Raise UndoUnverified when the proxy of that name is no longer the one that was changed."""
    where = (record.where["listen"], record.where["upstream"])
    if only_if and (state.listen, state.upstream) != where:
        raise UndoUnverified(
            f"proxy {state.name} was {where[0]} to {where[1]} when it was {what};"
            f" somebody made it {state.listen} to {state.upstream}",
            mend,
        )


def make_again(record: UndoRecord, server: Toxiproxy) -> Applied:
    """A Toxiproxy that restarted has lost its proxies: ours is made again, an external one's is told."""
    name, listen, upstream = (str(record.where[key]) for key in ("proxy", "listen", "upstream"))
    if record.dependency.proxy.pid is not None and not record.dependency.external:
        return server.create(name, listen=listen, upstream=upstream)
    raise UndoUnverified(
        f"Toxiproxy at {server.url} no longer has the proxy {name}; it was restarted, or somebody removed it",
        creation(record),
    )


def creation(record: UndoRecord) -> str:
    """The command that makes the proxy again as it was found."""
    name, listen, upstream = (str(record.where[key]) for key in ("proxy", "listen", "upstream"))
    return commands.create_proxy(str(record.dependency.proxy.url), name, listen=listen, upstream=upstream)


def by_hand(record: UndoRecord, *commands: str) -> str:
    """What a person does when Toxiproxy cannot be reached. Both cases, because unreachable is not gone."""
    url, listen = record.dependency.proxy.url, record.where["listen"]
    return (
        f"if Toxiproxy at {url} still runs: {' ; '.join(commands)} . If it ended, its toxics are gone, and so are its"
        f" proxies: nothing listens at {listen}. Start it again, then: {creation(record)}"
    )


def other_fault(record: UndoRecord, state: ProxyState) -> str | None:
    """What else is on this proxy after an undo, so that probes would say nothing about it; None = nothing."""
    others = [toxic.name for toxic in state.toxics if toxic.name.startswith(OURS)]
    if record.kind != "down" and not state.enabled:
        return "the proxy is disabled"
    return f"the toxic {others[0]} is on it" if others else None


def normal_again(record: UndoRecord, state: ProxyState) -> Evidence:
    """The data path after an undo. Where another fault is still on this proxy, that one's undo will probe."""
    why = other_fault(record, state)
    if why is not None:
        return undo_shows(
            expected=f"{record.dependency.name} answers, or another fault is still on its proxy",
            observed=f"not probed: {why}",
            held=True,
        )
    return answers_normally(record)


def path_again(record: UndoRecord) -> Evidence:
    """The same for a fault that is not on the proxy itself, where there may be no proxy, or for the target."""
    dependency = record.dependency
    if dependency.target:
        return takes_connections(record)
    if dependency.proxy.url is not None and dependency.proxy.name is not None:
        try:
            return normal_again(record, Toxiproxy(dependency.proxy.url).proxy(dependency.proxy.name))
        except AdapterError:
            pass  # the probe below tells what a missing proxy means for the application
    return answers_normally(record)


def toxic_text(toxic: ToxicState) -> str:
    attributes = ", ".join(f"{name} {value}" for name, value in sorted(toxic.attributes.items()))
    share = "" if toxic.toxicity == 1.0 else f" on {toxic.toxicity:.0%} of connections"
    return f"{toxic.type} {toxic.stream} ({attributes}){share}"
