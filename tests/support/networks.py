"""Networks of their own, joined by a bridge: as near to other machines as one gets on this one."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

_LETTERS = itertools.cycle("abcdefghijklm")
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
"""Two bridges of one network would take each other's packets."""
NET = f"10.213.{77 + WORKER}"
NET6 = f"fd77:{213 + WORKER}"


def ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"


class Networks:
    """A bridge on this side (NET.1) and namespaces with NET.2, NET.3, ... on it."""

    def __init__(self, many: int) -> None:
        # The kernel takes the cables of one that was removed away a little later.
        self.tag = f"hn{os.getpid() % 100_000}{next(_LETTERS)}"
        self.bridge = f"{self.tag}b"
        self.names = [f"{self.tag}n{index}" for index in range(many)]
        ip("link", "add", self.bridge, "type", "bridge")
        ip("addr", "add", f"{NET}.1/24", "dev", self.bridge)
        ip("link", "set", self.bridge, "up")
        for index, name in enumerate(self.names):
            ip("netns", "add", name)
            ip("link", "add", self.cable(index), "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("link", "set", self.cable(index), "master", self.bridge, "up")
            ip("-n", name, "addr", "add", f"{NET}.{index + 2}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")

    def speak_ipv6(self) -> None:
        """NET6::1 on this side, NET6::2, ... on the others, beside the addresses that they have."""
        ip("addr", "add", f"{NET6}::1/64", "dev", self.bridge, "nodad")
        for index, name in enumerate(self.names):
            ip("-n", name, "addr", "add", f"{NET6}::{index + 2}/64", "dev", "eth0", "nodad")

    def cable(self, index: int) -> str:
        return f"{self.tag}v{index}"

    def inside(self, index: int, *more: str) -> tuple[str, ...]:
        """The command that runs another in a namespace."""
        return ("ip", "netns", "exec", self.names[index], *more)

    def cross(self, one: int, other: int) -> tuple[str, str]:
        """A cable between the two, and their addresses on it. A machine with Docker may let nothing pass from one port
        of a bridge to another."""
        net, name = f"10.214.{80 + one + other}", f"cross{one}{other}"
        first, second = self.names[one], self.names[other]
        ip("-n", first, "link", "add", name, "type", "veth", "peer", "name", name, "netns", second)
        for side, namespace in ((1, first), (2, second)):
            ip("-n", namespace, "addr", "add", f"{net}.{side}/24", "dev", name)
            ip("-n", namespace, "link", "set", name, "up")
        return f"{net}.1", f"{net}.2"

    def remove(self) -> None:
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", self.bridge], capture_output=True, check=False)


@contextlib.contextmanager
def networks(many: int) -> Iterator[Networks]:
    """Where this machine has none, the test is skipped, and says so."""

    def cannot(why: str) -> None:
        if os.environ.get("HARNESS_REQUIRE_NETNS"):
            pytest.fail(why)
        pytest.skip(f"NOT TESTED HERE: {why}")

    if shutil.which("ip") is None:
        cannot("no `ip` (Debian: apt-get install iproute2)")
    if os.geteuid() != 0:
        cannot("network namespaces need root")
    found = Networks.__new__(Networks)
    try:
        found.__init__(many)  # type: ignore[misc]
    except AssertionError as error:
        found.remove()
        cannot(f"no network namespaces: {error}")
    try:
        yield found
    finally:
        found.remove()
