"""`harness history`: the runs and suites of a folder over time."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.settings import debug_option
from harness.model.exit_codes import ExitCode

if TYPE_CHECKING:
    from harness.history.reading import Folder, Found
    from harness.history.terminal import Row

LIMIT = 50


@click.command()
@click.argument("folder", metavar="[DIR]", type=click.Path(path_type=Path), default="runs")
@click.option("--fault", metavar="NAME", help="Only with this fault: redis-down, or 'redis-*'; none: without one.")
@click.option("--scenario", metavar="NAME", help="Only of this scenario.")
@click.option("--verdict", type=click.Choice(["pass", "fail", "inconclusive"]), help="Only with this verdict.")
@click.option("--since", metavar="AGE", help="Only what began within this time, for example 90d.")
@click.option("--limit", type=click.IntRange(min=0), help=f"So many, the newest; 0: all.  [default: {LIMIT}]")
@click.option("--json", "as_json", is_flag=True, help="Print the list, or the trend, as JSON.")
@click.option("--trend", metavar="METRIC", help="Over time: recovery, 'fault: p95', harm, ..., or score of suites.")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE", help="Write the trend as FILE.svg or FILE.html."
)
@click.option(
    "--known",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Owners of known weaknesses, for the score.  [default: resilience-known.toml, if there is one]",
)
@click.option("--newer-than", metavar="AGE", help="Exit 0 if the newest is newer than this (36h), 3 if not.")
@click.option("--prune", is_flag=True, help="Drop the raw records of old runs; results and reports stay.")
@click.option("--older-than", metavar="AGE", help="With --prune: of which, for example 30d.")
@click.option("--dry-run", is_flag=True, help="With --prune: say what would be dropped.")
@debug_option
def history(folder: Path, **options: Any) -> int:
    """List the runs and suites of a folder (default: runs), newest first; draw trends; drop old raw records.

    Reads result files only. What cannot be read is named in one line at the end.

    \b
    harness history --fault redis-down --verdict fail
    harness history --fault redis-down --trend 'fault: p95' --out trend.svg
    harness history --trend score --since 90d --out quarter.html
    harness history --fault redis-down --newer-than 36h
    harness history --prune --older-than 30d --dry-run
    """
    from harness.history.reading import Filters, read_folder

    _refuse_mixed(options)
    now = time.time()
    since = _age(options["since"], "--since") if options["since"] else None
    filters = Filters(
        fault=options["fault"],
        scenario=options["scenario"],
        verdict=options["verdict"],
        since=now - since if since is not None else None,
    )
    limit = LIMIT if options["limit"] is None else options["limit"]
    trend = options["trend"]
    read = read_folder(folder, now, inside=trend is not None and trend != "score")
    found = [one for one in read.found if filters(one)]
    if options["newer_than"]:
        return _watchdog(found, now - _age(options["newer_than"], "--newer-than"), options["newer_than"], now)
    if options["prune"]:
        return _prune(found, now - _age(options["older_than"], "--older-than"), options["dry_run"])
    if trend is None:
        return _list(folder, read, found, limit, options["as_json"])
    if trend == "score":
        return _score(read, found, options, limit, now)
    return _trend(read, found, options, limit)


def _refuse_mixed(options: dict[str, Any]) -> None:
    from harness.history.page import check_name
    from harness.model.errors import UsageError

    chosen = [name for name in ("trend", "newer_than", "prune") if options[name]]
    if len(chosen) > 1:
        one, other = (f"--{name.replace('_', '-')}" for name in chosen[:2])
        raise UsageError(f"{one} and {other} are two commands: give one of them")
    belongs = {
        "out": "trend",
        "known": "trend",
        "older_than": "prune",
        "dry_run": "prune",
    }
    for name, to in belongs.items():
        if options[name] and not options[to]:
            raise UsageError(f"--{name.replace('_', '-')} is for --{to}")
    if options["prune"] and not options["older_than"]:
        raise UsageError("--prune needs --older-than AGE", hint="for example --older-than 30d")
    if options["as_json"] and (options["prune"] or options["newer_than"]):
        raise UsageError("--json is for the list and for --trend")
    if options["limit"] is not None and (options["prune"] or options["newer_than"]):
        raise UsageError("--limit is for the list and for --trend")
    if options["out"] is not None:
        check_name(options["out"])


def _age(text: str, option: str) -> float:
    from harness.model.units import parse_duration

    # Durations of a run end at 30 days.
    days = re.fullmatch(r"\s*(\d{1,4})d\s*", text)
    return float(days[1]) * 86400 if days else parse_duration(text, option)


def _list(folder: Path, read: Folder, found: Sequence[Found], limit: int, as_json: bool) -> int:
    from harness.history import terminal
    from harness.history.records import Listing

    listing = Listing(
        folder=str(folder),
        matching=len(found),
        entries=tuple(one.entry for one in (found[:limit] if limit else found)),
        unreadable=read.unreadable,
        foreign=read.foreign,
    )
    if as_json:
        _print_json(listing)
    else:
        _print(terminal.listing(listing, _width()))
    return 0


def _trend(read: Folder, found: Sequence[Found], options: dict[str, Any], limit: int) -> int:
    import msgspec

    from harness.history import page, terminal
    from harness.history.trend import subjects, trend

    drawn = trend(found, subjects(options["trend"]), limit)
    drawn = msgspec.structs.replace(drawn, unreadable=read.unreadable)
    if options["out"] is not None:
        page.write_trend(options["out"], drawn)
        click.echo(f"written: {options['out']}", err=True)
    if options["as_json"]:
        _print_json(drawn)
    else:
        _print(terminal.trend(drawn, _width()))
    return 0


def _score(read: Folder, found: Sequence[Found], options: dict[str, Any], limit: int, now: float) -> int:
    import msgspec

    from harness.analysis.suite.base_files import BASE, known_file, read_known
    from harness.history import page, terminal
    from harness.history.score import score_trend
    from harness.model.errors import UsageError

    path, day = options["known"], datetime.fromtimestamp(now, UTC).date()
    if path is not None and not path.exists():
        raise UsageError(f"{path}: no such file")
    known = read_known(path or known_file(Path(BASE)), day)
    drawn = score_trend(found, known, day, limit)
    drawn = msgspec.structs.replace(drawn, unreadable=read.unreadable)
    if options["out"] is not None:
        page.write_score(options["out"], drawn)
        click.echo(f"written: {options['out']}", err=True)
    if options["as_json"]:
        _print_json(drawn)
    else:
        _print(terminal.score(drawn, _width()))
    return 0


def _watchdog(found: Sequence[Found], after: float, asked: str, now: float) -> int:
    from harness.history.terminal import moment
    from harness.report.sentences.text import visible

    if not found:
        click.echo(f"older than {asked}: nothing matches")
        return ExitCode.INCONCLUSIVE
    newest = found[0]
    new = newest.at >= after
    ago = now - newest.at
    click.echo(
        f"{'newer' if new else 'older'} than {asked}: the newest is {visible(newest.entry.directory)}, "
        f"{moment(newest.entry.started)} UTC, {_length(ago)} ago"
    )
    return ExitCode.PASS if new else ExitCode.INCONCLUSIVE


def _length(length_s: float) -> str:
    """As exactly as is of interest: minutes, hours and minutes, days."""
    from harness.model.units import format_duration

    if length_s >= 2 * 86400:
        return f"{length_s // 86400:.0f} days"
    return format_duration(60 * max(length_s // 60, 0))


def _prune(found: Sequence[Found], before: float, dry_run: bool) -> int:
    from harness.history.prune import prune
    from harness.model.units import format_bytes
    from harness.report.sentences.text import visible

    done = prune(found, before, dry_run=dry_run)
    would = "would drop" if dry_run else "dropped"
    click.echo(f"{would} the raw records of {done.runs} run directories: {format_bytes(done.freed)}")
    for directory, why in done.skipped:
        click.echo(f"left alone: {visible(directory)}: {visible(why)}")
    return 0


def _width() -> int:
    """Lines on a terminal are cut at its width; in a pipe they are whole."""
    return shutil.get_terminal_size((100, 24)).columns if sys.stdout.isatty() else 10_000


def _print(rows: Sequence[Row]) -> None:
    from harness.cli.streams import print_styled

    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    for text, style in rows:
        if colour and style:
            text = click.style(text, fg=None if style == "bold" else style, bold=style == "bold")
        print_styled(text)


def _print_json(value: Any) -> None:
    from harness.model.jsonl import encode_line

    click.echo(encode_line(value).decode(), nl=False)
