"""Kafka's jars and a formatted data folder: fetched or made once, then from the cache."""

from __future__ import annotations

import concurrent.futures
import io
import shutil
import tarfile
import tempfile
import threading
import uuid
from base64 import urlsafe_b64encode
from importlib import resources
from pathlib import Path

import msgspec

from harness.model.errors import SetupError
from harness.model.paths import cache_dir
from harness.model.records.stack import Progress
from harness.stack.embedded.java import Java
from harness.stack.embedded.private_folder import server_env, temporary_base
from harness.stack.embedded.valkey import missing_extra
from harness.stack.starting.child import Child
from harness.stack.starting.fetch import (
    cache_error,
    check_folder,
    ensure_file,
    is_intact,
    locked,
    make_folder,
    work_folder,
)
from harness.stack.starting.ready import Interrupted

TITLE = "Kafka"
VERSION = "4.4.0"
AT_ONCE = 6
FETCH_TIMEOUT_S = 60
TOOL_LIMIT_S = 120.0


class Jar(msgspec.Struct, frozen=True):
    """One line of kafka-jars.txt: Maven coordinates and the file's SHA-256."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def filename(self) -> str:
        return f"{self.artifact}-{self.version}.jar"


class KafkaFiles(msgspec.Struct, frozen=True):
    """What a start needs. jars: in the order of the list. formatted: a tar of a formatted data folder."""

    jars: tuple[Path, ...]
    formatted: Path

    @property
    def classpath(self) -> str:
        # Listed, not "libs/*": a class archive holds for exactly one order.
        return ":".join(str(jar) for jar in self.jars)

    def unpack_formatted(self, data: Path) -> None:
        data.mkdir()
        try:
            with tarfile.open(self.formatted) as archive:
                archive.extraction_filter = getattr(tarfile, "fully_trusted_filter", None)
                archive.extractall(data)
        except (OSError, tarfile.TarError) as error:
            raise SetupError(f"{TITLE}: unpacking {self.formatted} into {data} failed: {error}") from error


def jar_list() -> tuple[Jar, ...]:
    """The committed list. Raises ValueError for a line that is not `group:artifact:version sha256`."""
    jars = []
    for line in resources.files(__package__).joinpath("kafka-jars.txt").read_text("ascii").splitlines():
        if line and not line.startswith("#"):
            coordinates, sha256 = line.split()
            group, artifact, version = coordinates.split(":")
            jars.append(Jar(group, artifact, version, sha256))
    return tuple(jars)


def ensure(java: Java, progress: Progress, stop: threading.Event | None = None) -> KafkaFiles:
    """Everything that a start needs, checked; what is missing or damaged is fetched or made first."""
    folder = cache_dir() / "kafka" / VERSION
    jars = ensure_jars(folder / "jars", jar_list(), progress, stop)
    classpath = ":".join(str(jar) for jar in jars)
    formatted = ensure_file(
        folder / "formatted.tar",
        lambda path: _format(path, java, classpath, progress, stop),
        title=TITLE,
        progress=progress,
    )
    return KafkaFiles(jars, formatted)


def ensure_jars(
    folder: Path, jars: tuple[Jar, ...], progress: Progress, stop: threading.Event | None = None
) -> tuple[Path, ...]:
    """The jars below `folder`, every one verified. Missing and damaged ones are fetched, six at a time.

    A file that arrives torn or wrong is fetched once more. Raises SetupError naming the file, Refused when somebody
    else may write there: a jar could be changed after it was looked at.
    """
    check_folder(folder)

    def broken() -> list[Jar]:
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            good = list(pool.map(lambda jar: is_intact(folder / jar.filename, jar.sha256), jars))
        return [jar for jar, intact in zip(jars, good, strict=True) if not intact]

    if broken():
        with locked(folder, title=TITLE, progress=progress):
            wanted = broken()
            if wanted:
                _fetch_all(folder, wanted, progress, stop)
    return tuple(folder / jar.filename for jar in jars)


def _fetch_all(folder: Path, wanted: list[Jar], progress: Progress, stop: threading.Event | None) -> None:
    try:
        make_folder(folder)
    except OSError as error:
        raise cache_error(TITLE, folder, error) from error
    progress(f"{TITLE}: fetching {len(wanted)} jars")
    with work_folder(folder.parent, TITLE) as work, concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        jobs = [pool.submit(_fetch, jar, folder / jar.filename, work, stop) for jar in wanted]
        try:
            for done, job in enumerate(concurrent.futures.as_completed(jobs), 1):
                job.result()
                if done % 10 == 0 or done == len(wanted):
                    progress(f"{TITLE}: fetching {len(wanted)} jars, {done} done")
        except BaseException:
            for job in jobs:
                job.cancel()
            raise


def _fetch(jar: Jar, path: Path, work: Path, stop: threading.Event | None) -> None:
    """One jar, through jgo into the work folder, verified, then renamed into place."""
    try:
        from jgo.maven import MavenContext
    except ImportError as error:
        raise missing_extra(TITLE, "jgo") from error
    problem = ""
    for _ in range(2):
        if stop is not None and stop.is_set():
            raise Interrupted(f"{TITLE}: stopped while its jars were fetched")
        # A fresh repository folder each time: jgo takes whatever file is there already for good, and only
        # warns about a wrong checksum. Given a folder of ours it never looks at the home folder.
        repository = Path(tempfile.mkdtemp(dir=work))
        try:
            context = MavenContext(repo_cache=repository, local_repos=[], timeout=FETCH_TIMEOUT_S)
            component = context.project(jar.group, jar.artifact).at_version(jar.version)
            found = Path(component.artifact().resolve())
            if is_intact(found, jar.sha256):
                found.replace(path)
                return
            problem = f"it has the wrong SHA-256 ({found.stat().st_size} bytes)"
        except OSError as error:  # requests' errors are OSErrors too
            problem = f"{error}"
        except Exception as error:  # jgo says "not found" with a RuntimeError, and asserts
            problem = f"{type(error).__name__}: {error}"
    raise SetupError(
        f"{TITLE}: {jar.group}:{jar.artifact}:{jar.version} could not be fetched (tried twice): {problem[:300]}",
        hint="the Maven repository must be reachable (HTTPS_PROXY is respected); "
        f"or put {jar.filename} into {path.parent}",
    )


def _format(path: Path, java: Java, classpath: str, progress: Progress, stop: threading.Event | None) -> None:
    """Format a data folder with Kafka's own tool and pack it. Every stack may have the same cluster id: none of
    them ever meets another."""
    progress(f"{TITLE}: formatting a data folder (once, a few seconds)")
    work = Path(tempfile.mkdtemp(prefix="harness-", dir=temporary_base()))
    try:
        config = work / "server.properties"
        data = work / "data"
        config.write_text(
            "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:9093\n"
            "listeners=PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093\n"
            f"controller.listener.names=CONTROLLER\nlog.dirs={data}\n",
            "utf-8",
        )
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")
        Child(
            (
                str(java.program),
                *java.flags(None),
                "kafka.tools.StorageTool",
                "format",
                "-t",
                cluster,
                "-c",
                str(config),
            ),
            env=server_env(work, CLASSPATH=classpath),
            cwd=work,
        ).run(failed=f"{TITLE}: formatting its data folder failed", limit_s=TOOL_LIMIT_S, stop=stop)
        with tarfile.open(path, "w") as archive:
            for entry in sorted(data.rglob("*")):
                if entry.is_file():
                    member = tarfile.TarInfo(str(entry.relative_to(data)))
                    content = entry.read_bytes()
                    member.size, member.mode = len(content), 0o644
                    archive.addfile(member, io.BytesIO(content))
    finally:
        shutil.rmtree(work, ignore_errors=True)
