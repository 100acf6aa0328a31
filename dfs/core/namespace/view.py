"""What the rules of the namespace read from and write to.

A `View` answers from memory only. What it does not have it asks for by raising `Missing`; the
caller fetches that and runs the same function again. So the rules never await, and in an event
loop each op is atomic without a lock. `Overlay` gathers an op's changes and forgets them when the
op fails.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from dfs.core.namespace.records import Record

if TYPE_CHECKING:
    from types import TracebackType

R = TypeVar("R", bound=Record)


class ScanRange(NamedTuple):
    """One page of the half-open key range [start, end): the first, or when reverse the last,
    `limit` records."""

    start: bytes
    end: bytes
    limit: int
    is_reverse: bool = False


class Missing(Exception):
    """The view lacks records: fetch `keys` and `ranges`, then run the same function again."""

    def __init__(self, keys: tuple[bytes, ...] = (), ranges: tuple[ScanRange, ...] = ()) -> None:
        assert keys or ranges
        super().__init__(keys, ranges)
        self.keys = keys
        self.ranges = ranges


class View(Protocol):
    """Records as of one moment."""

    def get(self, key: bytes, record_type: type[R]) -> R | None:
        """The record, or None if there is none. Raises Missing."""
        ...

    def scan(self, scan_range: ScanRange, record_type: type[R]) -> list[tuple[bytes, R]]:
        """The page that `scan_range` names, in key order (descending when reverse). Raises
        Missing."""
        ...


class Together:
    """Reads that are independent of each other, so that what they lack is asked for at once.

    `with Together(view) as reads:` and inside only gets and scans through `reads`. What they return
    holds after the block, which raises one `Missing` for all that the view did not have.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self._keys: list[bytes] = []
        self._ranges: list[ScanRange] = []

    def get(self, key: bytes, record_type: type[R]) -> R | None:
        try:
            return self._view.get(key, record_type)
        except Missing as missing:
            self._note(missing)
            return None

    def scan(self, scan_range: ScanRange, record_type: type[R]) -> list[tuple[bytes, R]]:
        try:
            return self._view.scan(scan_range, record_type)
        except Missing as missing:
            self._note(missing)
            return []

    def _note(self, missing: Missing) -> None:
        assert missing.keys or missing.ranges
        self._keys.extend(missing.keys)
        self._ranges.extend(missing.ranges)

    def __enter__(self) -> Together:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None and (self._keys or self._ranges):
            keys, ranges = dict.fromkeys(self._keys), dict.fromkeys(self._ranges)
            raise Missing(tuple(keys), tuple(ranges))


class Overlay:
    """A view with changes on top; the base stays as it is. Is a View.

    `changes` maps key → new record, or None for a deleted one. Its owner applies them to the base.
    """

    def __init__(self, base: View) -> None:
        self.base = base
        self.changes: dict[bytes, Record | None] = {}
        self._sorted_keys: list[bytes] = []

    def get(self, key: bytes, record_type: type[R]) -> R | None:
        if key not in self.changes:
            return self.base.get(key, record_type)
        record = self.changes[key]
        assert record is None or isinstance(record, record_type)
        return record

    def put(self, key: bytes, record: Record) -> None:
        self._note(key)
        self.changes[key] = record

    def delete(self, key: bytes) -> None:
        self._note(key)
        self.changes[key] = None

    def _note(self, key: bytes) -> None:
        assert key
        if key not in self.changes:
            insort(self._sorted_keys, key)

    def scan(self, scan_range: ScanRange, record_type: type[R]) -> list[tuple[bytes, R]]:
        first = bisect_left(self._sorted_keys, scan_range.start)
        changed = self._sorted_keys[first : bisect_left(self._sorted_keys, scan_range.end)]
        if not changed:
            return self.base.scan(scan_range, record_type)
        # Each deleted key may hide one base record, so ask for that many more.
        deleted_count = sum(self.changes[k] is None for k in changed)
        base_range = scan_range._replace(limit=scan_range.limit + deleted_count)
        base_rows = self.base.scan(base_range, record_type)
        merged = {key: record for key, record in base_rows if key not in self.changes}
        for key in changed:
            record = self.changes[key]
            if record is not None:
                assert isinstance(record, record_type)
                merged[key] = record
        rows = sorted(merged.items(), reverse=scan_range.is_reverse)
        return rows[: scan_range.limit]
