"""The compose file and the environment that Compose reads it with. Pure, but for reading the files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from harness.model.resources import resource

BUILD_TAG = "HARNESS_BUILD_TAG"
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)")
_PORT = re.compile(r"HARNESS_PORT_\w+")
_BUILT = re.compile(r"image: *(resilience-harness/([\w-]+))")
_BASE = re.compile(r"_IMAGE: *\$\{(\w+)")
_TAKEN = re.compile(r"image: *\$\{(\w+):-([^}]+)\}")
_BY_PROFILE = frozenset({"prometheus", "grafana"})
_NOT_PASSED = re.compile(r"COMPOSE_(?!PROFILES$|HTTP_TIMEOUT$).*|DOCKER_(HOST|CONTEXT)")


def compose_file() -> Path:
    return resource("compose", "compose.yaml")


def variables(text: str) -> tuple[str, ...]:
    """Names of the variables that a compose file reads, sorted, each once."""
    return tuple(sorted(set(_VARIABLE.findall(text))))


def bases(text: str) -> tuple[str, ...]:
    """Names of the variables that name an image on which another one is built."""
    return tuple(sorted(set(_BASE.findall(text))))


def taken_images(text: str, outer: Mapping[str, str]) -> dict[str, str]:
    """Variable -> image, for those that are used as they are. outer: the user's environment."""
    return {name: outer.get(name) or default for name, default in _TAKEN.findall(text)}


def environment(
    text: str, outer: Mapping[str, str], *, engine: str, take_port: Callable[[], int], tag: str, api: str = ""
) -> dict[str, str]:
    """What Compose is started with: the user's environment, the engine, and a free port for every HARNESS_PORT_* that
    the file reads and the user has not set. api: the lowest version of its API that the engine takes, "" = any.

    Which engine, file and project is said here and on the command line, never by a variable of the user's.
    """
    found = {key: value for key, value in outer.items() if not _NOT_PASSED.fullmatch(key)}
    for name in variables(text):
        if _PORT.fullmatch(name) and not outer.get(name):
            found[name] = str(take_port())
    found[BUILD_TAG] = tag
    found["DOCKER_HOST"] = engine
    if api:  # docker-compose 1.29 asks for a version that newer engines refuse; Compose v2 negotiates, and ignores it
        found["COMPOSE_API_VERSION"] = api
    return found


def built_images(text: str, tag: str, *, profiles: str) -> tuple[str, ...]:
    """Names of the images that are built for these profiles (separated by commas)."""
    chosen = {name.strip() for name in profiles.split(",")}
    if "grafana" in chosen:
        chosen.add("prometheus")
    return tuple(
        f"{name}:{tag}" for name, service in _BUILT.findall(text) if service not in _BY_PROFILE or service in chosen
    )


def build_tag(folder: Path, bases: Mapping[str, str]) -> str:
    """Tells the content of the folder that images are built from, and the images that they are built on.

    bases: variable -> what it names. The same content on the same bases has the same tag.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(f"{path.relative_to(folder)}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    for name, value in sorted(bases.items()):
        digest.update(f"{name}={value}\0".encode())
    return digest.hexdigest()[:12]
