"""The two kinds of system that faults are tried on: the embedded stack, and one of the user's own.

Both are brought up as people bring them up, and looked at raw: urllib, SQL, sockets and the process table.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol
from unittest.mock import patch

import psutil
import psycopg

from harness.dependencies.configuration import load
from harness.dependencies.result import secret
from harness.model.errors import HarnessError
from harness.model.records.faults import Dependency
from harness.model.records.stack import StackName
from harness.stack import registry
from harness.stack.embedded import EmbeddedStack, postgres, valkey
from harness.stack.embedded.private_folder import give, server_user, temporary_base
from harness.stack.external.declared import dependencies
from harness.stack.external.stack import ExternalStack
from harness.stack.starting.ports import Ports
from tests.support.servers.envoy import runtime
from tests.support.servers.proxied import raw

OWN_SERVER = str(Path(__file__).with_name("own_server.py"))
HARNESS = str(Path(sys.executable).with_name("harness"))
MARK = "still-here"


class World(Protocol):
    """declared: before anything runs. env: what a process that undoes there needs in its environment."""

    declared: tuple[Dependency, ...]
    env: dict[str, str]

    def dependency(self, name: str) -> Dependency:
        """As the stack declares it now."""
        ...

    def close(self) -> None: ...


def kept_dependency(name: str, env: dict[str, str], stack: StackName) -> Dependency:
    """Of the stack that `harness stack up` keeps up, as `harness stack status --json` prints it."""
    with patch.dict(os.environ, env):
        kept = registry.read(stack)
    assert kept is not None and kept.up is not None
    return next(one for one in kept.up.dependencies if one.name == name)


class Embedded:
    """`harness stack up`, and what every process reads that finds it up."""

    declared = EmbeddedStack().describe()

    def __init__(self, folder: Path) -> None:
        self.env = {"XDG_STATE_HOME": str(folder)}
        done = self._harness("up", "--quiet")
        assert done.returncode == 0, done.stderr

    def dependency(self, name: str) -> Dependency:
        return kept_dependency(name, self.env, "embedded")

    def close(self) -> None:
        self._harness("down", "--force")

    def _harness(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [HARNESS, "stack", *words], env={**os.environ, **self.env}, capture_output=True, text=True, timeout=180
        )


CONFIG = """
[target]
name = "shop"
url = "http://127.0.0.1:{shop}"
health = "/health"
metrics = ""
pid_file = "shop.pid"
start = ["{python}", "{own}", "http", "{shop}", "shop.pid"]
log = "shop.log"

[toxiproxy]
url = "{toxiproxy}"

[dependencies.cache]
kind = "redis"
proxy = "{name}-cache"
direct = "127.0.0.1:{cache}"
pid_file = "cache.pid"
start = ["{valkey}", "--port", "{cache}", "--bind", "127.0.0.1", "--save", "", "--pidfile", "{folder}/cache.pid"]
allow = ["flush"]

[dependencies.orders]
kind = "postgres"
proxy = "{name}-orders"
direct = "127.0.0.1:{orders}"
login = "{login}"
probe_login = "{probe_login}"
admin = "{admin}"
pid_file = "pg/data/postmaster.pid"
start = ["{python}", "{own}", "as", {postgres}]
log = "orders.log"

[dependencies.payments]
kind = "tcp"
proxy = "{name}-payments"
direct = "127.0.0.1:{payments}"
probe_send = "hello\\n"
pid_file = "payments.pid"
start = ["{python}", "{own}", "tcp", "{payments}", "payments.pid"]
"""


def placeholders(**more: Any) -> dict[str, Any]:
    words = {"name": "own", "python": "python", "own": "own_server.py", "valkey": "valkey-server", "folder": "/tmp"}
    logins = {"login": postgres.login(postgres.ROLE), "probe_login": postgres.login(postgres.PROBE_ROLE)}
    ports = {"shop": 1, "cache": 2, "orders": 3, "payments": 4}
    return {**words, **logins, **ports, "admin": "user=x", "postgres": '"x"', "toxiproxy": "http://127.0.0.1:5", **more}


def declared_in_file(folder: Path) -> tuple[Dependency, ...]:
    file = folder / "harness.toml"
    file.write_text(CONFIG.format(**placeholders()))
    return dependencies(load(file), "http://127.0.0.1:1")


class Own:
    """Servers that the test started, on a Toxiproxy of the test's, known to the harness by a harness.toml."""

    declared: tuple[Dependency, ...] = ()

    def __init__(self, folder: Path, toxiproxy: str) -> None:
        self.env = {"XDG_STATE_HOME": str(folder / "state")}
        self.folder = Path(temporary_base()) / f"own-{os.getpid()}-{time.monotonic_ns():x}"
        self.folder.mkdir(mode=0o711)
        self._toxiproxy = toxiproxy
        self._name = self.folder.name
        self._children: list[subprocess.Popen[bytes]] = []
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def dependency(self, name: str) -> Dependency:
        up = ExternalStack(self.url, configuration=load(self.file)).up(None, print)  # type: ignore[arg-type]
        return next(one for one in up.dependencies if one.name == name)

    def close(self) -> None:
        for file in [*self.folder.glob("*.pid"), *self.folder.glob("pg/data/postmaster.pid")]:
            with contextlib.suppress(OSError, ValueError, psutil.Error):
                root = psutil.Process(int(file.read_text().split()[0]))
                for process in [*root.children(recursive=True), root]:
                    process.kill()
        for child in self._children:
            child.kill()
            child.wait()
        for name in ("cache", "orders", "payments"):
            with contextlib.suppress(OSError):
                raw(f"{self._toxiproxy}/proxies/{self._name}-{name}", "DELETE")
        subprocess.run(["rm", "-rf", str(self.folder)], check=True)

    def _start(self) -> None:
        user = server_user()
        data = self.folder / "pg"
        data.mkdir(mode=0o700)
        give(data, user)
        installed = postgres.installation(data)
        postgres.prepare(postgres.ensure(print), data, installed)
        with Ports() as ports:
            at = {name: ports.take() for name in ("shop", "cache", "orders", "payments")}
            listen = {name: ports.take() for name in ("cache", "orders", "payments")}
        server = postgres.spec(installed, data, at["orders"], self.folder / "orders.log")
        words = placeholders(
            name=self._name,
            python=sys.executable,
            own=OWN_SERVER,
            valkey=str(valkey.binary()),
            folder=str(self.folder),
            toxiproxy=self._toxiproxy,
            admin=postgres.admin_conninfo(data, at["orders"]),
            postgres=", ".join(f'"{word}"' for word in (user or "nobody", *server.argv)),
            **at,
        )
        for name, port in listen.items():
            body = {"name": f"{self._name}-{name}", "listen": f"127.0.0.1:{port}", "upstream": f"127.0.0.1:{at[name]}"}
            raw(f"{self._toxiproxy}/proxies", "POST", body)
        self.file = self.folder / "harness.toml"
        self.file.write_text(CONFIG.format(**words))
        self.url = f"http://127.0.0.1:{at['shop']}"
        found = load(self.file)
        for process in (found.target, *found.dependencies.values()):
            assert process is not None and process.start is not None
            with (self.folder / "first.log").open("ab") as log:
                child = subprocess.Popen(process.start, cwd=self.folder, stdout=log, stderr=log, start_new_session=True)
            self._children.append(child)
            # Collected at once, as a shell would: for PostgreSQL a zombie postmaster is one that still runs.
            threading.Thread(target=child.wait, daemon=True).start()
        end = time.monotonic() + 60
        while True:
            try:
                self.dependency("cache")
                return
            except HarnessError as error:
                assert time.monotonic() < end, f"{error}; {(self.folder / 'first.log').read_text()}"
                time.sleep(0.1)


def mark(dependency: Dependency) -> None:
    """Leave something in a server's data that only its loss can take away."""
    if dependency.kind == "redis":
        assert say(dependency, f"SET harness-test-mark '{MARK}'") == "+OK"
    elif dependency.credentials.admin is not None:
        with psycopg.connect(dependency.credentials.admin, autocommit=True) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS harness_test_mark (text text PRIMARY KEY)")
            connection.execute("INSERT INTO harness_test_mark VALUES (%s) ON CONFLICT DO NOTHING", (MARK,))


def outside(dependency: Dependency) -> dict[str, Any]:
    """Everything that a fault may change about a dependency, seen without the product.

    server: who listens on its port (program), whether a process of its tree is stopped. pid: of the first that listens.
    """
    found: dict[str, Any] = {}
    if dependency.proxy.url is not None:
        found["proxy"] = raw(f"{dependency.proxy.url}/proxies/{dependency.proxy.name}")
    if dependency.front is not None:
        found["front"] = runtime(dependency)
    found["pid"], found["server"] = _server(dependency)
    if found["server"] is None or found["server"][1]:
        return found  # it would not answer
    if dependency.kind == "redis":
        found["mark"] = say(dependency, "GET harness-test-mark")
    if dependency.credentials.admin is not None:
        with psycopg.connect(dependency.credentials.admin) as connection:
            found["roles"] = connection.execute("SELECT * FROM pg_roles ORDER BY oid").fetchall()
            found["mark"] = connection.execute("SELECT text FROM harness_test_mark").fetchall()
            found["sessions of the harness"] = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'harness%hog%'"
            ).fetchone()
    return found


def _server(dependency: Dependency) -> tuple[int | None, tuple[str, bool] | None]:
    """The pid that listens, its program, and whether a process of its tree is stopped."""
    assert dependency.direct is not None
    port = dependency.direct.port
    with socket.socket() as knock:
        knock.settimeout(2)
        if knock.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED:
            return None, None
    pid = dependency.process.pid
    if pid is None or not _runs(pid):
        pid = _first_listener(port)
    first = psutil.Process(pid)
    tree = [first, *first.children(recursive=True)]
    stopped = False
    for process in tree:
        with contextlib.suppress(psutil.NoSuchProcess):
            stopped |= process.status() == psutil.STATUS_STOPPED
    return first.pid, (Path(first.exe()).name, stopped)


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _first_listener(port: int) -> int:
    pids = {
        one.pid
        for one in psutil.net_connections("tcp")
        if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port and one.pid
    }
    first = psutil.Process(min(pids))
    while first.ppid() in pids:
        first = psutil.Process(first.ppid())
    return first.pid


def say(dependency: Dependency, line: str) -> str:
    """One inline command to Redis, at the server itself; the last line of its answer."""
    assert dependency.direct is not None
    with socket.create_connection((dependency.direct.host, dependency.direct.port), timeout=5) as connection:
        password = secret(dependency.credentials.password_env)
        login = f"AUTH {password}\r\n" if password else ""
        connection.sendall(f"{login}{line}\r\nQUIT\r\n".encode())
        with connection.makefile("r") as answer:
            return [text.strip() for text in answer][-2]


@contextlib.contextmanager
def kept_sound(worlds: dict[str, World], name: str, bring_up: Callable[[str], World]) -> Iterator[World]:
    """A world for one test; one that a failed test may have left broken is not used again."""
    if name not in worlds:
        worlds[name] = bring_up(name)
    try:
        yield worlds[name]
    except BaseException:
        worlds.pop(name).close()
        raise
