"""Goal: every request gets the answer that its docstring promises, and nonsense gets EINVAL."""

from __future__ import annotations

import errno
from typing import Any

import pytest
import trio

from dfs.chunk.handlers import ChunkHandlers
from dfs.chunk.identity import Identity
from dfs.chunk.store_memory import MemoryStore
from dfs.core.messages import (
    BlockReply,
    ChunkStatusReply,
    DeleteBlocks,
    Done,
    GetBlock,
    GetChunkStatus,
    HasBlocks,
    HasBlocksReply,
    ListBlocks,
    ListBlocksReply,
    PutBlock,
    VerifyBlocks,
    VerifyBlocksReply,
)
from dfs.errors import BlockNotFound, CorruptBlock, Fenced, FsError
from dfs.limits import FRAME_BYTES, HAS_BLOCKS_MAX, MIB, PUTS_IN_MEMORY_BYTES_MAX
from dfs.types import BlockId, ClusterId, ServerId
from tests.unit.chunk.memory_disk import MemoryDisk
from tests.unit.chunk.rig import Block

CONNECTION = object()


def handlers(store: MemoryStore | None = None) -> ChunkHandlers:
    identity = Identity(MemoryDisk(), ServerId("0123456789abcdef"), ClusterId("c"))
    return ChunkHandlers(store or MemoryStore(), identity)


async def ask(handlers: ChunkHandlers, request: Any, payload: bytes = b"") -> Any:
    return await handlers.handle(request, payload, CONNECTION)


async def test_a_block_from_put_to_delete() -> None:
    server = handlers()
    block = Block(1, size=3 * FRAME_BYTES, level=1)
    name = block.block_id
    assert await ask(server, HasBlocks(block_ids=(name,))) == HasBlocksReply(has=(False,))
    assert await ask(server, PutBlock(header=block.header), block.stored) == Done()
    assert await ask(server, HasBlocks(block_ids=(name,))) == HasBlocksReply(has=(True,))
    reply, stored = await ask(server, GetBlock(block_id=name))
    assert reply == BlockReply(header=block.header)
    assert bytes(stored) == block.stored
    reply, stored = await ask(server, GetBlock(block_id=name, first_frame=1, end_frame=2))
    assert reply == BlockReply(header=block.header)
    assert len(stored) == block.header.frames[1].stored_bytes
    verdicts = await ask(server, VerifyBlocks(block_ids=(name, BlockId(b"x" * 32))))
    assert verdicts == VerifyBlocksReply(verdicts=("good", "absent"))
    listed = await ask(server, ListBlocks())
    assert listed == ListBlocksReply(block_ids=(name,), is_last=True)
    assert await ask(server, DeleteBlocks(block_ids=(name,))) == Done()
    with pytest.raises(BlockNotFound):
        await ask(server, GetBlock(block_id=name))


async def test_status() -> None:
    server = handlers(MemoryStore(capacity_bytes=MIB))
    block = Block(1, size=1000)
    await ask(server, PutBlock(header=block.header), block.stored)
    status = await ask(server, GetChunkStatus())
    assert isinstance(status, ChunkStatusReply)
    assert status.server_id == "0123456789abcdef"
    assert status.cluster_id == "c"
    assert status.block_count == 1
    assert status.corrupt_count == 0
    assert status.space.free_bytes == MIB - 1000
    assert status.version
    assert status.uptime_s >= 0


async def test_a_block_that_does_not_match_its_name() -> None:
    block = Block(1)
    with pytest.raises(CorruptBlock):
        await ask(handlers(), PutBlock(header=block.header), block.stored[1:] + b"x")


@pytest.mark.parametrize(
    "request_",
    [
        GetBlock(block_id=BlockId(b"short")),
        HasBlocks(block_ids=(BlockId(b"x" * 33),)),
        HasBlocks(block_ids=(BlockId(b"x" * 32),) * (HAS_BLOCKS_MAX + 1)),
        VerifyBlocks(block_ids=(BlockId(b""),)),
        DeleteBlocks(block_ids=(BlockId(b"x"),)),
        ListBlocks(limit=0),
        ListBlocks(limit=-1),
        ListBlocks(limit=1 << 40),
    ],
)
async def test_nonsense(request_: Any) -> None:
    with pytest.raises(FsError) as caught:
        await ask(handlers(), request_)
    assert caught.value.errno == errno.EINVAL


class _SlowStore(MemoryStore):
    """Counts the bytes of the puts that it is working on."""

    def __init__(self) -> None:
        super().__init__()
        self.may_go_on = trio.Event()
        self.bytes_now = 0
        self.bytes_most = 0

    async def put(self, header: Any, stored: Any) -> None:
        self.bytes_now += len(stored)
        self.bytes_most = max(self.bytes_most, self.bytes_now)
        await self.may_go_on.wait()
        self.bytes_now -= len(stored)


async def test_puts_in_memory_are_bounded() -> None:
    store = _SlowStore()
    server = handlers(store)
    block = Block(1, size=4 * MIB)
    count = 2 * PUTS_IN_MEMORY_BYTES_MAX // len(block.stored)
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(ask, server, PutBlock(header=block.header), block.stored)
        await trio.testing.wait_all_tasks_blocked()
        assert store.bytes_now == PUTS_IN_MEMORY_BYTES_MAX
        store.may_go_on.set()
    assert store.bytes_most == PUTS_IN_MEMORY_BYTES_MAX
    assert store.bytes_now == 0


async def test_an_overtaken_deletion_is_refused() -> None:
    server = handlers()
    block = Block(1)
    await ask(server, DeleteBlocks(block_ids=(block.block_id,), order=8))
    await ask(server, PutBlock(header=block.header), block.stored)
    with pytest.raises(Fenced, match="deletion 7 came after 8"):
        await ask(server, DeleteBlocks(block_ids=(block.block_id,), order=7))
    has = HasBlocks(block_ids=(block.block_id,))
    assert await ask(server, has) == HasBlocksReply(has=(True,))
    await ask(server, DeleteBlocks(block_ids=(block.block_id,), order=8))
    assert await ask(server, has) == HasBlocksReply(has=(False,))
