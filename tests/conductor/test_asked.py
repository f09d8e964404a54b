"""A process that is asked once: whatever becomes of it, the run learns why it said nothing, and it is gone."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import psutil
import pytest

from harness.conductor import asked
from harness.load.ipc.protocol import ReadBackBegun, ReadBackDone
from harness.model.records.acknowledged import Answers


class Keeper:
    def __init__(self) -> None:
        self.adopted: list[tuple[str, int]] = []
        self.renewed = 0

    def adopt(self, name: str, pid: int, start_time: float) -> None:
        self.adopted.append((name, pid))

    def renew(self) -> None:
        self.renewed += 1


ARGV = ["-P", "-u", "-m", "harness.load", "read-back"]
SPEAKS = "print('{\"limit_s\": 1.0}', flush=True); "


@pytest.mark.parametrize(
    ("code", "signalled", "more", "why"),
    [
        (SPEAKS, 0, False, ""),
        (SPEAKS + "time.sleep(60)", 0, True, "it took too long"),
        ("time.sleep(60)", 0, False, "it took too long"),
        ("pass", 0, False, "the process for it ended; see logs/load.log"),
        # What is said to it is longer than a pipe holds, and it ends before it has read all.
        ("sys.stdin.buffer.read(100_000)", 0, False, "the process for it ended; see logs/load.log"),
        ("print('nonsense', flush=True); time.sleep(60)", 0, False, "the process for it ended; see logs/load.log"),
        ("time.sleep(60)", 1, False, asked.INTERRUPTED),
    ],
)
def test_why_there_was_no_last_answer_is_told(
    code: str, signalled: int, more: bool, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "logs").mkdir()
    program = tmp_path / "python"
    program.write_text(f"#!{sys.executable}\nimport sys, time\nassert sys.argv[1:] == {ARGV!r}\n{code}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(asked, "START_S", 2.0)
    keeper, heard = Keeper(), []

    def hear(answer: ReadBackBegun) -> float | None:
        heard.append(answer)
        return asked.monotonic() + 0.3 if more else None

    session: Any = SimpleNamespace(keeper=keeper, run_dir=tmp_path)
    signals: Any = SimpleNamespace(count=signalled)
    decoder = msgspec.json.Decoder(ReadBackBegun)
    long = ReadBackDone(answers=Answers(there=0, example="x" * 300_000))
    start = long if "read(" in code else ReadBackBegun(limit_s=1.0)
    assert asked.ask("read-back", start, decoder, hear, session, signals) == why
    assert len(heard) == (1 if SPEAKS in code else 0) and keeper.renewed
    ((name, pid),) = keeper.adopted
    assert name == "read-back" and not psutil.pid_exists(pid)
