"""`python -m anomaly_api`: HOST, PORT and API_WORKERS from the environment."""

from __future__ import annotations

import os
import sys
import tempfile

from anomaly_api.settings import Settings

KEEP_ALIVE_S = 75
"""Longer than clients keep a connection: who closes first must not be the server, under a request on its way."""


def main() -> None:
    try:
        settings = Settings.from_environment(os.environ)
        host, port = os.environ.get("HOST") or "127.0.0.1", int(os.environ.get("PORT") or "8000")
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
