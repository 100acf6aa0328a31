"""What every BlockStore does, in executable form. `test_…_store.py` feed it a store each."""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import pytest
import trio

from dfs.chunk.store import ABSENT, CORRUPT, GOOD, BlockStore
from dfs.core.blocks import decode_frames
from dfs.core.messages import BlockHeader
from dfs.errors import BlockNotFound, CorruptBlock, FsError, NoSpace
from dfs.limits import FRAME_BYTES, KIB, MIB
from dfs.types import BlockId
from tests.unit.chunk.rig import Block

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

CAPACITY_BYTES = 8 * MIB
UNKNOWN = BlockId(b"\x07" * 32)


class BlockStoreContract(ABC):
    """Inherit it and say how a store is made and damaged."""

    @abstractmethod
    def opened(self) -> AbstractAsyncContextManager[BlockStore]:
        """An empty, running store that may hold CAPACITY_BYTES."""

    @abstractmethod
    async def damage(self, store: Any, block: Block, position: int) -> None:
        """Flip a bit of the block's stored byte at `position`, behind the store's back."""

    async def test_what_was_put_comes_back(self) -> None:
        async with self.opened() as store:
            for number, size in enumerate((1, 100, FRAME_BYTES, FRAME_BYTES + 1, MIB)):
                block = Block(number, size=size, level=number % 2)
                await store.put(block.header, block.stored)
                header, stored = await store.get(block.block_id)
                assert header == block.header
                assert bytes(stored) == block.stored
                assert decode_frames(header, stored) == block.plain

    async def test_single_frames_come_back(self) -> None:
        async with self.opened() as store:
            block = Block(1, size=5 * FRAME_BYTES + 7, level=1)
            await store.put(block.header, block.stored)
            for first, end in ((0, 1), (1, 3), (5, 6), (4, None)):
                header, stored = await store.get(block.block_id, first, end)
                assert header == block.header
                last = 6 if end is None else end
                plain = decode_frames(header, stored, first, last)
                assert plain == block.plain[first * FRAME_BYTES : last * FRAME_BYTES]

    async def test_frames_that_do_not_exist(self) -> None:
        async with self.opened() as store:
            block = Block(1, size=2 * FRAME_BYTES)
            await store.put(block.header, block.stored)
            for first, end in ((0, 3), (1, 1), (2, None), (-1, 1)):
                with pytest.raises(FsError) as caught:
                    await store.get(block.block_id, first, end)
                assert caught.value.errno == errno.EINVAL
            assert await store.has([block.block_id]) == [True]

    async def test_an_unknown_block(self) -> None:
        async with self.opened() as store:
            with pytest.raises(BlockNotFound):
                await store.get(UNKNOWN)
            assert await store.has([UNKNOWN]) == [False]
            assert await store.verify([UNKNOWN]) == [ABSENT]
            await store.delete([UNKNOWN])

    async def test_bytes_that_do_not_match_the_name_are_refused(self) -> None:
        async with self.opened() as store:
            block, other = Block(1, size=2 * FRAME_BYTES), Block(2, size=2 * FRAME_BYTES)
            flipped = bytes((block.stored[0] ^ 1,)) + block.stored[1:]
            renamed = BlockHeader(other.block_id, block.header.length, block.header.frames)
            for header, stored in (
                (block.header, flipped),
                (block.header, block.stored[:-1]),
                (block.header, block.stored + b"\0"),
                (block.header, other.stored),
                (renamed, block.stored),
                (BlockHeader(block.block_id, 0, ()), b""),
            ):
                with pytest.raises(CorruptBlock):
                    await store.put(header, stored)
            assert await store.has([block.block_id, other.block_id]) == [False, False]

    async def test_putting_again_takes_no_space(self) -> None:
        async with self.opened() as store:
            block = Block(1, size=100 * KIB)
            await store.put(block.header, block.stored)
            before = await store.status()
            await store.put(block.header, block.stored)
            assert await store.status() == before
            assert before.block_count == 1
            assert before.space.used_bytes >= len(block.stored)

    async def test_puts_at_once_of_one_block_are_one(self) -> None:
        async with self.opened() as store:
            block = Block(1, size=100 * KIB)
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(store.put, block.header, block.stored)
            status = await store.status()
            assert status.block_count == 1
            assert status.space.used_bytes < 2 * len(block.stored)

    async def test_deleted_blocks_are_gone(self) -> None:
        async with self.opened() as store:
            blocks = [Block(number) for number in range(4)]
            for block in blocks:
                await store.put(block.header, block.stored)
            await store.delete([blocks[1].block_id, UNKNOWN, blocks[3].block_id])
            has = await store.has([block.block_id for block in blocks])
            assert has == [True, False, True, False]
            with pytest.raises(BlockNotFound):
                await store.get(blocks[1].block_id)
            assert (await store.status()).block_count == 2

    async def test_a_deleted_block_can_be_put_again(self) -> None:
        async with self.opened() as store:
            block = Block(1)
            for _ in range(3):
                await store.put(block.header, block.stored)
                assert await store.has([block.block_id]) == [True]
                await store.delete([block.block_id])
                assert await store.has([block.block_id]) == [False]

    async def test_a_put_after_a_delete_began_stays(self) -> None:
        async with self.opened() as store:
            block = Block(1)
            await store.put(block.header, block.stored)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(store.delete, [block.block_id])
                await trio.testing.wait_all_tasks_blocked()
                await store.delete([block.block_id])
                await store.put(block.header, block.stored)
            assert await store.has([block.block_id]) == [True]
            assert bytes((await store.get(block.block_id))[1]) == block.stored

    async def test_inventory_comes_in_order_and_in_pages(self) -> None:
        async with self.opened() as store:
            blocks = [Block(number) for number in range(25)]
            for block in blocks:
                await store.put(block.header, block.stored)
            await store.delete([block.block_id for block in blocks[20:]])
            expected = sorted(block.block_id for block in blocks[:20])
            assert await _inventory(store, 100) == expected
            assert await _inventory(store, 7) == expected
            assert await _inventory(store, 1) == expected
            assert await store.list_blocks(expected[-1], 5) == ([], True)

    @pytest.mark.expects_warnings
    async def test_a_bad_copy_is_noticed_and_replaced(self) -> None:
        async with self.opened() as store:
            block, other = Block(1, size=3 * FRAME_BYTES), Block(2)
            await store.put(block.header, block.stored)
            await store.put(other.header, other.stored)
            await self.damage(store, block, FRAME_BYTES + 10)
            assert bytes((await store.get(block.block_id, 0, 1))[1]) == block.stored[:FRAME_BYTES]
            with pytest.raises(CorruptBlock):
                await store.get(block.block_id, 1, 2)
            assert await store.has([block.block_id]) == [False]
            assert await _inventory(store, 10) == [other.block_id]
            assert (await store.status()).corrupt_count == 1
            with pytest.raises(CorruptBlock):
                await store.get(block.block_id, 0, 1)
            await store.put(block.header, block.stored)
            assert bytes((await store.get(block.block_id))[1]) == block.stored
            assert (await store.status()).corrupt_count == 0
            assert await store.verify([block.block_id]) == [GOOD]

    @pytest.mark.expects_warnings
    async def test_verify_reads_every_byte(self) -> None:
        async with self.opened() as store:
            blocks = [Block(number, size=2 * FRAME_BYTES) for number in range(3)]
            for block in blocks:
                await store.put(block.header, block.stored)
            await self.damage(store, blocks[1], 2 * FRAME_BYTES - 1)
            ids = [block.block_id for block in blocks]
            assert await store.verify([*ids, UNKNOWN]) == [GOOD, CORRUPT, GOOD, ABSENT]
            assert await store.has(ids) == [True, False, True]
            assert await store.verify(ids) == [GOOD, CORRUPT, GOOD]
            await store.delete([ids[1]])
            assert await store.verify(ids) == [GOOD, ABSENT, GOOD]
            assert (await store.status()).corrupt_count == 0

    @pytest.mark.expects_warnings
    async def test_a_whole_read_notices_damage(self) -> None:
        async with self.opened() as store:
            block = Block(1, size=MIB, level=1)
            await store.put(block.header, block.stored)
            await self.damage(store, block, len(block.stored) - 1)
            with pytest.raises(CorruptBlock):
                await store.get(block.block_id)
            assert await store.has([block.block_id]) == [False]

    async def test_a_full_store_says_so_and_goes_on(self) -> None:
        async with self.opened() as store:
            stored: list[Block] = []
            with pytest.raises(NoSpace):
                await _fill(store, stored)
            assert len(stored) >= CAPACITY_BYTES // MIB - 1
            assert (await store.status()).space.free_bytes < MIB + 64 * KIB
            for block in stored:
                assert bytes((await store.get(block.block_id))[1]) == block.stored
            await store.put(stored[0].header, stored[0].stored)  # it is there: no space needed
            await store.delete([stored[0].block_id])
            assert await store.has([stored[0].block_id]) == [False]


async def _fill(store: BlockStore, stored: list[Block]) -> None:
    for number in range(CAPACITY_BYTES // MIB + 1):
        block = Block(number, size=MIB)
        await store.put(block.header, block.stored)
        stored.append(block)


async def _inventory(store: BlockStore, limit: int) -> list[BlockId]:
    found: list[BlockId] = []
    is_last = False
    after = BlockId(b"")
    while not is_last:
        page, is_last = await store.list_blocks(after, limit)
        assert len(page) <= limit
        found += page
        after = page[-1] if page else after
    return found
