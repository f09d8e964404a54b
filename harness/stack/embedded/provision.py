"""Before a start: every part's files, from the cache or fetched and made, side by side."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from harness.model.records.stack import Progress
from harness.stack.embedded import api, java, kafka_archive, kafka_files, postgres, toxiproxy, valkey


class Files(msgspec.Struct, frozen=True):
    """What a start needs, verified. kafka_classes: None = Kafka starts without prepared classes."""

    toxiproxy: Path
    cluster: Path
    java: java.Java
    kafka: kafka_files.KafkaFiles
    kafka_classes: Path | None


def ensure(progress: Progress, stop: threading.Event) -> Files:
    """Fetch, build and verify. Setting `stop` ends it, and so does the first part that fails.

    Raises SetupError with the first part's failure.
    """
    # These take no time and say at once that the extra is not installed.
    valkey.binary()
    api.check()

    def kafka() -> tuple[java.Java, kafka_files.KafkaFiles, Path | None]:
        runtime = java.find()
        files = kafka_files.ensure(runtime, progress, stop)
        return runtime, files, kafka_archive.ensure(runtime, files, progress, stop)

    program, cluster, (runtime, files, classes) = together(
        lambda: toxiproxy.ensure(progress, stop), lambda: postgres.ensure(progress, stop), kafka, stop=stop
    )
    return Files(program, cluster, runtime, files, classes)


def together(*parts: Callable[[], Any], stop: threading.Event) -> list[Any]:
    """Run the parts side by side; their results in order.

    When one fails, `stop` is set so that the others end soon, and the first failure is raised.
    """
    with concurrent.futures.ThreadPoolExecutor(len(parts), thread_name_prefix="stack") as pool:
        jobs = [pool.submit(part) for part in parts]
        failure: BaseException | None = None
        try:
            for job in concurrent.futures.as_completed(jobs):
                error = job.exception()
                if error is not None and failure is None:
                    failure = error
                    stop.set()
        except BaseException:
            stop.set()  # Ctrl-C in the thread that waits
            raise
        if failure is not None:
            raise failure
        return [job.result() for job in jobs]
