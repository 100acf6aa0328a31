"""What memory holds is exact, though fetches and commits run at the same time."""

from __future__ import annotations

import errno
import random
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from dfs.core.namespace.keys import (
    dentry_key,
    dentry_range,
    extent_range,
    inode_key,
    xattr_range,
)
from dfs.core.namespace.records import Dentry, Extent, Inode, Record, Xattr, encode_record
from dfs.core.namespace.view import Missing, Overlay, ScanRange, Together, View
from dfs.engine.memory_engine import MemoryEngine
from dfs.errors import FsError
from dfs.meta.record_store import RecordStore
from dfs.types import ROOT, InodeId
from tests.unit.meta.rig import FILE_MODE, Background, Threads, environment_of, settle

if TYPE_CHECKING:
    from collections.abc import Callable


def name_key(number: int) -> bytes:
    return dentry_key(ROOT, b"%04d" % number)


def dentry(number: int) -> Dentry:
    return Dentry(InodeId(number), 0o100000)


def whole(limit: int = 1000, *, is_reverse: bool = False) -> ScanRange:
    return ScanRange(*dentry_range(ROOT), limit, is_reverse)


def put(engine: MemoryEngine, changes: dict[bytes, Record | None]) -> None:
    puts = {key: encode_record(record) for key, record in changes.items() if record is not None}
    engine.commit({}, puts, [key for key, record in changes.items() if record is None])


def store_over(
    engine: MemoryEngine, threads: Threads | None = None, records_max: int = 1000
) -> RecordStore:
    return RecordStore(engine, environment_of(threads or Threads()), records_max)


async def test_it_fetches_what_is_missing_and_remembers_what_is_not_there() -> None:
    engine, threads = MemoryEngine(), Threads()
    put(engine, {name_key(1): dentry(1)})
    store = store_over(engine, threads)
    for _ in range(2):
        assert await store.run(lambda: store.get(name_key(1), Dentry)) == dentry(1)
        assert await store.run(lambda: store.get(name_key(2), Dentry)) is None
    assert threads.read_count == 2


async def test_a_small_directory_is_fetched_whole() -> None:
    engine, threads = MemoryEngine(), Threads()
    put(engine, {name_key(n): dentry(n) for n in range(20)})
    store = store_over(engine, threads)
    start, end = dentry_range(ROOT, b"0010")
    rows = await store.run(lambda: store.scan(ScanRange(start, end, 3), Dentry))
    assert [row.ino for _, row in rows] == [11, 12, 13]
    everything = await store.run(lambda: store.scan(whole(), Dentry))
    assert len(everything) == 20
    backwards = await store.run(lambda: store.scan(whole(2, is_reverse=True), Dentry))
    assert [row.ino for _, row in backwards] == [19, 18]
    assert store.get(name_key(77), Dentry) is None
    assert store.get(name_key(7), Dentry) == dentry(7)
    assert threads.read_count == 1


async def test_a_large_directory_is_read_page_by_page() -> None:
    engine, threads = MemoryEngine(), Threads()
    put(engine, {name_key(n): dentry(n) for n in range(3000)})
    store, after, found = store_over(engine, threads), b"", list[int]()
    while True:
        page = ScanRange(*dentry_range(ROOT, after), 1000)
        rows = await store.run(lambda page=page: store.scan(page, Dentry))  # type: ignore[misc]
        found += [row.ino for _, row in rows]
        if len(rows) < 1000:
            break
        after = rows[-1][0][11:]
    assert found == list(range(3000))
    assert threads.read_count <= 4


async def test_tasks_that_lack_something_at_once_share_a_call() -> None:
    engine, threads = MemoryEngine(), Threads()
    put(engine, {name_key(n): dentry(n) for n in range(50)})
    store = store_over(engine, threads)
    async with trio.open_nursery() as nursery:
        for n in range(50):
            Background(
                nursery,
                lambda n=n: store.run(lambda: store.get(name_key(n), Dentry)),  # type: ignore[misc]
            )
    assert threads.read_count == 1
    assert [store.get(name_key(n), Dentry) for n in range(50)] == [dentry(n) for n in range(50)]


async def test_a_slow_fetch_never_puts_an_older_value_over_a_newer_one(
    autojump_clock: object,
) -> None:
    """Keys and pages: the engine is read before the commit, the answer comes after it."""
    engine, threads = MemoryEngine(), Threads()
    put(engine, {name_key(1): dentry(1), name_key(2): dentry(2), inode_key(ROOT): inode(1)})
    store = store_over(engine, threads)
    threads.delay_s = lambda: 1.0
    async with trio.open_nursery() as nursery:
        got = Background(nursery, lambda: store.run(lambda: store.get(inode_key(ROOT), Inode)))
        seen = Background(nursery, lambda: store.run(lambda: store.scan(whole(), Dentry)))
        await trio.sleep(1.5)
        changes: dict[bytes, Record | None] = {
            inode_key(ROOT): inode(2),
            name_key(1): None,
            name_key(2): dentry(22),
            name_key(3): dentry(3),
        }
        put(engine, changes)
        store.land(changes)
        await trio.sleep(2)
    assert got.result == inode(2)
    assert [row.ino for _, row in seen.result] == [22, 3]
    assert store.get(name_key(1), Dentry) is None


def inode(size: int) -> Inode:
    times = (0, 0, 0, 0)
    return Inode(InodeId(5), FILE_MODE, 0, 0, 0, 1, size, *times, InodeId(0))


async def test_it_also_gives_way_to_what_was_pushed_out_of_memory_meanwhile(
    autojump_clock: object,
) -> None:
    engine, threads = MemoryEngine(), Threads()
    put(engine, {name_key(1): dentry(1)})
    store = store_over(engine, threads, records_max=4)
    threads.delay_s = lambda: 1.0
    async with trio.open_nursery() as nursery:
        got = Background(nursery, lambda: store.run(lambda: store.get(name_key(1), Dentry)))
        await trio.sleep(1.5)
        for number in range(1, 30):
            changes: dict[bytes, Record | None] = {name_key(number): dentry(number * 10)}
            put(engine, changes)
            store.land(changes)
    assert got.result == dentry(10)


async def test_numbers_handed_out_and_unused_need_no_look() -> None:
    engine, threads = MemoryEngine(), Threads()
    store = store_over(engine, threads)
    store.hand_out(InodeId(10), InodeId(20))
    assert store.get(inode_key(InodeId(10)), Inode) is None
    store.use(numbered(12))
    for below in (10, 11, 12):
        with pytest.raises(Missing):
            store.get(inode_key(InodeId(below)), Inode)
    assert store.get(inode_key(InodeId(19)), Inode) is None
    with pytest.raises(Missing):
        store.get(inode_key(InodeId(20)), Inode)
    assert store.scan(ScanRange(*extent_range(InodeId(12)), 5), Extent) == []
    with pytest.raises(Missing):
        store.scan(ScanRange(*xattr_range(InodeId(12)), 5), Xattr)
    store.use(numbered(19))
    store.use(numbered(11))
    with pytest.raises(Missing):
        store.scan(ScanRange(*extent_range(InodeId(11)), 5), Extent)
    assert threads.read_count == 0


def numbered(ino: int) -> Inode:
    return Inode(InodeId(ino), FILE_MODE, 0, 0, 0, 1, 0, 0, 0, 0, 0, InodeId(0))


@pytest.mark.expects_warnings
async def test_damaged_records_are_told_to_whoever_needs_them() -> None:
    engine = MemoryEngine()
    engine.commit({}, {name_key(1): b"\x01nonsense", name_key(2): encode_record(dentry(2))})
    store = store_over(engine)
    with pytest.raises(FsError) as caught:
        await store.run(lambda: store.get(name_key(1), Dentry))
    assert caught.value.errno == errno.EIO
    assert await store.run(lambda: store.get(name_key(2), Dentry)) == dentry(2)
    with pytest.raises(FsError, match="run dfs fsck"):
        await store.run(lambda: store.scan(whole(), Dentry))
    store.land({name_key(1): dentry(1)})
    assert store.get(name_key(1), Dentry) == dentry(1)
    assert len(store.scan(whole(), Dentry)) == 2


async def test_raw_bytes_that_change_while_we_look_are_told(autojump_clock: object) -> None:
    engine, threads = MemoryEngine(), Threads()
    put(engine, {name_key(1): dentry(1)})
    store = store_over(engine, threads)
    assert await store.raw([name_key(1), name_key(2)]) == [encode_record(dentry(1)), None]
    threads.delay_s = lambda: 1.0
    async with trio.open_nursery() as nursery:
        looking = Background(nursery, lambda: store.raw([name_key(1)]))
        await trio.sleep(1.5)
        store.land({name_key(1): None})
    assert isinstance(looking.error, FsError)
    assert looking.error.errno == errno.EAGAIN


async def test_a_cancelled_fetch_leaves_the_others_going(autojump_clock: object) -> None:
    engine, threads = MemoryEngine(), Threads()
    put(engine, {name_key(1): dentry(1)})
    store = store_over(engine, threads)
    threads.delay_s = lambda: 1.0
    scope = trio.CancelScope()

    async def cancelled() -> None:
        with scope:
            await store.run(lambda: store.get(name_key(1), Dentry))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(cancelled)
        await settle()
        other = Background(nursery, lambda: store.run(lambda: store.get(name_key(1), Dentry)))
        await settle()
        scope.cancel()
    assert other.result == dentry(1)


class Model:
    """A store under random load, and what must be seen at each moment."""

    def __init__(self, seed: int, records_max: int) -> None:
        self.chance = random.Random(seed)
        self.engine, self.threads = MemoryEngine(), Threads()
        self.committed: dict[bytes, Record] = {name_key(n): dentry(n) for n in range(12)}
        put(self.engine, dict(self.committed))
        self.store = store_over(self.engine, self.threads, records_max)
        self.threads.delay_s = lambda: self.chance.random()
        self.view: View = self.store
        """What is being committed stacked on what is committed, as the committer has it."""
        self.checked = 0

    def expected(self, scan_range: ScanRange) -> list[tuple[bytes, Record]]:
        inside = sorted(k for k in self.committed if scan_range.start <= k < scan_range.end)
        ordered = inside[::-1] if scan_range.is_reverse else inside
        return [(k, self.committed[k]) for k in ordered[: scan_range.limit]]

    def random_range(self) -> ScanRange:
        first, last = sorted(self.chance.choices(range(24), k=2))
        is_reverse = self.chance.random() < 0.3
        if self.chance.random() < 0.3:
            return whole(self.chance.randrange(1, 30), is_reverse=is_reverse)
        limit = self.chance.randrange(1, 8)
        return ScanRange(name_key(first), name_key(last), limit, is_reverse)

    async def write(self) -> None:
        for _ in range(15):
            await trio.sleep(self.chance.random())
            changes: dict[bytes, Record | None] = {}
            for _ in range(self.chance.randrange(1, 5)):
                key = name_key(self.chance.randrange(24))
                is_put = self.chance.random() < 0.6
                changes[key] = dentry(self.chance.randrange(1, 1000)) if is_put else None
            self.stack(changes)
            await trio.sleep(self.chance.random() / 2)
            put(self.engine, changes)
            # The engine has it, the server does not know yet.
            await trio.sleep(self.chance.random() / 2)
            self.store.land(changes)
            self.view = self.store

    def stack(self, changes: dict[bytes, Record | None]) -> None:
        overlay = Overlay(self.store)
        for key, record in changes.items():
            self.committed.pop(key, None)
            if record is None:
                overlay.delete(key)
            else:
                self.committed[key] = record
                overlay.put(key, record)
        self.view = overlay

    async def read(self) -> None:
        for _ in range(12):
            await trio.sleep(self.chance.random())
            await self.store.run(self.random_check())

    def random_check(self) -> Callable[[], None]:
        keys = [name_key(self.chance.randrange(24)) for _ in range(3)]
        scan_range = self.random_range()

        def check() -> None:
            """One moment: everything read is of now."""
            with Together(self.view) as reads:
                got = [reads.get(key, Dentry) for key in keys]
            rows: Any = self.view.scan(scan_range, Dentry)
            assert got == [self.committed.get(key) for key in keys]
            assert rows == self.expected(scan_range)
            self.checked += 1

        return check


@settings(max_examples=60)
@given(seed=st.integers(0, 1 << 32), records_max=st.sampled_from([2, 20, 1000]))
def test_random_fetches_and_commits_see_one_truth(seed: int, records_max: int) -> None:
    """Slow fetches, commits in between, memory that is too small: every run sees one moment."""
    model = Model(seed, records_max)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(model.write)
            for _ in range(3):
                nursery.start_soon(model.read)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert model.checked >= 36
