"""Goal: close(2) of a file that is a client's alone waits for nothing, and others still find every
byte (I3, I4, I5). Method: chunk servers that are slow, count or fail; another client that looks."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from dfs.client.lease_holder import DATA_PATIENCE_SHARE
from dfs.errors import DfsError
from dfs.limits import DIRTY_AGE_S, SESSION_TTL_S
from dfs.types import ROOT
from tests.unit.client.rig import BLOCK, ROOT_USER, cluster, pattern

if TYPE_CHECKING:
    from dfs.client.client import Client
    from dfs.types import InodeId

pytestmark = pytest.mark.usefixtures("autojump_clock")

DATA = pattern(2 * BLOCK + 17)


async def write(client: Client, name: bytes, data: bytes = DATA, parent: InodeId = ROOT) -> InodeId:
    """As a program that creates a file, writes and closes it."""
    handle, inode = await client.create(parent, name, 0o644, ROOT_USER)
    await client.write(handle, 0, data)
    await client.flush(handle)
    await client.release(handle)
    return inode.ino


async def read(client: Client, name: bytes) -> bytes:
    inode = await client.lookup(ROOT, name)
    handle = await client.open(inode.ino, os.O_RDONLY, ROOT_USER)
    data = await client.read(handle, 0, inode.size + 100)
    await client.release(handle)
    return data


async def test_close_waits_for_nothing_and_others_find_every_byte() -> None:
    async with cluster() as rig, rig.client() as client, rig.client() as other:
        for chunk in rig.chunks:
            chunk.delay_s = 0.3
        began_s = trio.current_time()
        ino = await write(client, b"f")
        assert trio.current_time() - began_s < 0.1
        assert client.dirty_bytes > 0
        assert list(client.meta.records.promised) == [ino]
        assert (await other.lookup(ROOT, b"f")).size == len(DATA)
        assert client.dirty_bytes == 0
        assert not client.meta.records.promised
        assert await read(other, b"f") == DATA


async def test_its_writer_reads_it_meanwhile() -> None:
    async with cluster() as rig, rig.client() as client:
        ino = await write(client, b"f")
        assert client.dirty_bytes > 0
        assert (await client.getattr(ino)).size == len(DATA)
        assert await read(client, b"f") == DATA


async def test_what_was_promised_is_committed_by_age_and_by_sync() -> None:
    async with cluster() as rig, rig.client() as client:
        await write(client, b"old")
        await trio.sleep(2 * DIRTY_AGE_S)
        assert client.dirty_bytes == 0
        await write(client, b"new")
        assert client.dirty_bytes > 0
        await client.sync()
        assert client.dirty_bytes == 0
        assert not client.meta.records.promised


async def test_fsync_makes_one_file_durable_and_all_changes_of_names() -> None:
    async with cluster() as rig, rig.client() as client:
        own = (await client.mkdir(ROOT, b"own", 0o755, ROOT_USER)).ino
        await write(client, b"promised", DATA, own)
        handle, _ = await client.create(own, b"f", 0o644, ROOT_USER)
        await client.write(handle, 0, DATA)
        left = client.dirty_bytes
        await client.fsync(handle)
        assert 0 < client.dirty_bytes < left
        assert len(client.meta.ops.journal) == 0
        await client.release(handle)


async def test_a_file_that_others_know_is_durable_when_it_is_closed() -> None:
    async with cluster() as rig, rig.client() as client, rig.client() as other:
        ino = await write(client, b"f", b"old")
        await other.lookup(ROOT, b"f")
        handle = await client.open(ino, os.O_WRONLY, ROOT_USER)
        await client.write(handle, 0, DATA)
        await client.flush(handle)
        assert client.dirty_bytes == 0
        await client.release(handle)
        assert await read(other, b"f") == DATA


async def test_a_synchronous_client_closes_what_is_durable() -> None:
    async with cluster() as rig, rig.client(is_synchronous=True) as client:
        await write(client, b"f")
        assert client.dirty_bytes == 0


async def test_what_was_promised_comes_before_what_may_wait_for_others() -> None:
    """Goal: an op behind which others wait does not hold it up. Method: an op that is never done
    here."""
    async with cluster() as rig, rig.client() as client:
        ino = await write(client, b"f")
        assert client.dirty_bytes > 0
        await client.setxattr(ROOT, b"user.x", b"1", 0, ROOT_USER)
        assert client.dirty_bytes == 0
        assert ino not in client.meta.records.promised


async def test_an_open_file_is_committed_for_whoever_looks() -> None:
    """Goal: what was written and not closed shows as well: it is the holder that knows the size."""
    async with cluster() as rig, rig.client() as client, rig.client() as other:
        handle, _ = await client.create(ROOT, b"f", 0o644, ROOT_USER)
        await client.write(handle, 0, DATA)
        assert await read(other, b"f") == DATA
        await client.write(handle, 0, b"again")
        await client.flush(handle)
        assert client.dirty_bytes == 0, "it is nobody's own any more"
        await client.release(handle)
        assert (await read(other, b"f"))[:5] == b"again"


# ---------------------------------------------------------------- files that are gone before


@pytest.mark.parametrize("how", ["unlink", "rename"])
async def test_what_was_written_to_a_file_that_is_gone_is_never_sent(how: str) -> None:
    async with cluster() as rig, rig.client() as client:
        own = (await client.mkdir(ROOT, b"own", 0o755, ROOT_USER)).ino
        await client.sync()
        await write(client, b"f", b"x" * 9000, own)
        await write(client, b"g", b"kept", own)
        assert client.dirty_bytes > 0
        if how == "unlink":
            await client.unlink(own, b"f", ROOT_USER)
        else:
            await client.rename(own, b"g", own, b"f", 0, ROOT_USER)
        await client.sync()
        await trio.sleep(5)
        assert client.dirty_bytes == 0
        assert client.chunk_calls_sent["PutBlock"] == 0
        assert client.loss_count == 0
        assert not client.meta.records.promised


async def test_a_file_that_is_gone_but_open_keeps_what_is_written_to_it() -> None:
    async with cluster() as rig, rig.client() as client:
        handle, _ = await client.create(ROOT, b"f", 0o644, ROOT_USER)
        await client.write(handle, 0, DATA)
        await client.unlink(ROOT, b"f", ROOT_USER)
        assert await client.read(handle, 0, len(DATA)) == DATA
        await client.fsync(handle)
        assert await client.read(handle, 0, len(DATA)) == DATA
        await client.release(handle)


# ---------------------------------------------------------------- data that cannot be committed


@pytest.mark.expects_warnings
async def test_who_looks_does_not_wait_for_ever_for_data_that_cannot_be_committed() -> None:
    """Goal: no longer than its share of the session's life; the data comes when it can. Method: all
    chunk servers are silent while another client looks."""
    async with cluster() as rig, rig.client() as client, rig.client() as other:
        ino = await write(client, b"f")
        for chunk in rig.chunks:
            chunk.delay_s = float("inf")
        began_s = trio.current_time()
        await other.lookup(ROOT, b"f")
        assert trio.current_time() - began_s <= DATA_PATIENCE_SHARE * SESSION_TTL_S + 1
        assert client.dirty_bytes > 0
        for chunk in rig.chunks:
            chunk.delay_s = 0.0
        for _ in range(100):
            if client.dirty_bytes == 0:
                break
            await trio.sleep(1)
        assert client.dirty_bytes == 0
        assert (await other.getattr(ino)).size == len(DATA)


@pytest.mark.expects_warnings
async def test_a_closed_file_that_finds_no_room_is_reported_by_fsync() -> None:
    """Goal: close could not know; whoever syncs is told."""
    async with cluster(capacity_bytes=BLOCK // 2) as rig, rig.client() as client:
        ino = await write(client, b"f")
        handle = await client.open(ino, os.O_WRONLY, ROOT_USER)
        with pytest.raises(DfsError, match="ENOSPC"):
            await client.fsync(handle)
        await client.setattr(ino, ROOT_USER, size=0)
        await client.release(handle)
        await client.sync()
