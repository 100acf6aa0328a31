"""Goal: ops and releases reach the server in order, and no hold is lost or left behind (I5, I8).
Method: replies that wait at a gate."""

from __future__ import annotations

import os

import pytest
import trio
import trio.testing

from dfs.client import op_stream
from dfs.core.namespace.ops import Mkdir
from dfs.errors import FsError
from dfs.types import ROOT
from tests.unit.client.rig import META, ROOT_USER, cluster


async def test_a_release_travels_with_the_next_op(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster() as rig, rig.client() as client:
        handle, _ = await client.create(ROOT, b"f", 0o644, ROOT_USER)
        await client.release(handle)
        await client.mkdir(ROOT, b"d", 0o755, ROOT_USER)
        await trio.sleep(5 * op_stream.RELEASE_IDLE_S)
        assert client.meta.calls_sent["Release"] == 0
        async with rig.client() as other:
            await other.unlink(ROOT, b"f", ROOT_USER)
            await trio.sleep(5)
            with pytest.raises(FsError, match="ESTALE"):
                await other.getattr(handle.file.ino)


async def test_a_release_without_company_travels_alone(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster() as rig, rig.client() as client:
        for name in (b"f", b"g"):
            handle, _ = await client.create(ROOT, name, 0o644, ROOT_USER)
            await client.release(handle)
        await trio.sleep(3 * op_stream.RELEASE_IDLE_S)
        assert client.meta.calls_sent["Release"] == 1


async def test_opening_again_takes_the_release_back(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster() as rig, rig.client() as client, rig.client() as other:
        handle, _ = await client.create(ROOT, b"f", 0o644, ROOT_USER)
        await client.write(handle, 0, b"content")
        await client.flush(handle)
        await client.release(handle)
        handle = await client.open(handle.file.ino, os.O_RDONLY, ROOT_USER)
        assert client.meta.calls_sent["Open"] == 0
        await other.unlink(ROOT, b"f", ROOT_USER)
        await trio.sleep(10)
        assert await client.read(handle, 0, 100) == b"content"
        assert client.meta.calls_sent["Release"] == 0
        await client.release(handle)


async def test_an_open_waits_for_a_release_under_way(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster() as rig, rig.client() as client, rig.client() as other:
        handle, _ = await client.create(ROOT, b"f", 0o644, ROOT_USER)
        ino = handle.file.ino
        await client.release(handle)
        gate = rig.network.gates[META] = trio.Event()
        await trio.sleep(2 * op_stream.RELEASE_IDLE_S)
        assert client.meta.calls_sent["Release"] == 1
        async with trio.open_nursery() as nursery:
            is_open = trio.Event()

            async def open_again() -> None:
                nonlocal handle
                handle = await client.open(ino, os.O_RDONLY, ROOT_USER)
                is_open.set()

            nursery.start_soon(open_again)
            await trio.sleep(1)
            assert not is_open.is_set()
            gate.set()
        await other.unlink(ROOT, b"f", ROOT_USER)
        await trio.sleep(10)
        assert (await client.getattr(ino)).nlink == 0
        await client.release(handle)


async def test_a_caller_that_leaves_a_create_leaves_no_hold(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster() as rig, rig.client() as client, rig.client() as other:
        gate = rig.network.gates[META] = trio.Event()
        with trio.move_on_after(1):
            await client.create(ROOT, b"f", 0o644, ROOT_USER)
        gate.set()
        inode = await other.lookup(ROOT, b"f")
        await trio.sleep(5)
        await other.unlink(ROOT, b"f", ROOT_USER)
        await trio.sleep(5)
        with pytest.raises(FsError, match="ESTALE"):
            await other.getattr(inode.ino)


async def test_ops_happen_in_the_order_in_which_they_were_begun(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster(chunk_count=0) as rig, rig.client() as client:
        entries = []
        parent = ROOT
        for _ in range(50):
            ino = await client.meta.take_ino()
            op = Mkdir(
                credentials=ROOT_USER, now_ns=0, parent=parent, name=b"d", ino=ino, mode=0o755
            )
            entries.append(client.meta.ops.enqueue(op))
            parent = ino
        for entry in entries:
            result = await client.meta.ops.outcome(entry)
            assert result.inode is not None
        assert client.meta.calls_sent["ApplyOps"] <= 2
