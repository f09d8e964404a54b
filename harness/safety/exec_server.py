"""What runs between the keeper's fork and a server's exec: `python -I -S exec_server.py IN OUT`, importing no harness.

Descriptor IN brings the order (marshal), OUT takes back an error and closes on a successful exec. The
parent-death signal is set last: changing the user clears it. It fires when the *thread* that forked dies, so the
keeper forks from its main thread. If the keeper died before it was set, nobody is left to own the server: stop.
"""

import marshal
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    answer = int(sys.argv[2])
    try:
        with os.fdopen(int(sys.argv[1]), "rb") as file:
            order = marshal.load(file)
        os.set_inheritable(answer, False)
        # Loaded before the user changes: Python's own files may lie where only we can read (a 0700 home).
        libc = _libc()
        os.setsid()
        os.chdir(order["cwd"])
        if order["uid"] is not None:
            os.setgroups(order["groups"])
            os.setgid(order["gid"])
            os.setuid(order["uid"])
        if libc is not None:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != order["keeper"]:
            return
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.execvpe(order["argv"][0], order["argv"], order["env"])
    except OSError as error:
        os.write(answer, (error.strerror or str(error)).encode())
    except Exception as error:
        os.write(answer, f"{type(error).__name__}: {error}".encode())
    os._exit(127)


def _libc():  # type: ignore[no-untyped-def]  # ctypes is imported late, where there is a prctl to call
    if sys.platform != "linux":
        return None
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl  # noqa: B018  # look the symbol up now
    return libc


if __name__ == "__main__":
    main()
