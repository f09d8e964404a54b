"""docs/faults.md is true: every kind is on it with its parameters and defaults, and its example works."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import msgspec
import pytest
from test_contract import assert_held, change_for, through_json

from harness.fault import Fault, registered
from harness.model.errors import Refused, UndoUnverified
from harness.model.records.faults import Dependency
from tests.support.servers.real import ValkeyServer

PAGE = (Path(__file__).parent.parent.parent / "docs" / "faults.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", registered())
def test_every_kind_is_in_the_table_with_its_parameters(kind: str) -> None:
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{kind}` |")]
    for info in registered()[kind].params:
        assert f"`{info.name}` ({info.default})" in row


def test_the_table_has_no_kind_that_does_not_exist() -> None:
    assert set(re.findall(r"^\| `([\w-]+)` \|", PAGE, re.MULTILINE)) == set(registered())


@pytest.fixture
def example() -> Fault:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    module = ModuleType("my_faults")
    exec(compile(code, "docs/faults.md", "exec"), module.__dict__)
    fault: Fault = module.__dict__["FULL"]
    return fault


@pytest.mark.stack
def test_the_example_keeps_the_contract(example: Fault, valkey_server: ValkeyServer) -> None:
    assert isinstance(example, Fault)
    dependency = Dependency(name="redis", kind="redis", direct=valkey_server.address)
    record = through_json(example.capture(change_for(example, dependency), "r"))
    assert not all(item.held for item in example.prove(record, "injected"))
    try:
        example.inject(record)
        assert_held(example.prove(record, "injected"))
        assert_held(example.prove(record, "held"))
        assert not all(item.held for item in example.verify_undone(record))
        with pytest.raises(UndoUnverified, match="maxmemory is 1"):
            example.undo(msgspec.structs.replace(record, ours={"maxmemory": 2}, original={"maxmemory": 3}))
    finally:
        example.undo(record)
    assert_held(example.verify_undone(record))
    example.undo(record)
    with pytest.raises(Refused):
        change_for(example, Dependency(name="db", kind="postgres"))
