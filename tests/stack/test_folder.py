"""The private folder: short, plain, and closed to everybody else."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from harness.stack.embedded.private_folder import PrivateFolder, server_env, server_user, temporary_base
from tests.support.servers.real import SubprocessLauncher


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(tempfile, "tempdir", None)  # what gettempdir remembers; restored afterwards
    return monkeypatch


@pytest.mark.parametrize("name", ["with space", "with,comma", "quote'd", "x" * 90])
def test_a_temporary_folder_that_servers_cannot_name_is_passed_over(
    tmp_path: Path, temporary: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / name).mkdir()
    temporary.setenv("TMPDIR", str(tmp_path / name))
    assert temporary_base() in (Path("/tmp"), Path("/var/tmp"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root hands parts to another user")
def test_root_does_not_use_a_folder_that_the_servers_user_cannot_enter(temporary: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as closed:
        temporary.setenv("TMPDIR", closed)
        temporary.setattr(tempfile, "tempdir", None)
        assert temporary_base() != Path(closed)
        Path(closed).chmod(0o711)
        assert temporary_base() == Path(closed)
        temporary.setattr(tempfile, "tempdir", None)


def test_it_is_journaled_and_its_parts_belong_to_their_users() -> None:
    launcher = SubprocessLauncher()
    folder = PrivateFolder(launcher)
    try:
        part = folder.sub("pg", server_user())
        assert part.stat().st_mode & 0o777 == 0o700
        if os.geteuid() == 0:
            assert part.owner() == server_user()
            assert folder.path.stat().st_mode & 0o777 == 0o711
    finally:
        launcher.close()
    assert not folder.path.exists()


def test_a_folder_that_cannot_be_journaled_is_not_left_behind(tmp_path: Path, temporary: pytest.MonkeyPatch) -> None:
    class Refusing(SubprocessLauncher):
        def remove_at_end(self, path: str) -> None:
            seen.append(path)
            raise OSError("disk full")

    seen: list[str] = []
    with pytest.raises(OSError, match="disk full"):
        PrivateFolder(Refusing())
    assert not Path(seen[0]).exists()


def test_nothing_of_the_users_environment_reaches_a_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Xmx1m")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    assert set(server_env(tmp_path)) == {"PATH", "HOME", "TMPDIR", "LANG", "TZ"}
