"""A bounded map that keeps what was used lately, without a list of who came first.

Entries live in two generations. Whatever is used moves to the young one; when that is full it
becomes the old one, and what was still in the old one is forgotten. Between `enter` and `leave` a
user loses nothing that it found or put: a second rotation waits until everyone who entered before
the first one has left, so a function that is run again and again until all it needs is here comes
to an end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

V = TypeVar("V")


class Generations(Generic[V]):
    """Values by key. `cost_of` says what a value counts, at least 1; about `cost_max` are kept."""

    def __init__(self, cost_max: int, cost_of: Callable[[V], int]) -> None:
        assert cost_max > 0
        self._half_max = (cost_max + 1) // 2
        self._cost_of = cost_of
        self._young: dict[bytes, V] = {}
        self._old: dict[bytes, V] = {}
        self._young_cost = 0
        self._rotation = 0
        self._users_before = 0
        """Users that entered before the latest rotation."""
        self._users_since = 0

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def find(self, key: bytes) -> V | None:
        """The value, or None if it is not here."""
        value = self._young.get(key)
        if value is not None:
            return value
        value = self._old.pop(key, None)
        if value is not None:
            self._young[key] = value
            self._young_cost += self._cost_of(value)
        return value

    def put(self, key: bytes, value: V) -> None:
        """Set a value; the bound is kept by the next `leave` or `trim`."""
        old = self._young.get(key)
        if old is not None:
            self._young_cost -= self._cost_of(old)
        else:
            self._old.pop(key, None)
        self._young[key] = value
        self._young_cost += self._cost_of(value)

    def grow(self, cost: int) -> None:
        """A value in the young generation costs so much more (if negative, less) than before."""
        self._young_cost += cost

    def enter(self) -> int:
        """Someone starts to rely on what it finds. Give the answer to `leave`."""
        self._users_since += 1
        return self._rotation

    def leave(self, rotation: int) -> None:
        """That someone is done."""
        if rotation == self._rotation:
            self._users_since -= 1
        else:
            self._users_before -= 1
        assert self._users_since >= 0
        assert self._users_before >= 0
        self.trim()

    def trim(self) -> None:
        """Forget the oldest, if there is too much and nobody relies on it."""
        if self._young_cost <= self._half_max or self._users_before:
            return
        self._old = self._young
        self._young = {}
        self._young_cost = 0
        self._rotation += 1
        self._users_before = self._users_since
        self._users_since = 0
