"""harness.api is what docs/api.md says: light to import, unchanged without a line in the changelog, and it runs."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import subprocess
import sys
from enum import Enum
from pathlib import Path
from typing import Any, get_args

import pytest
from msgspec import Struct

from harness import api, testing
from harness.analysis.run_directory import read_result
from harness.model.exit_codes import ExitCode
from tests.e2e.test_headline import assert_not_accused

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
RECORDED = ROOT / "tests" / "api_surface.txt"
HEAD = "CHANGELOG: "
HEAVY = (
    "locust",
    "gevent",
    "docker",
    "toxiproxy",
    "redis",
    "psycopg",
    "click",
    "rich",
    "harness.conductor",
    "harness.cli",
)


def test_names_for_a_plug_in_load_records_and_protocol_only() -> None:
    code = (
        "import sys\n"
        "from harness.api import Address, Applied, Change, Dependency, Evidence, Fault, Gone, ParamInfo, Refused\n"
        "from harness.api import UndoRecord, UndoUnverified, monotonic\n"
        "ours = [m for m in sys.modules if m.startswith('harness.') and not m.startswith('harness.model')]\n"
        f"print(sorted(ours), [m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['harness.api', 'harness.fault'] []"


def test_every_name_is_there_and_a_type_checker_sees_the_same() -> None:
    tree = ast.parse((ROOT / "harness" / "api" / "__init__.py").read_text(encoding="utf-8"))
    (block,) = [one for one in tree.body if isinstance(one, ast.If) and ast.unparse(one.test) == "TYPE_CHECKING"]
    typed = {alias.asname: one.module for one in block.body if isinstance(one, ast.ImportFrom) for alias in one.names}
    assert typed == api._HOME
    assert all(hasattr(api, name) for name in api.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Chnage'"):
        api.Chnage  # type: ignore[attr-defined]  # noqa: B018


def test_both_packages_tell_type_checkers_that_they_have_types() -> None:
    assert (ROOT / "harness" / "py.typed").exists() and (ROOT / "faults" / "py.typed").exists()


def test_the_page_has_every_name() -> None:
    missing = [name for name in api.__all__ if not re.search(rf"`{name}\b", PAGE)]
    assert not missing, f"docs/api.md does not name {', '.join(missing)}"


def test_nothing_public_changes_without_a_line_in_the_changelog() -> None:
    head, _, recorded = RECORDED.read_text(encoding="utf-8").partition("\n\n")
    now = "\n".join(surface()) + "\n"
    if now != recorded and os.environ.get("HARNESS_UPDATE_GOLDEN"):
        head = HEAD
        RECORDED.write_text(f"{head}\n\n{now}", encoding="utf-8")
        recorded = now
    assert now == recorded, (
        "harness.api, or harness.testing, is not as tests/api_surface.txt has it. If that is meant: say it in "
        "CHANGELOG.md, write the file anew with HARNESS_UPDATE_GOLDEN=1, and put the line of the changelog at its head"
    )
    line = head.removeprefix(HEAD).strip()
    changelog = " ".join((ROOT / "CHANGELOG.md").read_text(encoding="utf-8").split())
    assert line and line in changelog, f"the head of tests/api_surface.txt is no line of CHANGELOG.md: {head!r}"


def surface() -> list[str]:
    """One line for each name, and below it what belongs to it."""
    found = []
    for module in (api, testing):
        for name in module.__all__:
            found += [f"{module.__name__}.{name}", *(f"    {line}" for line in _told(getattr(module, name)))]
    return found


def _told(thing: Any) -> list[str]:
    if not isinstance(thing, type):
        if get_args(thing):
            return [str(thing).replace("typing.", "")]
        return _signature(thing) if inspect.isfunction(thing) else ["a function without arguments"]
    bases = [f"a {base.__name__}" for base in thing.__bases__ if base not in (object, Exception)]
    if issubclass(thing, Enum):
        return [*bases, *(f"{one.name} = {one.value}" for one in thing)]
    if issubclass(thing, Exception):
        return [*bases, *(_signature(thing.__init__) if "__init__" in vars(thing) else [])]
    annotations = {k: v for base in reversed(thing.__mro__) for k, v in vars(base).get("__annotations__", {}).items()}
    if not issubclass(thing, (Struct, tuple)):
        methods = [one for one in vars(thing).values() if inspect.isfunction(one) and one.__name__[0] != "_"]
        return [
            *(f"{k}: {v}" for k, v in annotations.items()),
            *(f"{one.__name__}({', '.join(_signature(one)[:-1])}) -> {_signature(one)[-1][3:]}" for one in methods),
        ]
    defaults = {name: one.default for name, one in inspect.signature(thing).parameters.items()}
    told = {k: "" if v is inspect.Parameter.empty else f" = {v!r}" for k, v in defaults.items()}
    return [*bases, *(f"{name}: {_plain(annotations[name])}{default}" for name, default in told.items())]


def _plain(annotation: str) -> str:
    """Without what is said beside the type."""
    tree = ast.parse(annotation, mode="eval").body
    beside = isinstance(tree, ast.Subscript) and ast.unparse(tree.value) == "Annotated"
    return ast.unparse(tree.slice.elts[0]) if beside else annotation  # type: ignore[attr-defined]


def _signature(function: Any) -> list[str]:
    signature = inspect.signature(function)
    empty = inspect.Parameter.empty
    lines = []
    for name, one in signature.parameters.items():
        if name != "self":
            star = {one.KEYWORD_ONLY: "*, ", one.VAR_KEYWORD: "**"}.get(one.kind, "")
            default = getattr(one.default, "__name__", repr(one.default))
            lines.append(f"{star}{name}: {one.annotation}" + ("" if one.default is empty else f" = {default}"))
    return [*lines, f"-> {signature.return_annotation}"]


@pytest.fixture
def scripts() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_a_script_plans_without_touching_anything() -> None:
    made = api.plan(api.Experiment(faults=("redis-down@1s+12s",), rate=100.0, fault_s=20.0))
    assert [(one.id, one.at_s, one.for_s) for one in made.faults] == [("redis-down", 1.0, 12.0)]
    with pytest.raises(api.UsageError, match="redis-dwon") as told:
        api.plan(api.Experiment(faults=("redis-dwon",)))
    assert told.value.exit_code == api.ExitCode.USAGE


def test_a_harness_toml_counts_where_it_is_named_and_only_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "harness.toml"
    file.write_text('[target]\nurl = "http://127.0.0.1:9"\n[targets]\nprimary = ["p95 < 123ms"]\n')
    monkeypatch.chdir(tmp_path)
    alone = api.plan(api.Experiment(rate=100.0))
    named = api.plan(api.Experiment(rate=100.0), config=file)
    assert (alone.stack, named.stack, named.load.host) == ("embedded", "external", "http://127.0.0.1:9")
    assert any("123ms" in target.text for target in named.targets)
    assert not any("123ms" in target.text for target in alone.targets)
    with pytest.raises(api.UsageError, match="could not be reached"):
        api.run(api.Experiment(host="http://127.0.0.1:9", baseline_s=20), out=tmp_path)
    with pytest.raises(api.UsageError, match="needs a target"):
        api.plan(api.Experiment(stack="external"))
    assert not list(tmp_path.glob("*-*"))


@pytest.mark.stack
@pytest.mark.slow
@pytest.mark.calm
def test_the_script_of_the_page_runs_as_it_stands(tmp_path: Path, scripts: list[str]) -> None:
    """It is also the suite's run of the hardened service under a fault: nothing is made of that."""
    (script,) = [text for text in scripts if "run(" in text]
    (tmp_path / "check_redis.py").write_text(script, encoding="utf-8")
    for _ in range(3):  # on a machine too busy to tell: the harness's own word, or nothing was injected
        done = subprocess.run(
            [sys.executable, "check_redis.py"],
            cwd=tmp_path,
            env={**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")},
            capture_output=True,
            text=True,
            timeout=300,
        )
        folder = max((tmp_path / "runs").glob("*"))
        result = read_result(folder)
        if result.exit_code != ExitCode.INCONCLUSIVE and any(fault.injected_s is not None for fault in result.faults):
            break
    assert done.returncode == 0, done.stderr
    assert (folder / "report.html").exists()
    assert_not_accused(json.loads((folder / "result.json").read_text()))
    assert api.load_result(folder) == read_result(folder)
    assert api.analyze(folder).verdict == "pass"
    assert api.analyze(folder, targets=["p50 < 1us"]).verdict != "pass", "no service is that fast"
