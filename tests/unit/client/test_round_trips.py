"""Goal: few messages by construction. Method: count them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from dfs.client import op_stream
from dfs.errors import FsError
from dfs.limits import MIB
from dfs.types import ROOT
from tests.unit.client.rig import ROOT_USER, cluster, pattern

if TYPE_CHECKING:
    from collections import Counter

    from dfs.client.client import Client
    from dfs.types import InodeId

ALWAYS = ("OpenSession", "KeepAlive", "AnswerRecalls")
"""What flows whether or not anybody works."""


def since(now: Counter[str], before: Counter[str]) -> dict[str, int]:
    return {name: count for name, count in (now - before).items() if name not in ALWAYS}


async def make_small_file(client: Client, parent: InodeId, name: bytes) -> None:
    """As a program does, through the kernel."""
    with pytest.raises(FsError):
        await client.lookup(parent, name)
    handle, _ = await client.create(parent, name, 0o644, ROOT_USER, flags=os.O_WRONLY)
    await client.write(handle, 0, b"x" * 4096)
    await client.flush(handle)
    await client.release(handle)


async def test_a_small_file_takes_three_messages_and_no_block_where_all_is_durable(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster() as rig, rig.client(is_synchronous=True) as client:
        for number in range(3):
            meta, chunk = client.meta.calls_sent, client.chunk_calls_sent
            await make_small_file(client, ROOT, b"small%d" % number)
            assert since(client.meta.calls_sent, meta) == {"Lookup": 1, "ApplyOps": 2}
            assert since(client.chunk_calls_sent, chunk) == {}


async def test_small_files_in_a_directory_of_ones_own_share_their_messages(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster() as rig, rig.client() as client:
        directory = await client.mkdir(ROOT, b"d", 0o755, ROOT_USER)
        await client.sync()
        meta = client.meta.calls_sent
        for number in range(30):
            await make_small_file(client, directory.ino, b"small%d" % number)
        assert since(client.meta.calls_sent, meta).keys() <= {"ApplyOps"}
        await client.sync()
        assert since(client.meta.calls_sent, meta).get("ApplyOps", 0) <= 6
        assert client.chunk_calls_sent == {}


async def test_reading_a_small_file_takes_its_attributes_and_extents(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster() as rig:
        async with rig.client() as client:
            handle, _ = await client.create(ROOT, b"f", 0o644, ROOT_USER, flags=os.O_WRONLY)
            await client.write(handle, 0, b"x" * 4096)
        async with rig.client() as client:
            meta = client.meta.calls_sent
            inode = await client.lookup(ROOT, b"f")
            handle = await client.open(inode.ino, os.O_RDONLY, ROOT_USER)
            assert await client.read(handle, 0, 9999) == b"x" * 4096
            await client.flush(handle)
            await client.release(handle)
            assert since(client.meta.calls_sent, meta) == {"Lookup": 1, "ReadExtents": 1}
            await trio.sleep(2 * op_stream.RELEASE_IDLE_S)
            assert client.meta.calls_sent["Release"] == 0, "the server held nothing"


async def test_sixteen_mebibytes_take_one_put_per_copy_and_a_share_of_a_commit(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster(block_bytes=MIB) as rig, rig.client() as client:
        handle, _ = await client.create(ROOT, b"f", 0o644, ROOT_USER, flags=os.O_RDWR)
        meta, chunk = client.meta.calls_sent, client.chunk_calls_sent
        data = pattern(16 * MIB)
        for offset in range(0, len(data), 128 * 1024):
            await client.write(handle, offset, data[offset : offset + 128 * 1024])
        await client.fsync(handle)
        assert since(client.chunk_calls_sent, chunk) == {"PutBlock": 32}
        assert since(client.meta.calls_sent, meta).get("ApplyOps", 0) <= 2
        assert since(client.meta.calls_sent, meta).keys() <= {"ApplyOps"}
        await client.release(handle)


async def test_a_listing_takes_a_message_per_thousand_entries(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster(chunk_count=0) as rig, rig.client() as client:
        for number in range(3000):
            await client.mknod(ROOT, b"%04d" % number, 0o100644, 0, ROOT_USER)
        meta = client.meta.calls_sent
        handle = await client.open_directory(ROOT)
        names = [name async for name, _, _ in client.read_directory(handle)]
        assert names == [b"%04d" % number for number in range(3000)]
        assert since(client.meta.calls_sent, meta) == {"ReadDirectory": 3}


async def test_ops_that_wait_travel_together(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster(chunk_count=0) as rig, rig.client() as client:
        meta = client.meta.calls_sent
        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(client.mkdir, ROOT, b"%d" % number, 0o755, ROOT_USER)
        assert since(client.meta.calls_sent, meta)["ApplyOps"] <= 5


async def test_a_name_and_its_attributes_are_asked_for_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Goal: nothing is asked that is remembered; a name that is not there is remembered, too."""
    async with cluster(chunk_count=0) as rig, rig.client() as client, rig.client() as other:
        await other.mkdir(ROOT, b"d", 0o755, ROOT_USER)
        meta = client.meta.calls_sent
        for _ in range(3):
            inode = await client.lookup(ROOT, b"d")
            assert await client.getattr(inode.ino) == inode
            with pytest.raises(FsError, match="ENOENT"):
                await client.lookup(ROOT, b"none")
        assert since(client.meta.calls_sent, meta) == {"Lookup": 2}


async def test_what_another_client_changed_is_asked_for_once_more(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Goal: the change is seen at once, and what it left alone costs nothing (I4)."""
    async with cluster(chunk_count=0) as rig, rig.client() as client, rig.client() as other:
        for name in (b"d", b"e"):
            await other.mkdir(ROOT, name, 0o755, ROOT_USER)
            await client.lookup(ROOT, name)
        ino = (await client.lookup(ROOT, b"d")).ino
        meta = client.meta.calls_sent
        await other.setattr(ino, ROOT_USER, mode=0o700)
        for _ in range(2):
            assert (await client.getattr(ino)).mode & 0o777 == 0o700
            assert (await client.lookup(ROOT, b"d")).mode & 0o777 == 0o700
        assert since(client.meta.calls_sent, meta) == {"GetAttr": 1}
        meta = client.meta.calls_sent
        await other.rename(ROOT, b"d", ROOT, b"new", 0, ROOT_USER)
        for _ in range(2):
            with pytest.raises(FsError, match="ENOENT"):
                await client.lookup(ROOT, b"d")
            assert (await client.lookup(ROOT, b"new")).ino == ino
            await client.lookup(ROOT, b"e")
        assert since(client.meta.calls_sent, meta) == {"Lookup": 2}


async def test_a_listing_answers_the_lookups_of_its_entries(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster(chunk_count=0) as rig, rig.client() as client, rig.client() as other:
        for number in range(20):
            await other.mkdir(ROOT, b"%d" % number, 0o755, ROOT_USER)
        handle = await client.open_directory(ROOT)
        found = {name: inode async for name, inode, _ in client.read_directory(handle)}
        meta = client.meta.calls_sent
        for name, inode in found.items():
            assert await client.lookup(ROOT, name) == inode
        assert since(client.meta.calls_sent, meta) == {}
        assert len(found) == 20
