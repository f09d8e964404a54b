"""`harness init` at a terminal: what it writes, that it never overwrites, and what it takes back."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from harness.cli.commands import init as command_module
from harness.model.errors import UsageError
from harness.scaffold import compose_config, written_files
from tests.support.command import command

HARNESS = Path(sys.executable).parent / "harness"
COMPOSE = """\
services:
  web: {image: shop, ports: ["8000:80"], environment: {REDIS: "redis://redis:6379", DB: "postgres://db/x"}}
  redis: {image: "redis:7"}
  db: {image: "postgres:16"}
  spare: {image: "postgres:16"}
"""
WRITTEN = ["harness.override.yaml", "harness.toml", "harness.toxiproxy.json", "locustfile.py"]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_module, "_terminal", lambda: True)


@pytest.fixture(scope="module")
def answers() -> dict[tuple[str | bytes, ...], subprocess.CompletedProcess[str]]:
    return {}


@pytest.fixture(autouse=True)
def _asked_once(
    answers: dict[tuple[str | bytes, ...], subprocess.CompletedProcess[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first Compose takes most of a second for an answer; what it makes of the same files it is asked once."""
    real = compose_config._run

    def run(words: Sequence[str], env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        asked = tuple(Path(word).read_bytes() if word.endswith(".yaml") else word for word in words)
        if asked not in answers:
            answers[asked] = real(words, env)
        return answers[asked]

    monkeypatch.setattr(compose_config, "_run", run)


@pytest.fixture
def project(tmp_path: Path, terminal: None) -> Iterator[Path]:
    (tmp_path / "compose.yaml").write_text(COMPOSE)
    yield tmp_path


def init(*args: str, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = command("init", *args, cwd=cwd)
    assert done.returncode == code, done.stderr
    if code:
        assert len(done.stderr.splitlines()) <= 2 and "Traceback" not in done.stderr
    return done


def names(folder: Path) -> list[str]:
    made_by_others = ("compose.yaml", "state", "__pycache__")
    return sorted(path.name for path in folder.iterdir() if path.name not in made_by_others)


def test_a_compose_project_is_found_and_its_files_are_written_once(project: Path) -> None:
    said = init(cwd=project).stdout
    assert names(project) == WRITTEN
    tables = tomllib.loads((project / "harness.toml").read_text())
    assert tables["compose"] == {"file": "compose.yaml"} and tables["dependencies"]["redis"]["proxy"] == "redis"
    assert "nothing shows that the application uses spare, so no proxy is put in front of it" in said
    assert "compose -f compose.yaml -f harness.override.yaml up -d" in said and "-down " in said
    assert command("plan", "--fault", "redis-down", cwd=project).returncode == 0
    before = {name: (project / name).read_bytes() for name in WRITTEN}
    assert "harness.toml is there already, so nothing was written" in init(cwd=project, code=2).stderr
    assert {name: (project / name).read_bytes() for name in WRITTEN} == before
    # One that is in the way is enough: all of them or none.
    (project / "harness.toml").unlink()
    (project / "harness.override.yaml").unlink()
    (project / "locustfile.py").unlink()
    assert "harness.toxiproxy.json is there already" in init(cwd=project, code=2).stderr
    assert names(project) == ["harness.toxiproxy.json"]


@pytest.mark.parametrize(
    ("env", "there", "files"),
    [
        ({}, ["compose.yml", "docker-compose.yml"], ("compose.yml",)),
        (
            {},
            ["docker-compose.yaml", "docker-compose.override.yml"],
            ("docker-compose.yaml",),
        ),
        ({}, ["compose.override.yaml"], ()),
        ({"COMPOSE_FILE": "a.yaml:b.yaml"}, ["compose.yaml"], ("a.yaml", "b.yaml")),
    ],
)
def test_files_are_looked_for_as_compose_does(
    env: dict[str, str], there: list[str], files: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.scaffold.compose_config import files_here

    monkeypatch.delenv("COMPOSE_FILE", raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    for name in there:
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    assert files_here() == files


def test_where_the_output_is_no_terminal_it_is_printed_as_ever(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = init("--print", cwd=project).stdout
    assert '[compose]\nfile = "compose.yaml"' in asked and "proxy =" in asked, "what would be written"
    assert '"listen"' in init("--print", "proxies", cwd=project).stdout
    monkeypatch.setattr(command_module, "_terminal", lambda: False)
    assert "[compose]" not in init(cwd=project).stdout
    assert "proxy =" in init("--compose", "compose.yaml", cwd=project).stdout
    assert names(project) == []


def test_without_a_project_it_is_the_file_for_a_process(tmp_path: Path, terminal: None) -> None:
    said = init(cwd=tmp_path).stdout
    assert names(tmp_path) == ["harness.toml", "locustfile.py"] and "docker" not in said and "--fault none" in said
    assert command("plan", "--fault", "none", cwd=tmp_path).returncode == 0, "it plans as it is"
    init("--remove", cwd=tmp_path)
    assert init("--remove", cwd=tmp_path).stdout == "nothing here was written by harness init\n"
    (tmp_path / "locustfile.py").touch()
    assert "name the Locust file with your requests" in init(cwd=tmp_path).stdout
    init("--remove", cwd=tmp_path)
    (tmp_path / "locustfile.py").unlink()
    assert "name the Locust file" not in init("--locustfile", "mine.py", cwd=tmp_path).stdout
    assert tomllib.loads((tmp_path / "harness.toml").read_text())["run"] == {
        "locustfile": "mine.py",
        "rate": 20,
        "scenario": "baseline",
    }
    assert "name='GET /'" in (tmp_path / "mine.py").read_text()
    assert "removed mine.py" in init("--remove", cwd=tmp_path).stdout and names(tmp_path) == []


def test_a_project_that_publishes_nothing_is_told_what_is_missing(project: Path) -> None:
    (project / "compose.yaml").write_text("services:\n  web: {image: shop}\n")
    said = init(cwd=project).stdout
    assert "say in harness.toml which service is tested" in said and names(project) == ["harness.toml", "locustfile.py"]


def test_only_what_nobody_has_changed_is_removed(project: Path) -> None:
    init(cwd=project)
    toml = project / "harness.toml"
    toml.write_text(toml.read_text() + "\n[targets]\n")
    said = init("--remove", cwd=project).stdout
    assert names(project) == ["harness.toml"]
    assert "kept harness.toml: it was changed since init wrote it" in said and "--remove-orphans" in said
    toml.write_text("[run]\n")
    assert "kept harness.toml: it does not say that init wrote it" in init("--remove", cwd=project).stdout
    assert "--remove-orphans" not in init("--remove", cwd=project).stdout


def test_a_changed_list_of_proxies_is_kept_and_one_of_somebody_else_too(project: Path) -> None:
    init(cwd=project)
    proxies = project / "harness.toxiproxy.json"
    proxies.write_text("[]")
    assert "kept harness.toxiproxy.json: it was changed" in init("--remove", cwd=project).stdout
    assert "kept harness.toxiproxy.json: nothing says" in init("--remove", cwd=project).stdout
    assert names(project) == ["harness.toxiproxy.json"]


def test_names_in_a_strangers_file_remove_nothing_of_others(project: Path) -> None:
    for name, content in (("data.json", "{}"), ("../beside.json", "{}"), ("notes.txt", "")):
        (project / name).write_text(content)
    sha256 = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"  # of {}
    head = f"# Written with it: data.json (sha256 {sha256})\n# Written with it: ../beside.json (sha256 {sha256})\n"
    head += "# Written with it: notes.txt\n"
    (project / "harness.toml").write_text(written_files._marked(head))
    said = init("--remove", cwd=project).stdout
    assert said.count("kept ") == 3 and "removed harness.toml" in said
    assert (project / "data.json").exists() and (project.parent / "beside.json").exists()
    (project.parent / "beside.json").unlink()


def test_the_difference_is_shown_and_nothing_written(project: Path) -> None:
    assert init("--diff", cwd=project).stdout.count("--- /dev/null") == 4 and names(project) == []
    init(cwd=project)
    assert init("--diff", cwd=project).stdout == "what is here is what would be written\n"
    toml = project / "harness.toml"
    toml.write_text(toml.read_text().replace('name = "web"', 'name = "\x1b[31mshop"'))
    said = init("--diff", cwd=project).stdout
    assert '-name = "\\x1b[31mshop"' in said and '+name = "web"' in said and "sha256" not in said


def test_links_and_folders_that_cannot_be_written_are_told_in_a_line(project: Path) -> None:
    (project / "harness.override.yaml").symlink_to("/nowhere/else")
    assert "harness.override.yaml is there already" in init(cwd=project, code=2).stderr
    assert names(project) == ["harness.override.yaml"]
    assert "is a link, not a file" in init("--remove", cwd=project).stdout
    (project / "harness.override.yaml").unlink()
    with pytest.raises(UsageError, match="cannot be written: "):
        written_files.write(Path("/sys"), {"harness.toml": ""})
    (project / "away").symlink_to("/tmp")
    with pytest.raises(UsageError, match="is not in this folder"):
        written_files.write(project, {"away/harness.toml": ""})
    inner = project / "inner"
    inner.mkdir()
    assert "is not in this folder" in init("--compose", "../compose.yaml", cwd=inner, code=2).stderr


def test_what_cannot_be_written_whole_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, made = os.open, []

    def full(path: Path, *rest: int) -> int:
        made.append(path)
        if len(made) == 2:
            raise OSError(28, "No space left on device")
        return real(path, *rest)

    monkeypatch.setattr(written_files.os, "open", full)
    with pytest.raises(UsageError, match=r"a\.yaml cannot be written: No space left"):
        written_files.write(tmp_path, {"harness.toml": "", "a.yaml": ""})
    assert len(made) == 2
    assert names(tmp_path) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_files_of_another_user_are_kept(project: Path) -> None:
    init(cwd=project)
    os.chown(project / "harness.toml", 12345, 12345)
    assert "kept harness.toml: it belongs to another user" in init("--remove", cwd=project).stdout
    assert names(project) == ["harness.toml"]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--diff", "--remove"), "three different things"),
        (("--remove", "--front", "redis"), "--remove goes alone"),
        (("--front", "redis"), "speak of a compose project"),
        (("--locustfile", "requests"), "a name that ends in .py is wanted"),
    ],
)
def test_what_does_not_go_together_is_refused(args: tuple[str, ...], says: str, tmp_path: Path, terminal: None) -> None:
    assert says in init(*args, cwd=tmp_path, code=2).stderr and names(tmp_path) == []


def test_a_real_terminal_is_known_as_one(tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    done = subprocess.run([str(HARNESS), "init"], cwd=tmp_path, stdout=follower, timeout=120, check=False)
    os.close(follower)
    said = os.read(leader, 65536).decode()
    os.close(leader)
    assert (
        done.returncode == 0 and "wrote harness.toml" in said and names(tmp_path) == ["harness.toml", "locustfile.py"]
    )
