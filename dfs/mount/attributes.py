"""Inodes ↔ what pyfuse3 speaks. Pure conversions; the adapter in `fuse.py` calls them."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Protocol

import msgspec
import pyfuse3

from dfs.limits import NAME_BYTES_MAX, NS_PER_S
from dfs.types import Credentials

if TYPE_CHECKING:
    from dfs.core.messages import StatFsReply
    from dfs.core.namespace.records import Inode

STAT_BLOCK_BYTES = 512
"""Unit of st_blocks (inode(7))."""
PREFERRED_IO_BYTES = 128 * 1024
"""st_blksize: large enough to save requests, small enough for stdio to allocate per open file."""
STATFS_UNIT_BYTES = 4096
FREE_INODES = 1 << 32
"""Inodes are limited by nothing but their numbers; df(1) wants a figure."""
NOW_WITHIN_NS = 10 * NS_PER_S


class AttributeChanges(msgspec.Struct, frozen=True):
    """The fields that one setattr request changes; None leaves a field alone."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None
    is_atime_now: bool = False
    is_mtime_now: bool = False

    def may_mean_now(self, now_ns: int) -> bool:
        """Only the two times change, and to about the present: perhaps utimensat(2) with both
        UTIME_NOW, which whoever may write may do."""
        if self.atime_ns is None or self.mtime_ns is None:
            return False
        if any(value is not None for value in (self.mode, self.uid, self.gid, self.size)):
            return False
        return all(abs(ns - now_ns) < NOW_WITHIN_NS for ns in (self.atime_ns, self.mtime_ns))

    def as_now(self) -> AttributeChanges:
        """The same request with "now" in place of the times it names."""
        assert self.atime_ns is not None
        assert self.mtime_ns is not None
        return AttributeChanges(is_atime_now=True, is_mtime_now=True)


def requested_changes(
    attributes: pyfuse3.EntryAttributes, fields: pyfuse3.SetattrFields
) -> AttributeChanges:
    """What a setattr request asks for. pyfuse3 gives UTIME_NOW as the kernel's present time."""
    return AttributeChanges(
        mode=stat.S_IMODE(attributes.st_mode) if fields.update_mode else None,
        uid=attributes.st_uid if fields.update_uid else None,
        gid=attributes.st_gid if fields.update_gid else None,
        size=attributes.st_size if fields.update_size else None,
        atime_ns=attributes.st_atime_ns if fields.update_atime else None,
        mtime_ns=attributes.st_mtime_ns if fields.update_mtime else None,
    )


def entry_attributes(inode: Inode, node_id: int) -> pyfuse3.EntryAttributes:
    """The inode as the kernel wants it, not to be cached."""
    assert node_id > 0
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = pyfuse3.InodeT(node_id)
    entry.generation = 0
    entry.entry_timeout = entry.attr_timeout = 0
    entry.st_mode = pyfuse3.ModeT(inode.mode)
    entry.st_nlink = inode.nlink
    entry.st_uid, entry.st_gid, entry.st_rdev = inode.uid, inode.gid, inode.rdev
    entry.st_size = inode.size
    entry.st_blksize = PREFERRED_IO_BYTES
    entry.st_blocks = -(-inode.stored_bytes // STAT_BLOCK_BYTES)
    entry.st_atime_ns = inode.atime_ns
    entry.st_mtime_ns = inode.mtime_ns
    entry.st_ctime_ns = inode.ctime_ns
    return entry


def directory_stub(node_id: int) -> pyfuse3.EntryAttributes:
    """Enough of an entry for "." and "..": of these the kernel uses only number and type."""
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = pyfuse3.InodeT(node_id)
    entry.st_mode = pyfuse3.ModeT(stat.S_IFDIR)
    entry.entry_timeout = entry.attr_timeout = 0
    return entry


def statfs_data(reply: StatFsReply, copies: int) -> pyfuse3.StatvfsData:
    """What df(1) shows: raw space divided by the copies that every byte takes."""
    assert copies >= 1
    data = pyfuse3.StatvfsData()
    data.f_bsize = data.f_frsize = STATFS_UNIT_BYTES
    share = STATFS_UNIT_BYTES * copies
    data.f_blocks = reply.space.capacity_bytes // share
    data.f_bfree = data.f_bavail = min(reply.space.free_bytes // share, data.f_blocks)
    data.f_files = reply.inode_count + FREE_INODES
    data.f_ffree = data.f_favail = FREE_INODES
    data.f_namemax = NAME_BYTES_MAX
    return data


class Asker(Protocol):
    """The part of `pyfuse3.RequestContext` that says who asks."""

    @property
    def uid(self) -> int: ...
    @property
    def gid(self) -> int: ...
    @property
    def pid(self) -> int: ...


def caller(ctx: Asker) -> Credentials:
    """Who asks. Supplementary groups cost a look into /proc, and root needs none."""
    if ctx.uid == 0:
        return Credentials(uid=0, gid=ctx.gid)
    return Credentials(uid=ctx.uid, gid=ctx.gid, groups=_groups_of(ctx.pid))


def _groups_of(pid: int) -> tuple[int, ...]:
    """Empty if the process is already gone or lives in another pid namespace."""
    try:
        return tuple(sorted(pyfuse3.get_sup_groups(pid)))
    except (OSError, RuntimeError):
        return ()
