"""Goal: small data of a file that is a client's alone is committed as names are changed: at once,
in order, and found by whoever looks (I3, I4, I5). Method: whole clients; replies of the server that
wait at a gate, so that nothing can be asked meanwhile."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import trio

from dfs.errors import Fenced
from dfs.limits import INLINE_BYTES_MAX
from tests.unit.client.rig import META, ROOT_USER
from tests.unit.client.test_done_here import close_gate, lose_session, own_directory

if TYPE_CHECKING:
    from dfs.client.client import Client
    from dfs.types import InodeId

pytestmark = pytest.mark.usefixtures("autojump_clock")


async def write_file(client: Client, parent: InodeId, name: bytes, data: bytes) -> InodeId:
    """As `echo data > name` does."""
    handle, inode = await client.create(parent, name, 0o644, ROOT_USER)
    await client.write(handle, 0, data)
    await client.flush(handle)
    await client.release(handle)
    return inode.ino


async def content(client: Client, parent: InodeId, name: bytes) -> bytes:
    inode = await client.lookup(parent, name)
    handle = await client.open(inode.ino, os.O_RDONLY, ROOT_USER)
    data = bytes(await client.read(handle, 0, inode.size + 1))
    await client.release(handle)
    return data


async def test_a_small_file_is_whole_before_anybody_is_asked() -> None:
    async with own_directory() as (rig, client, own), rig.client() as other:
        gate = close_gate(rig)
        ino = await write_file(client, own, b"f", b"data")
        assert client.attributes_good_s(ino) > 0, "nothing is dirty"
        gate.set()
        assert await content(other, own, b"f") == b"data"


async def test_many_small_files_go_out_together() -> None:
    async with own_directory() as (_, client, own):
        sent = client.meta.calls_sent
        for number in range(50):
            await write_file(client, own, b"%d" % number, b"data")
        await client.sync()
        assert (client.meta.calls_sent - sent)["ApplyOps"] <= 3
        await trio.sleep(10)
        assert set(client.meta.calls_sent - sent) == {"ApplyOps", "KeepAlive"}


async def test_fsync_waits_until_it_is_durable() -> None:
    async with own_directory() as (rig, client, own), trio.open_nursery() as nursery:
        handle, _ = await client.create(own, b"f", 0o644, ROOT_USER)
        gate = close_gate(rig)
        await client.write(handle, 0, b"data")
        is_synced = trio.Event()

        async def sync() -> None:
            await client.fsync(handle)
            is_synced.set()

        nursery.start_soon(sync)
        await trio.sleep(1)
        assert not is_synced.is_set()
        gate.set()
        await is_synced.wait()
        await client.release(handle)


async def test_a_new_file_replaces_another_without_waiting() -> None:
    """Goal: what editors and git do costs no round trip, and nobody finds the name without the
    data."""
    async with own_directory() as (rig, client, own), rig.client() as other:
        await write_file(client, own, b"f", b"old")
        await client.sync()
        gate = close_gate(rig)
        handle, _ = await client.create(own, b"f.new", 0o644, ROOT_USER)
        await client.write(handle, 0, b"new")
        await client.rename(own, b"f.new", own, b"f", 0, ROOT_USER)
        await client.release(handle)
        assert len(client.meta.ops.journal) > 0
        gate.set()
        assert await content(other, own, b"f") == b"new"


async def test_a_file_is_written_again_and_again_and_cut() -> None:
    """Goal: extents that are known serve the next commit, truncation too."""
    async with own_directory() as (rig, client, own), rig.client() as other:
        gate = close_gate(rig)
        handle, inode = await client.create(own, b"f", 0o644, ROOT_USER)
        for offset, data in ((0, b"0123456789"), (4, b"----"), (20, b"end"), (9, b"+")):
            await client.write(handle, offset, data)
            await client.flush(handle)
        await client.setattr(inode.ino, ROOT_USER, size=22, has_handle=True)
        await client.release(handle)
        gate.set()
        assert await content(other, own, b"f") == b"0123----8+\0\0\0\0\0\0\0\0\0\0en"


@pytest.mark.expects_warnings
async def test_what_does_not_fit_is_promised() -> None:
    async with own_directory() as (_, client, own):
        handle, inode = await client.create(own, b"f", 0o644, ROOT_USER)
        await client.write(handle, INLINE_BYTES_MAX, b"x")
        assert not client._flusher.commit_here(handle.file)
        await client.flush(handle)
        assert inode.ino in client.meta.records.promised
        await client.release(handle)


async def test_what_others_may_change_is_flushed() -> None:
    async with own_directory() as (rig, client, own), rig.client() as other:
        await write_file(client, own, b"f", b"old")
        assert await content(other, own, b"f") == b"old"
        handle = await client.open((await client.lookup(own, b"f")).ino, os.O_RDWR, ROOT_USER)
        await client.write(handle, 0, b"new")
        assert not client._flusher.commit_here(handle.file)
        await client.flush(handle)
        assert not client.meta.records.owed
        await client.release(handle)
        assert await content(other, own, b"f") == b"new"


@pytest.mark.expects_warnings
async def test_what_was_lost_with_the_session_is_not_read_any_more() -> None:
    """Goal: the server's older version counts then, though this client knew a newer one."""
    async with own_directory(patience_s=300.0) as (rig, client, own):
        handle, inode = await client.create(own, b"f", 0o644, ROOT_USER)
        await client.write(handle, 0, b"kept")
        await client.fsync(handle)
        close_gate(rig)
        await client.write(handle, 0, b"lost, and longer")
        await client.flush(handle)
        losses = client.loss_count
        assert bytes(await client.read(handle, 0, 99)) == b"lost, and longer"
        await lose_session(rig, client)
        assert client.loss_count > losses, "the kernel's pages are doubtful"
        assert (await client.getattr(inode.ino)).size == 4
        assert bytes(await client.read(handle, 0, 99)) == b"kept"
        with pytest.raises(Fenced, match="not durable"):
            await client.fsync(handle)
        with pytest.raises(Fenced, match="not durable"):
            await client.write(handle, 0, b"K")
        await client.write(handle, 0, b"K")
        await client.fsync(handle)
        assert await content(client, own, b"f") == b"Kept"
        await client.release(handle)


@pytest.mark.expects_warnings
async def test_the_link_is_lost_before_the_answer() -> None:
    """Goal: it is committed once, and what others write then is not taken for it."""
    async with own_directory(patience_s=300.0) as (rig, client, own), rig.client() as other:
        handle, inode = await client.create(own, b"f", 0o644, ROOT_USER)
        await client.fsync(handle)
        gate = close_gate(rig)
        await client.write(handle, 0, b"data")
        await client.flush(handle)
        await trio.sleep(0.1)
        rig.network.break_at[META] = 0
        rig.network.gates.pop(META)
        gate.set()
        await client.fsync(handle)
        assert await content(other, own, b"f") == b"data"
        assert (await other.getattr(inode.ino)).data_version == 1
        await client.release(handle)
