"""Goal: a client outlives its links and its metadata server, and learns of the end of its session.
Method: links that break at every point, servers that end, sessions that expire (I7, I8)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from dfs.errors import DfsError, Disconnected, FsError
from dfs.limits import INODE_RANGE_COUNT, KIB
from dfs.types import ROOT
from tests.unit.client.rig import META, ROOT_USER, cluster, pattern

if TYPE_CHECKING:
    from dfs.client.client import Client
    from tests.unit.client.rig import Rig

pytestmark = pytest.mark.expects_warnings

POINTS_MAX = 60


async def work(client: Client) -> None:
    """A little of everything; each step fails if one before it happened twice or never."""
    await client.mkdir(ROOT, b"d", 0o755, ROOT_USER)
    directory = await client.lookup(ROOT, b"d")
    handle, _ = await client.create(directory.ino, b"f", 0o644, ROOT_USER)
    await client.write(handle, 0, b"small")
    await client.flush(handle)
    await client.write(handle, 5, pattern(9 * KIB))
    await client.rename(directory.ino, b"f", directory.ino, b"g", 0, ROOT_USER)
    await client.link(handle.file.ino, ROOT, b"h", ROOT_USER)
    await client.flush(handle)
    await client.release(handle)
    await client.unlink(directory.ino, b"g", ROOT_USER)
    await client.rmdir(ROOT, b"d", ROOT_USER)


async def check(rig: Rig) -> None:
    async with rig.client() as client:
        handle = await client.open_directory(ROOT)
        assert [name async for name, _, _ in client.read_directory(handle)] == [b"h"]
        inode = await client.lookup(ROOT, b"h")
        assert inode.nlink == 1
        file = await client.open(inode.ino, 0, ROOT_USER)
        assert await client.read(file, 0, 10**6) == b"small" + pattern(9 * KIB)
        await client.release(file)


@pytest.mark.parametrize(("is_synchronous", "points_min"), [(True, 15), (False, 5)])
async def test_a_link_that_breaks_at_any_point_is_not_noticed(
    is_synchronous: bool, points_min: int, autojump_clock: trio.testing.MockClock
) -> None:
    for point in range(POINTS_MAX):
        async with cluster() as rig:
            async with rig.client(is_synchronous=is_synchronous) as client:
                rig.network.break_at[META] = point
                await work(client)
                await client.sync()
                has_broken = META not in rig.network.break_at
                rig.network.break_at.clear()
            await check(rig)
        if not has_broken:
            break
    assert points_min < point < POINTS_MAX


async def test_a_metadata_server_that_starts_again_is_not_noticed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster() as rig:
        async with rig.client() as client, trio.open_nursery() as nursery:

            async def restart() -> None:
                for _ in range(3):
                    await trio.sleep(0.002)
                    rig.kill_meta()
                    await trio.sleep(3)
                    await rig.start_meta()

            nursery.start_soon(restart)
            await work(client)
        await check(rig)


async def test_reads_wait_for_the_server_and_then_fail_with_the_cause(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster() as rig, rig.client(patience_s=20.0) as client:
        rig.kill_meta()
        begin = trio.current_time()
        with pytest.raises(Disconnected, match=f"{META}: .*refused"):
            await client.getattr(ROOT)
        assert 20 <= trio.current_time() - begin < 25
        with pytest.raises(Disconnected, match=f"{META}: .*refused"):
            await client.mkdir(ROOT, b"d", 0o755, ROOT_USER)
        await rig.start_meta()
        await client.mkdir(ROOT, b"d", 0o755, ROOT_USER)


async def test_an_op_that_was_given_up_unsent_never_happens(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster() as rig, rig.client(patience_s=5.0) as client:
        rig.kill_meta()
        with pytest.raises(Disconnected):
            await client.getattr(ROOT)
        with pytest.raises(Disconnected):
            await client.mkdir(ROOT, b"d", 0o755, ROOT_USER)
        await rig.start_meta()
        await client.mkdir(ROOT, b"e", 0o755, ROOT_USER)
        with pytest.raises(FsError) as caught:
            await client.lookup(ROOT, b"d")
        assert caught.value.errno == errno.ENOENT


async def test_an_expired_session_loses_what_it_owed_and_the_client_goes_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster() as rig, rig.client(patience_s=90.0) as client:
        kept, _ = await client.create(ROOT, b"kept", 0o644, ROOT_USER)
        await client.write(kept, 0, b"durable")
        await client.fsync(kept)
        other = await client.open(kept.file.ino, 2, ROOT_USER)
        session_id = client.session_id
        rig.network.break_at[META] = 0
        rig.network.unreachable.add(META)
        await client.write(kept, 0, b"DIRTY")
        await trio.sleep(60)
        rig.network.unreachable.clear()
        assert (await client.getattr(kept.file.ino)).size == 7
        assert client.session_id != session_id
        assert client.dirty_bytes == 0
        assert client.loss_count == 1
        # Every handle hears of the loss, once, and then works again.
        for handle in (kept, other):
            with pytest.raises(DfsError) as caught:
                await client.fsync(handle)
            assert caught.value.errno == errno.EIO
            await client.fsync(handle)
        assert await client.read(kept, 0, 10) == b"durable"
        await client.write(kept, 0, b"again")
        await client.fsync(kept)
        assert await client.read(other, 0, 10) == b"againle"
        await client.release(kept)
        await client.release(other)


async def test_a_new_session_holds_what_is_open(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster() as rig, rig.client() as client, rig.client() as other:
        handle, _ = await client.create(ROOT, b"f", 0o644, ROOT_USER)
        await client.write(handle, 0, b"content")
        await client.fsync(handle)
        session_id = client.session_id
        # Only this client loses its server.
        client.meta.lose_session(await client.meta.wait_link(0), "the test says so")
        await client.getattr(ROOT)
        assert client.session_id != session_id
        await other.unlink(ROOT, b"f", ROOT_USER)
        await trio.sleep(10)
        assert await client.read(handle, 0, 10) == b"content"
        assert (await client.getattr(handle.file.ino)).nlink == 0
        await client.release(handle)


async def test_inode_numbers_never_run_out_and_never_repeat(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster(chunk_count=0) as rig, rig.client() as client:
        numbers = [await client.meta.take_ino() for _ in range(3 * INODE_RANGE_COUNT)]
        assert len(set(numbers)) == len(numbers)


async def test_a_new_map_is_learnt(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster() as rig, rig.client() as client:
        map_epoch = client.cluster_map.map_epoch
        rig.chunks[0].kill()
        await trio.sleep(20)
        assert client.cluster_map.map_epoch > map_epoch
        states = [server.state.value for server in client.cluster_map.servers]
        assert sorted(states) == ["down", "up", "up"]
