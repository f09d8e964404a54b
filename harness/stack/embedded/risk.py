"""The risk-score service: the sample API's HTTP upstream."""

from __future__ import annotations

import sys
from pathlib import Path

from harness.model.records.faults import Address
from harness.model.records.process import ServerSpec
from harness.model.resources import resource
from harness.stack.embedded.private_folder import server_env
from harness.stack.starting.ready import fetched

TITLE = "Risk service"
NAME = "risk"
HEALTH = "/health"


def spec(folder: Path, address: Address, log: Path) -> ServerSpec:
    return ServerSpec(
        name=NAME,
        argv=(sys.executable, "-m", "risk_score"),
        env={
            **server_env(folder),
            "PYTHONPATH": str(resource("compose", "risk")),
            "HOST": address.host,
            "PORT": str(address.port),
        },
        cwd=str(folder),
        log=str(log),
    )


def probe(address: Address) -> None:
    """It answers there: itself, its front or the proxy before that. Raises NotReady."""
    fetched(f"http://{address}{HEALTH}")
