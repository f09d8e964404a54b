"""`harness report` and `harness check` as a user types them, on recorded runs and on Locust's CSV.

Most are the command's own main function in this process; one of each command is a real process.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.analysis import run_directory
from tests.analysis.histories import Scene, failing
from tests.support.command import command

CSV = """\
Type,Name,Request Count,Failure Count,Median Response Time,Average Response Time,Min Response Time,Max Response Time,\
Average Content Size,Requests/s,Failures/s,50%,66%,75%,80%,90%,95%,98%,99%,99.9%,99.99%,100%
POST,/predict,9000,40,8,12.2,2,900,100,150.1,0.7,8,9,10,11,20,41,60,90,300,500,900
,Aggregated,12000,48,8,12.2,2,900,100,200.1,0.8,8,9,10,11,20,41,60,90,300,500,900
"""


def harness(*arguments: str) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory() as folder:
        return command(*arguments, cwd=Path(folder))


def process(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from harness.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A judged run that failed 60 % of its requests, from the injection until 1.2 s after the undo."""
    run_dir = Scene(service=failing(23.0, 44.2, 0.6), rate=100.0).build().write(tmp_path_factory.mktemp("run"))
    run_directory.write_result(run_dir, run_directory.analyze(run_dir))
    return run_dir


def test_check_of_a_run_prints_the_assessment_and_exits_by_its_verdict(failed: Path) -> None:
    done = process("check", str(failed))
    assert done.returncode == 1, done.stderr
    rows = done.stdout.splitlines()
    assert rows[0] == "TARGET ASSESSMENT"
    assert [row.startswith("RPS Target (>=95% of 100):") for row in rows].count(True) == 1
    assert any(row.startswith("Failure Rate Target (<1%):") and "❌ FAIL (fault: " in row for row in rows)
    assert "\x1b" not in done.stdout
    assert any(row.startswith("FAIL: with redis-down, ") for row in rows)


def test_check_judges_a_further_target_without_writing(failed: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in failed.iterdir()}
    done = harness("check", str(failed), "--target", "fault: p99{GET /items} < 10ms")
    assert "P99 Latency Target {GET /items} (<10ms):" in done.stdout
    assert {path.name: path.stat().st_mtime_ns for path in failed.iterdir()} == before


def test_check_of_a_run_that_was_never_judged_judges_it(failed: Path, tmp_path: Path) -> None:
    for name in ("plan.json", "history.jsonl", "windows.jsonl", "samples.jsonl"):
        (tmp_path / name).write_bytes((failed / name).read_bytes())
    assert harness("check", str(tmp_path)).returncode == 1
    assert not (tmp_path / "result.json").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        ((), 0, "P95 Latency Target (<200ms):  ✅ PASS (41ms)"),
        (("--scenario", "target", "--scale", "0.02"), 0, "RPS Target (>=95% of 200):    ✅ PASS (200.1)"),
        (("--scenario", "target"), 1, "❌ FAIL (200.1)"),
        (("--target", "error_rate < 0.1%"), 1, "Failure Rate Target (<0.1%):  ❌ FAIL (0.4%)"),
        (("--target", "~p99 < 50ms"), 0, "🟡 WARN (90ms)"),
        (("--name", "/predict", "--target", "rps >= 150"), 0, "RPS Target (>=150):           ✅ PASS (150.1)"),
    ],
)
def test_check_of_locusts_csv(tmp_path: Path, arguments: Sequence[str], code: int, part: str) -> None:
    path = tmp_path / "out_stats.csv"
    path.write_text(CSV)
    done = harness("check", str(path), *arguments)
    assert done.returncode == code, done.stdout + done.stderr
    assert part in done.stdout


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("check", "/nowhere/at/all"), "no such file"),
        (("check", "{csv}", "--scale", "0.5"), "--scale needs --scenario"),
        (("check", "{csv}", "--scenario", "traget"), "target"),
        (("check", "{csv}", "--scenario", "target", "--scale", "7"), "--scale 7"),
        (("check", "{csv}", "--name", "/predikt"), "/predict"),
        (("check", "{csv}", "--target", "p95 < 200"), "unit"),
        (("check", "{run}", "--scale", "0.5"), "a file of Locust's or k6's"),
        (("report", "/nowhere"), "no such file or run directory"),
        (("report", "{run}", "--format", "pdf"), "pdf"),
        (("report", "{run}", "--format", "md", "--out", "/nowhere/at/all.md"), "cannot be written"),
    ],
)
def test_bad_input_is_one_clear_line_and_exit_2(
    failed: Path, tmp_path: Path, arguments: Sequence[str], part: str
) -> None:
    path = tmp_path / "out_stats.csv"
    path.write_text(CSV)
    done = harness(*(argument.format(csv=path, run=failed) for argument in arguments))
    assert done.returncode == 2
    assert part in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 3
    assert done.stdout == ""


def test_report_writes_every_format(failed: Path, tmp_path: Path) -> None:
    assert json.loads(harness("report", str(failed), "--format", "json").stdout)["verdict"] == "fail"
    assert ET.fromstring(harness("report", str(failed), "--format", "junit").stdout).tag == "testsuites"
    assert harness("report", str(failed), "--format", "md").stdout.startswith("# ❌ redis-down / target\n")
    out = tmp_path / "report.html"
    done = process("report", str(failed), "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "<title>FAIL: redis-down / target</title>" in out.read_text(encoding="utf-8")


def test_a_run_without_a_result_says_how_to_make_one(failed: Path, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_bytes((failed / "plan.json").read_bytes())
    done = harness("report", str(tmp_path), "--format", "md")
    assert done.returncode == 2
    assert "harness analyze" in done.stderr


def test_a_run_that_failed_in_set_up_has_a_page(failed: Path, tmp_path: Path) -> None:
    """Only plan.json and result.json were written before it ended."""
    for name in ("plan.json", "result.json"):
        (tmp_path / name).write_bytes((failed / name).read_bytes())
    done = harness("report", str(tmp_path), "--out", str(tmp_path / "report.html"))
    assert done.returncode == 0, done.stderr
    assert "<h2>Targets by phase</h2>" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_help_names_the_exit_codes_and_examples() -> None:
    text = " ".join(harness("check", "--help").stdout.split())
    for part in ("0 PASS", "1 FAIL", "3 INCONCLUSIVE", "_stats.csv", "--target", "--scenario", "--scale", "--name"):
        assert part in text


@pytest.mark.parametrize("words", [("check",), ("analyze", "--dry-run"), ("report", "--format", "md")])
@pytest.mark.parametrize("name", ["plan.json", "result.json"])
@pytest.mark.parametrize("damage", ["folder", "no utf-8"])
def test_a_file_of_the_run_that_cannot_be_read_is_named(
    failed: Path, tmp_path: Path, words: tuple[str, ...], name: str, damage: str
) -> None:
    """Exit code 1 would mean FAIL to a pipeline."""
    run_dir = shutil.copytree(failed, tmp_path / "run")
    if damage == "folder":
        (run_dir / name).unlink()
        (run_dir / name).mkdir()
    else:
        (run_dir / name).write_bytes((run_dir / name).read_bytes().replace(b'"target"', b'"\xff"'))
    done = harness(*words[:1], str(run_dir), *words[1:])
    if words[0] == "analyze" and name == "result.json":
        assert done.returncode == 1, "the verdict, made anew from the record"
        return
    assert done.returncode == 2 and name in done.stderr, done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2


def test_a_result_that_cannot_be_written_is_said_in_one_line(failed: Path, tmp_path: Path) -> None:
    run_dir = shutil.copytree(failed, tmp_path / "run")
    (run_dir / "result.json").unlink()
    (run_dir / "result.json").mkdir()
    done = process("analyze", str(run_dir))
    assert done.returncode == 2 and "result.json cannot be written" in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2


def test_a_bug_is_no_verdict() -> None:
    code = "import harness.cli as c; c.COMMANDS['check'] = ('json', ''); c.main()"
    done = subprocess.run([sys.executable, "-c", code, "check"], capture_output=True, text=True, check=False)
    assert done.returncode == 4 and done.stderr.startswith("error: unexpected AttributeError")
    done = subprocess.run([sys.executable, "-c", code, "check", "--debug"], capture_output=True, text=True, check=False)
    assert "Traceback" in done.stderr and done.returncode == 4
