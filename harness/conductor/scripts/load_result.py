"""What a steady load saw, and whether targets held over it, judged as those of a run are: by what can be known."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import msgspec

from harness.analysis.statistics.binomial import judge_proportion, needed
from harness.model.errors import UsageError
from harness.model.records.metrics import ALLOWED_OVER
from harness.model.records.targets import Op, Target
from harness.model.target_grammar import format_value, parse_expression


class LoadResult(msgspec.Struct, frozen=True, kw_only=True):
    """planned: arrivals of the schedule. ok, failed: how they ended; one that was never sent, because too many were
    still waiting for their answers, has failed. errors: what failures said -> how many. seconds: how long it lasted.

    latencies_ms: of what succeeded, sorted, from the instant at which it was due. answered_ms: the same from when it
    was sent: what this machine itself was late with is not the service's. saturated: the generator could not keep up.
    """

    planned: int
    ok: int
    failed: int
    seconds: float
    errors: dict[str, int] = {}
    latencies_ms: tuple[float, ...] = ()
    answered_ms: tuple[float, ...] = ()
    saturated: bool = False

    @property
    def error_rate(self) -> float | None:
        return self.failed / self.planned if self.planned else None

    def percentile_ms(self, percent: float) -> float | None:
        """By nearest rank, of what succeeded; None where nothing did."""
        if not self.latencies_ms:
            return None
        return self.latencies_ms[max(0, math.ceil(percent / 100 * len(self.latencies_ms)) - 1)]

    def broken(self, targets: Sequence[str]) -> tuple[str, ...]:
        """A sentence for each target that did not hold, or of which too little was seen. Raises UsageError for one that
        is of a run only."""
        return tuple(said for text in targets for said in self._judged(parse_expression(text)))

    def _judged(self, target: Target) -> Iterator[str]:
        traits, limits = target.traits, target.limits
        if target.phase or target.name or len(limits) != 1 or limits[0].relative or not traits.watched:
            allowed = ", ".join(("error_rate", *ALLOWED_OVER))
            raise UsageError(f"target `{target.text}` is of a run, not of a steady load", hint=f"one of {allowed}")
        op, own = target.op, False
        if traits.failures:
            bad, of, share = self.failed, self.planned, target.value
            seen = f"{bad:,} of {of:,} requests failed{self._most()}"
        else:
            op, of, share = "<=", self.ok, ALLOWED_OVER[target.metric]
            bad = _over(self.latencies_ms, target.value)
            own = self.saturated or not _broken(_over(self.answered_ms, target.value), of, share, op)
            value = self.percentile_ms(100 * (1 - share))
            shown = "not seen" if value is None else format_value(value, "ms")
            seen = f"{target.metric} was {shown} over {of:,} successful requests"
        outcome = judge_proportion(bad, of, share, op)
        if outcome == "broken" and own:
            yield f"{seen}; this machine was too late with them to say that `{target.text}` is broken"
        elif outcome == "broken":
            yield f"{seen}, which breaks `{target.text}`"
        elif outcome != "held":
            least = f" (at least {needed(share):,}, none of them bad)" if 0 < share < 1 else ""
            yield f"{seen}: too few to say that `{target.text}` holds{least}"

    def _most(self) -> str:
        """What most failures said."""
        if not self.errors:
            return ""
        text, count = max(self.errors.items(), key=lambda one: one[1])
        return f" ({count:,} of them: {text})"


def _over(latencies_ms: Sequence[float], limit_ms: float) -> int:
    return sum(latency >= limit_ms for latency in latencies_ms)


def _broken(bad: int, of: int, share: float, op: Op) -> bool:
    return judge_proportion(bad, of, share, op) == "broken"
