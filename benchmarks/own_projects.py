"""Invented Compose projects, one for each kind of trouble: how many does `harness init` lead through a proxy rightly?

    python benchmarks/own_projects.py

right: every connection that is named as true goes through its proxy to its store, by the model that Compose makes, and
nobody else's does. refused: told by name and with a reason. wrong: anything else.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness.scaffold.compose_config import find_compose
from tests.scaffold.judging import judge
from tests.scaffold.projects import CASES


def main() -> int:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    command = find_compose()
    if command is None or command.version < (2,):
        print("this needs a Compose of the second generation", file=sys.stderr)
        return 2
    found: Counter[str] = Counter()
    for case in CASES:
        verdict, why = judge(case)
        found[verdict] += 1
        print(f"{verdict:8} {case.name}" + (f": {'; '.join(why)}" if why else ""))
    print(f"{len(CASES)} projects: {found['right']} right, {found['refused']} refused, {found['wrong']} wrong")
    return 1 if found["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
