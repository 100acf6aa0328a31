"""Which names are in a large directory, and what a listing of it must and may hold."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(eq=False)
class Listing:
    """One that is under way."""

    must: set[bytes]
    """There ever since it began, without a doubt."""
    may: set[bytes]
    """There, or in doubt, at some moment since it began."""

    def check(self, names: Sequence[bytes]) -> str:
        """Why it cannot have found these; empty when it can."""
        found = Counter(names)
        parts = (
            ("missing", sorted(self.must - found.keys())),
            ("should not be there", sorted(found.keys() - self.may)),
            ("listed twice", sorted(name for name, count in found.items() if count > 1)),
        )
        return "; ".join(f"{len(which)} {what}: {which[:3]}" for what, which in parts if which)


class Crowd:
    """What all tasks know."""

    def __init__(self) -> None:
        self.keepers: dict[str, None] = {}
        """Tasks that may still add names."""
        self.is_removed = False
        self._there: dict[bytes, int] = {}
        """Names, and whose they are."""
        self._doubtful: dict[bytes, int] = {}
        """Names that are being added or removed, or were when their client died."""
        self._listings: list[Listing] = []

    def names_of(self, owner: int) -> list[bytes]:
        return [name for name, whose in self._there.items() if whose == owner]

    def doubtful_of(self, owner: int) -> list[bytes]:
        return [name for name, whose in self._doubtful.items() if whose == owner]

    def doubt(self, name: bytes, owner: int) -> None:
        """From now on it may be there or not."""
        self._there.pop(name, None)
        self._doubtful[name] = owner
        for listing in self._listings:
            listing.must.discard(name)
            listing.may.add(name)

    def settle(self, name: bytes, owner: int, *, is_there: bool) -> None:
        """It is known now."""
        del self._doubtful[name]
        if is_there:
            self._there[name] = owner

    @contextmanager
    def listing(self) -> Iterator[Listing]:
        """Within, someone lists the directory."""
        listing = Listing(set(self._there), {*self._there, *self._doubtful})
        self._listings.append(listing)
        try:
            yield listing
        finally:
            self._listings.remove(listing)
