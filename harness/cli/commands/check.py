"""`harness check`: the gate for CI, over a run directory, Locust's own CSV file or a summary of k6's."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.settings import debug_option

if TYPE_CHECKING:
    from harness.analysis.locust_csv import CsvCheck
    from harness.report.sentences.assessment import Line


@click.command()
@click.argument("source", metavar="RUN_DIR|STATS_CSV|K6_JSON", type=click.Path(path_type=Path))
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="EXPR",
    help="Judge this as well, for example 'p99 < 1s'; for a file without a phase. Repeatable.",
)
@click.option("--scenario", metavar="NAME", help="Files only: judge RPS by this scenario's rate.")
@click.option("--scale", type=float, help="Files only: share of the scenario's load that was run.  [default: 1]")
@click.option("--name", metavar="NAME", help="Files only: the row to judge.  [default: Aggregated]")
@click.option("--json", "as_json", is_flag=True, help="Print the judgement as JSON on stdout.")
@debug_option
def check(
    source: Path,
    targets: tuple[str, ...],
    scenario: str | None,
    scale: float | None,
    name: str | None,
    as_json: bool,
) -> int:
    """Print TARGET ASSESSMENT and exit by the verdict: 0 PASS, 1 FAIL, 3 INCONCLUSIVE.

    Reads a run directory of ours, the file NAME_stats.csv that `locust --csv NAME` writes, or the JSON that
    `k6 run --summary-export FILE` or handleSummary() writes. Writes nothing.

    \b
    harness check runs/20261123-160000-redis-down-target
    harness check results_stats.csv --scenario target --scale 0.02
    harness check results_stats.csv --target 'rps >= 150' --target 'p99 < 1s' --name /api/v1/predict
    harness check summary.json --target 'p95 < 300ms'
    """
    from harness.analysis.run_directory import missing
    from harness.model.errors import UsageError

    if not source.exists():
        missing(source)
    if source.is_dir():
        given = [option for option, value in (("--scenario", scenario), ("--scale", scale), ("--name", name)) if value]
        if given:
            raise UsageError(f"{given[0]} is for a file of Locust's or k6's; a run directory knows its own plan")
        return _run_dir(source, targets, as_json)
    if scale is not None and scenario is None:
        raise UsageError("--scale needs --scenario NAME, whose rate it scales")
    if scale is not None and not 0 < scale <= 1:
        raise UsageError(f"--scale {scale:g} is not a share of the full load", hint="above 0, at most 1 (0.02 is 2 %)")
    return _file(source, targets, scenario, 1.0 if scale is None else scale, name, as_json)


def _run_dir(run_dir: Path, targets: Sequence[str], as_json: bool) -> int:
    from harness import api
    from harness.analysis import run_directory
    from harness.model.jsonl import encode_line
    from harness.model.target_grammar import parse_targets
    from harness.report.sentences import story

    plan = run_directory.read_plan(run_dir)
    extra = tuple(target for text in targets for target in parse_targets(text))
    judged_before = (run_dir / run_directory.RESULT).exists()
    result = api.load_result(run_dir) if judged_before and not extra else api.analyze(run_dir, targets=targets)
    if as_json:
        click.echo(encode_line(result).decode(), nl=False)
        return result.exit_code

    def told() -> tuple[tuple[Line, ...], list[str]]:
        first = story.headline(plan, result)
        after = [first, *(f"  - {reason}" for reason in story.other_reasons(result, first))]
        scaled = story.scale_sentence(plan)
        return story.lines_of(plan, result, extra), [*([scaled] if scaled else []), *after]

    _show(*run_directory.made_of(run_dir, told))
    return result.exit_code


def _file(
    path: Path, targets: Sequence[str], scenario: str | None, scale: float, name: str | None, as_json: bool
) -> int:
    from harness.analysis.k6_summary import check_k6_summary, is_k6_summary
    from harness.analysis.locust_csv import AGGREGATED, check_stats_csv
    from harness.model.jsonl import encode_line
    from harness.plan.planner import find_scenario

    found = find_scenario(scenario) if scenario is not None else None
    check = check_k6_summary if is_k6_summary(path) else check_stats_csv
    checked = check(path, targets, name=AGGREGATED if name is None else name, scenario=found, scale=scale)
    if as_json:
        click.echo(encode_line(checked).decode(), nl=False)
        return checked.exit_code
    rate = found.rate * scale if found is not None and found.rate is not None else None
    _show(_csv_lines(checked, rate), _csv_summary(checked, scenario, scale))
    return checked.exit_code


def _csv_lines(checked: CsvCheck, rate: float | None) -> tuple[Line, ...]:
    """The same lines as a run's, with RPS said as a share of the scenario's rate where that is where it comes from."""
    import msgspec

    from harness.analysis.locust_csv import RPS_SHARE
    from harness.model.errors import UsageError
    from harness.model.target_grammar import parse_expression
    from harness.report.sentences.assessment import assess

    parsed = []
    for found in checked.targets:
        try:
            target = parse_expression(found.target)
        except UsageError:
            continue  # RPS that is only reported has no limit
        target = msgspec.structs.replace(target, text=found.target, primary=found.primary)
        if found.traits.of_plan and rate is not None and found.limit == float(f"{RPS_SHARE * rate:.12g}"):
            target = msgspec.structs.replace(target, relative="plan", value=RPS_SHARE)
        parsed.append(target)
    return assess(parsed, checked.targets, rate=rate)


def _csv_summary(checked: CsvCheck, scenario: str | None, scale: float) -> list[str]:
    from harness.report.sentences import text

    lines = [
        f"{text.visible(checked.name)}: {checked.requests:,} requests, {checked.failures:,} failures "
        f"({text.percent(checked.error_rate)}), {text.rps(checked.rps)} RPS, mean {text.ms(checked.mean_ms)}, "
        f"median {text.ms(checked.p50_ms)}, p95 {text.ms(checked.p95_ms)}, p99 {text.ms(checked.p99_ms)}, "
        f"max {text.ms(checked.max_ms)}"
    ]
    if scenario is not None and scale < 1:
        lines.append(
            f"This run was at {scale * 100:g} % of the {scenario} load; this does not show that the full load holds."
        )
    lines.append(checked.verdict.upper())
    return [*lines, *(f"  - {text.visible(reason, 500)}" for reason in checked.reasons)]


def _show(lines: tuple[Line, ...], after: Sequence[str]) -> None:
    from harness.cli.streams import print_styled
    from harness.report.sentences.text import visible_lines
    from harness.report.terminal.summary import assessment_lines

    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    styles = {"green": "green", "bold red": "red", "yellow": "yellow"}
    for row, style in assessment_lines(lines):
        plain = visible_lines(row)
        print_styled(click.style(plain, fg=styles.get(style), bold=style == "bold") if colour else plain)
    click.echo()
    for row in after:
        click.echo(row)
