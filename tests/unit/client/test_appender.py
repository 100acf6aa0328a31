"""Goal: clients that append to one file side by side lose nothing, and one alone asks nobody (I4).
Method: whole clients that have the file open all the time."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import trio

from dfs.errors import FsError
from dfs.limits import FILE_BYTES_MAX
from dfs.types import ROOT
from tests.unit.client.rig import BLOCK, ROOT_USER, cluster

if TYPE_CHECKING:
    from dfs.client.client import Client
    from dfs.client.handles import FileHandle

pytestmark = pytest.mark.usefixtures("autojump_clock")

FLAGS = os.O_RDWR | os.O_APPEND
COUNT = 20


async def open_log(client: Client) -> FileHandle:
    inode = await client.lookup(ROOT, b"log")
    return await client.open(inode.ino, FLAGS, ROOT_USER)


async def append_records(client: Client, handle: FileHandle, letter: bytes, length: int) -> None:
    for number in range(COUNT):
        await client.write(handle, 0, b"%s%04d" % (letter * (length - 5), number) + b"\n")
        await trio.sleep(0.001)


@pytest.mark.parametrize("length", [20, 1000, BLOCK + 5000])
@pytest.mark.parametrize("is_synchronous", [False, True])
async def test_clients_that_append_at_once_overwrite_nothing(
    length: int, is_synchronous: bool
) -> None:
    settings = {"is_synchronous": is_synchronous}
    async with cluster() as rig, rig.client(**settings) as one, rig.client(**settings) as two:
        handle, _ = await one.create(ROOT, b"log", 0o644, ROOT_USER, flags=FLAGS)
        handles = {b"a": (one, handle), b"b": (two, await open_log(two))}
        async with trio.open_nursery() as nursery:
            for letter, (client, opened) in handles.items():
                nursery.start_soon(append_records, client, opened, letter, length)
        for client, opened in handles.values():
            await client.release(opened)
        async with rig.client() as other:
            inode = await other.lookup(ROOT, b"log")
            handle = await other.open(inode.ino, os.O_RDONLY, ROOT_USER)
            lines = bytes(await other.read(handle, 0, inode.size)).splitlines()
            for letter in handles:
                mine = [line for line in lines if line.startswith(letter)]
                assert mine == [b"%s%04d" % (letter * (length - 5), n) for n in range(COUNT)]
            assert len(lines) == 2 * COUNT
            await other.release(handle)


async def test_who_is_alone_appends_without_a_word() -> None:
    async with cluster() as rig, rig.client() as client:
        handle, _ = await client.create(ROOT, b"log", 0o644, ROOT_USER, flags=FLAGS)
        await client.write(handle, 0, bytes(5000))
        await client.sync()
        sent = client.meta.calls_sent
        for _ in range(50):
            await client.write(handle, 0, b"x" * 100)
        assert client.meta.calls_sent == sent
        await client.fsync(handle)
        assert (await client.getattr(handle.inode.ino)).size == 10_000
        await client.release(handle)


async def test_the_first_append_to_a_file_of_others_makes_it_ones_own() -> None:
    async with cluster() as rig:
        async with rig.client() as maker:
            handle, _ = await maker.create(ROOT, b"log", 0o644, ROOT_USER)
            await maker.write(handle, 0, b"0" * 5000)
            await maker.release(handle)
        async with rig.client() as client:
            handle = await open_log(client)
            await client.write(handle, 0, b"1")
            assert client.meta.records.is_exclusive(handle.inode.ino)
            sent = client.meta.calls_sent["ApplyOps"]
            for _ in range(10):
                await client.write(handle, 0, b"2")
            assert client.meta.calls_sent["ApplyOps"] == sent
            assert bytes(await client.read(handle, 4999, 99)) == b"01" + b"2" * 10
            await client.release(handle)


@pytest.mark.parametrize("is_alone", [False, True])
async def test_no_append_makes_a_file_too_large(is_alone: bool) -> None:
    async with cluster() as rig, rig.client() as client, rig.client() as other:
        handle, inode = await client.create(ROOT, b"log", 0o644, ROOT_USER, flags=FLAGS)
        await client.setattr(inode.ino, ROOT_USER, size=FILE_BYTES_MAX - 1)
        if not is_alone:
            await other.lookup(ROOT, b"log")
        assert client.meta.records.is_exclusive(inode.ino) == is_alone
        with pytest.raises(FsError, match="EFBIG"):
            await client.write(handle, 0, b"xx")
        await client.write(handle, 0, b"x")
        assert (await client.getattr(inode.ino)).size == FILE_BYTES_MAX
        await client.release(handle)
