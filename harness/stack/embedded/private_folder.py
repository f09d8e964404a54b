"""The private temporary folder of one stack, and the user its servers run as."""

from __future__ import annotations

import os
import pwd
import re
import stat
import tempfile
from pathlib import Path

from harness.model.errors import SetupError
from harness.model.records.process import Launcher

_SOCKET_LIMIT = 100
"""Longest path of a Unix socket that every system takes: sun_path has 104 (macOS) or 108 bytes, one for the end."""
_SOCKET_ROOM = len("/harness-12345678/pg/s/.s.PGSQL.65535")


class PrivateFolder:
    """A folder of ours only, entered by the servers' user too. Journaled with the launcher before its first use.

    As root it has mode 0711 and every part gets a sub-folder of mode 0700 that belongs to the part's user;
    as anybody else mode 0700. Its path is short, so that a Unix socket fits in it.
    """

    def __init__(self, launcher: Launcher) -> None:
        base = temporary_base()
        try:
            self.path = Path(tempfile.mkdtemp(prefix="harness-", dir=base))
        except OSError as error:
            raise SetupError(f"cannot make a temporary folder in {base}: {error.strerror}") from error
        try:
            launcher.remove_at_end(str(self.path))
        except BaseException:
            self.path.rmdir()
            raise
        self.path.chmod(0o711 if os.geteuid() == 0 else 0o700)

    def sub(self, name: str, user: str | None = None) -> Path:
        """A fresh sub-folder of mode 0700 that belongs to `user` (None: us)."""
        folder = self.path / name
        folder.mkdir(mode=0o700)
        give(folder, user)
        return folder


def temporary_base() -> Path:
    """TMPDIR when its path is short and plain and, as root, every user can enter it; else /tmp or /var/tmp.

    Plain: letters, digits and ._+- only, for it stands in connection strings, lists of folders and properties.
    Raises SetupError when none will do.
    """
    tried = [Path(tempfile.gettempdir()).resolve(), Path("/tmp"), Path("/var/tmp")]
    for base in tried:
        if re.fullmatch(r"[\w./+-]+", str(base), re.ASCII) is None:
            continue
        if len(str(base)) + _SOCKET_ROOM > _SOCKET_LIMIT or not os.access(base, os.W_OK | os.X_OK):
            continue
        if os.geteuid() == 0 and not everybody_enters(base):
            continue
        return base
    raise SetupError(
        "no folder for temporary data: " + ", ".join(str(base) for base in dict.fromkeys(tried)),
        hint="set TMPDIR to a folder with a short path that can be written and that every user can enter",
    )


def server_user() -> str | None:
    """The user for servers that refuse root: None when we are not root, else an unprivileged one that exists."""
    if os.geteuid() != 0:
        return None
    for name in ("nobody", "daemon", "postgres"):
        try:
            if pwd.getpwnam(name).pw_uid != 0:
                return name
        except KeyError:
            continue
    raise SetupError(
        "PostgreSQL refuses to run as root, and there is no user nobody, daemon or postgres to run it as",
        hint="run the harness as an ordinary user",
    )


def give(path: Path, user: str | None) -> None:
    """Make a file, or a folder with all that is in it, belong to `user`; nothing to do for None."""
    if user is None:
        return
    entry = pwd.getpwnam(user)
    try:
        os.chown(path, entry.pw_uid, entry.pw_gid)
        for folder, folders, files in os.walk(path):
            for name in folders + files:
                os.chown(os.path.join(folder, name), entry.pw_uid, entry.pw_gid, follow_symlinks=False)  # noqa: PTH118
    except OSError as error:
        raise SetupError(
            f"cannot give {path} to the user {user}: {error.strerror}",
            hint="this root may not change owners (a container without CAP_CHOWN?); run as an ordinary user",
        ) from error


def server_env(folder: Path, **more: str) -> dict[str, str]:
    """The complete environment of a server: nothing of the user's, so no proxy, option or secret gets in."""
    return {
        "PATH": os.defpath.lstrip(":"),
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        **more,
    }


def everybody_enters(folder: Path) -> bool:
    """Every user may go into this folder."""
    return all(part.stat().st_mode & stat.S_IXOTH for part in [folder, *folder.parents])
