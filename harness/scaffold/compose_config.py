"""What Compose itself makes of a project: its files merged, variables filled in, `env_file`, `include` and `extends`
resolved. `docker compose config` starts nothing and asks no engine; what it prints holds secrets and stays in memory.

Without Compose the files are read alone, later ones over earlier ones, and what that leaves open is told.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from harness.config.compose_file import filled, read, unset, variables
from harness.config.containers import DEFAULT_FILES
from harness.model.errors import UsageError

OVERRIDES = (
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
)
"""What Compose adds to its default file by itself."""
OVERRIDE = "harness.override.yaml"
"""Ours, which is no part of the project."""
LIMIT_S = 30.0
_REMOTE = re.compile(r"^(https?|ssh|git|oci)://|^git@|^github\.com[/:]", re.IGNORECASE)
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_]\w*)(?::?[-?+][^}]*)?\}|([A-Za-z_]\w*))")
_OFFLINE = {"COMPOSE_EXPERIMENTAL_GIT_REMOTE": "false", "COMPOSE_EXPERIMENTAL_OCI_REMOTE": "false"}
"""Nothing is fetched because somebody wanted to look."""


class ComposeCommand(msgspec.Struct, frozen=True):
    """argv: how it is called. version: its first three numbers."""

    argv: tuple[str, ...]
    version: tuple[int, ...]

    @property
    def overrides(self) -> bool:
        """`!override` replaces a list instead of adding to it; the first Compose has no need of it for links."""
        return self.version >= (2, 24, 4)

    @property
    def contents(self) -> bool:
        """A config whose content stands in the file."""
        return self.version >= (2, 23, 1)


class Composed(msgspec.Struct, frozen=True, kw_only=True):
    """files: all that Compose used, as they are named to it. model: what it makes of them. asked: None = the files
    alone were read. inactive: service -> its profiles, of which none was named. unresolved: what could not be seen."""

    files: tuple[str, ...]
    model: dict[str, Any]
    profiles: tuple[str, ...] = ()
    asked: ComposeCommand | None = None
    inactive: dict[str, tuple[str, ...]] = {}
    unresolved: tuple[str, ...] = ()
    version: str | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """Its arguments for Compose, without a command."""
        profiles = [word for name in self.profiles for word in ("--profile", name)]
        return (*profiles, *(word for name in self.files for word in ("-f", name)))


def composed(files: Sequence[str] = (), profiles: Sequence[str] = ()) -> Composed:
    """The project of these files, or of those that Compose finds in this folder. Raises UsageError."""
    used = tuple(name for name in _used(files) if Path(name).name != OVERRIDE)
    if not used:
        raise UsageError(
            f"compose file {OVERRIDE}: only the override of `harness init` is named", hint="--compose FILE"
        )
    read_files = [read(Path(name)) for name in used]
    for name, found in zip(used, read_files, strict=True):
        for remote in _remote(found):
            raise UsageError(
                f"compose file {name}: it takes in {remote[:200]!r}, which is on another machine",
                hint="fetch it yourself, look at it, and name the local file instead",
            )
        if not isinstance(found.get("services", {}), dict):
            raise UsageError(f"compose file {name}: it has no services")
    if not any(found.get("services") or found.get("include") for found in read_files):
        raise UsageError(f"compose file {used[0]}: it has no services")
    version = read_files[0].get("version")
    command = find_compose()
    plain = Composed(
        files=used,
        profiles=tuple(profiles),
        version=None if version is None else str(version),
        model={},
        asked=command,
    )
    if command is None:
        return _alone(plain, read_files)
    model = ask(plain)
    hidden = any(word in str(found) for found in read_files for word in ("profiles", "include", "extends"))
    every = model if command.version < (2,) else {}  # the first Compose prints what is not active, too
    if hidden and command.version >= (2,):
        every = ask(msgspec.structs.replace(plain, profiles=("*",)), quiet=True)
    known = variables(Path(used[0]).absolute().parent)
    services = mapping(model.get("services"))
    if command.version < (2,):
        services = {name: table for name, table in services.items() if _active(table, plain, known)}
    inactive = {
        name: tuple(map(str, table.get("profiles") or ()))
        for name, table in mapping(every.get("services")).items()
        if name not in services
    }
    if not services:
        raise _none_active(used[0], inactive)
    return msgspec.structs.replace(plain, model={**model, "services": services}, inactive=inactive)


def filled_from(project: Composed, service: str, key: str) -> str | None:
    """The variable out of which Compose fills a setting of a service: DB_PASSWORD of `${DB_PASSWORD:-secret}`; None
    where the files say the value itself, or do not say it."""
    for name in reversed(project.files):
        environment = mapping(mapping(read(Path(name)).get("services")).get(service)).get("environment")
        if isinstance(environment, list):
            environment = dict(str(one).partition("=")[::2] for one in environment)
        value = mapping(environment).get(key)
        if value is not None:
            found = _VARIABLE.fullmatch(str(value))
            return found[1] or found[2] if found is not None else None
    return None


def ask(project: Composed, *, override: str | None = None, quiet: bool = False) -> dict[str, Any]:
    """What Compose makes of the project's files, with an override after them. Raises UsageError with its first line;
    quiet: {} instead."""
    assert project.asked is not None
    how = ("--format", "json") if project.asked.version >= (2,) else ()
    with tempfile.TemporaryDirectory(prefix="harness-") as folder:
        words = [*project.asked.argv, *project.words]
        if override is not None:
            Path(folder, "override.yaml").write_text(override, encoding="utf-8")
            words += ["-f", str(Path(folder, "override.yaml"))]
        try:
            done = _run([*words, "config", *how], {**os.environ, **_OFFLINE})
        except (OSError, subprocess.SubprocessError) as error:
            raise UsageError(
                f"compose file {project.files[0]}: Compose did not answer: {type(error).__name__}"
            ) from error
    if done.returncode != 0:
        if quiet:
            return {}
        lines = [line for line in done.stderr.splitlines() if line.strip() and "level=warning" not in line]
        raise UsageError(
            f"compose file {project.files[0]}: {' '.join(project.asked.argv)} does not take it: "
            + " ".join(lines[:3])[:300],
            hint=f"{' '.join((*project.asked.argv, *project.words))} config",
        )
    import yaml

    try:
        found = json.loads(done.stdout) if how else yaml.safe_load(done.stdout)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise UsageError(f"compose file {project.files[0]}: what Compose made of it cannot be read") from error
    return _dollars(found) if isinstance(found, dict) else {}


def find_compose() -> ComposeCommand | None:
    """The Compose of this machine, of which `docker compose` is asked first."""
    return _found_on(os.environ.get("PATH", ""), os.environ.get("DOCKER_CONFIG"))


@cache
def _found_on(_path: str, _config: str | None) -> ComposeCommand | None:
    for argv in (("docker", "compose"), ("docker-compose",)):
        try:
            # Clients without the plugin would knock at the engine.
            env = {**os.environ, "DOCKER_CLI_HINTS": "false", "DOCKER_HOST": "unix:///dev/null"}
            done = _run([*argv, "version", "--short"], env)
        except (OSError, subprocess.SubprocessError):
            continue
        found = re.match(r"v?(\d+)\.(\d+)\.(\d+)", done.stdout.strip())
        if done.returncode == 0 and found is not None:
            return ComposeCommand(argv, tuple(map(int, found.groups())))
    return None


def _run(words: Sequence[str], env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=LIMIT_S,
        check=False,
        env=env,
    )


def _active(table: Any, project: Composed, known: Mapping[str, str]) -> bool:
    wanted = table.get("profiles") if isinstance(table, dict) else None
    on = {*project.profiles, *(known.get("COMPOSE_PROFILES") or "").split(",")}
    return not isinstance(wanted, list) or not wanted or bool({*map(str, wanted), "*"} & on)


def _none_active(file: str, inactive: Mapping[str, tuple[str, ...]]) -> UsageError:
    names = sorted({name for many in inactive.values() for name in many})
    return UsageError(
        f"compose file {file}: no service is active", hint=f"--profile {' or '.join(names)}" if names else None
    )


def files_here() -> tuple[str, ...]:
    """What Compose would take in this folder without being told, but for the override that it adds; () = nothing."""
    known = variables(Path())
    listed = known.get("COMPOSE_FILE")
    if listed:
        return tuple(filter(None, listed.split(known.get("COMPOSE_PATH_SEPARATOR") or os.pathsep)))
    return tuple(name for name in DEFAULT_FILES if Path(name).is_file())[:1]


def _used(files: Sequence[str]) -> tuple[str, ...]:
    """The files as Compose takes them: those that are named, or its own choice, with the override that it adds. A
    default file that is named alone is meant with its override, because `docker compose up` loads both."""
    chosen = list(files or files_here())
    if not chosen:
        raise UsageError("compose file: there is none in this folder", hint="--compose path/to/compose.yaml")
    if len(chosen) == 1 and Path(chosen[0]).name in DEFAULT_FILES:
        folder = Path(chosen[0]).parent
        chosen += [str(folder / name) for name in OVERRIDES if (folder / name).is_file()][:1]
    return tuple(chosen)


def _remote(found: dict[str, Any]) -> Iterator[str]:
    """What a file takes in from elsewhere."""
    included = found.get("include")
    for item in included if isinstance(included, list) else []:
        paths = item.get("path") if isinstance(item, dict) else item
        for path in paths if isinstance(paths, list) else [paths]:
            if isinstance(path, str) and _REMOTE.match(path):
                yield path
    services = found.get("services")
    for table in services.values() if isinstance(services, dict) else []:
        extended = table.get("extends") if isinstance(table, dict) else None
        path = extended.get("file") if isinstance(extended, dict) else None
        if isinstance(path, str) and _REMOTE.match(path):
            yield path


def _dollars(value: Any) -> Any:
    """Compose prints every dollar twice, so that what it prints could be read again."""
    if isinstance(value, str):
        return value.replace("$$", "$")
    if isinstance(value, dict):
        return {str(key): _dollars(inner) for key, inner in value.items()}
    return [_dollars(inner) for inner in value] if isinstance(value, list) else value


def _alone(plain: Composed, found: list[dict[str, Any]]) -> Composed:
    used = plain.files
    known = variables(Path(used[0]).absolute().parent)
    unresolved = [f"{name}: include" for name, one in zip(used, found, strict=True) if one.get("include")]
    merged: dict[str, dict[str, Any]] = {}
    model: dict[str, Any] = {"services": {}, "networks": {}, "configs": {}}
    for name, one in zip(used, found, strict=True):
        for service, table in (one.get("services") or {}).items():
            if not isinstance(table, dict):
                raise UsageError(f"compose file {name}: services.{service} is no mapping")
            merged[str(service)] = _merged(merged.get(str(service), {}), table)
        for key in ("networks", "configs"):
            model[key].update(one[key] if isinstance(one.get(key), dict) else {})
    inactive: dict[str, tuple[str, ...]] = {}
    for service, table in merged.items():
        if not _active(table, plain, known):
            inactive[service] = tuple(map(str, table["profiles"]))
            continue
        unresolved += [f"{service}: {key}" for key in ("extends", "env_file") if table.get(key)]
        unresolved += [f"{service}: ${name} is not set" for name in sorted(unset(table, known))]
        model["services"][service] = _filled(table, known)
    if not model["services"]:
        raise _none_active(used[0], inactive)
    return msgspec.structs.replace(plain, model=model, inactive=inactive, unresolved=tuple(unresolved))


def _filled(value: Any, known: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return filled(value, known)
    if isinstance(value, dict):
        return {str(key): _filled(inner, known) for key, inner in value.items()}
    return [_filled(inner, known) for inner in value] if isinstance(value, list) else value


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    found = dict(below)
    for key, value in above.items():
        old = found.get(key)
        if key in ("environment", "networks", "depends_on") and old is not None and value is not None:
            found[key] = {**mapping(old), **mapping(value)}
        elif isinstance(old, list) and isinstance(value, list) and key not in ("command", "entrypoint"):
            found[key] = [*old, *value]
        else:
            found[key] = value
    return found


def mapping(value: Any) -> dict[str, Any]:
    """Compose's mappings, which may be written as lists: `A=b` of an environment, names of networks."""
    if isinstance(value, dict):
        return {str(key): inner for key, inner in value.items()}
    if not isinstance(value, list):
        return {}
    found: dict[str, Any] = {}
    for item in value:
        key, equals, inner = str(item).partition("=")
        found[key] = inner if equals else None
    return found
