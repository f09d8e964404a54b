"""Processes of the load start without Locust's web page; a locustfile that asks for it has it."""

from __future__ import annotations

import subprocess
import sys

import pytest

START = "import sys\nfrom harness.load.generator.locust_import import import_locust\nimport_locust()\n"
WORKS = (
    "import harness.load.process.main, harness.load.generator.worker, harness.load.after_load.last_look\n"
    "found = {'flask', 'jinja2', 'werkzeug', 'locust.web'} & sys.modules.keys()\n"
    "assert not found, found\n"
)
ASKED = {
    "attribute": "import locust\nassert locust.web.WebUI.__module__ == 'locust.web'\nassert 'flask' in sys.modules\n",
    "import": "from locust.web import WebUI\nfrom locust import web\nassert WebUI is web.WebUI and web.__file__\n",
    "environment": (
        "from locust.env import Environment\nimport locust.web\n"
        "real, locust.web.WebUI = locust.web.WebUI, lambda *args, **more: (args, more)\n"
        "(environment, host, port), more = Environment().create_web_ui('127.0.0.1', 1)[0][:3], 0\n"
        "assert isinstance(environment, Environment) and (host, port) == ('127.0.0.1', 1)\n"
    ),
    "nothing of the kind": "import locust\nassert not hasattr(locust, 'nonsense') and not hasattr(locust, '_x')\n",
}


@pytest.mark.parametrize("asked", ASKED)
def test_the_web_page_is_imported_when_it_is_asked_for(asked: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", START + WORKS + ASKED[asked]], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
