"""`harness gameday invite`, from another terminal: a socket beside the journal of the game day that is going on, in a
folder that nobody else may enter."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import msgspec

from harness.model.errors import UsageError
from harness.model.records.many_runs.gameday import Role
from harness.safety.state_folders import active_dir

SOCKET = "console.sock"
MOST = 2_000
WAIT_S = 5.0


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    role: Role
    revoke: bool = False


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """url: of an invitation. why_not: "" where it was done."""

    url: str = ""
    why_not: str = ""


@contextmanager
def _reached(folder: Path) -> Iterator[str]:
    """A name of its socket that is short enough for one, however deep the folder lies."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{number}/{SOCKET}"
    finally:
        os.close(number)


def answering(folder: Path, answer: Callable[[Wanted], Given]) -> Callable[[], None]:
    """Answer whoever can enter that folder; what is returned ends it. Raises OSError."""
    listener = socket.socket(socket.AF_UNIX)
    with _reached(folder) as path:
        listener.bind(path)
    (folder / SOCKET).chmod(0o600)
    listener.listen(4)

    def serve() -> None:
        while True:
            try:
                other, _ = listener.accept()
            except OSError:
                return
            with closing(other), suppress(OSError, ValueError, msgspec.MsgspecError):
                other.settimeout(WAIT_S)
                wanted = msgspec.json.decode(other.recv(MOST), type=Wanted)
                other.sendall(msgspec.json.encode(answer(wanted)))

    threading.Thread(target=serve, name="invitations", daemon=True).start()

    def close() -> None:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        (folder / SOCKET).unlink(missing_ok=True)

    return close


def ask(wanted: Wanted) -> Given:
    """Of the one game day that is going on here. Raises UsageError where there is none, or more than one."""
    answers: list[Given] = []
    found = [listener for path in sorted(active_dir().glob(f"*/{SOCKET}")) if (listener := _connected(path.parent))]
    with ExitStack() as stack:
        for other in found:
            stack.enter_context(closing(other))
        if len(found) != 1:
            many = "no game day with a console is" if not found else f"{len(found)} game days are"
            raise UsageError(f"{many} going on here", hint="invite from the operator's console")
        try:
            found[0].sendall(msgspec.json.encode(wanted))
            answers.append(msgspec.json.decode(found[0].recv(MOST), type=Given))
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            raise UsageError(f"the game day does not answer: {error}") from None
    return answers[0]


def _connected(folder: Path) -> socket.socket | None:
    """None where nobody listens any more."""
    other = socket.socket(socket.AF_UNIX)
    other.settimeout(WAIT_S)
    try:
        with _reached(folder) as path:
            other.connect(path)
    except OSError:
        other.close()
        return None
    return other
