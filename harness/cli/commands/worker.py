"""`harness worker`: a load worker for a run on another machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from harness.cli.settings import Written, allow_host_option
from harness.model.options import DURATION

EPILOG = """\b
Exit codes:
    0  the run has ended, and this worker did its part
    2  usage error, or the run refused this worker
    4  no run was found, it failed, or nothing was heard from it for 2 s
  130  stopped by a signal; the run is told
"""


@click.command(epilog=EPILOG)
@click.option("--master-host", required=True, metavar="HOST", help="Where `harness run --remote-workers` listens.")
@click.option(
    "--master-port", type=click.IntRange(1, 65535), default=5557, show_default=True, help="Its --master-port."
)
@click.option(
    "--key-file",
    required=True,
    metavar="FILE",
    help="The key that the run has written for this worker, copied here; readable by its owner alone.",
)
@click.option("--locustfile", metavar="FILE", help="The run's Locust files, here. [default: the built-in one]")
@click.option("--wait", type=Written(DURATION), default="5m", show_default=True, help="How long to look for the run.")
@allow_host_option("Allow load on this target although its address is public. Repeatable.")
def worker(
    master_host: str,
    master_port: int,
    key_file: str,
    locustfile: str | None,
    wait: float,
    allow_hosts: tuple[str, ...],
) -> int:
    """Make load for a run on another machine, until that run has ended.

    The run waits for it (--remote-workers), and gives it a share of the arrivals. Both must be the same version of the
    harness, with the same locustfile. The worker stops 2 s after it last heard from the run, whatever happened there.

    The run writes a key for each remote worker when it begins to wait, and says where: copy it to the worker's machine,
    with scp for example. It lets in one worker, into that run alone; what is sent is encrypted. A worker sends load
    only to a target with a loopback or private address, or to one that its own --allow-host names.

    \b
    on one machine    harness run --host http://10.0.0.7:8000 --allow-host 10.0.0.7 \\
                        --remote-workers 1 --master-bind-host 10.0.0.5
    on another        harness worker --master-host 10.0.0.5 --key-file w0.key
    """
    import msgspec

    from harness.load.ipc.keys import check_sockets, read_key_file
    from harness.load.ipc.locustfiles import files_of, joined
    from harness.load.ipc.protocol import Elsewhere
    from harness.model.errors import about
    from harness.model.resources import resource

    with about("locustfile"):
        files = files_of(locustfile or str(resource("locustfiles", "anomaly.py")))
    check_sockets(workers=2)
    read_key_file(key_file)
    master = master_host.removeprefix("[").removesuffix("]")
    settings = Elsewhere(
        host=master,
        port=master_port,
        locustfile=joined(files),
        key_file=str(Path(key_file).absolute()),
        wait_s=wait,
        allow_hosts=allow_hosts,
    )
    # The same process goes on: its pid, its terminal and its signals are those that were given to `harness worker`.
    argument = msgspec.json.encode(settings).decode()
    os.execv(sys.executable, [sys.executable, "-P", "-u", "-m", "harness.load", "elsewhere", argument])
