"""The contracts of the extension points, for the tests of whoever extends the harness, and for its own.

Authors of faults come in, and the project's suite. Imports the protocols, the records and what decodes parameters; no
conductor, no command line, and no pytest: it collects FaultContract, which needs nothing of it.
"""

from harness.testing.fault import (
    FaultContract,
    assert_described,
    assert_fault_contract,
    assert_held,
    assert_planned,
    assert_refused,
    change_for,
    held,
    through_json,
)

__all__ = [
    "FaultContract",
    "assert_described",
    "assert_fault_contract",
    "assert_held",
    "assert_planned",
    "assert_refused",
    "change_for",
    "held",
    "through_json",
]
