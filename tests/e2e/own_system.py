"""A system that is nobody's but the user's: own servers, own Toxiproxy, own API, and a harness.toml that declares it.

Started with plain processes; the harness finds it by the file only. The Redis has a password and a start command.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import threading
import urllib.request
from pathlib import Path
from typing import Any

import psycopg

from harness.model.records.faults import Address
from harness.model.records.process import ServerSpec
from harness.stack.embedded import api, valkey
from harness.stack.embedded.private_folder import server_env
from harness.stack.starting.ports import Ports
from tests.e2e.observe import http_json, proxies
from tests.support.servers.real import SubprocessLauncher, start_postgres, start_toxiproxy, wait_until

PASSWORD = "open-sesame-4711"
VARIABLE = "OWN_REDIS_PASSWORD"


def toxiproxy_call(base: str, method: str, path: str, body: Any = None) -> Any:
    """One call of a Toxiproxy's API; its answer."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{base}{path}", data=data, method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        text = answer.read()
    return json.loads(text) if text else None


class Echo:
    """A plain TCP service (`payments`): answers each line with the same line."""

    def __init__(self) -> None:
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        try:
            self._loop.run_forever()
        finally:
            server.close()
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            self._loop.run_until_complete(asyncio.sleep(0.05))
            self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(line)
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


class OwnSystem:
    """folder: where harness.toml, pid files and logs lie."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {VARIABLE: PASSWORD}
        self._launcher = SubprocessLauncher()
        self._ports = Ports()
        self._echo = Echo()
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        self.toxiproxy, self.toxiproxy_process = start_toxiproxy(self._launcher)
        self.postgres = start_postgres(self._launcher)
        self.paths = {}
        with self._ports as ports:
            self.redis = Address("127.0.0.1", ports.take())
            self._start_redis()
            for name, upstream in (
                ("cache", self.redis),
                ("orders-db", self.postgres.address),
                ("payments", Address("127.0.0.1", self._echo.port)),
            ):
                self.paths[name] = Address("127.0.0.1", ports.take())
                self.make_proxy(name, self.paths[name], upstream)
            self.api_port = ports.take()
            nowhere = Address("127.0.0.1", ports.take())
        log = self.folder / "api.log"
        spec = api.spec(self.folder, self.api_port, self.paths["cache"], self.paths["orders-db"], nowhere, nowhere, log)
        spec.env["REDIS_URL"] = f"redis://:{PASSWORD}@{self.paths['cache']}/0"
        self.api = self._launcher.launch(spec)
        self.url = f"http://127.0.0.1:{self.api_port}"
        wait_until("the API answers", self._api_answers, 60)
        (self.folder / "api.pid").write_text(f"{self.api.pid}\n")
        self.write_config()

    def write_config(self, more: str = "") -> Path:
        path = self.folder / "harness.toml"
        path.write_text(
            f"""
[target]
name = "shop"
url = "{self.url}"
pid_file = "api.pid"
log = "api.log"

[toxiproxy]
url = "{self.toxiproxy}"

[dependencies.redis]
kind = "redis"
proxy = "cache"
direct = "{self.redis}"
password_env = "{VARIABLE}"
pid_file = "valkey.pid"
start = ["{valkey.binary()}", "valkey.conf"]
log = "valkey.log"

[dependencies.db]
kind = "postgres"
proxy = "orders-db"
direct = "{self.postgres.address}"
login = "{self.postgres.login}"
admin = "{self.postgres.admin}"
probe_login = "{self.postgres.probe_login}"

[dependencies.payments]
kind = "tcp"
proxy = "payments"
direct = "127.0.0.1:{self._echo.port}"
probe_send = "hello\\n"

[run]
scale = 0.02
{more}"""
        )
        return path

    def make_proxy(self, name: str, listen: Address, upstream: Address) -> None:
        self.toxiproxy_call("POST", "/proxies", {"name": name, "listen": str(listen), "upstream": str(upstream)})

    def toxiproxy_call(self, method: str, path: str, body: Any = None) -> Any:
        return toxiproxy_call(self.toxiproxy, method, path, body)

    def snapshot(self) -> dict[str, Any]:
        """Everything that a fault may change, seen from outside."""
        with psycopg.connect(self.postgres.admin, autocommit=True) as connection:
            roles = dict(connection.execute("SELECT rolname, rolconnlimit FROM pg_roles").fetchall())
        return {
            "proxies": proxies(self.toxiproxy),
            "roles": roles,
            "ended": {
                n for n in self._launcher.names() if n != valkey.NAME and self._launcher.exit_code(n) is not None
            },
            "redis": self._redis_answers(),
            "files": sorted(p.name for p in self.folder.iterdir() if p.suffix in (".toml", ".pid")),
        }

    def free(self) -> Address:
        with self._ports as ports:
            return Address("127.0.0.1", ports.take())

    def second_redis(self) -> Address:
        """Another server with the same password: whoever is led there finds nothing wrong with the protocol."""
        address = self.free()
        argv = (str(valkey.binary()), "--port", str(address.port), "--bind", "127.0.0.1", "--requirepass", PASSWORD)
        folder = self.folder / "other"
        folder.mkdir()
        self._launcher.launch(
            ServerSpec(name="other", argv=argv, env=server_env(folder), cwd=str(folder), log=str(folder / "log"))
        )
        wait_until("the other Redis answers", lambda: self._redis_answers(address), 30)
        return address

    def redis_pid(self) -> int:
        return int((self.folder / "valkey.pid").read_text())

    def close(self) -> None:
        # It may have been started again by a fault's undo: then it is nobody's child.
        with contextlib.suppress(OSError, ValueError):
            os.kill(self.redis_pid(), signal.SIGKILL)
        self._launcher.close()
        self._echo.close()

    def _start_redis(self) -> None:
        (self.folder / "valkey.conf").write_text(
            f"bind 127.0.0.1\nport {self.redis.port}\nrequirepass {PASSWORD}\nsave ''\nappendonly no\n"
            f"dir {self.folder}\npidfile {self.folder}/valkey.pid\n"
        )
        self._launcher.launch(
            ServerSpec(
                name=valkey.NAME,
                argv=(str(valkey.binary()), "valkey.conf"),
                env=server_env(self.folder),
                cwd=str(self.folder),
                log=str(self.folder / "valkey.log"),
            )
        )
        wait_until("Redis answers", self._redis_answers, 30)

    def _redis_answers(self, address: Address | None = None) -> bool:
        at = address or self.redis
        try:
            with socket.create_connection((at.host, at.port), 2) as connection:
                connection.sendall(f"AUTH {PASSWORD}\r\n".encode())
                return connection.recv(100).startswith(b"+OK")
        except OSError:
            return False

    def _api_answers(self) -> bool:
        try:
            http_json(f"{self.url}/health")
        except OSError:
            return False
        return True
