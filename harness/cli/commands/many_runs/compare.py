"""`harness compare`: has the harm of a fault become worse?"""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.settings import debug_option


@click.command()
@click.argument("base", metavar="BASE", type=click.Path(path_type=Path))
@click.argument("new", metavar="[NEW]", type=click.Path(path_type=Path), required=False)
@click.option("--margin", default="50%", show_default=True, help="What is worse by no more than this is not worse.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON on stdout.")
@debug_option
def compare(base: Path, new: Path | None, margin: str, as_json: bool) -> int:
    """Compare two runs of the same experiment, or two groups of them: is NEW worse than BASE?

    A group is a folder of run directories. A group of pairs of two versions is compared by itself. Exit code: 1 worse,
    0 not worse than the margin, 3 cannot tell, 2 what cannot be compared. Writes nothing.

    \b
    harness compare runs/20261123-160000-redis-down-target runs/20261124-160000-redis-down-target
    harness compare runs/before runs/after --margin 25%
    harness compare runs/20261124-180000-versus --json
    """
    from harness import api
    from harness.compare.compare import MOST_MARGIN
    from harness.model.jsonl import encode_line
    from harness.model.units import parse_percent
    from harness.report.terminal.comparison import lines

    found = api.compare(base, new, margin=parse_percent(margin, "--margin", high=MOST_MARGIN))
    if as_json:
        click.echo(encode_line(found).decode(), nl=False)
    else:
        for line in lines(found):
            click.echo(line)
    return found.exit_code
