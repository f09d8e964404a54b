"""What the benchmarks compare with: found on this machine, else installed once.

    python benchmarks/tools.py        finds or installs all of them and prints where each is and its version

nginx and wrk come from the system's packages (apt-get, as root); vegeta and k6 are built by `go install` at the
pinned versions below, with checksums verified by Go, into the harness's cache folder (about 1 min and 4 min, once).
Locust is a dependency of the harness.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from harness.model.errors import SetupError
from harness.model.paths import cache_dir
from harness.stack.starting.child import Child
from harness.stack.starting.fetch import ensure_file, work_folder

GO_TOOLS = {"vegeta": ("github.com/tsenart/vegeta/v12", "v12.13.0"), "k6": ("go.k6.io/k6", "v1.8.1")}
"""name -> (Go module, version)."""
APT_TOOLS = ("nginx", "wrk")
ALL = (*APT_TOOLS, *GO_TOOLS)
_BUILD_LIMIT_S = 1800.0
_INSTALL_LIMIT_S = 300.0


def find(name: str) -> Path:
    """The program of this name, installed first when it is missing. Raises SetupError, saying what would help."""
    on_path = _on_path(name)
    if on_path is not None:
        return on_path
    if name in GO_TOOLS:
        module, version = GO_TOOLS[name]
        path = cache_dir() / "benchmarks" / f"{name}-{version}-{os.uname().machine}"
        return ensure_file(
            path, lambda to: _build(name, module, version, to), title=name, progress=_say, executable=True
        )
    _apt_install(name)
    installed = _on_path(name)
    if installed is None:
        raise SetupError(f"{name}: it was installed, but is not on PATH")
    return installed


def version_of(name: str) -> str:
    """The version that the program says it has, without its name."""
    if name in GO_TOOLS and _on_path(name) is None:
        return GO_TOOLS[name][1].removeprefix("v")
    argument = {"nginx": "-v", "vegeta": "-version"}.get(name, "--version")
    done = subprocess.run([str(find(name)), argument], capture_output=True, text=True, timeout=20, check=False)
    match = re.search(r"\d+\.\d+[.\d]*", done.stdout + done.stderr)
    return match[0] if match else "unknown"


def machine() -> str:
    """What the figures were made on."""
    model = "unknown processor"
    with suppress(OSError):
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        model = found[1] if found else model
    kernel = os.uname()
    versions = ", ".join(f"{name} {version_of(name)}" for name in ALL)
    day = time.strftime("%Y-%m-%d")
    return (
        f"{day}, {os.cpu_count()} cores ({model}), {kernel.sysname} {kernel.release.split('-')[0]}, "
        f"Python {sys.version.split()[0]}, Locust {version('locust')}, gevent {version('gevent')}, {versions}"
    )


def _on_path(name: str) -> Path | None:
    # Debian keeps nginx where only root's PATH looks.
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin"]))
    return Path(found) if found else None


def _apt_install(name: str) -> None:
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise SetupError(
            f"{name} is not on PATH", hint=f"install it (as root: apt-get install {name}), or leave it out"
        )
    _say(f"{name}: installing it with apt-get")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    # The package would start a server on port 80: init scripts are told not to (RUNLEVEL), and nothing here needs it.
    for arguments in (("update", "-q"), ("install", "-q", "-y", "--no-install-recommends", name)):
        Child(("apt-get", *arguments), env=environment, cwd=Path("/")).run(
            failed=f"{name}: apt-get {arguments[0]} failed", limit_s=_INSTALL_LIMIT_S
        )


def _build(name: str, module: str, version: str, to: Path) -> None:
    go = shutil.which("go")
    if go is None:
        raise SetupError(f"{name}: no go on PATH to build it with", hint=f"install Go, or put {name} on PATH")
    with work_folder(to.parent, name) as work:
        kept = {key: value for key, value in os.environ.items() if key not in ("GOBIN", "GOOS", "GOARCH", "GOWORK")}
        environment = kept | {
            "GOPATH": str(work / "gopath"),
            "GOCACHE": str(work / "gocache"),
            "GOTMPDIR": str(work),
            "GOTOOLCHAIN": "local",
            "GOFLAGS": "-modcacherw",
            "CGO_ENABLED": "0",
        }
        _say(f"{name}: building {version} (once)")
        Child((go, "install", "-trimpath", "-ldflags", "-s -w", f"{module}@{version}"), env=environment, cwd=work).run(
            failed=f"{name}: building {version} failed",
            hint=f"the Go module proxy must be reachable; or put {name} on PATH",
            limit_s=_BUILD_LIMIT_S,
            on_wait=lambda waited: _say(f"{name}: building {version}, {waited:.0f} s"),
        )
        shutil.move(work / "gopath" / "bin" / name, to)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def main() -> int:
    failed = 0
    for name in ALL:
        try:
            print(f"{name:<7} {version_of(name):<10} {find(name)}")
        except SetupError as error:
            failed = 1
            print(f"{name:<7} {error}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
