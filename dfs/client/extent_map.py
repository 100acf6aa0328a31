"""What a client knows of one file's extents, exact for one data version.

Known ranges and their extents are kept sorted. A change that this client did not make itself
empties the map; its own commits are laid over it by the same rule as on the server.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Final

from dfs.core.dirty import gaps_between
from dfs.core.namespace.pieces import part, replace_ranges

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dfs.core.namespace.ops import Piece
    from dfs.core.namespace.records import Extent
    from dfs.core.pending import Range

EXTENTS_KEPT_MAX: Final = 32_768
"""Above this, what is known is dropped before a read learns more."""
RANGES_KEPT_MAX: Final = 256


class ExtentMap:
    """Extents of one file as of `data_version`."""

    def __init__(self, data_version: int) -> None:
        self.data_version = data_version
        self._known: list[Range] = []
        """Sorted, never touching."""
        self._extents: list[Extent] = []
        """Sorted, and all within known ranges."""

    def __len__(self) -> int:
        return len(self._extents)

    def move_to(self, data_version: int) -> None:
        """Someone else may have changed the file: forget everything, unless nothing changed."""
        assert data_version >= self.data_version
        if data_version != self.data_version:
            self.forget()
            self.data_version = data_version

    def trim(self) -> None:
        """Forget everything if it has become too much. Not to be called while a read gathers."""
        if len(self._extents) > EXTENTS_KEPT_MAX or len(self._known) > RANGES_KEPT_MAX:
            self.forget()

    def forget(self) -> None:
        self._known.clear()
        self._extents.clear()

    def reset(self) -> None:
        """Forget everything, the version too: what comes next may be older."""
        self.forget()
        self.data_version = 0

    def learn(self, start: int, end: int, extents: Sequence[Extent]) -> None:
        """These are all the extents that touch [start, end), as of `data_version`."""
        assert start <= end
        if start == end:
            return
        inside = [part(e, max(e.offset, start), min(e.end, end)) for e in extents]
        first, last = self._cut(start), self._cut(end)
        self._extents[first:last] = inside
        self._add_known(start, end)

    def commit(self, pieces: Sequence[Piece], data_version: int) -> None:
        """This client's own commit became `data_version`, the next after what is known here."""
        assert pieces
        self.trim()
        if data_version != self.data_version + 1:
            self.move_to(data_version)
            return
        self.data_version = data_version
        for piece in pieces:
            self.learn(piece.offset, piece.offset + piece.length, replace_ranges([], [piece]))

    def unknown(self, start: int, end: int) -> list[Range]:
        """What of [start, end) is not known: ranges by offset, may be empty."""
        first = bisect_right(self._known, start, key=lambda known: known[1])
        last = bisect_left(self._known, end, key=lambda known: known[0])
        return gaps_between(start, end, self._known[first:last])

    def touching(self, start: int, end: int) -> list[Extent]:
        """Extents cut to [start, end), by offset; what they leave out is a hole. All is known."""
        assert not self.unknown(start, end)
        first = bisect_right(self._extents, start, key=lambda extent: extent.end)
        last = bisect_left(self._extents, end, key=lambda extent: extent.offset)
        return [part(e, max(e.offset, start), min(e.end, end)) for e in self._extents[first:last]]

    def starting_in(self, start: int, end: int) -> list[Extent]:
        """Extents that begin in [start, end), whole, by offset. All of that is known."""
        assert not self.unknown(start, end)
        first = bisect_left(self._extents, start, key=lambda extent: extent.offset)
        last = bisect_left(self._extents, end, key=lambda extent: extent.offset)
        return self._extents[first:last]

    def _cut(self, offset: int) -> int:
        """Index of the first extent at or behind `offset`, after splitting one across it."""
        index = bisect_left(self._extents, offset, key=lambda extent: extent.offset)
        if index > 0 and self._extents[index - 1].end > offset:
            across = self._extents[index - 1]
            halves = [part(across, across.offset, offset), part(across, offset, across.end)]
            self._extents[index - 1 : index] = halves
        return index

    def _add_known(self, start: int, end: int) -> None:
        first = bisect_left(self._known, start, key=lambda known: known[1])
        last = bisect_right(self._known, end, key=lambda known: known[0])
        if first < last:
            start = min(start, self._known[first][0])
            end = max(end, self._known[last - 1][1])
        self._known[first:last] = [(start, end)]
