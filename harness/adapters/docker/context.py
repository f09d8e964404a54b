"""Which Docker engine the `docker` command would talk to, told without asking it.

The order is the docker command's: DOCKER_HOST; else the context that DOCKER_CONTEXT names; else the one that
`docker context use` wrote into config.json (in DOCKER_CONFIG, else ~/.docker); else the socket of this machine.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from harness.adapters.allowed_hosts import check_address, url_address
from harness.model.errors import Refused, UsageError, unknown

DEFAULT_ENGINE = "unix:///var/run/docker.sock"
_PORT, _TLS_PORT = 2375, 2376
_T = TypeVar("_T")


class EngineChoice(msgspec.Struct, frozen=True, kw_only=True):
    """url: base URL of the engine. source: what chose it, for people. note: a disagreement to tell, or None."""

    url: str
    source: str
    note: str | None = None


class TlsFiles(msgspec.Struct, frozen=True, kw_only=True):
    """Paths of certificates for an engine on TCP. verify: check the engine's own certificate."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    verify: bool = True


class _DockerEndpoint(msgspec.Struct, frozen=True):
    host: str = msgspec.field(name="Host", default="")
    skip_tls_verify: bool = msgspec.field(name="SkipTLSVerify", default=False)


class _Endpoints(msgspec.Struct, frozen=True):
    docker: _DockerEndpoint = _DockerEndpoint()


class _Context(msgspec.Struct, frozen=True):
    name: str = msgspec.field(name="Name", default="")
    endpoints: _Endpoints = msgspec.field(name="Endpoints", default=_Endpoints())


class _ConfigFile(msgspec.Struct, frozen=True):
    current_context: str = msgspec.field(name="currentContext", default="")


def engine_url(env: Mapping[str, str] | None = None) -> str:
    """Base URL of the engine that the docker command would use. Raises UsageError as choose_engine does."""
    return choose_engine(env).url


def choose_engine(env: Mapping[str, str] | None = None) -> EngineChoice:
    """The engine that the docker command would use. env: None = this process's environment.

    Where DOCKER_HOST and a chosen context lead to different engines, DOCKER_HOST wins and `note` says so. Raises
    UsageError for a context that does not exist, a file of docker's that cannot be read, and a URL that is none.
    """
    env = os.environ if env is None else env
    host = env.get("DOCKER_HOST", "")
    if host:
        chosen = EngineChoice(url=normal_url(host, env), source="DOCKER_HOST")
        return msgspec.structs.replace(chosen, note=_disagreement(chosen.url, env))
    name, source = _context_name(env)
    if name == "default":
        return EngineChoice(url=DEFAULT_ENGINE, source="the default socket")
    return EngineChoice(url=normal_url(_context(name, source, env).endpoints.docker.host, env), source=source)


def normal_url(text: str, env: Mapping[str, str] | None = None) -> str:
    """An engine's address as the docker command takes it (`tcp://` and the port may be left out) as a full URL.

    Raises UsageError for what is none.
    """
    env = os.environ if env is None else env
    scheme, found, rest = text.strip().partition("://")
    if not found:
        scheme, rest = "tcp", scheme
    if scheme == "unix":
        path = rest or DEFAULT_ENGINE.removeprefix("unix://")
        if not path.startswith("/"):
            raise UsageError(f"{text!r} is no address of a Docker engine", hint=f"for example: {DEFAULT_ENGINE}")
        return f"unix://{path}"
    if scheme in ("tcp", "http", "https"):
        default = 443 if scheme == "https" else _TLS_PORT if env.get("DOCKER_TLS_VERIFY") else _PORT
        name, port = url_address(f"tcp://{rest.rstrip('/')}", default)
        return f"{'tcp' if scheme == 'http' else scheme}://{f'[{name}]' if ':' in name else name}:{port}"
    if scheme == "ssh":
        return text.strip()
    raise UsageError(
        f"{text!r} is no address of a Docker engine: {scheme}:// is not known",
        hint=f"unix:// and tcp:// are, for example: {DEFAULT_ENGINE}",
    )


def check_engine(url: str, *, allow_hosts: Collection[str] = ()) -> None:
    """Raise Refused unless the engine is on this machine, or its host is named in `allow_hosts` (--allow-host).

    A configuration that names a private address does not allow its Docker engine: whoever may speak to an engine may
    do everything on its machine. ssh:// is refused in any case: nothing here speaks it.
    """
    if url.startswith("unix:///"):
        return
    if url.startswith("ssh://"):
        raise Refused(
            f"the Docker engine {url} is behind ssh, which cannot be used",
            hint="run the harness on that machine, or choose another engine: docker context use default",
        )
    if not url.startswith(("tcp://", "https://")):
        raise Refused(f"{url} is no address of a Docker engine", hint=f"for example: {DEFAULT_ENGINE}")
    host, port = url_address(url, _PORT)
    try:
        check_address(host, port, (), allow_hosts=allow_hosts)
    except Refused as error:
        raise Refused(
            f"the Docker engine {url} is on another machine",
            hint=f"if its containers are meant: --allow-host {host}; else: docker context use default, and unset"
            " DOCKER_HOST",
        ) from error


def engine_address(url: str) -> tuple[str, int] | None:
    """Host and port of an engine on TCP; None for a socket of this machine. Raises UsageError for what is no URL."""
    return None if url.startswith("unix://") else url_address(url, _PORT)


def tls_files(url: str, env: Mapping[str, str] | None = None) -> TlsFiles | None:
    """The certificates for an engine on TCP: DOCKER_TLS_VERIFY and DOCKER_CERT_PATH, else those of the context with
    this address. None = plain TCP. Raises UsageError where a context cannot be read."""
    env = os.environ if env is None else env
    if url.startswith("unix://"):
        return None
    if env.get("DOCKER_TLS_VERIFY") or env.get("DOCKER_TLS"):
        folder = Path(env.get("DOCKER_CERT_PATH") or _config_dir(env))
        return _certificates(folder, verify=bool(env.get("DOCKER_TLS_VERIFY")))
    for meta in sorted((_config_dir(env) / "contexts" / "meta").glob("*/meta.json")):
        context = _decode(meta, _Context)
        endpoint = context.endpoints.docker
        if endpoint.host and normal_url(endpoint.host, env) == url:
            folder = _config_dir(env) / "contexts" / "tls" / meta.parent.name / "docker"
            if folder.is_dir():
                return _certificates(folder, verify=not endpoint.skip_tls_verify)
    return TlsFiles() if url.startswith("https://") else None


def _certificates(folder: Path, *, verify: bool) -> TlsFiles:
    found = {name: str(folder / f"{name}.pem") for name in ("ca", "cert", "key") if (folder / f"{name}.pem").is_file()}
    return TlsFiles(ca=found.get("ca"), cert=found.get("cert"), key=found.get("key"), verify=verify)


def _disagreement(url: str, env: Mapping[str, str]) -> str | None:
    try:
        name, source = _context_name(env)
        if name == "default":
            return None
        other = normal_url(_context(name, source, env).endpoints.docker.host, env)
    except UsageError as error:
        return f"DOCKER_HOST is used ({url}); the docker context is not: {error}"
    if other == url:
        return None
    return f"DOCKER_HOST ({url}) and {source} ({other}) lead to different engines; DOCKER_HOST is used, as by docker"


def _context_name(env: Mapping[str, str]) -> tuple[str, str]:
    """The context in force and what chose it."""
    named = env.get("DOCKER_CONTEXT", "")
    if named:
        return named, f"DOCKER_CONTEXT={named}"
    file = _config_dir(env) / "config.json"
    if not file.is_file():
        return "default", "the default socket"
    current = _decode(file, _ConfigFile).current_context or "default"
    return current, f"the docker context {current}"


def _context(name: str, source: str, env: Mapping[str, str]) -> _Context:
    contexts = _config_dir(env) / "contexts" / "meta"
    file = contexts / hashlib.sha256(name.encode()).hexdigest() / "meta.json"
    if not file.is_file():
        others = [_decode(each, _Context).name for each in sorted(contexts.glob("*/meta.json"))]
        error = unknown("docker context", name, ["default", *others])
        raise UsageError(f"{error} (chosen by {source.partition('=')[0]})", hint=error.hint)
    found = _decode(file, _Context)
    if not found.endpoints.docker.host:
        raise UsageError(f"the docker context {name} names no Docker engine ({file})")
    return found


def _config_dir(env: Mapping[str, str]) -> Path:
    named = env.get("DOCKER_CONFIG", "")
    return Path(named) if named else Path(env.get("HOME") or str(Path("~").expanduser())) / ".docker"


def _decode(file: Path, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(file.read_bytes(), type=kind)
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror or error}") from error
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise UsageError(f"{file} is not as docker writes it: {error}") from error
