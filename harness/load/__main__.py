"""`python -m harness.load`: the load process.

`describe FILE`, `worker`, `elsewhere SETTINGS`, `read-back` and `last-look` are its helpers.
"""

from __future__ import annotations

import sys


def main(arguments: list[str]) -> int:
    # Pipes are taken over and workers started before anything imports locust, which patches threads and sockets.
    if arguments[:1] == ["describe"] and len(arguments) == 2:
        from harness.load.generator.locustfile import print_description

        return print_description(arguments[1])
    if arguments == ["worker"]:
        from harness.load.process.start import run_worker

        run_worker()
    if arguments[:1] == ["elsewhere"] and len(arguments) == 2:
        from harness.load.process.start import run_elsewhere

        run_elsewhere(arguments[1])
    if arguments == ["read-back"]:
        from harness.load.process.start import run_read_back

        run_read_back()
    if arguments == ["last-look"]:
        from harness.load.process.start_look import run_last_look

        run_last_look()
    if not arguments:
        from harness.load.process.start import run_load

        run_load()
    sys.stderr.write(
        "usage: python -m harness.load [describe FILE | worker | elsewhere SETTINGS | read-back | last-look]\n"
    )
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
