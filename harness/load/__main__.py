"""`python -m harness.load`: the load process.

`describe WANTED`, `worker`, `elsewhere SETTINGS`, `read-back`, `last-look` and `try-requests` are its helpers.
"""

from __future__ import annotations

import sys


def main(arguments: list[str]) -> int:
    # Pipes are taken over and workers started before anything imports locust, which patches threads and sockets.
    if arguments[:1] == ["describe"] and len(arguments) == 2:
        from harness.load.generator.locustfile import print_description

        return print_description(arguments[1])
    from harness.load.process import start

    helpers = {
        "worker": start.worker,
        "read-back": start.read_back,
        "last-look": start.last_look,
        "try-requests": start.try_requests,
    }
    if not arguments:
        start.run_load()
    if arguments[:1] == ["elsewhere"] and len(arguments) == 2:
        start.run_elsewhere(arguments[1])
    if len(arguments) == 1 and arguments[0] in helpers:
        start.run_helper(helpers[arguments[0]])
    names = " | ".join(["describe WANTED", "elsewhere SETTINGS", *helpers])
    sys.stderr.write(f"usage: python -m harness.load [{names}]\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
