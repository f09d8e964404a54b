"""`python -m anomaly_api`: HOST, PORT and API_WORKERS from the environment."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping

from anomaly_api.settings import Settings

KEEP_ALIVE_S = 75
"""Longer than clients keep a connection: who closes first must not be the server, under a request on its way."""


def address(env: Mapping[str, str]) -> tuple[str, int]:
    """Where to listen. Raises ValueError in one line, naming the variable."""
    port = (env.get("PORT") or "8000").strip()
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise ValueError(f"PORT={port}: a number from 0 to 65535 is wanted")
    return env.get("HOST") or "127.0.0.1", int(port)


def main() -> None:
    try:
        settings = Settings.from_environment(os.environ)
        host, port = address(os.environ)
    except ValueError as error:
        sys.exit(f"anomaly_api: {error}")
    import uvicorn

    with tempfile.TemporaryDirectory(prefix="anomaly-api-") as folder:
        if settings.workers > 1:
            # Workers add their numbers up in files here, so that /metrics is the same whichever worker answers.
            os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", folder)
        uvicorn.run(
            "anomaly_api.app:app",
            host=host,
            port=port,
            workers=settings.workers,
            access_log=settings.access_log,
            log_level="warning",
            timeout_keep_alive=KEEP_ALIVE_S,
        )


if __name__ == "__main__":
    main()
