"""Goal: paths mean what path_resolution(7) says. Method: a small tree, through every call."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

import pytest

from dfs.client.files import Files
from dfs.errors import FsError
from dfs.limits import PATH_BYTES_MAX
from dfs.types import Credentials
from tests.unit.client.rig import cluster

if TYPE_CHECKING:
    import trio.testing


async def fails(number: int, awaitable: object) -> None:
    with pytest.raises(FsError) as caught:
        await awaitable  # type: ignore[misc]
    assert caught.value.errno == number


async def test_a_program_reads_and_writes_by_path(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster() as rig, rig.client() as client:
        files = Files(client)
        await files.makedirs("/a/b/c")
        await files.makedirs("/a/b")
        await files.write_bytes("/a/b/f", b"one")
        await files.write_bytes(b"/a/b/f", b"two")
        assert await files.read_bytes("/a//b/./../b/f") == b"two"
        async with files.open("/a/b/f", os.O_RDWR | os.O_APPEND) as file:
            await file.write(0, b" and more")
            await file.fsync()
            assert await file.read(4, 100) == b"and more"
            await file.truncate(5)
        assert (await files.stat("/a/b/f")).size == 5
        await files.truncate("/a/b/f", 3)
        assert await files.read_bytes("/a/b/f") == b"two"
        assert await files.listdir("/a/b") == [b"c", b"f"]
        assert await files.exists("/a/b/c")
        assert not await files.exists("/a/b/f/g")
        await files.rename("/a/b/f", "/g")
        await files.link("/g", "/h")
        assert (await files.stat("/h")).nlink == 2
        await files.unlink("/g")
        await files.rmdir("/a/b/c")
        await files.chmod("/h", 0o600)
        await files.chown("/h", 7, 8)
        await files.utime("/h", atime_ns=1, mtime_ns=2)
        inode = await files.stat("/h")
        assert stat.S_IMODE(inode.mode) == 0o600
        assert (inode.uid, inode.gid, inode.atime_ns, inode.mtime_ns) == (7, 8, 1, 2)


async def test_symlinks_are_followed(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster() as rig, rig.client() as client:
        files = Files(client)
        await files.makedirs("/d/e")
        await files.write_bytes("/d/e/f", b"x")
        await files.symlink("e/../e", "/d/rel")
        await files.symlink("/d", "/abs")
        await files.symlink("loop", "/loop")
        assert await files.read_bytes("/abs/rel/f") == b"x"
        assert (await files.stat("/abs")).is_directory
        assert (await files.stat("/abs", follow=False)).is_symlink
        assert await files.readlink("/d/rel") == b"e/../e"
        await fails(errno.ELOOP, files.stat("/loop"))
        await fails(errno.EINVAL, files.readlink("/d"))


async def test_wrong_paths(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster() as rig, rig.client() as client:
        files = Files(client, Credentials(1000, 1000))
        await fails(errno.EINVAL, files.stat("relative"))
        await fails(errno.ENOENT, files.stat(""))
        await fails(errno.ENAMETOOLONG, files.stat("/" + "x/" * PATH_BYTES_MAX))
        await fails(errno.EBUSY, files.rmdir("/"))
        await fails(errno.EACCES, files.mkdir("/not-allowed"))
        root = Files(client)
        await root.write_bytes("/f", b"")
        await fails(errno.ENOTDIR, root.stat("/f/x"))
        await fails(errno.ENOTDIR, root.mkdir("/f/x"))
        await fails(errno.EEXIST, root.mkdir("/f"))
        with pytest.raises(FsError) as caught:
            async with root.open("/f", os.O_CREAT | os.O_EXCL):
                raise AssertionError("it exists")
        assert caught.value.errno == errno.EEXIST
