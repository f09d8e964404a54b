"""Find, read and check harness.toml. Pure but for reading that one file.

It is looked for in the current directory only, not in the folders above it: what a load test hits must not depend on
a file that nobody is looking at. `--config FILE` or HARNESS_CONFIG name another one.
"""

from __future__ import annotations

import hashlib
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from harness.config import containers, rules
from harness.config.file import (
    ASSUMED,
    DEFAULT_TARGET,
    AlertsTable,
    ComposeTable,
    Configuration,
    DependencyTable,
    ReportTable,
    RequestTable,
    Runnable,
    RunValue,
    SuiteTable,
    TargetsTable,
    TargetTable,
    ToxiproxyTable,
    VersionTable,
)
from harness.model.errors import UsageError, unknown
from harness.model.files import read_limited
from harness.model.records.alerts import AlertsPlan
from harness.model.target_grammar import check_alert, parse_targets

NAME = "harness.toml"
PORT = "{port}"
"""In the start command of a version: where it is to listen."""
MAX_BYTES = 1_000_000
TABLES = (
    *("target", "compose", "toxiproxy", "dependencies", "run", "targets", "requests", "suite", "versions"),
    *("alerts", "report"),
)

S = TypeVar("S", bound=msgspec.Struct)
Kinds = Mapping[str, type[DependencyTable]]


def find(folder: Path) -> Path | None:
    """The harness.toml of this folder, if there is one."""
    path = folder / NAME
    return path if path.is_file() else None


def load(path: Path, kinds: Kinds) -> Configuration:
    """Read and check a file. kinds: of dependencies, with what a table of each may say.

    Raises UsageError in one line that names the file and the key path.
    """
    return parse(read(path), path, kinds)


def parse(data: bytes, path: Path, kinds: Kinds) -> Configuration:
    """The configuration in these bytes of that file. Raises as `load` does."""
    shown = path.name if path.parent.resolve() == Path.cwd() else str(path)
    return _configuration(_toml(data, shown), path, hashlib.sha256(data).hexdigest(), shown, kinds)


def process_in(data: bytes, path: Path, name: str) -> Runnable | None:
    """How the target, the dependency or `toxiproxy` of this name runs, in a file that was checked when it was read.
    What a table says beside that is not looked at. Raises UsageError."""
    tables = _toml(data, str(path))
    target, table = tables.get("target", {}), tables.get("dependencies", {}).get(name)
    if target and target.get("name", DEFAULT_TARGET) == name:
        table = target
    elif table is None and name == "toxiproxy":
        table = tables.get(name)
    if table is None:
        return None
    own = {key: value for key, value in table.items() if key in Runnable.__struct_fields__}
    return _runnable(_convert(own, Runnable, f"{path}: {name}"), f"{path}: {name}", path.absolute().parent)


def command_in(data: bytes, path: Path, name: str, key: str) -> tuple[str, ...] | None:
    """A command that a dependency's kind has beside `start`, in a file that was checked when it was read. Raises
    UsageError."""
    table = _toml(data, str(path)).get("dependencies", {}).get(name, {})
    return tuple(map(str, table[key])) if key in table else None


def suite_in(data: bytes, path: Path) -> SuiteTable:
    """[suite] of a file that was checked when it was read. Raises UsageError."""
    return _suite(_toml(data, str(path)).get("suite", {}), f"{path}: suite", path.absolute().parent)


def _toml(data: bytes, shown: str) -> dict[str, Any]:
    try:
        return tomllib.loads(data.decode("utf-8"))
    except RecursionError as error:
        raise UsageError(f"{shown}: not TOML: nested too deeply") from error
    except ValueError as error:  # of TOML, of UTF-8, and of a number with thousands of digits
        raise UsageError(f"{shown}: not TOML: {error}") from error


def read(path: Path) -> bytes:
    """The file's bytes. Raises UsageError."""
    try:
        return read_limited(path, MAX_BYTES)
    except FileNotFoundError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error


def _configuration(tables: dict[str, Any], path: Path, sha256: str, shown: str, kinds: Kinds) -> Configuration:
    where = f"{shown}: "
    for name, table in tables.items():
        if name not in TABLES:
            raise unknown("table", name, TABLES, where=where)
        if not isinstance(table, dict):
            raise UsageError(f"{where}{name} is a table", hint=f"write [{name}] on a line of its own")
    rules.refuse_secrets(tables, where)
    folder = path.absolute().parent
    found = Configuration(
        path=str(path.absolute()),
        sha256=sha256,
        shown=shown,
        target=_target(tables["target"], f"{where}target", folder) if "target" in tables else None,
        compose=_compose(tables["compose"], where, folder) if "compose" in tables else None,
        toxiproxy=_toxiproxy(tables["toxiproxy"], f"{where}toxiproxy", folder) if "toxiproxy" in tables else None,
        dependencies={
            name: _dependency(name, table, f"{where}dependencies.{name}", folder, kinds)
            for name, table in tables.get("dependencies", {}).items()
        },
        run=_run(tables.get("run", {}), f"{where}run"),
        targets=_targets(tables.get("targets", {}), f"{where}targets"),
        requests={
            name: _convert(table, RequestTable, f'{where}requests."{name}"')
            for name, table in tables.get("requests", {}).items()
        },
        suite=_suite(tables.get("suite", {}), f"{where}suite", folder),
        versions={
            name: _version(name, table, f"{where}versions.{name}", folder)
            for name, table in tables.get("versions", {}).items()
        },
        alerts=_alerts(tables["alerts"], f"{where}alerts") if "alerts" in tables else None,
        report=_report(tables.get("report", {}), f"{where}report"),
    )
    _consistent(found, where)
    return found


def _target(table: dict[str, Any], where: str, folder: Path) -> TargetTable:
    found = _convert(table, TargetTable, where)
    rules.check_name(found.name, f"{where}.name")
    rules.check_path(found.metrics, f"{where}.metrics", empty=True)
    rules.check_path(found.health, f"{where}.health")
    if found.workers is not None and not 1 <= found.workers <= 10_000:
        raise UsageError(f"{where}.workers: {found.workers} worker processes cannot be", hint="from 1 to 10000")
    url = rules.base_url(found.url, f"{where}.url: ", example='url = "http://127.0.0.1:8000"')
    return msgspec.structs.replace(_runnable(found, where, folder), url=url)


def _compose(table: dict[str, Any], where: str, folder: Path) -> ComposeTable:
    if isinstance(table.get("file"), str):
        table = {**table, "file": [table["file"]]}
    return containers.compose_table(_convert(table, ComposeTable, f"{where}compose"), folder, where)


def _toxiproxy(table: dict[str, Any], where: str, folder: Path) -> ToxiproxyTable:
    found = _convert(table, ToxiproxyTable, where)
    found = _runnable(found, where, folder)
    if found.url is None:
        if not found.contained:
            raise UsageError(
                f"{where}.url is missing", hint='url = "http://127.0.0.1:8474", or service = "toxiproxy" with [compose]'
            )
        return found
    url = rules.base_url(found.url, f"{where}.url: ", example='url = "http://127.0.0.1:8474"', schemes=("http",))
    if url.count("/") > 2:
        raise UsageError(f"{where}.url: Toxiproxy's API has no path: {found.url}", hint="write http://HOST:PORT")
    return msgspec.structs.replace(found, url=url)


def _dependency(name: str, table: Any, where: str, folder: Path, kinds: Kinds) -> DependencyTable:
    rules.check_name(name, where)
    if not isinstance(table, dict):
        raise UsageError(f"{where} is a table", hint=f"write [dependencies.{name}] on a line of its own")
    kind = table.get("kind")
    if kind is None:
        raise UsageError(f"{where}.kind is missing", hint=f"one of {', '.join(kinds)}")
    if not isinstance(kind, str) or kind not in kinds:
        raise unknown("kind", str(kind), kinds, where=f"{where}.kind: ")
    for key in table:
        others = [name for name, type_ in kinds.items() if key in type_.__struct_fields__]
        if others and kind not in others:
            raise UsageError(f"{where}.{key} belongs to kind {' or '.join(others)}, and this is of kind {kind}")
    found = _runnable(_convert(table, kinds[kind], where), where, folder).in_folder(folder)
    for key in ("direct", "path"):
        if (text := getattr(found, key)) is not None and not (key == "path" and text == ASSUMED):
            rules.address(text, f"{where}.{key}")
    if found.proxy is not None and (not found.proxy or "/" in found.proxy):
        raise UsageError(f"{where}.proxy: {found.proxy!r} cannot be addressed through Toxiproxy's API")
    containers.check_clients(found, f"{where}.ignore_clients")
    if found.direct is None and found.needs_direct and not found.contained:
        raise UsageError(
            f"{where}.direct is missing: the server's own address, to ask it who is connected",
            hint='for example direct = "127.0.0.1:6379"; without it no fault on it could be proven',
        )
    if not found.placed:
        raise UsageError(f"{where}: where is it?", hint="name its proxy, its direct address, its container, or several")
    found.check(where)
    return found


R = TypeVar("R", bound=Runnable)


def _runnable(found: R, where: str, folder: Path) -> R:
    """The same with absolute paths."""
    containers.check_container(found, where)
    if found.start is not None:
        if not found.start or not found.start[0].strip():
            raise UsageError(f"{where}.start: a program and its arguments are wanted", hint='start = ["./serve"]')
        if found.pid_file is None:
            raise UsageError(
                f"{where}.start needs {where.rpartition(': ')[2]}.pid_file, where the new process writes its pid"
            )
    elif found.cwd is not None:
        raise UsageError(f"{where}.cwd is where `start` runs, and there is no start")
    return msgspec.structs.replace(
        found,
        pid_file=_absolute(folder, found.pid_file),
        cwd=_absolute(folder, found.cwd),
        log=_absolute(folder, found.log),
        start=None if found.start is None else _found_from(folder, found.start),
    )


def _absolute(folder: Path, path: str | None) -> str | None:
    return None if path is None else str(folder / Path(path).expanduser())


def _found_from(folder: Path, argv: tuple[str, ...]) -> tuple[str, ...]:
    """A program with a slash in its name lies relative to the file; others are found on PATH."""
    return (str(folder / argv[0]), *argv[1:]) if "/" in argv[0] else argv


def _suite(table: dict[str, Any], where: str, folder: Path) -> SuiteTable:
    found = _convert(table, SuiteTable, where)
    if found.reset is None and found.cwd is not None:
        raise UsageError(f"{where}.cwd is where `reset` runs, and there is no reset")
    argv = found.reset
    if argv is not None and not (argv and argv[0].strip()):
        raise UsageError(f"{where}.reset: a program and its arguments are wanted", hint='reset = ["./restart-api"]')
    return msgspec.structs.replace(
        found, reset=None if argv is None else _found_from(folder, argv), cwd=_absolute(folder, found.cwd)
    )


def version_in(data: bytes, path: Path, name: str) -> VersionTable | None:
    """One version of a file that was checked when it was read. Raises UsageError."""
    table = _toml(data, str(path)).get("versions", {}).get(name)
    return None if table is None else _version(name, table, f"{path}: versions.{name}", path.absolute().parent)


def _version(name: str, table: Any, where: str, folder: Path) -> VersionTable:
    rules.check_name(name, where, "a version")
    if not isinstance(table, dict):
        raise UsageError(f"{where} is a table", hint=f"write [versions.{name}] on a line of its own")
    found = _convert(table, VersionTable, where)
    if sum(one is not None for one in (found.host, found.start, found.env)) != 1:
        raise UsageError(
            f"{where}: what tells it from the target is one of host, start and env",
            hint='host = "http://127.0.0.1:8001" where it runs; start = ["./serve", "--port", "{port}"] starts it; '
            'env = { NAME = "value" } is for the sample API',
        )
    if found.host is not None:
        url = rules.base_url(found.host, f"{where}.host: ", example='host = "http://127.0.0.1:8001"')
        found = msgspec.structs.replace(found, host=url)
    if found.start is None:
        if found.cwd is not None or found.log is not None:
            raise UsageError(f"{where}: cwd and log are of what `start` runs, and there is no start")
        return found
    if not found.start or not found.start[0].strip() or not any(PORT in word for word in found.start):
        raise UsageError(
            f"{where}.start: a program and its arguments are wanted, with {PORT} for the port to listen on",
            hint='start = ["./serve", "--port", "{port}"]',
        )
    return msgspec.structs.replace(
        found,
        start=_found_from(folder, found.start),
        cwd=_absolute(folder, found.cwd),
        log=_absolute(folder, found.log),
    )


def _alerts(table: dict[str, Any], where: str) -> AlertsPlan:
    found = _convert(table, AlertsTable, where)
    urls: dict[str, str | None] = {}
    for key, port in (("prometheus", 9090), ("alertmanager", 9093)):
        url = getattr(found, key)
        example = f'{key} = "http://127.0.0.1:{port}"'
        urls[key] = None if url is None else rules.base_url(url, f"{where}.{key}: ", example=example)
    if found.prometheus is None and found.alertmanager is None and found.webhook is None:
        raise UsageError(
            f"{where}: where are alerts to be seen?", hint='for example prometheus = "http://127.0.0.1:9090"'
        )
    listen = None if found.webhook is None else rules.loopback_address(found.webhook, f"{where}.webhook")
    for index, name in enumerate(found.expected):
        check_alert(name, f"{where}.expected[{index}]")
        if name in found.expected[:index]:
            raise UsageError(f"{where}.expected[{index}]: {name!r} is there already")
    return AlertsPlan(
        prometheus=urls["prometheus"],
        alertmanager=urls["alertmanager"],
        webhook=None if listen is None else str(listen),
        expected=found.expected,
    )


def _report(table: dict[str, Any], where: str) -> ReportTable:
    found = _convert(table, ReportTable, where)
    if found.trace_url:
        rules.check_trace_url(found.trace_url, f"{where}.trace_url")
    return found


def _run(table: dict[str, Any], where: str) -> dict[str, RunValue]:
    """Shapes only: which options there are, and what they take, the command line knows."""
    found: dict[str, RunValue] = {}
    for key, value in table.items():
        if isinstance(value, list):
            if not all(isinstance(item, str) for item in value):
                raise UsageError(f"{where}.{key}: a list of texts is wanted")
            found[key] = tuple(value)
        elif isinstance(value, str | bool | int | float):
            found[key] = value
        else:
            raise UsageError(f"{where}.{key}: a text, a number, true or false, or a list of texts is wanted")
    return found


def _targets(table: dict[str, Any], where: str) -> TargetsTable:
    found = _convert(table, TargetsTable, where)
    for key in ("primary", "secondary"):
        for index, text in enumerate(getattr(found, key)):
            try:
                parse_targets(text)
            except UsageError as error:
                raise UsageError(f"{where}.{key}[{index}]: {error}", hint=error.hint) from error
            if key == "primary" and text.lstrip().startswith("~"):
                raise UsageError(f"{where}.primary[{index}]: `~` marks a secondary target", hint="move it there")
    return found


def _consistent(found: Configuration, where: str) -> None:
    """What one table demands of another."""
    if found.target is None and (found.dependencies or found.toxiproxy is not None):
        raise UsageError(
            f"{where}target is missing: the service that these dependencies belong to",
            hint='[target] and url = "http://127.0.0.1:8000"',
        )
    # Of a file without dependencies of its own the stack's are meant, which planning knows.
    known = {*found.dependencies, *((found.target.name,) if found.target is not None else ())}
    for request, table in found.requests.items():
        at = f'{where}requests."{request}".'
        for key in ("may_fail_with", "independent_of"):
            for name in getattr(table, key):
                if found.dependencies and name not in known:
                    raise unknown("dependency", name, known, where=f"{at}{key}: ")
        if both := sorted(set(table.may_fail_with) & set(table.independent_of)):
            raise UsageError(f"{at}independent_of: {both[0]!r} is in may_fail_with, too", hint="take it out of one")
    containers.check_compose(found, where)
    taken: dict[str, str] = {}
    for name, dependency in found.dependencies.items():
        at = f"{where}dependencies.{name}"
        if found.target is not None and name == found.target.name:
            raise UsageError(f"{at}: the target is called {name!r} already", hint="give one of them another name")
        if dependency.proxy is None:
            continue
        if found.toxiproxy is None:
            raise UsageError(f"{at}.proxy: which Toxiproxy?", hint='[toxiproxy] and url = "http://127.0.0.1:8474"')
        if dependency.proxy in taken:
            raise UsageError(f"{at}.proxy: {dependency.proxy!r} is the proxy of {taken[dependency.proxy]} already")
        taken[dependency.proxy] = f"dependencies.{name}"


def _convert(table: dict[str, Any], type_: type[S], where: str) -> S:
    """One table as its struct. Unknown keys and wrong types are told by key path."""
    for key in table:
        if key not in type_.__struct_fields__:
            raise unknown("key", key, type_.__struct_fields__, where=f"{where}: ")
    try:
        return msgspec.convert(table, type_, strict=True)
    except msgspec.ValidationError as error:
        raise UsageError(f"{where}{_said(str(error))}") from error


def _said(text: str) -> str:
    """msgspec's "Expected `int`, got `str` - at `$.workers`" with the key path in front."""
    message, _, at = text.partition(" - at `$")
    missing = re.fullmatch(r"Object missing required field `(\w+)`", message)
    if missing:
        return f".{missing[1]} is missing"
    words = {"int": "a whole number", "str": "a text", "bool": "true or false", "array": "a list", "object": "a table"}
    words["float"] = "a number"
    message = re.sub(r"`(\w+)(?: \| null)?`", lambda m: words.get(m[1], m[1]), message)
    return f"{at.rstrip('`')}: {message[0].lower()}{message[1:]}"


def chosen(config: str | None) -> Path | None:
    """The file to use: the one named, else that of the current directory. Raises UsageError for a missing one.

    A file that is merely found may name commands and a locustfile to run, so it must be the user's own: somebody
    else's in a shared folder is used only when it is named.
    """
    if config is None:
        found = find(Path.cwd())
        if found is not None and (why := _not_ours(found)) is not None:
            raise UsageError(f"{NAME} in this folder {why}", hint=f"if you trust it, name it: --config {NAME}")
        return found
    path = Path(config)
    if not path.is_file():
        hint = f"name the file itself: {path / NAME}" if (path / NAME).is_file() else None
        raise UsageError(f"--config {config}: no such file", hint=hint)
    return path


def _not_ours(path: Path) -> str | None:
    status = path.stat()
    if status.st_uid not in (0, os.geteuid()):
        return f"belongs to another user (uid {status.st_uid})"
    return "may be written by everybody" if status.st_mode & 0o002 else None
