"""The routes of both listeners. The guests' has none that begins, injects, extends or skips: they are not there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from harness.console.doors import MOST_NAME
from harness.console.guard import Guard
from harness.console.house import House
from harness.console.pieces import page
from harness.console.protocol import Seat
from harness.gameday.commands import ALLOWED, MOST_CHARACTERS, Command, NotUnderstood, action, parse
from harness.model.records.many_runs.gameday import ActKind, Role

STATIC = Path(__file__).parent / "static"
BEAT_S = 5.0
"""A stream says at least this often that it is there, and looks whether whoever reads it still may."""
OPERATORS = frozenset(ALLOWED["operator"] - {"see", "think", "mitigated"})
GUESTS = frozenset(ALLOWED["observer"] | ALLOWED["responder"])


def operators_app(house: House, port: int) -> ASGIApp:
    """For the operator, on loopback."""
    places = [*_places("127.0.0.1", port, 80), *_places("localhost", port, 80)]
    return _app(house, OPERATORS, places, "http", port, operators=True)


def guests_app(house: House, host: str, port: int) -> ASGIApp:
    """For people in other rooms, over TLS."""
    shown = f"[{host}]" if ":" in host else host
    return _app(house, GUESTS, _places(shown, port, 443), "https", port, operators=False)


def _places(host: str, port: int, usual: int) -> list[str]:
    """What Host may say: browsers leave the usual port out."""
    return [f"{host}:{port}", *([host] if port == usual else [])]


def _app(
    house: House, kinds: frozenset[ActKind], places: list[str], scheme: str, port: int, *, operators: bool
) -> ASGIApp:
    desk = _Door(house, f"console_{port}", operators=operators, secure=scheme == "https")
    routes = [
        Route("/", desk.page),
        Route("/stream", desk.stream),
        Route("/enter/{token}", desk.entrance, methods=["GET"]),
        Route("/enter/{token}", desk.enter, methods=["POST"]),
        Mount("/static", StaticFiles(directory=STATIC)),
        *(Route(f"/do/{kind}", desk.doing(kind), methods=["POST"]) for kind in sorted(kinds)),
    ]
    if operators:
        routes.append(Route("/invite", desk.invite, methods=["POST"]))
    app = Starlette(routes=routes, exception_handlers={404: _nothing, 405: _nothing, 500: _nothing})
    return Guard(app, places, [f"{scheme}://{place}" for place in places], f"console_{port}", house.knows)


async def _nothing(request: Request, error: Exception) -> Response:
    """No input comes back in it."""
    return PlainTextResponse("not found", status_code=404)


class _Door:
    """One listener's way in."""

    def __init__(self, house: House, cookie: str, *, operators: bool, secure: bool) -> None:
        self._house = house
        self._cookie = cookie
        self._operators = operators
        self._secure = secure

    def _seat(self, request: Request) -> Seat | None:
        seat = self._house.who(request.cookies.get(self._cookie, ""))
        return seat if seat is not None and (seat.role == "operator") == self._operators else None

    async def entrance(self, request: Request) -> Response:
        """Looking at a link does not use it up: a messenger does that to show a preview."""
        return HTMLResponse(page("enter.html.j2"))

    async def enter(self, request: Request) -> Response:
        cookie = await self._house.enter(str(request.path_params["token"])[:100], operators=self._operators)
        if not cookie:
            return HTMLResponse(page("outside.html.j2"), status_code=403)
        answer = RedirectResponse("/", status_code=303)
        answer.set_cookie(self._cookie, cookie, httponly=True, samesite="strict", secure=self._secure, path="/")
        return answer

    async def page(self, request: Request) -> Response:
        seat = self._seat(request)
        if seat is None:
            return HTMLResponse(page("outside.html.j2"), status_code=403)
        board = self._house.board(operators=self._operators)
        return HTMLResponse(
            page(
                "page.html.j2",
                seat=seat,
                title=board.title if board is not None else "",
                pieces=self._house.pieces(operators=self._operators),
                may=ALLOWED[seat.role],
                faults=self._house.faults if self._operators else (),
                guests=self._operators and self._house.has_guests,
            )
        )

    async def stream(self, request: Request) -> Response:
        seat = self._seat(request)
        if seat is None:
            return PlainTextResponse("", status_code=403)
        if not self._house.has_room_for(seat):
            return PlainTextResponse("", status_code=503)
        return StreamingResponse(self._pieces(request, seat), media_type="text/event-stream")

    async def _pieces(self, request: Request, seat: Seat) -> AsyncIterator[bytes]:
        """Only what has changed since this reader's last look: one that is slow misses what lies between."""
        house, sent = self._house, dict[str, str]()
        if not house.has_room_for(seat):
            return
        house.watching[seat.cookie] += 1
        try:
            while self._seat(request) is not None and not house.closing:
                changed = {
                    name: html
                    for name, html in house.pieces(operators=self._operators).items()
                    if sent.get(name) != html
                }
                sent |= changed
                yield b"".join(_event(name, html) for name, html in changed.items()) or b": here\n\n"
                await house.next_change(BEAT_S)
            yield _event(("over" if house.over else "lost") if house.closing else "gone", "")
        finally:
            house.watching[seat.cookie] -= 1

    def doing(self, kind: ActKind) -> Callable[[Request], object]:
        async def do(request: Request) -> Response:
            seat = self._seat(request)
            if seat is None or kind not in ALLOWED[seat.role]:
                return PlainTextResponse("not found", status_code=404)
            try:
                why_not = await self._house.do(seat, command_of(kind, await _fields(request)))
            except ClientDisconnect:
                return PlainTextResponse("", status_code=400)
            except (NotUnderstood, ValueError) as error:
                why_not = str(error)[:300]
            if request.headers.get("accept") == "application/json":
                return JSONResponse({"why_not": why_not})
            return RedirectResponse("/", status_code=303)

        return do

    async def invite(self, request: Request) -> Response:
        seat = self._seat(request)
        if seat is None:
            return PlainTextResponse("not found", status_code=404)
        try:
            fields = await _fields(request)
        except ClientDisconnect:
            return PlainTextResponse("", status_code=400)
        except ValueError as error:
            return JSONResponse({"why_not": str(error)})
        name, role = fields.get("name", "").strip()[:60], fields.get("role", "")
        if not name or role not in ("observer", "responder"):
            return JSONResponse({"why_not": "whom, and as what?"})
        chosen: Role = "observer" if role == "observer" else "responder"
        path = await self._house.invite(name, chosen, revoke="revoke" in fields)
        if path is None:
            return JSONResponse({"why_not": "the run does not answer"})
        if "revoke" in fields:
            return JSONResponse({"why_not": path})
        return JSONResponse({"why_not": "" if path else "not possible", "path": path})


async def _fields(request: Request) -> dict[str, str]:
    """Of a form. Raises ValueError, ClientDisconnect."""
    return dict(parse_qsl((await request.body()).decode("utf-8", "replace"), max_num_fields=40))


def command_of(kind: ActKind, fields: dict[str, str]) -> Command:
    """What a form says. Raises NotUnderstood, ValueError."""
    text = " ".join(fields.get("text", "").split())
    if len(text) > MOST_CHARACTERS:
        raise NotUnderstood(f"that has {len(text):,} characters, and {MOST_CHARACTERS} are the most")
    match kind:
        case "action":
            found = action(text or "-")
            if not text:
                raise NotUnderstood("action what?")
            if len(fields.get("owner", "")) > MOST_NAME:
                raise NotUnderstood(f"an owner has {MOST_NAME} characters at most")
            options = " ".join(f'{key}="{fields[key]}"' for key in ("owner", "due", "severity") if fields.get(key))
            more = action(f"x {options}")
            return Command(
                kind="action",
                text=found.text,
                owner=found.owner or more.owner,
                due=found.due or more.due,
                severity=found.severity or more.severity,
            )
        case "extend":
            return parse(f"extend {fields.get('by', '')[:20]}")
        case "tick":
            return parse(f"tick {fields.get('what', '')[:5]}")
        case "inject":
            params = [
                f"{name[6:]}={value.strip()}"
                for name, value in fields.items()
                if name.startswith("param-") and value.strip()
            ]
            fault = ":".join([fields.get("fault", "")[:100], ",".join(params)]).rstrip(":")
            if len(fault) > MOST_CHARACTERS:
                raise NotUnderstood(f"that has {len(fault):,} characters, and {MOST_CHARACTERS} are the most")
            return Command(kind="inject", text=fault)
        case (
            "begin"
            | "begin_anyway"
            | "skip"
            | "clear"
            | "abort"
            | "end"
            | "reveal"
            | "keep"
            | "restore"
            | "mark"
            | "mitigated"
        ):
            return Command(kind=kind, text=text)
        case _:
            if not text:
                raise NotUnderstood(f"{kind} what?")
            return Command(kind=kind, text=text)


def _event(name: str, html: str) -> bytes:
    # A lone CR ends a line of a stream too.
    lines = "".join(f"data: {line}\n" for line in html.replace("\r", " ").split("\n"))
    return f"event: {name}\n{lines}\n".encode()
