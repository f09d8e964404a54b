"""The main loop wakes up in time whatever signals arrive."""

from __future__ import annotations

import subprocess
import sys

BOMBARDED = """
import os, queue, random, signal, threading, time
from harness.conductor.worker_threads import Inbox

def slow(*_):
    time.sleep(0.001)  # a handler that takes a moment: the limit passes while it runs

signal.signal(signal.SIGTERM, slow)
inbox, last = Inbox(), [time.monotonic()]

def bombard():
    end = time.monotonic() + 3
    while time.monotonic() < end:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(random.uniform(0.001, 0.03))
    time.sleep(1)
    os._exit(0 if time.monotonic() - last[0] < 1 else 1)

threading.Thread(target=bombard, daemon=True).start()
while True:
    last[0] = time.monotonic()
    try:
        inbox.get(timeout=0.02)
    except queue.Empty:
        pass
"""


def test_a_signal_at_the_last_moment_of_a_wait_does_not_make_it_endless() -> None:
    done = subprocess.run([sys.executable, "-c", BOMBARDED], timeout=60, check=False)
    assert done.returncode == 0, "the loop stood still"
