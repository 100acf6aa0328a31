"""What is known about whole ranges of committed keys: every record in them, and that there are no
others.

A page is exact at every moment: `patch` carries each commit into the pages that it touches. Pages
never overlap, and those that touch are one. Ranges are looked up by the inode they belong to (or
by their table), so a commit finds the pages of its keys without searching.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dfs.core.namespace.keys import DENTRY, EXTENT, INODE, ORPHAN, XATTR, after_prefix
from dfs.meta.generations import Generations

if TYPE_CHECKING:
    from dfs.core.namespace.records import Record
    from dfs.core.namespace.view import ScanRange

_TABLE_BYTES = 3
_INODE_BYTES = 11
_OF_INODES = (INODE, DENTRY, XATTR, EXTENT, ORPHAN)


def shelf_of(key: bytes) -> bytes:
    """The prefix under which pages that hold this key are kept: its inode's part of its table, or
    its table."""
    return key[: _INODE_BYTES if key[2:3] in _OF_INODES else _TABLE_BYTES]


def shelf_of_range(scan_range: ScanRange) -> bytes:
    """The prefix of a range, which must lie within one shelf."""
    shelf = shelf_of(scan_range.start)
    assert len(shelf) == (_INODE_BYTES if shelf[2:3] in _OF_INODES else _TABLE_BYTES)
    assert scan_range.end <= after_prefix(shelf), "a range over several inodes"
    return shelf


@dataclass(eq=False, slots=True)
class Page:
    """All records in the half-open key range [start, end)."""

    start: bytes
    end: bytes
    records: dict[bytes, Record]
    keys: list[bytes] = field(default_factory=list)
    """Of `records`, sorted."""

    def __post_init__(self) -> None:
        assert self.start < self.end
        self.keys = sorted(self.records)
        assert not self.keys or self.start <= self.keys[0]
        assert not self.keys or self.keys[-1] < self.end

    def answer(self, scan_range: ScanRange) -> list[bytes] | None:
        """The keys that a scan of this range finds, in its order; None if this page cannot say."""
        low = bisect_left(self.keys, scan_range.start)
        high = bisect_left(self.keys, scan_range.end)
        limit = scan_range.limit
        if scan_range.is_reverse:
            if not self.start < scan_range.end <= self.end:
                return None
            found = self.keys[max(low, high - limit) : high][::-1]
            is_covered = self.start <= scan_range.start
        else:
            if not self.start <= scan_range.start < self.end:
                return None
            found = self.keys[low : min(high, low + limit)]
            is_covered = scan_range.end <= self.end
        return found if is_covered or len(found) == limit else None

    def patch(self, key: bytes, record: Record | None) -> int:
        """Carry one change in. Returns by how many records the page grew."""
        assert self.start <= key < self.end
        is_here = key in self.records
        if record is None:
            if is_here:
                del self.records[key]
                del self.keys[bisect_left(self.keys, key)]
            return -is_here
        self.records[key] = record
        if not is_here:
            insort(self.keys, key)
        return int(not is_here)

    def absorb(self, other: Page) -> None:
        """Become one with a page that overlaps or touches this one. Both are exact."""
        assert other.start <= self.end
        assert self.start <= other.end
        self.records.update(other.records)
        self.keys = sorted(self.records)
        self.start, self.end = min(self.start, other.start), max(self.end, other.end)


@dataclass(eq=False, slots=True)
class _Shelf:
    """Pages in order; they neither overlap nor touch."""

    starts: list[bytes] = field(default_factory=list)
    pages: list[Page] = field(default_factory=list)

    def page_at(self, key: bytes) -> Page | None:
        """The page that holds the key."""
        at = bisect_right(self.starts, key) - 1
        return self.pages[at] if at >= 0 and key < self.pages[at].end else None

    def page_below(self, end: bytes) -> Page | None:
        """The page that holds what lies right below `end`."""
        at = bisect_left(self.starts, end) - 1
        return self.pages[at] if at >= 0 and end <= self.pages[at].end else None

    def add(self, page: Page) -> int:
        """Take a page in. Returns by how many records the shelf grew."""
        before = sum(len(other.keys) for other in self.pages)
        first = bisect_left([other.end for other in self.pages], page.start)
        last = bisect_right(self.starts, page.end)
        for other in self.pages[first:last]:
            page.absorb(other)
        self.pages[first:last] = [page]
        self.starts[first:last] = [page.start]
        assert self.starts == sorted(self.starts)
        return sum(len(other.keys) for other in self.pages) - before


class PageCache:
    """The pages of all shelves, about `records_max` records of them."""

    def __init__(self, records_max: int) -> None:
        self._shelves: Generations[_Shelf] = Generations(records_max, _cost_of)
        self.enter = self._shelves.enter
        self.leave = self._shelves.leave
        self.trim = self._shelves.trim

    def scan(self, scan_range: ScanRange) -> list[tuple[bytes, Record]] | None:
        """The rows of a range in its order; None if they are not known."""
        shelf = self._shelves.find(shelf_of_range(scan_range))
        if shelf is None:
            return None
        if scan_range.is_reverse:
            page = shelf.page_below(scan_range.end)
        else:
            page = shelf.page_at(scan_range.start)
        found = page.answer(scan_range) if page is not None else None
        if page is None or found is None:
            return None
        return [(key, page.records[key]) for key in found]

    def is_begun(self, shelf_key: bytes) -> bool:
        """Whether something is known from the very start of this shelf on."""
        shelf = self._shelves.find(shelf_key)
        return shelf is not None and shelf.page_at(shelf_key) is not None

    def page_of(self, key: bytes) -> Page | None:
        """The page that says whether there is a record under this key."""
        shelf = self._shelves.find(shelf_of(key))
        return shelf.page_at(key) if shelf is not None else None

    def add(self, shelf_key: bytes, page: Page) -> None:
        """Keep a page that is exact now."""
        shelf = self._shelves.find(shelf_key)
        if shelf is None:
            shelf = _Shelf()
            self._shelves.put(shelf_key, shelf)
        self._shelves.grow(shelf.add(page))

    def patch(self, key: bytes, record: Record | None) -> None:
        """A commit changed this key: every page that holds it follows."""
        shelf = self._shelves.find(shelf_of(key))
        if shelf is not None:
            page = shelf.page_at(key)
            if page is not None:
                self._shelves.grow(page.patch(key, record))


def _cost_of(shelf: _Shelf) -> int:
    return 1 + sum(len(page.keys) for page in shelf.pages)
