"""Goal: whatever was written, cut, flushed and overwritten is read back. Method: random work on one
file through two handles and two clients, against a bytearray."""

from __future__ import annotations

import os
import random
from contextlib import AsyncExitStack

import pytest
import trio
import trio.testing

from dfs.client import reader
from dfs.types import ROOT
from tests.unit.client.rig import BLOCK, ROOT_USER, cluster

SIZE_MAX = 5 * BLOCK


class Model:
    """What the file must hold."""

    def __init__(self) -> None:
        self.content = bytearray()

    def write(self, offset: int, data: bytes) -> None:
        if offset > len(self.content):
            self.content.extend(bytes(offset - len(self.content)))
        self.content[offset : offset + len(data)] = data

    def truncate(self, size: int) -> None:
        del self.content[size:]
        self.content.extend(bytes(size - len(self.content)))


@pytest.mark.parametrize("seed", range(12))
async def test_random_work(seed: int, autojump_clock: trio.testing.MockClock) -> None:
    assert reader.EXTENTS_WINDOW_BYTES > SIZE_MAX
    dice, model = random.Random(seed), Model()
    async with cluster() as rig, AsyncExitStack() as stack:
        client = await stack.enter_async_context(rig.client(dirty_bytes_max=3 * BLOCK))
        other = await stack.enter_async_context(rig.client())
        first, _ = await client.create(ROOT, b"f", 0o644, ROOT_USER)
        ino = first.file.ino
        second = await client.open(ino, os.O_RDWR, ROOT_USER)
        stranger = await other.open(ino, os.O_RDWR, ROOT_USER)
        for _ in range(60):
            handle = dice.choice([first, second])
            action = dice.choice(["write"] * 5 + ["read"] * 3 + ["cut", "sync", "wait", "other"])
            offset = dice.choice([0, 100, BLOCK, dice.randrange(SIZE_MAX)])
            length = dice.choice([1, 700, 5000, BLOCK, 2 * BLOCK])
            if action == "write":
                data = bytes([dice.randrange(256)]) * length
                await client.write(handle, offset, data)
                model.write(offset, data)
            elif action == "cut":
                await client.setattr(ino, ROOT_USER, size=offset, has_handle=True)
                model.truncate(offset)
            elif action == "sync":
                await client.fsync(handle)
                assert (await other.getattr(ino)).size == len(model.content)
                shown = await other.read(stranger, 0, 10 * SIZE_MAX)
                assert shown == model.content
            elif action == "wait":
                await trio.sleep(dice.random() * 3)
            elif action == "other":
                await client.fsync(handle)
                await other.write(stranger, offset, b"stranger")
                await other.fsync(stranger)
                model.write(offset, b"stranger")
                await client.getattr(ino)
            shown = await client.read(handle, offset, length)
            assert shown == model.content[offset : offset + length]
            assert handle.inode.size == len(model.content)
        await client.fsync(first)
        await other.getattr(ino)
        assert await other.read(stranger, 0, 10 * SIZE_MAX) == model.content
        for handle in (first, second):
            await client.release(handle)
        await other.release(stranger)
