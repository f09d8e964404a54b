"""The contracts of the extension points, for the tests of whoever extends the harness, and for its own.

Authors of faults and of kinds of dependencies come in, and the project's suite. Imports the protocols, the records and
what decodes parameters; no conductor, no command line, and no pytest: it collects the contracts, which need nothing of
it.
"""

from harness.testing.dependency_contract import (
    DependencyContract,
    assert_counts,
    assert_kind_described,
    assert_moves,
    assert_probes,
    assert_sees_clients,
)
from harness.testing.fault_contract import (
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
    "DependencyContract",
    "FaultContract",
    "assert_counts",
    "assert_described",
    "assert_fault_contract",
    "assert_held",
    "assert_kind_described",
    "assert_moves",
    "assert_planned",
    "assert_probes",
    "assert_refused",
    "assert_sees_clients",
    "change_for",
    "held",
    "through_json",
]
