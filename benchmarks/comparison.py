"""Does a comparison find what it promises, and nothing else? Synthetic groups with known truth.

    python benchmarks/comparison.py [--groups 2000]

Harms are drawn here, by no code of the rules: a level that a pair has in common and a share of its own for each run,
both log-normal, rounded to whole requests. They are judged as `harness compare` judges the harms of run directories. A
row has the bound, where there is one, and whether it is met. Seeded: prints the same every time. Takes about a minute
on one core. Exit 1 when a bound is missed.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
from collections.abc import Iterator

from harness.analysis.comparison.answer import Told, called, log_harm, of_groups, of_pairs
from harness.analysis.comparison.power import smallest_change
from harness.analysis.statistics.sign_flip import sign_flip_p

LEVEL = 800.0
"""Harm of a base run: 10 more do not matter beside it."""
BETWEEN = 0.5
"""Standard deviation of what the two of a pair have in common."""
MANY, FEW = 600, 200
"""Groups in which a smallest change is looked for; of 30 pairs, whose exact test takes long."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=2000, help="synthetic groups a row (default 2000)")
    groups = parser.parse_args().groups
    missed = 0
    print("| what | seen | bound | |\n|---|---|---|---|")
    for row in (*promises(groups), *printed(groups)):
        what, seen, bound, met = row
        missed += not met
        print(f"| {what} | {seen} | {bound} | {'met' if met else 'MISSED'} |", flush=True)
    return 1 if missed else 0


Row = tuple[str, str, str, bool]


def promises(groups: int) -> Iterator[Row]:
    for spread, margin, change in ((0.45, 0.5, 1.0), (0.27, 0.25, 0.5)):
        found = share("worse", paired(10, spread, change, groups), margin)
        what = f"10 pairs, spread {spread}, margin {margin:.0%}, truly +{change:.0%}: called worse"
        yield what, f"{found:.1%}", ">= 90%", found >= 0.9
    for pairs in (7, 10, 15):
        for spread in (0.27, 0.45, 0.8):
            alike = list(paired(pairs, spread, 0.0, groups))
            found, bare = found_worse(iter(alike), 0.5), found_worse(iter(alike), 0.0)
            what = f"A/A, {pairs} pairs, spread {spread}: called worse with a margin of 50%, of 0%"
            bound = 0.01 + noise(0.01, groups)
            yield what, f"{found:.2%}, {bare:.2%}", f"<= 1% +- {noise(0.01, groups):.2%}", bare <= bound
    for spread in (0.27, 0.45):
        found = share("not_worse", paired(10, spread, 0.5, groups), 0.5)
        what = f"10 pairs, spread {spread}, truly at the margin of 50%: called not worse"
        bound = 0.05 + noise(0.05, groups)
        yield what, f"{found:.1%}", f"<= 5% +- {noise(0.05, groups):.1%}", found <= bound
    for spread in (0.25, 0.40, 0.60):
        found = share("worse", unpaired(10, spread, 0.5, groups), 0.25)
        what = f"10 + 10 runs, no pairs, spread of a run {spread}, margin 25%"
        yield f"{what}, truly +50%: called worse", f"{found:.0%}", "-", True
        found = share("worse", unpaired(10, spread, 0.0, groups), 0.0)
        bound = 0.01 + noise(0.01, groups)
        yield "A/A, the same without a margin: called worse", f"{found:.2%}", "<= 1%", found <= bound


def printed(groups: int) -> Iterator[Row]:
    """The smallest change as it is printed before pairs are made, beside the one found in nine of ten groups."""
    for pairs, spread, margin in (
        *((pairs, spread, 0.5) for pairs in (7, 8, 10, 12, 15, 20) for spread in (0.27, 0.45, 0.8)),
        *((pairs, 0.27, 0.25) for pairs in (7, 10, 15, 20)),
        (30, 0.45, 0.25),
    ):
        said = smallest_change(pairs, spread, margin)
        low, high = margin, 2 * said
        for _ in range(6):
            middle = (low + high) / 2
            if found_worse(paired(pairs, spread, middle, min(groups, FEW if pairs > 20 else MANY)), margin) < 0.9:
                low = middle
            else:
                high = middle
        off = said / ((low + high) / 2) - 1
        what = f"{pairs} pairs, spread {spread}, margin {margin:.0%}: smallest change printed, simulated"
        yield what, f"+{said:.0%}, +{(low + high) / 2:.0%} ({off:+.0%})", "within 20%", abs(off) <= 0.2


Groups = Iterator[tuple[list[float], list[float], bool]]


def paired(pairs: int, spread: float, change: float, groups: int) -> Groups:
    """spread: of a pair's log ratio."""
    for number in range(groups):
        draw = random.Random(f"group {number} of {pairs}")
        base, new = [], []
        for _ in range(pairs):
            common = draw.gauss(0.0, BETWEEN)
            base.append(harm(common + draw.gauss(0.0, spread / math.sqrt(2)), 0.0))
            new.append(harm(common + draw.gauss(0.0, spread / math.sqrt(2)), change))
        yield base, new, True


def unpaired(runs: int, spread: float, change: float, groups: int) -> Groups:
    """spread: of a run's log harm."""
    for number in range(groups):
        draw = random.Random(f"groups {number} of {runs}")
        sides = [[harm(draw.gauss(0.0, spread), more) for _ in range(runs)] for more in (0.0, change)]
        yield sides[0], sides[1], False


def harm(log: float, change: float) -> float:
    return round(LEVEL * (1 + change) * math.exp(log))


def judged(groups: Groups, margin: float) -> Iterator[Told]:
    for base, new, pairs in groups:
        logs = [[log_harm(one) for one in side] for side in (base, new)]
        yield (of_pairs if pairs else of_groups)(logs[0], logs[1], margin)


def share(answer: str, groups: Groups, margin: float) -> float:
    told = [one.answer == answer for one in judged(groups, margin)]
    return sum(told) / len(told)


def found_worse(groups: Groups, margin: float) -> float:
    """The same for "worse", without the bound that the other answers need and that takes long."""
    found = total = 0
    for base, new, _ in groups:
        ratios = [log_harm(there) - log_harm(here) for here, there in zip(base, new, strict=True)]
        mean = statistics.fmean(ratios)
        total += 1
        found += mean > math.log1p(margin) and called(sign_flip_p(ratios), mean, math.inf, margin) == "worse"
    return found / total


def noise(p: float, groups: int) -> float:
    """Two standard errors."""
    return 2 * math.sqrt(p * (1 - p) / groups)


if __name__ == "__main__":
    sys.exit(main())
