"""A Locust file from an OpenAPI document: which requests, with what, and that nothing of the document is code."""

from __future__ import annotations

import ast
import http.server
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from harness.model.errors import Refused, UsageError
from harness.scaffold.openapi import document as openapi_document
from harness.scaffold.openapi.operations import METHODS, Operation, health, operations
from harness.scaffold.starter_locustfile import comment_out, starter
from harness.scaffold.written_files import write
from tests.support.command import command

EVIL = '\x00\'"""\n import os\\\r\u2028{x}\u202e\ud800 coding: utf-7'
OPENAPI = """\
openapi: 3.1.0
servers: [{url: "https://shop.example/{version}/", variables: {version: {default: v1}}}]
paths:
  /items:
    get: {summary: All items}
    post:
      requestBody: {content: {application/json: {schema: {$ref: "#/components/schemas/Item"}}}}
  /items/{id}:
    parameters: [{$ref: "#/components/parameters/Id"}, {name: lang, in: query, schema: {type: string}}]
    get: {}
    delete: {}
  /search:
    get:
      parameters:
        - {name: "q", in: query, required: true, schema: {type: string}}
        - {name: limit, in: query, schema: {default: 5}}
  /events:
    get: {responses: {"200": {content: {text/event-stream: {}}}}}
  /health: {get: {}}
components:
  parameters:
    Id: {name: id, in: path, required: true, schema: {type: string, examples: ["a/b {id}"]}}
  schemas:
    Item:
      type: object
      properties:
        name: {type: string, example: tea}
        code: {type: string, example: "007"}
        price: {type: number, default: 1.5}
        key: {type: integer, readOnly: true}
        inner: {$ref: "#/components/schemas/Item"}
        sizes: {type: array, items: {enum: [s, m]}}
        other: {anyOf: [{type: "null"}, {type: boolean}]}
"""
SWAGGER: dict[str, Any] = {
    "swagger": "2.0",
    "host": "other.example",
    "basePath": "/api",
    "paths": {
        "/pets": {
            "get": {"parameters": [{"name": "tag", "in": "query", "type": "string"}]},
            "post": {"parameters": [{"in": "body", "name": "pet", "schema": {"$ref": "#/definitions/Pet"}}]},
        },
        "/pets/{petId}": {"get": {"parameters": [{"name": "petId", "in": "path", "type": "integer", "x-example": 3}]}},
    },
    "definitions": {"Pet": {"type": "object", "example": {"name": "rex"}}},
}


def of(document: str | dict[str, Any], folder: Path, name: str = "api.yaml") -> dict[tuple[str, str], Operation]:
    (folder / name).write_text(document if isinstance(document, str) else json.dumps(document))
    found = operations(openapi_document.read(str(folder / name), named=(), allow_hosts=()))
    assert found
    return {(one.method, one.template): one for one in found}


def test_only_what_needs_nothing_is_switched_on_and_the_rest_has_the_examples_of_the_document(tmp_path: Path) -> None:
    found = of(OPENAPI, tmp_path)
    assert [key for key, one in found.items() if one.inactive is None] == [("get", "/v1/items"), ("get", "/v1/health")]
    assert found["get", "/v1/items/{id}"].path == "/v1/items/a%2Fb%20%7Bid%7D"
    assert (
        found["get", "/v1/search"].path == "/v1/search" and found["get", "/v1/search"].inactive == "it needs q (query)"
    )
    assert "stream" in str(found["get", "/v1/events"].inactive)
    assert found["post", "/v1/items"].body == {
        "name": "tea",
        "code": "007",
        "price": 1.5,
        "inner": None,
        "sizes": ["s"],
        "other": True,
    }
    assert health(tuple(found.values())) == "/v1/health"
    paths = {"/x/{y}": {"get": {}}, "/z": {"get": {"parameters": [{"$ref": "other.json#/limit"}]}}}
    undescribed = of({"openapi": "3.0.0", "paths": paths}, tmp_path, "other.json")
    assert undescribed["get", "/x/{y}"].inactive == "it needs y (path)"
    assert undescribed["get", "/z"].inactive == "it needs other.json#/limit (not in the document)"
    source = starter(tuple(found.values()), "api.yaml")
    assert "self.client.get('/v1/items', name='GET /v1/items')" in source
    assert "    #     self.client.delete('/v1/items/a%2Fb%20%7Bid%7D', name='DELETE /v1/items/{id}')" in source


def test_swagger_is_read_too_and_its_host_is_not_where_load_goes(tmp_path: Path) -> None:
    found = of(SWAGGER, tmp_path)
    assert found["get", "/api/pets"].inactive is None and found["post", "/api/pets"].body == {"name": "rex"}
    assert found["get", "/api/pets/{petId}"].path == "/api/pets/3" and health(tuple(found.values())) is None
    done = command("init", "--openapi", "api.yaml", "--print", "toml", cwd=tmp_path)
    assert "other.example" not in done.stdout and 'url = "http://127.0.0.1:8000"' in done.stdout
    assert "\nhealth" not in done.stdout, "the document has none"
    assert "/api/pets" in command("init", "--openapi", "api.yaml", cwd=tmp_path).stdout, "no terminal: the Locust file"


def test_nothing_of_a_document_is_code_or_leaves_its_comment(tmp_path: Path) -> None:
    operation = {"summary": EVIL, "operationId": EVIL, "responses": {EVIL: EVIL}}
    body = {"content": {"application/json": {"example": {EVIL: [EVIL]}}}}
    parameter = {"name": EVIL, "in": "query", "required": True, "example": EVIL}
    document = {
        "openapi": "3.0.0",
        "servers": [{"url": "/" + EVIL}],
        "paths": {
            f"/{EVIL}": {"get": operation, "put": {**operation, "requestBody": body}},
            "/x": {"get": {**operation, "parameters": [parameter]}, "delete": {"parameters": [EVIL, None, 3]}},
            "/class": {"get": {}},
            "/\u00e9": {"get": {}},
            "/\u00e8": {"get": {}},
            EVIL: {"get": {}},
        },
    }
    found = tuple(of(document, tmp_path).values())
    for one in (found, tuple(Operation(method="get", template=EVIL, path=EVIL, body=EVIL, summary=EVIL) for _ in "12")):
        source = starter(one, EVIL)
        assert source.isascii() or all(line.isprintable() for line in source.splitlines())
        (visitor,) = [node for node in ast.parse(source.encode("utf-8")).body if isinstance(node, ast.ClassDef)]
        methods = [node.name for node in visitor.body if isinstance(node, ast.FunctionDef)]
        assert len(set(methods)) == len(methods) > 0 and all(name.startswith("get_") for name in methods)
        assert not [node for node in ast.walk(visitor) if isinstance(node, (ast.Import, ast.JoinedStr, ast.Lambda))]
        assert all(isinstance(value, ast.Constant) for call in client_calls(visitor) for value in call.args)
        # All of it switched on is Python still.
        ast.parse(
            source.replace("    # @task", "    @task")
            .replace("    # def", "    def")
            .replace("    #     self", "        self")
        )


def client_calls(tree: ast.AST) -> list[ast.Call]:
    return [
        node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("self.")
    ]


def test_names_of_tasks_are_none_of_locusts_own() -> None:
    # In a process of its own: Locust changes the one that it is imported in.
    code = "import locust, harness.load.lean as lean; print(*dir(locust.HttpUser), *dir(lean.LeanHttpUser))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    taken = [name for name in done.stdout.split() if name.partition("_")[0] in METHODS and name.partition("_")[1]]
    assert "on_start" in done.stdout and not taken


def test_schemas_without_an_end_have_one(tmp_path: Path) -> None:
    schemas: dict[str, Any] = {
        f"S{n}": {
            "type": "object",
            "properties": {f"p{k}": {"$ref": f"#/components/schemas/S{n + 1}"} for k in range(9)},
        }
        for n in range(40)
    }
    schemas["A"] = {"$ref": "#/components/schemas/B"}
    schemas["B"] = {"$ref": "#/components/schemas/A"}
    schemas["L"] = {"allOf": [{"$ref": "#/components/schemas/L"}] * 50}
    paths = {
        f"/{name}": {
            "post": {
                "requestBody": {"content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}}
            }
        }
        for name in ("S0", "A", "L")
    }
    paths["/round"] = {"$ref": "#/paths/~1round"}
    paths["/outside"] = {"$ref": "https://stranger.example/x.json"}
    started = time.monotonic()
    found = of({"openapi": "3.0.0", "paths": paths, "components": {"schemas": schemas}}, tmp_path)
    assert time.monotonic() - started < 10 and set(found) == {("post", "/S0"), ("post", "/A"), ("post", "/L")}
    source = starter(tuple(found.values()), "api.yaml")
    ast.parse(source)
    assert len(source) < 20_000 and found["post", "/A"].body is None


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a: &a [1]\nb: *a\n", "is an anchor"),
        ("a: !!python/object:os.system x\n", "the tag"),
        ("[" * 100_000, "nested too deeply"),
        ("a:\n" + "".join(f"{' ' * n}- \n" for n in range(100)), "nested more than 60 deep"),
        ('{"openapi": "3.0.0", "x": NaN}', "NaN is no number that JSON has"),
        ('{"openapi": "3.0.0", "x": 1e999}', "1e999 is no number that JSON has"),
        ('{"openapi": "3.0.0", "x": ' + "9" * 5000 + "}", "not JSON"),
        ("\xff", "neither OpenAPI 3 nor Swagger 2.0"),
        ("[]", "neither OpenAPI 3 nor Swagger 2.0"),
        ("openapi: 4.0.0\npaths: {/: {get: {}}}\n", "neither OpenAPI 3 nor Swagger 2.0"),
        ("openapi: 3.0.0\npaths: []\n", "it has no operations"),
        ("openapi: 3.0.0\npaths: {x: 1, /y: [], /z: {get: 3}}\n", "it has no operations"),
        ("x: " + "y" * 1_000_000, "over 1 MB, which no OpenAPI document needs"),
        ("{" + " " * 16_000_000, "over 16 MB"),
    ],
)
def test_what_is_no_document_is_told_in_a_line(content: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "api.json").write_text(content)
    done = command("init", "--openapi", "api.json", cwd=tmp_path)
    assert done.returncode == 2 and says in done.stderr and len(done.stderr.splitlines()) <= 2, done.stderr


def test_a_yaml_number_that_nobody_can_hold_stays_text(tmp_path: Path) -> None:
    parameter = "{name: q, in: query, required: true, example: 1e999}"
    found = of(f"openapi: 3.0.0\npaths: {{/x: {{get: {{parameters: [{parameter}]}}}}}}\n", tmp_path)
    assert found["get", "/x"].path == "/x?q=1e999"


@contextmanager
def serving(status: int, body: bytes = b"", location: str | None = None) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            if location is not None:
                self.send_header("Location", location)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://localhost:{server.server_port}/openapi.json"
    finally:
        server.shutdown()
        server.server_close()


def fetched(url: str, **more: Any) -> dict[str, Any]:
    return openapi_document.read(url, **{"named": (), "allow_hosts": (), **more})


def test_a_document_is_fetched_from_this_machine_and_its_target_is_there(tmp_path: Path) -> None:
    with serving(200, json.dumps(SWAGGER).encode()) as url:
        done = command("init", "--openapi", url, "--print", cwd=tmp_path)
    assert f'url = "{url.removesuffix("/openapi.json")}"' in done.stdout, done.stderr
    with serving(404) as url, pytest.raises(UsageError, match="answered 404, and no document"):
        fetched(url)
    with serving(302, location="http://127.0.0.1:1/x") as url, pytest.raises(UsageError, match="another host or port"):
        fetched(url)
    with pytest.raises(UsageError, match="could not be reached"):
        fetched("http://127.0.0.1:1/openapi.json")
    with pytest.raises(UsageError, match="with a login in it"):
        fetched("http://me:secret@127.0.0.1/openapi.json")


def test_hosts_that_nobody_named_are_asked_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def get(url: str, timeout_s: float) -> Any:
        asked.append(url)
        raise openapi_document.AdapterError("asked")

    monkeypatch.setattr("harness.adapters.wire.http.get", get)
    for host in ("10.1.2.3", "93.184.216.34", "169.254.169.254"):
        with pytest.raises(Refused) as caught:
            fetched(f"http://{host}/openapi.json")
        assert f"--allow-host {host}" in str(caught.value.hint) and not asked
    for more in ({"named": ("10.1.2.3",)}, {"allow_hosts": ("10.1.2.3",)}):
        with pytest.raises(UsageError, match="asked"):
            fetched("http://10.1.2.3/openapi.json", **more)
    assert len(asked) == 2


def test_requests_that_are_refused_become_comments(tmp_path: Path) -> None:
    found = tuple(Operation(method="get", template=name, path=name) for name in ("/a", "/b", "/c"))
    write(tmp_path, {"locustfile.py": starter(found, None)})
    path = tmp_path / "locustfile.py"
    path.chmod(0o640)
    assert comment_out(path, {"GET /b": "answered 404\nimport os", "GET /nobody": "x"}) == ("GET /b",)
    source = path.read_text()
    assert "    # Not switched on: answered 404\\nimport os.\n    # @task(1)\n    # def get_b(self):\n" in source
    assert "name='GET /a'" in source and [ast.unparse(one.args[0]) for one in client_calls(ast.parse(source))] == [
        "'/a'",
        "'/c'",
    ]
    assert path.stat().st_mode & 0o777 == 0o640
    assert comment_out(path, {"GET /b": "x"}) == () and path.read_text() == source
    with pytest.raises(UsageError, match="none would be left"):
        comment_out(path, {"GET /a": "x", "GET /c": "x"})
    assert path.read_text() == source
    assert "removed locustfile.py" in command("init", "--remove", cwd=tmp_path).stdout, "it counts as init's still"


def test_nobody_elses_locustfile_is_touched(tmp_path: Path) -> None:
    path = tmp_path / "locustfile.py"
    write(tmp_path, {"locustfile.py": starter((), None)})
    for change in (path.read_text() + "# mine\n", "import locust\n"):
        path.write_text(change)
        with pytest.raises(UsageError, match="is not as `harness init` wrote it"):
            comment_out(path, {"GET /": "answered 404"})
        assert path.read_text() == change
    path.unlink()
    path.symlink_to("/etc/hostname")
    with pytest.raises(UsageError, match="is a link, not a file"):
        comment_out(path, {"GET /": "answered 404"})
