"""`python -m anomaly_api`: HOST, PORT and API_WORKERS from the environment."""

from __future__ import annotations

import os
import sys
import tempfile

import uvicorn

from anomaly_api.settings import Settings


def main() -> None:
    try:
        settings = Settings.from_environment(os.environ)
    except ValueError as error:
        sys.exit(f"anomaly_api: {error}")
    host, port = os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8000"))
    with tempfile.TemporaryDirectory(prefix="anomaly-api-") as folder:
        if settings.workers > 1:
            # Workers add their numbers up in files here, so that /metrics is the same whichever worker answers.
            os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", folder)
        uvicorn.run(
            "anomaly_api.app:app", host=host, port=port, workers=settings.workers, access_log=settings.access_log
        )


if __name__ == "__main__":
    main()
