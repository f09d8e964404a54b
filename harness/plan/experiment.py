"""What a script asks for: the request of `run`, and beside it what the command line keeps in options of its own."""

from __future__ import annotations

from harness.model.records.stack import StackName
from harness.plan.request import RunRequest


class Experiment(RunRequest, frozen=True, kw_only=True):
    """Seconds, requests per second; a field that is left out is decided by the scenario, the stack or the defaults of
    `harness run`.

    locustfile: the file with the requests. allow_hosts: hosts besides loopback that load and faults may reach.
    """

    scenario: str = "target"
    stack: StackName = "embedded"
    locustfile: str | None = None
    allow_hosts: tuple[str, ...] = ()
