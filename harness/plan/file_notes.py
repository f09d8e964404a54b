"""What of a Locust file is not in force, or not as under Locust alone: said by name before the run."""

from __future__ import annotations

from harness.model.records.load import LoadPlan, Locustfile
from harness.model.units import format_percent


def file_notes(file: Locustfile, load: LoadPlan) -> tuple[str, ...]:
    """Sentences for people, about the classes that take part."""
    found = [
        f"the load shape {name} is ignored: scenario and options decide how many users there are"
        for name in file.shapes
    ]
    total = sum(one.weight for one in load.classes) or 1.0
    for one in load.classes:
        if one.fixed_count and load.model == "open":
            found.append(
                f"fixed_count = {one.fixed_count} of {one.name} is ignored in the open model: by its weight it gets "
                f"{format_percent(one.weight / total)} of the arrivals; --model closed keeps it"
            )
        elif one.fixed_count:
            found.append(f"fixed_count of {one.name} is kept: {one.fixed_count} users")
        if one.host is not None and one.host.rstrip("/") != load.host.rstrip("/"):
            found.append(
                f"the host {one.host} of {one.name} is ignored: its requests go to {load.host or 'the target'}, "
                "as with Locust's --host"
            )
    return (*found, *file.notes)
