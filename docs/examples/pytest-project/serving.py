"""The shop as a process of its own, for as long as tests want it."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

SHOP = os.environ.get("SHOP", "shop")  # or shop_mended


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def serving(redis, folder):
    """Its URL. redis: HOST:PORT at which it is to find Redis. folder: for its log."""
    url = f"http://127.0.0.1:{free_port()}"
    port = url.rpartition(":")[2]
    with (folder / "shop.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", f"{SHOP}:app", "--port", port, "--log-level", "warning"],
            cwd=Path(__file__).parent,
            env={**os.environ, "REDIS_URL": f"redis://{redis}/0"},
            stdout=log,
            stderr=log,
        )
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{url}/health", timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, "the shop has ended"
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(20)
