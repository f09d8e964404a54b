"""Servers that Debian packages bring: mariadb-server, rabbitmq-server, memcached, pgbouncer, postgresql, redis-server.
Each test starts its own."""

from __future__ import annotations

import os
import shutil

import pytest


def program(name: str, package: str) -> str:
    """Path of a server's program; skips the test without it, unless HARNESS_REQUIRE_SERVERS=1 makes that a failure."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/lib/{package}/bin")
    if found is None:
        if os.environ.get("HARNESS_REQUIRE_SERVERS") == "1":
            pytest.fail(f"HARNESS_REQUIRE_SERVERS=1, and {name} (package {package}) is not on PATH")
        pytest.skip(f"needs {name} (package {package})")
    return found
