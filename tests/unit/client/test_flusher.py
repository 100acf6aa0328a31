"""Goal: dirty data reaches the cluster whatever fails, bounded, in order (I1, I3).
Method: servers that die, stall and fill while files are written."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from dfs.core.dirty import DirtyFile
from dfs.core.namespace.ops import RENAME_EXCHANGE
from dfs.errors import Disconnected, Fenced, FsError
from dfs.limits import DIRTY_AGE_S, KIB, MIB
from dfs.types import ROOT
from tests.unit.client.rig import BLOCK, ROOT_USER, cluster, pattern

if TYPE_CHECKING:
    from dfs.client.client import Client
    from dfs.client.handles import FileHandle
    from dfs.core.namespace.records import Inode
    from dfs.types import InodeId
    from tests.unit.client.rig import Rig


async def read_back(rig: Rig, name: bytes) -> bytes:
    async with rig.client() as client:
        inode = await client.lookup(ROOT, name)
        handle = await client.open(inode.ino, os.O_RDONLY, ROOT_USER)
        data = await client.read(handle, 0, inode.size)
        await client.release(handle)
        return data


async def write_blocks(client: Client, handle: FileHandle, count: int, *, syncs: bool) -> None:
    for number in range(count):
        await client.write(handle, number * BLOCK, pattern(BLOCK, number))
        if syncs:
            await client.fsync(handle)


async def copies_of_all_blocks(rig: Rig) -> list[int]:
    counts: dict[bytes, int] = {}
    for chunk in rig.chunks:
        for block_id in (await chunk.store.list_blocks(b"", 10_000))[0]:
            counts[block_id] = counts.get(block_id, 0) + 1
    return sorted(counts.values())


async def write_all(client: Client, data: bytes, step: int = 10_000) -> None:
    handle, _ = await client.create(ROOT, b"f", 0o644, ROOT_USER)
    for start in range(0, len(data), step):
        await client.write(handle, start, data[start : start + step])
        await trio.sleep(0.01)
    await client.fsync(handle)
    await client.release(handle)


async def test_every_block_gets_its_copies(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster() as rig:
        async with rig.client() as client:
            await write_all(client, pattern(10 * BLOCK), step=BLOCK)
        assert await copies_of_all_blocks(rig) == [2] * 10


@pytest.mark.expects_warnings
async def test_a_server_lost_while_writing_is_not_noticed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    data = pattern(40 * BLOCK)
    async with cluster() as rig:
        async with rig.client() as client, trio.open_nursery() as nursery:

            async def lose() -> None:
                await trio.sleep(0.8)
                rig.chunks[1].kill()

            nursery.start_soon(lose)
            await write_all(client, data)
            assert not client.dirty_bytes
        assert await copies_of_all_blocks(rig) == [2] * len(await copies_of_all_blocks(rig))
        del rig.chunks[1]
        rig.chunks.append(rig.chunks[0])
        assert await read_back(rig, b"f") == data


@pytest.mark.expects_warnings
async def test_a_silent_server_costs_little(autojump_clock: trio.testing.MockClock) -> None:
    data = pattern(20 * BLOCK)
    async with cluster() as rig:
        async with rig.client() as client:
            rig.chunks[0].delay_s = float("inf")
            begin = trio.current_time()
            await write_all(client, data)
            assert trio.current_time() - begin < 15
        rig.chunks[0].delay_s = 0.0
        assert await read_back(rig, b"f") == data


@pytest.mark.expects_warnings
async def test_fewer_servers_than_copies_is_enough_for_min_copies(
    autojump_clock: trio.testing.MockClock,
) -> None:
    data = pattern(5 * BLOCK)
    async with cluster(min_copies=1) as rig, rig.client() as client:
        rig.chunks[0].kill()
        rig.chunks[1].kill()
        await write_all(client, data)
        assert await copies_of_all_blocks(rig) == [1] * len(await copies_of_all_blocks(rig))


@pytest.mark.expects_warnings
async def test_nothing_is_committed_below_min_copies(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster(min_copies=2) as rig, rig.client(patience_s=10.0) as client:
        rig.chunks[0].kill()
        rig.chunks[1].kill()
        handle, _ = await client.create(ROOT, b"f", 0o644, ROOT_USER)
        await client.write(handle, 0, pattern(BLOCK))
        with pytest.raises(Disconnected, match=r"chunk0:1.*refused"):
            await client.fsync(handle)
        assert (await client.statfs()).stored_bytes == 0
        assert client.dirty_bytes > 0
        # It stays dirty, and reaches the cluster once that can be.
        await rig.chunks[0].start()
        await client.fsync(handle)
        assert (await client.statfs()).stored_bytes == BLOCK
        await client.release(handle)


@pytest.mark.expects_warnings
async def test_full_servers_mean_enospc_and_truncating_helps(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster(capacity_bytes=6 * BLOCK) as rig, rig.client() as client:
        handle, _ = await client.create(ROOT, b"f", 0o644, ROOT_USER)
        with pytest.raises(FsError) as caught:
            await write_blocks(client, handle, 100, syncs=True)
        assert caught.value.errno == errno.ENOSPC
        await client.setattr(handle.file.ino, ROOT_USER, size=0, has_handle=True)
        assert client.dirty_bytes == 0
        await client.write(handle, 0, b"small")
        await client.fsync(handle)
        await client.release(handle)


@pytest.mark.expects_warnings
async def test_data_that_finds_no_space_is_dropped_with_the_last_handle(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster(capacity_bytes=BLOCK // 2) as rig, rig.client() as client:
        handle, _ = await client.create(ROOT, b"f", 0o644, ROOT_USER)
        await client.write(handle, 0, pattern(BLOCK))
        with pytest.raises(FsError, match="ENOSPC"):
            await client.fsync(handle)
        await client.release(handle)
        await trio.sleep(20)
        assert client.dirty_bytes == 0


async def test_dirty_data_is_bounded_and_writers_wait(
    autojump_clock: trio.testing.MockClock,
) -> None:
    limit = 4 * BLOCK
    async with cluster() as rig, rig.client(dirty_bytes_max=limit) as client:
        for chunk in rig.chunks:
            chunk.delay_s = 0.05
        peak = 0
        handle, _ = await client.create(ROOT, b"f", 0o644, ROOT_USER)
        for number in range(50):
            await client.write(handle, number * BLOCK, pattern(BLOCK, number))
            peak = max(peak, client.dirty_bytes)
        assert 2 * BLOCK < peak <= limit + BLOCK
        await client.flush(handle)
        await client.release(handle)


async def test_tiny_writes_all_over_are_bounded_too(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster() as rig, rig.client(dirty_bytes_max=64 * KIB) as client:
        handle, _ = await client.create(ROOT, b"f", 0o644, ROOT_USER)
        for number in range(600):
            await client.write(handle, 5000 + number * 3000, b"x")
            assert client.dirty_bytes <= 66 * KIB
        await client.flush(handle)
        data = await client.read(handle, 0, 10 * MIB)
        assert data.count(b"x") == 600
        assert data[5000 + 599 * 3000 :] == b"x"
        await client.release(handle)


@pytest.mark.expects_warnings
async def test_a_writer_without_room_hears_why(autojump_clock: trio.testing.MockClock) -> None:
    settings = {"dirty_bytes_max": 2 * BLOCK, "patience_s": 10.0}
    async with cluster() as rig, rig.client(**settings) as client:
        for chunk in rig.chunks:
            chunk.kill()
        handle, _ = await client.create(ROOT, b"f", 0o644, ROOT_USER)
        with pytest.raises(Disconnected, match="refused"):
            await write_blocks(client, handle, 10, syncs=False)
        await client.setattr(handle.file.ino, ROOT_USER, size=0, has_handle=True)
        await client.release(handle)


async def test_old_dirty_data_is_flushed_unasked(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster() as rig, rig.client() as client, rig.client() as other:
        handle, _ = await client.create(ROOT, b"f", 0o644, ROOT_USER)
        await client.write(handle, 0, pattern(BLOCK + 5))
        await trio.sleep(2 * DIRTY_AGE_S)
        assert client.dirty_bytes == 0
        assert (await other.lookup(ROOT, b"f")).size == BLOCK + 5
        await client.release(handle)


async def test_what_is_written_during_a_flush_stays_dirty(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster() as rig, rig.client() as client:
        for chunk in rig.chunks:
            chunk.delay_s = 0.5
        handle, _ = await client.create(ROOT, b"f", 0o644, ROOT_USER)
        rest = pattern(BLOCK)
        await client.write(handle, 0, b"old" + rest)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.fsync, handle)
            await trio.sleep(0.1)
            await client.write(handle, 0, b"new")
            assert await client.read(handle, 0, 6) == b"new" + rest[:3]
        assert client.dirty_bytes > 0
        await client.fsync(handle)
        assert await read_back(rig, b"f") == b"new" + rest
        await client.release(handle)


async def test_a_truncate_during_an_upload_wins(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster() as rig, rig.client() as client:
        for chunk in rig.chunks:
            chunk.delay_s = 0.5
        handle, _ = await client.create(ROOT, b"f", 0o644, ROOT_USER)
        await client.write(handle, 0, pattern(4 * BLOCK))
        await trio.sleep(0.1)
        inode = await client.setattr(handle.file.ino, ROOT_USER, size=BLOCK + 7)
        assert inode.size == BLOCK + 7
        await client.write(handle, BLOCK + 7, b"!")
        await client.flush(handle)
        await client.release(handle)
        assert await read_back(rig, b"f") == pattern(4 * BLOCK)[: BLOCK + 7] + b"!"


async def test_a_block_that_was_collected_is_uploaded_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Written, removed, written again: the second commit may meet the condemned block."""
    async with cluster(garbage_grace_s=1.0) as rig, rig.client() as client:
        for number in range(12):
            handle, _ = await client.create(ROOT, b"f", 0o644, ROOT_USER)
            await client.write(handle, 0, pattern(BLOCK))
            await client.fsync(handle)
            await client.release(handle)
            assert await read_back(rig, b"f") == pattern(BLOCK)
            await client.unlink(ROOT, b"f", ROOT_USER)
            await trio.sleep(0.3 * number)


async def test_ordered_flush_of_many_files(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster() as rig:
        async with rig.client() as client:
            for number in range(20):
                handle, _ = await client.create(ROOT, b"%d" % number, 0o644, ROOT_USER)
                await client.write(handle, 0, pattern(5000, number))
                await client.release(handle)
            await client.sync()
            assert client.dirty_bytes == 0
        for number in range(20):
            assert await read_back(rig, b"%d" % number) == pattern(5000, number)


def test_a_block_of_the_rig_is_a_block_of_the_core() -> None:
    assert DirtyFile(BLOCK).write(0, bytes(BLOCK)) == [0]


@pytest.mark.expects_warnings
async def test_who_waits_for_data_that_is_lost_with_the_session_hears_of_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Neither is it called durable (I3), nor does a rename go on without it (I5)."""
    async with cluster() as rig, rig.client() as client:
        handle, _ = await client.create(ROOT, b"f", 0o644, ROOT_USER)
        for chunk in rig.chunks:
            chunk.delay_s = 1.0
        for wait in (client.sync, lambda: client.rename(ROOT, b"f", ROOT, b"g", 0, ROOT_USER)):
            await client.write(handle, 0, pattern(3 * BLOCK))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lose_session, client)
                with pytest.raises(Fenced):
                    await wait()
            assert (await client.lookup(ROOT, b"f")).size == 0
            with pytest.raises(Fenced):
                await client.fsync(handle)


@pytest.mark.expects_warnings
@pytest.mark.parametrize("flags", [0, RENAME_EXCHANGE])
async def test_a_rename_does_not_outlive_data_that_is_lost_before_its_flush(
    flags: int, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """The session goes while the rename looks at a name; then there is nothing to flush (I5)."""
    async with cluster() as rig, rig.client() as client:
        old, _ = await client.create(ROOT, b"old", 0o644, ROOT_USER)
        await client.write(old, 0, b"precious")
        await client.fsync(old)
        new, _ = await client.create(ROOT, b"new", 0o644, ROOT_USER)
        await client.write(new, 0, pattern(3 * BLOCK))
        look_up = client.lookup

        async def look_up_late(parent: InodeId, name: bytes) -> Inode:
            inode = await look_up(parent, name)
            if name == b"new":
                client.meta.lose_session(await client.meta.wait_link(0), "the test says so")
            return inode

        monkeypatch.setattr(client, "lookup", look_up_late)
        with pytest.raises(Fenced):
            await client.rename(ROOT, b"new", ROOT, b"old", flags, ROOT_USER)
        assert await client.read(old, 0, 10) == b"precious"
        assert (await look_up(ROOT, b"old")).size == len(b"precious")
        await client.rename(ROOT, b"new", ROOT, b"old", flags, ROOT_USER)


@pytest.mark.expects_warnings
@pytest.mark.parametrize("change", ["rename", "link"])
async def test_names_do_not_change_after_a_loss_that_nobody_was_told_of(
    change: str, autojump_clock: trio.testing.MockClock
) -> None:
    """The session goes while the application's next call is on its way here (I5)."""
    async with cluster() as rig, rig.client() as client:
        handle, inode = await client.create(ROOT, b"new", 0o644, ROOT_USER)
        await client.write(handle, 0, pattern(3 * BLOCK))
        client.meta.lose_session(await client.meta.wait_link(0), "the test says so")

        async def do() -> None:
            if change == "rename":
                await client.rename(ROOT, b"new", ROOT, b"old", 0, ROOT_USER)
            else:
                await client.link(inode.ino, ROOT, b"old", ROOT_USER)

        with pytest.raises(Fenced):
            await do()
        await do()
        with pytest.raises(Fenced):
            await client.fsync(handle)


@pytest.mark.expects_warnings
async def test_everyone_who_notes_losses_hears_of_them_though_others_have_stopped(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Two renames at a time: the end of the one must not deafen the other."""
    async with cluster() as rig, rig.client() as client:
        handle, inode = await client.create(ROOT, b"f", 0o644, ROOT_USER)
        await client.write(handle, 0, pattern(BLOCK))
        with client._flusher.noting_losses() as first:
            with client._flusher.noting_losses() as second:
                pass
            client.meta.lose_session(await client.meta.wait_link(0), "the test says so")
        assert list(first) == [inode.ino]
        assert second == {}


async def lose_session(client: Client) -> None:
    await trio.sleep(0.5)
    client.meta.lose_session(await client.meta.wait_link(0), "the test says so")
