"""The committed records, as far as they are in memory. Is a View; what it lacks it fetches.

It answers only what is committed: changes that are still being written are stacked on top of it
(`committer.py`). What memory holds is exact at every moment, though fetches and commits run at the
same time: a fetch notes which batches had landed when it began, and what it brings back gives way
to everything that has landed since. So it cannot put an older value over a newer one.

Tasks that lack records at the same time share one engine call; at most FETCHES_MAX run at once.
"""

from __future__ import annotations

import errno
import logging
from bisect import bisect_right, insort
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar, cast

import msgspec
import trio

from dfs.core.namespace.keys import (
    INODE,
    after_prefix,
    dentry_range,
    extent_range,
    ino_of,
    table_of,
)
from dfs.core.namespace.records import Extent, Record, Xattr
from dfs.core.namespace.view import Missing, ScanRange
from dfs.errors import FormatTooNew, FsError
from dfs.meta.generations import Generations
from dfs.meta.pages import Page, PageCache, shelf_of, shelf_of_range
from dfs.meta.tables import decode_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from dfs.core.namespace.records import Inode
    from dfs.engine.api import Engine, Row
    from dfs.environment import Environment
    from dfs.types import InodeId

log = logging.getLogger(__name__)

R = TypeVar("R", bound=Record)
T = TypeVar("T")

FETCHES_MAX: Final = 4
WHOLE_SHELF_RECORDS: Final = 256
"""An inode with at most so many records in a table is fetched whole: the next op needs no fetch."""
SLACK_RECORDS: Final = 32
"""Fetched beyond what was asked, because deletes that come meanwhile hide some."""
COST_BYTES: Final = 512


class _Mark:
    """Stands in the cache where there is no record to keep."""


ABSENT: Final = cast("Record", _Mark())
"""The key has no record."""
DAMAGED: Final = cast("Record", _Mark())
"""The key's value is no record: whoever needs it is told so (EIO), the server lives on."""


class _Plan(NamedTuple):
    """One range to scan. `whole` is tried first and is enough if it reaches the shelf's end."""

    shelf: bytes
    exact: ScanRange
    whole: ScanRange | None


class _Fetched(NamedTuple):
    """What one engine call brought."""

    values: list[bytes | None]
    pages: list[tuple[bytes, ScanRange, list[Row]]]
    """Shelf, the range asked, and its rows."""


class _Round:
    """A fetch that gathers what tasks lack until it starts."""

    def __init__(self) -> None:
        self.keys: dict[bytes, None] = {}
        self.ranges: dict[ScanRange, None] = {}
        self.is_over = trio.Event()

    def add(self, missing: Missing) -> None:
        self.keys.update(dict.fromkeys(missing.keys))
        self.ranges.update(dict.fromkeys(missing.ranges))


class _FreshNumbers:
    """Inode numbers of which it is certain that no record was ever committed: those that this
    server handed out and that are above the highest one used of their range."""

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._ranges: dict[int, list[int]] = {}
        """First number handed out → [first fresh one, end]."""

    def add(self, first_ino: int, end_ino: int) -> None:
        assert first_ino < end_ino
        insort(self._firsts, first_ino)
        self._ranges[first_ino] = [first_ino, end_ino]

    def __contains__(self, ino: int) -> bool:
        fresh = self._range_of(ino)
        return fresh is not None and fresh[0] <= ino

    def use(self, ino: int) -> None:
        """A record may be committed for this number from now on."""
        fresh = self._range_of(ino)
        if fresh is not None and ino >= fresh[0]:
            fresh[0] = ino + 1
            if fresh[0] == fresh[1]:
                first = self._firsts.pop(bisect_right(self._firsts, ino) - 1)
                del self._ranges[first]

    def _range_of(self, ino: int) -> list[int] | None:
        at = bisect_right(self._firsts, ino) - 1
        if at < 0:
            return None
        fresh = self._ranges[self._firsts[at]]
        return fresh if ino < fresh[1] else None


class RecordStore:
    """Committed records over an engine. About `records_max` stay in memory."""

    def __init__(self, engine: Engine, environment: Environment, records_max: int) -> None:
        self._engine = engine
        self._run_blocking = environment.run_blocking
        self._records: Generations[Record] = Generations(records_max, _cost_of)
        self._pages = PageCache(max(1, records_max // 4))
        self._fresh = _FreshNumbers()
        self._slots = trio.Semaphore(FETCHES_MAX)
        self._gathering: _Round | None = None
        self._landed_count = 0
        """Batches that landed in this server's life."""
        self._fetch_starts: dict[_Round, int] = {}
        """Fetches under way, oldest first → landed_count when they began."""
        self._landed_since: dict[int, Mapping[bytes, Record | None]] = {}
        """Batches that landed while a fetch that is still under way ran, by their place in line."""

    # ------------------------------------------------------------ the View

    def get(self, key: bytes, record_type: type[R]) -> R | None:
        """The committed record. Raises Missing, and FsError(EIO) if its bytes are damaged."""
        record = self._records.find(key)
        if record is None:
            record = self._infer(key)
        if record is ABSENT:
            return None
        if record is DAMAGED:
            raise _damaged(key)
        assert isinstance(record, record_type)
        return record

    def _infer(self, key: bytes) -> Record:
        """What ranges say about a key that is not cached by itself. Raises Missing."""
        if table_of(key) == INODE:
            if ino_of(key) in self._fresh:
                return ABSENT
        else:
            page = self._pages.page_of(key)
            if page is not None:
                return page.records.get(key, ABSENT)
        raise Missing(keys=(key,))

    def scan(self, scan_range: ScanRange, record_type: type[R]) -> list[tuple[bytes, R]]:
        """The committed rows of a range within one inode's part of a table. Raises as `get`."""
        if scan_range.start >= scan_range.end:
            return []
        rows = self._pages.scan(scan_range)
        if rows is None:
            raise Missing(ranges=(scan_range,))
        found: list[tuple[bytes, R]] = []
        for key, record in rows:
            if record is DAMAGED:
                raise _damaged(key)
            assert isinstance(record, record_type)
            found.append((key, record))
        return found

    async def run(self, function: Callable[[], T]) -> T:
        """What `function` returns once everything that it asks for by Missing is in memory.

        It runs once or several times, each time without an await; only the last run counts.
        """
        try:
            return function()
        except Missing as missing:
            lacking = missing
        with self.relying():
            while True:
                await self.fetch(lacking)
                try:
                    return function()
                except Missing as missing:
                    lacking = missing

    @contextmanager
    def relying(self) -> Iterator[None]:
        """Inside, what was fetched stays in memory."""
        records, pages = self._records.enter(), self._pages.enter()
        try:
            yield
        finally:
            self._records.leave(records)
            self._pages.leave(pages)

    # ------------------------------------------------------------ commits

    def land(self, changes: Mapping[bytes, Record | None]) -> None:
        """A batch is durable: its changes are what is committed now."""
        if self._fetch_starts:
            self._landed_since[self._landed_count] = changes
        self._landed_count += 1
        for key, record in changes.items():
            self._records.put(key, ABSENT if record is None else record)
            self._pages.patch(key, record)
        self._records.trim()
        self._pages.trim()

    def hand_out(self, first_ino: InodeId, end_ino: InodeId) -> None:
        """These inode numbers were never used; records of them come only through `use`."""
        self._fresh.add(first_ino, end_ino)

    def use(self, inode: Inode) -> None:
        """An inode is about to be written under its number for the first time.

        Nothing else can be committed under a number that was never used, so its names or extents
        are known: there are none.
        """
        if inode.ino not in self._fresh:
            return
        self._fresh.use(inode.ino)
        if inode.is_directory or inode.is_file:
            bounds = dentry_range(inode.ino) if inode.is_directory else extent_range(inode.ino)
            shelf = shelf_of(bounds[0] + b"\0")
            self._pages.add(shelf, Page(shelf, after_prefix(shelf), {}))

    # ------------------------------------------------------------ fetches

    async def fetch(self, missing: Missing) -> None:
        """Bring what is missing into memory, together with what others lack."""
        gathering = self._gathering
        if gathering is not None:
            gathering.add(missing)
            await gathering.is_over.wait()
            return
        self._gathering = gathering = _Round()
        gathering.add(missing)
        try:
            async with self._slots:
                assert self._gathering is gathering
                self._gathering = None
                await self._read(gathering)
        finally:
            if self._gathering is gathering:
                self._gathering = None
            # Those who joined run their function again, and fetch for themselves if this failed.
            gathering.is_over.set()

    async def _read(self, gathering: _Round) -> None:
        keys = list(gathering.keys)
        plans = [self._plan(scan_range) for scan_range in gathering.ranges]
        start = self._fetch_starts[gathering] = self._landed_count
        try:
            fetched = await self._run_blocking(_read_engine, self._engine, keys, plans)
            self._take(keys, fetched, start)
        finally:
            del self._fetch_starts[gathering]
            self._forget_landed()
        assert all(self._records.find(key) is not None for key in keys)

    async def raw(self, keys: list[bytes]) -> list[bytes | None]:
        """The committed bytes under these keys, as of when this returns. Raises FsError(EAGAIN) if
        one of them was changed while we looked."""
        mark = _Round()
        start = self._fetch_starts[mark] = self._landed_count
        try:
            values: list[bytes | None] = await self._run_blocking(self._engine.get, keys)
            for number in range(start, self._landed_count):
                if not self._landed_since[number].keys().isdisjoint(keys):
                    raise FsError(errno.EAGAIN, "a record changed meanwhile")
        finally:
            del self._fetch_starts[mark]
            self._forget_landed()
        return values

    def _plan(self, scan_range: ScanRange) -> _Plan:
        shelf = shelf_of_range(scan_range)
        exact = scan_range._replace(limit=scan_range.limit + SLACK_RECORDS)
        whole: ScanRange | None = ScanRange(shelf, after_prefix(shelf), WHOLE_SHELF_RECORDS)
        if self._pages.is_begun(shelf) or scan_range.limit >= WHOLE_SHELF_RECORDS:
            whole = None
        return _Plan(shelf, exact, whole)

    def _take(self, keys: list[bytes], fetched: _Fetched, start: int) -> None:
        """Keep what was fetched, as changed by every batch that landed since `start`."""
        changes: dict[bytes, Record | None] = {}
        for number in range(start, self._landed_count):
            changes.update(self._landed_since[number])
        for key, value in zip(keys, fetched.values, strict=True):
            record = _decode(key, value) if value is not None else None
            record = changes.get(key, record)
            self._records.put(key, ABSENT if record is None else record)
        for shelf, scan_range, rows in fetched.pages:
            self._add_page(shelf, scan_range, rows, changes)

    def _add_page(
        self,
        shelf: bytes,
        scan_range: ScanRange,
        rows: list[Row],
        changes: Mapping[bytes, Record | None],
    ) -> None:
        start, end = scan_range.start, scan_range.end
        if len(rows) == scan_range.limit:
            # It says nothing about what lies beyond its last row.
            if scan_range.is_reverse:
                start = rows[-1][0]
            else:
                end = rows[-1][0] + b"\0"
        page = Page(start, end, {key: _decode(key, value) for key, value in rows})
        for key, record in changes.items():
            if start <= key < end and shelf_of(key) == shelf:
                page.patch(key, record)
        self._pages.add(shelf, page)

    def _forget_landed(self) -> None:
        """Drop the changes that no fetch under way needs."""
        oldest = next(iter(self._fetch_starts.values()), self._landed_count)
        for number in list(self._landed_since):
            if number >= oldest:
                break
            del self._landed_since[number]


def _read_engine(engine: Engine, keys: list[bytes], plans: list[_Plan]) -> _Fetched:
    """Runs in a worker thread."""
    values = engine.get(keys) if keys else []
    pages = [page for plan in plans for page in _scan_engine(engine, plan)]
    return _Fetched(values, pages)


def _scan_engine(engine: Engine, plan: _Plan) -> Iterable[tuple[bytes, ScanRange, list[Row]]]:
    for scan_range in (plan.whole, plan.exact):
        if scan_range is not None:
            start, end, limit, is_reverse = scan_range
            rows = engine.scan(start, end, limit, is_reverse=is_reverse)
            yield plan.shelf, scan_range, rows
            if scan_range is plan.whole and len(rows) < limit:
                return


def _decode(key: bytes, value: bytes) -> Record:
    try:
        return decode_row(key, value)
    # The assertions of records.py fire on damaged values too.
    except (msgspec.MsgspecError, FormatTooNew, AssertionError, ValueError, IndexError) as error:
        log.warning("the record at %s cannot be read: %s", key.hex(), error)
        return DAMAGED


def _damaged(key: bytes) -> FsError:
    return FsError(errno.EIO, f"the record at {key.hex()} is damaged: run dfs fsck")


def _cost_of(record: Record) -> int:
    """Records count one; those that carry bytes of a file count by their size."""
    if isinstance(record, Extent):
        return 1 + len(record.inline) // COST_BYTES
    if isinstance(record, Xattr):
        return 1 + len(record.value) // COST_BYTES
    return 1
