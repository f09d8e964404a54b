"""Faults of users' packages come through the same door; what one of them has got wrong stays its own trouble."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HARNESS = Path(sys.executable).with_name("harness")

ENTRY_POINTS = """[harness.faults]
absent = mypackage.nothing:FAULT
broken = mypackage.broken:FAULT
down = mypackage.fine:FAULT
noise = mypackage.fine:FAULT
number = mypackage.fine:NUMBER
"""

FINE = """
import msgspec
from harness.fault import registered
from harness.model.records.faults import Change

class Noise:
    kind, summary, undo_summary, proof_summary = "noise", "makes noise", "silence", "it is heard"
    needs, one_shot, params = "server", False, ()
    def plan(self, dependency, params):
        return Change(kind="noise", dependency=dependency, params={}, does="noise", undoes="silence", proves="heard")
    def capture(self, change, record_id): ...
    def inject(self, record): ...
    def prove(self, record, stage): ...
    def undo(self, record): ...
    def verify_undone(self, record): ...

FAULT, NUMBER = Noise(), 7
"""


def test_a_package_registers_its_own_fault_and_a_broken_one_is_named(tmp_path: Path) -> None:
    package, info = tmp_path / "mypackage", tmp_path / "mypackage-1.dist-info"
    package.mkdir()
    info.mkdir()
    (package / "__init__.py").touch()
    (package / "fine.py").write_text(FINE)
    (package / "broken.py").write_text("raise RuntimeError('no licence')\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mypackage\nVersion: 1\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    done = subprocess.run(
        [HARNESS, "faults"], env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=True
    )
    assert "makes noise" in done.stdout and "redis-noise" in done.stdout
    assert "redis-latency" in done.stdout, "the others are as they were"
    notes = done.stderr.splitlines()
    assert [note.split()[3] for note in notes] == ["absent", "broken", "down", "number"]
    assert "No module named 'mypackage.nothing'" in notes[0]
    assert "RuntimeError: no licence" in notes[1]
    assert "registered more than once: faults.proxy.down:DOWN, mypackage.fine:FAULT" in notes[2]
    assert "is not a Fault" in notes[3]
