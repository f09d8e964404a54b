"""What the faults on containers share: which container, is it the right one, who took its place, is it well again.

Everything on the engine is asked by the full ID that the record holds. Where that very container is gone, the one that
somebody made anew for the same service (by its Compose labels, else by its exact name) is looked at, never changed.
"""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from faults.path.address import address_of, nobody_in_its_place
from faults.path.evidence import path_shows, undo_shows
from faults.path.health import STILL_GOOD_S, Life, healthy, wait_until_back
from faults.path.probes import is_silent, refuse_https
from faults.path.record import record_of
from faults.proxy.proxy import path_again
from harness.adapters.docker.address import bound, covers, moved
from harness.adapters.docker.engine import Engine
from harness.adapters.docker.records import PROJECT_LABEL, SERVICE_LABEL, Container, Published
from harness.model.errors import Gone, Refused, Rejected, UndoUnverified
from harness.model.records.faults import Address, Change, Dependency, Evidence, Scalar, UndoRecord

REPLACED_LIMIT_S = 10.0
"""How long somebody else (`docker compose up`, a restart policy) may take to bring it back."""


def planned_container(kind: str, dependency: Dependency) -> None:
    """Raises Refused where this dependency has no container that a fault could be had on."""
    if dependency.runtime != "container":
        raise Refused(
            f"{dependency.name}-{kind} needs the container of {dependency.name}, and this stack declares none",
            hint=f"declare container or service for {dependency.name} in harness.toml; the compose stack has some",
        )
    refuse_https(kind, dependency)


def resources(dependency: Dependency) -> tuple[str, ...]:
    return (f"container {dependency.container.id or f'of {dependency.name}'}",)


def label(dependency: Dependency) -> str:
    """Its container, for people: `container shop-redis-1`, or `the container of redis` before there is one."""
    return (
        f"container {dependency.container.name}" if dependency.container.name else f"the container of {dependency.name}"
    )


def engine_of(dependency: Dependency) -> Engine:
    """The engine, connected. Its host was checked where the dependency was declared, and again for a record from a
    file. Raises AdapterError, and Refused where the record names none."""
    if dependency.container.engine is None or dependency.container.id is None:
        raise Refused(f"{dependency.name} has no running container: the stack is not up")
    return Engine(dependency.container.engine)


def fit(kind: str, dependency: Dependency, engine: Engine) -> Container:
    """The container, once it is known to be fit for a fault. Raises Refused."""
    name = f"{dependency.name}-{kind}"
    try:
        found = engine.container(str(dependency.container.id))
    except Gone:
        raise Refused(
            f"{name}: {label(dependency)} ({str(dependency.container.id)[:12]}) does not exist any more",
            hint="somebody removed it or made it anew: start the run again",
        ) from None
    if found.state.paused:
        raise Refused(
            f"{name}: container {found.name} is already paused: that cannot be recorded as its original state",
            hint=f"let it go on: docker unpause {found.name}",
        )
    if not found.serves:
        raise Refused(f"{name}: container {found.name} is {found.condition}", hint=f"docker start {found.name}")
    if runs_us(found.id):
        raise Refused(f"{name}: the harness itself runs in container {found.name}, and would stop with it")
    address = address_of(dependency)
    if address is None and is_silent(dependency):
        raise Refused(
            f"{name}: nothing would show this fault: a proxy accepts every connection, and the server's own address is"
            " not known",
            hint=f"declare probe_send or direct for {dependency.name}",
        )
    # A service that is reached through its proxy only need not publish a port.
    if address is not None and not reaches(found, address):
        ports = ", ".join(map(str, found.published)) or "no port"
        raise Refused(
            f"{name}: {address}, where {dependency.name} answers, is not published by container {found.name} ({ports})",
            hint="correct the container or the address",
        )
    return found


def refuse_shared(kind: str, dependency: Dependency, found: Container, engine: Engine) -> None:
    """Raises Refused where another running container lives in this one's namespaces: ended and started again, this one
    gets new ones, and the other stays in those that are gone until somebody restarts it (or ends with this one)."""
    for other in engine.find({}, running=True):
        if other.id == found.id:
            continue
        config = other.host_config
        modes = (("network_mode", config.network_mode), ("pid", config.pid_mode), ("ipc", config.ipc_mode))
        shared = [what for what, mode in modes if mode in (f"container:{found.id}", f"container:{found.name}")]
        if shared:
            raise Refused(
                f"{dependency.name}-{kind}: container {other.name} shares namespaces of {found.name}"
                f" ({', '.join(shared)}), and would stay cut off when {found.name} has been started again",
                hint=f"{dependency.name}-pause works there",
            )


def refuse_removed(kind: str, dependency: Dependency, found: Container) -> None:
    if found.host_config.auto_remove:
        raise Refused(
            f"{dependency.name}-{kind}: container {found.name} was started with --rm: the engine removes it when it"
            " ends, and nothing could start it again",
            hint="start it without --rm",
        )


def refuse_wandering_port(kind: str, dependency: Dependency, found: Container, when: str) -> None:
    """The load goes to one address for the whole run, so the target must come back there."""
    address = address_of(dependency)
    if not dependency.target or address is None:
        return
    for one in found.published:
        if one.port == address.port and found.chosen_by_engine(one):
            inside = one.container_port.partition("/")[0]
            raise Refused(
                f"{dependency.name}-{kind}: the engine chose port {address.port} of container {found.name} and chooses"
                f" another one at {when}, where the load would not follow",
                hint=f'publish a fixed port, for example "127.0.0.1:{address.port}:{inside}"',
            )


def reaches(container: Container, address: Address) -> bool:
    """Whether a connection to this address ends in the container: one of its published ports, its own address in a
    network, or any address where it shares the machine's network."""
    if container.host_config.network_mode == "host":
        return True
    if any(address.host in (end.ip_address, end.global_ipv6_address) for end in container.networks.values()):
        return True
    return any(one.port == address.port and covers(one.host, address.host) for one in container.published)


def runs_us(container_id: str, proc: Path = Path("/proc/self")) -> bool:
    """Whether this process is in that container: by its cgroup, or because the engine has put the container's own
    /etc/hosts and the like in place here. On the engine's own machine other mounts carry the ID of every container
    that runs (`/var/lib/docker/rootfs/overlayfs/ID` on engine 29, `containers/ID/mounts/shm` before)."""
    for name, ours in (("cgroup", _cgroup_of), ("mountinfo", _files_of)):
        try:
            lines = (proc / name).read_text(errors="replace").splitlines()
        except OSError:
            continue
        if any(container_id in ours(line) for line in lines):
            return True
    return False


def _cgroup_of(line: str) -> str:
    """`ID:CONTROLLERS:PATH` (proc_pid_cgroup(5))."""
    return line.split(":", 2)[-1]


def _files_of(line: str) -> str:
    """What is mounted where the engine puts files of a container's own: `ID PARENT MAJOR:MINOR ROOT MOUNT-POINT ...`
    (proc_pid_mountinfo(5)). Empty for any other mount."""
    fields = line.split(" ", 5)
    return fields[3] if len(fields) > 4 and fields[4] in ("/etc/hostname", "/etc/hosts", "/etc/resolv.conf") else ""


def container_record(
    change: Change,
    record_id: str,
    container: Container,
    *,
    original: dict[str, Scalar],
    ours: dict[str, Scalar],
    deadline_s: float | None = None,
) -> UndoRecord:
    """The record of a fit container; probes its path first. Raises Refused when it does not answer."""
    change = msgspec.structs.replace(change, dependency=bound(change.dependency, container))
    return record_of(
        change,
        record_id,
        healthy(change.dependency, at_least_s=STILL_GOOD_S),
        where={
            "engine": change.dependency.container.engine,
            "container": container.id,
            "name": container.name,
            "started_at": container.state.started_at,
            "ports": msgspec.json.encode(container.published).decode(),
        },
        original=original,
        ours=ours,
        deadline_s=deadline_s,
    )


def container_id(record: UndoRecord) -> str:
    return str(record.where.get("container"))


def name_in(record: UndoRecord) -> str:
    return str(record.where.get("name"))


def to_change(record: UndoRecord, engine: Engine) -> Container:
    """The container, looked at once more right before it is changed. Raises Gone, Rejected."""
    found = engine.container(container_id(record))
    if not found.serves:
        raise Rejected(f"container {found.name} is {found.condition} now, so nothing was done to it")
    return found


def successor(record: UndoRecord, engine: Engine) -> Container | None:
    """A running container that somebody made in the place of the recorded one; None when there is none."""
    dependency = record.dependency
    if dependency.container.project is not None and dependency.container.service is not None:
        found = engine.find({PROJECT_LABEL: dependency.container.project, SERVICE_LABEL: dependency.container.service})
    else:
        named = engine.find_by_name(name_in(record))
        found = (named,) if named is not None else ()
    well = [one for one in found if one.id != container_id(record) and one.serves]
    well = [one for one in well if one.state.health is None or one.state.health.status in ("none", "healthy")]
    return well[-1] if well else None


def replaced(record: UndoRecord, engine: Engine, what: str) -> Gone:
    """That container is gone: the error that says who serves in its place, once somebody does and is well.

    Raises UndoUnverified when nobody does within REPLACED_LIMIT_S.
    """
    end = time.monotonic() + REPLACED_LIMIT_S
    while True:
        found = successor(record, engine)
        if found is not None:
            return Gone(f"container {name_in(record)} is gone; {found.name} ({found.id[:12]}) serves in its place")
        if time.monotonic() > end:
            raise UndoUnverified(
                f"container {name_in(record)} of {record.dependency.name} was removed while it was {what}, and no"
                " healthy one has taken its place",
                make_anew(record.dependency),
            )
        time.sleep(0.1)


def make_anew(dependency: Dependency) -> str:
    if dependency.container.project is not None and dependency.container.service is not None:
        return f"make it anew: docker compose -p {dependency.container.project} up -d {dependency.container.service}"
    return f"make container {dependency.container.name or dependency.name} anew"


def published_before(record: UndoRecord) -> tuple[Published, ...]:
    """The ports as they were published before the fault. Raises Rejected for a record that does not tell."""
    try:
        return msgspec.json.decode(str(record.where.get("ports")), type=tuple[Published, ...])
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise Rejected(f"the record does not tell the published ports: {error}") from error


def afresh(record: UndoRecord, container: Container) -> UndoRecord:
    """The record with the address where the container is reached now: one that the engine chose may have changed."""
    dependency = moved(record.dependency, container)
    return record if dependency is record.dependency else msgspec.structs.replace(record, dependency=dependency)


def ports_again(record: UndoRecord, container: Container) -> Evidence:
    """The published ports against those before. One that nobody fixed may change: that is told, not judged."""
    before, now = published_before(record), container.published
    gone = {one.container_port: one for one in before if one not in now}
    told = [f"{old} is now {', '.join(str(n) for n in now if n.container_port == port) or 'not published'}"
            for port, old in gone.items()]  # fmt: skip
    lost = [port for port in gone if not any(one.container_port == port for one in now)]
    bindings = container.host_config.port_bindings or {}
    fixed = [port for port, old in gone.items() if any(b.host_port == str(old.port) for b in bindings.get(port) or ())]
    return undo_shows(
        expected=f"container {container.name} publishes its ports as before",
        observed="as before" if not told else "; ".join(told) + (" (the engine chose it anew)" if not lost else ""),
        held=not lost and not fixed,
    )


def runs_again(record: UndoRecord, engine: Engine) -> tuple[Evidence, ...]:
    """It runs, published as before, and its path answers; where it is gone, the one in its place."""
    expected = f"container {name_in(record)} runs and is not paused"
    try:
        found: Container | None = engine.container(container_id(record))
    except Gone:
        found = successor(record, engine)
        expected = f"another container serves in the place of {name_in(record)}, which is gone"
    running = undo_shows(
        expected=expected,
        observed=f"{found.name} ({found.id[:12]}) is {found.condition}" if found is not None else "none does",
        held=found is not None and found.serves,
    )
    if found is None or not found.serves:
        return (running,)
    if found.id != container_id(record):
        return running, path_again(afresh(record, found))
    return running, ports_again(record, found), path_again(afresh(record, found))


def wait_ready(record: UndoRecord, engine: Engine) -> None:
    """Wait until the server answers. Raises UndoUnverified at the limit, or when the container has ended again."""
    name = name_in(record)

    def look() -> Life:
        found = engine.container(container_id(record))
        return Life(
            dependency=afresh(record, found).dependency,
            up=found.serves,
            over=found.state.status in ("exited", "dead"),
            why=f"it is {found.condition}",
        )

    mend = f"look into its log (docker logs {name}), then: docker start {name}"
    wait_until_back(look, f"container {name} of {record.dependency.name}", mend)


def path_of_target(record: UndoRecord, container: Container) -> tuple[Evidence, ...]:
    """The target has no proxy: its path is its own port, and who publishes that says whether it is what was changed."""
    dependency = record.dependency
    address = address_of(dependency)
    if not dependency.target or address is None:
        return ()
    if not container.state.running:
        return (nobody_in_its_place(address, f"container {container.name}"),)
    held = reaches(container, address)
    return (
        path_shows(
            expected=f"container {container.name}, which was changed, serves {address}",
            observed="it does" if held else f"it publishes {', '.join(map(str, container.published)) or 'no port'}",
            held=held,
        ),
    )
