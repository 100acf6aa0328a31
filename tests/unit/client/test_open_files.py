"""Goal: of two records of a file the newer one counts, and one hold serves all handles."""

from __future__ import annotations

import os
from types import SimpleNamespace

import msgspec
import pytest
import trio
import trio.testing

from dfs.client.open_files import OpenFile, OpenFiles
from dfs.core.namespace.ops import Piece
from dfs.core.namespace.records import Inode
from dfs.errors import FsError
from dfs.types import ROOT, InodeId
from tests.unit.client.rig import BLOCK, ROOT_USER, cluster


def record(version: int, size: int) -> Inode:
    return Inode(
        ino=InodeId(9),
        mode=0o100644,
        uid=0,
        gid=0,
        rdev=0,
        nlink=1,
        size=size,
        atime_ns=0,
        mtime_ns=version,
        ctime_ns=version,
        btime_ns=0,
        parent=InodeId(0),
        data_version=version,
    )


def test_an_overtaken_answer_hides_nothing() -> None:
    file = OpenFile(InodeId(9), BLOCK)
    file.note_extents(record(3, 10), 0, 100, ())
    file.note_commit(record(4, 20), [Piece(10, 10)])
    assert not file.note(record(3, 10))
    assert file.size == 20
    file.note_extents(record(3, 10), 0, 100, ())
    assert file.extents.data_version == 4
    assert file.extents.unknown(0, 20) == []


@pytest.mark.parametrize(("version", "unknown"), [(0, []), (1, [(0, 100)])])
def test_of_a_new_file_that_others_have_written_nothing_is_known(
    version: int, unknown: list[tuple[int, int]]
) -> None:
    """Goal: the answer to a create may come late, with the file as it is then. Seed: fights 5."""
    files = OpenFiles()
    ops = SimpleNamespace(is_released=lambda _: False)
    settings = SimpleNamespace(block_bytes=BLOCK)
    files.attach(SimpleNamespace(ops=ops, settings=settings))  # type: ignore[arg-type]
    file = files.adopt(record(version, 10 * version), is_leased=True)
    assert file.extents.unknown(0, 100) == unknown
    assert file.size == 10 * version


def test_attributes_show_what_is_dirty() -> None:
    file = OpenFile(InodeId(9), BLOCK)
    file.note(record(3, 10))
    assert file.attributes is file.record
    file.dirty.write(100, b"x")
    file.last_write_ns = 77
    shown = file.attributes
    assert (shown.size, shown.mtime_ns, shown.ctime_ns) == (101, 77, 77)
    assert msgspec.structs.replace(shown, size=10, mtime_ns=3, ctime_ns=3) == record(3, 10)


async def test_one_hold_for_all_handles(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster() as rig, rig.client() as client, rig.client() as other:
        inode = await client.mknod(ROOT, b"f", 0o100644, 0, ROOT_USER)
        handles = []

        async def open_it() -> None:
            handles.append(await client.open(inode.ino, os.O_RDWR, ROOT_USER))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(open_it)
        assert client.meta.calls_sent["Open"] == 0, "it is leased"
        for handle in handles[1:]:
            await client.release(handle)
        await other.unlink(ROOT, b"f", ROOT_USER)
        await trio.sleep(5)
        assert (await client.getattr(inode.ino)).nlink == 0
        await client.release(handles[0])
        await trio.sleep(5)
        with pytest.raises(FsError, match="ESTALE"):
            await client.getattr(inode.ino)


async def test_opening_what_is_gone_leaves_nothing_behind(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster() as rig, rig.client() as client:
        inode = await client.mknod(ROOT, b"f", 0o100644, 0, ROOT_USER)
        await client.unlink(ROOT, b"f", ROOT_USER)
        await trio.sleep(5)
        for _ in range(2):
            with pytest.raises(FsError, match="ESTALE"):
                await client.open(inode.ino, os.O_RDONLY, ROOT_USER)
        await trio.sleep(5)
        assert client.meta.calls_sent["Release"] == 0
