"""What is declared not to need a dependency has targets of its own while that dependency is broken."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from msgspec.structs import replace

from harness.model.records.targets import Target
from harness.model.target_grammar import canonical, parse_targets

ALLOWED = 0.05
"""The share of one name's requests that may be bad. The 1 % of all requests together would take 300 of the name."""
DEFAULTS = ("fault: error_rate < 5%", "fault: p95 < 200ms")


def isolation_targets(
    independent_of: Mapping[str, Sequence[str]], hit: Collection[str], targets: Sequence[Target] = ()
) -> tuple[str, ...]:
    """Targets, as after --target, of the requests that are declared independent of what is hit: dependencies.

    Their limits are those that the experiment's primary targets set all requests in the fault phase, but ALLOWED where
    those allow fewer errors; else DEFAULTS. targets: the experiment's; where it has a primary one for such a request by
    name, that one stands.
    """
    primary = [target for target in targets if target.phase == "fault" and target.primary and target.op in ("<", "<=")]
    own = {(target.metric, target.name) for target in primary}
    found = []
    for default in (target for text in DEFAULTS for target in parse_targets(text)):
        of_all = next((t for t in primary if (t.metric, t.name) == (default.metric, None)), default)
        if of_all.traits.share and not of_all.of_baseline and of_all.value < ALLOWED:
            of_all = default
        for name, dependencies in independent_of.items():
            if set(hit) & set(dependencies) and (default.metric, name) not in own:
                found.append(canonical(replace(of_all, name=name)))
    return tuple(found)
