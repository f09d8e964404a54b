"""Starts one program that belongs to nobody: `python -I -S detach.py` with the order (JSON) on stdin.

It gets a session of its own and no open files but its log; its parent ends at once, so that init adopts it and it
outlives the harness and everything the harness owns. stdout says what went wrong, and is closed without a word once the
program runs.
"""

import json
import os
import signal
import sys


def main() -> None:
    order = json.load(sys.stdin)
    answer_in, answer_out = os.pipe()  # closes by itself on a successful exec
    if os.fork() == 0:
        os.close(answer_in)
        try:
            _become(order)
        except BaseException as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            os.write(answer_out, reason.encode())
        os._exit(127)
    os.close(answer_out)
    problem = b""
    while chunk := os.read(answer_in, 4096):
        problem += chunk
    os.write(1, problem)


def _become(order: dict) -> None:  # type: ignore[type-arg]
    os.setsid()
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.chdir(order["cwd"])
    null = os.open(os.devnull, os.O_RDWR)
    out = null if order["log"] is None else os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for fd, source in ((0, null), (1, out), (2, out)):
        os.dup2(source, fd)
    os.execvpe(order["argv"][0], order["argv"], order["env"])


if __name__ == "__main__":
    main()
