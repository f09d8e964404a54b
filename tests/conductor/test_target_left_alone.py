"""The user's own command brings back a target that is dead, and is not run for one that is well without load."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.conductor.sharing import series
from harness.conductor.sharing.carried import Carried


@pytest.mark.parametrize(
    ("well", "stopped", "said"),
    [
        (True, None, []),
        (False, None, ["it had not come back: done"]),
        (True, "not_calm", ["it had not come back: done"]),  # under the load of its suite it is not well after all
    ],
)
def test_the_declared_command_is_for_what_is_dead(
    well: bool, stopped: str | None, said: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """The parts of a session that are not asked here are stood in for: a load that its own lateness makes doubtful
    cannot be had on demand."""
    monkeypatch.setattr(series, "reset_by_command", lambda *_: "done")
    told: list[str] = []
    one = object.__new__(series.Series)
    one.__dict__.update(
        _session=SimpleNamespace(journal=object(), owns_stack=False, keeper=None, run_dir=tmp_path),
        _before=None,
        _signals=SimpleNamespace(count=0),
        _up=SimpleNamespace(dependencies=()),
        _declared_reset=("harness.toml", "0" * 64),
        _resets=0,
        _log=SimpleNamespace(say=told.append),
    )
    carried = SimpleNamespace(stopped=stopped, well_without_load=well, reset="", stuck="")
    one._reset(cast(Carried, carried))
    assert told == said and carried.reset == ("done" if said else "") and not carried.stuck
