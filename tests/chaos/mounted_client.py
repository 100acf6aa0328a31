"""The client that workloads talk to, as system calls on a kernel mount.

It has the methods of `dfs.client.client.Client` that the workloads of the simulation use, so these
run unchanged. Each call runs in a thread. What the kernel answers becomes an FsError; when the
process behind the mount is dead, or the mount's session is not the one that this client began with,
the client is lost: its worker goes on through the next one, as it does in the simulation.

What a kernel cannot pass on: syncfs(2) does not reach a FUSE daemon, so `sync` syncs every file
that this client has open. A listing tells numbers and types of files, and everything of the rest.
"""

from __future__ import annotations

import errno
import os
import stat
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import trio

from dfs.errors import FsError
from tests.chaos.inodes import close_quietly, entries_of, inode_of, look
from tests.chaos.system_calls import (
    inode_descriptor,
    inode_path,
    link_descriptor,
    open_inode,
    rename,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from dfs.core.namespace.records import Inode
    from dfs.types import Credentials, InodeId
    from tests.chaos.mount import Mount

R = TypeVar("R")
CALLS_AT_ONCE_MAX = 64
DEAD_MOUNT = (errno.ENOTCONN, errno.ECONNABORTED)
RENAME_TRIES = 3
ALIAS_DROP_S = 0.1


class ClientLost(Exception):
    """The mount under this client is dead, or its session is over."""


class MountedFile:
    """An open file."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.is_open = True


class MountedClient:
    """One worker's view of one life of a mount. `lives_on`: the worker knows what to do when its
    session was lost; else the client is lost with it."""

    def __init__(self, mount: Mount, root: int, *, lives_on: bool) -> None:
        self._mount = mount
        self._life = mount.life
        self._root = root
        self._lives_on = lives_on
        self._first_session_id = mount.session_id
        self._files: list[MountedFile] = []
        self._limiter = trio.CapacityLimiter(CALLS_AT_ONCE_MAX)

    @property
    def session_id(self) -> int:
        return self._mount.session_id

    async def _call(self, call: Callable[[], R]) -> R:
        """Do it in a thread. Raises FsError, or ClientLost whatever came of it."""
        try:
            result = await trio.to_thread.run_sync(
                call, abandon_on_cancel=True, limiter=self._limiter
            )
        except OSError as error:
            self._check_lost(error)
            raise FsError(error.errno or errno.EIO) from error
        if not self._lives_on:
            self._check_lost(None)
        return result

    def _check_lost(self, error: OSError | None) -> None:
        is_dead = not self._mount.serves(self._life)
        if is_dead or (error is not None and error.errno in DEAD_MOUNT):
            raise ClientLost(f"{self._mount.name} is dead") from error
        if not self._lives_on and self._mount.session_id != self._first_session_id:
            raise ClientLost(f"{self._mount.name} lost its session") from error

    async def close(self) -> None:
        """Let everything go, whatever is left of the mount."""
        files, self._files = self._files, []
        for file in files:
            file.is_open = False
            await trio.to_thread.run_sync(partial(close_quietly, file.descriptor))

    # ------------------------------------------------------------ attributes

    async def getattr(self, ino: InodeId) -> Inode:
        return await self._call(partial(look, self._root, ino))

    async def lookup(self, parent: InodeId, name: bytes) -> Inode:
        def find() -> Inode:
            with inode_descriptor(self._root, parent) as directory:
                return inode_of(os.stat(name, dir_fd=directory, follow_symlinks=False))

        return await self._call(find)

    async def setattr(
        self, ino: InodeId, _who: Credentials, *, mode: int | None = None, size: int | None = None
    ) -> None:
        def change() -> None:
            with inode_path(self._root, ino) as path:
                if mode is not None:
                    os.chmod(path, mode)
                if size is not None:
                    os.truncate(path, size)

        await self._call(change)

    async def listxattr(self, ino: InodeId) -> list[bytes]:
        def names() -> list[bytes]:
            with inode_path(self._root, ino) as path:
                return [os.fsencode(name) for name in os.listxattr(path)]

        return await self._call(names)

    async def getxattr(self, ino: InodeId, name: bytes) -> bytes:
        def value() -> bytes:
            with inode_path(self._root, ino) as path:
                return os.getxattr(path, name)

        return await self._call(value)

    async def setxattr(
        self, ino: InodeId, name: bytes, value: bytes, flags: int, _who: Credentials
    ) -> None:
        def put() -> None:
            with inode_path(self._root, ino) as path:
                os.setxattr(path, name, value, flags)

        await self._call(put)

    async def removexattr(self, ino: InodeId, name: bytes, _who: Credentials) -> None:
        def remove() -> None:
            with inode_path(self._root, ino) as path:
                os.removexattr(path, name)

        await self._call(remove)

    async def statfs(self) -> None:
        await self._call(partial(os.fstatvfs, self._root))

    # ------------------------------------------------------------ names

    async def mkdir(self, parent: InodeId, name: bytes, mode: int, _who: Credentials) -> Inode:
        return await self._make(parent, name, partial(os.mkdir, name, mode))

    async def symlink(
        self, parent: InodeId, name: bytes, target: bytes, _who: Credentials
    ) -> Inode:
        return await self._make(parent, name, partial(os.symlink, target, name))

    async def _make(self, parent: InodeId, name: bytes, make: Callable[..., None]) -> Inode:
        def make_and_look(directory: int) -> Inode:
            make(dir_fd=directory)
            return inode_of(os.stat(name, dir_fd=directory, follow_symlinks=False))

        return await self._in_directory(parent, make_and_look)

    async def link(
        self, ino: InodeId, parent: InodeId, name: bytes, _who: Credentials
    ) -> Inode | None:
        """The kernel refuses a link to what it believes to be gone, so it is made to look first."""

        def make(directory: int) -> None:
            with inode_descriptor(self._root, ino) as source:
                os.fstat(source)
                link_descriptor(source, directory, name)

        await self._in_directory(parent, make)
        return None

    async def unlink(self, parent: InodeId, name: bytes, _who: Credentials) -> None:
        await self._in_directory(parent, lambda directory: os.unlink(name, dir_fd=directory))

    async def rmdir(self, parent: InodeId, name: bytes, _who: Credentials) -> None:
        await self._in_directory(parent, lambda directory: os.rmdir(name, dir_fd=directory))

    async def rename(
        self,
        parent: InodeId,
        name: bytes,
        new_parent: InodeId,
        new_name: bytes,
        flags: int,
        _who: Credentials,
    ) -> None:
        def move(directory: int) -> None:
            with inode_descriptor(self._root, new_parent) as new_directory:
                rename((directory, name), (new_directory, new_name), flags)

        for tries_left in reversed(range(RENAME_TRIES)):
            try:
                await self._in_directory(parent, move)
                return
            except FsError as error:
                # The kernel says so before it asks the mount, of a directory that another mount
                # has moved and whose old name it has not dropped yet (MovedDirectories).
                if error.errno != errno.ESTALE or not tries_left:
                    raise
            await trio.sleep(ALIAS_DROP_S)

    async def _in_directory(self, parent: InodeId, call: Callable[[int], R]) -> R:
        def enter() -> R:
            with inode_descriptor(self._root, parent) as directory:
                return call(directory)

        return await self._call(enter)

    # ------------------------------------------------------------ open files

    async def create(
        self, parent: InodeId, name: bytes, mode: int, _who: Credentials, *, flags: int
    ) -> tuple[MountedFile, Inode]:
        def make(directory: int) -> tuple[int, Inode]:
            descriptor = os.open(name, flags, stat.S_IMODE(mode), dir_fd=directory)
            return descriptor, inode_of(os.fstat(descriptor))

        descriptor, inode = await self._in_directory(parent, make)
        return self._opened(descriptor), inode

    async def open(self, ino: InodeId, flags: int, _who: Credentials) -> MountedFile:
        return self._opened(await self._call(partial(open_inode, self._root, ino, flags)))

    def _opened(self, descriptor: int) -> MountedFile:
        file = MountedFile(descriptor)
        self._files.append(file)
        return file

    async def read(self, file: MountedFile, offset: int, length: int) -> bytes:
        assert file.is_open
        return await self._call(partial(os.pread, file.descriptor, length, offset))

    async def write(self, file: MountedFile, offset: int, data: bytes) -> int:
        assert file.is_open
        written = 0
        while written < len(data):
            # Of a write that fails in the middle the kernel tells how much was written before.
            rest = data[written:]
            write = partial(os.pwrite, file.descriptor, rest, offset + written)
            written += await self._call(write)
        return written

    async def fsync(self, file: MountedFile) -> None:
        assert file.is_open
        await self._call(partial(os.fsync, file.descriptor))

    async def flush(self, file: MountedFile) -> None:
        """What close(2) does for a descriptor that has a twin."""
        assert file.is_open
        await self._call(lambda: os.close(os.dup(file.descriptor)))

    async def sync(self) -> None:
        for file in list(self._files):
            await self.fsync(file)

    async def release(self, file: MountedFile) -> None:
        """close(2). What it says is of no use: flush has been asked before."""
        if not file.is_open:
            return
        file.is_open = False
        self._files.remove(file)
        await self._call(partial(close_quietly, file.descriptor))

    # ------------------------------------------------------------ open directories

    async def open_directory(self, ino: InodeId) -> MountedFile:
        flags = os.O_RDONLY | os.O_DIRECTORY
        return self._opened(await self._call(partial(open_inode, self._root, ino, flags)))

    async def read_directory(
        self, directory: MountedFile, _cookie: int
    ) -> AsyncIterator[tuple[bytes, Inode, int]]:
        for name, inode in await self._call(partial(entries_of, directory.descriptor)):
            whole = inode if inode.is_file else await self.getattr(inode.ino)
            yield name, whole, 0

    async def release_directory(self, directory: MountedFile) -> None:
        await self.release(directory)
