"""What `harness init` would write for what is in a folder: names of files and their texts. Nothing is written here."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import msgspec

from harness.model.errors import UsageError
from harness.scaffold.compose_config import OVERRIDE
from harness.scaffold.compose_proposal import compose_proposal
from harness.scaffold.configuration_file import EMPTY, LOCUSTFILE, RATE
from harness.scaffold.openapi import document as openapi_document
from harness.scaffold.openapi import operations as openapi_operations
from harness.scaffold.openapi.operations import Operation
from harness.scaffold.proxy_override import FRONTS, PROXIES, beside_compose
from harness.scaffold.starter_locustfile import starter
from harness.scaffold.written_files import TOML

USUAL = (TOML, OVERRIDE, PROXIES, FRONTS, LOCUSTFILE)


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for. files: of Compose, () = no project. front: stores, () = all that the application uses.
    openapi: a URL or a file. locustfile: its name, None = one is written where none is here, for a compose project.
    named: hosts that harness.toml names."""

    files: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()
    front: tuple[str, ...] = ()
    apps: tuple[str, ...] = ()
    openapi: str | None = None
    locustfile: str | None = None
    named: Collection[str] = ()
    allow_hosts: Collection[str] = ()


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """texts: name -> text, harness.toml first; the others by what they are (`override`, `proxies`, `envoy`,
    `locustfile`) in names. read: the compose files. told: who goes through a proxy, who does not and why, without full
    stops."""

    texts: dict[str, str]
    names: dict[str, str]
    read: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    up: str | None = None


def proposal(asked: Asked) -> Proposal:
    """Raises UsageError."""
    names = {"toml": TOML}
    if not asked.files:
        texts = {TOML: EMPTY}
        if asked.locustfile is not None:
            _with_requests(asked, asked.locustfile, names, texts)
        return Proposal(texts=texts, names=names)
    found = compose_proposal(
        asked.files, profiles=asked.profiles, chosen=asked.front, apps=asked.apps, command=_command(asked)
    )
    texts = {name: text for name, text in found.files.items() if name != LOCUSTFILE}
    for what, usual in (("override", OVERRIDE), ("proxies", PROXIES), ("envoy", FRONTS)):
        name = beside_compose(found.front, usual)
        names |= {what: name} if name in texts else {}
    if asked.openapi is not None or asked.locustfile not in (None, LOCUSTFILE):
        _with_requests(asked, asked.locustfile or LOCUSTFILE, names, texts)
    elif asked.locustfile is not None or LOCUSTFILE in found.files:
        names["locustfile"], texts[LOCUSTFILE] = LOCUSTFILE, found.locustfile
    read = found.front.project.composed.files
    return Proposal(texts=texts, names=names, read=read, told=found.told, up=found.up)


def next_steps(found: Proposal) -> list[str]:
    """What is left to be said in harness.toml, and commands in their order, each with what it is for."""
    tables = tomllib.loads(found.texts[TOML])
    lines = []
    if not tables.get("target", {}).get("url"):
        lines.append("say in harness.toml which service is tested: no url of the target could be seen")
    if "locustfile" not in tables.get("run", {}):
        lines.append(
            "name the Locust file with your requests in [run] of harness.toml; init writes one with --locustfile"
        )
    if found.up is not None:
        lines.append(f"{found.up}    # leads the application through Toxiproxy")
    lines.append("harness doctor    # would a run mean something, and if not, why not?")
    proxied = [name for name, table in tables.get("dependencies", {}).items() if "proxy" in table]
    fault = f"{proxied[0]}-down" if proxied else "none"
    lines.append(f"harness plan --fault {fault}    # what a run would do; then `harness run` with the same words")
    lines.append("harness init --remove    # removes these files again, those that you changed excepted")
    return lines


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


def _command(asked: Asked) -> str:
    words = ["harness", "init"]
    for name in asked.files:
        words += ["--compose", name]
    for name in asked.profiles:
        words += ["--profile", name]
    words += ["--front", ",".join(asked.front)] if asked.front else []
    return shlex.join([*words, *(["--app", ",".join(asked.apps)] if asked.apps else [])])
