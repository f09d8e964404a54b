"""Why a Docker engine cannot be spoken to, and how to mend it."""

from __future__ import annotations

import os
from pathlib import Path

from harness.adapters.docker.errors import EngineAbsent, EngineDenied


def cause_of(error: BaseException) -> BaseException:
    """The operating system's error below those of the HTTP libraries; the error itself when there is none."""
    todo: list[object] = [error]
    looked: set[int] = set()
    while todo:
        one = todo.pop(0)
        if not isinstance(one, BaseException) or id(one) in looked:
            continue
        looked.add(id(one))
        if type(one).__module__ == "builtins" and isinstance(one, OSError):
            return one
        todo += [*one.args, getattr(one, "reason", None), one.__cause__, one.__context__]
    return error


def absent(url: str, cause: BaseException) -> EngineAbsent:
    why = "nobody listens there" if isinstance(cause, ConnectionRefusedError) else "there is no such socket"
    return EngineAbsent(f"no Docker engine answers at {url}: {why}", hint=_start_one(url))


def denied(url: str) -> EngineDenied:
    path = url.removeprefix("unix://")
    return EngineDenied(
        f"this user (uid {os.geteuid()}) may not use the Docker engine at {url}: permission denied on its socket",
        hint=f"become a member of the group that owns {path}: sudo usermod -aG {_group(path)} $USER, then log in again",
    )


def _start_one(url: str) -> str:
    other = _rootless()
    if other is not None and url != other:
        return f"start it, or use your rootless engine: export DOCKER_HOST={other}"
    if url.startswith("unix://"):
        return "start it (sudo systemctl start docker, or Docker Desktop), or name another one in DOCKER_HOST"
    return "start it, or correct DOCKER_HOST (docker context ls shows the engines that docker knows)"


def _rootless() -> str | None:
    folder = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    socket = Path(folder) / "docker.sock"
    try:
        return f"unix://{socket}" if socket.is_socket() else None
    except OSError:
        return None


def _group(path: str) -> str:
    import grp

    try:
        name = grp.getgrgid(Path(path).stat().st_gid).gr_name
    except (OSError, KeyError):
        return "docker"
    return "docker" if name == "root" else name
