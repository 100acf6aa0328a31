"""Goal: files behave as POSIX says, through real servers. Method: a cluster in memory."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from dfs.client.client import open_client
from dfs.config import ClientConfig
from dfs.errors import Disconnected, FsError, WrongCluster
from dfs.limits import FILE_BYTES_MAX, KIB
from dfs.types import ROOT, ClusterId
from tests.unit.client.rig import BLOCK, META, ROOT_USER, USER, cluster, pattern

if TYPE_CHECKING:
    from dfs.client.client import Client
    from dfs.client.handles import FileHandle


async def make(
    client: Client, name: bytes, data: bytes = b"", *, flags: int = os.O_RDWR
) -> FileHandle:
    handle, _ = await client.create(ROOT, name, 0o644, ROOT_USER, flags=flags)
    if data:
        assert await client.write(handle, 0, data) == len(data)
    return handle


async def close(client: Client, handle: FileHandle) -> None:
    await client.flush(handle)
    await client.release(handle)


async def content(client: Client, name: bytes) -> bytes:
    """What a newcomer reads."""
    inode = await client.lookup(ROOT, name)
    handle = await client.open(inode.ino, os.O_RDONLY, ROOT_USER)
    data = await client.read(handle, 0, inode.size + 100)
    await client.release(handle)
    return data


@pytest.mark.parametrize("length", [0, 1, 4096, 4097, BLOCK, 5 * BLOCK + 17])
async def test_what_is_written_is_read_by_everyone(
    length: int, autojump_clock: trio.testing.MockClock
) -> None:
    data = pattern(length)
    async with cluster() as rig, rig.client() as writer, rig.client() as other:
        handle = await make(writer, b"f", data)
        assert await writer.read(handle, 0, length + 5) == data
        assert (await writer.getattr(handle.file.ino)).size == length
        await close(writer, handle)
        assert await content(other, b"f") == data
        assert (await other.lookup(ROOT, b"f")).size == length


@pytest.mark.expects_warnings
async def test_dirty_bytes_show_at_once_and_are_durable_after_fsync(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster() as rig, rig.client() as client:
        handle = await make(client, b"f", b"x" * 10_000)
        inode = await client.lookup(ROOT, b"f")
        assert inode.size == 10_000
        assert client.dirty_bytes > 0
        await client.fsync(handle)
        assert client.dirty_bytes == 0
        rig.kill_meta()
        await rig.start_meta()
        assert (await client.getattr(inode.ino)).size == 10_000
        await client.release(handle)


async def test_holes_read_as_zeros(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster() as rig, rig.client() as client:
        handle = await make(client, b"f")
        await client.write(handle, 3 * BLOCK + 5, b"end")
        await client.write(handle, 10, b"start")
        wanted = bytes(10) + b"start" + bytes(3 * BLOCK - 10) + b"end"
        assert await client.read(handle, 0, 10**6) == wanted
        await client.fsync(handle)
        assert await client.read(handle, 0, 10**6) == wanted
        assert (await client.getattr(handle.file.ino)).stored_bytes == 8
        await client.release(handle)


async def test_zeros_become_holes(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster() as rig, rig.client() as client:
        handle = await make(client, b"f", bytes(3 * BLOCK))
        await close(client, handle)
        inode = await client.lookup(ROOT, b"f")
        assert (inode.size, inode.stored_bytes) == (3 * BLOCK, 0)
        assert client.chunk_calls_sent["PutBlock"] == 0
        assert await content(client, b"f") == bytes(3 * BLOCK)


async def test_truncate_and_dirty_data(autojump_clock: trio.testing.MockClock) -> None:
    data = pattern(3 * BLOCK)
    async with cluster() as rig, rig.client() as client, rig.client() as other:
        handle = await make(client, b"f", data)
        ino = handle.file.ino
        inode = await client.setattr(ino, ROOT_USER, size=BLOCK + 100, has_handle=True)
        assert inode.size == BLOCK + 100
        assert await client.read(handle, 0, 10**6) == data[: BLOCK + 100]
        await client.setattr(ino, ROOT_USER, size=2 * BLOCK, has_handle=True)
        wanted = data[: BLOCK + 100] + bytes(BLOCK - 100)
        assert await client.read(handle, 0, 10**6) == wanted
        await client.write(handle, 2 * BLOCK, b"tail")
        await close(client, handle)
        assert await content(other, b"f") == wanted + b"tail"


async def test_truncate_to_nothing_drops_what_is_dirty(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster() as rig, rig.client() as client:
        handle = await make(client, b"f", b"abc")
        await client.setattr(handle.file.ino, ROOT_USER, size=0, has_handle=True)
        assert client.dirty_bytes == 0
        assert await client.read(handle, 0, 10) == b""
        await close(client, handle)
        await client.sync()
        assert client.meta.calls_sent["ApplyOps"] == 2


async def test_times_set_after_a_write_stay(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster() as rig, rig.client() as client:
        handle = await make(client, b"f", b"abc")
        await client.setattr(handle.file.ino, ROOT_USER, mtime_ns=12345, atime_ns=678)
        await close(client, handle)
        inode = await client.lookup(ROOT, b"f")
        assert (inode.mtime_ns, inode.atime_ns) == (12345, 678)


async def test_setuid_goes_with_a_users_write_and_stays_after_a_later_chmod(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster() as rig, rig.client() as client:
        handle = await make(client, b"f", b"abc")
        await close(client, handle)
        ino = handle.file.ino
        await client.setattr(ino, ROOT_USER, uid=1000, gid=1000, mode=0o4755)
        handle = await client.open(ino, os.O_RDWR, USER)
        await client.write(handle, 0, b"x")
        await client.fsync(handle)
        assert not (await client.getattr(ino)).mode & stat.S_ISUID
        await client.write(handle, 1, b"y")
        await client.setattr(ino, USER, mode=0o4755)
        await close(client, handle)
        assert (await client.getattr(ino)).mode & stat.S_ISUID


async def test_set_id_bits_are_gone_as_soon_as_a_user_has_written(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Not only once it is committed; and the writer counts, not who opened the file."""
    async with cluster() as rig, rig.client() as client:
        handle = await make(client, b"f", b"abc")
        ino = handle.file.ino
        for writer, expected in ((None, 0o4755), (ROOT_USER, 0o4755), (USER, 0o755)):
            await client.setattr(ino, ROOT_USER, mode=0o4755)
            await client.write(handle, 0, b"x", writer)
            assert not handle.file.dirty.is_clean
            assert stat.S_IMODE((await client.getattr(ino)).mode) == expected
            await client.fsync(handle)
            assert stat.S_IMODE((await client.lookup(ROOT, b"f")).mode) == expected
        await close(client, handle)


async def test_open_flags(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster() as rig, rig.client() as client:
        await close(client, await make(client, b"f", b"content"))
        with pytest.raises(FsError) as caught:
            await make(client, b"f", flags=os.O_RDWR | os.O_EXCL)
        assert caught.value.errno == errno.EEXIST
        handle = await make(client, b"f")
        assert await client.read(handle, 0, 100) == b"content"
        await client.release(handle)
        handle = await make(client, b"f", flags=os.O_WRONLY | os.O_TRUNC)
        assert handle.inode.size == 0
        with pytest.raises(FsError) as caught:
            await client.read(handle, 0, 1)
        assert caught.value.errno == errno.EBADF
        await client.release(handle)
        handle = await client.open(handle.file.ino, os.O_RDONLY, ROOT_USER)
        with pytest.raises(FsError) as caught:
            await client.write(handle, 0, b"x")
        assert caught.value.errno == errno.EBADF
        await client.release(handle)
        with pytest.raises(FsError) as caught:
            await client.open(ROOT, os.O_RDONLY, ROOT_USER)
        assert caught.value.errno == errno.EISDIR


async def test_synchronous_writes_leave_nothing_dirty(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster() as rig, rig.client() as client:
        handle = await make(client, b"f", flags=os.O_RDWR | os.O_DSYNC)
        await client.write(handle, 0, pattern(5000))
        assert client.dirty_bytes == 0
        await client.release(handle)


async def test_appends_of_two_clients_follow_each_other(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster() as rig, rig.client() as first, rig.client() as second:
        one = await make(first, b"log", flags=os.O_WRONLY | os.O_APPEND)
        two = await second.open(one.file.ino, os.O_WRONLY | os.O_APPEND, ROOT_USER)
        for number in range(5):
            await first.write(one, 0, b"a%d " % number)
            await first.fsync(one)
            await second.write(two, 0, b"b%d " % number)
            await second.fsync(two)
        await first.release(one)
        await second.release(two)
        wanted = b"".join(b"a%d b%d " % (number, number) for number in range(5))
        assert await content(first, b"log") == wanted


async def test_concurrent_appends_of_one_client_never_overlap(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster() as rig, rig.client() as client:
        handle = await make(client, b"log", flags=os.O_WRONLY | os.O_APPEND)
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(client.write, handle, 0, b"%02d" % number * 500)
        await close(client, handle)
        data = await content(client, b"log")
        records = [data[start : start + 1000] for start in range(0, len(data), 1000)]
        assert sorted(records) == [b"%02d" % number * 500 for number in range(20)]


async def test_tasks_of_one_client_create_one_name_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Whoever comes second opens the file, perhaps before the first hears that it is there."""
    async with cluster() as rig, rig.client() as client:
        names = [b"f%d" % number for number in range(10)]
        inos = set()

        async def create(name: bytes) -> None:
            handle, inode = await client.create(ROOT, name, 0o644, ROOT_USER, flags=os.O_RDWR)
            inos.add(inode.ino)
            await client.write(handle, 0, name)
            await close(client, handle)

        async with trio.open_nursery() as nursery:
            for name in names * 3:
                nursery.start_soon(create, name)
        assert len(inos) == len(names)
        for name in names:
            assert await content(client, name) == name


async def test_writers_and_readers_of_one_file_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Each of four writers owns every fourth stretch; readers see old or new bytes of a stretch."""
    size, step = 8 * BLOCK, 3000
    async with cluster() as rig, rig.client(dirty_bytes_max=4 * BLOCK) as client:
        handle = await make(client, b"f", b"\0" * size)
        is_over = False

        async def write(writer: int) -> None:
            for turn in range(1, 4):
                for offset in range(writer * step, size, 4 * step):
                    await client.write(handle, offset, bytes([turn]) * min(step, size - offset))

        async def read() -> None:
            while not is_over:
                data = await client.read(handle, 0, size)
                for offset in range(0, size, step):
                    stretch = data[offset : offset + step]
                    assert stretch == stretch[:1] * len(stretch)
                await trio.sleep(0.01)

        async with trio.open_nursery() as readers:
            readers.start_soon(read)
            async with trio.open_nursery() as writers:
                for writer in range(4):
                    writers.start_soon(write, writer)
            is_over = True
        await close(client, handle)
        assert await content(client, b"f") == b"\3" * size


async def test_an_unlinked_file_lives_until_it_is_closed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster() as rig, rig.client() as client, rig.client() as other:
        handle = await make(client, b"f", pattern(2 * BLOCK))
        await client.fsync(handle)
        await other.unlink(ROOT, b"f", ROOT_USER)
        await client.write(handle, 0, b"more")
        await client.fsync(handle)
        assert await client.read(handle, 0, 6) == b"more" + pattern(2 * BLOCK)[4:6]
        assert (await client.getattr(handle.file.ino)).nlink == 0
        await client.setattr(handle.file.ino, ROOT_USER, size=3)
        assert await client.read(handle, 0, 6) == b"mor"
        ino = handle.file.ino
        await close(client, handle)
        await trio.sleep(5)
        with pytest.raises(FsError) as caught:
            await client.getattr(ino)
        assert caught.value.errno == errno.ESTALE


async def test_rename_commits_what_was_written_before(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster() as rig, rig.client() as client, rig.client() as other:
        handle = await make(client, b"new", b"new content")
        await close(client, await make(client, b"f", b"old content"))
        await client.rename(ROOT, b"new", ROOT, b"f", 0, ROOT_USER)
        assert await content(other, b"f") == b"new content"
        await client.write(handle, 0, b"NEW")
        await client.link(handle.file.ino, ROOT, b"g", ROOT_USER)
        assert await content(other, b"g") == b"NEW content"
        await close(client, handle)


async def test_getattr_makes_other_clients_writes_visible(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster() as rig, rig.client() as writer, rig.client() as reader:
        handle = await make(writer, b"f", b"a" * 10_000)
        await writer.fsync(handle)
        seen = await reader.open(handle.file.ino, os.O_RDONLY, ROOT_USER)
        assert await reader.read(seen, 0, 3) == b"aaa"
        await writer.write(handle, 1, b"B")
        await writer.fsync(handle)
        await reader.getattr(seen.file.ino)
        assert await reader.read(seen, 0, 3) == b"aBa"
        await writer.release(handle)
        await reader.release(seen)


async def test_a_file_cannot_grow_past_the_limit(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster() as rig, rig.client() as client:
        handle = await make(client, b"f")
        with pytest.raises(FsError) as caught:
            await client.write(handle, FILE_BYTES_MAX - 1, b"ab")
        assert caught.value.errno == errno.EFBIG
        await client.release(handle)


async def test_what_is_dirty_at_the_end_is_flushed(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster() as rig:
        async with rig.client() as client:
            await make(client, b"f", pattern(20 * KIB))
        async with rig.client() as client:
            assert await content(client, b"f") == pattern(20 * KIB)


async def test_statfs_counts_what_is_stored(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster() as rig, rig.client() as client:
        before = await client.statfs()
        await close(client, await make(client, b"f", pattern(BLOCK)))
        await client.sync()
        after = await client.statfs()
        assert after.inode_count == before.inode_count + 1
        assert after.stored_bytes == before.stored_bytes + BLOCK


@pytest.mark.expects_warnings
async def test_no_server_is_one_clear_error(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster() as rig:
        rig.kill_meta()
        with pytest.raises(Disconnected, match=f"{META}.*refused"):
            async with open_client(rig.environment, [META]):
                raise AssertionError("there is no server")


async def test_another_cluster_is_refused(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster() as rig:
        config = ClientConfig(cluster_id=ClusterId("0" * 32))
        with pytest.raises(WrongCluster):
            async with open_client(rig.environment, [META], config=config):
                raise AssertionError("it is another cluster")


async def test_the_second_address_serves_when_the_first_does_not(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster() as rig, open_client(rig.environment, ["none:1", META]) as client:
        assert (await client.getattr(ROOT)).is_directory


async def test_an_error_inside_the_block_comes_out_as_it_is(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster() as rig:
        with pytest.raises(FsError) as caught:
            async with rig.client() as client:
                await client.lookup(ROOT, b"none")
        assert caught.value.errno == errno.ENOENT
