"""A small real server in a container of its own, and what can be seen of it without the product.

It answers every line with `ok`. The line `burn` makes it compute for ever beside that, `eat N` makes it hold N MB, and
a file /tmp/hungry makes it hold 100 MB from its start.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from typing import Any

from harness.adapters.docker.context import engine_url
from harness.model.records.faults import Address, Dependency, DependencyContainer, UndoRecord
from tests.support.servers.ports import free_port

IMAGE = "harness-stand-in/base"
PORT = 7777
_SERVER = """
use IO::Socket::INET; use IO::Select;
$SIG{TERM} = sub { exit 0 }; $SIG{CHLD} = 'IGNORE'; $| = 1; my @held;
my $much = 100000000; push @held, 'x' x $much if -e '/tmp/hungry';
my $s = IO::Socket::INET->new(Listen => 50, LocalPort => 7777, ReuseAddr => 1) or die;
my $all = IO::Select->new($s);
while (1) { for my $c ($all->can_read) {
    if ($c == $s) { $all->add($s->accept); next }
    my $line = <$c>;
    if (!defined $line) { $all->remove($c); close $c; next }
    if ($line =~ /^burn/) { if (!fork) { close $s; 1 while 1 } }
    if ($line =~ /^eat (\\d+)/) { push @held, 'x' x ($1 * 1000000) }
    syswrite $c, "ok\n";
} }
"""


def docker(*words: str, check: bool = True) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=120)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout.strip()


def inspect(container: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(docker("inspect", container))
    return found[0]


def limits(container: str) -> dict[str, Any]:
    """Everything about CPU and memory, normalised as the kernel sees it: quota 0 is -1, period 0 is 100000."""
    return limits_in(inspect(container))


def limits_in(inspected: dict[str, Any]) -> dict[str, Any]:
    host = inspected["HostConfig"]
    return {
        "nano": host["NanoCpus"],
        "quota": host["CpuQuota"] if host["CpuQuota"] > 0 else -1,
        "period": host["CpuPeriod"] or 100_000,
        "memory": host["Memory"],
        "swap": host["MemorySwap"],
    }


def ask(address: Address, line: str = "hello", timeout_s: float = 5.0) -> str:
    with socket.create_connection((address.host, address.port), timeout=timeout_s) as connection:
        connection.sendall(f"{line}\n".encode())
        connection.settimeout(timeout_s)
        return connection.recv(100).decode().strip()


def answers(address: Address) -> bool:
    with contextlib.suppress(OSError):
        return ask(address, timeout_s=1.0) == "ok"
    return False


@contextlib.contextmanager
def small(*options: str, port: int | None = None, name: str | None = None, **more: Any) -> Iterator[Dependency]:
    """A running container as a dependency. options: of docker run. port: on 127.0.0.1; 0 = the engine chooses."""
    name = name or f"harness-test-{uuid.uuid4().hex[:12]}"
    port = free_port() if port is None else port
    publish = f"127.0.0.1:{port or ''}:{PORT}"
    try:
        yield made(name, publish, *options, **more)
    finally:
        docker("rm", "-f", name, check=False)


def made(name: str, publish: str, *options: str, **more: Any) -> Dependency:
    found = docker("run", "-d", "--name", name, "-p", publish, *options, IMAGE, "perl", "-e", _SERVER)
    bindings = inspect(found)["NetworkSettings"]["Ports"][f"{PORT}/tcp"]
    address = Address("127.0.0.1", int(bindings[0]["HostPort"]))
    end = time.monotonic() + 30
    while not answers(address):
        assert time.monotonic() < end, docker("logs", found)
        time.sleep(0.05)
    return Dependency(
        name="small",
        kind="tcp",
        container=DependencyContainer(engine=engine_url(), id=found, name=name),
        runtime="container",
        path=address,
        direct=address,
        startable=True,
        probe_send="hello\n",
    ).but(**more)


def again(record: UndoRecord, name: str, *options: str) -> str:
    """Somebody makes the container of a record anew, on the same port. Returns the new full ID."""
    assert record.dependency.direct is not None
    docker("rm", "-f", str(record.where["container"]))
    made_now = made(name, f"127.0.0.1:{record.dependency.direct.port}:{PORT}", *options)
    return str(made_now.container.id)
