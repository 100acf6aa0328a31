"""Ops that make or take away one name: create, mkdir, symlink, link, unlink, rmdir.

Checks run in the order of fs/namei.c in Linux: the walk to the directory, the last name, then
may_create() or may_delete(), then what the filesystem itself says.
"""

from __future__ import annotations

import errno
import stat
from typing import TYPE_CHECKING

import msgspec

from dfs.core.namespace import access
from dfs.core.namespace.directories import (
    Place,
    count_entries,
    drop_name,
    find,
    is_dots,
    put_entry,
    require_empty,
    walk_to,
)
from dfs.core.namespace.inodes import get_inode, put_inode
from dfs.core.namespace.keys import dentry_key, inode_key
from dfs.core.namespace.ops import OpResult, Rmdir
from dfs.core.namespace.records import Dentry, Inode, Record
from dfs.core.namespace.view import Together
from dfs.errors import FsError
from dfs.limits import LINK_COUNT_MAX, NAME_BYTES_MAX, SYMLINK_BYTES_MAX
from dfs.types import ROOT, InodeId

if TYPE_CHECKING:
    from dfs.core.namespace.ops import Create, Link, Mkdir, Symlink, Unlink
    from dfs.core.namespace.view import Overlay
    from dfs.types import Credentials

_MADE_BY_MKNOD = (stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK)
_DEVICES = (stat.S_IFCHR, stat.S_IFBLK)


def root_records(now_ns: int) -> dict[bytes, Record]:
    """What the namespace of a new volume holds: the root directory, 0755 root:root."""
    root = Inode(
        ino=ROOT,
        mode=stat.S_IFDIR | 0o755,
        uid=0,
        gid=0,
        rdev=0,
        nlink=2,
        size=0,
        atime_ns=now_ns,
        mtime_ns=now_ns,
        ctime_ns=now_ns,
        btime_ns=now_ns,
        parent=ROOT,
    )
    return {inode_key(ROOT): root}


# ---------------------------------------------------------------- new names


def create(overlay: Overlay, op: Create) -> OpResult:
    """The new file, fifo, socket or device; or the one that exists, unless the op is exclusive.

    Raises FsError: EPERM (directory; device without privilege), EINVAL (type), ESTALE, ENOTDIR,
    EACCES, ENOENT, ENAMETOOLONG, EEXIST, EISDIR (exists, not exclusive, a directory).
    """
    file_type = stat.S_IFMT(op.mode) or stat.S_IFREG
    if file_type == stat.S_IFDIR:
        raise FsError(errno.EPERM, "directories are made by mkdir")
    if file_type not in _MADE_BY_MKNOD:
        raise FsError(errno.EINVAL)
    place = _new_place(overlay, op)
    if place.inode is not None:
        return _existing(place.inode, op)
    access.require_create(place.directory, op.credentials)
    is_device = file_type in _DEVICES
    if is_device and not op.credentials.is_privileged:
        raise FsError(errno.EPERM, "only root makes devices")
    mode = file_type | (op.mode & access.PERMISSION_BITS)
    return _add(overlay, place, op, mode, rdev=op.rdev if is_device else 0)


def _existing(inode: Inode, op: Create) -> OpResult:
    if op.is_exclusive:
        raise FsError(errno.EEXIST)
    if inode.is_directory:
        raise FsError(errno.EISDIR)
    return OpResult(inode, is_new=False)


def mkdir(overlay: Overlay, op: Mkdir) -> OpResult:
    """The new directory. Raises FsError: ESTALE, ENOTDIR, EACCES, ENOENT, ENAMETOOLONG, EEXIST,
    EMLINK."""
    place = _new_place(overlay, op)
    _require_free(place, op.credentials)
    if place.directory.nlink >= LINK_COUNT_MAX:
        raise FsError(errno.EMLINK)
    # Linux takes setuid and setgid off; setgid comes back only from the parent.
    mode = stat.S_IFDIR | (op.mode & 0o1777)
    return _add(overlay, place, op, mode)


def symlink(overlay: Overlay, op: Symlink) -> OpResult:
    """The new symlink. Raises FsError: ENOENT and ENAMETOOLONG for the target too; else as
    mkdir."""
    if not op.target or b"\0" in op.target:
        raise FsError(errno.ENOENT, "a symlink leads somewhere")
    if len(op.target) > SYMLINK_BYTES_MAX:
        raise FsError(errno.ENAMETOOLONG)
    place = _new_place(overlay, op)
    _require_free(place, op.credentials)
    return _add(overlay, place, op, stat.S_IFLNK | 0o777, target=op.target)


def link(overlay: Overlay, op: Link) -> OpResult:
    """The inode with one more name; its ctime is set.

    Raises FsError: ESTALE, ENOTDIR, EACCES, EEXIST, EPERM (a directory), ENOENT (it has no name
    left), EMLINK.
    """
    inode = get_inode(overlay, op.ino)
    directory = walk_to(overlay, op.parent, op.credentials)
    if is_dots(op.name):
        raise FsError(errno.EEXIST)
    place = find(overlay, directory, op.name)
    _require_free(place, op.credentials)
    if inode.is_directory:
        raise FsError(errno.EPERM, "a directory has one name")
    if inode.nlink == 0:
        raise FsError(errno.ENOENT, "its last name is gone")
    if inode.nlink >= LINK_COUNT_MAX:
        raise FsError(errno.EMLINK)
    inode = msgspec.structs.replace(inode, nlink=inode.nlink + 1, ctime_ns=op.now_ns)
    put_inode(overlay, inode)
    put_entry(overlay, op.parent, op.name, inode)
    count_entries(overlay, directory.ino, op.now_ns, entries=1)
    return OpResult(inode)


def _new_place(overlay: Overlay, op: Create | Mkdir | Symlink) -> Place:
    """Where the new name goes; asks for all that the op reads at once."""
    directory = walk_to(overlay, op.parent, op.credentials)
    if is_dots(op.name):
        raise FsError(errno.EEXIST)
    with Together(overlay) as reads:
        used = reads.get(inode_key(op.ino), Inode)
        if 0 < len(op.name) <= NAME_BYTES_MAX:
            reads.get(dentry_key(op.parent, op.name), Dentry)
    place = find(overlay, directory, op.name)
    if used is not None and place.inode is None:
        raise FsError(errno.EIO, f"inode number {op.ino} is taken")
    return place


def _require_free(place: Place, credentials: Credentials) -> None:
    if place.inode is not None:
        raise FsError(errno.EEXIST)
    access.require_create(place.directory, credentials)


def _add(
    overlay: Overlay,
    place: Place,
    op: Create | Mkdir | Symlink,
    mode: int,
    *,
    rdev: int = 0,
    target: bytes = b"",
) -> OpResult:
    assert place.inode is None
    is_directory = stat.S_ISDIR(mode)
    mode, gid = access.new_inode_ids(place.directory, op.credentials, mode)
    inode = Inode(
        ino=op.ino,
        mode=mode,
        uid=op.credentials.uid,
        gid=gid,
        rdev=rdev,
        nlink=2 if is_directory else 1,
        size=len(target),
        atime_ns=op.now_ns,
        mtime_ns=op.now_ns,
        ctime_ns=op.now_ns,
        btime_ns=op.now_ns,
        parent=place.directory.ino if is_directory else InodeId(0),
        target=target,
    )
    put_inode(overlay, inode)
    put_entry(overlay, op.parent, op.name, inode)
    count_entries(overlay, op.parent, op.now_ns, entries=1, subdirectories=int(is_directory))
    return OpResult(inode)


# ---------------------------------------------------------------- names that go


def unlink(overlay: Overlay, op: Unlink) -> OpResult:
    """The inode without this name, perhaps an orphan now.

    Raises FsError: ESTALE, ENOTDIR, EACCES, ENOENT, ENAMETOOLONG, EPERM (sticky), EISDIR.
    """
    directory = walk_to(overlay, op.parent, op.credentials)
    if is_dots(op.name):
        raise FsError(errno.EISDIR)
    return _remove(overlay, find(overlay, directory, op.name), op)


def rmdir(overlay: Overlay, op: Rmdir) -> OpResult:
    """The directory without a name: an orphan.

    Raises FsError: ESTALE, ENOTDIR, EACCES, ENOENT, ENAMETOOLONG, EPERM (sticky), ENOTEMPTY, EINVAL
    (`.`).
    """
    directory = walk_to(overlay, op.parent, op.credentials)
    if is_dots(op.name):
        raise FsError(errno.EINVAL if op.name == b"." else errno.ENOTEMPTY)
    return _remove(overlay, find(overlay, directory, op.name), op)


def _remove(overlay: Overlay, place: Place, op: Unlink | Rmdir) -> OpResult:
    victim = place.inode
    if victim is None:
        raise FsError(errno.ENOENT)
    is_rmdir = isinstance(op, Rmdir)
    access.require_delete(place.directory, victim, op.credentials, is_directory=is_rmdir)
    require_empty(victim)
    overlay.delete(dentry_key(op.parent, op.name))
    count_entries(overlay, op.parent, op.now_ns, entries=-1, subdirectories=-int(is_rmdir))
    victim = drop_name(overlay, victim, op.now_ns)
    return OpResult(victim, orphans=(victim.ino,) if victim.nlink == 0 else ())
