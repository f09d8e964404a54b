"""Kafka's classes as one Java run left them: a later start need not load and check them again.

On two cores it takes a start of Kafka from 3 s to 2 s (Java 17) or 1.4 s (Java 25). It is only that: without it
everything works.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from harness.model.errors import SetupError
from harness.model.paths import cache_dir
from harness.model.records.faults import Address
from harness.model.records.stack import Progress
from harness.stack.embedded import kafka
from harness.stack.embedded.java import Java
from harness.stack.embedded.kafka_files import KafkaFiles
from harness.stack.embedded.private_folder import temporary_base
from harness.stack.starting.fetch import ensure_file
from harness.stack.starting.ports import Ports
from harness.stack.starting.ready import Interrupted, NotReady

START_LIMIT_S = 60.0
EXIT_LIMIT_S = 90.0
KEPT = 3
"""Archives of other Javas, of 50 to 65 MB each, that stay in the cache, this one included."""


def ensure(java: Java, files: KafkaFiles, progress: Progress, stop: threading.Event | None = None) -> Path | None:
    """The archive for this Java and these jars, checked; recorded first by starting a broker once.

    None when it cannot be made. Raises Interrupted.
    """
    folder = cache_dir() / "kafka" / kafka.VERSION
    path = folder / f"classes-{java.major}-{_key(java, files)}.archive"
    failed = path.with_suffix(".failed")
    if failed.exists():
        return None
    try:
        return ensure_file(
            path,
            lambda target: _record(target, java, files, progress, stop),
            title=kafka.TITLE,
            progress=progress,
        )
    except Interrupted:
        raise
    except SetupError as error:
        progress(f"{kafka.TITLE}: starts stay slower: {str(error).splitlines()[0]}")
        with contextlib.suppress(OSError):
            failed.write_text(f"{error}\n", "utf-8")  # not tried again for this Java and these jars
        return None


def _key(java: Java, files: KafkaFiles) -> str:
    """An archive holds for one Java, one class path and the files as they are."""
    jars = [(str(jar), jar.stat().st_mtime_ns, jar.stat().st_size) for jar in files.jars]
    return hashlib.sha256(repr((str(java.program), java.text, jars)).encode()).hexdigest()[:12]


def _record(target: Path, java: Java, files: KafkaFiles, progress: Progress, stop: threading.Event | None) -> None:
    progress(f"{kafka.TITLE}: preparing quicker starts (once, about ten seconds)")
    forget_oldest(target.parent, KEPT - 1)
    work = Path(tempfile.mkdtemp(prefix="harness-", dir=temporary_base()))
    try:
        with Ports() as ports, (work / "log").open("wb") as log:
            direct = ports.take()
            kafka.prepare(files, work, kafka.KafkaPorts(ports.take(), direct, ports.take(), direct))
            spec = kafka.spec(java, files, None, work, work / "log")
            made = work / "classes.archive"
            process = subprocess.Popen(
                (spec.argv[0], *java.flags(None, record=made), *spec.argv[-2:]),
                env=spec.env,
                cwd=spec.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            try:
                _serve_once(process, Address("127.0.0.1", direct), stop)
            finally:
                # Java 25 writes the archive in a child, so the whole session goes.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if not made.exists():
            raise SetupError(f"{java.text} wrote no class archive")
        made.chmod(0o644)
        target.write_bytes(made.read_bytes())
    finally:
        shutil.rmtree(work, ignore_errors=True)


def forget_oldest(folder: Path, keep: int) -> None:
    """Remove all but the newest archives. Some stay, for whoever goes to and fro between two Javas."""
    archives = sorted(folder.glob("classes-*.archive"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in archives[keep:]:
        for path in (old, *folder.glob(f"{old.name}.*")):
            path.unlink(missing_ok=True)


def _serve_once(process: subprocess.Popen[bytes], address: Address, stop: threading.Event | None) -> None:
    """Let it come up and answer, then end it in order: the archive is written at exit."""
    served = False
    limit = time.monotonic() + START_LIMIT_S
    while process.poll() is None:
        if stop is not None and stop.is_set():
            raise Interrupted(f"{kafka.TITLE}: stopped while it was set up")
        if time.monotonic() > limit:
            raise SetupError(f"the broker did not {'end' if served else 'answer'} in time")
        if not served:
            with contextlib.suppress(NotReady):
                kafka.probe(address)
                served = True
                process.send_signal(signal.SIGTERM)
                limit = time.monotonic() + EXIT_LIMIT_S
        time.sleep(0.1)
    if not served:
        raise SetupError(f"the broker ended with exit code {process.returncode}")
