"""What a fault sees at this very moment, as evidence: on the control plane, by a probe, on the path, after the undo."""

from __future__ import annotations

from functools import partial
from typing import Literal

from harness.model.clock import monotonic
from harness.model.records.faults import Evidence


def _seen(source: Literal["control", "probe", "path", "undo"], *, expected: str, observed: str, held: bool) -> Evidence:
    return Evidence(source=source, expected=expected, observed=observed, held=held, at=monotonic())


control_shows = partial(_seen, "control")
probe_shows = partial(_seen, "probe")
path_shows = partial(_seen, "path")
undo_shows = partial(_seen, "undo")
