"""What `harness init` would write for what is in a folder: names of files and their texts. Nothing is written here."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Collection, Sequence
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import msgspec

from harness.config.compose_file import variables
from harness.config.containers import DEFAULT_FILES
from harness.model.errors import UsageError
from harness.scaffold import openapi_document, openapi_operations
from harness.scaffold.compose_services import Project, read_project
from harness.scaffold.configuration_file import EMPTY, for_project
from harness.scaffold.openapi_operations import Operation
from harness.scaffold.proxy_override import OVERRIDE, PROXIES, Front, override, plan_front, proxies
from harness.scaffold.starter_locustfile import starter
from harness.scaffold.written_files import TOML

LOCUSTFILE = "locustfile.py"
USUAL = (TOML, OVERRIDE, PROXIES, LOCUSTFILE)
RATE = 20
"""Requests a second that somebody's service survives about which nothing is known."""
_OVERRIDES = (
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
)


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for. files: of Compose, () = no project. front: None = all that are known. fronted: whether a
    proxy is wanted at all. openapi: a URL or a file. locustfile: its name, None = none is wanted. named: hosts that
    harness.toml names."""

    files: tuple[str, ...] = ()
    front: Sequence[str] | None = None
    apps: Sequence[str] = ()
    fronted: bool = True
    openapi: str | None = None
    locustfile: str | None = None
    named: Collection[str] = ()
    allow_hosts: Collection[str] = ()


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """texts: name -> text, harness.toml first; the others by what they are (`override`, `proxies`, `locustfile`) in
    names. unfronted: dependency -> why nothing is in front of it."""

    texts: dict[str, str]
    names: dict[str, str]
    unfronted: dict[str, str] = {}


def compose_files(folder: Path) -> tuple[str, ...]:
    """The files of the project in this folder that Compose would read by itself, () = there is none."""
    said = variables(folder)
    if said.get("COMPOSE_FILE"):
        names = said["COMPOSE_FILE"].split(said.get("COMPOSE_PATH_SEPARATOR") or ":")
        return tuple(name for name in names if name)
    found = [name for name in DEFAULT_FILES if (folder / name).is_file()][:1]
    return (*found, *[name for name in _OVERRIDES if found and (folder / name).is_file()][:1])


def proposal(asked: Asked) -> Proposal:
    """Raises UsageError."""
    names = {"toml": TOML}
    texts = {TOML: EMPTY}
    unfronted: dict[str, str] = {}
    if asked.files:
        project = read_project(asked.files)
        front, unfronted = _front(project, asked) if asked.fronted else (None, {})
        texts[TOML] = for_project(project, front, None)
        if front is not None:
            beside = PurePath(_here(project.files[0])).parent
            names |= {"override": str(beside / OVERRIDE), "proxies": str(beside / PROXIES)}
            texts[names["override"]] = override(front, _command(asked))
            texts[names["proxies"]] = proxies(front)
    if asked.locustfile is not None:
        _with_requests(asked, asked.locustfile, names, texts)
    return Proposal(texts=texts, names=names, unfronted=unfronted)


def next_steps(found: Proposal, asked: Asked) -> list[str]:
    """What is left to be said in harness.toml, and commands in their order, each with what it is for."""
    tables = tomllib.loads(found.texts[TOML])
    lines = []
    if not tables.get("target", {}).get("url"):
        lines.append("say in harness.toml which service is tested: no url of the target could be seen")
    if "locustfile" not in tables.get("run", {}):
        lines.append(
            "name the Locust file with your requests in [run] of harness.toml; init writes one with --locustfile"
        )
    if "override" in found.names:
        files = " ".join(f"-f {shlex.quote(name)}" for name in (*asked.files, found.names["override"]))
        lines.append(f"docker compose {files} up -d    # leads the application through Toxiproxy")
    lines.append("harness stack status    # does every part answer? changes nothing")
    proxied = [name for name, table in tables.get("dependencies", {}).items() if "proxy" in table]
    fault = f"{proxied[0]}-down" if proxied else "none"
    lines.append(f"harness plan --fault {fault}    # what a run would do; then `harness run` with the same words")
    lines.append("harness init --remove    # removes these files again, those that you changed excepted")
    return lines


def _front(project: Project, asked: Asked) -> tuple[Front | None, dict[str, str]]:
    """The front that was asked for; else one of everything that is known to be a dependency and can have a proxy."""
    if asked.front is not None:
        return plan_front(project, asked.front, asked.apps), {}
    front: Front | None = None
    chosen: list[str] = []
    unfronted: dict[str, str] = {}
    for service in project.services.values():
        if service.guess()[0].images is None:
            continue
        try:
            front = plan_front(project, [*chosen, service.name], asked.apps)
            chosen.append(service.name)
        except UsageError as error:
            unfronted[service.name] = str(error).removeprefix(f"--front {service.name}: ").removeprefix("--front: ")
    return front, unfronted


def _with_requests(asked: Asked, name: str, names: dict[str, str], texts: dict[str, str]) -> None:
    """The Locust file, and harness.toml so that a run uses it at a rate to begin with."""
    if not name.endswith(".py"):
        raise UsageError(f"--locustfile {name}: a name that ends in .py is wanted", hint=f"--locustfile {LOCUSTFILE}")
    found: tuple[Operation, ...] = ()
    if asked.openapi is not None:
        document = openapi_document.read(asked.openapi, named=asked.named, allow_hosts=asked.allow_hosts)
        found = openapi_operations.operations(document)
        if not found:
            raise UsageError(
                f"{asked.openapi}: it has no operations", hint="`paths` of the document says what can be asked"
            )
    names["locustfile"] = name
    # A query may hold a token.
    texts[name] = starter(found, asked.openapi and asked.openapi.partition("?")[0])
    toml = texts[TOML]
    for key, value in (("scale", None), ("rate", RATE), ("scenario", "baseline"), ("locustfile", name)):
        toml = _set(toml, "run", key, value)
    if asked.openapi is not None:
        if not asked.files and openapi_document.is_url(asked.openapi):
            # Where the document is the service is. A server that the document names may be anybody's.
            parts = urlsplit(asked.openapi)
            toml = _set(toml, "target", "url", urlunsplit((parts.scheme, parts.netloc, "", "", "")))
        path = openapi_operations.health(found)
        if path is not None or not asked.files:
            toml = _set(toml, "target", "health", path)
    texts[TOML] = toml


def _set(text: str, table: str, key: str, value: Any) -> str:
    """This harness.toml with a key of a table set, or taken out (None). Its comments stay."""
    lines = text.splitlines()
    heads = [number for number, line in enumerate(lines) if re.match(r"\[", line)]
    head = next((number for number in heads if re.match(rf"\[{table}\]\s*(#|$)", lines[number])), None)
    if head is None:
        return text if value is None else f"{text}\n[{table}]\n{key} = {json.dumps(value)}\n"
    end = next((number for number in heads if number > head), len(lines))
    there = next((n for n in range(head + 1, end) if re.match(rf"(# *)?{key} *=", lines[n])), None)
    new = [] if value is None else [f"{key} = {json.dumps(value)}"]
    if there is not None:
        lines[there : there + 1] = new
    else:
        lines[head + 1 : head + 1] = new
    return "\n".join(lines) + "\n"


def _here(name: str) -> str:
    """A file's name from this folder, where it lies below it."""
    path, folder = Path(name), Path.cwd()
    return str(path.relative_to(folder)) if path.is_absolute() and path.is_relative_to(folder) else name


def _command(asked: Asked) -> str:
    words = ["harness", "init"]
    for name in asked.files:
        words += ["--compose", name]
    if asked.front is not None:
        words += ["--front", ",".join(asked.front)]
    return shlex.join([*words, *(["--app", ",".join(asked.apps)] if asked.apps else [])])
