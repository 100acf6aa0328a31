"""Files by absolute path, for Python programs: what `open`, `os` and `shutil` users expect.

Paths are bytes or str, resolved here as path_resolution(7) says, symlinks included. Nobody checks
permissions of opening and searching on the way: the program acts with its credentials' rights to
change, and reads what it likes.
"""

from __future__ import annotations

import errno
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from dfs.errors import FsError
from dfs.limits import MIB, PATH_BYTES_MAX
from dfs.types import ROOT, Credentials

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dfs.client.client import Client
    from dfs.client.handles import FileHandle
    from dfs.core.namespace.records import Inode
    from dfs.types import InodeId

Path = bytes | str

SYMLINKS_FOLLOWED_MAX: Final = 40
_READ_BYTES: Final = 4 * MIB


class OpenedFile:
    """An open file with positional reads and writes."""

    def __init__(self, client: Client, handle: FileHandle) -> None:
        self._client = client
        self.handle = handle

    async def read(self, offset: int, length: int) -> bytes:
        """Bytes from `offset` as they are now, fewer at the end."""
        await self._client.getattr(self.handle.file.ino)
        return await self._client.read(self.handle, offset, length)

    async def write(self, offset: int, data: bytes) -> int:
        """Write all of it; others see it after `fsync` or the end of the block."""
        return await self._client.write(self.handle, offset, data)

    async def truncate(self, size: int) -> None:
        await self._client.setattr(
            self.handle.file.ino, self.handle.credentials, size=size, has_handle=True
        )

    async def fsync(self) -> None:
        """What was written is durable (I3)."""
        await self._client.fsync(self.handle)


class Files:
    """The volume by path, on behalf of one user (root unless told otherwise)."""

    def __init__(self, client: Client, credentials: Credentials | None = None) -> None:
        self._client = client
        self._who = credentials or Credentials(0, 0)

    # ------------------------------------------------------------ paths

    async def stat(self, path: Path, *, follow: bool = True) -> Inode:
        """The inode a path leads to; with `follow` off, a final symlink itself."""
        return await self._walk(_components(path), follow=follow)

    async def exists(self, path: Path) -> bool:
        try:
            await self.stat(path)
        except FsError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return False
            raise
        return True

    async def _walk(self, names: list[bytes], *, follow: bool) -> Inode:
        inode, followed = await self._client.getattr(ROOT), 0
        names = names[::-1]
        while names:
            name = names.pop()
            if not inode.is_directory:
                raise FsError(errno.ENOTDIR)
            if name == b"..":
                inode = await self._client.getattr(inode.parent)
                continue
            found = await self._client.lookup(inode.ino, name)
            if not found.is_symlink or not (names or follow):
                inode = found
                continue
            followed += 1
            if followed > SYMLINKS_FOLLOWED_MAX:
                raise FsError(errno.ELOOP)
            names += _components(found.target, is_absolute=False)[::-1]
            if found.target.startswith(b"/"):
                inode = await self._client.getattr(ROOT)
        return inode

    async def _parent_of(self, path: Path) -> tuple[InodeId, bytes]:
        """The directory that holds, or is to hold, the last name of a path, and that name."""
        names = _components(path)
        if not names or names[-1] == b"..":
            raise FsError(errno.EBUSY if not names else errno.EEXIST)
        parent = await self._walk(names[:-1], follow=True)
        if not parent.is_directory:
            raise FsError(errno.ENOTDIR)
        return parent.ino, names[-1]

    # ------------------------------------------------------------ files

    @asynccontextmanager
    async def open(
        self, path: Path, flags: int = os.O_RDONLY, mode: int = 0o644
    ) -> AsyncIterator[OpenedFile]:
        """The open file; O_CREAT, O_EXCL, O_TRUNC, O_APPEND and O_SYNC mean what open(2) says. At
        the end of the block it is durable."""
        handle = await self._open(path, flags, mode)
        try:
            yield OpenedFile(self._client, handle)
            await self._client.fsync(handle)
        finally:
            await self._client.release(handle)

    async def _open(self, path: Path, flags: int, mode: int) -> FileHandle:
        if flags & os.O_CREAT:
            try:
                inode = await self.stat(path, follow=not flags & os.O_EXCL)
            except FsError as error:
                if error.errno != errno.ENOENT:
                    raise
                parent, name = await self._parent_of(path)
                handle, _ = await self._client.create(parent, name, mode, self._who, flags=flags)
                return handle
            if flags & os.O_EXCL:
                raise FsError(errno.EEXIST)
        else:
            inode = await self.stat(path)
        return await self._client.open(inode.ino, flags, self._who)

    async def read_bytes(self, path: Path) -> bytes:
        """The whole content."""
        parts = []
        async with self.open(path) as file:
            offset = 0
            while part := await file.read(offset, _READ_BYTES):
                parts.append(part)
                offset += len(part)
        return b"".join(parts)

    async def write_bytes(self, path: Path, data: bytes, mode: int = 0o644) -> None:
        """Make `data` the whole content; durable when it returns (I3)."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        async with self.open(path, flags, mode) as file:
            await file.write(0, data)

    async def truncate(self, path: Path, size: int) -> None:
        inode = await self.stat(path)
        await self._client.setattr(inode.ino, self._who, size=size)

    # ------------------------------------------------------------ the namespace

    async def listdir(self, path: Path) -> list[bytes]:
        """The names in a directory, in the order in which the volume keeps them."""
        return [name for name, _ in await self.scandir(path)]

    async def scandir(self, path: Path) -> list[tuple[bytes, Inode]]:
        """The names in a directory with their inodes."""
        inode = await self.stat(path)
        handle = await self._client.open_directory(inode.ino)
        entries = [(name, entry) async for name, entry, _ in self._client.read_directory(handle, 0)]
        await self._client.release_directory(handle)
        return entries

    async def mkdir(self, path: Path, mode: int = 0o755) -> Inode:
        parent, name = await self._parent_of(path)
        return await self._client.mkdir(parent, name, mode, self._who)

    async def makedirs(self, path: Path, mode: int = 0o755) -> None:
        """Make a directory and those above it that are missing."""
        names = _components(path)
        for depth in range(1, len(names) + 1):
            above = b"/" + b"/".join(names[:depth])
            if not await self.exists(above):
                await self.mkdir(above, mode)

    async def symlink(self, target: Path, path: Path) -> Inode:
        parent, name = await self._parent_of(path)
        return await self._client.symlink(parent, name, os.fsencode(target), self._who)

    async def readlink(self, path: Path) -> bytes:
        inode = await self.stat(path, follow=False)
        return await self._client.readlink(inode.ino)

    async def link(self, path: Path, new_path: Path) -> Inode:
        inode = await self.stat(path, follow=False)
        parent, name = await self._parent_of(new_path)
        return await self._client.link(inode.ino, parent, name, self._who)

    async def unlink(self, path: Path) -> None:
        parent, name = await self._parent_of(path)
        await self._client.unlink(parent, name, self._who)

    async def rmdir(self, path: Path) -> None:
        parent, name = await self._parent_of(path)
        await self._client.rmdir(parent, name, self._who)

    async def rename(self, path: Path, new_path: Path, flags: int = 0) -> None:
        parent, name = await self._parent_of(path)
        new_parent, new_name = await self._parent_of(new_path)
        await self._client.rename(parent, name, new_parent, new_name, flags, self._who)

    async def chmod(self, path: Path, mode: int) -> None:
        inode = await self.stat(path)
        await self._client.setattr(inode.ino, self._who, mode=mode)

    async def chown(self, path: Path, uid: int, gid: int) -> None:
        inode = await self.stat(path)
        await self._client.setattr(inode.ino, self._who, uid=uid, gid=gid)

    async def utime(self, path: Path, *, atime_ns: int, mtime_ns: int) -> None:
        inode = await self.stat(path)
        await self._client.setattr(inode.ino, self._who, atime_ns=atime_ns, mtime_ns=mtime_ns)


def _components(path: Path, *, is_absolute: bool = True) -> list[bytes]:
    """The names in a path. Raises FsError: ENOENT (empty), EINVAL (relative), ENAMETOOLONG."""
    encoded = os.fsencode(path)
    if not encoded:
        raise FsError(errno.ENOENT, "an empty path")
    if len(encoded) > PATH_BYTES_MAX:
        raise FsError(errno.ENAMETOOLONG)
    if is_absolute and not encoded.startswith(b"/"):
        raise FsError(errno.EINVAL, f"{path!r} is not an absolute path")
    return [name for name in encoded.split(b"/") if name not in (b"", b".")]
