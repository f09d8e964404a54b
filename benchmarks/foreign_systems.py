"""Services that nobody here wrote, for foreign_services.py: how they are installed, set up, started and called.

Each is a real package at a pinned version, in a folder of the user's cache, with PostgreSQL and Redis behind it.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.model.errors import SetupError
from harness.model.paths import cache_dir
from harness.model.records.faults import Address
from harness.stack.starting.child import Child
from harness.stack.starting.fetch import check_folder, make_folder

INSTALL_LIMIT_S = 600.0
SPREAD = 50
"""`{m}` in a path is the number that counts up, modulo this."""
START_LIMIT_S = 60.0


@dataclass(frozen=True)
class Request:
    """One kind of call. `{n}` in path or body is a number that counts up, `{m}` that modulo SPREAD. uses: what it
    needs, as somebody reading the service's manual would say."""

    name: str
    method: str
    path: str
    body: str | None = None
    uses: str = ""


@dataclass(frozen=True)
class Where:
    """folder: of the run, where settings, pid file and log lie. redis, db: the proxies. port: the service's own."""

    folder: Path
    port: int
    redis: Address
    db: Address
    role: str
    database: str

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


@dataclass(frozen=True)
class System:
    """install: puts the packages into a folder, which is kept. configure: writes the settings into the run's folder and
    returns the command that starts the service there and writes `service.pid` itself. prepare: makes what the requests
    ask for, over the service's own API, and returns the headers that they need."""

    name: str
    title: str
    health: str
    packages: tuple[str, ...]
    requests: tuple[Request, ...]
    install: Callable[[System, Path], None]
    configure: Callable[[Where, Path], tuple[str, ...]]
    prepare: Callable[[Where], dict[str, str]]

    def installed(self, progress: Callable[[str], None]) -> Path:
        """The folder with the packages, installed first when it is not there. Raises SetupError."""
        wanted = "\n".join(self.packages)
        folder = cache_dir() / "benchmarks" / f"{self.name}-{self.packages[0].rpartition('=')[2].rpartition('@')[2]}"
        mark = folder / "installed.txt"
        check_folder(folder)
        if mark.is_file() and mark.read_text("utf-8") == wanted:
            return folder
        progress(f"{self.title}: installing it (once, a minute or two)")
        shutil.rmtree(folder, ignore_errors=True)  # half an installation of before
        make_folder(folder)
        self.install(self, folder)
        mark.write_text(wanted, "utf-8")
        return folder


def call(method: str, url: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
    """One call of a service's API while it is set up; its answer. Raises OSError, also for an error status."""
    data = None if body is None else json.dumps(body).encode()
    more = {"Content-Type": "application/json"} if data else {}
    request = urllib.request.Request(url, data=data, method=method, headers={**more, **(headers or {})})
    with urllib.request.urlopen(request, timeout=10) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def wait_for(url: str, limit_s: float = START_LIMIT_S) -> None:
    """Until the service answers. Raises SetupError."""
    until, seen = time.monotonic() + limit_s, "nothing"
    while time.monotonic() < until:
        try:
            call("GET", url)
            return
        except urllib.error.HTTPError as error:
            seen = f"status {error.code}"
        except OSError as error:
            seen = str(error)
        time.sleep(0.2)
    raise SetupError(f"{url} did not answer within {limit_s:.0f} s: {seen}")


def _kinto_install(system: System, folder: Path) -> None:
    python = folder / "bin" / "python"
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    for argv in (
        (sys.executable, "-m", "venv", str(folder)),
        (str(python), "-m", "pip", "install", "--quiet", "--no-input", *system.packages),
    ):
        Child(argv, env=environment, cwd=folder).run(
            failed=f"{system.title}: {' '.join(argv[1:4])} failed", limit_s=INSTALL_LIMIT_S
        )


_KINTO_INI = """\
[server:main]
use = egg:waitress#main
host = 127.0.0.1
port = {port}
threads = 4
connection_limit = 1000

[app:main]
use = egg:kinto
kinto.userid_hmac_secret = drawn-for-nobody
multiauth.policies = basicauth
kinto.bucket_create_principals = system.Authenticated
kinto.storage_backend = kinto.core.storage.postgresql
kinto.storage_url = {database}
kinto.storage_pool_size = 20
kinto.permission_backend = kinto_redis.permission
kinto.permission_url = {redis}/0
kinto.cache_backend = kinto_redis.cache
kinto.cache_url = {redis}/1

[loggers]
keys = root
[handlers]
keys = console
[formatters]
keys = plain
[logger_root]
level = ERROR
handlers = console
[handler_console]
class = StreamHandler
args = (sys.stderr,)
level = ERROR
formatter = plain
[formatter_plain]
format = %(asctime)s %(levelname)s %(name)s %(message)s
"""


def _kinto_configure(where: Where, packages: Path) -> tuple[str, ...]:
    settings = where.folder / "kinto.ini"
    database = f"postgresql+psycopg2://{where.role}@{where.db}/{where.database}"
    settings.write_text(_KINTO_INI.format(port=where.port, database=database, redis=f"redis://{where.redis}"), "utf-8")
    kinto = packages / "bin" / "kinto"
    Child((str(kinto), "migrate", "--ini", str(settings)), env=dict(os.environ), cwd=where.folder).run(
        failed="Kinto: making its tables failed", limit_s=START_LIMIT_S
    )
    return "sh", "-c", f"echo $$ > service.pid; exec {kinto} start --ini kinto.ini --port {where.port}"


def _kinto_prepare(where: Where) -> dict[str, str]:
    headers = {"Authorization": "Basic dXNlcjpzZWNyZXQ="}
    # Kinto refuses (409) two writes to one collection in the same millisecond: with many collections they are rare.
    many = [f"/collections/w{number}" for number in range(SPREAD)]
    for path in ("", "/collections/c", "/collections/c/records/r", *many):
        call("PUT", where.url(f"/v1/buckets/b{path}"), {"data": {}}, headers)
    return headers


def _parse_install(system: System, folder: Path) -> None:
    (folder / "package.json").write_text('{"private": true}\n', "utf-8")
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise SetupError(f"{system.title}: there is no npm or no node on PATH", hint="install Node 18, 20 or 22")
    argv = (npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--save-exact", *system.packages)
    Child(argv, env=dict(os.environ), cwd=folder).run(
        failed=f"{system.title}: npm install failed", limit_s=INSTALL_LIMIT_S
    )


_PARSE_JS = """\
const { createRequire } = require('node:module');
const fs = require('node:fs');
const packages = createRequire(%(packages)s);
const { ParseServer, RedisCacheAdapter } = packages('parse-server');
const express = packages('express');
fs.writeFileSync('service.pid', `${process.pid}\\n`);
(async () => {
  const cacheAdapter = new RedisCacheAdapter({ url: %(redis)s });
  const server = new ParseServer({
    databaseURI: %(database)s,
    appId: 'app', masterKey: 'drawn-for-nobody', maintenanceKey: 'for-nobody-either',
    serverURL: %(url)s, cacheAdapter, silent: true, logsFolder: null,
    allowClientClassCreation: true, encodeParseObjectInQueryString: true,
  });
  await server.start();
  const app = express();
  app.use('/parse', server.app);
  app.listen(%(port)d, '127.0.0.1');
})().catch((error) => { console.error(error); process.exit(1); });
"""


def _parse_configure(where: Where, packages: Path) -> tuple[str, ...]:
    values = {
        "packages": json.dumps(str(packages / "package.json")),
        "redis": json.dumps(f"redis://{where.redis}"),
        "database": json.dumps(f"postgres://{where.role}@{where.db}/{where.database}"),
        "url": json.dumps(where.url("/parse")),
        "port": where.port,
    }
    (where.folder / "service.js").write_text(_PARSE_JS % values, "utf-8")
    return "node", "service.js"


def _parse_prepare(where: Where) -> dict[str, str]:
    headers = {"X-Parse-Application-Id": "app"}
    user = {"username": f"user{time.time_ns()}", "password": "secret"}
    headers["X-Parse-Session-Token"] = call("POST", where.url("/parse/users"), user, headers)["sessionToken"]
    call("POST", where.url("/parse/classes/Note"), {"n": 0, "text": "first"}, headers)
    return headers


_JSON = '{"data": {"n": {n}}}'
SYSTEMS = (
    System(
        name="kinto",
        title="Kinto",
        health="/v1/__lbheartbeat__",
        packages=(
            *("kinto==26.5.0", "kinto-redis==2.1.0", "SQLAlchemy==2.1.9", "psycopg2-binary==2.9.13"),
            *("redis==8.1.0", "waitress==3.0.2", "zope.sqlalchemy==4.1", "pyramid==2.1"),
        ),
        requests=(
            Request("read", "GET", "/v1/buckets/b/collections/c/records/r", uses="Redis (permissions), PostgreSQL"),
            Request("write", "PUT", "/v1/buckets/b/collections/w{m}/records/w{n}", _JSON, "Redis, PostgreSQL"),
            Request("heartbeat", "GET", "/v1/__lbheartbeat__", uses="neither"),
        ),
        install=_kinto_install,
        configure=_kinto_configure,
        prepare=_kinto_prepare,
    ),
    System(
        name="parse",
        title="Parse Server",
        health="/parse/health",
        packages=("parse-server@7.5.4", "express@4.21.2"),
        requests=(
            Request("read", "GET", "/parse/classes/Note?limit=1", uses="Redis (session cache), PostgreSQL"),
            Request("write", "POST", "/parse/classes/Note", '{"n": {n}}', "Redis (session cache), PostgreSQL"),
            Request("heartbeat", "GET", "/parse/health", uses="neither"),
        ),
        install=_parse_install,
        configure=_parse_configure,
        prepare=_parse_prepare,
    ),
)
