"""Inodes by number, and what SetAttr means: chmod(2), chown(2), truncate(2) and utimensat(2) in
one.

The checks run in the order of vfs_truncate(), notify_change() and setattr_prepare() in Linux.
"""

from __future__ import annotations

import errno
import stat
from typing import TYPE_CHECKING

import msgspec

from dfs.core.namespace import access, extents
from dfs.core.namespace.inodes import get_inode, put_inode
from dfs.core.namespace.ops import OpResult
from dfs.core.namespace.xattrs import drop_capability
from dfs.errors import FsError
from dfs.limits import FILE_BYTES_MAX

if TYPE_CHECKING:
    from dfs.core.namespace.ops import SetAttr
    from dfs.core.namespace.records import Inode
    from dfs.core.namespace.view import Overlay


def set_attributes(overlay: Overlay, op: SetAttr) -> OpResult:
    """The inode after SetAttr. ctime is set by every change; an op that asks for nothing changes
    nothing.

    Raises FsError: ESTALE, EISDIR or EINVAL (size of what is no file), EACCES, EOPNOTSUPP (mode of
    a symlink), EFBIG, EPERM; Divide when too many extents go at once.
    """
    inode = get_inode(overlay, op.ino)
    _check_size(inode, op)
    _check_touch(inode, op)
    if op.mode is not None and inode.is_symlink:
        raise FsError(errno.EOPNOTSUPP, "a symlink has no mode of its own")
    if op.size is not None and op.size > FILE_BYTES_MAX:
        raise FsError(errno.EFBIG)
    _check_owner(inode, op)
    if not _asks_anything(op):
        return OpResult(inode)
    changed = _with_owner_and_mode(overlay, inode, op)
    if op.size is not None:
        changed = _with_size(overlay, changed, op, op.size)
    changed = _with_times(changed, op)
    put_inode(overlay, changed)
    return OpResult(changed)


def _asks_anything(op: SetAttr) -> bool:
    values = (op.mode, op.uid, op.gid, op.size, op.atime_ns, op.mtime_ns)
    return any(value is not None for value in values) or op.is_atime_now or op.is_mtime_now


def _check_size(inode: Inode, op: SetAttr) -> None:
    """The checks of vfs_truncate()."""
    if op.size is None:
        return
    if inode.is_directory:
        raise FsError(errno.EISDIR)
    if not inode.is_file:
        raise FsError(errno.EINVAL, "only files have a size to set")
    if not op.has_handle:
        access.require(inode, op.credentials, access.WRITE)


def _check_touch(inode: Inode, op: SetAttr) -> None:
    """ATTR_TOUCH of may_setattr(): both times set to now need no more than write permission.

    One of them alone needs the owner (utimensat(2)), unless it comes with a new size, as from
    O_TRUNC.
    """
    if access.is_owner_or_privileged(inode, op.credentials):
        return
    if op.is_atime_now and op.is_mtime_now:
        access.require(inode, op.credentials, access.WRITE)
    elif (op.is_atime_now or op.is_mtime_now) and op.size is None:
        raise FsError(errno.EPERM, "only the owner sets one time alone")


def _check_owner(inode: Inode, op: SetAttr) -> None:
    """The checks of setattr_prepare(): chown_ok(), chgrp_ok(), then mode and times of the owner's
    only."""
    who = op.credentials
    if who.is_privileged:
        return
    is_owner = who.uid == inode.uid
    if op.uid is not None and not (is_owner and op.uid == inode.uid):
        raise FsError(errno.EPERM, "only root gives files away")
    if op.gid is not None:
        is_own_group = op.gid == inode.gid or who.is_in_group(op.gid)
        if not (is_owner and is_own_group):
            raise FsError(errno.EPERM, "owners may only choose among their own groups")
    sets_times = op.atime_ns is not None or op.mtime_ns is not None
    if not is_owner and (op.mode is not None or sets_times):
        raise FsError(errno.EPERM)


def _with_owner_and_mode(overlay: Overlay, inode: Inode, op: SetAttr) -> Inode:
    is_chown = op.uid is not None or op.gid is not None
    mode = inode.mode
    if is_chown and not inode.is_directory:
        mode = access.mode_after_chown(inode, op.credentials)
        inode = drop_capability(overlay, inode)
    gid = inode.gid if op.gid is None else op.gid
    if op.mode is not None:
        mode = stat.S_IFMT(inode.mode) | (op.mode & access.PERMISSION_BITS)
        if not access.is_in_group_or_privileged(gid, op.credentials):
            mode &= ~stat.S_ISGID
    uid = inode.uid if op.uid is None else op.uid
    assert stat.S_IFMT(mode) == stat.S_IFMT(inode.mode)
    return msgspec.structs.replace(inode, mode=mode, uid=uid, gid=gid)


def _with_size(overlay: Overlay, inode: Inode, op: SetAttr, size: int) -> Inode:
    """The file cut or grown. truncate(2) to the same size counts as a change too, as on ext4."""
    if op.mode is None:
        inode = msgspec.structs.replace(inode, mode=access.mode_after_write(inode, op.credentials))
    inode = drop_capability(overlay, inode)
    return extents.resize(overlay, inode, size, op)


def _with_times(inode: Inode, op: SetAttr) -> Inode:
    atime_ns, mtime_ns = inode.atime_ns, inode.mtime_ns
    if op.size is not None or op.is_mtime_now:
        mtime_ns = op.now_ns
    if op.is_atime_now:
        atime_ns = op.now_ns
    if op.atime_ns is not None:
        atime_ns = op.atime_ns
    if op.mtime_ns is not None:
        mtime_ns = op.mtime_ns
    return msgspec.structs.replace(inode, atime_ns=atime_ns, mtime_ns=mtime_ns, ctime_ns=op.now_ns)
