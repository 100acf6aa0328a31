"""Goal: what is leased opens without a message, and outlives its last name all the same (I6).
Method: one client has a file open that another has made; its lease ends in every way there is."""

from __future__ import annotations

import errno
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from dfs.client import op_stream
from dfs.errors import FsError
from dfs.types import ROOT
from tests.unit.client.rig import META, ROOT_USER, cluster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from dfs.client.client import Client
    from dfs.client.handles import FileHandle
    from tests.unit.client.rig import Rig

pytestmark = pytest.mark.usefixtures("autojump_clock")

DATA = b"as it was"


class Scene:
    """`client` has `/f` open, which `other` has made; it is leased to both."""

    def __init__(self, rig: Rig, client: Client, other: Client) -> None:
        self.rig, self.client, self.other = rig, client, other
        self.handle: FileHandle

    async def make(self) -> None:
        handle, _ = await self.other.create(ROOT, b"f", 0o644, ROOT_USER)
        await self.other.write(handle, 0, DATA)
        await self.other.fsync(handle)
        await self.other.release(handle)
        await trio.sleep(5)
        inode = await self.client.lookup(ROOT, b"f")
        self.handle = await self.client.open(inode.ino, os.O_RDWR, ROOT_USER)
        assert self.client.meta.calls_sent["Open"] == 0

    async def unlink_elsewhere(self) -> None:
        await self.other.unlink(ROOT, b"f", ROOT_USER)

    async def replace_elsewhere(self) -> None:
        handle, _ = await self.other.create(ROOT, b"g", 0o644, ROOT_USER)
        await self.other.release(handle)
        await self.other.rename(ROOT, b"g", ROOT, b"f", 0, ROOT_USER)

    async def unlink_here(self) -> None:
        """The directory is shared, so it is asked."""
        await self.client.unlink(ROOT, b"f", ROOT_USER)

    async def unlink_here_alone(self) -> None:
        for name in (b"a", b"b", b"c"):
            await self.client.mkdir(ROOT, name, 0o755, ROOT_USER)
        assert self.client.meta.records.is_exclusive(ROOT)
        await self.client.setattr(self.handle.file.ino, ROOT_USER, mode=0o600)
        await self.client.unlink(ROOT, b"f", ROOT_USER)

    async def change_and_unlink_elsewhere(self) -> None:
        await self.other.setattr(self.handle.file.ino, ROOT_USER, mode=0o600)
        await self.unlink_elsewhere()

    async def write_and_unlink_elsewhere(self) -> None:
        await self.client.write(self.handle, 0, DATA)
        await self.client.fsync(self.handle)
        await self.unlink_elsewhere()

    async def lose_the_link_and_unlink_elsewhere(self) -> None:
        self.rig.network.break_at[META] = 0
        await trio.sleep(5)
        await self.unlink_elsewhere()

    async def restart_the_server_and_unlink_elsewhere(self) -> None:
        self.rig.kill_meta()
        await self.rig.start_meta()
        await self.unlink_elsewhere()

    async def find_no_room_and_unlink_elsewhere(self) -> None:
        records = self.client.meta.records
        records._records_max = 1
        await self.client.getattr(ROOT)
        assert await self.client.mkdir(ROOT, b"d", 0o755, ROOT_USER)
        assert records.inode(self.handle.file.ino) is None
        await self.unlink_elsewhere()


ENDS: dict[str, Callable[[Scene], Awaitable[None]]] = {
    "unlinked elsewhere": Scene.unlink_elsewhere,
    "replaced elsewhere": Scene.replace_elsewhere,
    "unlinked here": Scene.unlink_here,
    "unlinked here without the server": Scene.unlink_here_alone,
    "changed and unlinked elsewhere": Scene.change_and_unlink_elsewhere,
    "written here, unlinked elsewhere": Scene.write_and_unlink_elsewhere,
    "after a lost link": Scene.lose_the_link_and_unlink_elsewhere,
    "after a restart": Scene.restart_the_server_and_unlink_elsewhere,
    "for lack of room": Scene.find_no_room_and_unlink_elsewhere,
}


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    async with cluster() as rig, rig.client() as client, rig.client() as other:
        it = Scene(rig, client, other)
        await it.make()
        yield it


@pytest.mark.expects_warnings
@pytest.mark.parametrize("end", ENDS)
async def test_an_open_file_outlives_its_name(end: str) -> None:
    async with scene() as it:
        ino = it.handle.file.ino
        await ENDS[end](it)
        await trio.sleep(10)
        assert (await it.client.getattr(ino)).nlink == 0
        assert bytes(await it.client.read(it.handle, 0, 99)) == DATA
        await it.client.write(it.handle, len(DATA), b", and more")
        await it.client.fsync(it.handle)
        await it.client.release(it.handle)
        await trio.sleep(10)
        with pytest.raises(FsError, match="ESTALE"):
            await it.client.getattr(ino)


@pytest.mark.parametrize("is_open", [False, True])
async def test_a_file_that_was_closed_in_time_goes_with_its_name(is_open: bool) -> None:
    """Goal: nothing is held that nobody uses, not even when it was closed while it was recalled."""
    async with scene() as it:
        ino = it.handle.file.ino
        if not is_open:
            await it.client.release(it.handle)
            await it.unlink_elsewhere()
        else:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(it.unlink_elsewhere)
                while it.handle.file.is_leased:
                    await trio.lowlevel.checkpoint()
                await it.client.release(it.handle)
        await trio.sleep(10)
        with pytest.raises(FsError, match="ESTALE"):
            await it.client.getattr(ino)


async def test_opening_again_and_again_sends_nothing() -> None:
    async with scene() as it:
        await it.client.release(it.handle)
        await it.client.sync()
        sent = it.client.meta.calls_sent
        for _ in range(100):
            handle = await it.client.open(it.handle.file.ino, os.O_RDONLY, ROOT_USER)
            await it.client.release(handle)
        await trio.sleep(2 * op_stream.RELEASE_IDLE_S)
        assert set(it.client.meta.calls_sent - sent) <= {"KeepAlive"}


async def test_what_is_opened_while_it_is_recalled_is_held_or_gone() -> None:
    """Goal: an open comes before the unlink, or after it; what is open stays."""
    async with scene() as it:
        ino = it.handle.file.ino
        await it.client.release(it.handle)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(it.unlink_elsewhere)
            while it.client.meta.records.inode(ino) is not None:
                await trio.lowlevel.checkpoint()
            try:
                it.handle = await it.client.open(ino, os.O_RDONLY, ROOT_USER)
            except FsError as error:
                if error.errno != errno.ESTALE:
                    raise
                return
        await trio.sleep(10)
        assert bytes(await it.client.read(it.handle, 0, 99)) == DATA
        await it.client.release(it.handle)
