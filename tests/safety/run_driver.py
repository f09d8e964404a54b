"""A run in miniature, as the conductor does it: lock, keeper, journal, capture, record, inject, wait for the end.

Argument: JSON. name; lease_s; dependency and faults: [kind, params] injected in order; servers: specs to launch;
folder: a temporary folder to remove at the end; load: argv of a process of our own; deadline_s; stop_after: the step
before which it stops for good (to be killed there); shared: locks that other machines see, disables. It says one word
a line, with a JSON value, and undoes everything when it is told to (SIGTERM) or when the keeper is lost.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec

from harness.adapters.processes.identity import identify
from harness.fault import registered
from harness.model.errors import HarnessError
from harness.model.paths import state_dir
from harness.model.records.faults import Dependency
from harness.model.records.process import ServerSpec
from harness.safety.healing.undo import order_of_undo, undo_record
from harness.safety.journal.journal import Journal
from harness.safety.keeper.client import Keeper
from harness.safety.locks.local import acquire
from harness.safety.locks.remote import RemoteLocks, Wanted


def say(word: str, value: Any = None) -> None:
    sys.stdout.write(f"{word} {json.dumps(value)}\n")
    sys.stdout.flush()


def main() -> int:
    config = json.loads(sys.argv[1])
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    folder = state_dir() / "active" / config["name"]
    locks = acquire(config.get("locks", []), config["name"], folder=folder)
    keeper = Keeper.start(folder, lease_s=config.get("lease_s", 10.0), locks=locks)
    say("keeper", keeper.pid)
    ready = threading.Event()
    renewer = threading.Thread(target=lambda: [keeper.renew() for _ in iter(lambda: ready.wait(0.1), True)])
    renewer.start()
    journal = Journal.create(
        folder, owner=config["name"], run_dir=Path(config["run_dir"]) if "run_dir" in config else None
    )
    shared = RemoteLocks()
    try:
        wanted = sorted(msgspec.convert(config.get("shared", []), list[Wanted]))
        shared.take(keeper, wanted, config["name"], config.get("disables", []))
    except HarnessError as error:
        say("refused", f"{error}; {error.hint}")
        journal.closed()
        keeper.finish()
        shared.release()
        locks.release()
        ready.set()
        return 2
    if "shared" in config:
        say("refused", None)
        say("locked")
    if "folder" in config:
        keeper.remove_at_end(config["folder"])
    for spec in config.get("servers", []):
        process = keeper.launch(msgspec.convert(spec, ServerSpec))
        say(process.name, process.pid)
    load = None
    if "load" in config:
        load = subprocess.Popen(config["load"], start_new_session=True, stdin=subprocess.DEVNULL)
        who = identify(load.pid)
        assert who is not None
        keeper.adopt("load", load.pid, who.start_time)
        journal.load_process("load", load.pid, who.start_time)
        say("load", load.pid)
    captured = []
    for number, (kind, params) in enumerate(config.get("faults", [])):
        fault = registered()[kind]
        change = fault.plan(msgspec.convert(config["dependency"], Dependency), params)
        record = fault.capture(change, f"redis-{kind}-{number}")
        if "deadline_s" in config:
            record = msgspec.structs.replace(record, deadline_s=config["deadline_s"])
        captured.append((fault, record))
        journal.record(record)
    records = []
    for fault, record in captured if config.get("stop_after") != "record" else []:
        keeper.armed(record.id)
        journal.intent(record.id, "inject")
        fault.inject(record)
        records.append(record)
        if config.get("stop_after") != "inject":
            journal.outcome(record.id, "injected")
    keeper.armed()
    ready.set()
    renewer.join()
    say("injected", [record.id for record in records])
    while not stop and not keeper.lost:
        keeper.renew()
        time.sleep(0.02)
    say("ending", keeper.why_lost)
    outcomes = []
    for record in order_of_undo(records):
        journal.intent(record.id, "undo")
        outcomes.append(undo_record(record))
        journal.undone(outcomes[-1])
    say("undone", [outcome.state for outcome in outcomes])
    if load is not None:
        load.kill()
        load.wait()
    journal.closed()
    report = keeper.finish()
    say("finished", msgspec.to_builtins(report))
    shared.release()
    locks.release()
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)
