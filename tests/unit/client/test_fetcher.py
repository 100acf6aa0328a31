"""Goal: reads give the right bytes or none (I2), from whichever copy is good.
Method: copies that are damaged, missing and silent."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from dfs.core.placement import servers_for
from dfs.errors import CorruptBlock, DfsError
from dfs.limits import KIB
from dfs.types import ROOT
from tests.unit.client.rig import ROOT_USER, cluster, pattern

if TYPE_CHECKING:
    from dfs.client.client import Client
    from tests.unit.client.rig import ChunkRig, Rig

BLOCK = 512 * KIB


async def store(rig: Rig, data: bytes) -> None:
    async with rig.client() as client:
        handle, _ = await client.create(ROOT, b"f", 0o644, ROOT_USER)
        await client.write(handle, 0, data)
        await client.flush(handle)
        await client.release(handle)


async def read(client: Client, offset: int, length: int) -> bytes:
    inode = await client.lookup(ROOT, b"f")
    handle = await client.open(inode.ino, os.O_RDONLY, ROOT_USER)
    try:
        return await client.read(handle, offset, length)
    finally:
        await client.release(handle)


async def holders(rig: Rig, client: Client) -> tuple[bytes, list[ChunkRig]]:
    """The only block, and the servers that it belongs to, best first."""
    blocks = {b for c in rig.chunks for b in (await c.store.list_blocks(b"", 10))[0]}
    (block_id,) = blocks
    ids = [server.server_id for server in servers_for(block_id, client.cluster_map)]
    chunks = sorted(rig.chunks, key=lambda chunk: ids.index(chunk.server_id))
    return block_id, chunks[:2]


async def test_a_small_read_moves_one_frame(autojump_clock: trio.testing.MockClock) -> None:
    data = pattern(BLOCK)
    async with cluster(block_bytes=BLOCK) as rig:
        await store(rig, data)
        async with rig.client() as client:
            assert await read(client, 300 * KIB, 4096) == data[300 * KIB :][:4096]
            assert client.chunk_calls_sent == {"GetBlock": 1}
            assert await read(client, 300 * KIB + 10, 100) == data[300 * KIB + 10 :][:100]
            assert client.chunk_calls_sent == {"GetBlock": 1}


async def test_readers_of_the_same_share_one_fetch(autojump_clock: trio.testing.MockClock) -> None:
    data = pattern(BLOCK)
    async with cluster(block_bytes=BLOCK) as rig:
        await store(rig, data)
        async with rig.client() as client:
            for chunk in rig.chunks:
                chunk.delay_s = 0.5

            async def check() -> None:
                assert await read(client, 100_000, 100) == data[100_000:100_100]

            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(check)
            assert client.chunk_calls_sent == {"GetBlock": 1}


async def test_reading_in_sequence_fetches_ahead(autojump_clock: trio.testing.MockClock) -> None:
    data = pattern(8 * BLOCK)
    async with cluster(block_bytes=BLOCK) as rig:
        await store(rig, data)
        async with rig.client() as client:
            for chunk in rig.chunks:
                chunk.delay_s = 0.1
            inode = await client.lookup(ROOT, b"f")
            handle = await client.open(inode.ino, os.O_RDONLY, ROOT_USER)
            begin = trio.current_time()
            for offset in range(0, len(data), 128 * KIB):
                plain = await client.read(handle, offset, 128 * KIB)
                assert plain == data[offset : offset + 128 * KIB]
            assert trio.current_time() - begin < 0.1 * 5
            await client.release(handle)


@pytest.mark.expects_warnings
async def test_a_damaged_copy_is_skipped_and_written_anew(
    autojump_clock: trio.testing.MockClock,
) -> None:
    data = pattern(BLOCK)
    async with cluster(block_bytes=BLOCK) as rig:
        await store(rig, data)
        async with rig.client() as client:
            block_id, owners = await holders(rig, client)
            for position, bad in enumerate(owners):
                bad.store.damage(block_id, position * 1000)
                async with rig.client() as reader, rig.client() as second:
                    # Two sessions in a row take turns, so one of them meets the bad copy.
                    assert await read(reader, 0, BLOCK) == data
                    assert await read(second, 0, BLOCK) == data
                    await trio.sleep(1)
                assert await bad.store.verify([block_id]) == ["good"]


@pytest.mark.expects_warnings
async def test_a_missing_copy_is_skipped_and_written_anew(
    autojump_clock: trio.testing.MockClock,
) -> None:
    data = pattern(BLOCK)
    async with cluster(block_bytes=BLOCK) as rig:
        await store(rig, data)
        async with rig.client() as client, rig.client() as second:
            block_id, owners = await holders(rig, client)
            await owners[0].store.delete([block_id])
            assert await read(client, 0, BLOCK) == data
            assert await read(second, 0, BLOCK) == data
            await trio.sleep(1)
            assert await owners[0].store.has([block_id]) == [True]


@pytest.mark.expects_warnings
async def test_without_a_good_copy_the_read_fails_and_names_all(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster(block_bytes=BLOCK) as rig:
        await store(rig, pattern(BLOCK))
        async with rig.client() as client:
            block_id, owners = await holders(rig, client)
            for bad in owners:
                bad.store.damage(block_id)
            with pytest.raises(CorruptBlock) as caught:
                await read(client, 0, 100)
            assert caught.value.errno == errno.EIO
            assert block_id.hex()[:16] in str(caught.value)
            for bad in owners:
                assert bad.address in str(caught.value)


@pytest.mark.expects_warnings
async def test_a_server_lost_while_reading_is_not_noticed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    data = pattern(8 * BLOCK)
    async with cluster(block_bytes=BLOCK) as rig:
        await store(rig, data)
        async with rig.client() as client:
            assert await read(client, 0, 100) == data[:100]
            rig.chunks[2].kill()
            begin = trio.current_time()
            assert await read(client, 0, len(data)) == data
            assert trio.current_time() - begin < 1


@pytest.mark.expects_warnings
async def test_a_silent_server_is_joined_by_another_copy(
    autojump_clock: trio.testing.MockClock,
) -> None:
    data = pattern(8 * BLOCK)
    async with cluster(block_bytes=BLOCK) as rig:
        await store(rig, data)
        async with rig.client() as client:
            rig.chunks[0].delay_s = float("inf")
            begin = trio.current_time()
            assert await read(client, 0, len(data)) == data
            assert trio.current_time() - begin < 20


@pytest.mark.expects_warnings
async def test_reads_wait_for_servers_that_come_back(
    autojump_clock: trio.testing.MockClock,
) -> None:
    data = pattern(2 * BLOCK)
    async with cluster(block_bytes=BLOCK) as rig:
        await store(rig, data)
        async with rig.client() as client, trio.open_nursery() as nursery:
            for chunk in rig.chunks:
                chunk.kill()

            async def come_back() -> None:
                await trio.sleep(7)
                for chunk in rig.chunks:
                    await chunk.start()

            nursery.start_soon(come_back)
            assert await read(client, 0, len(data)) == data


@pytest.mark.expects_warnings
async def test_servers_that_stay_away_are_named(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster(block_bytes=BLOCK) as rig:
        await store(rig, pattern(BLOCK))
        async with rig.client(patience_s=10.0) as client:
            for chunk in rig.chunks:
                chunk.kill()
            with pytest.raises(DfsError, match=r"chunk1:1.*refused") as caught:
                await read(client, 0, 100)
            assert caught.value.errno == errno.EIO


async def test_a_block_replaced_meanwhile_is_no_error(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A reader with old extents meets a block that was collected, and looks again."""
    async with cluster(block_bytes=BLOCK, garbage_grace_s=0.5) as rig:
        await store(rig, pattern(BLOCK, 1))
        async with rig.client() as reader, rig.client() as writer:
            inode = await reader.lookup(ROOT, b"f")
            seen = await reader.open(inode.ino, os.O_RDONLY, ROOT_USER)
            handle = await writer.open(inode.ino, os.O_WRONLY, ROOT_USER)
            await writer.write(handle, 0, pattern(BLOCK, 2))
            await writer.flush(handle)
            await writer.release(handle)
            await trio.sleep(20)
            assert await reader.read(seen, 0, BLOCK) == pattern(BLOCK, 2)
            await reader.release(seen)
