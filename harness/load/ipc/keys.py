"""Key pairs (CURVE) of the load processes: one for the run, one for each worker, made anew for every run.

A local worker gets its own over stdin, one on another machine by a file that only its owner may read. Imports neither
locust nor gevent.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import msgspec

from harness.model.errors import UsageError

_MOST_BYTES = 4096
_KEY_BYTES = 32


class WorkerKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a worker needs to be let in as number `worker`: the run's public key and its own pair, as Z85 text."""

    worker: int
    server: str
    public: str
    secret: str

    def __repr__(self) -> str:
        return f"WorkerKey(worker={self.worker})"

    def put_on(self, socket: Any) -> None:
        """A zmq socket that is to connect speaks with this key, and only to the run that it is for."""
        socket.curve_serverkey = self.server.encode()
        socket.curve_publickey = self.public.encode()
        socket.curve_secretkey = self.secret.encode()


def make_keys(workers: int) -> tuple[bytes, list[WorkerKey]]:
    """(the run's secret key, the key of every worker)."""
    import zmq

    server, secret = zmq.curve_keypair()
    found = []
    for number in range(workers):
        public, own = zmq.curve_keypair()
        found.append(WorkerKey(worker=number, server=server.decode(), public=public.decode(), secret=own.decode()))
    return secret, found


def check_sockets(workers: int) -> None:
    """Raises UsageError when this machine's libzmq cannot keep strangers out, and there is anybody to keep out."""
    if workers <= 1:
        return
    import zmq

    if not zmq.has("curve"):
        raise UsageError(
            "more than one load process needs a libzmq with CURVE, and this one has none",
            hint="--workers 1 without remote workers, or a pyzmq from PyPI",
        )


def write_key_file(path: Path, key: WorkerKey) -> None:
    """Readable by its owner alone from the first moment. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(msgspec.json.encode(key) + b"\n")


def read_key_file(path: str) -> WorkerKey:
    """Raises UsageError, which names the file and shows nothing of its content."""
    where = f"--key-file {path}"
    try:
        # Not blocking: whoever names a pipe by mistake is told so.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise UsageError(f"{where}: not a regular file")
            if mode & 0o077:
                raise UsageError(f"{where}: others can read it, so it is no secret", hint=f"chmod 600 {path}")
            content = file.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UsageError(f"{where}: {why}", hint="the run with --remote-workers writes one for each worker") from None
    key = _decode(content)
    if key is None:
        raise UsageError(f"{where}: not a worker's key", hint="copy the file that the run has named, as it is")
    return key


def _decode(content: bytes) -> WorkerKey | None:
    import zmq
    from zmq.utils import z85

    try:
        key: WorkerKey = msgspec.json.decode(content, type=WorkerKey)
        whole = all(len(z85.decode(text.encode())) == _KEY_BYTES for text in (key.server, key.public, key.secret))
        own = whole and zmq.curve_public(key.secret.encode()) == key.public.encode()
    except Exception:  # of three libraries, about text that anybody may have written
        return None
    return key if own and len(content) <= _MOST_BYTES and key.worker >= 0 else None
