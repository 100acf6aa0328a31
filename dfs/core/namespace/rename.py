"""What renameat2(2) means: move, replace, refuse to replace, or exchange.

Checks run in the order of do_renameat2() and vfs_rename() in Linux. A directory may never become
its own descendant; with one shard and atomic ops the walk up from the new parent is exact.
"""

from __future__ import annotations

import errno
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
from dfs.core.namespace.inodes import damaged, get_inode, put_inode
from dfs.core.namespace.keys import dentry_key, inode_key
from dfs.core.namespace.ops import RENAME_EXCHANGE, RENAME_NOREPLACE, OpResult
from dfs.core.namespace.records import Dentry, Inode
from dfs.core.namespace.view import Together
from dfs.errors import FsError
from dfs.limits import LINK_COUNT_MAX, NAME_BYTES_MAX

if TYPE_CHECKING:
    from dfs.core.namespace.ops import Rename
    from dfs.core.namespace.view import Overlay, View
    from dfs.types import InodeId


def rename(overlay: Overlay, op: Rename) -> OpResult:
    """The moved inode, and what lost its last name to it.

    Raises FsError: EINVAL (flags; into itself), ESTALE, ENOTDIR, EACCES, EBUSY (`.` and `..`),
    ENOENT, ENAMETOOLONG, EEXIST (NOREPLACE), ENOTEMPTY, EPERM (sticky), EISDIR, EMLINK.
    """
    if op.flags not in (0, RENAME_NOREPLACE, RENAME_EXCHANGE):
        raise FsError(errno.EINVAL)
    source, target = _find_places(overlay, op)
    moved = source.inode
    if moved is None:
        raise FsError(errno.ENOENT)
    _check_target(target, op)
    _check_loops(overlay, source, target, op)
    if target.inode is not None and target.inode.ino == moved.ino:
        return OpResult(moved)
    _check_permissions(source, target, moved, op)
    if op.flags & RENAME_EXCHANGE:
        return _exchange(overlay, source, target, op)
    return _move(overlay, source, target, op)


def _find_places(overlay: Overlay, op: Rename) -> tuple[Place, Place]:
    with Together(overlay) as reads:
        for parent, name in ((op.parent, op.name), (op.new_parent, op.new_name)):
            reads.get(inode_key(parent), Inode)
            if 0 < len(name) <= NAME_BYTES_MAX:
                reads.get(dentry_key(parent, name), Dentry)
    directory = walk_to(overlay, op.parent, op.credentials)
    new_directory = walk_to(overlay, op.new_parent, op.credentials)
    if is_dots(op.name):
        raise FsError(errno.EBUSY)
    if is_dots(op.new_name):
        raise FsError(errno.EEXIST if op.flags & RENAME_NOREPLACE else errno.EBUSY)
    source = find(overlay, directory, op.name)
    if source.inode is None:
        raise FsError(errno.ENOENT)
    return source, find(overlay, new_directory, op.new_name)


def _check_target(target: Place, op: Rename) -> None:
    if op.flags & RENAME_NOREPLACE and target.inode is not None:
        raise FsError(errno.EEXIST)
    if op.flags & RENAME_EXCHANGE and target.inode is None:
        raise FsError(errno.ENOENT)


def _check_loops(overlay: Overlay, source: Place, target: Place, op: Rename) -> None:
    """Neither may the moved directory hold its new place, nor the replaced one the old place."""
    if op.parent == op.new_parent:
        return
    assert source.inode is not None
    if source.inode.is_directory and _is_within(overlay, target.directory, source.inode.ino):
        raise FsError(errno.EINVAL, "a directory cannot move into itself")
    other = target.inode
    if (
        other is not None
        and other.is_directory
        and _is_within(overlay, source.directory, other.ino)
    ):
        raise FsError(errno.EINVAL if op.flags & RENAME_EXCHANGE else errno.ENOTEMPTY)


def _is_within(view: View, directory: Inode, ancestor: InodeId) -> bool:
    """Whether `ancestor` is the directory itself or above it. Raises Missing, FsError(EIO) for a
    loop."""
    seen: set[InodeId] = set()
    while directory.ino != ancestor:
        if directory.parent == directory.ino:
            return False
        if directory.ino in seen:
            raise damaged(f"directory {directory.ino} is its own ancestor")
        seen.add(directory.ino)
        directory = get_inode(view, directory.parent)
    return True


def _check_permissions(source: Place, target: Place, moved: Inode, op: Rename) -> None:
    """The checks of vfs_rename()."""
    who, other = op.credentials, target.inode
    is_exchange = bool(op.flags & RENAME_EXCHANGE)
    access.require_delete(source.directory, moved, who, is_directory=moved.is_directory)
    if other is None:
        access.require_create(target.directory, who)
    else:
        other_type = other if is_exchange else moved
        access.require_delete(target.directory, other, who, is_directory=other_type.is_directory)
    if op.parent != op.new_parent:
        # A directory's `..` changes with its parent, and that is a change of the directory.
        if moved.is_directory:
            access.require(moved, who, access.WRITE)
        if is_exchange and other is not None and other.is_directory:
            access.require(other, who, access.WRITE)
        _check_link_counts(source, target, moved, is_exchange=is_exchange)
    if other is not None and not is_exchange:
        require_empty(other)


def _check_link_counts(source: Place, target: Place, moved: Inode, *, is_exchange: bool) -> None:
    gains = moved.is_directory and not (target.inode and target.inode.is_directory)
    if gains and target.directory.nlink >= LINK_COUNT_MAX:
        raise FsError(errno.EMLINK)
    loses = target.inode and target.inode.is_directory and not moved.is_directory
    if is_exchange and loses and source.directory.nlink >= LINK_COUNT_MAX:
        raise FsError(errno.EMLINK)


def _move(overlay: Overlay, source: Place, target: Place, op: Rename) -> OpResult:
    moved, other = source.inode, target.inode
    assert moved is not None
    orphans: tuple[InodeId, ...] = ()
    if other is not None:
        other = drop_name(overlay, other, op.now_ns)
        orphans = (other.ino,) if other.nlink == 0 else ()
        _count(overlay, op.new_parent, other, -1, op)
    overlay.delete(dentry_key(op.parent, op.name))
    _count(overlay, op.parent, moved, -1, op)
    moved = _settle(overlay, moved, op.new_parent, op.new_name, op)
    _count(overlay, op.new_parent, moved, 1, op)
    return OpResult(moved, orphans=orphans)


def _exchange(overlay: Overlay, source: Place, target: Place, op: Rename) -> OpResult:
    moved, other = source.inode, target.inode
    assert moved is not None
    assert other is not None
    for parent, gone, come in ((op.parent, moved, other), (op.new_parent, other, moved)):
        delta = int(come.is_directory) - int(gone.is_directory)
        count_entries(overlay, parent, op.now_ns, subdirectories=delta)
    _settle(overlay, other, op.parent, op.name, op)
    return OpResult(_settle(overlay, moved, op.new_parent, op.new_name, op))


def _count(overlay: Overlay, parent: InodeId, inode: Inode, count: int, op: Rename) -> None:
    subdirectories = count if inode.is_directory else 0
    count_entries(overlay, parent, op.now_ns, entries=count, subdirectories=subdirectories)


def _settle(overlay: Overlay, inode: Inode, parent: InodeId, name: bytes, op: Rename) -> Inode:
    """The inode, written at its new place with ctime and, for a directory, its new parent."""
    assert inode.nlink > 0
    inode = msgspec.structs.replace(
        inode, ctime_ns=op.now_ns, parent=parent if inode.is_directory else inode.parent
    )
    put_inode(overlay, inode)
    put_entry(overlay, parent, name, inode)
    return inode
