"""Ports: outside the ephemeral range, and nobody else's until the server has bound them."""

from __future__ import annotations

import random
import socket
import sys

import pytest

from harness.stack.starting.ports import Ports, candidates, ephemeral_range


def test_no_port_is_one_that_the_kernel_hands_out() -> None:
    low, high = ephemeral_range()
    with Ports() as ports:
        taken = [ports.take() for _ in range(50)]
    assert len(set(taken)) == 50
    assert all(port < low or port > high for port in taken)


def test_two_stacks_that_choose_at_the_same_time_never_choose_the_same() -> None:
    # The same generator in the same state: without the reservation both would choose the same ports.
    with Ports(rng=random.Random(7)) as one, Ports(rng=random.Random(7)) as two:
        ours = [one.take() for _ in range(20)]
        theirs = [two.take() for _ in range(20)]
    if sys.platform == "linux":
        assert not set(ours) & set(theirs)


def test_a_server_can_listen_on_a_port_while_it_is_reserved() -> None:
    with Ports() as ports:
        address = ("127.0.0.1", ports.take())
        with socket.create_server(address) as server, socket.create_connection(address, timeout=10):
            server.accept()[0].close()


def test_a_port_in_use_is_not_taken() -> None:
    class Stubborn(random.Random):
        def choice(self, seq):  # type: ignore[no-untyped-def]
            offered.append(used if len(offered) < 3 else seq[len(offered)])
            return offered[-1]

    offered: list[int] = []
    with Ports() as ports:
        used = ports.take()
        ports.release()
        with socket.create_server(("127.0.0.1", used)), Ports(rng=Stubborn()) as others:
            assert others.take() != used
    assert offered[:3] == [used] * 3


@pytest.mark.parametrize("range_", [(32768, 60999), (49152, 65535), (10_000, 65535), (1024, 65535)])
def test_there_is_always_something_to_choose_from(range_: tuple[int, int]) -> None:
    found = candidates(range_)
    assert len(found) > 1000
    if range_ != (1024, 65535):
        assert not [port for port in found if range_[0] <= port <= range_[1]]
