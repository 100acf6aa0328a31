"""Goal: dead blocks give their space back, and nothing that is needed goes with them, nor does a
deleted block come back.

Method: segments filled and emptied by hand, compaction step by step, then the index is thrown away.
"""

from __future__ import annotations

import errno

import pytest
import trio

from dfs.chunk.compactor import COMPACTION_BYTES_PER_S, Compactor
from dfs.chunk.segment_log import segment_name
from dfs.errors import DfsError
from dfs.limits import KIB, MIB
from tests.unit.chunk.rig import Block, Rig
from tests.unit.chunk.test_store_segments import assert_holds

pytestmark = pytest.mark.expects_warnings  # every test here loses its index on purpose


def segment_numbers(rig: Rig) -> list[int]:
    return sorted(int(name[-20:-8]) for name in rig.segment_names())


async def fill(store: object, numbers: range, *, size: int = 10 * KIB) -> list[Block]:
    blocks = [Block(number, size=size) for number in numbers]
    for block in blocks:
        await store.put(block.header, block.stored)  # type: ignore[attr-defined]
    return blocks


async def finish(compactor: Compactor) -> int:
    steps = 0
    while await compactor.step():
        steps += 1
        assert steps < 100
    return steps


async def test_wholly_dead_segments_are_removed(autojump_clock: trio.testing.MockClock) -> None:
    rig = Rig(segment_bytes=32 * KIB)
    async with rig.store() as store:
        blocks = await fill(store, range(12))
        assert segment_numbers(rig) == [1, 2, 3, 4]
        await store.delete([block.block_id for block in blocks[:6]])
        used = (await store.status()).space.used_bytes
        await finish(rig.compactor(store))
        assert 1 not in segment_numbers(rig)
        assert 2 not in segment_numbers(rig)
        assert (await store.status()).space.used_bytes < used - 50 * KIB
    await assert_holds(rig, blocks[6:], absent=blocks[:6])
    rig.lose_index()
    await assert_holds(rig, blocks[6:], absent=blocks[:6])


async def test_live_blocks_are_copied_out(autojump_clock: trio.testing.MockClock) -> None:
    rig = Rig(segment_bytes=64 * KIB)
    async with rig.store() as store:
        blocks = await fill(store, range(30))
        kept = blocks[::6]
        dead = [block for block in blocks if block not in kept]
        await store.delete([block.block_id for block in dead])
        used = (await store.status()).space.used_bytes
        assert await finish(rig.compactor(store)) >= 4
        status = await store.status()
        assert status.space.used_bytes < used // 3
        assert status.block_count == len(kept)
    await assert_holds(rig, kept, absent=dead)
    rig.lose_index()
    await assert_holds(rig, kept, absent=dead)


async def test_nothing_is_done_for_a_few_dead_blocks(
    autojump_clock: trio.testing.MockClock,
) -> None:
    rig = Rig(segment_bytes=64 * KIB)
    async with rig.store() as store:
        blocks = await fill(store, range(20))
        await store.delete([block.block_id for block in blocks[::6]])
        assert await finish(rig.compactor(store)) == 0


async def test_the_written_segment_is_sealed_when_mostly_dead(
    autojump_clock: trio.testing.MockClock,
) -> None:
    rig = Rig(segment_bytes=200 * KIB)
    async with rig.store() as store:
        blocks = await fill(store, range(10))
        assert segment_numbers(rig) == [1]
        await store.delete([block.block_id for block in blocks[1:]])
        await finish(rig.compactor(store))
        assert segment_numbers(rig) == [2]
    await assert_holds(rig, blocks[:1], absent=blocks[1:])


async def test_a_tombstone_outlives_its_segment(autojump_clock: trio.testing.MockClock) -> None:
    rig = Rig(segment_bytes=64 * KIB)
    async with rig.store() as store:
        first = await fill(store, range(6))  # segment 1, stays mostly live
        second = await fill(store, range(6, 12))  # segment 2, dies, with the tombstone of first[0]
        await store.delete([first[0].block_id])
        third = await fill(store, range(12, 18))
        await store.delete([block.block_id for block in second])
        await finish(rig.compactor(store))
        assert 1 in segment_numbers(rig)
        assert 2 not in segment_numbers(rig)
    rig.lose_index()
    await assert_holds(rig, first[1:] + third, absent=[first[0], *second])


async def test_a_tombstone_goes_with_the_segment_it_names(
    autojump_clock: trio.testing.MockClock,
) -> None:
    rig = Rig(segment_bytes=64 * KIB)
    async with rig.store() as store:
        first = await fill(store, range(6))
        await fill(store, range(6, 12))
        await store.delete([block.block_id for block in first])
        written = (await store.usages())[-1]
        assert sum(written.tombstone_bytes.values()) > 0
        await finish(rig.compactor(store))
        assert all(not usage.tombstone_bytes for usage in await store.usages())


async def test_a_late_tombstone_kills_only_the_copy_it_names(
    autojump_clock: trio.testing.MockClock,
) -> None:
    rig = Rig(segment_bytes=64 * KIB)
    async with rig.store() as store:
        first = await fill(store, range(6))  # segment 1, stays
        second = await fill(store, range(6, 12))  # segment 2, dies: its tombstone moves to the end
        await store.delete([first[0].block_id])
        third = await fill(store, range(20, 22))
        await store.put(first[0].header, first[0].stored)
        [location] = store.index.get([first[0].block_id])
        assert location is not None
        assert location.segment == 3
        await store.delete([block.block_id for block in second])
        await finish(rig.compactor(store))
        assert segment_numbers(rig) == [1, 3]
    rig.lose_index()
    await assert_holds(rig, first + third, absent=second)


async def test_a_replaced_bad_copy_stays_dead_when_its_replacement_goes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    rig = Rig(segment_bytes=64 * KIB)
    async with rig.store() as store:
        first = await fill(store, range(6))
        [location] = store.index.get([first[0].block_id])
        assert location is not None
        rig.disk.flip(segment_name(1), location.end - 1)
        assert await store.verify([first[0].block_id]) == ["corrupt"]
        await store.put(first[0].header, first[0].stored)
        second = await fill(store, range(6, 12))
        await store.delete([first[0].block_id, *(block.block_id for block in second)])
        third = await fill(store, range(12, 18))
        await finish(rig.compactor(store))
        assert 1 in segment_numbers(rig)
        assert 2 not in segment_numbers(rig)
    rig.lose_index()
    await assert_holds(rig, first[1:] + third, absent=[first[0], *second])


async def test_bad_copies_are_not_copied(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    for is_header in (True, False):
        rig = Rig(segment_bytes=64 * KIB)
        async with rig.store() as store:
            blocks = await fill(store, range(12))
            [location] = store.index.get([blocks[1].block_id])
            assert location is not None
            position = location.offset + 4 if is_header else location.end - 1
            rig.disk.flip(segment_name(1), position)
            await store.delete([block.block_id for block in blocks[2:6]])
            await finish(rig.compactor(store))
            assert 1 not in segment_numbers(rig)
            assert await store.has([blocks[1].block_id]) == [False]
            await store.put(blocks[1].header, blocks[1].stored)
        kept = [blocks[0], blocks[1], *blocks[6:]]
        await assert_holds(rig, kept, absent=blocks[2:6])
    assert caplog.text.count("not kept") == 2


async def test_a_crash_while_a_segment_goes_costs_no_rebuild(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    for operation in ("remove", "sync_directory"):
        rig = Rig(segment_bytes=32 * KIB)
        async with rig.store(is_killed=True) as store:
            blocks = await fill(store, range(12))
            await store.delete([block.block_id for block in blocks[:3]])
            rig.disk.fail(operation, errno.EIO)
            with pytest.raises(DfsError, match="segment 1 cannot be removed"):
                await finish(rig.compactor(store))
            assert (await store.usages())[0].number == 2
        await assert_holds(rig, blocks[3:], absent=blocks[:3])
        assert 1 not in segment_numbers(rig)
    assert "rebuilding" not in caplog.text


async def test_deletes_and_puts_during_compaction(autojump_clock: trio.testing.MockClock) -> None:
    rig = Rig(segment_bytes=64 * KIB)
    async with rig.store() as store:
        blocks = await fill(store, range(30))
        kept = blocks[::5]
        await store.delete([block.block_id for block in blocks if block not in kept])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(finish, rig.compactor(store))
            for block in kept[::2]:
                await store.delete([block.block_id])
            for block in kept[1::2]:
                assert bytes((await store.get(block.block_id))[1]) == block.stored
            for block in kept[::4]:
                await store.put(block.header, block.stored)
        await finish(rig.compactor(store))
    expected = [*kept[1::2], *kept[::4]]
    absent = [block for block in blocks if block not in expected]
    await assert_holds(rig, expected, absent=absent)
    rig.lose_index()
    await assert_holds(rig, expected, absent=absent)


async def test_copying_is_slow_on_purpose(autojump_clock: trio.testing.MockClock) -> None:
    rig = Rig(segment_bytes=32 * MIB)
    async with rig.store() as store:
        blocks = await fill(store, range(40), size=MIB)
        await store.delete([block.block_id for block in blocks[8:31]])
        started_s = trio.current_time()
        await finish(rig.compactor(store))
        assert trio.current_time() - started_s >= 8 * MIB / COMPACTION_BYTES_PER_S


async def test_without_space_for_the_copies_nothing_is_begun(
    autojump_clock: trio.testing.MockClock,
) -> None:
    rig = Rig(segment_bytes=400 * KIB, disk_bytes=MIB)
    async with rig.store() as store:
        blocks = await fill(store, range(90))
        await store.delete([block.block_id for block in blocks[:25]])
        assert await finish(rig.compactor(store)) == 0
        await store.delete([block.block_id for block in blocks[25:39]])
        assert await finish(rig.compactor(store)) == 1
    await assert_holds(rig, blocks[39:], absent=blocks[:39])


async def test_it_goes_on_after_a_failure(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig(segment_bytes=32 * KIB)
    async with rig.store() as store:
        blocks = await fill(store, range(12))
        await store.delete([block.block_id for block in blocks[:2]])
        rig.disk.fail("sync", errno.EIO)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.compactor(store).run)
            await trio.sleep(60)
            nursery.cancel_scope.cancel()
        assert 1 not in segment_numbers(rig)
    assert "compaction: segment 5 cannot be made" in caplog.text
    await assert_holds(rig, blocks[2:], absent=blocks[:2])
