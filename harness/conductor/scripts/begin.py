"""Which steady load is meant, and to whom it may go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.adapters.allowed_hosts import check_url, url_address
from harness.conductor.prepare import planned_for
from harness.conductor.scripts.steady import SteadyCalls, get
from harness.conductor.scripts.steady_locust import SteadyLocust
from harness.dependencies.configuration import load
from harness.model.errors import UsageError
from harness.plan.experiment import Experiment
from harness.stack.external.stack import target_url


def begin(
    what: str | Callable[[], object] | None,
    *,
    rate: float,
    config: Path | None,
    locustfile: Path | None,
    timeout_s: float,
) -> SteadyCalls | SteadyLocust:
    """Raises UsageError, Refused, LoadError."""
    if (what is None) == (locustfile is None):
        raise UsageError("a steady load is of one thing", hint="a function, a URL or a path, or locustfile=")
    if locustfile is not None:
        asked = Experiment(
            locustfile=str(locustfile), rate=rate, spawn_rate=5000, warmup_s=0.0, request_timeout_s=timeout_s
        )
        return SteadyLocust(planned_for(asked, config))
    if callable(what):
        return SteadyCalls(what, rate)
    assert isinstance(what, str)
    named: tuple[str, ...] = ()
    if config is not None and (target := load(config).target) is not None:
        named = (url_address(target.url)[0],)
        what = target.url + what if what.startswith("/") else what
    if what.startswith("/"):
        raise UsageError(f"{what} is a path below which target?", hint="config= names the harness.toml that has it")
    target_url(what.partition("?")[0])
    check_url(what, named)
    call, close = get(what, timeout_s)
    return SteadyCalls(call, rate, close=close)
