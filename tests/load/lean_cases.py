"""Calls that every HTTP client of Locust understands, to be made by each of them: name -> [(method, path, options)].

All follow redirects unless they say otherwise. `{url}` in a path is the server's own URL; what is named
"base" has a host that is a URL with a path.
"""

from __future__ import annotations

from typing import Any

Call = tuple[str, str, dict[str, Any]]

FORM = {"a": "x y", "b": ["1", "2", None], "c": None, "d": 5, "ü": "ö&="}
HEADERS = {"X-Own": "1", "Content-Type": "text/own"}


def _get(path: str, **options: Any) -> list[Call]:
    return [("GET", path, options)]


def _after_redirect(status: int) -> dict[str, list[Call]]:
    options = {"data": "body", "headers": HEADERS, "auth": ("me", "secret")}
    return {f"{status}-{method}": [(method, f"/redirect/{status}", options)] for method in _METHODS}


_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE")

PATHS = (
    "/a", "/{x}|^\"<>`", "/a b?c d=e f", "/ü?ö=ü", "/a%20b", "/100%?x=50%&y=%20", "/%7Eu/%41", "/a/../b", "/a/./b/.",
    "/..", "/%2e%2e/x", "/a?x=../y", "/[x]?[y]", "/a;b=c", "//double//", "/a#frag?x", "/a?", "/a\tb", "/\\x",
    "/a?q=a+b%26c", "", "?x=1", "/😀", "/a?u=http://x/?y", "/.hidden", "/a%2fb", "/a:b@c*!$&'(),=~-._", '/a?x={"a":1}',
    "{url}/a?b", "{url}", "{url}?q=1", "{url}/a b",
)  # fmt: skip

PARAMS: tuple[Any, ...] = (
    {"n": None}, {"a": 1}, {"a": [1, None, 2]}, {"a": "x y&z"}, [("a", "b"), ("a", "c"), ("d", None)], "x=1", b"x=1",
    "x=100%", {"ü": "ö"}, {b"k": b"v"}, {"a": ("x", "y")}, {"a": ""}, {"": "x"}, {"a": True, "b": 1.5},
    {"a": {"k": "v"}}, {"e": []}, {"a": ["~", "*", "/", "[", "{"]}, "a={b}|c d", {}, "", [], {"a": {"only"}},
    {"a": [[1, "x y"], None, (b"c",)]},
)  # fmt: skip

CASES: dict[str, list[Call]] = {
    **{f"path {path}": _get(path) for path in PATHS},
    **{f"params {params}": _get("/a", params=params) for params in PARAMS},
    "params after a query": _get("/a?x=1", params={"n": 2}),
    "params after a fragment": _get("/a#frag", params={"n": 2}),
    "params after an empty query": _get("/a?", params={"n": 2}),
    "params and a percent sign": _get("/50%", params={"n": "a b"}),
    "lower case": [("get", "/a", {}), ("pOsT", "/a", {"data": "x"}), ("head", "/a", {})],
    **{f"bare {method}": [(method, "/a", {})] for method in _METHODS},
    **{f"body of {method}": [(method, "/a", {"data": b"body"})] for method in _METHODS},
    "data form": [("POST", "/a", {"data": FORM})],
    "data pairs": [("POST", "/a", {"data": [("a", "1"), ("a", "2"), ("n", None)]})],
    "data tuple of pairs": [("POST", "/a", {"data": (("a", b"1"), ("b", ["x", "y"]))})],
    "data text": [("POST", "/a", {"data": "ü"})],
    "data bytes": [("POST", "/a", {"data": b"\x00\xff"})],
    "data empty": [("POST", "/a", {"data": {}}), ("POST", "/a", {"data": ""}), ("POST", "/a", {"data": []})],
    "data before json": [("POST", "/a", {"data": "x", "json": {"a": 1}})],
    "data empty before json": [("POST", "/a", {"data": {}, "json": {"a": 1}})],
    "data with its type": [("POST", "/a", {"data": {"a": "b"}, "headers": HEADERS})],
    "json": [("POST", "/a", {"json": {"ü": [1, 1.5, None, True, "\u20ac"]}})],
    "json of a GET": _get("/a", json={"a": 1}),
    "json with its type": [("POST", "/a", {"json": [1], "headers": HEADERS})],
    "json nothing": [("POST", "/a", {"json": value}) for value in ({}, [], 0, False, "", None)],
    "json keys": [("POST", "/a", {"json": {None: "b", True: "c", 1.5: "d"}}), ("POST", "/a", {"json": 2**70})],
    "json NaN": [("POST", "/a", {"json": {"a": [float("nan")]}})],
    "json infinite": [("POST", "/a", {"json": [None, float("-inf")]})],
    "auth": [("GET", "/a", {"auth": ("me", "sécret")}), ("GET", "/a", {"auth": (b"me", b"\xff")})],
    "auth beside a header": _get("/a", auth=("me", "x"), headers={"authorization": "mine"}),
    "no auth": [("GET", "/a", {"auth": None}), ("GET", "/a", {"auth": ()})],
    "header values": _get("/a", headers={"X-Bytes": b"\xfc", "X-Text": "ü", "X-None": None, "X-Empty": ""}),
    "header with a line": _get("/a", headers={"X-Bad": "a\r\nb"}),
    "header with a space before": _get("/a", headers={"X-Bad": " a"}),
    "timeouts": [("GET", "/a", {"timeout": t}) for t in (5, 5.5, None, (3, 10), (3, None), (None, 10))],
    **{f"timeout {t!r}": _get("/a", timeout=t) for t in (0, -1, (1,), (1, 2, 3), "soon", True, (0, 5), {})},
    "cookies": [("GET", path, {}) for path in ("/set", "/a", "/other/a", "/a", "/unset", "/a")],
    "cookie of the call": [("GET", "/set", {}), ("GET", "/a", {"headers": {"Cookie": "own=1"}}), ("GET", "/a", {})],
    "cookie over a redirect": [
        ("GET", "/set-and-go", {}),
        ("GET", "/redirect/302", {"headers": {"cookie": "own=1"}}),
    ],
    **_after_redirect(301), **_after_redirect(302), **_after_redirect(303),
    **_after_redirect(307), **_after_redirect(308),
    "redirect not followed": _get("/redirect/302", allow_redirects=False),
    **{f"redirect {where}": _get(f"/to/x/{where}", headers={"X-Own": "1"}) for where in (
        "relative", "up", "query", "empty", "none", "fragment", "space", "utf8", "scheme-less", "absolute",
        "300", "304",        "chain", "loop",
    )},
    **{f"reply {kind}": _get(f"/reply/{kind}") for kind in (
        "204", "304", "205", "chunked", "trailers", "interim", "latin", "no-reason", "old", "until-close", "gzip-junk",
        "gzip-zeros", "gzip-members", "deflate", "bare-deflate", "deflate-junk", "404", "500", "304-length",
    )},
    **{f"base {path}": _get(path) for path in ("/a", "", "?x=1", "{url}/a", "/a b?c")},
    "reply to HEAD": [("HEAD", "/reply/length", {}), ("GET", "/a", {})],
}  # fmt: skip
