"""The layout holds: imports point one way, each client library has one door, every room says what it is for.

docs/architecture.md is the same in words; its list of rooms is compared with the tree.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path

import pytest

from harness.model.records.metrics import METRICS

ROOT = Path(__file__).resolve().parent.parent

FLOORS = {
    "model": 0,
    "config": 1,
    "plan": 1,
    "analysis": 2,
    "adapters": 3,
    "dependencies": 4,
    "fault": 4,
    "scaffold": 5,
    "testing": 5,
    "load": 5,
    "stack": 5,
    "safety": 5,
    "report": 5,
    "compare": 5,
    "conductor": 6,
    "suite": 7,
    "history": 6,
    "gameday": 8,
    "doctor": 8,
    "api": 9,
    "cli": 10,
    "pytest_plugin": 10,
}
"""A module imports from lower floors and from its own only. `load`, `stack`, `safety`, `report` and `compare` do not
know each other; `analysis` may redraw the schedule of `plan`. Rooms of one floor make no circle."""

WITHIN = {
    "safety": (("keeper",), ("healing",), ("locks",), ("journal",)),
    "analysis": (("suite", "gameday"), ("verdict", "comparison"), ("rules",), ("record",), ("statistics",)),
    "load": (
        ("process",),
        ("master", "after_load", "before_load"),
        ("generator",),
        ("record", "writes", "lean"),
        ("allowed_hosts", "ipc"),
    ),
}
"""Of the rooms of one floor: a room imports what stands to the right of it and never to the left, not even a type."""

MOST_FILES = 15
"""In a room, its __init__.py aside."""
MOST_LINES = 600

DOORS = {
    "toxiproxy": {"harness/adapters/toxiproxy/client.py"},
    "docker": {"harness/adapters/docker/engine.py"},
    "redis": {"harness/adapters/clients/redis_admin.py"},
    "pymysql": {"harness/adapters/clients/mysql_session.py"},
    "psycopg": {"harness/adapters/clients/postgres_admin.py", "harness/adapters/clients/postgres_probe.py"},
}


def modules() -> list[Path]:
    return sorted(p for top in ("harness", "faults") for p in (ROOT / top).rglob("*.py"))


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(path: Path, *, runtime_only: bool = False) -> tuple[str, ...]:
    """What a file imports, also within a function. runtime_only: without what only a type checker sees."""
    found: list[str] = []

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            found.extend(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.append(node.module)
            found.extend(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and runtime_only and getattr(node.test, "id", "") == "TYPE_CHECKING":
            for other in node.orelse:
                visit(other)
        elif isinstance(node, ast.stmt | ast.Module | ast.ExceptHandler | ast.match_case):
            for child in ast.iter_child_nodes(node):
                visit(child)

    visit(parsed(path))
    return tuple(found)


def floor(module: str) -> tuple[str, int] | None:
    parts = module.split(".")
    if parts[0] != "harness" or len(parts) < 2 or parts[1] not in FLOORS:
        return None
    return parts[1], FLOORS[parts[1]]


@cache
def names() -> dict[str, Path]:
    """The file of every module."""
    found = {}
    for path in modules():
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def room_of(module: str) -> str:
    return module if names()[module].name == "__init__.py" else module.rpartition(".")[0]


def rooms() -> dict[str, list[Path]]:
    """The files of every folder of code, __init__.py aside."""
    found: dict[str, list[Path]] = {}
    for module, path in names().items():
        found.setdefault(room_of(module), [])
        if path.name != "__init__.py":
            found[room_of(module)].append(path)
    return found


@cache
def file_imports() -> dict[str, set[str]]:
    """Which module imports which, at run time, also within a function."""
    known = names()
    found = {}
    for module, path in known.items():
        every = {each for each in imports(path, runtime_only=True) if each in known and each != module}
        # `from a.room import file` speaks of the file, not of what the room's __init__ imports.
        found[module] = {each for each in every if not any(other.startswith(each + ".") for other in every)}
    return found


def circles(edges: Mapping[str, set[str]]) -> list[list[str]]:
    """What imports itself by way of others: the components of more than one (Tarjan, 1972)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(here: str) -> None:
        number[here] = low[here] = len(number)
        stack.append(here)
        for there in sorted(edges.get(here, ())):
            if there not in number:
                visit(there)
                low[here] = min(low[here], low[there])
            elif there in stack:
                low[here] = min(low[here], number[there])
        if low[here] == number[here]:
            at = stack.index(here)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for each in sorted(edges):
        if each not in number:
            visit(each)
    return found


def test_imports_point_one_way() -> None:
    wrong = []
    for path in modules():
        relative = path.relative_to(ROOT)
        here = floor(".".join(relative.with_suffix("").parts))
        for imported in imports(path):
            there = floor(imported)
            if relative.parts[0] == "faults":
                if there is not None and there[0] not in ("fault", "dependencies", "adapters", "model"):
                    wrong.append(f"{relative} imports {imported}")
            elif (
                here is not None and there is not None and there[0] != here[0] and there[1] >= here[1]
            ) or imported.split(".")[0] == "faults":
                wrong.append(f"{relative} imports {imported}")
    assert not wrong, "\n".join(sorted(set(wrong)))


@pytest.mark.parametrize("top", WITHIN)
def test_rooms_of_one_floor_import_one_way(top: str) -> None:
    place = {f"harness.{top}.{room}": number for number, rooms in enumerate(WITHIN[top]) for room in rooms}
    wrong = []
    for module, path in names().items():
        here = place.get(".".join(module.split(".")[:3]))
        for imported in imports(path):
            there = place.get(".".join(imported.split(".")[:3]))
            if here is not None and there is not None and there < here:
                wrong.append(f"{module} imports {imported}")
    assert not wrong, "\n".join(sorted(set(wrong)))


def test_no_files_import_each_other_in_a_circle() -> None:
    assert circles(file_imports()) == []


def test_no_rooms_import_each_other_in_a_circle() -> None:
    edges: dict[str, set[str]] = {}
    for module, imported in file_imports().items():
        edges.setdefault(room_of(module), set()).update({room_of(each) for each in imported} - {room_of(module)})
    assert circles(edges) == []


def test_a_room_is_small_and_says_what_it_is_for() -> None:
    wrong = [f"{room} has {len(files)} files" for room, files in rooms().items() if len(files) > MOST_FILES]
    for room in rooms():
        said = ast.get_docstring(ast.parse((ROOT / room.replace(".", "/") / "__init__.py").read_text("utf-8"))) or ""
        if len(said.splitlines()) < 3 and room != "harness":
            wrong.append(f"{room}/__init__.py does not say what it is for, who comes in and what it does not import")
    assert not wrong, "\n".join(wrong)


def test_the_map_has_every_room() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    told = set(re.findall(r"^\| `((?:harness|faults)[\w/]*)/` \|", page, re.MULTILINE))
    assert told == {room.replace(".", "/") for room in rooms()}


def test_each_client_library_is_imported_in_one_adapter() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {imported}"
        for path in modules()
        for imported in imports(path)
        if imported.split(".")[0] in DOORS and str(path.relative_to(ROOT)) not in DOORS[imported.split(".")[0]]
    ]
    assert not wrong, "\n".join(sorted(set(wrong)))


def test_the_conductor_never_loads_locust_or_gevent() -> None:
    code = (
        "import sys, harness.conductor.prepare, harness.cli.commands.run, harness.cli.options, harness.fault\n"
        "harness.fault.registered()\n"
        "found = [m for m in ('locust', 'gevent', 'greenlet') if m in sys.modules]\n"
        "sys.exit(f'imported: {found}' if found else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_help_imports_no_heavy_library() -> None:
    code = (
        "import sys\n"
        "sys.argv = ['harness', '--help']\n"
        "from harness.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = ('rich', 'markupsafe', 'requests', 'psycopg', 'pymysql', 'redis', 'docker')\n"
        "heavy += ('msgspec.json', 'jinja2', 'psutil')\n"
        "found = [m for m in heavy if m in sys.modules]\n"
        "sys.exit(f'imported: {found}' if found else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_files_are_short_enough_to_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


NO_METRICS = {
    "harness/analysis/live.py": {"recovery"},
    "harness/analysis/rules/recovery_and_impact.py": {"recovery"},
    "harness/conductor/loop.py": {"recovery"},
    "harness/conductor/status.py": {"recovery"},
    "harness/plan/decide.py": {"recovery"},
    # Phases, of which one is called recovery; then Case.tainted's word for the run's recovery.
    "harness/analysis/verdict/verdict.py": {"recovery"},
    # Slots of a page, columns of a table, and fields of ComparisonRow.
    "harness/report/html/page.py": {"recovery"},
    "harness/report/sentences/figures.py": {"p50", "p95", "p99"},
    "harness/report/terminal/comparison.py": {"error_rate", "rps"},
}
"""Words that are a metric's name and mean something else there; beside `metric` they mean it."""


def _compared(node: ast.AST) -> list[ast.expr]:
    match node:
        case ast.Compare():
            return [node.left, *node.comparators]
        case ast.Dict():
            return [key for key in node.keys if key is not None]
        case ast.MatchValue():
            return [node.value]
        case ast.Call(func=ast.Attribute(attr="get" | "startswith")):
            return node.args
        case _:
            return []


def _compares_metrics(source: str, others: Collection[str]) -> list[str]:
    """Where something is compared with, or looked up by, a metric's name: its line and the name."""
    found = []
    for node in ast.walk(ast.parse(source)):
        inside = [each for part in _compared(node) for each in ast.walk(part)]
        sure = any("metric" in (getattr(each, "attr", ""), getattr(each, "id", "")) for each in inside)
        words = {each.value for each in inside if isinstance(each, ast.Constant)} & set(METRICS)
        found += [f"{getattr(node, 'lineno', 0)}: {word}" for word in sorted(words) if sure or word not in others]
    return found


def test_a_metric_is_asked_for_its_traits_and_not_for_its_name() -> None:
    """So that a new one is a row of METRICS and its computation, and no report is forgotten."""
    table = "harness/analysis/rules/targets.py"
    others = {str(p.relative_to(ROOT)): p for p in modules() if not p.is_relative_to(ROOT / "harness/model")}
    texts = {name: path.read_text(encoding="utf-8") for name, path in others.items() if name != table}
    wrong = {name: _compares_metrics(text, NO_METRICS.get(name, ())) for name, text in texts.items()}
    assert {name: found for name, found in wrong.items() if found} == {}
    needless = {name: words for name, words in NO_METRICS.items() if not _compares_metrics(texts[name], ())}
    assert needless == {}


@pytest.mark.parametrize(
    "code",
    [
        'target.metric == "recovery"',
        'if metric in (*ALLOWED_OVER, "error_rate"): pass',
        'unit = {"p95": 1}[name]',
        'match one.metric:\n    case "rps":\n        pass',
        'found = FIELDS.get("max")',
    ],
)
def test_a_comparison_with_a_metric_s_name_is_seen(code: str) -> None:
    assert _compares_metrics(code, {"recovery"})
    assert not _compares_metrics('phase == "recovery" and f(metric="rps")', {"recovery"})


def test_nothing_of_the_harness_knows_the_sample_api_s_defects() -> None:
    """It is scored on finding them."""
    word = "ANOMALY_API_" + "DEFECT"
    assert [str(path) for path in modules() if word in path.read_text(encoding="utf-8")] == []


def test_nothing_names_a_path_of_this_machine_or_a_registry() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    words = [f"/{'work'}/", f"/{'farm'}/", "pypi." + "org", "files.python" + "hosted", "repo1.maven" + ".org"]
    wrong = []
    for name in tracked.splitlines():
        path = ROOT / name
        if path.is_file() and path.suffix in (".py", ".md", ".toml", ".txt", ".yaml", ".yml", ".json", ""):
            text = path.read_text(encoding="utf-8", errors="replace")
            wrong += [f"{name}: {word}" for word in words if word in text]
    assert not wrong, "\n".join(wrong)
