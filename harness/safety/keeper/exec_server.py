"""What runs between the keeper's fork and a server's exec: `python -I -S exec_server.py IN OUT`, importing no harness.

Descriptor IN brings the order (marshal), OUT takes back an error and closes on a successful exec. The
parent-death signal is set last: changing the user clears it. It fires when the *thread* that forked dies, so the
keeper forks from its main thread. If the keeper died before it was set, nobody is left to own the server: stop.

Everything is imported before the user changes: Python's own files may lie where only we can read (a 0700 home).
"""

import marshal
import os
import signal
import sys
import warnings  # noqa: F401 - what os.execvpe imports

PR_SET_PDEATHSIG = 1


def main() -> None:
    answer = int(sys.argv[2])
    libc = None
    try:
        if sys.platform == "linux":
            import ctypes

            libc = ctypes.CDLL(None, use_errno=True)
            assert libc.prctl is not None  # looked up now
        with os.fdopen(int(sys.argv[1]), "rb") as file:
            order = marshal.load(file)
        os.set_inheritable(answer, False)
        # Python ignores some, the keeper others; ignored ones would stay so across the exec.
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            if signal.getsignal(number) is signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.setsid()
        os.chdir(order["cwd"])
        if order["uid"] is not None:
            os.setgroups(order["groups"])
            os.setgid(order["gid"])
            os.setuid(order["uid"])
        if libc is not None:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != order["keeper"]:
            raise ProcessLookupError(0, "the keeper died")
        os.execvpe(order["argv"][0], order["argv"], order["env"])
    except OSError as error:
        os.write(answer, (error.strerror or str(error)).encode())
    except Exception as error:
        os.write(answer, f"{type(error).__name__}: {error}".encode())
    os._exit(127)


if __name__ == "__main__":
    main()
