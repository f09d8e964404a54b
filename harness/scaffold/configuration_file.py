"""A commented harness.toml to begin with: empty, or for the services of a compose project."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from harness.config.compose_file import project_name
from harness.config.file import ComposeTable
from harness.config.load import parse
from harness.dependencies.registry import tables
from harness.model.errors import UsageError
from harness.scaffold.compose_config import filled_from
from harness.scaffold.compose_services import ENVOY, OURS, Service, name_of
from harness.scaffold.front import Front, Fronted, Proxy
from harness.scaffold.one_line import joined
from harness.scaffold.roles import What, primary_port
from harness.scaffold.target import Choice, health_path, url_of

EMPTY = """\
# Your own system, and your defaults for `harness run`. docs/configuration.md and its examples say more.

[target]                                  # the service under test
url = "http://127.0.0.1:8000"
health = "/health"                        # must answer below 400 before a run

# [toxiproxy]                             # yours; its proxies stand before your dependencies
# url = "http://127.0.0.1:8474"

# [dependencies.redis]                    # the name is what faults call it: redis-down
# kind = "redis"                          # redis, postgres, mysql, kafka, rabbitmq, memcached, tcp or http
# proxy = "redis"                         # its name in Toxiproxy
# direct = "127.0.0.1:6379"               # the server itself: asked who is connected, for proof
# password_env = "REDIS_PASSWORD"         # never the password itself

[run]
# locustfile = "locustfile.py"            # your users' requests: `harness init --locustfile` writes one to begin with
scenario = "baseline"
# rate = 20                               # requests a second that it copes with when it is well
"""
LOCUSTFILE = "locustfile.py"
RATE = 20
"""Requests a second that a newcomer's service survives."""


def for_project(front: Front, choice: Choice) -> str:
    """harness.toml for a compose project."""
    composed = front.project.composed
    lines = [
        "# The compose project, as `harness init` understood it. Check every line; a run checks them as well:",
        "#   harness doctor",
        "# Nothing of it is built, started or removed by the harness, and stopped by faults only.",
        "",
        "[compose]",
        f"file = {_files(composed.files)}",
    ]
    table = ComposeTable(file=tuple(str(Path(name).absolute()) for name in composed.files))
    if project_name(table) != front.project.name:
        lines.append(f"project = {json.dumps(front.project.name)}")
    lines += ["", *_target(choice)]
    if front.fronted or front.own is not None:
        lines += ["[toxiproxy]", f"service = {json.dumps(front.own or OURS)}", ""]
    names = _Names(choice.service)
    for one in front.fronted:
        lines += _fronted(front, one, names)
    behind = {one.service.name for one in front.fronted}
    for service in front.project.services.values():
        what = front.roles[service.name]
        if what.role == "store" and service.name not in behind and service.network_mode is None:
            lines += _alone(front, service, what, names)
    lines += [
        "[run]",
        f"locustfile = {json.dumps(LOCUSTFILE)}    # your requests",
        'scenario = "baseline"',
        f"rate = {RATE}                       # requests a second that your service copes with when it is well",
        "",
    ]
    return joined(lines)


def locustfile(choice: Choice) -> str:
    """One request to begin with: what the service's own health check asks for, else its first page."""
    path = (health_path(choice.service) if choice.service is not None else None) or "/"
    return joined(
        [
            '"""Requests of your users: put those that people make here, in their shares (docs/load.md)."""',
            "",
            "from locust import HttpUser, task",
            "",
            "",
            "class Visitor(HttpUser):",
            "    @task",
            "    def visit(self) -> None:",
            f"        self.client.get({path!r}, name={'GET ' + path!r})",
            "",
        ]
    )


class _Names:
    """Names of dependencies, each of them once, and none of them the target's."""

    def __init__(self, target: Service | None) -> None:
        self._taken = {name_of(target.name)} if target is not None else set[str]()

    def free(self, service: str) -> str:
        name, number = name_of(service), 2
        while name in self._taken:
            name, number = f"{name_of(service)}-{number}", number + 1
        self._taken.add(name)
        return name


def _target(choice: Choice) -> list[str]:
    service = choice.service
    if service is None:
        said = [
            f"# url = {json.dumps(url_of(one))}    # with: service = {json.dumps(one.name)}"
            f" and name = {json.dumps(name_of(one.name))}"
            for one in choice.others
        ]
        why = (
            "several services are as likely: say which one is tested"
            if said
            else "no service of the application publishes a port for HTTP"
        )
        return [f"[target]                  # {why}", 'url = ""', *said, ""]
    health = health_path(service)
    return [
        "[target]",
        f"url = {json.dumps(url_of(service))}",
        f"name = {json.dumps(name_of(service.name))}",
        f"service = {json.dumps(service.name)}",
        *_replica(service),
        f"health = {json.dumps(health)}    # what its own health check asks for"
        if health is not None
        else '# health = "/health"      # a page that answers below 400 when it is well',
        "",
    ]


def _replica(service: Service) -> list[str]:
    if service.replicas < 2:
        return []
    return [f"replica = 1               # of its {service.replicas} containers, for faults on a container"]


def _fronted(front: Front, one: Fronted, names: _Names) -> list[str]:
    lines: list[str] = []
    for number, proxy in enumerate(proxy for proxy in one.proxies if proxy.wanted):
        if proxy.front is not None:
            lines += [*_over_http(one, proxy, proxy.front, names, first=number == 0), ""]
        elif number == 0:
            lines += [f"[dependencies.{names.free(one.service.name)}]"]
            lines += _kind(front, one.service, one.what, None, users=tuple(one.users))
            lines += [f"proxy = {json.dumps(proxy.name)}", ""]
        else:
            lines += [
                f"[dependencies.{names.free(f'{one.service.name}-{proxy.port}')}]",
                f'kind = "tcp"              # port {proxy.port} of {one.service.name}',
                f"proxy = {json.dumps(proxy.name)}",
                "",
            ]
    return lines


def _over_http(one: Fronted, proxy: Proxy, front: str, names: _Names, *, first: bool) -> list[str]:
    """first: of the proxies of its service, whose container is declared once."""
    container = [f"service = {json.dumps(one.service.name)}", *_replica(one.service), f"port = {proxy.port}"]
    name = names.free(proxy.name)
    health = health_path(one.service, proxy.port)
    return [
        f"[dependencies.{name}]",
        'kind = "http"',
        *(container if first else []),
        *([f"health = {json.dumps(health)}    # what its own health check asks for"] if health is not None else []),
        f"proxy = {json.dumps(proxy.name)}",
        f"front_service = {json.dumps(ENVOY)}    # behind the proxy: for status, delay and slow-body",
        *([f"front_name = {json.dumps(front)}"] if front != name else []),
    ]


def _alone(front: Front, service: Service, what: What, names: _Names) -> list[str]:
    port = primary_port(service, what, service.environment)
    if service.name in front.own_proxies:
        lines = _kind(front, service, what, None, users=())
        proxy = f"proxy = {json.dumps(front.own_proxies[service.name])}"
        return [f"[dependencies.{names.free(service.name)}]", *lines, proxy, ""]
    head = [f"[dependencies.{names.free(service.name)}]    # no proxy: faults on its container only"]
    return [*head, *_kind(front, service, what, port, users=()), ""]


def _kind(front: Front, service: Service, what: What, port: int | None, *, users: Sequence[str]) -> list[str]:
    kind = what.kind
    where = [f"service = {json.dumps(service.name)}", *_replica(service)]
    at = port or primary_port(service, what, service.environment)
    unknown = [*where, *([f"port = {at}"] if at is not None else [])]
    found = _login(front, service, users)
    if kind.name == "postgres" and found is None:
        return ['kind = "tcp"              # "postgres" with its login: none could be seen', *unknown]
    environment = dict(service.environment)
    if found is not None:
        environment |= {"POSTGRES_USER": found.user, "POSTGRES_DB": found.database}
    own = _own_passwords(service, what)
    # The password in the store's settings is that of its own user, and of another only where both are the same.
    another = found is not None and found.user != _own_user(service) and found.password not in own.values()
    if kind.name == "postgres" and found is not None and own and another:
        variable, secret = variable_of(service.name), True
        variable += "_APP" if f"{variable}_PASSWORD" in service.environment else ""
        filled = found.filled
    else:
        variable, secret = _password(front, service, own, users)
        filled = _filled(front, service, own)
    lines = kind.table_lines(environment, variable, port)
    if secret:
        lines = [line.removeprefix("# ") if line.startswith("# password_env") else line for line in lines]
    else:
        lines = [line for line in lines if not line.startswith("password_env")]
    if filled is not None:
        lines = [line.replace(f'"{variable}_PASSWORD"', json.dumps(filled)) for line in lines]
    lines = [f"kind = {json.dumps(kind.name)}", *where, *lines]
    if not _taken(lines):
        return [f'kind = "tcp"              # "{kind.name}" needs what could not be seen', *unknown]
    return lines


def _taken(lines: Sequence[str]) -> bool:
    """Whether harness.toml may say that of a dependency: a kind may need what a compose project does not show."""
    text = joined(["[target]", 'url = "http://127.0.0.1"', "[compose]", 'project = "x"', "[dependencies.x]", *lines])
    try:
        parse(text.encode(), Path("harness.toml"), tables())
    except UsageError:
        return False
    return True


_URL = re.compile(
    r"\w[\w+.]*://(?P<user>[^:/@\s]+)(?::(?P<password>[^@\s]*))?@(?P<host>[\w.-]+)(?::\d+)?/(?P<db>[\w.-]+)"
)
_PASSWORD = re.compile(r"^(?!.*(?:ROOT|ALLOW|ENABLE|EMPTY|RANDOM))(?:(?P<whose>.*)_)?(?:PASSWORD|PASS)(?:_FILE)?$")
_RELATIONAL = {"postgres", "pgbouncer", "mysql", "cockroach", "sqlserver", "oracle"}
_USER = re.compile(r"(^|_)(PG|POSTGRES(QL)?_|DB_|DATABASE_|SQL_)(USER(NAME)?)$")
_DB = re.compile(r"(^|_)(PG|POSTGRES(QL)?_|DB_|DATABASE_|SQL_)(DB|DATABASE|NAME|DBNAME)$")


class _Login(msgspec.Struct, frozen=True, kw_only=True):
    """password: to compare, never to be written. filled: the variable out of which Compose fills it, if one is seen."""

    user: str
    database: str
    password: str | None = None
    filled: str | None = None


def _login(front: Front, service: Service, users: Sequence[str]) -> _Login | None:
    """The application's user and database, as its settings say, else as the store's own do; None: nobody says."""
    for user in users:
        client = front.project.services[user]
        for _, text in client.texts:
            match = _URL.search(text)
            if match is not None and match["host"] in service.names:
                return _Login(user=match["user"], database=match["db"], password=match["password"])
        key = next((key for key, value in client.environment.items() if _USER.search(key) and value), None)
        if key is not None:
            name, database = client.environment[key], _first(client.environment, _DB)
            keys = [re.sub(r"USER(NAME)?$", word, key) for word in ("PASSWORD", "PASS")]
            said = (filled_from(front.project.composed, user, each) for each in keys)
            return _Login(
                user=name,
                database=database or _first(service.environment, _DB) or name,
                password=next((client.environment[each] for each in keys if each in client.environment), None),
                filled=next((one for one in said if one is not None), None),
            )
    own = _first(service.environment, _USER)
    return None if own is None else _Login(user=own, database=_first(service.environment, _DB) or own)


def _first(environment: Mapping[str, str], pattern: re.Pattern[str]) -> str | None:
    return next((value for key, value in environment.items() if pattern.search(key) and value), None)


def _own_user(service: Service) -> str:
    return _first(service.environment, _USER) or "postgres"


def _own_passwords(service: Service, what: What) -> dict[str, str]:
    """Its settings that hold its own password: an `env_file` that it shares has those of others as well."""
    words = set(what.family.words) if what.family is not None else set()
    if what.family is not None and what.family.name in _RELATIONAL:
        words |= {"pg", "db", "database", "sql"} | (
            {"postgresql", "postgres"} if what.kind.name == "postgres" else set()
        )
    found = {}
    for key, value in service.environment.items():
        match = _PASSWORD.match(key)
        whose = set((match["whose"] or "").lower().split("_")) - {""} if match is not None else set()
        if match is not None and value and (not whose or not words or whose & words):
            found[key] = value
    return found


def _filled(front: Front, service: Service, own: Mapping[str, str]) -> str | None:
    """The variable out of which Compose fills this store's password, where the files name one."""
    found = (filled_from(front.project.composed, service.name, key) for key in own)
    return next((name for name in found if name is not None), None)


def _password(front: Front, service: Service, own: Mapping[str, str], users: Sequence[str]) -> tuple[str, bool]:
    """The beginning of the name of the variable with its password, and whether it has one. A name that holds another
    password elsewhere in the project is not used."""
    for key, value in own.items():
        name = key.removesuffix("_FILE")
        values = {one.environment[key] for one in front.project.services.values() if key in one.environment}
        if name.endswith("_PASSWORD") and values == {value}:
            return name.removesuffix("_PASSWORD"), True
    texts = [text for user in users for _, text in front.project.services[user].texts]
    hosts = "|".join(map(re.escape, service.names))
    secret = (
        bool(own)
        or "requirepass" in service.command
        or any(re.search(rf"://[^/\s@]*:[^/\s@]+@({hosts})(?![\w-])", text) for text in texts)
    )
    return variable_of(service.name), secret


def _files(files: Sequence[str]) -> str:
    return json.dumps(files[0]) if len(files) == 1 else json.dumps(list(files))


def variable_of(service: str) -> str:
    return re.sub(r"[^A-Z0-9]+", "_", service.upper()).strip("_") or "SERVICE"
