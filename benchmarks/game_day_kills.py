"""Somebody is killed in each sort of drill that a game day has: what is healed, how fast, and what does its record say?

    python benchmarks/game_day_kills.py [--day N] [--verbose]

Real game days on one embedded stack that stays up, with its Prometheus and Alertmanager, driven in a real Chromium. In
a normal drill, in a blind one, in one that people abort (killed before that, and between the abort and its undo), and
in one whose alert never fires, SIGKILL goes to the console's process, to all processes of the operator's browser, and
to the conductor. Two times a case, from the kill: until the undo was verified, as whoever undid it has written down,
and until somebody outside sees Toxiproxy's raw answer as before and gets an answer of the dependency through the
application's path. After a killed browser nothing is healed: it is until the drill's own end, or its abort. Prints a
row a case with what the record says, and what of it is not as it should be (exit 1); about ten minutes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.e2e.kills import DRILLS, Cases, Killed, Sort, kill_each, untrue
from tests.e2e.standing import StandingStack


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--day", type=int, choices=range(1, len(DRILLS) + 1), help="only this one")
    parser.add_argument("--verbose", action="store_true", help="the whole section of the record")
    options = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        stack = StandingStack(Path(folder), "--with-alerts")
        try:
            for number, cases in enumerate(days(), start=1):
                if options.day not in (None, number):
                    continue
                for one in kill_each(Path(folder) / f"day{number}", stack, playwright, cases):
                    wrong += bool(untrue(one))
                    print(row(one, verbose=options.verbose), flush=True)
        finally:
            stack.harness("heal", "--all")
            stack.down()
    return 1 if wrong else 0


def days() -> list[Cases]:
    """Each sort with each victim once. A day goes on when a browser or its console has died, and ends with its
    conductor."""
    sorts: list[Sort] = list(DRILLS)
    turned = [sorts[number:] + sorts[:number] for number in range(len(sorts))]
    return [((first, "browser"), (second, "console"), (third, "conductor")) for first, second, third, *_ in turned]


def row(one: Killed, *, verbose: bool) -> str:
    drill = one.drill
    said = f"\n{one.cautions}\n{one.said}\n" if verbose else one.said.partition("\n\n- ")[0].replace("\n\n", " | ")
    facts = ", ".join(f"{key} {drill[key]}" for key in ("status", "verdict", "proven", "undone"))
    wrong = f"  NOT AS IT SHOULD BE: {'; '.join(untrue(one))}" if untrue(one) else ""
    times = f"{one.verified_s:6.2f} s, seen {one.healed_s:6.2f} s"
    return f"{one.sort:<18} {one.victim:<9} {times}  {facts}; why {drill['why']!r}{wrong}  {said}"


if __name__ == "__main__":
    sys.exit(main())
