"""The line of one figure: what is comparable, what is out of the range, and the files that show it."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from harness.history.trend import subjects
from harness.model.errors import UsageError
from harness.model.jsonl import encode
from tests.history.folders import ago, experiment, replace, run, suite
from tests.history.test_history import refused, typed
from tests.report import sample


def seconds_of_recovery(folder: Path, values: list[float], last_version: str = "1.0.0") -> None:
    for number, value in enumerate(values):
        last = number == len(values) - 1
        run(
            folder,
            f"r{number:02}",
            ago(hours=len(values) - number),
            recovery_s=value,
            version=last_version if last else "1.0.0",
        )


def test_a_value_out_of_the_range_is_marked_with_the_versions_it_lies_between(tmp_path: Path) -> None:
    seconds_of_recovery(tmp_path, [2.0, 3.0, 2.5, 4.6], "1.1.0")
    said = typed(tmp_path, "--trend", "recovery")[1].splitlines()
    assert [line.split()[2:4] for line in said[2:6]] == [
        ["2s", "PASS"],
        ["3s", "PASS"],
        ["2.5s", "PASS"],
        ["4.6s", "PASS"],
    ]
    assert said[6] == (
        "    ! outside 1.3s to 4.5s, the range of 3 accepted before widened by 50%; "
        "between target 1.0.0, harness 0.1.0 and target 1.1.0, harness 0.1.0"
    )
    assert len(said) == 7  # nothing else is marked, and nothing is left out


def test_within_the_widened_range_and_with_too_few_before_nothing_is_marked(tmp_path: Path) -> None:
    seconds_of_recovery(tmp_path / "inside", [2.0, 3.0, 2.5, 4.4])
    seconds_of_recovery(tmp_path / "few", [2.0, 3.0, 40.0])
    assert "outside" not in typed(tmp_path / "inside", "--trend", "recovery")[1]
    assert "outside" not in typed(tmp_path / "few", "--trend", "recovery")[1]


def test_a_range_of_zeros_has_room_for_what_a_run_resolves(tmp_path: Path) -> None:
    seconds_of_recovery(tmp_path / "a", [0.0, 0.0, 0.0, 0.2])
    seconds_of_recovery(tmp_path / "b", [0.0, 0.0, 0.0, 0.3])
    assert "outside" not in typed(tmp_path / "a", "--trend", "recovery")[1]
    assert "with the same versions (target 1.0.0" in typed(tmp_path / "b", "--trend", "recovery")[1]


def test_only_what_passed_is_accepted_and_of_it_the_last_20(tmp_path: Path) -> None:
    for number in range(3):
        run(tmp_path, f"a{number}", ago(days=9 - number), recovery_s=30.0)
    for number in range(20):
        run(tmp_path, f"b{number:02}", ago(hours=60 - number), recovery_s=2.0)
    for number in range(4):
        run(tmp_path, f"c{number}", ago(hours=20 - number), recovery_s=9.0, kind="fail")
    points = json.loads(typed(tmp_path, "--trend", "recovery", "--json")[1])["lines"][0]["points"]
    marked = {one["directory"]: one["outside"] for one in points if one["outside"]}
    assert set(marked) >= {"c0", "c1", "c2", "c3"} and (marked["c3"]["accepted"], marked["c3"]["high"]) == (20, 3.0)


def test_only_comparable_runs_form_the_line(tmp_path: Path) -> None:
    seconds_of_recovery(tmp_path, [2.0, 3.0])
    load = replace(sample.plan().load, rate=50.0)
    run(tmp_path, "x", ago(hours=30), edit_plan={"load": load})
    run(tmp_path, "y", ago(hours=31), edit_plan={"faults": (sample.planned_fault("redis-latency", latency=0.3),)})
    run(tmp_path, "z", ago(hours=32), edit_plan={"load": replace(load, locustfile_sha256="f")})
    said = typed(tmp_path, "--trend", "recovery")[1].splitlines()
    assert said[0] == "redis-down@0s+60s; target, open model, 200 arrivals/s, embedded stack"
    assert said[-1].startswith("left out as not comparable: 3 others: ")
    for why in ("differs in rate (1)", "differs in faults (1)", "differs in rate, locustfile (1)"):
        assert why in said[-1]
    assert len(said) == 5


def test_figures_by_phase_and_request(tmp_path: Path) -> None:
    run(tmp_path, "a", ago(hours=1), kind="fail")

    def value(metric: str) -> object:
        lines = json.loads(typed(tmp_path, "--trend", metric, "--json")[1])["lines"]
        return [(line["phase"], line["points"][0]["value"]) for line in lines]

    assert value("p95") == [("baseline", 24.1), ("fault", 168.0), ("after", 24.1)]
    assert value("fault: violating") == [("fault", 58.9)]
    assert value("fault: p99{POST /api/v1/predict}") == [("fault", 713.0)]
    assert value("recovery") == [(None, 1.3)]
    assert value("harm") == [(None, None)]
    assert "no target of that run asks for it" in typed(tmp_path, "--trend", "fault: p99.9")[1]


def test_experiments_of_suites_are_in_the_line_with_their_harm(tmp_path: Path) -> None:
    made = suite(tmp_path, "s", ago(hours=2), experiment("redis-down", "held", harm=42))
    run(made, "01-redis-down", ago(hours=2))
    points = json.loads(typed(tmp_path, "--trend", "harm", "--json")[1])["lines"][0]["points"]
    assert [(one["directory"], one["value"]) for one in points] == [("s/01-redis-down", 42)]


def test_a_run_without_recovery_is_a_gap_and_not_a_zero(tmp_path: Path) -> None:
    seconds_of_recovery(tmp_path, [2.0, 3.0])
    lost = sample.result("fail")
    assert lost.recovery is not None
    recovery = replace(lost.recovery, outcome="not_recovered", seconds=None)
    run(tmp_path, "z", ago(minutes=1), kind="fail", edit_result={"recovery": recovery})
    assert typed(tmp_path, "--trend", "recovery")[1].splitlines()[-1].split(maxsplit=2)[2].endswith("(not recovered)")


def test_damaged_figures_are_a_gap(tmp_path: Path) -> None:
    made = run(tmp_path, "a", ago(hours=1))
    found = json.loads((made / "result.json").read_text())
    found["phases"] = [{"name": "fault"}]
    (made / "result.json").write_bytes(encode(found))
    assert "n/a" in typed(tmp_path, "--trend", "fault: p95")[1]


@pytest.mark.parametrize("text", ["p59", "warmup: p95", "fault: recovery", "recovery{GET /}", "p95 <", ""])
def test_what_is_no_metric_is_told_in_a_line(text: str) -> None:
    with pytest.raises(UsageError):
        subjects(text)


def test_nothing_to_draw_is_told(tmp_path: Path) -> None:
    assert refused(tmp_path, "--trend", "p95") == "no run matches, so there is no trend"
    assert refused(tmp_path, "--trend", "score") == "no suite matches, so there is no score"


@pytest.mark.parametrize("ending", ["svg", "html"])
def test_the_file_holds_every_value_and_no_markup_of_a_run(tmp_path: Path, ending: str) -> None:
    hostile = "<script>alert(1)</script>\x1b\x00]]>"
    fault = sample.planned_fault()
    named = replace(fault, spec=replace(fault.spec, name=hostile, text=hostile))
    for number in range(150):
        edit = {"edit_plan": {"faults": (named,)}}
        run(tmp_path / "runs", f"r{number}", ago(hours=300 - number), recovery_s=number * 0.1, version=hostile, **edit)
    out = tmp_path / f"chart.{ending}"
    typed(tmp_path / "runs", "--trend", "recovery", "--limit", "0", "--out", out)
    text = out.read_text("utf-8")
    assert "<script" not in text and "\x1b" not in text and "\x00" not in text and "&lt;script&gt;" in text
    svg = ET.fromstring(text[text.index("<svg") : text.index("</svg>") + 6])
    space = "{http://www.w3.org/2000/svg}"
    assert len(svg.findall(f".//{space}circle")) == 150
    (line,) = svg.findall(f".//{space}polyline")
    assert len(line.attrib["points"].split()) == 150
    if ending == "html":
        assert "http-equiv" in text and "default-src 'none'" in text and "14.9s, PASS" in text
