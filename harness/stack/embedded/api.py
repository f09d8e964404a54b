"""The sample API: the target. It sees the proxies' addresses only."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from harness.model.errors import SetupError
from harness.model.records.faults import Address
from harness.model.records.process import ServerSpec
from harness.model.resources import resource
from harness.stack.embedded import postgres, valkey
from harness.stack.embedded.private_folder import server_env
from harness.stack.embedded.valkey import missing_extra
from harness.stack.starting.ready import NotReady, fetched

TITLE = "Sample API"
NAME = "api"
PASSED_ON = frozenset(
    {
        "API_WORKERS",
        "CACHE_TTL_SECONDS",
        "DB_MAX_OVERFLOW",
        "DB_POOL_SIZE",
        "DB_TIMEOUT_MS",
        "KAFKA_BACKLOG",
        "KAFKA_NUM_WORKER_THREADS",
        "LOCAL_CACHE_ENTRIES",
        "PROFILE_TTL_MS",
        "REDIS_ENABLED",
        "REDIS_POOL_SIZE",
        "REDIS_TIMEOUT_MS",
        "RISK_POOL_SIZE",
        "RISK_TIMEOUT_MS",
        "WRITE_BACKLOG",
    }
)
PASSED_PREFIX = "ANOMALY_API_"


def check() -> None:
    """Raises SetupError when the API or a package that it needs is not installed."""
    if not (resource("compose", "api") / "anomaly_api" / "__init__.py").exists():
        raise SetupError(f"{TITLE}: {resource('compose', 'api')} is missing", hint="install resilience-harness again")
    for package in ("fastapi", "uvicorn", "asyncpg", "aiokafka"):
        if importlib.util.find_spec(package) is None:
            raise missing_extra(TITLE, package)


def settings(environment: Mapping[str, str]) -> dict[str, str]:
    """What the user set for the API, passed on unread."""
    return {key: value for key, value in environment.items() if key in PASSED_ON or key.startswith(PASSED_PREFIX)}


def workers(environment: Mapping[str, str]) -> int:
    """API_WORKERS, for shares of CPU; what it cannot read the API itself refuses."""
    text = environment.get("API_WORKERS", "").strip()
    return max(1, int(text)) if text.isdecimal() else 1


def spec(
    folder: Path,
    port: int,
    redis: Address,
    db: Address,
    kafka: Address,
    risk: Address,
    log: Path,
    own: Mapping[str, str] = MappingProxyType({}),
) -> ServerSpec:
    """redis, db, kafka, risk: the proxies' addresses. own: settings before those of the environment."""
    return ServerSpec(
        name=NAME,
        argv=(sys.executable, "-m", "anomaly_api"),
        env={
            **server_env(folder),
            **settings({**os.environ, **own}),
            "PYTHONPATH": str(resource("compose", "api")),
            "PYTHONUNBUFFERED": "1",
            "HOST": "127.0.0.1",
            "PORT": str(port),
            "REDIS_URL": f"redis://:{valkey.password()}@{redis}/0",
            "DATABASE_URL": f"postgresql://{postgres.ROLE}@{db}/{postgres.DATABASE}",
            "KAFKA_BOOTSTRAP_SERVERS": str(kafka),
            "RISK_URL": f"http://{risk}",
        },
        cwd=str(folder),
        log=str(log),
    )


def probe(address: Address) -> str | None:
    """GET /health answers 200 and names no dependency it does without; the API's version. Raises NotReady."""
    try:
        health = json.loads(fetched(f"http://{address}/health"))
    except (NotReady, ValueError) as error:
        raise NotReady(f"GET /health: {error}") from error
    if health.get("status") not in ("ok", "healthy"):
        raise NotReady(f"GET /health: {health.get('status')}, dependencies {health.get('dependencies')}")
    version = health.get("version")
    return version if isinstance(version, str) else None
