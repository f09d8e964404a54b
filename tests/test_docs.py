"""The documents name only commands, options, files and sections that exist, and every command is in the README."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml

from harness.cli import COMMANDS, cli
from harness.cli.settings import RunGroup
from harness.model.options import FLAG
from harness.model.records.metrics import METRICS
from harness.plan.experiment import OPTIONS

ROOT = Path(__file__).resolve().parent.parent
DOCS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = ROOT / "docs"
"""Groups that take a file where others take a subcommand."""


def code_lines(path: Path) -> list[str]:
    """Lines of code blocks (fenced or indented) and code spans that call the harness, continuation lines joined."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    # YAML folds a command over lines that are indented more.
    text = re.sub(r"run: >\n((?:\s{10,}.*\n)+)", lambda m: " ".join(m[1].split()) + "\n", text)
    lines = [line.strip().removeprefix("$ ") for line in text.splitlines()]
    found = [line for line in lines if line.startswith("harness ")]
    found += re.findall(r"`(harness [^`\n]+)`", text)
    return found


def resolve(words: list[str]) -> tuple[click.Command, list[str]]:
    command: click.Command = cli
    context = click.Context(cli)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0].split("|")[0])
        if found is None and isinstance(command, RunGroup):
            break
        assert found is not None, f"no command {words[0]!r}"
        command, words = found, words[1:]
    return (command.commands["run"] if isinstance(command, RunGroup) else command), words


@pytest.mark.parametrize("path", DOCS, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_command_and_option_in_the_documents_exists(path: Path) -> None:
    for line in code_lines(path):
        line = line.split("  #")[0]
        line = re.sub(r"\$\{\{.*?\}\}", "X", line).replace("...", "")
        try:
            words = shlex.split(line)[1:]
        except ValueError:
            continue  # prose with an apostrophe, not a command
        assert_known([w for w in words if w not in ("|", ">", ">>")], f"{path.name}: {line!r}")


def assert_known(words: list[str], where: str) -> None:
    """The command of these words has every option among them."""
    command, rest = resolve(words)
    known = {opt for param in command.params for opt in (*param.opts, *param.secondary_opts)}
    for word in rest:
        option = word.split("=")[0]
        if option.startswith("--") and option != "--help":
            assert option in known, f"{where}: no option {option}"


def test_units_and_manifests_for_workers_are_whole_and_their_commands_exist() -> None:
    page = (PAGES / "distributed.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(ini|yaml)\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    commands = []
    for kind, text in blocks:
        if kind == "ini":
            unit = configparser.RawConfigParser()
            unit.read_string(text.replace("\\\n", " "))
            commands += [shlex.split(unit["Service"]["ExecStart"])] if "Service" in unit else []
            continue
        for manifest in yaml.safe_load_all(text):
            assert {"apiVersion", "kind", "metadata", "spec"} <= set(manifest)
            for container in manifest["spec"].get("template", {}).get("spec", {}).get("containers", ()):
                words = container["command"]
                commands.append(shlex.split(words[2].partition(" exec ")[2]) if words[0] == "sh" else words)
    assert [(Path(words[0]).name, words[1]) for words in commands] == [
        ("harness", "worker"),
        ("harness", "run"),
        ("harness", "worker"),
    ]
    for words in commands:
        assert_known(list(map(str, words[1:])), "distributed.md")


def test_the_page_of_options_has_a_row_for_each_with_its_default_and_where_it_may_be_set() -> None:
    page = (PAGES / "options.md").read_text(encoding="utf-8")
    rows = [row.split(" | ")[:3] for row in page.splitlines() if row.startswith("| `--")]
    assert rows == [
        [
            f"| `{option.flag}{'' if option.unit is FLAG else ' ' + option.unit.name.replace('|', ',')}`",
            option.default_text,
            ", ".join(
                place
                for place, refused in (
                    ("`HARNESS_`", option.variable is None),
                    ("`[run]`", option.not_in_toml),
                    ("file", option.not_in_file),
                )
                if refused
            ),
        ]
        for option in OPTIONS.values()
    ]


def test_every_command_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in COMMANDS:
        assert f"harness {name}" in readme, f"`harness {name}` is not in the README"


def anchors(page: Path) -> set[str]:
    """Of its headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_links_between_documents_lead_somewhere() -> None:
    for path in DOCS:
        for target in re.findall(r"\]\((?!https?:)([^)\s]+)", path.read_text(encoding="utf-8")):
            name, _, anchor = target.partition("#")
            page = path.parent / name if name else path
            assert page.exists(), f"{path.name} links to {target}"
            assert not anchor or anchor in anchors(page), f"{path.name} links to {target}: no such section"


def test_the_index_has_every_page() -> None:
    listed = (PAGES / "README.md").read_text(encoding="utf-8").partition("## All pages")[2]
    for page in [*PAGES.glob("*.md"), PAGES / "decisions" / "README.md"]:
        name = str(page.relative_to(PAGES))
        assert name == "README.md" or f"]({name})" in listed, f"{name} is not in docs/README.md"
    decisions = (PAGES / "decisions" / "README.md").read_text(encoding="utf-8")
    for page in (PAGES / "decisions").glob("*.md"):
        assert page.name == "README.md" or f"]({page.name})" in decisions, f"{page.name} is not in decisions/README.md"


FOLDERS = ("harness", "faults", "tests", "docs", "benchmarks", "locustfiles", "compose", ".ci", ".github")


@pytest.mark.parametrize("path", DOCS, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_that_the_documents_name_exist(path: Path) -> None:
    for name in re.findall(r"`([\w.-]+/[\w./-]*)`", path.read_text(encoding="utf-8")):
        if name.split("/")[0] in FOLDERS:
            assert (ROOT / name).exists(), f"{path.name} names {name}"


def test_make_help_lists_every_target_with_a_line() -> None:
    targets = re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    said = {words[1]: words[2] for line in done.stdout.splitlines() if (words := line.split(maxsplit=2))[0] == "make"}
    assert sorted(said) == sorted(targets)


def test_the_files_of_the_page_on_an_own_service_plan_as_they_are(tmp_path: Path) -> None:
    page = (PAGES / "own-service.md").read_text(encoding="utf-8")
    for language, name in (("json", "proxies.json"), ("toml", "harness.toml"), ("python", "locustfile.py")):
        (block,) = re.findall(rf"^```{language}\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
        (tmp_path / name).write_text(block, encoding="utf-8")
    (proxy,) = json.loads((tmp_path / "proxies.json").read_text(encoding="utf-8"))
    done = subprocess.run(
        [Path(sys.executable).with_name("harness"), "plan", "--fault", f"{proxy['name']}-down"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"proxy {proxy['name']}" in done.stdout and "Visitor.look" in done.stdout


def test_every_benchmark_in_the_documents_says_what_it_takes() -> None:
    text = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    named = sorted(set(re.findall(r"benchmarks/\w+\.py", text)))
    asked = [
        subprocess.Popen([sys.executable, ROOT / name, "--help"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for name in named
    ]
    said = {name: each.communicate(timeout=60)[0].decode() for name, each in zip(named, asked, strict=True)}
    for name, each in zip(named, asked, strict=True):
        assert each.returncode == 0 and "usage:" in said[name], said[name]


def test_every_metric_of_a_target_has_a_row() -> None:
    page = (ROOT / "docs" / "targets.md").read_text(encoding="utf-8")
    rows = "\n".join(line.split("|")[1] for line in page.splitlines() if line.startswith("| `"))
    missing = [metric for metric in METRICS if f"`{metric}`" not in rows]
    assert not missing, f"docs/targets.md has no row for {', '.join(missing)}"
