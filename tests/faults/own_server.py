"""A server of the user's own for the fault tests, and a way to run one as another user.

python own_server.py tcp|http PORT PID_FILE     answers lines, or GET /health; two workers share the socket
python own_server.py as USER PROGRAM ARGUMENT   becomes the program, as that user
"""

from __future__ import annotations

import os
import pwd
import signal
import socket
import sys
import threading
from pathlib import Path

WORKERS = 2


def answer(connection: socket.socket, kind: str) -> None:
    with connection, connection.makefile("rb") as lines:
        for line in lines:
            if kind == "tcp":
                connection.sendall(line)
            elif line in (b"\r\n", b"\n"):
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
                return


def serve(listener: socket.socket, kind: str) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=answer, args=(connection, kind), daemon=True).start()


def main(kind: str, port: str, pid_file: str) -> None:
    with socket.create_server(("127.0.0.1", int(port)), backlog=100) as listener:
        workers = []
        for _ in range(WORKERS):
            pid = os.fork()
            if pid == 0:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                serve(listener, kind)
            workers.append(pid)

        def end(*_: object) -> None:
            for worker in workers:
                os.kill(worker, signal.SIGTERM)
            sys.exit()

        signal.signal(signal.SIGTERM, end)
        Path(pid_file).write_text(f"{os.getpid()}\n")
        for worker in workers:
            os.waitpid(worker, 0)


def become(user: str, program: str, *arguments: str) -> None:
    if os.geteuid() == 0:
        entry = pwd.getpwnam(user)
        os.setgroups([])
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    os.execve(program, [program, *arguments], {"PATH": os.defpath, "LC_ALL": "C"})


if __name__ == "__main__":
    if sys.argv[1] == "as":
        become(*sys.argv[2:])
    else:
        main(*sys.argv[1:])
