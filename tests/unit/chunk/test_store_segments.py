"""Goal: what was acknowledged is there after any crash, and what failed never counts (I2, I3).

Method: a store over a disk in memory that fails, loses power or dies at a chosen operation; then
the store is opened again and every acknowledged block is read.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
import trio

from dfs.chunk.store import GOOD
from dfs.errors import BlockNotFound, CorruptBlock, DfsError, NoSpace
from dfs.limits import INDEX_CHECKPOINT_S, KIB, MIB
from tests.unit.chunk.rig import Block, Rig

if TYPE_CHECKING:
    from dfs.chunk.store_segments import SegmentStore


async def assert_holds(rig: Rig, blocks: list[Block], absent: list[Block] | None = None) -> None:
    """After another start, exactly these are had, and every byte of them is good."""
    async with rig.store() as store:
        ids = [block.block_id for block in blocks]
        assert await store.has(ids) == [True] * len(ids)
        assert await store.verify(ids) == [GOOD] * len(ids)
        gone = [block.block_id for block in absent or []]
        assert await store.has(gone) == [False] * len(gone)
        listed, is_last = await store.list_blocks(b"", 10_000)
        assert is_last
        assert set(ids) <= set(listed)
        assert not set(gone) & set(listed)
        assert (await store.status()).block_count == len(listed)
        for block in blocks:
            assert bytes((await store.get(block.block_id))[1]) == block.stored


async def test_puts_that_gathered_share_one_sync() -> None:
    rig = Rig()
    blocks = [Block(number) for number in range(50)]
    async with rig.store() as store:
        await store.put(blocks[0].header, blocks[0].stored)
        before = rig.disk.sync_count
        async with trio.open_nursery() as nursery:
            for block in blocks[1:]:
                nursery.start_soon(store.put, block.header, block.stored)
        assert 1 <= rig.disk.sync_count - before <= 3
    await assert_holds(rig, blocks)


async def test_nothing_is_acknowledged_before_its_sync() -> None:
    rig = Rig()
    block = Block(1)
    async with rig.store(is_killed=True) as store:
        await store.put(block.header, block.stored)
    rig.power_cut()
    await assert_holds(rig, [block])


async def test_a_clean_start_reads_no_records() -> None:
    rig = Rig()
    blocks = [Block(number, size=100 * KIB) for number in range(20)]
    async with rig.store() as store:
        for block in blocks:
            await store.put(block.header, block.stored)
    async with rig.store() as store:
        assert rig.disk.bytes_read < 10 * KIB
        assert (await store.status()).block_count == 20
    await assert_holds(rig, blocks)


async def test_a_killed_process_loses_nothing() -> None:
    rig = Rig()
    blocks = [Block(number) for number in range(20)]
    async with rig.store(is_killed=True) as store:
        for block in blocks:
            await store.put(block.header, block.stored)
        await store.delete([block.block_id for block in blocks[:5]])
    await assert_holds(rig, blocks[5:], absent=blocks[:5])


async def test_what_a_killed_process_left_unsynced_is_synced_before_it_counts() -> None:
    rig = Rig()
    block = Block(1)
    async with rig.store(is_killed=True) as store:
        await store.put(block.header, block.stored)
    [name] = rig.segment_names()
    rig.disk.files[name].synced = b""  # as if only the page cache had it
    async with rig.store(is_killed=True) as store:
        assert await store.has([block.block_id]) == [True]
    rig.power_cut()
    await assert_holds(rig, [block])


async def test_the_index_is_written_while_nobody_asks(
    autojump_clock: trio.testing.MockClock,
) -> None:
    assert autojump_clock is not None
    rig = Rig()
    block = Block(1)
    async with rig.store(is_killed=True) as store:
        await store.put(block.header, block.stored)
        assert store.index.recent_count > 0
        await trio.sleep(INDEX_CHECKPOINT_S + 1)
        assert store.index.recent_count == 0
    async with rig.store() as store:
        assert rig.disk.bytes_read < KIB


@pytest.mark.expects_warnings
async def test_segments_roll_over() -> None:
    rig = Rig(segment_bytes=32 * KIB)
    blocks = [Block(number, size=10 * KIB) for number in range(20)]
    large = Block(99, size=100 * KIB)
    async with rig.store() as store:
        for block in blocks:
            await store.put(block.header, block.stored)
        await store.put(large.header, large.stored)
        async with trio.open_nursery() as nursery:
            for number in range(100, 120):
                block = Block(number, size=10 * KIB)
                blocks.append(block)
                nursery.start_soon(store.put, block.header, block.stored)
        usages = await store.usages()
    assert len(rig.segment_names()) == len(usages) >= 14
    sizes = [len(rig.disk.files[name].content) for name in rig.segment_names()]
    assert sum(size > 32 * KIB for size in sizes) == 1
    rig.power_cut()
    await assert_holds(rig, [*blocks, large])
    rig.lose_index()
    await assert_holds(rig, [*blocks, large])


async def test_a_put_during_a_delete_is_not_taken_for_had() -> None:
    rig = Rig()
    block = Block(1)
    async with rig.store() as store:
        await store.put(block.header, block.stored)
        async with trio.open_nursery() as nursery, store._writing:
            # The writer waits, so the delete is under way.
            nursery.start_soon(store.delete, [block.block_id])
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(store.put, block.header, block.stored)
            await trio.testing.wait_all_tasks_blocked()
        assert await store.has([block.block_id]) == [True]
    await assert_holds(rig, [block])


async def test_a_put_behind_a_delete_does_not_join_the_put_before_it() -> None:
    rig = Rig()
    block = Block(1)
    async with rig.store() as store, trio.open_nursery() as nursery, store._writing:
        for call in (
            lambda: nursery.start_soon(store.put, block.header, block.stored),
            lambda: nursery.start_soon(store.delete, [block.block_id]),
            lambda: nursery.start_soon(store.put, block.header, block.stored),
            lambda: nursery.start_soon(store.put, block.header, block.stored),
        ):
            call()
            await trio.testing.wait_all_tasks_blocked()
        assert len(store._queue) == 3
    await assert_holds(rig, [block])


# ---------------------------------------------------------------- crashes


class Known:
    """What the workload knows of its blocks, by number."""

    def __init__(self) -> None:
        self.put: dict[int, Block] = {}
        """Put and acknowledged."""
        self.unsure: dict[int, Block] = {}
        """A delete or a second put is under way."""
        self.deleted: dict[int, Block] = {}
        """Deleted and acknowledged."""


async def _workload(rig: Rig, known: Known) -> None:
    """Puts, deletes, a second put, roll-overs, compaction."""
    async with rig.store(is_killed=True) as store:
        compactor = rig.compactor(store)
        for number in range(24):
            block = Block(number, size=3 * KIB)
            await store.put(block.header, block.stored)
            known.put[number] = block
            if number % 3 == 2:
                known.unsure = {each: known.put.pop(each) for each in (number - 1, number)}
                await store.delete([each.block_id for each in known.unsure.values()])
                known.deleted.update(known.unsure)
            if number % 5 == 4:
                await store._checkpoint()
            if number % 4 == 3:
                await compactor.step()
        known.unsure = {4: known.deleted.pop(4)}
        await store.put(known.unsure[4].header, known.unsure[4].stored)
        known.put.update(known.unsure)


@pytest.mark.expects_warnings
@pytest.mark.parametrize("outcome", ["killed", "power cut", "power cut, torn"])
async def test_a_crash_at_every_disk_operation(
    outcome: str, autojump_clock: trio.testing.MockClock
) -> None:
    assert autojump_clock is not None
    whole = Rig(segment_bytes=8 * KIB)
    await _workload(whole, Known())
    count = whole.operation_count
    assert count > 100
    for dies_at in range(1, count):
        rig = Rig(segment_bytes=8 * KIB)
        rig.disk.dies_at = dies_at
        known = Known()
        with pytest.raises(BaseException):  # noqa: B017 - whatever a dying process raises
            await _workload(rig, known)
        if outcome == "killed":
            rig.disk.close()
            rig.disk = rig.disk.process_killed()
            rig.storage.power_cut()
        else:
            rig.power_cut(is_unsynced_kept="torn" in outcome)
        deleted = list(known.deleted.values())
        await assert_holds(rig, list(known.put.values()), absent=deleted)
        rig.lose_index()
        await assert_holds(rig, list(known.put.values()), absent=deleted)


async def test_the_power_goes_between_index_and_segments() -> None:
    # The index knows more than the disk kept: never the other way round, since records come first.
    rig = Rig()
    blocks = [Block(number) for number in range(6)]
    async with rig.store() as store:
        for block in blocks:
            await store.put(block.header, block.stored)
    rig.power_cut()
    await assert_holds(rig, blocks)


# ---------------------------------------------------------------- a failing disk


@pytest.mark.expects_warnings
async def test_a_failed_sync_acknowledges_nothing_and_seals_the_segment() -> None:
    rig = Rig()
    first, lost, later = Block(1), Block(2), Block(3)
    async with rig.store() as store:
        await store.put(first.header, first.stored)
        rig.disk.fail("sync", errno.EIO)
        with pytest.raises(DfsError, match="cannot be synced: Input/output error"):
            await store.put(lost.header, lost.stored)
        assert await store.has([lost.block_id]) == [False]
        await store.put(later.header, later.stored)
        await store.put(lost.header, lost.stored)
        assert [usage.number for usage in await store.usages()] == [1, 2]
    rig.power_cut()
    await assert_holds(rig, [first, lost, later])


@pytest.mark.expects_warnings
async def test_what_a_failed_sync_left_never_comes_back() -> None:
    rig = Rig()
    first, lost = Block(1), Block(2)
    async with rig.store(is_killed=True) as store:
        await store.put(first.header, first.stored)
        rig.disk.fail("sync", errno.EIO)
        with pytest.raises(DfsError):
            await store.put(lost.header, lost.stored)
    await assert_holds(rig, [first], absent=[lost])


@pytest.mark.expects_warnings
async def test_a_sync_that_fails_for_many_fails_all_of_them() -> None:
    rig = Rig()
    blocks = [Block(number) for number in range(5)]
    errors: list[DfsError] = []

    async def put(block: Block) -> None:
        try:
            await store.put(block.header, block.stored)
        except DfsError as error:
            errors.append(error)

    async with rig.store() as store:
        first = Block(99)
        await store.put(first.header, first.stored)
        rig.disk.fail("sync", errno.EIO, times=1)
        async with trio.open_nursery() as nursery:
            for block in blocks:
                nursery.start_soon(put, block)
        assert len(errors) == 5
        assert await store.has([block.block_id for block in blocks]) == [False] * 5
        for block in blocks:
            await put(block)
        assert len(errors) == 5
    await assert_holds(rig, [first, *blocks])


async def test_a_full_disk_in_the_middle_of_a_write_is_cut_back() -> None:
    rig = Rig()
    blocks = [Block(number, size=10 * KIB) for number in range(4)]
    async with rig.store() as store:
        await store.put(blocks[0].header, blocks[0].stored)
        [name] = rig.segment_names()
        size = len(rig.disk.files[name].content)
        rig.disk.fail("write_at", errno.ENOSPC)
        with pytest.raises(NoSpace, match="No space left on device"):
            await store.put(blocks[1].header, blocks[1].stored)
        assert len(rig.disk.files[name].content) == size
        await store.put(blocks[2].header, blocks[2].stored)
        assert len(rig.segment_names()) == 1
    await assert_holds(rig, [blocks[0], blocks[2]], absent=[blocks[1]])


async def test_deletes_go_through_when_puts_find_no_space() -> None:
    rig = Rig()
    old, new = Block(1, size=10 * KIB), Block(2, size=10 * KIB)
    async with rig.store() as store:
        await store.put(old.header, old.stored)
        errors: list[str] = []

        async def put() -> None:
            try:
                await store.put(new.header, new.stored)
            except NoSpace as error:
                errors.append(str(error))

        rig.disk.fail("write_at", errno.ENOSPC)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(put)
            nursery.start_soon(store.delete, [old.block_id])
        assert len(errors) <= 1
        assert await store.has([old.block_id]) == [False]
    await assert_holds(rig, [], absent=[old])


async def test_the_reserve_is_refused_before_the_disk_is_touched() -> None:
    rig = Rig(disk_bytes=MIB, reserve_bytes=MIB // 2)
    async with rig.store() as store:
        with pytest.raises(NoSpace, match="free above the reserve"):
            await _put_without_end(store)
        assert 20 <= store.index.block_count <= 26
        status = await store.status()
        assert status.space.free_bytes < 21 * KIB
        assert status.space.capacity_bytes == MIB // 2
        used = sum(len(file.content) for file in rig.disk.files.values())
        assert used <= MIB // 2 + KIB


async def _put_without_end(store: SegmentStore) -> None:
    for number in range(100):
        block = Block(number, size=20 * KIB)
        await store.put(block.header, block.stored)


async def test_many_puts_at_once_do_not_share_the_last_free_bytes() -> None:
    rig = Rig(disk_bytes=MIB, reserve_bytes=MIB // 2)
    outcomes: list[bool] = []

    async def put(block: Block) -> None:
        try:
            await store.put(block.header, block.stored)
            outcomes.append(True)
        except NoSpace:
            outcomes.append(False)

    async with rig.store() as store:
        async with trio.open_nursery() as nursery:
            for number in range(60):
                nursery.start_soon(put, Block(number, size=20 * KIB))
        assert 20 <= sum(outcomes) <= 26
        used = sum(len(file.content) for file in rig.disk.files.values())
        assert used <= MIB // 2 + KIB


async def test_a_segment_that_cannot_be_made() -> None:
    for operation in ("write_at", "sync", "sync_directory"):
        rig = Rig()
        block = Block(1)
        async with rig.store() as store:
            rig.disk.fail(operation, errno.EIO)
            with pytest.raises(DfsError, match="segment 1 cannot be made"):
                await store.put(block.header, block.stored)
            await store.put(block.header, block.stored)
        rig.power_cut()
        await assert_holds(rig, [block])


async def test_an_unreadable_sector_is_a_bad_copy(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    block = Block(1)
    async with rig.store() as store:
        await store.put(block.header, block.stored)
        rig.disk.fail("read_at", errno.EIO)
        with pytest.raises(CorruptBlock, match="EIO"):
            await store.get(block.block_id)
        assert await store.has([block.block_id]) == [False]
        await store.put(block.header, block.stored)
    assert "bad copy in segment 1 at 72" in caplog.text
    await assert_holds(rig, [block])


async def test_other_read_errors_condemn_nothing() -> None:
    rig = Rig()
    block = Block(1)
    async with rig.store() as store:
        await store.put(block.header, block.stored)
        rig.disk.fail("read_at", errno.EMFILE)
        with pytest.raises(DfsError, match="cannot be read: Too many open files"):
            await store.get(block.block_id)
        assert await store.has([block.block_id]) == [True]


# ---------------------------------------------------------------- damage


async def test_a_bad_copy_is_remembered_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    block = Block(1)
    async with rig.store() as store:
        await store.put(block.header, block.stored)
        rig.disk.flip(rig.segment_names()[0], 72 + 200)
        for _ in range(3):
            with pytest.raises(CorruptBlock):
                await store.get(block.block_id)
    assert caplog.text.count("bad copy in segment 1 at 72") == 1
    async with rig.store() as store:
        assert await store.has([block.block_id]) == [False]
        with pytest.raises(CorruptBlock, match="known to be bad"):
            await store.get(block.block_id)
        await store.put(block.header, block.stored)
    await assert_holds(rig, [block])
    rig.lose_index()
    await assert_holds(rig, [block])


@pytest.mark.expects_warnings
async def test_a_replaced_bad_copy_does_not_come_back_with_a_new_index() -> None:
    rig = Rig()
    block = Block(1)
    async with rig.store() as store:
        await store.put(block.header, block.stored)
        rig.disk.flip(rig.segment_names()[0], 72 + 200)
        with pytest.raises(CorruptBlock):
            await store.get(block.block_id)
        await store.put(block.header, block.stored)
        await store.delete([block.block_id])
    rig.lose_index()
    await assert_holds(rig, [], absent=[block])


@pytest.mark.expects_warnings
async def test_a_damaged_record_header() -> None:
    rig = Rig()
    block, other = Block(1), Block(2)
    async with rig.store() as store:
        await store.put(block.header, block.stored)
        await store.put(other.header, other.stored)
        rig.disk.flip(rig.segment_names()[0], 72 + 40)
        with pytest.raises(CorruptBlock, match="header is damaged"):
            await store.get(block.block_id, 0, 1)
    rig.lose_index()
    await assert_holds(rig, [other], absent=[block])


async def test_a_lost_block_is_not_found() -> None:
    rig = Rig()
    async with rig.store() as store:
        with pytest.raises(BlockNotFound):
            await store.get(Block(1).block_id)


async def test_a_put_whose_caller_gave_up_is_whole() -> None:
    rig = Rig()
    block = Block(1)
    async with rig.store() as store:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.put, block.header, block.stored)
            nursery.start_soon(store.put, block.header, block.stored)
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        await store.put(block.header, block.stored)
    await assert_holds(rig, [block])
