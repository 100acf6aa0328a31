"""Goal: changes of names and attributes answer as the server does, with what is dirty in order."""

from __future__ import annotations

import errno
import stat
from typing import TYPE_CHECKING

import pytest

from dfs.client.namespace_calls import CAPABILITY_XATTR
from dfs.core.namespace.ops import RENAME_EXCHANGE, RENAME_NOREPLACE, XATTR_CREATE, XATTR_REPLACE
from dfs.errors import FsError
from dfs.types import ROOT
from tests.unit.client.rig import BLOCK, ROOT_USER, USER, cluster, pattern

if TYPE_CHECKING:
    import trio.testing


async def test_every_type_of_inode(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster() as rig, rig.client() as client:
        device = await client.mknod(ROOT, b"dev", stat.S_IFCHR | 0o600, 0x123, ROOT_USER)
        assert (device.mode, device.rdev) == (stat.S_IFCHR | 0o600, 0x123)
        fifo = await client.mknod(ROOT, b"fifo", stat.S_IFIFO | 0o600, 0, ROOT_USER)
        assert stat.S_ISFIFO(fifo.mode)
        with pytest.raises(FsError) as caught:
            await client.open(fifo.ino, 0, ROOT_USER)
        assert caught.value.errno == errno.ENXIO
        link = await client.symlink(ROOT, b"link", b"to/here", ROOT_USER)
        assert await client.readlink(link.ino) == b"to/here"
        with pytest.raises(FsError, match="EINVAL"):
            await client.readlink(fifo.ino)
        directory = await client.mkdir(ROOT, b"d", 0o40755, ROOT_USER)
        assert stat.S_ISDIR(directory.mode)
        await client.rmdir(ROOT, b"d", ROOT_USER)


async def test_credentials_decide(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster() as rig, rig.client() as client:
        with pytest.raises(FsError, match="EACCES"):
            await client.mkdir(ROOT, b"d", 0o755, USER)
        inode = await client.mknod(ROOT, b"f", 0o100644, 0, ROOT_USER)
        with pytest.raises(FsError, match="EPERM"):
            await client.setattr(inode.ino, USER, mode=0o777)
        with pytest.raises(FsError, match="EACCES"):
            await client.setattr(inode.ino, USER, is_atime_now=True, is_mtime_now=True)
        with pytest.raises(FsError, match="EACCES"):
            await client.unlink(ROOT, b"f", USER)


async def test_rename_flags(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster() as rig, rig.client() as client:
        one, _ = await client.create(ROOT, b"one", 0o644, ROOT_USER)
        two, _ = await client.create(ROOT, b"two", 0o644, ROOT_USER)
        await client.write(one, 0, b"1")
        await client.write(two, 0, b"2")
        with pytest.raises(FsError, match="EEXIST"):
            await client.rename(ROOT, b"one", ROOT, b"two", RENAME_NOREPLACE, ROOT_USER)
        await client.rename(ROOT, b"one", ROOT, b"two", RENAME_EXCHANGE, ROOT_USER)
        assert client.dirty_bytes == 0
        assert (await client.lookup(ROOT, b"one")).ino == two.file.ino
        await client.write(one, 0, b"dirty")
        with pytest.raises(FsError, match="ENOENT"):
            await client.rename(ROOT, b"none", ROOT, b"x", 0, ROOT_USER)
        for handle in (one, two):
            await client.flush(handle)
            await client.release(handle)


async def test_xattrs(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster() as rig, rig.client() as client:
        handle, inode = await client.create(ROOT, b"f", 0o644, ROOT_USER)
        await client.setxattr(inode.ino, b"user.a", b"1", XATTR_CREATE, ROOT_USER)
        with pytest.raises(FsError, match="EEXIST"):
            await client.setxattr(inode.ino, b"user.a", b"2", XATTR_CREATE, ROOT_USER)
        await client.setxattr(inode.ino, b"user.a", b"2", XATTR_REPLACE, ROOT_USER)
        assert await client.getxattr(inode.ino, b"user.a") == b"2"
        assert await client.listxattr(inode.ino) == (b"user.a",)
        await client.removexattr(inode.ino, b"user.a", ROOT_USER)
        with pytest.raises(FsError, match="ENODATA"):
            await client.getxattr(inode.ino, b"user.a")
        await client.release(handle)


async def test_the_kernels_question_before_every_write_takes_no_message(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster() as rig, rig.client() as client:
        handle, inode = await client.create(ROOT, b"f", 0o644, ROOT_USER)
        with pytest.raises(FsError, match="ENODATA"):
            await client.getxattr(inode.ino, CAPABILITY_XATTR)
        assert client.meta.calls_sent["GetXattr"] == 0
        await client.write(handle, 0, b"x")
        await client.setxattr(inode.ino, CAPABILITY_XATTR, b"\1\0\0\2" + bytes(16), 0, ROOT_USER)
        await client.flush(handle)
        assert len(await client.getxattr(inode.ino, CAPABILITY_XATTR)) == 20
        await client.release(handle)


async def test_attributes_that_are_set_after_a_write_outlive_its_commit(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Goal: tar sets times and mode of a file whose data is not committed yet, and nobody waits for
    that. Method: look at once, when it is committed, and after another write."""
    async with cluster() as rig, rig.client() as client, rig.client() as other:
        await client.mkdir(ROOT, b"d", 0o755, ROOT_USER)
        handle, inode = await client.create(ROOT, b"f", 0o644, ROOT_USER)
        await client.write(handle, 0, pattern(2 * BLOCK))
        puts = client.chunk_calls_sent["PutBlock"]
        await client.setattr(inode.ino, ROOT_USER, mtime_ns=5, mode=0o4755)
        assert client.dirty_bytes >= 2 * BLOCK
        assert client.chunk_calls_sent["PutBlock"] == puts
        for looker in (client, other):
            seen = await looker.getattr(inode.ino)
            assert (seen.size, seen.mtime_ns, seen.mode) == (2 * BLOCK, 5, stat.S_IFREG | 0o4755)
        assert client.dirty_bytes == 0, "the other one looked"
        await client.write(handle, 0, b"x")
        await client.fsync(handle)
        assert (await other.getattr(inode.ino)).mtime_ns > 5
        await client.release(handle)


async def test_a_write_that_takes_set_uid_away_comes_before_a_chmod(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster() as rig, rig.client() as client:
        handle, inode = await client.create(ROOT, b"f", 0o644, ROOT_USER)
        await client.setattr(inode.ino, ROOT_USER, mode=0o4777)
        await client.write(handle, 0, b"x", USER)
        await client.setattr(inode.ino, ROOT_USER, mtime_ns=5)
        seen = await client.getattr(inode.ino)
        assert (seen.mtime_ns, stat.S_IMODE(seen.mode)) == (5, 0o777)
        await client.write(handle, 0, b"y", USER)
        await client.setattr(inode.ino, ROOT_USER, mode=0o4777)
        await client.write(handle, 0, b"z", ROOT_USER)
        await client.fsync(handle)
        seen = await client.getattr(inode.ino)
        assert stat.S_IMODE(seen.mode) == 0o4777, "only the last write is newer"
        await client.release(handle)
