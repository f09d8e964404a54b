"""Who may come in: tokens that are good once, for a name and a role, and what a browser shows afterwards.

It lives in the run, so that nobody has to be invited again when a console has died. Only hashes are kept and handed on.
"""

from __future__ import annotations

import hashlib
import secrets
import threading

from harness.console.protocol import Seat
from harness.model.records.many_runs.gameday import Role

MOST_SEATS = 200
MOST_OPEN = 100
"""Invitations that nobody has redeemed yet."""
MOST_NAME = 60


def hashed(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


class Doors:
    """Safe to call from any thread. There is one operator: a new invitation takes the place of one that nobody has
    redeemed, and whoever redeems it takes the seat of the one before."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, tuple[str, Role]] = {}
        self._seats: dict[str, Seat] = {}

    def invite(self, name: str, role: Role) -> str:
        """A token; "" where there are too many."""
        token = secrets.token_urlsafe(24)
        with self._lock:
            if role == "operator":
                self._open = {key: one for key, one in self._open.items() if one[1] != "operator"}
            if len(self._open) >= MOST_OPEN or len(self._seats) >= MOST_SEATS:
                return ""
            self._open[hashed(token)] = (name[:MOST_NAME], role)
        return token

    def enter(self, token: str, *, operators: bool) -> str:
        """What the browser is to show from now on; "" for a token that is not good any more, or not at this door."""
        with self._lock:
            known = self._open.get(hashed(token))
            if known is None or (known[1] == "operator") != operators:
                return ""
            del self._open[hashed(token)]
            if operators:
                self._seats = {key: seat for key, seat in self._seats.items() if seat.role != "operator"}
            cookie = secrets.token_urlsafe(32)
            self._seats[hashed(cookie)] = Seat(cookie=hashed(cookie), name=known[0], role=known[1])
            return cookie

    def revoke(self, name: str) -> bool:
        """Take every seat and every open invitation of a guest of that name away."""
        name = name[:MOST_NAME]
        with self._lock:
            seats = [key for key, seat in self._seats.items() if seat.name == name and seat.role != "operator"]
            tokens = [key for key, (who, role) in self._open.items() if who == name and role != "operator"]
            for key in seats:
                del self._seats[key]
            for key in tokens:
                del self._open[key]
            return bool(seats or tokens)

    @property
    def seats(self) -> tuple[Seat, ...]:
        with self._lock:
            return tuple(self._seats.values())
