"""Names, attributes and extended attributes, by inode: the part of a client without open files.

What was written to a file before a change of it is committed before the change (I5).
"""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING, Final

import trio

from dfs.client.failures import copy_of
from dfs.client.lease import NOTHING
from dfs.core.messages import (
    GetAttr,
    GetXattr,
    InodeReply,
    ListXattrs,
    Lookup,
    XattrNamesReply,
    XattrReply,
)
from dfs.core.namespace.ops import (
    RENAME_EXCHANGE,
    Create,
    Link,
    Mkdir,
    RemoveXattr,
    Rename,
    Rmdir,
    SetAttr,
    SetXattr,
    Symlink,
    Unlink,
)
from dfs.errors import DfsError, Fenced, FsError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dfs.client.flusher import Flusher
    from dfs.client.open_files import OpenFile, OpenFiles
    from dfs.client.session import MetaSession
    from dfs.client.statistics import AnswerCounts
    from dfs.core.namespace.ops import ClientOp
    from dfs.core.namespace.records import Inode
    from dfs.environment import Environment
    from dfs.types import Credentials, InodeId

logger = logging.getLogger(__name__)

CAPABILITY_XATTR: Final = b"security.capability"
PERMISSION_BITS: Final = 0o7777


class NamespaceCalls:
    """What `Client` can do without opening anything."""

    meta: MetaSession
    _environment: Environment
    _files: OpenFiles
    _flusher: Flusher
    _answers: AnswerCounts

    # ------------------------------------------------------------ names and attributes

    async def lookup(self, parent: InodeId, name: bytes) -> Inode:
        """The inode that a name leads to. Raises FsError: ENOENT, ENOTDIR, ENAMETOOLONG, ESTALE."""
        records = self.meta.records
        known = records.entry(parent, name)
        inode = records.inode(known) if known else None
        if known is None or (known and inode is None):
            self._answers.lookup_miss_count += 1
            inode = await self._ask_entry(parent, name)
        else:
            self._answers.lookup_hit_count += 1
        if inode is None:
            raise FsError(errno.ENOENT)
        return self._files.current(inode)

    async def _ask_entry(self, parent: InodeId, name: bytes) -> Inode | None:
        records = self.meta.records
        while True:
            if records.is_owed(parent) and not records.is_exclusive(parent):
                # What was done here to its names is known neither here nor there.
                await self.meta.ops.settled()
            with records.asking() as question:
                request = Lookup(session_id=self.meta.session_id, parent=parent, name=name)
                reply = await self.meta.ask(request, InodeReply)
                inode = reply.inode
                if inode is not None and reply.is_leased:
                    records.note_inode(question, inode, is_exclusive=reply.is_exclusive)
                if reply.is_entry_leased:
                    ino = inode.ino if inode is not None else NOTHING
                    records.note_entry(question, parent, name, ino)
                if inode is None:
                    return None
                if not records.was_owed(question, inode.ino):
                    return inode
                # The server may have looked before it knew what was done here to the inode.
                known = records.inode(inode.ino)
                is_alone = known is not None and records.is_unforgotten(question, inode.ino)
                if is_alone and records.entry(parent, name) in (None, inode.ino):
                    return known
            await self.meta.ops.settled()

    async def getattr(self, ino: InodeId) -> Inode:
        """The inode as it is now. Raises FsError(ESTALE): it is gone."""
        records = self.meta.records
        inode = records.inode(ino)
        if inode is not None:
            self._answers.getattr_hit_count += 1
        else:
            self._answers.getattr_miss_count += 1
            with records.asking() as question:
                request = GetAttr(session_id=self.meta.session_id, ino=ino)
                reply = await self.meta.ask(request, InodeReply)
                if reply.inode is None:
                    raise FsError(errno.ESTALE)
                inode = reply.inode
                if reply.is_leased:
                    records.note_inode(question, inode)
        return self._files.current(inode)

    async def readlink(self, ino: InodeId) -> bytes:
        """Where a symlink leads. Raises FsError: EINVAL if it is none, ESTALE."""
        inode = await self.getattr(ino)
        if not inode.is_symlink:
            raise FsError(errno.EINVAL, "not a symlink")
        return inode.target

    async def setattr(
        self,
        ino: InodeId,
        credentials: Credentials,
        *,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        size: int | None = None,
        atime_ns: int | None = None,
        mtime_ns: int | None = None,
        is_atime_now: bool = False,
        is_mtime_now: bool = False,
        has_handle: bool = False,
    ) -> Inode:
        """Change attributes, after what was written before (I5); see SetAttr."""
        op = SetAttr(
            credentials=credentials,
            now_ns=self._environment.now_ns(),
            ino=ino,
            mode=mode,
            uid=uid,
            gid=gid,
            size=size,
            atime_ns=atime_ns,
            mtime_ns=mtime_ns,
            is_atime_now=is_atime_now,
            is_mtime_now=is_mtime_now,
            has_handle=has_handle,
        )
        file = self._files.get(ino)
        if file is None:
            return await self._change(op)
        if size is not None:
            return await self._resize(file, op, size)
        if not file.dirty.is_clean and self._flusher.may_set_attributes(file):
            result = self.meta.ops.do_here(op)
            if result is not None and result.inode is not None:
                file.keeps_attributes = True
                return self._files.current(result.inode)
        await self._flush_before(file)
        return await self._change(op)

    async def _resize(self, file: OpenFile, op: SetAttr, size: int) -> Inode:
        """Cut what is dirty, commit the rest, then change the size; no write comes in between."""
        await file.wait_resized()
        file.resized = trio.Event()
        file.user_count += 1
        try:
            self._flusher.truncate(file, size)
            await self._flush_before(file)
            return await self._change(op)
        finally:
            file.resized.set()
            self._files.let_go(file)

    async def _flush_before(self, file: OpenFile) -> None:
        """Commit what was written before a change. A failure does not stop the change: fsync and
        close report it."""
        try:
            await self._flusher.flush_or_owe(file)
        except Fenced:
            raise
        except DfsError as error:
            logger.info("inode %d changes before its data is committed: %s", file.ino, error)

    async def _change(self, op: ClientOp) -> Inode:
        """Do an op. Returns the inode that it gives."""
        result = await self.meta.ops.submit(op)
        assert result.inode is not None
        return self._files.current(result.inode)

    # ------------------------------------------------------------ changes of the namespace

    async def mknod(
        self, parent: InodeId, name: bytes, mode: int, rdev: int, credentials: Credentials
    ) -> Inode:
        """Make a file, fifo, socket or device (mknod(2)); `mode` has the type."""
        ino = await self.meta.take_ino()
        return await self._change(
            Create(
                credentials=credentials,
                now_ns=self._environment.now_ns(),
                parent=parent,
                name=name,
                ino=ino,
                mode=mode,
                rdev=rdev,
            )
        )

    async def mkdir(
        self, parent: InodeId, name: bytes, mode: int, credentials: Credentials
    ) -> Inode:
        """Make a directory (mkdir(2))."""
        ino = await self.meta.take_ino()
        return await self._change(
            Mkdir(
                credentials=credentials,
                now_ns=self._environment.now_ns(),
                parent=parent,
                name=name,
                ino=ino,
                mode=mode & PERMISSION_BITS,
            )
        )

    async def symlink(
        self, parent: InodeId, name: bytes, target: bytes, credentials: Credentials
    ) -> Inode:
        """Make a symlink (symlink(2))."""
        ino = await self.meta.take_ino()
        return await self._change(
            Symlink(
                credentials=credentials,
                now_ns=self._environment.now_ns(),
                parent=parent,
                name=name,
                ino=ino,
                target=target,
            )
        )

    async def link(
        self, ino: InodeId, parent: InodeId, name: bytes, credentials: Credentials
    ) -> Inode:
        """One more name (link(2)); what was written to the file before is committed first (I5)."""
        file = self._files.get(ino)
        if file is not None:
            await self._flush_wholly(file)
        now_ns = self._environment.now_ns()
        return await self._change(
            Link(credentials=credentials, now_ns=now_ns, ino=ino, parent=parent, name=name)
        )

    async def unlink(self, parent: InodeId, name: bytes, credentials: Credentials) -> Inode | None:
        """Remove a name (unlink(2)). An open file lives on until it is closed everywhere.

        Returns the inode as it was left.
        """
        now_ns = self._environment.now_ns()
        op = Unlink(credentials=credentials, now_ns=now_ns, parent=parent, name=name)
        return await self._remove(op)

    async def rmdir(self, parent: InodeId, name: bytes, credentials: Credentials) -> Inode | None:
        """Remove an empty directory (rmdir(2)). Returns the inode as it was left."""
        now_ns = self._environment.now_ns()
        op = Rmdir(credentials=credentials, now_ns=now_ns, parent=parent, name=name)
        return await self._remove(op)

    async def _remove(self, op: Unlink | Rmdir) -> Inode | None:
        result = await self.meta.ops.submit(op)
        self._discard(result.orphans)
        return self._files.current(result.inode) if result.inode is not None else None

    def _discard(self, orphans: Iterable[InodeId]) -> None:
        """Nobody will ever read what was written to a closed file without a name."""
        for ino in orphans:
            file = self._files.get(ino)
            if file is None or file.user_count or file.is_flushing or file.uploads:
                continue
            self._flusher.truncate(file, 0)
            self._files.settle(file)

    async def rename(
        self,
        parent: InodeId,
        name: bytes,
        new_parent: InodeId,
        new_name: bytes,
        flags: int,
        credentials: Credentials,
    ) -> None:
        """Rename (renameat2(2)); what was written to the file before is committed first (I5)."""
        with self._flusher.noting_losses() as losses:
            flushed = [await self._flush_named(parent, name)]
            if flags & RENAME_EXCHANGE:
                flushed.append(await self._flush_named(new_parent, new_name))
        for ino in flushed:
            if ino in losses:
                # Lost with the session, perhaps, and the next one must not see the rename alone.
                file = self._files.get(ino)
                if file is not None:
                    file.take_untold_loss()
                raise copy_of(losses[ino])
        op = Rename(
            credentials=credentials,
            now_ns=self._environment.now_ns(),
            parent=parent,
            name=name,
            new_parent=new_parent,
            new_name=new_name,
            flags=flags,
        )
        result = await self.meta.ops.submit(op)
        self._discard(result.orphans)
        if result.inode is not None:
            self._files.current(result.inode)

    async def _flush_named(self, parent: InodeId, name: bytes) -> InodeId | None:
        """Flush the file of this name, if any file is dirty at all, or was when its data was lost.
        Returns its inode then."""
        if self._flusher.dirty_bytes == 0 and self._flusher.loss_count == 0:
            return None
        inode = await self.lookup(parent, name)
        await self._environment.fault_point("a name is looked up, its file is not flushed")
        file = self._files.get(inode.ino)
        if file is not None:
            await self._flush_wholly(file)
        return inode.ino

    async def _flush_wholly(self, file: OpenFile) -> None:
        """Flush all that was ever written to the file. Raises what it lost and nobody was told of:
        a later change of its names must not survive without it (I5)."""
        loss = file.take_untold_loss()
        if loss is not None:
            raise copy_of(loss)
        await self._flusher.flush_or_owe(file)

    # ------------------------------------------------------------ extended attributes

    async def getxattr(self, ino: InodeId, name: bytes) -> bytes:
        """The value (getxattr(2)). Raises FsError: ENODATA, ESTALE."""
        file = self._files.get(ino)
        if name == CAPABILITY_XATTR and file is not None and file.record.xattr_count == 0:
            # The kernel asks before every write.
            raise FsError(errno.ENODATA)
        return (await self.meta.ask(GetXattr(ino=ino, name=name), XattrReply)).value

    async def listxattr(self, ino: InodeId) -> tuple[bytes, ...]:
        """The names (listxattr(2))."""
        return (await self.meta.ask(ListXattrs(ino=ino), XattrNamesReply)).names

    async def setxattr(
        self, ino: InodeId, name: bytes, value: bytes, flags: int, credentials: Credentials
    ) -> None:
        """Set a value (setxattr(2)); see SetXattr."""
        op = SetXattr(
            credentials=credentials,
            now_ns=self._environment.now_ns(),
            ino=ino,
            name=name,
            value=value,
            flags=flags,
        )
        await self._change_after_data(op)

    async def removexattr(self, ino: InodeId, name: bytes, credentials: Credentials) -> None:
        """Remove a value (removexattr(2)). Raises FsError: ENODATA, ESTALE."""
        now_ns = self._environment.now_ns()
        await self._change_after_data(
            RemoveXattr(credentials=credentials, now_ns=now_ns, ino=ino, name=name)
        )

    async def _change_after_data(self, op: SetXattr | RemoveXattr) -> None:
        """A commit of older data would take security.capability away again."""
        file = self._files.get(op.ino)
        if file is not None:
            await self._flush_before(file)
        result = await self.meta.ops.submit(op)
        if result.inode is not None:
            self._files.current(result.inode)
