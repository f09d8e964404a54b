"""What every registered fault promises (tests/faults/test_contract.py), on containers: the compose stack's, looked at
from outside with the docker CLI. One stack for all; one that a failed test may have left broken is made anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from compose_world import Compose, busy
from small_container import docker
from test_contract import assert_contract, ids, possible
from worlds import World, kept_sound

from harness.conductor.path_proof.clients import snapshot
from harness.conductor.path_proof.evidence import strays_of
from harness.fault import registered
from harness.model.errors import Refused
from harness.model.records.faults import Dependency
from tests.e2e.observe import wait_until
from tests.support.servers.proxied import raw

pytestmark = pytest.mark.docker

CASES = [
    ("compose", kind, dependency)
    for dependency in Compose.declared
    for kind, fault in registered().items()
    if possible(fault, dependency)
]


def once_each() -> set[tuple[str, str]]:
    """Names of services and kinds: every kind once, on the service that has had the fewest until then.

    That is the default suite. All other pairs are `thorough`: proxies and protocols do not know containers, and
    tests/faults/test_contract.py tries every pair of those; what does know containers is also tried on containers of
    their own (test_container_*.py).
    """
    on: dict[str, list[str]] = {}
    for _, kind, one in CASES:
        on.setdefault(kind, []).append(one.name)
    found: set[tuple[str, str]] = set()
    # Kinds with the least choice choose first.
    for kind, names in sorted(on.items(), key=lambda item: len(item[1])):
        had = Counter(name for name, _ in found)
        found.add((min(names, key=lambda name: had[name]), kind))
    return found


DEFAULT = once_each()
REFUSED_HERE = {"memory"}
"""What planning cannot know: no service of the stack has a memory limit that an undo could set again."""
NEEDS_LOAD = {"cpu"}
"""It is proven by the kernel holding the container back, which it has no reason for while nothing is asked of it."""
LASTING = ("pause", "kill", "disconnect", "cpu", "memory")


@pytest.fixture(scope="module")
def worlds() -> Iterator[dict[str, World]]:
    up: dict[str, World] = {}
    yield up
    for world in up.values():
        world.close()


def test_every_container_fault_is_tried_on_every_service_and_on_the_target() -> None:
    for name in ("redis", "db", "kafka", "risk", "api"):
        assert {kind for _, kind, one in CASES if one.name == name} >= {*LASTING, "restart"}


def test_the_default_suite_has_every_kind_and_every_service() -> None:
    assert {kind for _, kind in DEFAULT} == {kind for _, kind, _ in CASES} and len(DEFAULT) < len(CASES) / 2
    assert {name for name, _ in DEFAULT} == {one.name for _, _, one in CASES}


def test_who_comes_past_kafkas_proxy_is_seen_in_its_containers_network(
    worlds: dict[str, World], stand_in_images: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    def bring_up(_: str) -> World:
        return Compose(tmp_path_factory.mktemp("compose"), stand_in_images)

    with kept_sound(worlds, "compose", bring_up) as world:
        kafka = world.dependency("kafka")
        before = snapshot(kafka)
        assert before.can_tell and before.clients, "the sample API is connected"
        assert {client.on_proxy for client in before.clients} == {True}
        server, port = raw(f"{kafka.proxy.url}/proxies")["kafka"]["upstream"].rsplit(":", 1)
        connects = f"import socket, time; s = socket.create_connection(({server!r}, {port})); time.sleep(60)"
        (network,) = docker(
            "network", "ls", "-q", "--filter", f"label=com.docker.compose.project={kafka.container.project}"
        ).split()
        image = stand_in_images["HARNESS_PYTHON_IMAGE"]
        past = docker("run", "-d", "--rm", "--network", network, image, "python", "-c", connects).strip()
        try:
            assert wait_until(lambda: strays_of(before, snapshot(kafka), kafka) != [], 30)
        finally:
            docker("rm", "-f", past)
        assert wait_until(lambda: strays_of(before, snapshot(kafka), kafka) == [], 30)


@pytest.mark.parametrize(
    ("name", "kind", "declared"),
    [
        pytest.param(*case, id=name, marks=() if (case[2].name, case[1]) in DEFAULT else pytest.mark.thorough)
        for case, name in zip(CASES, ids(CASES), strict=True)
    ],
)
def test_a_fault_on_containers_is_proven_while_on_and_undone_without_a_trace(
    name: str,
    kind: str,
    declared: Dependency,
    worlds: dict[str, World],
    stand_in_images: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    def bring_up(_: str) -> World:
        return Compose(tmp_path_factory.mktemp("compose"), stand_in_images)

    with kept_sound(worlds, name, bring_up) as world:
        assert isinstance(world, Compose)
        if kind in REFUSED_HERE:
            # Whether the data has its mark is not the fault's doing: the contract sets it.
            before = world.outside(world.dependency(declared.name)) | {"mark": None}
            with pytest.raises(Refused, match="limit"):
                assert_contract(world, registered()[kind], declared, world.outside)
            assert world.outside(world.dependency(declared.name)) | {"mark": None} == before
        elif kind in NEEDS_LOAD:
            with busy(str(world.dependency(declared.name).container.id)):
                assert_contract(world, registered()[kind], declared, world.outside)
        else:
            assert_contract(world, registered()[kind], declared, world.outside)
