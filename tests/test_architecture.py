"""The layout holds: imports point one way, each client library has one door, and files stay readable."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

LAYERS = {
    "model": 0,
    "config": 1,
    "plan": 1,
    "analysis": 2,
    "adapters": 3,
    "fault": 4,
    "load": 5,
    "stack": 5,
    "safety": 5,
    "report": 5,
    "conductor": 6,
    "gameday": 7,
    "cli": 8,
}
"""A module imports from lower layers and from its own package only. `load`, `stack`, `safety` and `report` do not
know each other; `analysis` may redraw the schedule of `plan`."""

DOORS = {
    "toxiproxy": {"harness/adapters/toxiproxy.py"},
    "docker": {"harness/adapters/docker.py"},
    "redis": {"harness/adapters/redis.py"},
    "psycopg": {"harness/adapters/postgres.py", "harness/adapters/postgres_login.py"},
}


def modules() -> list[Path]:
    return sorted(p for top in ("harness", "faults") for p in (ROOT / top).rglob("*.py"))


def imports(path: Path, *, runtime_only: bool = False) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped: set[ast.AST] = set()
    if runtime_only:
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                skipped |= {child for statement in node.body for child in ast.walk(statement)}
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer(module: str) -> tuple[str, int] | None:
    parts = module.split(".")
    if parts[0] != "harness" or len(parts) < 2 or parts[1] not in LAYERS:
        return None
    return parts[1], LAYERS[parts[1]]


def test_imports_point_one_way() -> None:
    wrong = []
    for path in modules():
        relative = path.relative_to(ROOT)
        here = layer(".".join(relative.with_suffix("").parts))
        for imported in imports(path):
            there = layer(imported)
            if relative.parts[0] == "faults":
                if there is not None and there[0] not in ("fault", "adapters", "model"):
                    wrong.append(f"{relative} imports {imported}")
            elif (
                here is not None and there is not None and there[0] != here[0] and there[1] >= here[1]
            ) or imported.split(".")[0] == "faults":
                wrong.append(f"{relative} imports {imported}")
    assert not wrong, "\n".join(sorted(set(wrong)))


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
        "import sys, harness.conductor.experiment, harness.cli.run, harness.cli.planning, harness.fault\n"
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
        "heavy = ('rich', 'plotly', 'requests', 'psycopg', 'redis', 'docker', 'msgspec.json', 'jinja2', 'psutil')\n"
        "found = [m for m in heavy if m in sys.modules]\n"
        "sys.exit(f'imported: {found}' if found else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_files_are_short_enough_to_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 600


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
