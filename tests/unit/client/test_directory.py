"""Goal: listings show every entry that stays exactly once, whatever happens to the others.
Method: read on from every kind of cookie while entries come and go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio.testing

from dfs.client import directory
from dfs.errors import FsError
from dfs.limits import DIRECTORY_PAGES_KEPT
from dfs.types import ROOT
from tests.unit.client.rig import ROOT_USER, cluster

if TYPE_CHECKING:
    from dfs.client.client import Client
    from dfs.client.directory import DirectoryHandle


PAGE = 50


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "READDIR_ENTRIES_MAX", PAGE)


async def fill(client: Client, count: int) -> list[bytes]:
    names = [b"%05d" % number for number in range(count)]

    async def make(some: list[bytes]) -> None:
        for name in some:
            await client.mknod(ROOT, name, 0o100644, 0, ROOT_USER)

    async with trio.open_nursery() as nursery:
        for first in range(50):
            nursery.start_soon(make, names[first::50])
    return names


async def read_some(
    client: Client, handle: DirectoryHandle, cookie: int, count: int
) -> tuple[list[bytes], int]:
    """The next names, at most `count`, and the cookie behind them."""
    names: list[bytes] = []
    async for name, _, behind in client.read_directory(handle, cookie):
        names.append(name)
        cookie = behind
        if len(names) == count:
            break
    return names, cookie


async def test_removing_what_was_read_skips_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster(chunk_count=0) as rig, rig.client() as client:
        wanted = await fill(client, 5 * PAGE // 2)
        handle = await client.open_directory(ROOT)
        seen: list[bytes] = []
        cookie = 0
        while True:
            names, cookie = await read_some(client, handle, cookie, 7)
            if not names:
                break
            seen += names
            for name in names:
                await client.unlink(ROOT, name, ROOT_USER)
        assert seen == wanted
        assert await read_some(client, handle, 0, 10) == ([], 0)


async def test_a_recent_cookie_reads_on_exactly(autojump_clock: trio.testing.MockClock) -> None:
    count = 4 * PAGE
    async with cluster(chunk_count=0) as rig, rig.client() as client:
        wanted = await fill(client, count)
        handle = await client.open_directory(ROOT)
        await read_some(client, handle, 0, count)
        gone: list[bytes] = []
        for cookie in (count - 1, 125, 75, 50, 49, 3):
            # What lies before the cookie goes; what lies behind must all be there.
            await client.unlink(ROOT, wanted[cookie - 2], ROOT_USER)
            names, _ = await read_some(client, handle, cookie, count)
            # What was removed may still show; what was not shows once.
            gone.append(wanted[cookie - 2])
            shown = [name for name in names if name not in gone]
            assert shown == [name for name in wanted[cookie:] if name not in gone]


async def test_rewinding_reads_anew(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster(chunk_count=0) as rig, rig.client() as client, rig.client() as other:
        await fill(client, 3)
        handle = await client.open_directory(ROOT)
        assert (await read_some(client, handle, 0, 10))[0] == [b"00000", b"00001", b"00002"]
        await other.mkdir(ROOT, b"00001b", 0o755, ROOT_USER)
        await other.unlink(ROOT, b"00002", ROOT_USER)
        assert (await read_some(client, handle, 0, 10))[0] == [b"00000", b"00001", b"00001b"]
        await client.release_directory(handle)


async def test_old_pages_are_forgotten_but_can_be_read_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    count = (DIRECTORY_PAGES_KEPT + 2) * PAGE
    async with cluster(chunk_count=0) as rig, rig.client() as client:
        wanted = await fill(client, count)
        handle = await client.open_directory(ROOT)
        assert (await read_some(client, handle, 0, count))[0] == wanted
        names, cookie = await read_some(client, handle, 25, count)
        assert names == wanted[25:]
        assert cookie == count


async def test_attributes_of_open_files_are_those_the_writer_sees(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster() as rig, rig.client() as client:
        file, _ = await client.create(ROOT, b"f", 0o644, ROOT_USER)
        await client.write(file, 0, b"abc")
        handle = await client.open_directory(ROOT)
        sizes = [inode.size async for _, inode, _ in client.read_directory(handle)]
        assert sizes == [3]
        await client.release(file)


async def test_only_directories_can_be_listed(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster() as rig, rig.client() as client:
        inode = await client.mknod(ROOT, b"f", 0o100644, 0, ROOT_USER)
        with pytest.raises(FsError, match="ENOTDIR"):
            await client.open_directory(inode.ino)
