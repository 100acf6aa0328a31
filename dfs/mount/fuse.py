"""The FUSE adapter: every handler converts, calls the client, and converts back.

It knows pyfuse3 and `dfs.client`, and nothing of servers, blocks or records' keys. Handlers are
wrapped by `answered`, so that every failure is an errno.

Node ids are inode numbers, except that the kernel's root (1) is whatever directory was mounted.
The kernel remembers what the client has leased, and no longer (I4): see `kernel_caches`.
Lookup counts are not kept: an inode lives as long as it has a name or is open. Of those whose last
name went through this mount, the attributes are remembered until the kernel forgets them, for a
process whose directory was removed under it.
"""

from __future__ import annotations

import errno
import itertools
import os
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

import msgspec
import pyfuse3
import trio

from dfs.client.directory import DirectoryHandle
from dfs.client.lease import NOTHING
from dfs.client.namespace_calls import CAPABILITY_XATTR
from dfs.errors import FsError
from dfs.mount.answers import answered
from dfs.mount.attributes import (
    AttributeChanges,
    caller,
    directory_stub,
    entry_attributes,
    requested_changes,
    statfs_data,
)
from dfs.mount.fusetap.session import FuseSession
from dfs.mount.fusetap.wire import OpenFlag, handle_with_flags
from dfs.mount.introspection import VIRTUAL_PREFIXES, Introspection
from dfs.mount.kernel_caches import KernelCaches
from dfs.mount.moved_directories import MovedDirectories
from dfs.mount.set_id import SetIdRule
from dfs.types import ROOT, Credentials, InodeId

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyfuse3 import EntryAttributes, FileInfo, ReaddirToken, RequestContext, SetattrFields

    from dfs.client.client import Client
    from dfs.client.handles import FileHandle
    from dfs.core.namespace.records import Inode
    from dfs.mount.introspection import MountIdentity

DOTS = 2
"""Directory positions 1 and 2 are after "." and ".."; the client's cookies follow, shifted."""
VERSIONS_KEPT = 65_536
KERNEL = Credentials(0, 0)
"""By whom is done what the kernel has decided."""


class FuseOperations(pyfuse3.Operations):
    """One mounted directory tree. `root` is the inode that the kernel sees as its root."""

    supports_dot_lookup = True
    enable_writeback_cache = False
    enable_acl = False

    def __init__(
        self,
        client: Client,
        identity: MountIdentity,
        root: InodeId = ROOT,
        session: FuseSession | None = None,
    ) -> None:
        assert root > 0
        self.session = session or FuseSession()
        self._set_id = SetIdRule(self.session)
        self._client = client
        self._introspection = Introspection(client, identity, self.session)
        self._root = root
        self._numbers = itertools.count(1)
        self._files: dict[int, FileHandle] = {}
        self._directories: dict[int, DirectoryHandle] = {}
        self._versions: OrderedDict[InodeId, tuple[int, int]] = OrderedDict()
        self._removed: dict[InodeId, Inode] = {}
        self.moved = MovedDirectories()
        self.caches = KernelCaches(self.session.advance_dentry_epoch, node_id=self._node_id)
        client.tell_when_forgotten(self.caches.forget)
        self.ready = trio.Event()
        """Set when the kernel has agreed on the protocol."""

    def init(self) -> None:
        self.ready.set()

    # ------------------------------------------------------------ numbers

    def _ino(self, node_id: int) -> InodeId:
        assert node_id > 0
        return self._root if node_id == pyfuse3.ROOT_INODE else InodeId(node_id)

    def _node_id(self, ino: InodeId) -> int:
        assert ino > 0
        return pyfuse3.ROOT_INODE if ino == self._root else ino

    def _entry(self, inode: Inode) -> EntryAttributes:
        """No await may come between here and the answer: the lease might go (I4)."""
        entry = entry_attributes(inode, self._node_id(inode.ino))
        good_s = self._client.attributes_good_s(inode.ino)
        entry.attr_timeout = self.caches.attributes_s(inode.ino, good_s)
        return entry

    def _named_entry(self, parent: InodeId, name: bytes, inode: Inode) -> EntryAttributes:
        """The same, with the name that leads there."""
        entry = self._entry(inode)
        good_s = self._client.name_good_s(parent, name, inode.ino)
        entry.entry_timeout = self.caches.name_s(parent, good_s)
        return entry

    # ------------------------------------------------------------ names

    @answered
    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        parent = self._ino(parent_inode)
        if name in (b".", b".."):
            return await self._dot(parent, name)
        try:
            inode = await self._client.lookup(parent, name)
        except FsError as error:
            if error.errno != errno.ENOENT:
                raise
            return self._absent(parent, name)
        if inode.is_directory:
            await self.moved.found(self._node_id(inode.ino), (parent_inode, name))
        return self._named_entry(parent, name, inode)

    def _absent(self, parent: InodeId, name: bytes) -> EntryAttributes:
        """The kernel may remember that there is no such name, or is told ENOENT."""
        good_s = self.caches.name_s(parent, self._client.name_good_s(parent, name, NOTHING))
        if good_s == 0:
            raise FsError(errno.ENOENT)
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = pyfuse3.InodeT(0)
        entry.entry_timeout = good_s
        return entry

    async def _dot(self, ino: InodeId, name: bytes) -> EntryAttributes:
        """What NFS servers and open_by_handle_at(2) ask; the mount's root is its own parent."""
        inode = await self._client.getattr(ino)
        if name == b".." and ino != self._root:
            if not inode.is_directory:
                raise FsError(errno.ENOTDIR)
            inode = await self._client.getattr(inode.parent)
        return self._entry(inode)

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        for node_id, count in inode_list:
            assert count > 0
            self._removed.pop(self._ino(node_id), None)
            self.moved.forget(node_id, count)

    @answered
    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        parent = self._ino(parent_inode)
        made = await self._client.mknod(parent, name, mode, rdev, caller(ctx))
        return self._named_entry(parent, name, made)

    @answered
    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext
    ) -> EntryAttributes:
        parent = self._ino(parent_inode)
        made = await self._client.mkdir(parent, name, mode & 0o7777, caller(ctx))
        self.moved.told(made.ino, (parent_inode, name))
        # The name is looked up before it is trusted: see MovedDirectories.
        return self._entry(made)

    @answered
    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        parent = self._ino(parent_inode)
        made = await self._client.symlink(parent, name, target, caller(ctx))
        return self._named_entry(parent, name, made)

    @answered
    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        ino, parent = self._ino(inode), self._ino(new_parent_inode)
        linked = await self._client.link(ino, parent, new_name, caller(ctx))
        return self._named_entry(parent, new_name, linked)

    @answered
    async def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        self._note_removed(await self._client.unlink(self._ino(parent_inode), name, caller(ctx)))

    @answered
    async def rmdir(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        self._note_removed(await self._client.rmdir(self._ino(parent_inode), name, caller(ctx)))

    def _note_removed(self, inode: Inode | None) -> None:
        if inode is not None and (inode.is_directory or inode.nlink == 0):
            self._removed[inode.ino] = inode

    @answered
    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: RequestContext,
    ) -> None:
        source, target = self._ino(parent_inode_old), self._ino(parent_inode_new)
        self.caches.note_rename(source, target)
        await self._client.rename(source, name_old, target, name_new, flags, caller(ctx))
        self.moved.renamed((parent_inode_old, name_old), (parent_inode_new, name_new))

    @answered
    async def readlink(self, inode: int, ctx: RequestContext) -> bytes:
        return await self._client.readlink(self._ino(inode))

    # ------------------------------------------------------------ attributes

    @answered
    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        ino = self._ino(inode)
        try:
            return self._entry(await self._client.getattr(ino))
        except FsError as error:
            if error.errno != errno.ESTALE or ino not in self._removed:
                raise
            return self._entry(self._removed[ino])

    @answered
    async def setattr(
        self,
        inode: int,
        attr: EntryAttributes,
        fields: SetattrFields,
        fh: int | None,
        ctx: RequestContext,
    ) -> EntryAttributes:
        ino, changes, credentials = self._ino(inode), requested_changes(attr, fields), caller(ctx)
        if changes.size is not None:
            has_handle = fh is not None
            resized = await self._resize(ino, credentials, changes, has_handle=has_handle)
            return self._entry(resized)
        if changes == AttributeChanges():
            changes = self._set_id.bare_change(
                await self._client.getattr(ino), credentials, ctx.pid
            )
        try:
            changed = await self._change(ino, credentials, changes, has_handle=fh is not None)
        except FsError as error:
            if error.errno != errno.EPERM or not changes.may_mean_now(time.time_ns()):
                raise
            # pyfuse3 hides UTIME_NOW. The kernel has allowed this caller to set these times, and
            # whoever is not the owner may only set "now".
            changed = await self._change(ino, credentials, changes.as_now(), has_handle=False)
        return self._entry(changed)

    async def _resize(
        self, ino: InodeId, who: Credentials, changes: AttributeChanges, *, has_handle: bool
    ) -> Inode:
        """The kernel has let the caller do it, so other credentials need no permission anew."""
        changer = self._set_id.changed_by(who)
        is_allowed = has_handle or changer != who
        return await self._change(ino, changer, changes, has_handle=is_allowed)

    async def _change(
        self, ino: InodeId, who: Credentials, changes: AttributeChanges, *, has_handle: bool
    ) -> Inode:
        fields = msgspec.structs.asdict(changes)
        return await self._client.setattr(ino, who, has_handle=has_handle, **fields)

    @answered
    async def statfs(self, ctx: RequestContext) -> pyfuse3.StatvfsData:
        reply = await self._client.statfs()
        return statfs_data(reply, self._client.cluster_map.copies)

    # ------------------------------------------------------------ extended attributes

    @answered
    async def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        ino = self._ino(inode)
        if name.startswith(VIRTUAL_PREFIXES):
            return await self._introspection.value(ino, name, ctx.uid)
        return await self._client.getxattr(ino, name)

    @answered
    async def listxattr(self, inode: int, ctx: RequestContext) -> Sequence[bytes]:
        names = await self._client.listxattr(self._ino(inode))
        return [name for name in names if ctx.uid == 0 or not name.startswith(b"trusted.")]

    @answered
    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: RequestContext) -> None:
        if name.startswith(VIRTUAL_PREFIXES):
            raise FsError(errno.EPERM, "read-only")
        await self._client.setxattr(self._ino(inode), name, value, 0, caller(ctx))

    @answered
    async def removexattr(self, inode: int, name: bytes, ctx: RequestContext) -> None:
        if name.startswith(VIRTUAL_PREFIXES):
            raise FsError(errno.EPERM, "read-only")
        # The kernel takes capabilities away before anybody's write, in that caller's name; when it
        # is asked to, it has checked (cap_inode_killpriv(), cap_inode_removexattr()).
        ino, who = self._ino(inode), caller(ctx)
        if name == CAPABILITY_XATTR:
            self._set_id.capability_goes(ino, ctx.pid)
            who = KERNEL
        await self._client.removexattr(ino, name, who)

    # ------------------------------------------------------------ open files

    @answered
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        parent = self._ino(parent_inode)
        handle, inode = await self._client.create(parent, name, mode, caller(ctx), flags=flags)
        return self._opened(handle, inode), self._named_entry(parent, name, inode)

    @answered
    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        who = caller(ctx)
        if flags & os.O_TRUNC:
            who = self._set_id.changed_by(who)
        handle = await self._client.open(self._ino(inode), flags, who)
        return self._opened(handle, handle.inode)

    def _opened(self, handle: FileHandle, inode: Inode) -> FileInfo:
        """The kernel may keep its pages of a file whose content is what it was at the last open.
        They also have what was written and then lost, so any loss makes all of them doubtful."""
        number = handle_with_flags(next(self._numbers), _open_flags(handle))
        assert number not in self._files
        self._files[number] = handle
        version = (inode.data_version, self._client.loss_count)
        keep = self._versions.pop(inode.ino, None) == version
        self._versions[inode.ino] = version
        if len(self._versions) > VERSIONS_KEPT:
            self._versions.popitem(last=False)
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(number), keep_cache=keep)

    @answered
    async def read(self, fh: int, off: int, size: int) -> bytes:
        return await self._client.read(self._files[fh], off, size)

    @answered
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        handle = self._files[fh]
        who = self._set_id.changed_by(handle.credentials)
        written = await self._client.write(handle, off, buf, who)
        assert written == len(buf)
        return written

    @answered
    async def flush(self, fh: int) -> None:
        await self._client.flush(self._files[fh])

    @answered
    async def fsync(self, fh: int, datasync: bool) -> None:
        await self._client.fsync(self._files[fh])

    @answered
    async def release(self, fh: int) -> None:
        await self._client.release(self._files.pop(fh))

    # ------------------------------------------------------------ open directories

    @answered
    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        ino = self._ino(inode)
        if ino in self._removed:
            handle = DirectoryHandle(self._removed[ino])
        else:
            handle = await self._client.open_directory(ino)
        number = next(self._numbers)
        self._directories[number] = handle
        return pyfuse3.FileHandleT(number)

    @answered
    async def readdir(self, fh: int, start_id: int, token: ReaddirToken) -> None:
        """An entry that did not fit is asked for again; of those that did, no count is kept."""
        handle = self._directories[fh]
        for name, node_id, position in self._dots(handle, start_id):
            if not pyfuse3.readdir_reply(token, name, directory_stub(node_id), position):
                return
        cookie = max(0, start_id - DOTS)
        async for name, inode, next_cookie in self._client.read_directory(handle, cookie):
            if not pyfuse3.readdir_reply(token, name, self._entry(inode), next_cookie + DOTS):
                return
            if inode.is_directory:
                self.moved.told(inode.ino, (self._node_id(handle.inode.ino), name))

    def _dots(self, handle: DirectoryHandle, start_id: int) -> list[tuple[bytes, int, int]]:
        """ "." and "..", as far as they come after `start_id`: name, node id, position."""
        directory = handle.inode
        parent = self._root if directory.ino == self._root else directory.parent
        both = [(b".", self._node_id(directory.ino), 1), (b"..", self._node_id(parent), DOTS)]
        return both[start_id:]

    @answered
    async def releasedir(self, fh: int) -> None:
        await self._client.release_directory(self._directories.pop(fh))

    @answered
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        await self._client.sync_directory(self._directories[fh])


def _open_flags(handle: FileHandle) -> OpenFlag:
    """close(2) of a file opened to read has nothing to wait for, so the kernel need not ask.

    Locks would be let go by that request, and none of them comes here today: the kernel keeps
    those of each mount. Once locks do, only handles through which none was taken may do without.
    """
    return OpenFlag(0) if handle.is_writable else OpenFlag.NOFLUSH
