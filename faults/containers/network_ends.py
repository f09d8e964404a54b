"""A container's ends of its networks in an undo record: which they were, are they as they were, back they go."""

from __future__ import annotations

import msgspec

from faults.containers.container import afresh, name_in, ports_again
from faults.path.evidence import undo_shows
from faults.proxy.proxy import path_again
from harness.adapters.docker import network as docker_network
from harness.adapters.docker.engine import Engine
from harness.adapters.docker.network import NetworkEnd, connect_command, docker_command
from harness.adapters.docker.records import Container
from harness.model.errors import Gone, Rejected, UndoUnverified
from harness.model.records.faults import Evidence, UndoRecord


def every(record: UndoRecord) -> tuple[NetworkEnd, ...]:
    """All that the container had before the fault. Raises Rejected for a record that does not tell."""
    try:
        return msgspec.json.decode(str(record.original.get("ends")), type=tuple[NetworkEnd, ...])
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise Rejected(f"the record does not tell the container's networks: {error}") from error


def recorded(record: UndoRecord) -> tuple[NetworkEnd, ...]:
    """Those that the fault takes away."""
    chosen = str(record.ours.get("network_ids")).split(",")
    return tuple(end for end in every(record) if end.network_id in chosen)


def command(record: UndoRecord, end: NetworkEnd) -> str:
    """What a person types to make this end again."""
    return connect_command(str(record.dependency.container.engine), name_in(record), end)


def find(found: tuple[NetworkEnd, ...], end: NetworkEnd) -> NetworkEnd | None:
    """The end of the same network, or of one that somebody made anew with its name."""
    same = next((one for one in found if one.network_id == end.network_id), None)
    return same or next((one for one in found if one.network == end.network), None)


def differences(container: Container, before: NetworkEnd, now: NetworkEnd) -> list[str]:
    """What a reconnect must give back and is not as it was: empty when all is.

    An address, a MAC address too, is compared where its user is known to have asked for it. One that the engine chose
    it may choose anew; no name or alias depends on it.
    """
    found = []
    for what, were, are in (("aliases", before.aliases, now.aliases), ("links", before.links, now.links)):
        if set(were) != set(are):
            found.append(f"its {what} are {', '.join(are) or 'none'} instead of {', '.join(were) or 'none'}")
    for old, new in ((before.asked_ipv4, now.asked_ipv4), (before.asked_ipv6, now.asked_ipv6)):
        if old != new:
            found.append(f"its fixed address is {new or 'none'} instead of {old or 'none'}")
    if container.state.running and now.endpoint:
        for asked, new in ((before.asked_ipv4, now.ipv4), (before.asked_ipv6, now.ipv6)):
            if asked and asked != new:
                found.append(f"its address is {new or 'none'} instead of {asked}")
        if before.asked_mac and before.mac.lower() != now.mac.lower():
            found.append(f"its MAC address is {now.mac or 'none'} instead of {before.mac}")
    if sorted(before.link_local) != sorted(now.link_local):
        found.append(f"its link-local addresses are {', '.join(now.link_local) or 'none'}")
    if before.driver_opts != now.driver_opts:
        found.append(f"its driver options are {_options(now)} instead of {_options(before)}")
    if before.priority != now.priority:
        found.append(f"its gateway priority is {now.priority} instead of {before.priority}")
    return found


def check_unchanged(record: UndoRecord, engine: Engine, container: Container) -> None:
    """Right before the change: it is as it was recorded. Raises Rejected."""
    if not container.serves:
        raise Rejected(f"container {container.name} is {container.condition} now, so nothing was done to it")
    found = docker_network.ends(engine, container)
    for end in recorded(record):
        now = next((one for one in found if one.network_id == end.network_id), None)
        if now is None:
            raise Rejected(f"container {container.name} is not on network {end.network} any more: somebody took it off")
        if changed := differences(container, end, now):
            raise Rejected(
                f"somebody connected container {container.name} to network {end.network} in another way since it was"
                f" recorded: {'; '.join(changed)}"
            )


def restore(record: UndoRecord, engine: Engine, container: Container, end: NetworkEnd) -> None:
    """Make one end again unless it is there. Raises UndoUnverified where that is not ours to do, or not possible."""
    now = find(docker_network.ends(engine, container), end)
    if now is not None:
        _leave(record, engine, container, end, now)
        return
    _check_free(record, engine, container, end)
    try:
        docker_network.connect(engine, container.id, end)
    except Gone:
        engine.container(container.id)  # it may be the container that has gone meanwhile
        raise UndoUnverified(*_network_gone(record, engine, container, end)) from None
    except Rejected as error:
        # 403 says "connected already" as well as "not allowed": look.
        now = find(docker_network.ends(engine, engine.container(container.id)), end)
        if now is not None:
            _leave(record, engine, container, end, now)
            return
        _check_free(record, engine, container, end)
        _clear(engine, container, end)
        raise UndoUnverified(
            f"container {container.name} could not be put back on network {end.network}: {error}", command(record, end)
        ) from error


def back(record: UndoRecord, engine: Engine, container: Container) -> tuple[Evidence, ...]:
    """Each end as it was, the published ports, and a probe of the path. Raises UndoUnverified for a container that
    somebody ended, or took off another network, since then the probe says nothing about this fault."""
    found = docker_network.ends(engine, container)
    evidence = tuple(_end_again(record, engine, container, end, find(found, end)) for end in recorded(record))
    if not all(item.held for item in evidence):
        return evidence
    if not container.state.running and not container.state.restarting:
        raise UndoUnverified(
            f"container {container.name} is back on {_names(recorded(record))}, but it is {container.condition}: it"
            " ended, or somebody ended it, while it was disconnected",
            docker_command(engine.url, "start", container.name),
        )
    path = path_again(afresh(record, container))
    missing = [end for end in every(record) if find(found, end) is None]
    if not path.held and missing:
        raise UndoUnverified(
            f"container {container.name} is back on {_names(recorded(record))}, but somebody took it off"
            f" {_names(tuple(missing))} meanwhile, and {record.dependency.name} does not answer ({path.observed})",
            "; then ".join(command(record, end) for end in missing),
        )
    return *evidence, ports_again(record, container), path


def _end_again(
    record: UndoRecord, engine: Engine, container: Container, end: NetworkEnd, now: NetworkEnd | None
) -> Evidence:
    listed = now is not None and (
        not container.state.running or docker_network.on_network(engine, now.network_id, container.id)
    )
    changed = differences(container, end, now) if now is not None else []
    addresses = ", ".join(filter(None, (end.ipv4, end.ipv6)))
    observed = "it is not" if now is None else "as before"
    if now is not None and not listed:
        observed = "it says so, but the network does not list it"
    elif now is not None:
        new = ", ".join(filter(None, (now.ipv4, now.ipv6)))
        moved = f", at {new} instead of {addresses} (the engine chose both)" if new != addresses else f", at {new}"
        observed = "; ".join(changed) if changed else f"as before{moved}"
    return undo_shows(
        expected=f"container {name_in(record)} is on network {end.network} as before",
        observed=observed,
        held=now is not None and listed and not changed,
    )


def _leave(record: UndoRecord, engine: Engine, container: Container, end: NetworkEnd, now: NetworkEnd) -> None:
    """It is connected. As it was: done. Otherwise that is somebody's doing: raise UndoUnverified with both."""
    changed = differences(container, end, now)
    if not changed:
        return
    off = docker_command(engine.url, "network", "disconnect", end.network, container.name)
    raise UndoUnverified(
        f"container {container.name} was taken off network {end.network} by this run, and somebody connected it again"
        f" in another way, which is left alone: {'; '.join(changed)}",
        f"if that is as it should be, nothing is left to do; else: {off} && {command(record, end)}",
    )


def _check_free(record: UndoRecord, engine: Engine, container: Container, end: NetworkEnd) -> None:
    """Raise UndoUnverified when another container has taken a fixed address meanwhile. Asked before connecting,
    because a connect that fails leaves a half-made end behind."""
    if not end.asked_ipv4 and not end.asked_ipv6:
        return
    try:
        others = docker_network.members(engine, end.network_id).values()
    except Gone:
        return  # connecting tells
    for other in others:
        for asked, taken in ((end.asked_ipv4, other.ipv4), (end.asked_ipv6, other.ipv6)):
            if asked and asked == taken and other.id != container.id:
                off = docker_command(engine.url, "network", "disconnect", end.network, other.name)
                on = docker_command(engine.url, "network", "connect", end.network, other.name)
                raise UndoUnverified(
                    f"container {container.name} cannot be put back on network {end.network}: its address {asked} was"
                    f" taken meanwhile by container {other.name}",
                    f"{off} && {command(record, end)} && {on}",
                )


def _clear(engine: Engine, container: Container, end: NetworkEnd) -> None:
    """What a failed connect left: with that in its list the container could not be started again."""
    try:
        left = engine.container(container.id).networks.get(end.network)
        if left is not None and not left.endpoint_id:
            docker_network.disconnect(engine, end.network_id, container.id)
    except (Gone, Rejected):
        pass


def _network_gone(record: UndoRecord, engine: Engine, container: Container, end: NetworkEnd) -> tuple[str, str]:
    gone = f"network {end.network} was removed while container {container.name} was disconnected from it"
    if docker_network.network_called(engine, end.network) is not None:
        return f"{gone}; another one has its name now, and the container is not on it", command(record, end)
    dependency = record.dependency
    by_hand = f"{docker_command(engine.url, 'network', 'create', end.network)} && {command(record, end)}"
    if dependency.container.project is not None and dependency.container.service is not None:
        return (
            gone,
            f"docker compose -p {dependency.container.project} up -d --force-recreate {dependency.container.service};"
            f" or {by_hand}",
        )
    return gone, by_hand


def _names(found: tuple[NetworkEnd, ...]) -> str:
    return ", ".join(end.network for end in found)


def _options(end: NetworkEnd) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(end.driver_opts.items())) or "none"
