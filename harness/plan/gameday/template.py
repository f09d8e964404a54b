"""The plan that `harness gameday init` prints: commented, made from what is declared, and valid as it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.model.records.faults import Dependency
from harness.plan.consent import FaultDescription
from harness.plan.suite.items import CONTROL, Item
from harness.plan.suite.profile import profile

HEAD = """\
# A game day: an hour in which a team breaks things on purpose, on one running load, and leaves with a record.
# Would the plan work?  harness gameday PLAN.yaml --rehearse
# The day itself:       harness gameday PLAN.yaml --no-web
title: our first game day

# Who does what. The operator breaks and mends, observers look on, responders find out and mend as on any day.
roles:
  operator: [Ada]
  observer: [Grace]
  responder: [Bo]

# Ticked one by one before the first drill.
prerequisites:
  - on-call knows that this is an exercise, and until when
  - dashboards and logs are open
  - somebody can say stop

# The load, for the whole day: all options of `harness run`.
{load}
# Before each drill, for talk and notes.
pause: 2m

# A drill says what you believe, breaks one thing, and is judged by your targets. Begin with what you expect to hold.
drills:
"""
SAMPLE_LOAD = "scenario: target\nrate: 100\n"
OWN_LOAD = """\
# What is not said here is as in [run] of harness.toml, or by default.
# scenario: target
# rate: 50                   requests a second
# locustfile: locustfile.py  what is sent
"""
KINDS = ("down", "latency", "hang")
"""Of each dependency, in this order: what a first game day should try."""
HYPOTHESES: dict[str, str] = {
    "down": "without {name} the service answers in another way, and at most 1% of requests fail",
    "latency": "a slow {name} does not make the service slow: calls to it have a time limit",
    "hang": "when {name} hangs, calls to it end by their time limit and users do not wait",
}
EXPECT: dict[str, str] = {
    "down": "the dashboard shows {name} as down; errors stay where they were",
    "latency": "latency of {name} rises on the dashboard; that of the service does not",
    "hang": "calls to {name} time out in the log",
}
MOST = 4
NOTHING = """\
  # Nothing is declared that could be broken: declare [dependencies.NAME] in harness.toml.
  # This drill breaks nothing.
  - name: {name}
    faults: [none]
    hypothesis: "with nothing broken all targets are held"
"""


def template(dependencies: Sequence[Dependency], faults: Mapping[str, FaultDescription], *, ours: bool) -> str:
    """The text of a plan. ours: the stack is one that the harness starts."""
    made = profile("quick", dependencies, faults, ours=ours)
    chosen = _chosen([item for item in made.items if item.name != CONTROL])
    text = HEAD.replace("{load}", SAMPLE_LOAD if ours else OWN_LOAD)
    if not chosen:
        return text + NOTHING.format(name=CONTROL)
    return text + "".join(_drill(item, blind=number == MOST - 1) for number, item in enumerate(chosen))


def _chosen(items: Sequence[Item]) -> list[Item]:
    """One kind after the other, of each dependency in turn."""
    ranked = [item for kind in KINDS for item in items if item.name.rpartition("-")[2] == kind]
    return (ranked or list(items))[:MOST]


def _drill(item: Item, *, blind: bool) -> str:
    name, _, kind = item.name.rpartition("-")
    fault = next(iter(getattr(entry, "fault", item.name) for entry in item.entries), item.name)
    lines = [
        f"  - name: {item.name}",
        f"    faults: [{fault}]",
        f"    hypothesis: {_quoted(HYPOTHESES.get(kind, 'the service holds its targets').format(name=name))}",
        f"    expect: {_quoted(EXPECT.get(kind, 'nothing that users notice').format(name=name))}",
        "    fault_for: 30s",
        '    abort_if: ["error_rate > 50% for 15s"]',
    ]
    if blind:
        lines.append("    blind: true               # the responders are not told what is broken")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
