"""Which Compose there is: `docker compose`, else `docker-compose`."""

from __future__ import annotations

import os
import re

import msgspec

from harness.model.errors import UsageError
from harness.stack.starting.child import answer_of

NEEDED = (1, 28)
"""The first docker-compose that knows profiles and `--ansi`; a file without `version:` it reads since 1.27."""
HINT = "install the Compose plugin of Docker, or docker-compose 1.29 (Debian: apt install docker-compose)"


class ComposeCommand(msgspec.Struct, frozen=True):
    """argv: how it is called. version: as it says itself ("2.35.1")."""

    argv: tuple[str, ...]
    version: str


def find() -> ComposeCommand:
    """The one to use. Raises UsageError in one line when there is none, or none that is new enough."""
    trouble = []
    for argv in (("docker", "compose"), ("docker-compose",)):
        said = _version(argv)
        if said is None:
            continue
        found = re.match(r"v?(\d+)\.(\d+)", said)
        if found is None or (int(found[1]), int(found[2])) < NEEDED:
            trouble.append(f"{' '.join(argv)} {said}")
            continue
        return ComposeCommand(argv, said.removeprefix("v"))
    if trouble:
        raise UsageError(f"{', '.join(trouble)} is too old for --stack compose", hint=HINT)
    raise UsageError("--stack compose needs `docker compose` or `docker-compose`; neither is there", hint=HINT)


def _version(argv: tuple[str, ...]) -> str | None:
    # Newer clients without the plugin knock at the engine first, and it may be one that must not be asked.
    env = {**os.environ, "DOCKER_CLI_HINTS": "false", "DOCKER_HOST": "unix:///dev/null"}
    done = answer_of(*argv, "version", "--short", env=env)
    if done is None:
        return None
    # docker without the plugin takes `version` for its own, or says that there is no such command.
    lines = done.stdout.split()
    return lines[0] if done.returncode == 0 and lines and re.match(r"v?\d+\.\d+", lines[0]) else None
