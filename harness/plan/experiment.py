"""What a script asks for: the request of `run`, and beside it what the command line keeps in options of its own."""

from __future__ import annotations

import msgspec

from harness.model.cores import useful_cores
from harness.model.records.stack import StackName
from harness.plan.request import RunRequest


class Experiment(RunRequest, frozen=True, kw_only=True):
    """Everything that decides what a run does. Seconds, requests per second; a field that is left out is decided by the
    scenario, the stack or the defaults of `harness run`. Nothing else is read: no environment, no harness.toml that is
    not named here.

    host: the URL of a service of your own; then stack is "external". locustfile: the file of its requests.
    allow_hosts: hosts besides loopback that load and faults may reach. config: a harness.toml whose [target],
    [dependencies], [targets] and [requests] count; its [run] is for the command line.
    """

    scenario: str = "target"
    stack: StackName = "embedded"
    cores: int = msgspec.field(default_factory=useful_cores)
    locustfile: str | None = None
    allow_hosts: tuple[str, ...] = ()
    config: str | None = None
