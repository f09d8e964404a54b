"""Compose files as far as the harness needs them: the project's name, and what the services say about each other.

Anchors, merge keys and Compose's own tags are read; variables are filled in from the environment and the `.env` file
as Compose does. Nothing is written, and nothing else is understood: Compose itself checks its files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.config.file import ComposeTable
from harness.model.errors import UsageError
from harness.model.files import read_limited

MAX_BYTES = 1_000_000
MAX_WRITTEN = 20_000
MAX_NODES = 100_000
"""Of a file with all its aliases written out. Aliases are common in compose files, bombs are not."""
_VARIABLE = re.compile(
    r"\$(?:\$|(?P<plain>[A-Za-z_]\w*)|\{(?P<braced>[A-Za-z_]\w*)(?:(?P<how>:?[-?+])(?P<other>[^}]*))?\})"
)


def project_name(table: ComposeTable, env: Mapping[str, str] | None = None) -> str:
    """The project's name as Compose computes it: as declared, COMPOSE_PROJECT_NAME (also in `.env`), `name:` of the
    last file that has one, the name of the first file's folder. Raises UsageError for files that cannot be read."""
    if table.project is not None:
        return table.project
    assert table.file, "the loader makes sure that one of them is there"
    folder = Path(table.file[0]).absolute().parent
    known = variables(folder, env)
    if known.get("COMPOSE_PROJECT_NAME"):
        return normal_name(known["COMPOSE_PROJECT_NAME"])
    for name in reversed(table.file):
        found = read(Path(name)).get("name")
        if isinstance(found, str):
            return normal_name(filled(found, known))
    return normal_name(folder.name)


def normal_name(text: str) -> str:
    """A project's name as both generations of Compose write it in their labels."""
    return re.sub(r"[^-_a-z0-9]", "", text.lower()).lstrip("_-")


def variables(folder: Path, env: Mapping[str, str] | None = None) -> dict[str, str]:
    """What Compose fills in: the `.env` file of the project's folder, and above it the environment."""
    found: dict[str, str] = {}
    try:
        lines = read_limited(folder / ".env", MAX_BYTES).decode("utf-8", "replace").splitlines()
    except (OSError, UsageError):
        lines = []
    for line in lines:
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and not name.startswith("#"):
            value = value.strip()
            quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
            found[name.strip()] = value[1:-1] if quoted else re.sub(r"\s+#.*", "", value)
    return {**found, **(os.environ if env is None else env)}


def filled(text: str, known: Mapping[str, str]) -> str:
    """A text with its variables filled in: $A, ${A}, ${A:-default}, ${A-default}, ${A:+other}; $$ is a dollar."""

    def value(match: re.Match[str]) -> str:
        name = match["plain"] or match["braced"]
        if name is None:
            return "$"
        set_ = known.get(name) if not (match["how"] or "").startswith(":") else known.get(name) or None
        if match["how"] is not None and match["how"].endswith("+"):
            return filled(match["other"], known) if set_ is not None else ""
        if set_ is not None:
            return set_
        return filled(match["other"], known) if (match["how"] or "").endswith("-") else ""

    return _VARIABLE.sub(value, text)


def unset(value: Any, known: Mapping[str, str]) -> set[str]:
    """The variables in it that nobody has set and that have no default."""
    if isinstance(value, str):
        names = {
            m["plain"] or m["braced"] for m in _VARIABLE.finditer(value) if not (m["how"] or "").endswith(("-", "+"))
        }
        return {name for name in names if name is not None and name not in known}
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return {name for one in inner for name in unset(one, known)}


def read(path: Path) -> dict[str, Any]:
    """One compose file as it is written. Raises UsageError naming the file."""
    try:
        data = read_limited(path, MAX_BYTES)
    except FileNotFoundError as error:
        raise UsageError(f"compose file {path}: cannot be read: {error.strerror}") from error
    except UsageError as error:
        raise UsageError(f"compose file {error}") from error
    import yaml

    class Loader(yaml.SafeLoader):
        """Safe, and it takes Compose's own tags (`!reset`, `!override`) for what they stand before."""

        nodes = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            self.nodes += 1
            if self.nodes > MAX_WRITTEN:
                raise UsageError(f"compose file {path}: more than {MAX_WRITTEN:,} values")
            return super().compose_node(parent, index)

    Loader.add_multi_constructor("!", _untagged)
    try:
        loader = Loader(data)
        try:
            node = loader.get_single_node()
            if _expanded(node, {}) > MAX_NODES:
                raise UsageError(f"compose file {path}: its aliases stand for more than {MAX_NODES:,} values")
            found = loader.construct_document(node) if node is not None else None
        finally:
            loader.dispose()
    except RecursionError as error:
        raise UsageError(f"compose file {path}: nested too deeply") from error
    except (yaml.YAMLError, ValueError, TypeError) as error:
        # "Unexpected" is our word for bugs, and this is none.
        said = " ".join(str(error).partition("; use sys.")[0].replace("unexpected ", "").split())
        raise UsageError(f"compose file {path}: not YAML: {said[:300]}") from error
    if not isinstance(found, dict):
        raise UsageError(f"compose file {path}: a compose file begins with `services:`")
    return found


def _expanded(node: Any, known: dict[int, int]) -> int:
    """How many values a tree has once every alias is written out. One inside itself has more than any limit.

    Aliases cost the reader nothing, and whoever looks at what they stand for everything: ten lines can be a billion.
    """
    if node is None or isinstance(node.value, str):
        return 1
    if id(node) not in known:
        known[id(node)] = MAX_NODES + 1  # for the time being: it stands inside itself
        inner = [part for pair in node.value for part in (pair if isinstance(pair, tuple) else (pair,))]
        known[id(node)] = 1 + sum(_expanded(part, known) for part in inner)
    return known[id(node)]


def _untagged(loader: Any, _suffix: str, node: Any) -> Any:
    import yaml

    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_scalar(node)
