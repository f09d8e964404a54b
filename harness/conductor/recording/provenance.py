"""Where a result comes from: machine, versions, command."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version

import psutil

import harness
from harness.model.records.plan import Provenance

PACKAGES = ("locust", "gevent", "toxiproxy-python", "docker", "psycopg", "redis", "msgspec")


def provenance(command: str, versions: dict[str, str], target_version: str | None) -> Provenance:
    """What a reader needs to trust and repeat a run. command: as typed, secrets are never on a command line."""
    found = dict(versions)
    for package in PACKAGES:
        try:
            # Not by its bare name, which may be a server's: redis is both.
            found[f"python {package}"] = version(package)
        except PackageNotFoundError:
            continue
    return Provenance(
        harness=harness.__version__,
        command=command,
        machine=f"{platform.system()} {platform.release()} {platform.machine()}",
        cpus=os.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        python=platform.python_version(),
        versions=found,
        target_version=target_version,
        git=_git_head(),
    )


def _git_head() -> str | None:
    """The commit of the directory the run was started in: usually the service under test."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=2, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
