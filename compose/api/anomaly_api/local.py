"""A bounded map that forgets what was written longest ago: what this process still knows when others are away."""

from __future__ import annotations

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    def __init__(self, entries: int) -> None:
        self._entries = entries
        self._map: dict[K, V] = {}

    def __len__(self) -> int:
        return len(self._map)

    def get(self, key: K) -> V | None:
        """Leaves the order alone: cheap, and what is read is usually written again soon."""
        return self._map.get(key)

    def put(self, key: K, value: V) -> None:
        self._map.pop(key, None)
        self._map[key] = value
        if len(self._map) > self._entries:
            del self._map[next(iter(self._map))]
