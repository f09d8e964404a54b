"""Known weaknesses that can be switched on, one at a time, to see whether a test finds them.

ANOMALY_API_DEFECT names one; without it the service behaves as it should. Each is a value of `Behaviour`, and the
code that behaves differently reads one field of it. A new defect is a row in DEFECTS, and a field where none fits.
Nothing that the service answers, exports or logs says which one is on.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """How the service treats its dependencies.

    time_outs: every call to a dependency has a budget. patience: factor on those budgets. upstream_time_outs: so have
    calls to the risk service.
    fallback: a failing dependency is answered around (stale or local data, a neutral profile, a backlog).
    await_broker: a prediction is answered only after the broker has acknowledged its event.
    own_pool: database connections come from a pool that keeps to the good ones; otherwise from a plain one of
    `plain_pool_size`, with nothing to fall back on. gives_back: that plain pool takes a slot back whose call failed.
    attempts: how often a call to the cache or the risk service is made at most; above 1 at once, each on a connection
    of its own, with no breaker. rebuild_s: database time that a prediction not found in the cache costs by itself, its
    sender's history being worked out anew; 0 = profiles are read, all of a request in one query. forgetful: what was
    served is let go. drop_one_in: of the rows that have to wait for the database, one in so many is lost; 0 = none.
    """

    time_outs: bool = True
    patience: float = 1.0
    upstream_time_outs: bool = True
    fallback: bool = True
    await_broker: bool = False
    own_pool: bool = True
    plain_pool_size: int = 4
    gives_back: bool = True
    attempts: int = 1
    rebuild_s: float = 0.0
    forgetful: bool = True
    drop_one_in: int = 0

    @property
    def database_fallback(self) -> bool:
        return self.fallback and self.own_pool


HARDENED = Behaviour()

DEFECTS: dict[str, Behaviour] = {
    "no-timeout": Behaviour(time_outs=False),
    "upstream-no-timeout": Behaviour(upstream_time_outs=False),
    # Without anything to fall back on a service gives its dependencies seconds, as drivers do.
    "no-fallback": Behaviour(fallback=False, patience=60.0),
    "sync-kafka": Behaviour(await_broker=True),
    "small-pool": Behaviour(own_pool=False, patience=60.0),
    "leaky-pool": Behaviour(own_pool=False, plain_pool_size=10, gives_back=False, patience=20.0),
    "retry-storm": Behaviour(attempts=5),
    "cold-start-stampede": Behaviour(rebuild_s=0.03, patience=60.0),
    "memory-leak": Behaviour(forgetful=False),
    "lost-writes": Behaviour(drop_one_in=200),
}


def behaviour(name: str | None) -> Behaviour:
    """Raises ValueError, naming what there is, for a name that is not in DEFECTS."""
    if not name:
        return HARDENED
    try:
        return DEFECTS[name]
    except KeyError:
        raise ValueError(f"ANOMALY_API_DEFECT={name}: no such defect; there are {', '.join(sorted(DEFECTS))}") from None
