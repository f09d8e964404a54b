"""Locust without its web page, which no process of the load shows: flask, jinja and werkzeug are a quarter of the time
that each takes to start. A locustfile that asks for `locust.web` has it, from then on."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

_WEB = "locust.web"


class _WebUI:
    """What locust.env takes for its WebUI: the real one is imported when one is made."""

    def __new__(cls, *args: Any, **more: Any) -> Any:
        return import_module(_WEB).WebUI(*args, **more)


def import_locust() -> None:
    """Locust patches sockets and ssl: before anything that imports those."""
    if "locust" in sys.modules:
        return
    stand_in = ModuleType(_WEB)
    vars(stand_in)["WebUI"] = _WebUI
    sys.modules[_WEB] = stand_in
    try:
        import locust
    finally:
        del sys.modules[_WEB]
    # `locust.web` is an attribute of the package when it was imported with it; so are modules that only it imports.
    vars(locust).pop("web", None)
    vars(locust)["__getattr__"] = _submodule


def _submodule(name: str) -> ModuleType:
    if not name.startswith("_"):
        try:
            return import_module(f"locust.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"locust.{name}":
                raise
    raise AttributeError(f"module 'locust' has no attribute {name!r}")
