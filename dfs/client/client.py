"""The filesystem as a client sees it, by inode: what a mount, a test and a Python program call.

Permissions to open, search and list are the caller's to check (a kernel does, with
default_permissions); changes of the namespace carry credentials and are checked where they happen.
Errors: FsError is the right answer to a wrong request; every other DfsError has `errno` (EIO) and a
message that names the cause.

Lookups and getattrs are answered from memory as far as that is leased. What this client has
written and not committed is laid over each answer.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from contextlib import asynccontextmanager
from copy import copy
from typing import TYPE_CHECKING, Final

import trio

from dfs.client.appender import Appender
from dfs.client.block_cache import BlockCache
from dfs.client.chunk_links import ChunkLinks
from dfs.client.directory import DirectoryHandle, Listing
from dfs.client.fetcher import Fetcher
from dfs.client.flusher import Flusher
from dfs.client.handles import FileHandle
from dfs.client.namespace_calls import PERMISSION_BITS, NamespaceCalls
from dfs.client.open_files import OpenFiles
from dfs.client.reader import Reader
from dfs.client.session import MetaSession
from dfs.client.statistics import (
    AnswerCounts,
    BlockCacheFigures,
    ClientStatistics,
    LeaseFigures,
    OpFigures,
    call_figures,
)
from dfs.client.uploader import Uploader
from dfs.config import ClientConfig
from dfs.core.messages import StatFs, StatFsReply
from dfs.core.namespace.ops import Create
from dfs.errors import DfsError, FsError
from dfs.limits import FILE_BYTES_MAX, MIB

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence

    from dfs.client.open_files import OpenFile
    from dfs.core.namespace.records import Inode
    from dfs.environment import Environment
    from dfs.types import ClusterMap, Credentials, InodeId, SessionId, VolumeSettings

logger = logging.getLogger(__name__)

_STEP_BYTES: Final = 1 * MIB
"""Longer reads and writes are done in steps."""


class Client(NamespaceCalls):
    """One client of one cluster; made by `open_client`."""

    def __init__(
        self, environment: Environment, addresses: Sequence[str], config: ClientConfig
    ) -> None:
        self._environment = environment
        self._files = OpenFiles()
        self.meta = MetaSession(
            environment,
            addresses,
            config,
            held=self._files.held,
            on_lost=self._lose_session,
            on_unclaimed=self._files.drop_unclaimed,
        )
        self._files.attach(self.meta)
        self.meta.records.on_lost = self._files.lose_lease
        self._cache = BlockCache(config.block_cache_bytes_max)
        self._links = ChunkLinks(environment)
        self._fetcher = Fetcher(environment, self.meta, self._links, self._cache, config)
        self._reader = Reader(self.meta, self._fetcher)
        uploader = Uploader(environment, self.meta, self._links, config)
        self._flusher = Flusher(environment, self.meta, uploader, self._files, self._cache, config)
        self._appender = Appender(environment, self.meta, uploader, self._flusher)
        self._answers = AnswerCounts()
        self.meta.leases.commit_data = self._flusher.commit_data
        self.meta.ops.keep_promises = self._flusher.keep_promises
        self.meta.ops.extents_of = self._files.extents_of

    async def start(self, nursery: trio.Nursery) -> None:
        """Open the session and start what runs in the background. Raises why that failed."""
        await nursery.start(self.meta.run)
        await nursery.start(self._links.run)
        await nursery.start(self._fetcher.run)
        await nursery.start(self._flusher.run)

    async def close(self) -> None:
        """Make everything durable and leave the cluster. What cannot be flushed is logged."""
        try:
            await self.sync()
        except DfsError as error:
            logger.error("%d dirty bytes are lost: %s", self._flusher.dirty_bytes, error)
        await self.meta.close()

    def _lose_session(self, reason: str) -> None:
        self._flusher.lose_all(reason)
        self._files.doubt_all()

    # ------------------------------------------------------------ what a caller may look at

    @property
    def cluster_map(self) -> ClusterMap:
        return self.meta.cluster_map

    @property
    def settings(self) -> VolumeSettings:
        return self.meta.settings

    @property
    def session_id(self) -> SessionId:
        return self.meta.session_id

    @property
    def chunk_calls_sent(self) -> Counter[str]:
        """Requests to chunk servers so far, by the name of their class."""
        return self._links.calls_sent

    @property
    def dirty_bytes(self) -> int:
        """Memory that dirty data takes now."""
        return self._flusher.dirty_bytes

    @property
    def loss_count(self) -> int:
        """How often something was lost that was written: whoever keeps a copy may be wrong."""
        return self._flusher.loss_count + self.meta.ops.lost_count

    def statistics(self) -> ClientStatistics:
        """What it has done and has now; 2 ms of work at most, with very many leases."""
        return ClientStatistics(
            answers=copy(self._answers),
            leases=LeaseFigures.of(self.meta.records),
            ops=OpFigures.of(self.meta.ops),
            block_cache=BlockCacheFigures.of(self._cache),
            dirty_bytes=self._flusher.dirty_bytes,
            promised_count=self._flusher.promised_count,
            meta_calls=call_figures(self.meta.call_counts),
            chunk_calls=call_figures(self._links.call_counts),
        )

    # ------------------------------------------------------------ leases

    def attributes_good_s(self, ino: InodeId) -> float:
        """For how many seconds the caller may remember what it was just told of an inode; 0: not
        at all. Holds only for what is done with it before the next await."""
        file = self._files.get(ino)
        if file is not None and not file.dirty.is_clean:
            return 0
        return self.meta.records.inode_good_s(ino)

    def name_good_s(self, parent: InodeId, name: bytes, ino: InodeId) -> float:
        """The same for the name leading to this inode, or to NOTHING."""
        return self.meta.records.entry_good_s(parent, name, ino)

    def tell_when_forgotten(
        self, forget: Callable[[Collection[InodeId] | None], Awaitable[None]]
    ) -> None:
        """Whoever remembers anything has it forgotten by `forget`: these inodes with all names in
        them, or everything (None). Nobody else may change it before that returns."""
        self.meta.leases.forget_elsewhere = forget

    # ------------------------------------------------------------ open files

    async def create(
        self,
        parent: InodeId,
        name: bytes,
        mode: int,
        credentials: Credentials,
        *,
        flags: int = os.O_RDWR,
    ) -> tuple[FileHandle, Inode]:
        """Create a file and open it (open(2) with O_CREAT); without O_EXCL it may exist already.

        The caller has checked that it may open an existing file.
        """
        ino = await self.meta.take_ino()
        op = Create(
            credentials=credentials,
            now_ns=self._environment.now_ns(),
            parent=parent,
            name=name,
            ino=ino,
            mode=stat.S_IFREG | (mode & PERMISSION_BITS),
            is_exclusive=bool(flags & os.O_EXCL),
        )
        result = await self.meta.ops.submit(op, has_hold=True)
        assert result.inode is not None
        if result.is_new and self._files.is_unused(result.inode.ino):
            # Owed: it was done here, so that it is leased. Else it is held.
            is_leased = self.meta.records.is_owed(result.inode.ino)
            file = self._files.adopt(result.inode, is_leased=is_leased)
            return self._handle(file, flags, credentials), file.attributes
        handle = await self.open(result.inode.ino, flags, credentials)
        return handle, handle.inode

    async def open(self, ino: InodeId, flags: int, credentials: Credentials) -> FileHandle:
        """Open a file (open(2)); O_TRUNC, O_APPEND, O_SYNC and O_DSYNC are honoured.

        The caller has checked permissions. Raises FsError: ESTALE, EISDIR, ENXIO (no file).
        """
        file = await self._files.acquire(ino)
        try:
            if not file.record.is_file:
                raise FsError(errno.EISDIR if file.record.is_directory else errno.ENXIO)
            handle = self._handle(file, flags, credentials)
            if flags & os.O_TRUNC and handle.is_writable:
                await self.setattr(ino, credentials, size=0, has_handle=True)
        except BaseException:
            self._files.let_go(file)
            raise
        return handle

    def _handle(self, file: OpenFile, flags: int, credentials: Credentials) -> FileHandle:
        return FileHandle(file, flags, credentials, self.meta.ops.lost_count)

    async def read(self, handle: FileHandle, offset: int, length: int) -> bytes:
        """Bytes from `offset`, fewer at the end of the file.

        Never older than the last answer about the file (open, getattr, a commit of this client);
        whoever needs what others wrote since then calls getattr first, as a kernel does.
        """
        assert handle.is_open
        if handle.flags & os.O_ACCMODE == os.O_WRONLY:
            raise FsError(errno.EBADF, "not open for reading")
        if length <= _STEP_BYTES:
            return await self._read_step(handle, offset, length)
        steps = []
        for start in range(offset, offset + length, _STEP_BYTES):
            wanted = min(_STEP_BYTES, offset + length - start)
            steps.append(await self._read_step(handle, start, wanted))
            if len(steps[-1]) < wanted:
                break
        return b"".join(steps)

    async def _read_step(self, handle: FileHandle, offset: int, length: int) -> bytes:
        plain = await self._reader.read(handle.file, offset, length)
        size = max(handle.file.size, offset + len(plain))
        start, end = handle.read_ahead.after_read(offset, offset + len(plain), size)
        self._reader.prefetch(handle.file, start, end)
        return plain

    async def write(
        self,
        handle: FileHandle,
        offset: int,
        data: bytes | memoryview,
        writer: Credentials | None = None,
    ) -> int:
        """Write all of `data`; with O_APPEND at the end, whatever `offset` says. Waits while too
        much is dirty; with O_SYNC or O_DSYNC until it is durable (I3).

        `writer`, or whoever opened it, decides whether set-id bits go.
        """
        assert handle.is_open
        if not handle.is_writable:
            raise FsError(errno.EBADF, "not open for writing")
        handle.raise_lost()
        self.meta.ops.tell_loss()
        who = writer or handle.credentials
        if handle.is_appending:
            async with handle.file.appending:
                await self._appender.append(handle.file, data, who)
        else:
            await self._write_steps(handle.file, offset, data, who)
        if handle.is_synchronous:
            await self.fsync(handle)
        return len(data)

    async def _write_steps(
        self, file: OpenFile, offset: int, data: bytes | memoryview, who: Credentials
    ) -> None:
        if offset + len(data) > FILE_BYTES_MAX:
            raise FsError(errno.EFBIG)
        view = memoryview(data)
        for start in range(0, len(data), _STEP_BYTES):
            step = view[start : start + _STEP_BYTES]
            await self._flusher.write(file, offset + start, step, who)

    async def flush(self, handle: FileHandle) -> None:
        """What close(2) waits for: whoever opens the file finds everything that was written to it.

        It is durable too, unless the file is this client's alone. Raises why not; data that was
        lost is reported once per handle.
        """
        if not handle.is_writable:
            return
        if not self._flusher.promise(handle.file):
            await self._flush(handle)
        handle.raise_lost()

    async def fsync(self, handle: FileHandle) -> None:
        """Everything written to the file is durable (I3), by whichever handle, and so is every
        change of the namespace before. Raises why not, lost changes once per handle."""
        assert handle.is_open
        await self._flush(handle)
        await self.meta.ops.settled()
        handle.raise_lost()
        handle.losses.raise_new(self.meta.ops.lost_count)

    async def _flush(self, handle: FileHandle) -> None:
        """Everything written to the file is durable, or owed."""
        try:
            await self._flusher.flush_or_owe(handle.file)
        except DfsError:
            handle.see_lost()
            raise

    async def release(self, handle: FileHandle) -> None:
        """Let the handle go. What is still dirty is flushed in the background."""
        assert handle.is_open
        handle.is_open = False
        self._files.let_go(handle.file)

    async def sync(self) -> None:
        """Everything that this client was told is durable (sync(2)). Raises the first failure, and
        what was lost before if nobody was told of it."""
        await self._flusher.flush_all()
        await self.meta.ops.settled()
        self.meta.ops.tell_loss()
        self._files.tell_loss()

    # ------------------------------------------------------------ directories

    async def open_directory(self, ino: InodeId) -> DirectoryHandle:
        """Open a directory. Raises FsError: ENOTDIR, ESTALE."""
        inode = await self.getattr(ino)
        if not inode.is_directory:
            raise FsError(errno.ENOTDIR)
        return DirectoryHandle(inode, self.meta.ops.lost_count)

    async def sync_directory(self, handle: DirectoryHandle) -> None:
        """Every change of the namespace so far is durable (I3; fsync(2) of a directory). Raises why
        not, lost changes once per handle."""
        await self.meta.ops.settled()
        handle.losses.raise_new(self.meta.ops.lost_count)

    def read_directory(self, handle: DirectoryHandle, cookie: int = 0) -> Listing:
        """Iterates, with `async for`, over the entries behind `cookie` (0: from the start, read
        anew): name, inode, cookie behind it.

        Neither "." nor ".." is among them. It may be left at any point.
        """
        return Listing(handle, self.meta, self._current, cookie)

    def _current(self, inode: Inode) -> Inode:
        """An inode of a listing, as it is now."""
        return self._files.current(self.meta.records.inode(inode.ino) or inode)

    async def release_directory(self, handle: DirectoryHandle) -> None:
        """Let the handle go."""
        handle.forget()

    # ------------------------------------------------------------ the whole

    async def statfs(self) -> StatFsReply:
        """What the cluster holds and may still take."""
        return await self.meta.ask(StatFs(), StatFsReply)


@asynccontextmanager
async def open_client(
    environment: Environment,
    addresses: Sequence[str],
    *,
    config: ClientConfig | None = None,
) -> AsyncIterator[Client]:
    """A working client of the cluster whose metadata servers are at `addresses`.

    Leaving the block makes everything durable and closes the session; being cancelled does
    neither: that is a crash. Raises Disconnected, naming every address and cause, when no server
    answers; WrongCluster.
    """
    client = Client(environment, addresses, config or ClientConfig())
    try:
        async with trio.open_nursery() as nursery:
            await client.start(nursery)
            try:
                yield client
            except Exception:
                await client.close()
                raise
            await client.close()
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        error = _only_error(group)
        raise error from error.__cause__


def _only_error(error: BaseException) -> BaseException:
    """The one error in a group of one, as nurseries make them."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
