"""Which process is meant: see harness.adapters.process_ids, which faults use as well."""

from __future__ import annotations

from harness.adapters.process_ids import (
    LINUX,
    ProcessId,
    Seen,
    alive,
    boot_id,
    identify,
    look,
    of_another_boot,
    older,
    open_pidfd,
    same,
    send,
    table,
    wait_gone,
)

__all__ = [
    "LINUX",
    "ProcessId",
    "Seen",
    "alive",
    "boot_id",
    "identify",
    "look",
    "of_another_boot",
    "older",
    "open_pidfd",
    "same",
    "send",
    "table",
    "wait_gone",
]
